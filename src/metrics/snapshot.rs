//! Writes the committed ledger as metric families.
//!
//! Series whose labels are known in advance start at 0, so that the first failure is an increase: a group has
//! every reason possible for its kind, an endpoint that is asked for TwiML every content type, and a
//! caller-facing one every outcome.
//!
//! The series are written directly into the exposition, and each set of labels is formatted once. With
//! families of the `prometheus` crate, each label of a series took two allocations, and ten thousand series
//! took ten times as long.

use std::collections::{BTreeMap, BTreeSet};

use prometheus::proto::MetricType;

use crate::domain::judge::content_type::ContentType;
use crate::domain::judge::kind::RequestKind;
use crate::domain::judge::verdict::{Reason, Warning};
use crate::domain::track::outcome::Outcome;
use crate::domain::words::call::{CallStatus, Direction};
use crate::domain::words::error_log::{ErrorCode, Level, Product};

use super::catalog::{self, Family, FamilyKind, WEBHOOK_SECONDS};
use super::exemplar::Exemplar;
use super::exposition::{Exposition, FamilyText, Labels, Value, as_float, bound};
use super::ledger::{Cell, EndpointId, Ledger, Scope, bound_ms, sum};

/// The value of the `code` label for codes over the limit.
const OTHER_CODES: &str = "other";

/// Writes the durable families.
pub fn write(ledger: &Ledger, shows_exemplars: bool, exposition: &mut Exposition) {
    let snapshot = Snapshot::new(ledger, shows_exemplars);
    let mut family = |family: &Family, write: &dyn Fn(&mut FamilyText<'_>)| {
        let kind = match family.kind {
            FamilyKind::Counter => MetricType::COUNTER,
            FamilyKind::Gauge => MetricType::GAUGE,
            FamilyKind::Histogram(_) => MetricType::HISTOGRAM,
        };
        exposition.family(family.name, family.help, kind, write);
    };
    family(&catalog::WEBHOOK_REQUESTS, &|text| snapshot.write_requests(text));
    family(&catalog::WEBHOOK_DURATION, &|text| snapshot.write_durations(text));
    family(&catalog::WEBHOOK_FAILURES, &|text| snapshot.write_failures(text));
    family(&catalog::TWIML_RESPONSES, &|text| snapshot.write_content_types(text));
    family(&catalog::TWIML_WARNINGS, &|text| snapshot.write_warnings(text));
    family(&catalog::CALL_API_REQUESTS, &|text| snapshot.write_api_requests(text));
    family(&catalog::CALLS, &|text| snapshot.write_calls(text));
    family(&catalog::CALLS_WITH_FAILURES, &|text| snapshot.write_outcomes(text));
    family(&catalog::ERROR_LOG_ENTRIES, &|text| snapshot.write_error_log(text));
}

/// A scope with the labels and values to show.
struct VisibleScope<'a, T> {
    labels: Labels,
    is_released: bool,
    cells: Option<&'a BTreeMap<Cell, u64>>,
    exemplars: Option<&'a BTreeMap<Cell, Exemplar>>,
    /// Anything else that determines its series.
    detail: T,
}

impl<'a, T> VisibleScope<'a, T> {
    /// Returns the counted values, or zeros while they are held back.
    fn cells(&self) -> impl Iterator<Item = (Cell, Value)> {
        let shown = |value| Value::Count(if self.is_released { value } else { 0 });
        self.cells.into_iter().flatten().map(move |(cell, value)| (*cell, shown(*value)))
    }

    fn count(&self, cell: Cell) -> u64 {
        let cells = self.cells.filter(|_| self.is_released);
        cells.and_then(|cells| cells.get(&cell)).copied().unwrap_or(0)
    }

    fn value(&self, cell: Cell) -> Value {
        Value::Count(self.count(cell))
    }

    fn exemplar(&self, cell: Cell) -> Option<&'a Exemplar> {
        self.exemplars.filter(|_| self.is_released).and_then(|exemplars| exemplars.get(&cell))
    }
}

/// The scopes of a ledger in the order of their labels.
struct Snapshot<'a> {
    accounts: Vec<VisibleScope<'a, &'a str>>,
    /// Scopes of error log entries, of accounts whose error log has ever been read.
    error_log: Vec<VisibleScope<'a, EndpointLabels<'a>>>,
    endpoints: Vec<VisibleScope<'a, RequestedKinds>>,
    groups: Vec<VisibleScope<'a, RequestKind>>,
}

/// The values of the labels account, host and route.
type EndpointLabels<'a> = [&'a str; 3];

/// Whether the values of an endpoint's requests are shown yet, by kind: series that a new kind adds to a known
/// endpoint start at 0 too. `None` if there has been no such request.
#[derive(Clone, Copy, Default)]
struct RequestedKinds {
    /// Requests that expect TwiML.
    twiml: Option<bool>,
    /// Caller-facing requests.
    caller_facing: Option<bool>,
}

