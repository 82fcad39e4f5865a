//! Twilio's time, estimated from the `Date` headers of its responses.
//!
//! All comparisons with Twilio's timestamps use this estimate, so a wrong local clock loses no data. No
//! single `Date` is trusted: several responses must agree on an offset before it is used.

use std::collections::VecDeque;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

/// The number of offsets in the median: with [`SPACING`], five minutes of polling.
const SAMPLES: usize = 15;
/// The minimum time between two samples, so that a burst of wrong dates counts as one.
const SPACING: Duration = Duration::from_secs(20);
/// The number of responses that must agree.
const MIN_AGREEING: usize = 3;
/// The largest distance from the median of an offset that agrees: a slow response is seconds old on arrival.
const TOLERANCE: SignedDuration = SignedDuration::from_secs(5);
/// The largest step of the offset that is accepted at once: unsynchronised clocks are off by minutes.
const PLAUSIBLE_STEP: SignedDuration = SignedDuration::from_mins(2);
/// How long responses must agree before a larger first offset is accepted.
const FIRST_MIN_SPREAD: SignedDuration = SignedDuration::from_secs(30);
/// How long responses must agree before a larger step of the current offset is accepted.
const MIN_SPREAD: SignedDuration = SignedDuration::from_mins(2);
/// Changes of the median up to this size are noise: the resolution of `Date` is one second.
const NOISE: SignedDuration = SignedDuration::from_millis(500);
/// A `Date` header is truncated to the second, so on average it is half a second behind.
const HALF_RESOLUTION: SignedDuration = SignedDuration::from_millis(500);

/// The offset of Twilio's clock from the local clock.
#[derive(Clone, Debug, Default)]
pub struct TwilioTime {
    samples: VecDeque<Sample>,
    /// The number of responses without a `Date` before the first with one.
    undated: usize,
    in_use: Option<SignedDuration>,
}

#[derive(Clone, Copy, Debug)]
struct Sample {
    offset: SignedDuration,
    taken_at: Timestamp,
}

impl TwilioTime {
    /// Records the `Date` of a 200 response from Twilio and the local time of its arrival. Returns the change
    /// of the current offset.
    ///
    /// If no response has a `Date`, the local clock is used.
    pub fn observe(&mut self, date: Option<Timestamp>, local: Timestamp) -> SignedDuration {
        match date {
            Some(date) => self.sample((date + HALF_RESOLUTION).duration_since(local), local),
            None if self.samples.is_empty() => self.undated += 1,
            None => {}
        }
        let Some(agreed) = self.agreed() else { return SignedDuration::ZERO };
        let before = self.in_use.replace(agreed).unwrap_or_default();
        agreed - before
    }

    fn sample(&mut self, offset: SignedDuration, local: Timestamp) {
        let is_too_soon =
            self.samples.back().is_some_and(|last| local < after(last.taken_at, SPACING));
        if self.is_known() && is_too_soon {
            return;
        }
        if self.samples.len() == SAMPLES {
            self.samples.pop_front();
        }
        self.samples.push_back(Sample { offset, taken_at: local });
    }

    /// Returns the new offset if the responses agree on one that differs from the current offset.
    fn agreed(&self) -> Option<SignedDuration> {
        if self.samples.is_empty() {
            let has_only_local = !self.is_known() && self.undated >= MIN_AGREEING;
            return has_only_local.then_some(SignedDuration::ZERO);
        }
        let mut sorted: Vec<_> = self.samples.iter().map(|sample| sample.offset).collect();
        sorted.sort_unstable();
        let median = *sorted.get(sorted.len() / 2)?;
        let agreeing =
            || self.samples.iter().filter(|sample| (sample.offset - median).abs() <= TOLERANCE);
        let count = agreeing().count();
        let (first, last) = (agreeing().next()?, agreeing().next_back()?);
        let spread = last.taken_at.duration_since(first.taken_at);
        let step = (median - self.in_use.unwrap_or_default()).abs();
        let min_spread = if self.is_known() { MIN_SPREAD } else { FIRST_MIN_SPREAD };
        let is_accepted = count >= MIN_AGREEING
            && 2 * count > self.samples.len()
            && (step <= PLAUSIBLE_STEP || spread >= min_spread);
        let has_changed = self.in_use.is_none() || step > NOISE;
        (is_accepted && has_changed).then_some(median)
    }

    /// Whether an offset has been established.
    pub fn is_known(&self) -> bool {
        self.in_use.is_some()
    }

    /// Whether there are enough responses, but no offset yet: they disagree with each other, or have disagreed
    /// with the local clock for less than half a minute.
    pub fn is_doubtful(&self) -> bool {
        !self.is_known() && self.samples.len() > MIN_AGREEING
    }

