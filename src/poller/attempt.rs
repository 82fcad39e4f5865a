//! Requests to Twilio as numbers about ourselves.

use jiff::Timestamp;

use crate::metrics::health::AccountHealth;
use crate::twilio::Attempt;

/// The requests that made one read.
#[derive(Debug, Default)]
pub(super) struct Attempts(pub(super) Vec<Attempt>);

impl Attempts {
    /// Twilio's time at the last of them.
    pub(super) fn date(&self) -> Option<Timestamp> {
        self.0.last().and_then(|attempt| attempt.date)
    }

    /// Counts them.
    pub(super) fn note(&self, health: &AccountHealth) {
        for attempt in &self.0 {
            health.api_request(attempt.resource.as_str(), attempt.code, attempt.took);
            if let Some(requests) = attempt.concurrent_requests {
                health.account_concurrency(requests);
            }
        }
    }
}
