//! Tracks how long reads of a call's events have failed, and decides when to give the call up.
//!
//! Invariant: no call is given up because of an outage. An attempt counts against its call only if another
//! call of the account was read since the previous attempt, and each kind of failure has its own clock.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::domain::track::twilio_time::{after, moved};

/// The minimum number of counting failures of one kind before a call is given up.
const MIN_ATTEMPTS: u32 = 8;
/// The number of counting attempts from which a call is considered to fail on its own. If one request in ten
/// fails by chance, four attempts in a row fail for one call in ten thousand.
const MIN_OWN_ATTEMPTS: u32 = 3;
/// The most that one attempt adds to its clock: waits between attempts are at most ten minutes.
const MAX_GAP: Duration = Duration::from_secs(15 * 60);
/// How long to keep trying a call if Twilio responds but doesn't show its events.
const RETRY_ANSWERED: Duration = Duration::from_secs(60 * 60);
/// How long to keep trying a call if Twilio fails, which may be temporary.
const RETRY_FAILED: Duration = Duration::from_secs(24 * 60 * 60);
/// A call is given up after this time for any reason: Twilio keeps Call Events for 30 days.
const MAX_AGE: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// Why a read of a call's events failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ReadFailure {
    /// Twilio doesn't know the call (404).
    NotFound,
    /// Twilio refuses to show the call's events (401, 403).
    Refused,
    /// Twilio responds, but not with a complete list of events.
    Unreadable,
    /// Twilio failed or couldn't be reached.
    Failed,
}

impl ReadFailure {
    fn retry_time(self) -> Duration {
        match self {
            Self::NotFound | Self::Refused | Self::Unreadable => RETRY_ANSWERED,
            Self::Failed => RETRY_FAILED,
        }
    }
}

/// The failures since a call's events were last read, if any. Boxed because few calls have any.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Failing(Option<Box<Failures>>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Failures {
    count: u32,
    since: Timestamp,
    last_at: Timestamp,
    clocks: Vec<Clock>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Clock {
    failure: ReadFailure,
    attempts: u32,
    elapsed: Duration,
}

impl Failing {
    /// Returns the number of consecutive failures; the wait before the next attempt grows with it.
    pub fn count(&self) -> u32 {
        self.0.as_ref().map_or(0, |failures| failures.count)
    }

    /// Returns the time of the first of these failures.
    pub fn since(&self) -> Option<Timestamp> {
        self.0.as_ref().map(|failures| failures.since)
    }

    /// Whether the call fails on its own: several attempts failed, and another call of the account was read
    /// before each of them.
    pub fn is_on_its_own(&self) -> bool {
        let clocks = self.0.iter().flat_map(|failures| &failures.clocks);
        clocks.map(|clock| clock.attempts).sum::<u32>() >= MIN_OWN_ATTEMPTS
    }

    /// Records a failed attempt; `others_read_at` is when another call of the account was last read.
    /// Returns whether to give the call up.
    pub fn fail(
        &mut self,
        failure: ReadFailure,
        others_read_at: Option<Timestamp>,
        now: Timestamp,
    ) -> bool {
        let Some(failures) = &mut self.0 else {
            let first = Failures { count: 1, since: now, last_at: now, clocks: Vec::new() };
            self.0 = Some(Box::new(first));
            return false;
        };
        let Failures { count, since, last_at, clocks } = failures.as_mut();
        *count = count.saturating_add(1);
        let before = std::mem::replace(last_at, now);
        let is_expired = after(*since, MAX_AGE) < now;
        if others_read_at <= Some(before) {
            return is_expired;
        }
        let gap = Duration::try_from(now.duration_since(before)).unwrap_or_default();
        let known = clocks.iter().position(|clock| clock.failure == failure);
        let at = known.unwrap_or(clocks.len());
        if known.is_none() {
            clocks.push(Clock { failure, attempts: 0, elapsed: Duration::ZERO });
        }
        let clock = &mut clocks[at];
        clock.attempts += 1;
        clock.elapsed += gap.min(MAX_GAP);
        let is_exhausted = clock.attempts >= MIN_ATTEMPTS && clock.elapsed >= failure.retry_time();
        is_exhausted || is_expired
    }

