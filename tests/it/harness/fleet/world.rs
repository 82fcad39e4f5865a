//! The series of a fleet, and which of them change with a request.

use std::collections::BTreeMap;
use std::ops::Range;

use twilio_call_exporter::clock::Clock;
use twilio_call_exporter::domain::judge::kind::RequestKind;
use twilio_call_exporter::domain::judge::verdict::Reason;
use twilio_call_exporter::metrics::catalog::{self, Family, FamilyKind};

use super::{Fleet, Hosts, Shape, labels};
use crate::harness::Series;
use crate::harness::scrape::parse_series;

/// The age of the store: old enough that no rule treats it as new.
const STORE_AGE: i64 = 40 * 86_400;

/// All series with their values.
pub(crate) struct World {
    shape: Shape,
    /// The series of each family: name and labels as written, and an index into `values`.
    series: BTreeMap<&'static str, Vec<(String, usize)>>,
    known: BTreeMap<String, usize>,
    values: Vec<f64>,
    /// The routes of all accounts, one account after another.
    routes: Vec<Route>,
    /// The counter of completed calls of each account.
    calls: Vec<usize>,
    /// The lag histogram of each account's error log; entries have no lag.
    lags: Vec<Vec<usize>>,
    /// The counters that grow with each poll.
    polls: Vec<usize>,
    /// The gauges that always hold the current time.
    now: Vec<usize>,
    clock: Clock,
    /// The length of the last exposition, in bytes.
    length: usize,
}

/// The values that change with requests to one route of an account, as indices into `values`.
#[derive(Default)]
struct Route {
    every: Vec<usize>,
    good: Vec<usize>,
    failed: Vec<usize>,
    reasons: BTreeMap<Reason, usize>,
    cut_off: Vec<usize>,
    reported: Vec<usize>,
}

/// The error code that the error log reports for failing requests here.
const REPORTED: &str = "error_code=\"11205\"";

impl World {
    pub(super) fn new(shape: Shape) -> Self {
        let mut world = Self {
            shape,
            series: BTreeMap::new(),
            known: BTreeMap::new(),
            values: Vec::new(),
            routes: Vec::new(),
            calls: Vec::new(),
            lags: Vec::new(),
            polls: Vec::new(),
            now: Vec::new(),
            clock: Clock::start(),
            length: 0,
        };
        for family in catalog::ALL.iter().filter(|family| !family.labels.contains(&"account")) {
            world.add(family, &[]);
        }
        for account in 0..shape.accounts {
            world.add_account(account);
        }
        world
    }

    fn add_account(&mut self, account: usize) {
        let sid = Fleet::account(account);
        let own = [("account", sid.as_str()), ("account_sid", sid.as_str())];
        let of_account = |family: &&&Family| {
            family.labels.contains(&"account") && !family.labels.contains(&"route")
        };
        self.lags.push(Vec::new());
        for family in catalog::ALL.iter().filter(of_account) {
            for (series, value) in self.add(family, &own) {
                if series.contains("direction=\"inbound\",status=\"completed\"")
                    && family.name == catalog::CALLS.name
                {
                    self.calls.push(value);
                }
                if family.name == catalog::ERROR_LOG_LAG.name && !series.contains("_sum{") {
                    self.lags.last_mut().expect("the account was just added").push(value);
                }
                if family.name == catalog::API_REQUESTS.name {
                    self.polls.push(value);
                }
            }
        }
        let host = match self.shape.hosts {
            Hosts::Shared => "ivr.example.com".to_owned(),
            Hosts::OnePerAccount => format!("ivr-{account}.example.com"),
        };
        for route in 0..=self.shape.routes {
            let (route, kind) = if route == self.shape.routes {
                ("/status".to_owned(), RequestKind::StatusCallback)
            } else {
                let kinds = [RequestKind::VoiceUrl, RequestKind::GatherAction];
                (format!("/ivr/step-{route}"), kinds[route % kinds.len()])
            };
            self.add_route(&[own[0], ("host", &host), ("route", &route)], kind);
        }
    }

