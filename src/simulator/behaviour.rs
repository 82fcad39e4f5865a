//! Answers for how the simulated Twilio misbehaves; the world and its truth stay what they are.
//! This is the JSON of `/_simulator/behaviour`, a contract with tests and curious people.

use serde::{Deserialize, Serialize};

/// What is wrong with the simulated Twilio; by default nothing, and Call Events are live.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Behaviour {
    /// Seconds after a call's end before its events are visible; 0 shows each as it happens.
    pub events_after: u64,
    /// Seconds between which a call's events appear one after another, from `events_after` on.
    pub events_apart: u64,
    /// Seconds before an event has its answer; until then it is shown without.
    pub answers_after: u64,
    /// Seconds after a call's end after which numbers, digits and bodies of its events are gone;
    /// 0 keeps them.
    pub redact_after: u64,
    /// How many of 1,000 reads of a call's events lack the last one, once.
    pub shrink_events: u16,
    /// Seconds before lists show a call.
    pub calls_after: u64,
    /// Whether time filters are cut to the day.
    pub day_filters: bool,
    /// Whether each page of a list of calls begins with the last call of the page before.
    pub repeat_calls: bool,
    /// How many requests an account may have in flight; beyond it 429.
    pub max_concurrent: Option<u32>,
    /// How many of 1,000 requests are answered 500.
    pub error_rate: u16,
    /// Requests that take long.
    pub stall: Stall,
    /// Whether every request is answered 503.
    pub outage: bool,
    /// How many of 1,000 answers are cut off in the middle of their JSON.
    pub truncate_body: u16,
    /// How many of 1,000 answers are a web page instead.
    pub html_instead: u16,
    /// The Account SIDs whose requests are refused with 401.
    pub unauthorized: Vec<String>,
    /// Whether the credentials lack the permission to read Call Events.
    pub missing_permission: bool,
    /// Whether API keys may not list accounts, as Twilio's standard keys may not.
    pub standard_keys: bool,
    /// Whether event lists of several pages are rotated between any two reads of a page.
    pub shift_pages: bool,
    /// Whether each list names the page itself as its next page.
    pub looping_next_page: bool,
    /// Whether each list names a page on another host as its next page.
    pub foreign_next_page: bool,
    /// Whether filters by start time leave out calls that have none; otherwise they are
    /// filtered by their creation.
    pub strict_start_time: bool,
    /// Seconds before the error log shows an entry.
    pub error_log_after: u64,
    /// Seconds that one entry in four is shown later still.
    pub error_log_late: u64,
    /// Whether the error log shows each entry twice.
    pub error_log_repeats: bool,
    /// Whether every request for the error log is answered 503.
    pub error_log_outage: bool,
    /// Whether the credentials lack the permission to read the error log.
    pub error_log_refused: bool,
    /// How far Twilio's clock, as its `Date` header shows it, is ahead.
    pub date_skew_seconds: i64,
}

/// When the events of a call are shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Visibility {
    /// Seconds after the call's end; 0 is live.
    pub(crate) after_end: u64,
    /// Seconds between one event and the next.
    pub(crate) apart: u64,
}

impl Behaviour {
    pub(crate) fn visibility(&self) -> Visibility {
        Visibility { after_end: self.events_after, apart: self.events_apart }
    }
}

/// How many of 1,000 requests take so many seconds longer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Stall {
    /// How many of 1,000 requests.
    pub permille: u16,
    /// How many seconds longer.
    pub seconds: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_object_is_good_behaviour() {
        let behaviour: Behaviour = serde_json::from_str("{}").expect("every key has a default");
        assert_eq!(behaviour, Behaviour::default());
    }

    #[test]
    fn an_unknown_key_is_refused() {
        assert!(serde_json::from_str::<Behaviour>(r#"{"outtage": true}"#).is_err());
    }
}
