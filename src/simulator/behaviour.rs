//! Faults of the simulated Twilio; the world and its truth don't change. This is the JSON of
//! `/_simulator/behaviour`, which tests and users rely on.

use serde::{Deserialize, Serialize};

/// The faults of the simulated Twilio; by default there are none, and Call Events are live.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Behaviour {
    /// Seconds after a call's end until its events are visible; 0 shows each as it happens.
    pub events_after: u64,
    /// Seconds between the events of a call as they appear one after another, starting at `events_after`.
    pub events_apart: u64,
    /// Seconds until an event has its response; before that it is shown without one.
    pub answers_after: u64,
    /// Seconds after a call's end until numbers, digits and bodies are removed from its events; 0 keeps them.
    pub redact_after: u64,
    /// How many of 1,000 reads of a call's events omit the last event.
    pub shrink_events: u16,
    /// Seconds until lists show a call.
    pub calls_after: u64,
    /// Whether time filters are truncated to the day.
    pub day_filters: bool,
    /// Whether each page of a list of calls starts with the last call of the previous page.
    pub repeat_calls: bool,
    /// How many requests an account may have in flight; further requests get a 429.
    pub max_concurrent: Option<u32>,
    /// How many of 1,000 requests are answered with a 500.
    pub error_rate: u16,
    /// Delayed requests.
    pub stall: Stall,
    /// Whether every request is answered with a 503.
    pub outage: bool,
    /// How many of 1,000 responses are truncated in the middle of their JSON.
    pub truncate_body: u16,
    /// How many of 1,000 responses are an HTML page instead.
    pub html_instead: u16,
    /// The Account SIDs whose requests are refused with a 401.
    pub unauthorized: Vec<String>,
    /// Whether the credentials lack permission to read Call Events.
    pub missing_permission: bool,
    /// Whether API keys can't list accounts, like Twilio's standard keys.
    pub standard_keys: bool,
    /// Whether event lists of several pages are rotated between reads of their pages.
    pub shift_pages: bool,
    /// Whether each page names itself as its next page.
    pub looping_next_page: bool,
    /// Whether each page names a page on another host as its next page.
    pub foreign_next_page: bool,
    /// Whether filters by start time omit calls without one; otherwise those are filtered by their creation
    /// time.
    pub strict_start_time: bool,
    /// Seconds until the error log shows an entry.
    pub error_log_after: u64,
    /// Additional seconds until one entry in four is shown.
    pub error_log_late: u64,
    /// Whether the error log shows each entry twice.
    pub error_log_repeats: bool,
    /// Whether every request for the error log is answered with a 503.
    pub error_log_outage: bool,
    /// Whether the credentials lack permission to read the error log.
    pub error_log_refused: bool,
    /// How far Twilio's clock, as shown in its `Date` header, is ahead.
    pub date_skew_seconds: i64,
}

/// When the events of a call are shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Visibility {
    /// Seconds after the call's end; 0 means live.
    pub(crate) after_end: u64,
    /// Seconds between one event and the next.
    pub(crate) apart: u64,
}

impl Behaviour {
    pub(crate) fn visibility(&self) -> Visibility {
        Visibility { after_end: self.events_after, apart: self.events_apart }
    }
}

/// Delays a share of the requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Stall {
    /// How many of 1,000 requests are delayed.
    pub permille: u16,
    /// The delay in seconds.
    pub seconds: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_object_has_no_faults() {
        let behaviour: Behaviour = serde_json::from_str("{}").expect("every key has a default");
        assert_eq!(behaviour, Behaviour::default());
    }

    #[test]
    fn refuses_unknown_keys() {
        assert!(serde_json::from_str::<Behaviour>(r#"{"outtage": true}"#).is_err());
    }
}
