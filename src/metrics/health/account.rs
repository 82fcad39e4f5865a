//! The instruments of one account.

use std::time::Duration;

use jiff::Timestamp;
use prometheus::{GaugeVec, IntCounterVec};

use crate::domain::engine::account::AccountLag;
use crate::domain::engine::effects::{CountedEntries, CountedEvents, MetricUpdate, ReadResult};
use crate::domain::engine::failure::retry_reasons;
use crate::domain::engine::plan::Stage;
use crate::domain::engine::request::Resource;
use crate::domain::judge::observe::Rejection;
use crate::domain::track::listing::ListKind;
use crate::domain::track::twilio_time::seconds_between;
use crate::domain::words::call::{CallStatus, Direction};
use crate::domain::words::label::label_enum;

use super::super::exposition::as_float;
use super::Health;

label_enum! {
    /// The result of an item of a Call Events page.
    pub enum EventResult {
        /// Counted now.
        Counted = "counted",
        /// Counted before.
        Duplicate = "duplicate",
        /// Couldn't be counted.
        Rejected = "rejected",
    }
}

label_enum! {
    /// The result of an entry of an error log page.
    pub enum EntryResult {
        /// Counted now.
        Counted = "counted",
        /// Counted before.
        Duplicate = "duplicate",
        /// Couldn't be read as an entry.
        Rejected = "rejected",
        /// Of another account, or from before the account was first polled.
        Ignored = "ignored",
    }
}

/// The instruments of one account.
#[derive(Clone, Debug)]
pub struct AccountHealth {
    pub(super) health: Health,
    pub(super) label: String,
}

