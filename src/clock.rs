//! The only place that reads the wall clock.
//!
//! Schedules follow the monotonic clock, so that a step of the wall clock moves no deadline: the local
//! time is the wall clock's at the start, and advances with the monotonic clock. It may be wrong by as
//! much as the wall clock was then, so nothing shows it; only Twilio's `Date` headers give it a meaning
//! (`domain::track::twilio_time`). Whatever is shown as a time is Twilio's time, or the wall clock now.

use std::time::Instant;

use jiff::{SignedDuration, Timestamp};

/// The local time, which only moves forward, and the wall clock, which may step.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    started_at: Timestamp,
    started: Instant,
    wall: fn() -> Timestamp,
}

impl Clock {
    /// Starts at the wall clock's time.
    #[expect(clippy::disallowed_methods, reason = "this is the place that reads the wall clock")]
    pub fn start() -> Self {
        Self::with_wall(Timestamp::now)
    }

    fn with_wall(wall: fn() -> Timestamp) -> Self {
        Self { started_at: wall(), started: Instant::now(), wall }
    }

    /// The local time now.
    pub fn now(&self) -> Timestamp {
        self.at(Instant::now())
    }

    /// The local time at an instant of the monotonic clock.
    pub fn at(&self, instant: Instant) -> Timestamp {
        let elapsed = instant.saturating_duration_since(self.started);
        self.started_at.saturating_add(elapsed).unwrap_or(Timestamp::MAX)
    }

    /// What the wall clock shows now.
    pub fn wall(&self) -> Timestamp {
        (self.wall)()
    }

    /// How far the wall clock is ahead of the local time now: the sum of its steps since the start.
    pub fn step(&self) -> SignedDuration {
        self.wall().duration_since(self.now())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicI64, Ordering};

    use super::*;

    static WALL: AtomicI64 = AtomicI64::new(1_000);

    #[test]
    fn a_step_of_the_wall_clock_moves_the_wall_clock_alone() {
        let wall = || Timestamp::from_second(WALL.load(Ordering::SeqCst)).expect("a time");
        let clock = Clock::with_wall(wall);
        let (before, step) = (clock.now(), clock.step());
        assert!(step.abs() < SignedDuration::from_secs(60), "{step}");
        WALL.store(1_000 + 2 * 365 * 86_400, Ordering::SeqCst);
        assert!(clock.now().duration_since(before) < SignedDuration::from_secs(60));
        assert_eq!(clock.wall(), wall());
        let years = SignedDuration::from_hours(2 * 365 * 24);
        assert!((clock.step() - years).abs() < SignedDuration::from_secs(60));
    }
}
