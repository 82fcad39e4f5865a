//! The series of a fleet: which there are, and which of them move with a request.

use std::collections::BTreeMap;
use std::ops::Range;

use twilio_call_exporter::clock::Clock;
use twilio_call_exporter::domain::judge::kind::RequestKind;
use twilio_call_exporter::domain::judge::verdict::Reason;
use twilio_call_exporter::metrics::catalog::{self, Family, FamilyKind};

use super::{Fleet, Hosts, Shape, labels};
use crate::harness::Series;
use crate::harness::scrape::key_of;

/// How old the store is: old enough that nothing is held back on account of it.
const STORE_AGE: i64 = 40 * 86_400;

/// All series with their values.
pub(crate) struct World {
    shape: Shape,
    /// Per family its series: name and labels as they are written, and which value it has.
    series: BTreeMap<&'static str, Vec<(String, usize)>>,
    known: BTreeMap<String, usize>,
    values: Vec<f64>,
    /// The places of one account after another.
    places: Vec<Place>,
    /// Finished calls of each account.
    calls: Vec<usize>,
    /// How late entries of each account's error log are: at once.
    lags: Vec<Vec<usize>>,
    /// What grows with each poll.
    polls: Vec<usize>,
    /// What is always the present time.
    now: Vec<usize>,
    clock: Clock,
    /// How long the text was.
    length: usize,
}

/// The values that move with the requests to one route of an account.
#[derive(Default)]
struct Place {
    every: Vec<usize>,
    good: Vec<usize>,
    failed: Vec<usize>,
    reasons: BTreeMap<Reason, usize>,
    cut_off: Vec<usize>,
    reported: Vec<usize>,
}

/// The code that the error log has for what fails here.
const REPORTED: &str = "error_code=\"11205\"";

impl World {
    pub(super) fn new(shape: Shape) -> Self {
        let mut world = Self {
            shape,
            series: BTreeMap::new(),
            known: BTreeMap::new(),
            values: Vec::new(),
            places: Vec::new(),
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
                    self.lags.last_mut().expect("this account's").push(value);
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
            self.add_place(&[own[0], ("host", &host), ("route", &route)], kind);
        }
    }

    fn add_place(&mut self, labels: &[(&str, &str)], kind: RequestKind) {
        let mut place = Place::default();
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
                    place.every.push(value);
                } else if has("code=\"200\"") || has("content_type=\"text/xml\"") {
                    place.good.push(value);
                } else if has("code=\"none\"") {
                    place.failed.push(value);
                } else if has("outcome=\"cut_off\"") {
                    place.cut_off.push(value);
                } else if family.name == catalog::ERROR_LOG_ENTRIES.name {
                    place.reported.extend(has(REPORTED).then_some(value));
                } else if family.name == catalog::WEBHOOK_FAILURES.name {
                    let of = |reason: &&Reason| has(&format!("reason=\"{}\"", reason.as_str()));
                    let reason = Reason::ALL.iter().find(of).expect("a reason");
                    place.reasons.insert(*reason, value);
                }
            }
        }
        self.places.push(place);
    }

    /// Adds the series of a family that have these labels, one for each combination of the others.
    /// What is there already, because the family lacks some of the labels, stays one series.
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

    /// Requests to each route of an account: so many succeed.
    pub(crate) fn succeed(&mut self, account: usize, requests: u32) {
        for place in self.places_of(account) {
            let Place { every, good, .. } = &self.places[place];
            for value in every.iter().chain(good) {
                self.values[*value] += f64::from(requests);
            }
        }
        self.values[self.calls[account]] += f64::from(requests);
    }

    /// Requests to each route of an account: so many fail. The calls that they cut off are counted by
    /// `settle`.
    pub(crate) fn fail(&mut self, account: usize, reason: Reason, requests: u32) {
        for place in self.places_of(account) {
            let Place { every, failed, reasons, .. } = &self.places[place];
            let reason = reasons.get(&reason);
            for value in every.iter().chain(failed).chain(reason) {
                self.values[*value] += f64::from(requests);
            }
        }
        self.values[self.calls[account]] += f64::from(requests);
    }

    /// The error log reports a failing request to each route of an account that is to answer with TwiML.
    pub(crate) fn report(&mut self, account: usize) {
        for place in self.places_of(account) {
            for value in &self.places[place].reported {
                self.values[*value] += 1.0;
                for lag in &self.lags[account] {
                    self.values[*lag] += 1.0;
                }
            }
        }
    }

    /// Calls of an account are settled, of which a failing request to each route had cut off so many.
    pub(crate) fn settle(&mut self, account: usize, cut_off: u32) {
        for place in self.places_of(account) {
            for value in &self.places[place].cut_off {
                self.values[*value] += f64::from(cut_off);
            }
        }
    }

    /// All accounts were polled once.
    pub(crate) fn polled(&mut self) {
        for value in &self.polls {
            self.values[*value] += 1.0;
        }
    }

    fn places_of(&self, account: usize) -> Range<usize> {
        let each = self.shape.routes + 1;
        account * each..(account + 1) * each
    }

    pub(crate) fn accounts(&self) -> Range<usize> {
        0..self.shape.accounts
    }

    /// Every series of some families, and its value: those of counters, or the others.
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
                    found.push((key_of(series), self.values[*value]));
                }
            }
        }
        found
    }

    /// What a scrape is answered.
    pub(super) fn text(&mut self) -> String {
        let now = number(self.seconds());
        for value in &self.now {
            self.values[*value] = now;
        }
        let mut text = String::with_capacity(self.length);
        // Most values are 0, and the others few: a scrape is large, and tests aren't optimised.
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

/// Seconds fit.
fn number(seconds: i64) -> f64 {
    f64::from(u32::try_from(seconds).expect("a time before 2106"))
}
