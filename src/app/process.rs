//! The `process_*` families, from the prometheus crate except for the start time.
//!
//! The crate derives the start time from the boot time in `/proc/stat`. With `ProcSubset=pid` in the unit, that file
//! doesn't exist, and the start time would be in 1970.

use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use jiff::Timestamp;
use prometheus::core::{Collector, Desc};
use prometheus::process_collector::ProcessCollector;
use prometheus::proto::{Gauge, MetricFamily};

use crate::domain::track::twilio_time::{before, seconds_between};

const START_TIME: &str = "process_start_time_seconds";
/// How far the start time may be off before it is corrected, in seconds. Every change looks like a restart, and the
/// wall clock and the monotonic clock are never read at exactly the same time.
const TOLERANCE: f64 = 1.0;

/// Collects the `process_*` families.
pub(super) struct Process<F> {
    families: ProcessCollector,
    started: Instant,
    wall: F,
    /// The last exposed start time, in Unix seconds.
    exposed: Mutex<f64>,
}

impl<F: Fn() -> Timestamp> Process<F> {
    /// Creates the collector of a process that starts now.
    pub(super) fn started_now(wall: F) -> Self {
        let exposed = Mutex::new(seconds_between(Timestamp::UNIX_EPOCH, wall()));
        Self { families: ProcessCollector::for_self(), started: Instant::now(), wall, exposed }
    }

    /// Returns the start time according to the current wall clock: if the clock steps, so does the start time.
    fn started_at(&self) -> f64 {
        let started_at = before((self.wall)(), self.started.elapsed());
        let started_at = seconds_between(Timestamp::UNIX_EPOCH, started_at);
        let mut exposed = self.exposed.lock().unwrap_or_else(PoisonError::into_inner);
        if (started_at - *exposed).abs() > TOLERANCE {
            *exposed = started_at;
        }
        *exposed
    }
}

impl<F: Fn() -> Timestamp + Send + Sync> Collector for Process<F> {
    fn desc(&self) -> Vec<&Desc> {
        self.families.desc()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let mut families = self.families.collect();
        let start = families.iter_mut().find(|family| family.name() == START_TIME);
        for metric in start.into_iter().flat_map(|family| family.mut_metric().iter_mut()) {
            let mut gauge = Gauge::default();
            gauge.set_value(self.started_at());
            metric.set_gauge(gauge);
        }
        families
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicI64, Ordering};

    use super::*;

    #[test]
    fn start_time_follows_the_wall_clock_and_other_families_are_unchanged() {
        let wall = AtomicI64::new(1_234_000);
        let process = Process::started_now(|| {
            Timestamp::from_millisecond(wall.load(Ordering::SeqCst)).expect("a time")
        });
        let value = |name: &str| {
            let families = process.collect();
            let family = families.iter().find(|family| family.name() == name).expect(name);
            family.get_metric()[0].get_gauge().get_value()
        };
        assert_eq!(value(START_TIME).to_bits(), 1_234_f64.to_bits());
        wall.fetch_add(900, Ordering::SeqCst);
        assert_eq!(
            value(START_TIME).to_bits(),
            1_234_f64.to_bits(),
            "jitter must not look like a restart"
        );
        wall.fetch_add(1_000_000_000, Ordering::SeqCst);
        let after_step = value(START_TIME);
        assert!((after_step - 1_001_234.9).abs() < 60.0, "{after_step}");
        assert_eq!(value(START_TIME).to_bits(), after_step.to_bits());
        assert!(value("process_resident_memory_bytes") > 0.0);
        assert_eq!(process.collect().len(), ProcessCollector::for_self().collect().len());
    }
}
