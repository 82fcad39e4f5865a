//! Requests to Twilio as numbers about ourselves.

use std::collections::BTreeSet;

use jiff::Timestamp;

use crate::domain::engine::lists::Stop;
use crate::metrics::health::AccountHealth;
use crate::twilio::{Attempt, ErrorReason};

/// Every reason that `twilio_exporter_api_retries_total` is counted by.
pub fn retry_reasons() -> BTreeSet<&'static str> {
    let errors = ErrorReason::ALL.iter().map(|reason| reason.as_str());
    // For want of room a list is not tried again: it ends where it is known to.
    let stops = Stop::ALL.iter().filter(|stop| **stop != Stop::NoRoom).map(|stop| stop.as_str());
    errors.chain(stops).collect()
}

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
