//! Metrics about the exporter itself, since it started.
//!
//! They are instruments of the `prometheus` crate, created from the catalogue.

mod account;
mod removal;
mod trouble;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use prometheus::{GaugeVec, HistogramOpts, HistogramVec, IntCounterVec, Opts, Registry};

use crate::domain::engine::request::Resource;
use crate::domain::words::label::label_enum;

use super::catalog::{self, Family, FamilyKind};
use super::exposition::as_float;

pub use account::{AccountHealth, EntryResult, EventResult};
pub use trouble::{Troubles, UnreadableResource};

label_enum! {
    /// The result of a request that pushes error log entries.
    pub enum PushResult {
        /// Its entries have been counted, now or earlier.
        Counted = "counted",
        /// It isn't validly signed, is unreadable, or is too large.
        Refused = "refused",
        /// It couldn't be counted yet; Twilio will push it again.
        Deferred = "deferred",
    }
}

/// All instruments about the exporter.
#[derive(Clone, Debug)]
pub struct Health {
    account_info: GaugeVec,
    calls_active: GaugeVec,
    up: GaugeVec,
    last_success: GaugeVec,
    poll_interval: GaugeVec,
    pass_duration: HistogramVec,
    api_requests: IntCounterVec,
    api_duration: HistogramVec,
    api_retries: IntCounterVec,
    api_concurrency_limit: GaugeVec,
    api_required_concurrency: GaugeVec,
    api_in_flight: GaugeVec,
    api_account_concurrent: GaugeVec,
    calls_pending: GaugeVec,
    tracked_calls: GaugeVec,
    calls_deferred: IntCounterVec,
    settling_overdue: GaugeVec,
    catching_up: GaugeVec,
    calls_unreadable: GaugeVec,
    skipped_seconds: prometheus::CounterVec,
    event_lag: HistogramVec,
    call_events: IntCounterVec,
    error_log_lag: HistogramVec,
    error_log_entries: IntCounterVec,
    error_log_last_success: GaugeVec,
    call_events_rejected: IntCounterVec,
    call_events_unjudged: IntCounterVec,
    calls_rejected: IntCounterVec,
    call_reads: IntCounterVec,
    audited_calls: IntCounterVec,
    late_call_events: IntCounterVec,
    route_overflow: IntCounterVec,
    routes_retired: IntCounterVec,
    clock_offset: GaugeVec,
    /// How far Twilio's clock is ahead of the local time, once known.
    twilio_ahead: Arc<Mutex<Option<SignedDuration>>>,
    config_reloaded: GaugeVec,
    pushes: IntCounterVec,
    http_connections_cut: IntCounterVec,
    store_created: GaugeVec,
    store_commit_duration: HistogramVec,
    store_errors: IntCounterVec,
    store_writable: GaugeVec,
    store_size: GaugeVec,
    troubles: Troubles,
}

