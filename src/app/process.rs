//! The `process_*` families: those of the prometheus crate, except for the start time.
//!
//! The crate derives the start time from the boot time in `/proc/stat`. Where `/proc` shows processes
//! alone (`ProcSubset=pid` in the unit) there is no such file, and the start would be 1970.

use jiff::Timestamp;
use prometheus::core::{Collector, Desc};
use prometheus::process_collector::ProcessCollector;
use prometheus::proto::{Gauge, MetricFamily};

use crate::domain::twilio_time::seconds_between;

const START_TIME: &str = "process_start_time_seconds";

/// What is known of this process.
pub(super) struct Process {
    families: ProcessCollector,
    /// In seconds since 1970.
    started_at: f64,
}

impl Process {
    /// This process, which started at this time.
    pub(super) fn started_at(at: Timestamp) -> Self {
        let started_at = seconds_between(Timestamp::UNIX_EPOCH, at);
        Self { families: ProcessCollector::for_self(), started_at }
    }
}

impl Collector for Process {
    fn desc(&self) -> Vec<&Desc> {
        self.families.desc()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let mut families = self.families.collect();
        let start = families.iter_mut().find(|family| family.name() == START_TIME);
        for metric in start.into_iter().flat_map(|family| family.mut_metric().iter_mut()) {
            let mut gauge = Gauge::default();
            gauge.set_value(self.started_at);
            metric.set_gauge(gauge);
        }
        families
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_start_time_is_the_given_one_and_the_other_families_stay() {
        let families =
            Process::started_at(Timestamp::from_second(1_234).expect("a time")).collect();
        let value = |name: &str| {
            let family = families.iter().find(|family| family.name() == name).expect(name);
            family.get_metric()[0].get_gauge().get_value()
        };
        assert_eq!(value(START_TIME).to_bits(), 1_234_f64.to_bits());
        assert!(value("process_resident_memory_bytes") > 0.0);
        assert_eq!(families.len(), ProcessCollector::for_self().collect().len());
    }
}
