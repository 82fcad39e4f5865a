//! How many concurrent requests an account's reads need.
//!
//! Twilio limits concurrent requests, so the cost of a plan is its reads per second times their duration. If that
//! exceeds the account's limit, active calls are read less often.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::domain::track::twilio_time::moved;

/// The time over which rates are averaged, in seconds: long enough to smooth out a burst of calls.
const AVERAGED_OVER: f64 = 300.0;
/// The weight of one request's duration in the moving average.
const DURATION_WEIGHT: f64 = 0.05;
/// The share of the allowed concurrency that is always available to reads of active calls.
const LIVE_SHARE: f64 = 0.05;

/// The measurements that an account's demand is computed from.
#[derive(Clone, Debug, Default)]
pub struct Demand {
    /// The average duration of a request for Call Events, in seconds.
    request_seconds: Option<f64>,
    /// The average number of calls that end per second.
    ended_per_second: f64,
    ended: u32,
    measured_at: Option<Timestamp>,
}

/// How often calls are read according to the plan.
#[derive(Clone, Copy, Debug)]
pub struct ReadRates {
    /// The number of reads of a call after its end.
    pub after_end: f64,
    /// The number of active calls.
    pub active: usize,
    /// The time between two reads of an active call; `None` if active calls aren't read.
    pub live_interval: Option<Duration>,
}

impl Demand {
    /// Notes how long a request for Call Events took.
    pub fn request_took(&mut self, took: Duration) {
        let seconds = took.as_secs_f64();
        let average = self.request_seconds.get_or_insert(seconds);
        *average += (seconds - *average) * DURATION_WEIGHT;
    }

    /// Notes that `count` calls ended.
    pub fn calls_ended(&mut self, count: usize) {
        self.ended = self.ended.saturating_add(u32::try_from(count).unwrap_or(u32::MAX));
    }

    /// Updates the average rate of ended calls.
    pub fn measure(&mut self, now: Timestamp) {
        let Some(before) = self.measured_at else {
            self.measured_at = Some(now);
            self.ended = 0;
            return;
        };
        let seconds = now.duration_since(before).as_secs_f64();
        if seconds < 1.0 {
            return;
        }
        let rate = f64::from(std::mem::take(&mut self.ended)) / seconds;
        self.ended_per_second +=
            (rate - self.ended_per_second) * (1.0 - (-seconds / AVERAGED_OVER).exp());
        self.measured_at = Some(now);
    }

    /// Shifts the time of the last measurement with the account's time.
    pub fn shift(&mut self, by: SignedDuration) {
        self.measured_at = self.measured_at.map(|at| moved(at, by));
    }

    /// The number of concurrent requests that all planned reads need.
    pub fn required_concurrency(&self, rates: ReadRates) -> f64 {
        let live = rates
            .live_interval
            .map_or(0.0, |interval| count(rates.active) / interval.as_secs_f64().max(1.0));
        (self.ended_per_second * rates.after_end + live) * self.request_seconds.unwrap_or_default()
    }

    /// The shortest time between two reads of an active call that the account can afford, given the reads of ended
    /// calls.
    pub fn affordable_live_interval(&self, rates: ReadRates, max_concurrency: usize) -> Duration {
        let after_end = self.required_concurrency(ReadRates { live_interval: None, ..rates });
        let allowed = count(max_concurrency);
        let spare = (allowed - after_end).max(allowed * LIVE_SHARE);
        let seconds =
            count(rates.active) * self.request_seconds.unwrap_or_default() / spare.max(LIVE_SHARE);
        Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)
    }
}

fn count(number: usize) -> f64 {
    f64::from(u32::try_from(number).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn required_concurrency_is_reads_per_second_times_duration() {
        let demand = demand(10);
        let rates =
            ReadRates { after_end: 3.0, active: 600, live_interval: Some(Duration::from_secs(60)) };
        // (10 calls per second × 3 reads + 600 calls / 60 s) × 0.3 s.
        let required = demand.required_concurrency(rates);
        assert!((required - 12.0).abs() < 0.1, "{required}");
    }

    #[test]
    fn reads_of_active_calls_use_the_spare_concurrency() {
        let rates = ReadRates { after_end: 1.0, active: 3_300, live_interval: None };
        // Of 4 concurrent requests, 3 are needed for ended calls. The fourth makes 3.3 reads per second.
        let interval = demand(10).affordable_live_interval(rates, 4);
        assert!((980..1_000).contains(&interval.as_secs()), "{interval:?}");
        // If none is spare, active calls still get a twentieth of the concurrency.
        let interval = demand(100).affordable_live_interval(rates, 4);
        assert_eq!(interval.as_secs(), 4_950);
    }

    fn demand(per_second: usize) -> Demand {
        let mut demand = Demand::default();
        demand.request_took(Duration::from_millis(300));
        for second in 0..3_600 {
            demand.calls_ended(per_second);
            demand.measure(Timestamp::from_second(second).expect("an instant"));
        }
        demand
    }
}