impl Health {
    /// Creates the instruments and registers them.
    pub fn register(registry: &Registry) -> prometheus::Result<Self> {
        let build_info = gauge(registry, &catalog::BUILD_INFO)?;
        build_info
            .with_label_values(&[
                env!("CARGO_PKG_VERSION"),
                std::env::consts::OS,
                std::env::consts::ARCH,
            ])
            .set(1.0);
        let health = Self {
            account_info: gauge(registry, &catalog::ACCOUNT_INFO)?,
            calls_active: gauge(registry, &catalog::CALLS_ACTIVE)?,
            up: gauge(registry, &catalog::UP)?,
            last_success: gauge(registry, &catalog::LAST_SUCCESS)?,
            poll_interval: gauge(registry, &catalog::POLL_INTERVAL)?,
            pass_duration: histogram(registry, &catalog::PASS_DURATION)?,
            api_requests: counter(registry, &catalog::API_REQUESTS)?,
            api_duration: histogram(registry, &catalog::API_DURATION)?,
            api_retries: counter(registry, &catalog::API_RETRIES)?,
            api_concurrency_limit: gauge(registry, &catalog::API_CONCURRENCY_LIMIT)?,
            api_required_concurrency: gauge(registry, &catalog::API_REQUIRED_CONCURRENCY)?,
            api_in_flight: gauge(registry, &catalog::API_IN_FLIGHT)?,
            api_account_concurrent: gauge(registry, &catalog::API_ACCOUNT_CONCURRENT)?,
            calls_pending: gauge(registry, &catalog::CALLS_PENDING)?,
            tracked_calls: gauge(registry, &catalog::TRACKED_CALLS)?,
            calls_deferred: counter(registry, &catalog::CALLS_DEFERRED)?,
            settling_overdue: gauge(registry, &catalog::SETTLING_OVERDUE)?,
            catching_up: gauge(registry, &catalog::CATCHING_UP)?,
            calls_unreadable: gauge(registry, &catalog::CALLS_UNREADABLE)?,
            skipped_seconds: {
                let family = &catalog::SKIPPED_SECONDS;
                let vec = prometheus::CounterVec::new(opts(family), family.labels)?;
                registry.register(Box::new(vec.clone()))?;
                vec
            },
            event_lag: histogram(registry, &catalog::EVENT_LAG)?,
            call_events: counter(registry, &catalog::CALL_EVENTS)?,
            error_log_lag: histogram(registry, &catalog::ERROR_LOG_LAG)?,
            error_log_entries: counter(registry, &catalog::ERROR_LOG_ITEMS)?,
            error_log_last_success: gauge(registry, &catalog::ERROR_LOG_LAST_SUCCESS)?,
            call_events_rejected: counter(registry, &catalog::CALL_EVENTS_REJECTED)?,
            call_events_unjudged: counter(registry, &catalog::CALL_EVENTS_UNJUDGED)?,
            calls_rejected: counter(registry, &catalog::CALLS_REJECTED)?,
            call_reads: counter(registry, &catalog::CALL_READS)?,
            audited_calls: counter(registry, &catalog::AUDITED_CALLS)?,
            late_call_events: counter(registry, &catalog::LATE_CALL_EVENTS)?,
            route_overflow: counter(registry, &catalog::ROUTE_OVERFLOW)?,
            routes_retired: counter(registry, &catalog::ROUTES_RETIRED)?,
            clock_offset: gauge(registry, &catalog::CLOCK_OFFSET)?,
            twilio_ahead: Arc::default(),
            config_reloaded: gauge(registry, &catalog::CONFIG_RELOADED)?,
            pushes: counter(registry, &catalog::PUSHES)?,
            http_connections_cut: counter(registry, &catalog::HTTP_CONNECTIONS_CUT)?,
            store_created: gauge(registry, &catalog::STORE_CREATED)?,
            store_commit_duration: histogram(registry, &catalog::STORE_COMMIT_DURATION)?,
            store_errors: counter(registry, &catalog::STORE_ERRORS)?,
            store_writable: gauge(registry, &catalog::STORE_WRITABLE)?,
            store_size: gauge(registry, &catalog::STORE_SIZE)?,
            troubles: Troubles::default(),
        };
        health.http_connections_cut.with_label_values::<&str>(&[]);
        health.store_errors.with_label_values::<&str>(&[]);
        health.store_commit_duration.with_label_values::<&str>(&[]);
        for resource in Resource::ALL {
            health.api_duration.with_label_values(&[resource.as_str()]);
        }
        Ok(health)
    }

    /// Returns the instruments of one account. Series whose labels are known in advance start at 0;
    /// existing series keep their values.
    pub fn account(&self, label: &str, account_sid: &str, status: &str) -> AccountHealth {
        let account = AccountHealth { health: self.clone(), label: label.to_owned() };
        account.init_series();
        // Last, so that an account in `account_info` has all its series.
        self.account_info.with_label_values(&[label, account_sid, status]).set(1.0);
        account
    }

    /// Records a change of an account's status at Twilio.
    pub fn account_status(&self, label: &str, account_sid: &str, before: &str, status: &str) {
        // The series has existed since polling of the account began.
        let _absent = self.account_info.remove_label_values(&[label, account_sid, before]);
        self.account_info.with_label_values(&[label, account_sid, status]).set(1.0);
    }

    /// Records whether the last loaded configuration was valid.
    pub fn config_loaded(&self, is_valid: bool) {
        let value = if is_valid { 1.0 } else { 0.0 };
        self.config_reloaded.with_label_values::<&str>(&[]).set(value);
    }

    /// Creates the series of pushes at 0, once pushes are accepted.
    pub fn init_push_series(&self) {
        for result in PushResult::ALL {
            self.pushes.with_label_values(&[result.as_str()]);
        }
    }

    /// Counts a push by its result.
    pub fn pushed(&self, result: PushResult) {
        self.pushes.with_label_values(&[result.as_str()]).inc();
    }

    /// Counts a connection that was refused because too many were open.
    pub fn count_refused_connection(&self) {
        self.http_connections_cut.with_label_values::<&str>(&[]).inc();
    }

    /// Records that the store is open, and when it was created.
    pub fn store_opened(&self, created_at: Timestamp) {
        self.store_created(created_at);
        self.store_writable.with_label_values::<&str>(&[]).set(1.0);
    }