impl AccountHealth {
    /// Creates the series whose labels are known in advance.
    pub(super) fn init_series(&self) {
        let (health, label) = (&self.health, self.label.as_str());
        for reason in retry_reasons() {
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

    /// Records an update from the engine.
    pub fn note(&self, update: &MetricUpdate) {
        let (health, label) = (&self.health, self.label.as_str());
        match update {
            MetricUpdate::Up(is_up) => self.set(&health.up, f64::from(u8::from(*is_up))),
            MetricUpdate::Retried(reason) => {
                health.api_retries.with_label_values(&[label, reason]).inc();
            }
            MetricUpdate::Skipped(time) => {
                health.skipped_seconds.with_label_values(&[label]).inc_by(time.as_secs_f64());
            }
            MetricUpdate::TwilioAhead(by) => health.twilio_ahead(*by),
            MetricUpdate::CallsRejected(count) => self.add(&health.calls_rejected, *count),
            MetricUpdate::CallsDeferred(count) => self.add(&health.calls_deferred, *count),
            MetricUpdate::ListRead { kind: ListKind::Recent, took, at } => {
                self.set(&health.last_success, seconds_between(Timestamp::UNIX_EPOCH, *at));
                let took = took.as_secs_f64();
                health.pass_duration.with_label_values(&[label]).observe(took);
            }
            MetricUpdate::ListRead { .. } => {}
            MetricUpdate::Events(events) => self.events(events),
            MetricUpdate::ErrorLog(entries) => self.error_log(entries),
            MetricUpdate::Read { stage, result, count } => {
                let labels = [label, stage.as_str(), result.as_str()];
                health.call_reads.with_label_values(&labels).inc_by(*count);
            }
            MetricUpdate::Audited { late_events } => {
                self.add(&health.audited_calls, 1);
                self.add(&health.late_call_events, *late_events);
            }
            MetricUpdate::Trouble { resource, problem } => self.trouble(*resource, problem.clone()),
            MetricUpdate::AccountLag(lag) => self.lag(lag),
            MetricUpdate::PollInterval(interval) => {
                self.set(&health.poll_interval, interval.as_secs_f64());
            }
            MetricUpdate::RequiredConcurrency(required) => {
                self.set(&health.api_required_concurrency, *required);
            }
        }
    }

    fn events(&self, events: &CountedEvents) {
        let (health, label) = (&self.health, self.label.as_str());
        let rejected = u64::try_from(events.rejected.len()).unwrap_or(u64::MAX);
        for (result, count) in [
            (EventResult::Counted, events.counted),
            (EventResult::Duplicate, events.duplicates),
            (EventResult::Rejected, rejected),
        ] {
            health.call_events.with_label_values(&[label, result.as_str()]).inc_by(count);
        }
        self.add(&health.call_events_unjudged, events.unjudged);
        let rejections = events.rejected.iter().map(|rejection| (*rejection, 1));
        // These events are counted without their duration.
        let durations = (Rejection::InvalidDuration, events.invalid_durations);
        for (rejection, count) in rejections.chain([durations]) {
            let labels = [label, rejection.as_str()];
            health.call_events_rejected.with_label_values(&labels).inc_by(count);
        }
        for lag in &events.lags {
            health.event_lag.with_label_values(&[label]).observe(*lag);
        }
    }

    /// Creates the error log series at 0 for an account whose log has been read before, so that the first
    /// page shows as an increase.
    pub fn has_error_log(&self) {
        self.error_log(&CountedEntries::default());
    }

    /// Records a page of the error log. An account whose log can't be read has none of these series.
    fn error_log(&self, entries: &CountedEntries) {
        let (health, label) = (&self.health, self.label.as_str());
        for (result, count) in [
            (EntryResult::Counted, entries.counted),
            (EntryResult::Duplicate, entries.duplicates),
            (EntryResult::Rejected, entries.rejected),
            (EntryResult::Ignored, entries.ignored),
        ] {
            health.error_log_entries.with_label_values(&[label, result.as_str()]).inc_by(count);
        }
        let lag = health.error_log_lag.with_label_values(&[label]);
        entries.lags.iter().for_each(|seconds| lag.observe(*seconds));
        if let Some(at) = entries.read_at {
            self.set(&health.error_log_last_success, seconds_between(Timestamp::UNIX_EPOCH, at));
        }
    }

    /// Records why a resource can't be read, and since when; `None` once it can be read again.
    pub fn trouble(&self, resource: Resource, problem: Option<(String, Timestamp)>) {
        self.health.troubles.set(&self.label, resource.as_str(), problem);
    }

    /// Records an attempt at a request to Twilio.
    pub fn api_request(&self, resource: Resource, code: Option<u16>, took: Duration) {
        let code = code.map_or_else(|| "none".to_owned(), |code| code.to_string());
        self.health
            .api_requests
            .with_label_values(&[self.label.as_str(), resource.as_str(), &code])
            .inc();
        self.health.observe_api_duration(resource.as_str(), took);
    }

    /// Records the account's concurrency limit and its requests in flight.
    pub fn api_concurrency(&self, limit: usize, in_flight: usize) {
        let as_float = |count: usize| as_float(u64::try_from(count).unwrap_or(u64::MAX));
        self.set(&self.health.api_concurrency_limit, as_float(limit));
        self.set(&self.health.api_in_flight, as_float(in_flight));
    }

    /// Records the concurrent requests that Twilio counts for the whole account.
    pub fn account_concurrency(&self, requests: u64) {
        self.set(&self.health.api_account_concurrent, as_float(requests));
    }

    /// Marks the account as catching up, before it is known how far it is behind.
    pub fn mark_catching_up(&self) {
        self.set(&self.health.catching_up, 1.0);
    }

    /// Records how far the account is behind, and its active calls.
    fn lag(&self, lag: &AccountLag) {
        self.set(&self.health.settling_overdue, lag.overdue.as_secs_f64());
        self.set(&self.health.catching_up, f64::from(u8::from(lag.is_catching_up)));
        self.set(&self.health.calls_unreadable, as_float(lag.unreadable));
        for stage in Stage::ALL {
            let count = lag.pending.get(stage.as_str()).copied().unwrap_or(0);
            self.health
                .calls_pending
                .with_label_values(&[self.label.as_str(), stage.as_str()])
                .set(as_float(count));
        }
        for (direction, status) in active() {
            let count = lag.active.get(&(direction, status)).copied().unwrap_or(0);
            self.health
                .calls_active
                .with_label_values(&[self.label.as_str(), direction.as_str(), status.as_str()])
                .set(as_float(count));
        }
    }

    /// Records the number of tracked calls.
    pub fn tracked_calls(&self, count: usize) {
        self.set(&self.health.tracked_calls, as_float(u64::try_from(count).unwrap_or(u64::MAX)));
    }

    /// Counts events and entries that are over a limit.
    pub fn route_overflow(&self, count: u64) {
        self.health.route_overflow.with_label_values(&[&self.label]).inc_by(count);
    }

    /// Counts endpoints that were retired after a long time without events.
    pub fn routes_retired(&self, count: u64) {
        self.health.routes_retired.with_label_values(&[&self.label]).inc_by(count);
    }

    fn add(&self, vec: &IntCounterVec, count: u64) {
        vec.with_label_values(&[&self.label]).inc_by(count);
    }

    fn set(&self, vec: &GaugeVec, value: f64) {
        vec.with_label_values(&[&self.label]).set(value);
    }
}

/// The directions and statuses of a call that isn't known to have ended.
fn active() -> impl Iterator<Item = (Direction, CallStatus)> {
    Direction::ALL.iter().flat_map(|direction| {
        let statuses = CallStatus::ALL.iter().filter(|status| !status.is_final());
        statuses.map(|status| (*direction, *status))
    })
}
