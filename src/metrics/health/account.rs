//! The instruments of one account.

use std::time::Duration;

use jiff::Timestamp;
use prometheus::GaugeVec;

use crate::domain::engine::account::Lateness;
use crate::domain::engine::plan::Stage;
use crate::domain::judge::observe::Rejection;
use crate::domain::track::listing::ListKind;
use crate::domain::words::call::{CallStatus, Direction};
use crate::domain::words::label::label_enum;

use super::super::exposition::as_float;
use super::Health;

label_enum! {
    /// What became of a read of a call's events.
    pub enum ReadResult {
        /// The call has events.
        Found = "found",
        /// The call has no events.
        Empty = "empty",
        /// The read was given up.
        Failed = "failed",
        /// A later read was due already.
        Skipped = "skipped",
    }
}

label_enum! {
    /// What became of an item of a Call Events page.
    pub enum EventResult {
        /// Counted now.
        Counted = "counted",
        /// Counted before.
        Duplicate = "duplicate",
        /// Says nothing that could be counted.
        Rejected = "rejected",
    }
}

/// The instruments of one account.
#[derive(Clone, Debug)]
pub struct AccountHealth {
    pub(super) health: Health,
    pub(super) label: String,
}

impl AccountHealth {
    /// Makes every series whose labels are known.
    pub(super) fn begin(&self, retry_reasons: impl IntoIterator<Item = &'static str>) {
        let (health, label) = (&self.health, self.label.as_str());
        for reason in retry_reasons {
            health.api_retries.with_label_values(&[label, reason]);
        }
        for result in EventResult::ALL {
            health.call_events.with_label_values(&[label, result.as_str()]);
        }
        for rejection in Rejection::ALL {
            health.call_events_rejected.with_label_values(&[label, rejection.as_str()]);
        }
        for stage in Stage::ALL {
            health.calls_pending.with_label_values(&[label, stage.as_str()]);
            for result in ReadResult::ALL {
                health.call_reads.with_label_values(&[label, stage.as_str(), result.as_str()]);
            }
        }
        for (direction, status) in active() {
            health.calls_active.with_label_values(&[label, direction.as_str(), status.as_str()]);
        }
        for vec in [
            &health.call_events_unjudged,
            &health.calls_rejected,
            &health.calls_deferred,
            &health.audited_calls,
            &health.late_call_events,
            &health.route_overflow,
            &health.routes_retired,
        ] {
            vec.with_label_values(&[label]);
        }
        health.skipped_seconds.with_label_values(&[label]);
        health.calls_unreadable.with_label_values(&[label]);
        for vec in [&health.pass_duration, &health.event_lag] {
            vec.with_label_values(&[label]);
        }
    }

    /// Notes whether the last list could be read.
    pub fn up(&self, is_up: bool) {
        self.set(&self.health.up, if is_up { 1.0 } else { 0.0 });
    }

    /// Notes a list that was read to its end.
    pub fn list_read(&self, kind: ListKind, took: Duration, now_seconds: f64) {
        if kind == ListKind::Recent {
            self.set(&self.health.last_success, now_seconds);
            self.health.pass_duration.with_label_values(&[&self.label]).observe(took.as_secs_f64());
        }
    }

    /// Notes what keeps a resource from being read, and since when.
    pub fn trouble(&self, resource: &'static str, told: Option<(String, Timestamp)>) {
        self.health.troubles.set(&self.label, resource, told);
    }

    /// Notes the interval in force.
    pub fn poll_interval(&self, interval: Duration) {
        self.set(&self.health.poll_interval, interval.as_secs_f64());
    }

    /// Notes an attempt at a request.
    pub fn api_request(&self, resource: &str, code: Option<u16>, took: Duration) {
        let code = code.map_or_else(|| "none".to_owned(), |code| code.to_string());
        self.health.api_requests.with_label_values(&[self.label.as_str(), resource, &code]).inc();
        self.health.api_took(resource, took);
    }

    /// Notes a failed request that will be tried again.
    pub fn api_retry(&self, reason: &str) {
        self.health.api_retries.with_label_values(&[self.label.as_str(), reason]).inc();
    }

    /// Notes the account's concurrency.
    pub fn api_concurrency(&self, limit: usize, in_flight: usize) {
        let as_float = |count: usize| as_float(u64::try_from(count).unwrap_or(u64::MAX));
        self.set(&self.health.api_concurrency_limit, as_float(limit));
        self.set(&self.health.api_in_flight, as_float(in_flight));
    }

