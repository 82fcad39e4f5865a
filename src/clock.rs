//! The only module that reads the wall clock.
//!
//! Schedules follow the monotonic clock, so a step of the wall clock moves no deadline: local time starts at
//! the wall clock's time and advances with the monotonic clock. It may be as wrong as the wall clock was at
//! the start, so it is never shown; only Twilio's `Date` headers give it a meaning
//! (`domain::track::twilio_time`). Every time that is shown is Twilio's time or the wall clock's current
//! time.

use std::time::Instant;

use jiff::{SignedDuration, Timestamp};

/// Local time, which only moves forward, and the wall clock, which may step.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    started_at: Timestamp,
    started: Instant,
    wall: fn() -> Timestamp,
}

impl Clock {
    /// Starts at the wall clock's time.
    #[expect(clippy::disallowed_methods, reason = "only this module reads the wall clock")]
    pub fn start() -> Self {
        Self::with_wall(Timestamp::now)
    }

    fn with_wall(wall: fn() -> Timestamp) -> Self {
        Self { started_at: wall(), started: Instant::now(), wall }
    }

    /// The current local time.
    pub fn now(&self) -> Timestamp {
        self.at(Instant::now())
    }

    /// The local time at an instant of the monotonic clock.
    pub fn at(&self, instant: Instant) -> Timestamp {
        let elapsed = instant.saturating_duration_since(self.started);
        self.started_at.saturating_add(elapsed).unwrap_or(Timestamp::MAX)
    }

    /// The wall clock's current time.
    pub fn wall(&self) -> Timestamp {
        (self.wall)()
    }

    /// How far the wall clock is ahead of local time: the sum of its steps since the start.
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
    fn a_step_of_the_wall_clock_does_not_move_local_time() {
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