    fn add_route(&mut self, labels: &[(&str, &str)], kind: RequestKind) {
        let mut route = Route::default();
        let labels = [labels, &[("kind", kind.as_str())]].concat();
        for family in catalog::ALL {
            let is_of_calls = family.name == catalog::CALLS_WITH_FAILURES.name;
            let is_of_twiml = is_of_calls || !family.labels.contains(&"kind");
            if !family.labels.contains(&"route") && !is_of_calls
                || is_of_twiml && !kind.expects_twiml()
            {
                continue;
            }
            for (series, value) in self.add(family, &labels) {
                let has = |label: &str| series.contains(label);
                if family.name == catalog::WEBHOOK_DURATION.name && !has("le=\"0.05\"") {
                    route.every.push(value);
                } else if has("code=\"200\"") || has("content_type=\"text/xml\"") {
                    route.good.push(value);
                } else if has("code=\"none\"") {
                    route.failed.push(value);
                } else if has("outcome=\"cut_off\"") {
                    route.cut_off.push(value);
                } else if family.name == catalog::ERROR_LOG_ENTRIES.name {
                    route.reported.extend(has(REPORTED).then_some(value));
                } else if family.name == catalog::WEBHOOK_FAILURES.name {
                    let of = |reason: &&Reason| has(&format!("reason=\"{}\"", reason.as_str()));
                    let reason = Reason::ALL.iter().find(of).expect("a reason");
                    route.reasons.insert(*reason, value);
                }
            }
        }
        self.routes.push(route);
    }

    /// Adds the series of a family with these labels, one for each combination of the other labels, and
    /// returns them with their indices. A series that already exists, because the family lacks some of
    /// the labels, isn't added again.
    fn add(&mut self, family: &Family, labels: &[(&str, &str)]) -> Vec<(String, usize)> {
        let mut all = vec![String::new()];
        for label in family.labels {
            let values: Vec<&str> = match labels.iter().find(|(name, _)| name == label) {
                Some((_, value)) => vec![*value],
                None => labels::values_of(family, label, labels),
            };
            let with = |before: &String| {
                let before = if before.is_empty() { String::new() } else { format!("{before},") };
                values.iter().map(move |value| format!("{before}{label}=\"{value}\""))
            };
            all = all.iter().flat_map(with).collect();
        }
        let name = family.name;
        let written = all.iter().flat_map(|labels| match family.kind {
            FamilyKind::Counter | FamilyKind::Gauge => vec![braced(name, labels)],
            FamilyKind::Histogram(bounds) => {
                let separator = if labels.is_empty() { "" } else { "," };
                let bounds = bounds.iter().map(|bound| format!("{bound:?}"));
                let bounds = bounds.chain(["+Inf".to_owned()]);
                let buckets = bounds.map(|bound| {
                    braced(&format!("{name}_bucket"), &format!("{labels}{separator}le=\"{bound}\""))
                });
                let others = ["_sum", "_count"].map(|end| braced(&format!("{name}{end}"), labels));
                buckets.chain(others).collect()
            }
        });
        let written: Vec<String> = written.collect();
        let mut found = Vec::new();
        for series in written {
            let value = self.known.get(&series).copied().unwrap_or_else(|| {
                let value = self.values.len();
                self.values.push(self.first_value(family));
                if family.name.ends_with("_last_success_timestamp_seconds") {
                    self.now.push(value);
                }
                self.known.insert(series.clone(), value);
                self.series.entry(family.name).or_default().push((series.clone(), value));
                value
            });
            found.push((series, value));
        }
        found
    }

    fn first_value(&self, family: &Family) -> f64 {
        match family.name {
            name if name == catalog::STORE_CREATED.name => number(self.seconds() - STORE_AGE),
            name => labels::first_value(name),
        }
    }

    fn seconds(&self) -> i64 {
        self.clock.now().as_second()
    }

