//! The truth: what an observer must have counted, as the sum of what the scripts expect. It judges nothing
//! itself; it adds up what has happened and is visible at an instant.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Serialize;

use super::behaviour::Visibility;
use super::draft::Detail;
use super::script::{Call, Expected, ExpectedWebhook};
use super::world::World;

/// What an observer that missed nothing has counted at one instant.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Truth {
    /// Whether the counts are final: every call has ended and every event is visible.
    pub complete: bool,
    /// The durable families, without series of value zero.
    pub families: Vec<TruthSeries>,
    /// The invalid items and the responses without a body that have been shown, each once, as the families
    /// `twilio_exporter_call_events_rejected_total` and `…_unjudged_total`.
    pub since_start: Vec<TruthSeries>,
}

/// One series and its value.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TruthSeries {
    /// The metric's name, with `_count` or `_sum` for a histogram.
    pub name: String,
    /// The labels; `account` is the Account SID.
    pub labels: BTreeMap<String, String>,
    /// A count, or seconds for a sum.
    pub value: f64,
}

impl Truth {
    /// The sum over the series of this name with all of these labels.
    pub fn value(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let series = self.families.iter().chain(&self.since_start);
        let matches = |series: &&TruthSeries| {
            let has = |(label, value): &(&str, &str)| {
                series.labels.get(*label).is_some_and(|found| found == value)
            };
            series.name == name && labels.iter().all(has)
        };
        series.filter(matches).map(|series| series.value).sum()
    }
}

/// The sums so far, and up to which call of each account they are final.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sums {
    as_of: Timestamp,
    visibility: Visibility,
    /// Per account: the calls below this number are over and included in `counts`.
    counted: Vec<u64>,
    counts: Counts,
}

impl Sums {
    /// Adds up the world at this instant; caches what is final.
    pub(crate) fn truth(&mut self, world: &World, now: Timestamp, visibility: Visibility) -> Truth {
        if now < self.as_of || visibility != self.visibility {
            *self = Sums::default();
        }
        (self.as_of, self.visibility) = (now, visibility);
        self.counted.resize(world.accounts().len(), 0);
        let mut open = Counts::default();
        let mut complete = true;
        for (account, counted) in self.counted.iter_mut().enumerate() {
            let window = world.window(None, now);
            complete &= world.max_calls() == Some(window.to);
            for number in *counted..window.to {
                let calls = world.calls(account, number, Detail::Outline);
                let is_over = calls.iter().all(|call| is_over(call, now, visibility));
                complete &= is_over;
                let is_next = *counted == number;
                let counts = if is_over && is_next { &mut self.counts } else { &mut open };
                calls.iter().for_each(|call| counts.add_call(call, now, visibility));
                *counted += u64::from(is_over && is_next);
            }
        }
        open.merge(&self.counts);
        open.truth(complete)
    }
}

fn is_over(call: &Call, now: Timestamp, visibility: Visibility) -> bool {
    call.is_finished(now) && call.visible_events(now, visibility).len() == call.events.len() && {
        // Even a call without events is open until its events would be shown.
        visibility.after_end == 0
            || super::script::seconds_after(call.ended_at, visibility.after_end) <= now
    }
}

