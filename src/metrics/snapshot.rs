//! The committed ledger as metric families.
//!
//! What can be known starts at 0: a group shows every reason that its kind can have, an endpoint
//! that is asked for TwiML every content type, an account every outcome, so that the first failure is an increase.

use std::collections::BTreeMap;

use prometheus::core::{Collector, Desc};
use prometheus::proto::{Bucket, Counter, Histogram, LabelPair, Metric, MetricFamily, MetricType};

use crate::domain::call::{CallStatus, Direction};
use crate::domain::content_type::ContentType;
use crate::domain::outcome::Outcome;
use crate::domain::verdict::{Reason, Warning};

use super::catalog::{self, Family, WEBHOOK_SECONDS};
use super::exposition::as_float;
use super::ledger::{Cell, Committed, EndpointId, Ledger, Scope, bound_ms};

/// Directions whose final statuses all start at 0.
const COMMON_DIRECTIONS: [Direction; 3] =
    [Direction::Inbound, Direction::OutboundApi, Direction::OutboundDial];

/// The durable families as a collector of the `prometheus` crate's registry.
#[derive(Clone, Debug)]
pub struct LedgerCollector {
    committed: Committed,
}

impl LedgerCollector {
    /// Collects from a committed ledger.
    pub fn new(committed: Committed) -> Self {
        Self { committed }
    }
}

impl Collector for LedgerCollector {
    fn desc(&self) -> Vec<&Desc> {
        // The families are checked by the catalogue's own test, and collide with no other.
        Vec::new()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        families(&self.committed.read())
    }
}

/// The durable families.
pub fn families(ledger: &Ledger) -> Vec<MetricFamily> {
    let mut snapshot = Snapshot::default();
    for (id, label) in &ledger.accounts {
        snapshot.add_account(ledger, Scope::Account(*id), label);
    }
    // Whether an endpoint is asked for TwiML, and whether that is shown already: an old endpoint
    // that is asked for the first time begins at 0, too.
    let mut twiml: BTreeMap<EndpointId, bool> = BTreeMap::new();
    for group in ledger.groups.values().filter(|group| group.kind.expects_twiml()) {
        *twiml.entry(group.endpoint).or_default() |= group.hold.is_released;
    }
    for (id, entry) in &ledger.endpoints {
        if let Some(account) = ledger.accounts.get(&entry.account) {
            let labels = [account.as_str(), &entry.endpoint.host, &entry.endpoint.route];
            let scope = Scope::Endpoint(*id);
            snapshot.add_warnings(ledger, scope, labels, entry.hold.is_released);
            if let Some(is_released) = twiml.get(id) {
                let is_released = *is_released && entry.hold.is_released;
                snapshot.add_content_types(ledger, scope, labels, is_released);
            }
        }
    }
    for (id, entry) in &ledger.groups {
        let Some(endpoint) = ledger.endpoints.get(&entry.endpoint) else { continue };
        let Some(account) = ledger.accounts.get(&endpoint.account) else { continue };
        let host = &endpoint.endpoint.host;
        let labels = [account.as_str(), host, &endpoint.endpoint.route, entry.kind.as_str()];
        let reasons = Reason::possible_for(entry.kind);
        snapshot.add_group(ledger, Scope::Group(*id), labels, reasons, entry.hold.is_released);
    }
    snapshot.into_families()
}

#[derive(Default)]
struct Snapshot {
    requests: Vec<Metric>,
    durations: Vec<Metric>,
    failures: Vec<Metric>,
    responses: Vec<Metric>,
    warnings: Vec<Metric>,
    api_requests: Vec<Metric>,
    calls: Vec<Metric>,
    outcomes: Vec<Metric>,
}

impl Snapshot {
    fn add_account(&mut self, ledger: &Ledger, scope: Scope, account: &str) {
        for outcome in Outcome::ALL {
            let labels = [account, outcome.as_str()];
            let value = ledger.value(scope, Cell::Outcomes(*outcome));
            self.outcomes.push(counter(&catalog::CALLS_WITH_FAILURES, &labels, value));
        }
        for direction in COMMON_DIRECTIONS {
            for status in CallStatus::ALL.iter().filter(|status| status.is_final()) {
                let value = ledger.value(scope, Cell::Calls(direction, *status));
                let labels = [account, direction.as_str(), status.as_str()];
                self.calls.push(counter(&catalog::CALLS, &labels, value));
            }
        }
        for (cell, value) in ledger.cells.get(&scope).into_iter().flatten() {
            match cell {
                Cell::ApiRequests(code) => {
                    let labels = [account, &code.to_string()];
                    self.api_requests.push(counter(&catalog::CALL_API_REQUESTS, &labels, *value));
                }
                Cell::Calls(direction, status)
                    if !COMMON_DIRECTIONS.contains(direction) || !status.is_final() =>
                {
                    let labels = [account, direction.as_str(), status.as_str()];
                    self.calls.push(counter(&catalog::CALLS, &labels, *value));
                }
                Cell::Calls(..)
                | Cell::Outcomes(_)
                | Cell::Requests(_)
                | Cell::Failures(_)
                | Cell::DurationBucket(_)
                | Cell::DurationSum
                | Cell::ContentTypes(_)
                | Cell::Warnings(_) => {}
            }
        }
    }

