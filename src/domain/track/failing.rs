//! How long a call's events could not be read, and when the call is given up.
//!
//! Invariant: an outage gives no call up. An attempt says something about its call only if another
//! call of the account was read since the attempt before, and each kind of failure has its own
//! clock.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::domain::track::twilio_time::{after, moved};

/// Failures of one kind before a call may be given up at all.
const ATTEMPTS: u32 = 8;
/// Attempts that say something about their call, from which on it fails on its own. If one request in
/// ten fails by chance, four attempts in a row fail for one call in ten thousand.
const ON_ITS_OWN: u32 = 3;
/// The most that one attempt adds to its clock: waits between attempts are at most ten minutes.
const LONGEST_GAP: Duration = Duration::from_secs(15 * 60);
/// How long a call is tried that Twilio answers without showing its events.
const ANSWERED_FOR: Duration = Duration::from_secs(60 * 60);
/// How long a call is tried for which Twilio fails: that may pass by itself.
const FAILED_FOR: Duration = Duration::from_secs(24 * 60 * 60);
/// After this long a call is given up whatever the reason: Twilio keeps Call Events for 30 days.
const AT_LAST: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// Why a read of a call's events failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ReadFailure {
    /// Twilio knows no such call (404).
    NotFound,
    /// Twilio refuses to show the call's events (401, 403).
    Refused,
    /// Twilio answers, but not with a complete list of events.
    Unreadable,
    /// Twilio failed, or could not be reached.
    Failed,
}

impl ReadFailure {
    fn is_tried_for(self) -> Duration {
        match self {
            Self::NotFound | Self::Refused | Self::Unreadable => ANSWERED_FOR,
            Self::Failed => FAILED_FOR,
        }
    }
}

/// The failures of a call since its events were last read, if there were any. Few calls have some.
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
    tried_for: Duration,
}

impl Failing {
    /// How many attempts failed in a row: what the wait before the next one grows with.
    pub fn count(&self) -> u32 {
        self.0.as_ref().map_or(0, |failures| failures.count)
    }

    /// Since when attempts have failed.
    pub fn since(&self) -> Option<Timestamp> {
        self.0.as_ref().map(|failures| failures.since)
    }

    /// Whether the call fails on its own: several attempts failed, and another call of the account was
    /// read between each and the one before.
    pub fn is_on_its_own(&self) -> bool {
        let clocks = self.0.iter().flat_map(|failures| &failures.clocks);
        clocks.map(|clock| clock.attempts).sum::<u32>() >= ON_ITS_OWN
    }

    /// Notes a failed attempt; `others_read_at` is when another call of the account was last read.
    /// Returns whether the call is to be given up.
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
        let is_at_last = after(*since, AT_LAST) < now;
        if others_read_at <= Some(before) {
            return is_at_last;
        }
        let gap = Duration::try_from(now.duration_since(before)).unwrap_or_default();
        let known = clocks.iter().position(|clock| clock.failure == failure);
        let at = known.unwrap_or(clocks.len());
        if known.is_none() {
            clocks.push(Clock { failure, attempts: 0, tried_for: Duration::ZERO });
        }
        let clock = &mut clocks[at];
        clock.attempts += 1;
        clock.tried_for += gap.min(LONGEST_GAP);
        let is_tried = clock.attempts >= ATTEMPTS && clock.tried_for >= failure.is_tried_for();
        is_tried || is_at_last
    }

    /// Moves along with the account's time.
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
    fn a_call_that_fails_while_others_are_read_is_given_up_by_the_clock_of_its_failure() {
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
    fn an_outage_gives_no_call_up_however_it_shows_and_ends() {
        for failure in [ReadFailure::NotFound, ReadFailure::Refused, ReadFailure::Failed] {
            let mut failing = Failing::default();
            let mut fail = |at, others| failing.fail(failure, others, now(at));
            assert!((0..29 * 24 * 6).all(|ten_minutes| !fail(ten_minutes * 600, None)));
            // It is over: another call was read, and this one fails once more.
            let end = 29 * 24 * HOUR;
            assert!(!fail(end, other(end)));
        }
    }

    #[test]
    fn failures_of_one_kind_do_not_age_another() {
        let mut failing = Failing::default();
        for at in (0..2 * HOUR).step_by(60) {
            assert!(!failing.fail(ReadFailure::Failed, other(at), now(at)));
        }
        assert!(!failing.fail(ReadFailure::NotFound, other(2 * HOUR), now(2 * HOUR)));
    }

    #[test]
    fn attempts_count_only_if_another_call_was_read_between_them() {
        let mut failing = Failing::default();
        let read_once = other(10);
        assert!((0..200).all(|n| !failing.fail(ReadFailure::NotFound, read_once, now(n * 600))));
    }

    #[test]
    fn a_call_fails_on_its_own_after_three_attempts_with_another_call_read_before_each() {
        let failures = [ReadFailure::Failed, ReadFailure::NotFound];
        for (name, read_before, expected) in [
            ("each but the first", [false, true, true, true], true),
            ("too few", [true, false, true, true], false),
            ("an outage", [false; 4], false),
        ] {
            let mut failing = Failing::default();
            let attempts = (0..).step_by(60).zip(failures.into_iter().cycle()).zip(read_before);
            for ((at, failure), is_read) in attempts {
                assert!(!failing.is_on_its_own(), "{name}: too early");
                failing.fail(failure, is_read.then(|| other(at)).flatten(), now(at));
            }
            assert_eq!(failing.is_on_its_own(), expected, "{name}");
        }
    }

    #[test]
    fn a_call_that_nothing_can_be_said_about_is_given_up_after_thirty_days() {
        let mut failing = Failing::default();
        assert!(!failing.fail(ReadFailure::Failed, None, now(0)));
        assert!(!failing.fail(ReadFailure::Failed, None, now(30 * 24 * HOUR)));
        assert!(failing.fail(ReadFailure::Failed, None, now(30 * 24 * HOUR + 1)));
    }

    /// Another call was read just before.
    fn other(second: i64) -> Option<Timestamp> {
        Some(now(second - 1))
    }

    fn now(second: i64) -> Timestamp {
        Timestamp::from_second(1_700_000_000 + second).expect("an instant")
    }
}