type Labels = Vec<(&'static str, String)>;

/// Integer values by name and labels; sums are in milliseconds until they are shown.
#[derive(Clone, Debug, Default)]
struct Counts {
    values: BTreeMap<(&'static str, Labels), u64>,
}

const DURATION_SUM: &str = "twilio_webhook_request_duration_seconds_sum";

impl Counts {
    fn add(&mut self, name: &'static str, labels: Labels, value: u64) {
        *self.values.entry((name, labels)).or_default() += value;
    }

    fn merge(&mut self, other: &Counts) {
        for ((name, labels), value) in &other.values {
            self.add(name, labels.clone(), *value);
        }
    }

    fn add_call(&mut self, call: &Call, now: Timestamp, visibility: Visibility) {
        if now < call.created_at {
            return;
        }
        let account = ("account", call.account_sid.clone());
        for event in call.visible_events(now, visibility) {
            match &event.expected {
                Expected::ApiRequest { code } => {
                    let labels = vec![account.clone(), ("code", code.clone())];
                    self.add("twilio_call_api_requests_total", labels, 1);
                }
                Expected::Webhook(webhook) => self.add_webhook(&account, webhook),
                Expected::Rejected(reason) => {
                    let labels = vec![account.clone(), ("reason", (*reason).to_owned())];
                    self.add("twilio_exporter_call_events_rejected_total", labels, 1);
                }
            }
        }
        if call.is_finished(now) {
            let labels = vec![
                account.clone(),
                ("direction", call.direction.to_owned()),
                ("status", call.status_at(now).1.to_owned()),
            ];
            self.add("twilio_calls_total", labels, 1);
        }
        if is_over(call, now, visibility)
            && let Some((outcome, webhook)) = outcome(call)
        {
            let endpoint = [("host", webhook.host.clone()), ("route", webhook.route.clone())];
            let mut labels = vec![account, ("outcome", outcome.to_owned())];
            labels.extend(endpoint);
            self.add("twilio_calls_with_webhook_failures_total", labels, 1);
        }
    }

    fn add_webhook(&mut self, account: &(&'static str, String), webhook: &ExpectedWebhook) {
        let endpoint =
            vec![account.clone(), ("host", webhook.host.clone()), ("route", webhook.route.clone())];
        let with = |labels: &[(&'static str, &str)]| {
            let mut endpoint = endpoint.clone();
            endpoint.extend(labels.iter().map(|(label, value)| (*label, (*value).to_owned())));
            endpoint
        };
        let kind = ("kind", webhook.kind);
        let labels = with(&[kind, ("code", &webhook.code)]);
        self.add("twilio_webhook_requests_total", labels, 1);
        if let Some(duration_ms) = webhook.duration_ms {
            self.add("twilio_webhook_request_duration_seconds_count", with(&[kind]), 1);
            self.add(DURATION_SUM, with(&[kind]), duration_ms);
        }
        if let Some(reason) = webhook.failure {
            let labels = with(&[kind, ("reason", reason)]);
            self.add("twilio_webhook_failures_total", labels, 1);
        }
        if let Some(content_type) = webhook.content_type {
            let labels = with(&[("content_type", content_type)]);
            self.add("twilio_twiml_responses_total", labels, 1);
        }
        if let Some(reason) = webhook.warning {
            self.add("twilio_twiml_warnings_total", with(&[("reason", reason)]), 1);
        }
        if webhook.unjudged {
            let labels = vec![account.clone()];
            self.add("twilio_exporter_call_events_unjudged_total", labels, 1);
        }
    }

    fn truth(self, complete: bool) -> Truth {
        let series = self.values.into_iter().filter(|(_, value)| *value > 0).map(
            |((name, labels), value)| TruthSeries {
                name: name.to_owned(),
                labels: labels
                    .into_iter()
                    .map(|(label, value)| (label.to_owned(), value))
                    .collect(),
                value: if name == DURATION_SUM { float(value) / 1000.0 } else { float(value) },
            },
        );
        let (since_start, families) =
            series.partition(|series| series.name.starts_with("twilio_exporter_"));
        Truth { complete, families, since_start }
    }
}

/// The outcome for the caller, and the last failed request; `None` if no TwiML or media request failed.
fn outcome(call: &Call) -> Option<(&'static str, &ExpectedWebhook)> {
    let mut found = None;
    for event in &call.events {
        let Expected::Webhook(webhook) = &event.expected else { continue };
        found = match (webhook.has_succeeded, found) {
            (Some(false), _) => Some(("cut_off", webhook)),
            (Some(true), Some((_, failed))) => Some(("recovered", failed)),
            (Some(true), None) | (None, _) => found,
        };
    }
    found
}

#[expect(clippy::cast_precision_loss, reason = "no simulation counts to 2^53")]
fn float(value: u64) -> f64 {
    value as f64
}

#[cfg(test)]
mod tests {
    use super::super::scenario::Mix;
    use super::super::world::WorldConfig;
    use super::*;

    #[test]
    fn cached_sums_equal_fresh_ones() {
        let world = world();
        let mut cached = Sums::default();
        for second in (0..400).step_by(23) {
            let now = Timestamp::from_second(second).expect("in range");
            let fresh = Sums::default().truth(&world, now, after(30));
            assert_eq!(cached.truth(&world, now, after(30)), fresh, "at {second}");
        }
    }

    #[test]
    fn the_truth_of_a_finite_world_becomes_complete_and_stays_so() {
        let world = world();
        let at = |second| {
            let now = Timestamp::from_second(second).expect("in range");
            Sums::default().truth(&world, now, after(0))
        };
        assert!(!at(0).complete);
        assert!(at(1_000).complete);
        assert_eq!(at(1_000), at(100_000));
    }

    #[test]
    fn does_not_count_events_before_they_are_shown() {
        let (world, now) = (world(), Timestamp::from_second(200).expect("in range"));
        let truth = Sums::default().truth(&world, now, after(10_000));
        assert_eq!(truth.value("twilio_webhook_requests_total", &[]), 0.0);
        assert!(truth.value("twilio_calls_total", &[]) > 50.0);
        assert!(!truth.complete);
    }

    #[test]
    fn the_catalogue_adds_up_to_its_known_counts() {
        let truth = Sums::default().truth(&world(), Timestamp::MAX, after(0));
        let value = |name, labels: &[(&str, &str)]| truth.value(name, labels);
        let rejected = "twilio_exporter_call_events_rejected_total";
        assert_eq!(value(rejected, &[("reason", "malformed")]), 3.0);
        assert_eq!(value(rejected, &[("reason", "invalid_url")]), 1.0);
        assert_eq!(value(rejected, &[("reason", "invalid_code")]), 2.0);
        assert_eq!(value("twilio_exporter_call_events_unjudged_total", &[]), 2.0);
        assert_eq!(value("twilio_calls_total", &[("status", "canceled")]), 1.0);
        assert_eq!(value("twilio_call_api_requests_total", &[("code", "404")]), 1.0);
        assert_eq!(value("twilio_twiml_warnings_total", &[("reason", "redirect")]), 1.0);
        let outcomes = "twilio_calls_with_webhook_failures_total";
        assert!(value(outcomes, &[("outcome", "recovered")]) > 5.0);
        assert!(value(outcomes, &[("outcome", "cut_off")]) > 5.0);
    }

    fn world() -> World {
        let config = WorldConfig {
            mix: Mix::Everything,
            calls_per_minute: 60.0,
            max_calls: Some(Mix::Everything.scenario_count()),
            ..WorldConfig::default()
        };
        World::new(config, Timestamp::UNIX_EPOCH)
    }

    fn after(after_end: u64) -> Visibility {
        Visibility { after_end, apart: 0 }
    }
}
