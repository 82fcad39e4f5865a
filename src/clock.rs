//! The only place that reads the wall clock.
//!
//! Read once, at the start; from then on the monotonic clock tells the time, so that a step of the
//! wall clock moves no deadline. How far the clock was wrong at the start is Twilio's to tell
//! (`domain::twilio_time`).

use std::time::Instant;

use jiff::Timestamp;

/// The local time, which only moves forward.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    started_at: Timestamp,
    started: Instant,
}

impl Clock {
    /// Starts at the wall clock's time.
    #[expect(clippy::disallowed_methods, reason = "this is the place that reads the wall clock")]
    pub fn start() -> Self {
        Self { started_at: Timestamp::now(), started: Instant::now() }
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
}