impl<'a> Snapshot<'a> {
    fn new(ledger: &'a Ledger, shows_exemplars: bool) -> Self {
        let accounts = ledger.accounts().iter().map(|(id, label)| VisibleScope {
            labels: Labels::from_pairs([("account", label.as_str())]),
            is_released: true,
            cells: ledger.cells.get(&Scope::Account(*id)),
            exemplars: None,
            detail: label.as_str(),
        });
        let mut requested: BTreeMap<EndpointId, RequestedKinds> = BTreeMap::new();
        for group in ledger.groups.values().filter(|group| group.kind.is_caller_facing()) {
            let kinds = requested.entry(group.endpoint).or_default();
            *kinds.caller_facing.get_or_insert_default() |= group.hold.is_released;
            if group.kind.expects_twiml() {
                *kinds.twiml.get_or_insert_default() |= group.hold.is_released;
            }
        }
        let labels_of = |id: EndpointId| {
            let entry = ledger.endpoints.get(&id)?;
            let account = ledger.accounts().get(&entry.account)?;
            let (host, route) = (&entry.endpoint.host, &entry.endpoint.route);
            Some([("account", account.as_str()), ("host", host), ("route", route)])
        };
        let endpoints = ledger.endpoints.iter().filter_map(|(id, entry)| {
            Some(VisibleScope {
                labels: Labels::from_pairs(labels_of(*id)?),
                is_released: entry.hold.is_released,
                cells: ledger.cells.get(&Scope::Endpoint(*id)),
                exemplars: None,
                detail: requested.get(id).copied().unwrap_or_default(),
            })
        });
        let groups = ledger.groups.iter().filter_map(|(id, entry)| {
            let (kind, scope) = (("kind", entry.kind.as_str()), Scope::Group(*id));
            Some(VisibleScope {
                labels: Labels::from_pairs(labels_of(entry.endpoint)?.into_iter().chain([kind])),
                is_released: entry.hold.is_released,
                cells: ledger.cells.get(&scope),
                exemplars: ledger.exemplars.get(&scope).filter(|_| shows_exemplars),
                detail: entry.kind,
            })
        });
        let (accounts, endpoints) = (sorted(accounts), sorted(endpoints));
        let error_log = sorted(Self::error_log_scopes(ledger, shows_exemplars));
        Self { accounts, error_log, endpoints, groups: sorted(groups) }
    }

