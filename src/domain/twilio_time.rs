//! Twilio's time, estimated from the `Date` headers of its responses.
//!
//! All comparisons with Twilio's times use it, so that a wrong local clock loses nothing.

use std::collections::VecDeque;

use jiff::{SignedDuration, Timestamp};

/// How many offsets the median is taken of: enough that a few odd answers don't move it, few
/// enough that a step of the local clock is followed within a minute of polling.
const SAMPLES: usize = 15;
/// A `Date` header is cut to the second: on average it lies half a second back.
const HALF_RESOLUTION: SignedDuration = SignedDuration::from_millis(500);

/// The offset of Twilio's clock from the local one.
#[derive(Clone, Debug, Default)]
pub struct TwilioTime {
    offsets: VecDeque<SignedDuration>,
}

impl TwilioTime {
    /// Notes a `Date` header that arrived at a local time.
    pub fn observe(&mut self, date: Timestamp, local: Timestamp) {
        if self.offsets.len() == SAMPLES {
            self.offsets.pop_front();
        }
        self.offsets.push_back((date + HALF_RESOLUTION).duration_since(local));
    }

    /// The median offset: what is added to the local time.
    pub fn offset(&self) -> SignedDuration {
        let mut sorted: Vec<_> = self.offsets.iter().copied().collect();
        sorted.sort_unstable();
        sorted.get(sorted.len() / 2).copied().unwrap_or(SignedDuration::ZERO)
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
pub fn after(instant: Timestamp, delay: std::time::Duration) -> Timestamp {
    instant.saturating_add(delay).unwrap_or(Timestamp::MAX)
}

/// An instant moved back by a duration, clamped to the calendar's ends.
pub fn before(instant: Timestamp, delay: std::time::Duration) -> Timestamp {
    instant.saturating_sub(delay).unwrap_or(Timestamp::MIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_local_clock_is_corrected_and_one_odd_date_moves_nothing() {
        let local = Timestamp::from_second(1_000_000).expect("an instant");
        let truth = after(local, std::time::Duration::from_secs(7200));
        let mut time = TwilioTime::default();
        assert_eq!(time.at(local), local);
        for _ in 0..5 {
            time.observe(truth, local);
        }
        time.observe(Timestamp::UNIX_EPOCH, local);
        assert_eq!(time.at(local), truth + HALF_RESOLUTION);
    }
}
