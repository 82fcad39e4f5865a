//! The interval of a backfill: whole steps in the past, at most 30 days back.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::cli::Moment;
use crate::domain::track::twilio_time::{after, before};

/// How far back calls are read: how long Twilio keeps Call Events isn't documented.
const MAX_AGE: Duration = Duration::from_secs(30 * 24 * 60 * 60);
/// How long ago the interval must end: calls that end up to 45 minutes later still have all their Call Events,
/// which Twilio may show 15 minutes after the end.
const SETTLED_AFTER: Duration = Duration::from_secs(60 * 60);
/// How long before the interval a call with events in it may have ended: callbacks follow its end.
const CALLBACKS: Duration = Duration::from_secs(60 * 60);
/// How long before the interval a call with events in it may have begun: Twilio's calls last up to a day.
const LONGEST_CALL: Duration = Duration::from_secs(24 * 60 * 60);
/// The seconds of a day.
const DAY: i64 = 24 * 60 * 60;

/// An interval of whole steps. There is a sample at each multiple of the step, from the first to the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Interval {
    /// The step of the first sample, which is 0 in all series.
    pub(super) first: i64,
    /// The step of the last sample.
    pub(super) last: i64,
    /// The time between samples in seconds.
    pub(super) step_seconds: i64,
}

/// The ends of an interval, as requested.
#[derive(Clone, Copy, Debug)]
pub(super) struct Requested {
    /// The start.
    pub(super) from: Moment,
    /// The end; `None`: the latest possible.
    pub(super) until: Option<Moment>,
    /// The time between samples.
    pub(super) step: Duration,
}

impl Interval {
    /// Resolves the ends and rounds them inwards to whole steps. The store began
    /// to count at `created_at`.
    ///
    /// # Errors
    /// Says why this interval can't be backfilled.
    pub(super) fn resolve(
        requested: Requested,
        now: Timestamp,
        created_at: Option<Timestamp>,
    ) -> Result<Self, String> {
        let resolve = |moment| match moment {
            Moment::At(at) => at,
            Moment::Ago(age) => before(now, age),
        };
        let settled = before(now, SETTLED_AFTER);
        let latest = created_at.map_or(settled, |at| at.min(settled));
        let from = resolve(requested.from);
        let until = requested.until.map_or(latest, resolve);
        if from > now {
            return Err(format!("--from ({from:.0}) is in the future"));
        }
        if until > now {
            return Err(format!("--until ({until:.0}) is in the future"));
        }
        if from < before(now, MAX_AGE) {
            return Err(format!(
                "--from ({from:.0}) is more than 30 days ago: Twilio may no longer have those Call Events"
            ));
        }
        if until > settled {
            return Err(format!(
                "--until ({until:.0}) is less than an hour ago: Twilio may not show those Call Events yet"
            ));
        }
        if let Some(at) = created_at.filter(|at| until > *at) {
            return Err(format!(
                "--until ({until:.0}) is after {at:.0}, when the store began to count: later calls would be \
                 counted twice"
            ));
        }
        let step_seconds = i64::try_from(requested.step.as_secs()).unwrap_or(i64::MAX).max(1);
        let first = -(-from.as_second()).div_euclid(step_seconds);
        let last = until.as_second().div_euclid(step_seconds);
        if first < last {
            return Ok(Self { first, last, step_seconds });
        }
        Err(match (requested.until, created_at.filter(|at| *at < settled)) {
            (None, Some(at)) => format!(
                "--from ({from:.0}) must be at least one step ({step_seconds} s) before {at:.0}, when the store \
                 began to count"
            ),
            (None, None) => format!(
                "--from ({from:.0}) must be at least one step ({step_seconds} s) earlier than an hour ago: Twilio may \
                 not show later Call Events yet"
            ),
            (Some(_), _) => format!(
                "--from ({from:.0}) must be at least one step ({step_seconds} s) before --until ({until:.0})"
            ),
        })
    }

    /// Returns the step at whose sample a fact of this time is counted; `None` if it is outside the interval.
    pub(super) fn step_of(&self, at: Timestamp) -> Option<i64> {
        let ms = self.step_seconds * 1000;
        let step = -(-at.as_millisecond()).div_euclid(ms);
        (self.first < step && step <= self.last).then_some(step)
    }

    /// Returns the time of a step's sample in Unix seconds.
    pub(super) const fn second(&self, step: i64) -> i64 {
        step * self.step_seconds
    }

    /// Returns the start.
    pub(super) fn from(&self) -> Timestamp {
        instant(self.second(self.first))
    }

    /// Returns the end.
    pub(super) fn until(&self) -> Timestamp {
        instant(self.second(self.last))
    }