    fn add_content_types(
        &mut self,
        ledger: &Ledger,
        scope: Scope,
        [account, host, route]: [&str; 3],
        is_released: bool,
    ) {
        let shown = |cell| if is_released { ledger.value(scope, cell) } else { 0 };
        for content_type in ContentType::ALL {
            let labels = [account, host, route, content_type.as_str()];
            let value = shown(Cell::ContentTypes(*content_type));
            self.responses.push(counter(&catalog::TWIML_RESPONSES, &labels, value));
        }
    }

    fn add_warnings(
        &mut self,
        ledger: &Ledger,
        scope: Scope,
        [account, host, route]: [&str; 3],
        is_released: bool,
    ) {
        let shown = |cell| if is_released { ledger.value(scope, cell) } else { 0 };
        for warning in Warning::ALL {
            let labels = [account, host, route, warning.as_str()];
            let value = shown(Cell::Warnings(*warning));
            self.warnings.push(counter(&catalog::TWIML_WARNINGS, &labels, value));
        }
    }

    fn add_group(
        &mut self,
        ledger: &Ledger,
        scope: Scope,
        [account, host, route, kind]: [&str; 4],
        reasons: impl Iterator<Item = Reason>,
        is_released: bool,
    ) {
        let shown = |value: u64| if is_released { value } else { 0 };
        for reason in reasons {
            let labels = [account, host, route, kind, reason.as_str()];
            let value = shown(ledger.value(scope, Cell::Failures(reason)));
            self.failures.push(counter(&catalog::WEBHOOK_FAILURES, &labels, value));
        }
        let mut buckets: Vec<(Option<u64>, u64)> = Vec::new();
        let mut sum = 0;
        for (cell, value) in ledger.cells.get(&scope).into_iter().flatten() {
            match cell {
                Cell::Requests(code) => {
                    let labels = [account, host, route, kind, &code.to_string()];
                    let metric = counter(&catalog::WEBHOOK_REQUESTS, &labels, shown(*value));
                    self.requests.push(metric);
                }
                Cell::DurationBucket(bound) => buckets.push((*bound, shown(*value))),
                Cell::DurationSum => sum = shown(*value),
                Cell::Failures(_)
                | Cell::ContentTypes(_)
                | Cell::Warnings(_)
                | Cell::ApiRequests(_)
                | Cell::Calls(..)
                | Cell::Outcomes(_) => {}
            }
        }
        let labels = [account, host, route, kind];
        self.durations.push(histogram(&catalog::WEBHOOK_DURATION, &labels, &buckets, sum));
    }

    fn into_families(self) -> Vec<MetricFamily> {
        [
            (&catalog::WEBHOOK_REQUESTS, MetricType::COUNTER, self.requests),
            (&catalog::WEBHOOK_DURATION, MetricType::HISTOGRAM, self.durations),
            (&catalog::WEBHOOK_FAILURES, MetricType::COUNTER, self.failures),
            (&catalog::TWIML_RESPONSES, MetricType::COUNTER, self.responses),
            (&catalog::TWIML_WARNINGS, MetricType::COUNTER, self.warnings),
            (&catalog::CALL_API_REQUESTS, MetricType::COUNTER, self.api_requests),
            (&catalog::CALLS, MetricType::COUNTER, self.calls),
            (&catalog::CALLS_WITH_FAILURES, MetricType::COUNTER, self.outcomes),
        ]
        .into_iter()
        .filter(|(_, _, metrics)| !metrics.is_empty())
        .map(|(family, kind, metrics)| {
            let mut proto = MetricFamily::default();
            proto.set_name(family.name.to_owned());
            proto.set_help(family.help.to_owned());
            proto.set_field_type(kind);
            proto.set_metric(metrics);
            proto
        })
        .collect()
    }
}

fn counter(family: &Family, values: &[&str], value: u64) -> Metric {
    let mut metric = Metric::from_label(labels(family, values));
    let mut counter = Counter::default();
    counter.set_value(as_float(value));
    metric.set_counter(counter);
    metric
}

/// A histogram from counts per bound in milliseconds (`None`: over all bounds) and their sum.
fn histogram(
    family: &Family,
    values: &[&str],
    counts: &[(Option<u64>, u64)],
    sum_ms: u64,
) -> Metric {
    let up_to = |bound: u64| {
        counts.iter().filter(|(b, _)| b.is_some_and(|b| b <= bound)).map(|(_, n)| n).sum()
    };
    let buckets = WEBHOOK_SECONDS
        .iter()
        .map(|&bound| {
            let mut bucket = Bucket::default();
            bucket.set_upper_bound(bound);
            bucket.set_cumulative_count(up_to(bound_ms(bound)));
            bucket
        })
        .collect();
    let mut histogram = Histogram::default();
    histogram.set_bucket(buckets);
    histogram.set_sample_count(counts.iter().map(|(_, n)| n).sum());
    histogram.set_sample_sum(as_float(sum_ms) / 1000.0);
    let mut metric = Metric::from_label(labels(family, values));
    metric.set_histogram(histogram);
    metric
}

fn labels(family: &Family, values: &[&str]) -> Vec<LabelPair> {
    let pair = |(name, value): (&&str, &&str)| {
        let mut pair = LabelPair::default();
        pair.set_name((*name).to_owned());
        pair.set_value((*value).to_owned());
        pair
    };
    family.labels.iter().zip(values).map(pair).collect()
}
