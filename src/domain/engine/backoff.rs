//! How long to wait before trying again.

use std::time::Duration;

/// Exponential backoff with jitter: waits double from the first up to a cap. Up to half of each wait is randomly
/// cut, so that requests that failed together aren't repeated together.
#[derive(Clone, Copy, Debug)]
pub struct Backoff {
    first: Duration,
    cap: Duration,
}

impl Backoff {
    /// Creates a backoff that waits between half of `first` and `first` after one failure, and never longer than `cap`.
    pub const fn new(first: Duration, cap: Duration) -> Self {
        Self { first, cap }
    }

    /// Creates a backoff for requests to Twilio, which recommends a short first wait: for a small client, a 429 passes
    /// within a second.
    pub const fn for_requests(cap: Duration) -> Self {
        Self::new(Duration::from_millis(500), cap)
    }

    /// The wait after `failures` failures in a row.
    pub fn wait(self, failures: u32, random: u64) -> Duration {
        let doubled = 1_u32
            .checked_shl(failures.saturating_sub(1))
            .map_or(self.cap, |by| self.first.saturating_mul(by));
        let full = doubled.min(self.cap);
        let half = full / 2;
        let random = u32::try_from(random % 1_000).unwrap_or(0);
        half + half * random / 1_000
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_cap_and_jitter_cuts_at_most_half() {
        let (first, cap) = (Duration::from_millis(500), Duration::from_secs(60));
        for failures in 0..80 {
            for random in [0, 1, 499, 999, u64::MAX] {
                let wait = Backoff::new(first, cap).wait(failures, random);
                let full = first * 2_u32.pow(failures.saturating_sub(1).min(20));
                assert!(wait >= full.min(cap) / 2 && wait <= full.min(cap), "{failures} {wait:?}");
            }
        }
    }
}
