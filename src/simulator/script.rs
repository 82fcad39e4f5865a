//! The script of a simulated call: its times, statuses and Call Events. `draft` builds it; the instant
//! determines how much of it is visible.

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use super::behaviour::Visibility;
use super::random::hash;

/// A call with everything that will ever happen to it.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) sid: String,
    pub(crate) account_sid: String,
    pub(crate) parent_call_sid: Option<String>,
    pub(crate) direction: &'static str,
    pub(crate) from: String,
    pub(crate) to: String,
    pub(crate) created_at: Timestamp,
    pub(crate) started_at: Option<Timestamp>,
    pub(crate) ended_at: Timestamp,
    /// Whether Twilio shows an `end_time` once the call has ended.
    pub(crate) shows_end_time: bool,
    /// Each status with its start, oldest first, never empty.
    pub(crate) statuses: Vec<(Timestamp, &'static str)>,
    /// Oldest first.
    pub(crate) events: Vec<ScriptedEvent>,
}

impl Call {
    /// The status at this instant, and its start.
    pub(crate) fn status_at(&self, now: Timestamp) -> (Timestamp, &'static str) {
        let current = self.statuses.iter().rev().find(|(since, _)| *since <= now);
        *current.unwrap_or(&self.statuses[0])
    }

    pub(crate) fn is_finished(&self, now: Timestamp) -> bool {
        self.ended_at <= now
    }

    /// The start time, if it is known at this instant.
    pub(crate) fn start_time(&self, now: Timestamp) -> Option<Timestamp> {
        self.started_at.filter(|started_at| *started_at <= now)
    }

    pub(crate) fn end_time(&self, now: Timestamp) -> Option<Timestamp> {
        (self.shows_end_time && self.is_finished(now)).then_some(self.ended_at)
    }

    /// The time by which the call is sorted in a list at this instant.
    pub(crate) fn listed_at(&self, now: Timestamp) -> Timestamp {
        self.start_time(now).unwrap_or(self.created_at)
    }

    /// The events that Twilio shows at this instant.
    pub(crate) fn visible_events(&self, now: Timestamp, when: Visibility) -> Vec<&ScriptedEvent> {
        let is_shown = |(number, event): &(u64, &ScriptedEvent)| {
            let delay = when.after_end.saturating_add(when.apart.saturating_mul(*number));
            event.at <= now && (delay == 0 || seconds_after(self.ended_at, delay) <= now)
        };
        (0..).zip(&self.events).filter(is_shown).map(|(_, event)| event).collect()
    }
}

/// One element of `events`, and its truth.
#[derive(Clone, Debug)]
pub(crate) struct ScriptedEvent {
    pub(crate) at: Timestamp,
    pub(crate) item: Value,
    pub(crate) expected: Expected,
}

/// What an observer must conclude from an event.
#[derive(Clone, Debug)]
pub(crate) enum Expected {
    /// The customer's own API request.
    ApiRequest { code: String },
    /// A request to the application.
    Webhook(ExpectedWebhook),
    /// The event must be rejected for this reason.
    Rejected(&'static str),
}

/// The truth of one request to the application, in label values.
#[derive(Clone, Debug)]
pub(crate) struct ExpectedWebhook {
    pub(crate) host: String,
    pub(crate) route: String,
    pub(crate) kind: &'static str,
    pub(crate) code: String,
    pub(crate) duration_ms: Option<u64>,
    /// Whether Twilio executes the TwiML (true) or the caller hears a failure (false); `None` if neither
    /// affects the caller.
    pub(crate) has_succeeded: Option<bool>,
    pub(crate) failure: Option<&'static str>,
    pub(crate) warning: Option<&'static str>,
    /// For genuine 2xx responses where TwiML is expected.
    pub(crate) content_type: Option<&'static str>,
    /// Whether such a response had no body to judge.
    pub(crate) unjudged: bool,
}

/// Formats an instant as Twilio does: RFC 2822 with a resolution of one second.
pub(crate) fn rfc2822(at: Timestamp) -> String {
    at.strftime("%a, %d %b %Y %H:%M:%S +0000").to_string()
}

/// The instant this many seconds later; the maximum timestamp on overflow.
pub(crate) fn seconds_after(at: Timestamp, seconds: u64) -> Timestamp {
    let duration = SignedDuration::from_secs(i64::try_from(seconds).unwrap_or(i64::MAX));
    at.checked_add(duration).unwrap_or(Timestamp::MAX)
}

/// Returns a made-up SID with this prefix for this number.
pub(crate) fn made_up_sid(prefix: &str, number: u64) -> String {
    format!("{prefix}{number:016x}{:016x}", hash(&[number]))
}

/// Converts a key to PascalCase, as in Twilio's names of parameters and resources.
pub(crate) fn pascal_case(key: &str) -> String {
    key.split('_')
        .map(|word| {
            let (first, rest) = word.split_at(word.len().min(1));
            format!("{}{rest}", first.to_uppercase())
        })
        .collect()
}