    /// Notes how many requests Twilio counts for the whole account.
    pub fn account_concurrency(&self, requests: u64) {
        self.set(&self.health.api_account_concurrent, as_float(requests));
    }

    /// Notes that the account begins with the past, before it is known how much of that there is.
    pub fn begins_behind(&self) {
        self.set(&self.health.catching_up, 1.0);
    }

    /// Notes how late the account is, and which calls are active.
    pub fn lateness(&self, lateness: &Lateness) {
        self.set(&self.health.settling_overdue, lateness.overdue.as_secs_f64());
        self.set(&self.health.catching_up, f64::from(u8::from(lateness.is_catching_up)));
        self.set(&self.health.calls_unreadable, as_float(lateness.unreadable));
        for stage in Stage::ALL {
            let count = lateness.pending.get(stage.as_str()).copied().unwrap_or(0);
            self.health
                .calls_pending
                .with_label_values(&[self.label.as_str(), stage.as_str()])
                .set(as_float(count));
        }
        for (direction, status) in active() {
            let count = lateness.active.get(&(direction, status)).copied().unwrap_or(0);
            self.health
                .calls_active
                .with_label_values(&[self.label.as_str(), direction.as_str(), status.as_str()])
                .set(as_float(count));
        }
    }

    /// Notes time that was cut off by `poll.catch_up`.
    pub fn skipped(&self, time: Duration) {
        self.health.skipped_seconds.with_label_values(&[&self.label]).inc_by(time.as_secs_f64());
    }

    /// Notes how late an event was counted.
    pub fn event_lag(&self, seconds: f64) {
        self.health.event_lag.with_label_values(&[&self.label]).observe(seconds);
    }

    /// Notes what became of items.
    pub fn call_events(&self, result: EventResult, count: u64) {
        let labels = [self.label.as_str(), result.as_str()];
        self.health.call_events.with_label_values(&labels).inc_by(count);
    }

    /// Notes why items, or their durations, were rejected.
    pub fn call_events_rejected(&self, rejection: Rejection, count: u64) {
        let labels = [self.label.as_str(), rejection.as_str()];
        self.health.call_events_rejected.with_label_values(&labels).inc_by(count);
    }

    /// Notes counted answers whose body could not be judged.
    pub fn call_events_unjudged(&self, count: u64) {
        self.health.call_events_unjudged.with_label_values(&[&self.label]).inc_by(count);
    }

    /// Notes items of a list that are no calls.
    pub fn calls_rejected(&self, count: u64) {
        self.health.calls_rejected.with_label_values(&[&self.label]).inc_by(count);
    }

    /// Notes how many calls are tracked.
    pub fn tracked_calls(&self, count: usize) {
        self.set(&self.health.tracked_calls, as_float(u64::try_from(count).unwrap_or(u64::MAX)));
    }

    /// Notes calls of a list that were not taken up for want of room.
    pub fn calls_deferred(&self, count: u64) {
        self.health.calls_deferred.with_label_values(&[&self.label]).inc_by(count);
    }

    /// Notes how many concurrent requests the planned reads need.
    pub fn required_concurrency(&self, required: f64) {
        self.set(&self.health.api_required_concurrency, required);
    }

    /// Notes what became of a read.
    pub fn call_read(&self, stage: Stage, result: ReadResult, count: u64) {
        let labels = [self.label.as_str(), stage.as_str(), result.as_str()];
        self.health.call_reads.with_label_values(&labels).inc_by(count);
    }

    /// Notes an audit, and what only it found.
    pub fn audited(&self, late_events: u64) {
        self.health.audited_calls.with_label_values(&[&self.label]).inc();
        self.health.late_call_events.with_label_values(&[&self.label]).inc_by(late_events);
    }

    /// Notes events that found no room.
    pub fn route_overflow(&self, count: u64) {
        self.health.route_overflow.with_label_values(&[&self.label]).inc_by(count);
    }

    /// Notes endpoints that were let go because they had no event for long.
    pub fn routes_retired(&self, count: u64) {
        self.health.routes_retired.with_label_values(&[&self.label]).inc_by(count);
    }

    fn set(&self, vec: &GaugeVec, value: f64) {
        vec.with_label_values(&[&self.label]).set(value);
    }
}

/// The directions and statuses that a call can have which isn't known to have ended.
fn active() -> impl Iterator<Item = (Direction, CallStatus)> {
    Direction::ALL.iter().flat_map(|direction| {
        let statuses = CallStatus::ALL.iter().filter(|status| !status.is_final());
        statuses.map(|status| (*direction, *status))
    })
}