    /// Returns the scopes of error log entries: each endpoint, and each account for all other entries.
    fn error_log_scopes(
        ledger: &'a Ledger,
        shows_exemplars: bool,
    ) -> impl Iterator<Item = VisibleScope<'a, EndpointLabels<'a>>> {
        let shown = move |labels: EndpointLabels<'a>, scope, is_released| VisibleScope {
            labels: Labels::from_pairs(["account", "host", "route"].into_iter().zip(labels)),
            is_released,
            cells: ledger.cells.get(&scope),
            exemplars: ledger.exemplars.get(&scope).filter(|_| shows_exemplars),
            detail: labels,
        };
        let label = |id| ledger.accounts().get(&id).filter(|_| ledger.has_error_log(id));
        let accounts = ledger
            .accounts()
            .keys()
            .filter_map(move |id| Some(shown([label(*id)?, "", ""], Scope::Account(*id), true)));
        let endpoints = ledger.endpoints.iter().filter_map(move |(id, entry)| {
            let (host, route) = (entry.endpoint.host.as_str(), entry.endpoint.route.as_str());
            let labels = [label(entry.account)?.as_str(), host, route];
            Some(shown(labels, Scope::Endpoint(*id), entry.hold.is_released))
        });
        accounts.chain(endpoints)
    }

    fn write_requests(&self, text: &mut FamilyText<'_>) {
        for group in &self.groups {
            for (cell, value) in group.cells() {
                let code = if let Cell::Requests(code) = cell {
                    code.to_string()
                } else if cell == Cell::OtherRequests {
                    OTHER_CODES.to_owned()
                } else {
                    continue;
                };
                text.sample(&group.labels, Some(("code", &code)), value, None);
            }
        }
    }

    fn write_durations(&self, text: &mut FamilyText<'_>) {
        let bounds = WEBHOOK_SECONDS.iter().map(|&upper| (bound(upper), Some(bound_ms(upper))));
        let bounds: Vec<(String, Option<u64>)> =
            bounds.chain([(bound(f64::INFINITY), None)]).collect();
        for group in &self.groups {
            let mut up_to = 0;
            let buckets = bounds.iter().map(|(bound, upper)| {
                let cell = Cell::DurationBucket(*upper);
                up_to = sum(up_to, group.count(cell));
                (bound, up_to, group.exemplar(cell))
            });
            let sum = as_float(group.count(Cell::DurationSum)) / 1000.0;
            text.histogram(&group.labels, buckets, sum);
        }
    }

    fn write_failures(&self, text: &mut FamilyText<'_>) {
        for group in &self.groups {
            for reason in Reason::possible_for(group.detail) {
                let cell = Cell::Failures(reason);
                let (value, exemplar) = (group.value(cell), group.exemplar(cell));
                text.sample(&group.labels, Some(("reason", reason.as_str())), value, exemplar);
            }
        }
    }

    fn write_content_types(&self, text: &mut FamilyText<'_>) {
        for endpoint in &self.endpoints {
            let Some(is_shown) = endpoint.detail.twiml else { continue };
            for class in ContentType::ALL {
                let count = endpoint.count(Cell::ContentTypes(*class));
                let value = Value::Count(if is_shown { count } else { 0 });
                text.sample(&endpoint.labels, Some(("content_type", class.as_str())), value, None);
            }
        }
    }

    fn write_warnings(&self, text: &mut FamilyText<'_>) {
        for endpoint in &self.endpoints {
            for warning in Warning::ALL {
                let value = endpoint.value(Cell::Warnings(*warning));
                text.sample(&endpoint.labels, Some(("reason", warning.as_str())), value, None);
            }
        }
    }

    fn write_api_requests(&self, text: &mut FamilyText<'_>) {
        for account in &self.accounts {
            for (cell, value) in account.cells() {
                let code = if let Cell::ApiRequests(code) = cell {
                    code.to_string()
                } else if cell == Cell::OtherApiRequests {
                    OTHER_CODES.to_owned()
                } else {
                    continue;
                };
                text.sample(&account.labels, Some(("code", &code)), value, None);
            }
        }
    }

    fn write_calls(&self, text: &mut FamilyText<'_>) {
        for account in &self.accounts {
            for direction in Direction::ALL {
                let pairs = [("account", account.detail), ("direction", direction.as_str())];
                let labels = Labels::from_pairs(pairs);
                for status in CallStatus::ALL.iter().filter(|status| !status.is_active()) {
                    let value = account.value(Cell::Calls(*direction, *status));
                    text.sample(&labels, Some(("status", status.as_str())), value, None);
                }
            }
        }
    }

    fn write_error_log(&self, text: &mut FamilyText<'_>) {
        for scope in &self.error_log {
            let common = ErrorCode::COMMON.map(|code| (Product::Voice, code, Level::Error));
            let is_endpoint = !scope.detail[1].is_empty();
            let mut shown: BTreeSet<_> = common.into_iter().filter(|_| is_endpoint).collect();
            let cells = scope.cells.into_iter().flat_map(BTreeMap::keys);
            shown.extend(cells.filter_map(|cell| match cell {
                Cell::ErrorLog(product, code, level) => Some((*product, *code, *level)),
                Cell::OtherErrors(product, level) => Some((*product, ErrorCode::Other, *level)),
                Cell::Requests(_)
                | Cell::OtherRequests
                | Cell::Failures(_)
                | Cell::DurationBucket(_)
                | Cell::DurationSum
                | Cell::ContentTypes(_)
                | Cell::Warnings(_)
                | Cell::ApiRequests(_)
                | Cell::OtherApiRequests
                | Cell::Calls(..)
                | Cell::Outcomes(_) => None,
            }));
            for (product, code, level) in shown {
                let ([account, host, route], code_label) = (scope.detail, code.to_string());
                let labels = Labels::from_pairs([
                    ("account", account),
                    ("product", product.as_str()),
                    ("host", host),
                    ("route", route),
                    ("error_code", &code_label),
                ]);
                let cell = match code {
                    ErrorCode::Other if !is_endpoint => Cell::OtherErrors(product, level),
                    ErrorCode::Other | ErrorCode::Number(_) => Cell::ErrorLog(product, code, level),
                };
                let (value, exemplar) = (scope.value(cell), scope.exemplar(cell));
                text.sample(&labels, Some(("level", level.as_str())), value, exemplar);
            }
        }
    }

    fn write_outcomes(&self, text: &mut FamilyText<'_>) {
        // An earlier version counted calls by account only. Their series stay as they were: to Prometheus, an
        // empty label is the same as none. They are shown only above 0, and never return to 0.
        for account in &self.accounts {
            let pairs = [("account", account.detail), ("host", ""), ("route", "")];
            let labels = Labels::from_pairs(pairs);
            for outcome in Outcome::ALL {
                let count = account.count(Cell::Outcomes(*outcome));
                if count > 0 {
                    let label = Some(("outcome", outcome.as_str()));
                    text.sample(&labels, label, Value::Count(count), None);
                }
            }
        }
        for endpoint in &self.endpoints {
            let Some(is_shown) = endpoint.detail.caller_facing else { continue };
            for outcome in Outcome::ALL {
                let count = endpoint.count(Cell::Outcomes(*outcome));
                let value = Value::Count(if is_shown { count } else { 0 });
                text.sample(&endpoint.labels, Some(("outcome", outcome.as_str())), value, None);
            }
        }
    }
}

fn sorted<'a, T>(shown: impl Iterator<Item = VisibleScope<'a, T>>) -> Vec<VisibleScope<'a, T>> {
    let mut all: Vec<VisibleScope<'a, T>> = shown.collect();
    all.sort_unstable_by(|a, b| a.labels.cmp(&b.labels));
    all
}
