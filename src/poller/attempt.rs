//! Requests to Twilio as numbers about ourselves.

use std::sync::PoisonError;

use jiff::Timestamp;

use crate::metrics::health::AccountHealth;
use crate::twilio::Attempt;

use super::Shared;

/// The requests that made one read.
#[derive(Debug, Default)]
pub(super) struct Attempts(pub(super) Vec<Attempt>);

impl Attempts {
    /// Twilio's time at the last of them.
    pub(super) fn date(&self) -> Option<Timestamp> {
        self.0.last().and_then(|attempt| attempt.date)
    }

    /// Counts them, and learns Twilio's time from their answers.
    pub(super) fn note(&self, health: &AccountHealth, shared: &Shared) {
        for attempt in &self.0 {
            note(attempt, health, shared);
        }
    }
}

fn note(attempt: &Attempt, health: &AccountHealth, shared: &Shared) {
    health.api_request(attempt.resource.as_str(), attempt.code, attempt.took);
    if let Some(requests) = attempt.concurrent_requests {
        health.account_concurrency(requests);
    }
    if let (Some(date), Some(answered)) = (attempt.date, attempt.answered) {
        let mut time = shared.twilio_time.lock().unwrap_or_else(PoisonError::into_inner);
        time.observe(date, shared.clock.at(answered));
        shared.health.clock_offset(time.offset().as_secs_f64());
    }
}