    /// Shifts its times when the estimate of Twilio's time moves.
    pub fn shift(&mut self, by: SignedDuration) {
        if let Some(failures) = &mut self.0 {
            failures.since = moved(failures.since, by);
            failures.last_at = moved(failures.last_at, by);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3_600;

    #[test]
    fn a_call_that_fails_on_its_own_is_given_up_after_the_retry_time() {
        for (failure, hours) in [
            (ReadFailure::NotFound, 1),
            (ReadFailure::Refused, 1),
            (ReadFailure::Unreadable, 1),
            (ReadFailure::Failed, 24),
        ] {
            let mut failing = Failing::default();
            let tries =
                (0..).step_by(300).take_while(|&at| !failing.fail(failure, other(at), now(at)));
            assert_eq!(tries.last(), Some(hours * HOUR - 300), "{failure:?}");
        }
    }

    #[test]
    fn no_call_is_given_up_because_of_an_outage() {
        for failure in [ReadFailure::NotFound, ReadFailure::Refused, ReadFailure::Failed] {
            let mut failing = Failing::default();
            let mut fail = |at, others| failing.fail(failure, others, now(at));
            assert!((0..29 * 24 * 6).all(|ten_minutes| !fail(ten_minutes * 600, None)));
            // The outage ends: another call was read, and this one fails once more.
            let end = 29 * 24 * HOUR;
            assert!(!fail(end, other(end)));
        }
    }

    #[test]
    fn each_kind_of_failure_has_its_own_clock() {
        let mut failing = Failing::default();
        for at in (0..2 * HOUR).step_by(60) {
            assert!(!failing.fail(ReadFailure::Failed, other(at), now(at)));
        }
        assert!(!failing.fail(ReadFailure::NotFound, other(2 * HOUR), now(2 * HOUR)));
    }

    #[test]
    fn an_attempt_counts_only_if_another_call_was_read_before_it() {
        let mut failing = Failing::default();
        let read_once = other(10);
        assert!((0..200).all(|n| !failing.fail(ReadFailure::NotFound, read_once, now(n * 600))));
    }

    #[test]
    fn a_call_fails_on_its_own_after_three_counting_attempts() {
        let failures = [ReadFailure::Failed, ReadFailure::NotFound];
        for (name, read_before, expected) in [
            ("each but the first", [false, true, true, true], true),
            ("too few", [true, false, true, true], false),
            ("an outage", [false; 4], false),
        ] {
            let mut failing = Failing::default();
            let attempts = (0..).step_by(60).zip(failures.into_iter().cycle()).zip(read_before);
            for ((at, failure), is_read) in attempts {
                assert!(!failing.is_on_its_own(), "{name}: too soon");
                failing.fail(failure, is_read.then(|| other(at)).flatten(), now(at));
            }
            assert_eq!(failing.is_on_its_own(), expected, "{name}");
        }
    }

    #[test]
    fn a_call_is_given_up_after_thirty_days_even_during_an_outage() {
        let mut failing = Failing::default();
        assert!(!failing.fail(ReadFailure::Failed, None, now(0)));
        assert!(!failing.fail(ReadFailure::Failed, None, now(30 * 24 * HOUR)));
        assert!(failing.fail(ReadFailure::Failed, None, now(30 * 24 * HOUR + 1)));
    }

    /// The time just before, when another call was read.
    fn other(second: i64) -> Option<Timestamp> {
        Some(now(second - 1))
    }

    fn now(second: i64) -> Timestamp {
        Timestamp::from_second(1_700_000_000 + second).expect("valid timestamp")
    }
}
