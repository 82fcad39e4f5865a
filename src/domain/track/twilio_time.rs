//! Twilio's time, estimated from the `Date` headers of its own answers.
//!
//! All comparisons with Twilio's times use it, so that a wrong local clock loses nothing. No single
//! `Date` is believed: the offset in use is one that several answers agree on.

use std::collections::VecDeque;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

/// How many offsets the median is taken of: with [`SPACING`], five minutes of polling.
const SAMPLES: usize = 15;
/// Time between two offsets that are kept, so that a burst of odd answers counts as one.
const SPACING: Duration = Duration::from_secs(20);
/// How many answers have to agree.
const WITNESSES: usize = 3;
/// How far apart offsets that agree may lie: a slow answer is seconds old when it arrives.
const AGREEMENT: SignedDuration = SignedDuration::from_secs(5);
/// A step of the offset that is plausible at once: clocks that are not synchronised are off by minutes.
const PLAUSIBLE: SignedDuration = SignedDuration::from_mins(2);
/// How long answers must agree before an implausible offset is believed at the start.
const FIRST_SPREAD: SignedDuration = SignedDuration::from_secs(30);
/// How long answers must agree before the offset in use makes an implausible step.
const SPREAD: SignedDuration = SignedDuration::from_mins(2);
/// A smaller change of the median is noise: the resolution of `Date` is a second.
const NOISE: SignedDuration = SignedDuration::from_millis(500);
/// A `Date` header is cut to the second: on average it lies half a second back.
const HALF_RESOLUTION: SignedDuration = SignedDuration::from_millis(500);

/// The offset of Twilio's clock from the local one.
#[derive(Clone, Debug, Default)]
pub struct TwilioTime {
    samples: VecDeque<Sample>,
    /// Answers without a `Date`, while there was none with one.
    undated: usize,
    in_use: Option<SignedDuration>,
}

#[derive(Clone, Copy, Debug)]
struct Sample {
    offset: SignedDuration,
    taken_at: Timestamp,
}

impl TwilioTime {
    /// Notes the `Date` of one of Twilio's 200s, which arrived at a local time. Returns how far the
    /// offset in use moved.
    ///
    /// Answers that never have a `Date` leave only the local clock to believe.
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

    /// The offset to use from now on, if there is one to believe and it is not the one in use.
    fn agreed(&self) -> Option<SignedDuration> {
        if self.samples.is_empty() {
            let has_only_local = !self.is_known() && self.undated >= WITNESSES;
            return has_only_local.then_some(SignedDuration::ZERO);
        }
        let mut sorted: Vec<_> = self.samples.iter().map(|sample| sample.offset).collect();
        sorted.sort_unstable();
        let median = *sorted.get(sorted.len() / 2)?;
        let agreeing =
            || self.samples.iter().filter(|sample| (sample.offset - median).abs() <= AGREEMENT);
        let count = agreeing().count();
        let (first, last) = (agreeing().next()?, agreeing().next_back()?);
        let spread = last.taken_at.duration_since(first.taken_at);
        let step = (median - self.in_use.unwrap_or_default()).abs();
        let wanted_spread = if self.is_known() { SPREAD } else { FIRST_SPREAD };
        let is_believed = count >= WITNESSES
            && 2 * count > self.samples.len()
            && (step <= PLAUSIBLE || spread >= wanted_spread);
        let is_news = self.in_use.is_none() || step > NOISE;
        (is_believed && is_news).then_some(median)
    }

    /// Whether there is an offset to believe.
    pub fn is_known(&self) -> bool {
        self.in_use.is_some()
    }

    /// Whether answers came that should have been enough, but contradict each other or, for less than
    /// half a minute, the local clock.
    pub fn is_doubtful(&self) -> bool {
        !self.is_known() && self.samples.len() > WITNESSES
    }

    /// The offset in use: what is added to the local time.
    pub fn offset(&self) -> SignedDuration {
        self.in_use.unwrap_or_default()
    }

    /// Twilio's time at a local time.
    pub fn at(&self, local: Timestamp) -> Timestamp {
        local.saturating_add(self.offset()).unwrap_or(local)
    }
}

/// The seconds from one instant to a later one, 0 if it isn't later.
pub fn seconds_between(earlier: Timestamp, later: Timestamp) -> f64 {
    later.duration_since(earlier).as_secs_f64().max(0.0)
}

/// An instant moved by a duration, clamped to the calendar's ends.
pub fn after(instant: Timestamp, delay: Duration) -> Timestamp {
    instant.saturating_add(delay).unwrap_or(Timestamp::MAX)
}

/// An instant moved back by a duration, clamped to the calendar's ends.
pub fn before(instant: Timestamp, delay: Duration) -> Timestamp {
    instant.saturating_sub(delay).unwrap_or(Timestamp::MIN)
}

/// An instant moved by an offset in either direction, clamped to the calendar's ends.
pub fn moved(instant: Timestamp, by: SignedDuration) -> Timestamp {
    let end = if by.is_negative() { Timestamp::MIN } else { Timestamp::MAX };
    instant.saturating_add(by).unwrap_or(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAYS: i64 = 86_400;

    #[test]
    fn three_answers_that_agree_with_the_local_clock_are_believed_at_once() {
        let mut time = TwilioTime::default();
        for (count, expected) in [(1, false), (2, false), (3, true)] {
            observe(&mut time, 0, 30);
            assert_eq!(time.is_known(), expected, "after {count}");
        }
        assert_eq!(time.offset().as_secs(), 30);
    }

    #[test]
    fn a_wrong_local_clock_is_corrected_once_answers_agreed_for_half_a_minute() {
        let mut time = TwilioTime::default();
        for second in (0..30).step_by(5) {
            observe(&mut time, second, 7_200);
            assert!(!time.is_known());
        }
        observe(&mut time, 30, 7_200);
        assert_eq!(time.at(at(31)), at(31 + 7_200) + HALF_RESOLUTION);
    }

    #[test]
    fn odd_dates_at_the_start_delay_it_and_are_not_believed() {
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
    fn a_burst_of_odd_dates_moves_nothing() {
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
    fn a_new_offset_that_answers_agree_on_for_minutes_is_followed() {
        let mut time = known();
        let mut moved = SignedDuration::ZERO;
        let seconds = (30..600).step_by(10);
        let moved_at = seconds.filter(|&second| {
            moved += observe(&mut time, second, 1_800);
            moved.as_secs() == 1_800
        });
        assert!((150..330).contains(&moved_at.min().expect("followed")));
        assert_eq!(time.offset().as_secs(), 1_800);
    }

    #[test]
    fn dates_that_jitter_by_their_resolution_move_nothing() {
        let mut time = known();
        for step in 0..100 {
            let date = at(20 * step) + SignedDuration::from_millis(300 * (step % 2));
            assert!(time.observe(Some(date), at(20 * step)).is_zero());
        }
    }

    #[test]
    fn without_any_date_the_local_clock_has_to_do() {
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
        Timestamp::from_second(1_700_000_000 + second).expect("an instant")
    }
}