    /// Records when the store was created.
    pub fn store_created(&self, at: Timestamp) {
        let seconds = at.duration_since(Timestamp::UNIX_EPOCH).as_secs_f64().max(0.0);
        self.store_created.with_label_values::<&str>(&[]).set(seconds);
    }

    /// Records a commit or a failed attempt at one.
    pub fn committed(&self, took: Duration, succeeded: bool) {
        self.store_commit_duration.with_label_values::<&str>(&[]).observe(took.as_secs_f64());
        self.store_writable(succeeded);
        if !succeeded {
            self.store_errors.with_label_values::<&str>(&[]).inc();
        }
    }

    /// Records whether the store can be written.
    pub fn store_writable(&self, is_writable: bool) {
        let value = if is_writable { 1.0 } else { 0.0 };
        self.store_writable.with_label_values::<&str>(&[]).set(value);
    }

    /// Records the size of the store's files.
    pub fn store_size(&self, bytes: u64) {
        self.store_size.with_label_values::<&str>(&[]).set(as_float(bytes));
    }

    /// Returns the resources that can't currently be read.
    pub fn troubles(&self) -> Troubles {
        self.troubles.clone()
    }

    /// Records how far Twilio's clock is ahead of the local time.
    pub fn twilio_ahead(&self, by: SignedDuration) {
        *self.twilio_ahead.lock().unwrap_or_else(PoisonError::into_inner) = Some(by);
    }

    /// Sets the offset of Twilio's clock from the wall clock, given how far the wall clock is ahead of the
    /// local time.
    pub fn compare_clocks(&self, step: SignedDuration) {
        if let Some(ahead) = self.known_ahead() {
            let offset = (ahead - step).as_secs_f64();
            self.clock_offset.with_label_values::<&str>(&[]).set(offset);
        }
    }

    /// Returns Twilio's time at a local time, once the difference is known.
    pub fn twilio_time(&self, local: Timestamp) -> Option<Timestamp> {
        self.known_ahead().and_then(|ahead| local.checked_add(ahead).ok())
    }

    fn known_ahead(&self) -> Option<SignedDuration> {
        *self.twilio_ahead.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records the duration of a request to Twilio.
    fn observe_api_duration(&self, resource: &str, took: Duration) {
        self.api_duration.with_label_values(&[resource]).observe(took.as_secs_f64());
    }
}

fn opts(family: &Family) -> Opts {
    Opts::new(family.name, family.help)
}

fn counter(registry: &Registry, family: &Family) -> prometheus::Result<IntCounterVec> {
    let vec = IntCounterVec::new(opts(family), family.labels)?;
    registry.register(Box::new(vec.clone()))?;
    Ok(vec)
}

fn gauge(registry: &Registry, family: &Family) -> prometheus::Result<GaugeVec> {
    let vec = GaugeVec::new(opts(family), family.labels)?;
    registry.register(Box::new(vec.clone()))?;
    Ok(vec)
}

fn histogram(registry: &Registry, family: &Family) -> prometheus::Result<HistogramVec> {
    let buckets = match family.kind {
        FamilyKind::Histogram(bounds) => bounds.to_vec(),
        FamilyKind::Counter | FamilyKind::Gauge => Vec::new(),
    };
    let options = HistogramOpts::new(family.name, family.help).buckets(buckets);
    let vec = HistogramVec::new(options, family.labels)?;
    registry.register(Box::new(vec.clone()))?;
    Ok(vec)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_offset_is_twilios_time_minus_the_wall_clock() {
        let registry = Registry::new();
        let health = Health::register(&registry).expect("instruments");
        let offset = |step| {
            health.compare_clocks(SignedDuration::from_secs(step));
            let families = registry.gather();
            let name = catalog::CLOCK_OFFSET.name;
            let family = families.iter().find(|family| family.name() == name)?;
            Some(family.get_metric()[0].get_gauge().get_value())
        };
        assert_eq!(offset(0), None, "Twilio's time isn't known yet");
        // The wall clock starts two years behind and is then corrected.
        health.twilio_ahead(SignedDuration::from_secs(63_072_000));
        assert_eq!(offset(0), Some(63_072_000.0));
        assert_eq!(offset(63_072_000), Some(0.0));
        assert_eq!(offset(63_072_030), Some(-30.0));
        let local = Timestamp::from_second(1_700_000_000).expect("a time");
        let twilio = health.twilio_time(local).map(Timestamp::as_second);
        assert_eq!(twilio, Some(1_763_072_000));
    }
}