    /// Counts this many successful requests to each route of an account.
    pub(crate) fn succeed(&mut self, account: usize, requests: u32) {
        for route in self.routes_of(account) {
            let Route { every, good, .. } = &self.routes[route];
            for value in every.iter().chain(good) {
                self.values[*value] += f64::from(requests);
            }
        }
        self.values[self.calls[account]] += f64::from(requests);
    }

    /// Counts this many failed requests to each route of an account. `settle` counts the calls they cut
    /// off.
    pub(crate) fn fail(&mut self, account: usize, reason: Reason, requests: u32) {
        for route in self.routes_of(account) {
            let Route { every, failed, reasons, .. } = &self.routes[route];
            let reason = reasons.get(&reason);
            for value in every.iter().chain(failed).chain(reason) {
                self.values[*value] += f64::from(requests);
            }
        }
        self.values[self.calls[account]] += f64::from(requests);
    }

    /// Counts an error log entry for each route of an account that is expected to return TwiML.
    pub(crate) fn report(&mut self, account: usize) {
        for route in self.routes_of(account) {
            for value in &self.routes[route].reported {
                self.values[*value] += 1.0;
                for lag in &self.lags[account] {
                    self.values[*lag] += 1.0;
                }
            }
        }
    }

    /// Settles calls of an account: counts this many cut-off calls on each route.
    pub(crate) fn settle(&mut self, account: usize, cut_off: u32) {
        for route in self.routes_of(account) {
            for value in &self.routes[route].cut_off {
                self.values[*value] += f64::from(cut_off);
            }
        }
    }

    /// Counts one poll of every account.
    pub(crate) fn polled(&mut self) {
        for value in &self.polls {
            self.values[*value] += 1.0;
        }
    }

    fn routes_of(&self, account: usize) -> Range<usize> {
        let each = self.shape.routes + 1;
        account * each..(account + 1) * each
    }

    pub(crate) fn accounts(&self) -> Range<usize> {
        0..self.shape.accounts
    }

    /// The series and values of the selected families: counters and histograms if `counters`, else gauges.
    pub(crate) fn series(
        &self,
        is_wanted: impl Fn(&str) -> bool,
        counters: bool,
    ) -> Vec<(Series, f64)> {
        let mut found = Vec::new();
        for family in catalog::ALL {
            let of_family = self.series.get(family.name).into_iter().flatten();
            for (series, value) in
                of_family.filter(|_| (family.kind != FamilyKind::Gauge) == counters)
            {
                let name = series.split('{').next().unwrap_or_default();
                if is_wanted(name) {
                    found.push((parse_series(series), self.values[*value]));
                }
            }
        }
        found
    }

    /// The response to a scrape.
    pub(super) fn text(&mut self) -> String {
        let now = number(self.seconds());
        for value in &self.now {
            self.values[*value] = now;
        }
        let mut text = String::with_capacity(self.length);
        // Most values are 0 and few others differ. Cache them: a scrape is large, and tests aren't optimised.
        let mut written: BTreeMap<u64, String> = BTreeMap::new();
        for family in catalog::ALL {
            let kind = match family.kind {
                FamilyKind::Counter => "counter",
                FamilyKind::Gauge => "gauge",
                FamilyKind::Histogram(_) => "histogram",
            };
            text.push_str(&format!("# TYPE {} {kind}\n", family.name));
            for (series, value) in self.series.get(family.name).into_iter().flatten() {
                text.push_str(series);
                let bits = self.values[*value].to_bits();
                if bits == 0 {
                    text.push_str(" 0\n");
                    continue;
                }
                let end =
                    written.entry(bits).or_insert_with(|| format!(" {}\n", f64::from_bits(bits)));
                text.push_str(end);
            }
        }
        self.length = text.len();
        text
    }
}

fn braced(name: &str, labels: &str) -> String {
    if labels.is_empty() { name.to_owned() } else { format!("{name}{{{labels}}}") }
}

/// Converts seconds since 1970; they fit into a `u32` until 2106.
fn number(seconds: i64) -> f64 {
    f64::from(u32::try_from(seconds).expect("a time before 2106"))
}
