//! How long to wait before trying again.

use std::time::Duration;

/// First wait after a failure: Twilio advises to start small, and a 429 to a small client passes
/// within a second.
const FIRST: Duration = Duration::from_millis(500);

/// Exponential backoff with jitter: doubles from 0.5 s up to `cap`, of which a random half is
/// taken, so that clients which failed together don't come back together.
pub fn backoff(failures: u32, cap: Duration, random: u64) -> Duration {
    let doubled =
        FIRST.saturating_mul(1_u32.checked_shl(failures.saturating_sub(1)).unwrap_or(u32::MAX));
    let full = doubled.min(cap);
    let half = full / 2;
    let random = u32::try_from(random % 1_000).unwrap_or(0);
    half + half * random / 1_000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_doubles_up_to_its_cap_and_keeps_at_least_half() {
        let cap = Duration::from_secs(60);
        for failures in 0..80 {
            for random in [0, 1, 499, 999, u64::MAX] {
                let wait = backoff(failures, cap, random);
                let full = FIRST * 2_u32.pow(failures.saturating_sub(1).min(20));
                assert!(wait >= full.min(cap) / 2 && wait <= full.min(cap), "{failures} {wait:?}");
            }
        }
    }
}