    /// Returns the current offset, to be added to the local time.
    pub fn offset(&self) -> SignedDuration {
        self.in_use.unwrap_or_default()
    }

    /// Returns Twilio's time at a local time.
    pub fn at(&self, local: Timestamp) -> Timestamp {
        local.saturating_add(self.offset()).unwrap_or(local)
    }
}

/// Returns the seconds from one instant to a later one, or 0 if it isn't later.
pub fn seconds_between(earlier: Timestamp, later: Timestamp) -> f64 {
    later.duration_since(earlier).as_secs_f64().max(0.0)
}

/// Returns the instant plus a duration, clamped to the supported range.
pub fn after(instant: Timestamp, delay: Duration) -> Timestamp {
    instant.saturating_add(delay).unwrap_or(Timestamp::MAX)
}

/// Returns the instant minus a duration, clamped to the supported range.
pub fn before(instant: Timestamp, delay: Duration) -> Timestamp {
    instant.saturating_sub(delay).unwrap_or(Timestamp::MIN)
}

/// Returns the instant plus a signed offset, clamped to the supported range.
pub fn moved(instant: Timestamp, by: SignedDuration) -> Timestamp {
    let end = if by.is_negative() { Timestamp::MIN } else { Timestamp::MAX };
    instant.saturating_add(by).unwrap_or(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAYS: i64 = 86_400;

    #[test]
    fn three_responses_that_agree_with_the_local_clock_are_accepted_at_once() {
        let mut time = TwilioTime::default();
        for (count, expected) in [(1, false), (2, false), (3, true)] {
            observe(&mut time, 0, 30);
            assert_eq!(time.is_known(), expected, "after {count}");
        }
        assert_eq!(time.offset().as_secs(), 30);
    }

    #[test]
    fn a_wrong_local_clock_is_corrected_after_half_a_minute_of_agreement() {
        let mut time = TwilioTime::default();
        for second in (0..30).step_by(5) {
            observe(&mut time, second, 7_200);
            assert!(!time.is_known());
        }
        observe(&mut time, 30, 7_200);
        assert_eq!(time.at(at(31)), at(31 + 7_200) + HALF_RESOLUTION);
    }

    #[test]
    fn wrong_dates_at_the_start_delay_the_offset_and_are_ignored() {
        let mut time = TwilioTime::default();
        for offset in [40 * DAYS, 40 * DAYS, 0, 0] {
            observe(&mut time, 0, offset);
            assert!(!time.is_known());
        }
        assert!(time.is_doubtful());
        observe(&mut time, 1, 0);
        assert_eq!(time.offset(), HALF_RESOLUTION);
    }

    #[test]
    fn a_burst_of_wrong_dates_does_not_change_the_offset() {
        let mut time = known();
        for _ in 0..100 {
            observe(&mut time, 30, 1_800);
        }
        for second in [50, 70] {
            observe(&mut time, second, 1_800);
        }
        assert_eq!(time.offset(), HALF_RESOLUTION);
    }

    #[test]
    fn a_new_offset_is_accepted_after_minutes_of_agreement() {
        let mut time = known();
        let mut moved = SignedDuration::ZERO;
        let seconds = (30..600).step_by(10);
        let moved_at = seconds.filter(|&second| {
            moved += observe(&mut time, second, 1_800);
            moved.as_secs() == 1_800
        });
        assert!((150..330).contains(&moved_at.min().expect("new offset accepted")));
        assert_eq!(time.offset().as_secs(), 1_800);
    }

    #[test]
    fn jitter_within_the_resolution_does_not_change_the_offset() {
        let mut time = known();
        for step in 0..100 {
            let date = at(20 * step) + SignedDuration::from_millis(300 * (step % 2));
            assert!(time.observe(Some(date), at(20 * step)).is_zero());
        }
    }

    #[test]
    fn the_local_clock_is_used_if_no_response_has_a_date() {
        let mut time = TwilioTime::default();
        for _ in 0..3 {
            assert!(!time.is_known());
            time.observe(None, at(0));
        }
        assert!(time.is_known() && time.offset().is_zero());
    }

    fn known() -> TwilioTime {
        let mut time = TwilioTime::default();
        for second in [0, 1, 2] {
            observe(&mut time, second, 0);
        }
        assert!(time.is_known());
        time
    }

    fn observe(time: &mut TwilioTime, second: i64, offset: i64) -> SignedDuration {
        time.observe(Some(at(second + offset)), at(second))
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_700_000_000 + second).expect("valid timestamp")
    }
}