    /// Whether a call may have events in the interval.
    pub(super) fn may_contain(&self, began_at: Timestamp, ended_at: Option<Timestamp>) -> bool {
        began_at <= self.until() && ended_at.is_none_or(|at| at >= before(self.from(), CALLBACKS))
    }

    /// Returns the days (UTC) in which its calls may have started, each by an instant of it.
    pub(super) fn days_of_starts(&self) -> impl Iterator<Item = Timestamp> {
        days(before(self.from(), LONGEST_CALL), self.until())
    }

    /// Returns the days (UTC) in which its calls may have ended.
    pub(super) fn days_of_ends(&self) -> impl Iterator<Item = Timestamp> {
        days(before(self.from(), CALLBACKS), after(self.until(), LONGEST_CALL))
    }

    /// Returns the number of samples of a series.
    pub(super) fn samples(&self) -> u64 {
        u64::try_from(self.last - self.first + 1).unwrap_or(0)
    }
}

fn days(from: Timestamp, until: Timestamp) -> impl Iterator<Item = Timestamp> {
    let [first, last] = [from, until].map(|at| at.as_second().div_euclid(DAY));
    (first..=last).map(|day| instant(day * DAY))
}

fn instant(second: i64) -> Timestamp {
    Timestamp::UNIX_EPOCH
        .saturating_add(SignedDuration::from_secs(second))
        .unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_intervals_that_are_reversed_too_old_too_new_or_already_counted() {
        let now = time("2026-02-01T12:00:00Z");
        let hours = |hours: u64| Moment::Ago(Duration::from_secs(hours * 3600));
        let at = |text: &str| Moment::At(time(text));
        let counted = Some(time("2026-02-01T06:00:00Z"));
        for (from, until, created_at, expected) in [
            (at("2026-02-01T12:30:00Z"), None, None, "in the future"),
            (hours(24), Some(at("2026-02-02T00:00:00Z")), None, "in the future"),
            (hours(24), Some(at("2026-02-01T11:00:01Z")), None, "less than an hour ago"),
            (hours(24), Some(hours(2)), counted, "counted twice"),
            (hours(5), None, counted, "when the store began to count"),
            (hours(1), None, None, "earlier than an hour ago"),
            (hours(30 * 24 + 1), None, None, "more than 30 days ago"),
            (hours(2), Some(hours(3)), None, "at least one step"),
            (
                at("2026-02-01T10:00:30Z"),
                Some(at("2026-02-01T10:01:59Z")),
                None,
                "at least one step",
            ),
        ] {
            let requested = Requested { from, until, step: Duration::from_secs(60) };
            let found = Interval::resolve(requested, now, created_at).expect_err(expected);
            assert!(found.contains(expected), "{from} {until:?}: {found}");
        }
        let requested = Requested { from: hours(720), until: None, step: Duration::from_secs(60) };
        let found = Interval::resolve(requested, now, None).expect("an interval");
        assert_eq!(found.from(), time("2026-01-02T12:00:00Z"));
        assert_eq!(found.until(), time("2026-02-01T11:00:00Z"));
        let found = Interval::resolve(requested, now, counted).expect("an interval");
        assert_eq!(found.until(), time("2026-02-01T06:00:00Z"));
    }

    #[test]
    fn counts_a_fact_at_the_first_sample_that_is_not_earlier() {
        let interval = Interval { first: 10, last: 12, step_seconds: 60 };
        for (ms, expected) in [
            (599_999, None),
            (600_000, None),
            (600_001, Some(11)),
            (660_000, Some(11)),
            (660_001, Some(12)),
            (720_000, Some(12)),
            (720_001, None),
        ] {
            let at = Timestamp::from_millisecond(ms).expect("a time");
            assert_eq!(interval.step_of(at), expected, "{ms}");
        }
    }

    #[test]
    fn lists_the_days_around_the_interval() {
        let first = time("2026-02-01T00:30:00Z").as_second() / 60;
        let interval = Interval { first, last: first + 60, step_seconds: 60 };
        let days = |days: Vec<Timestamp>| {
            days.iter().map(|day| day.strftime("%d").to_string()).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(days(interval.days_of_starts().collect()), "31 01");
        assert_eq!(days(interval.days_of_ends().collect()), "31 01 02");
        assert!(interval.may_contain(interval.from(), None));
        assert!(!interval.may_contain(after(interval.until(), Duration::from_secs(1)), None));
        assert!(!interval.may_contain(Timestamp::UNIX_EPOCH, Some(time("2026-01-31T23:00:00Z"))));
    }

    fn time(text: &str) -> Timestamp {
        text.parse().expect("a time")
    }
}
