//! The limit on open files, and how many client connections fit under it.
//!
//! Clients must leave files for the store and for requests to Twilio. At startup, the soft limit is raised to
//! the hard limit: nothing here uses `select`, the reason why soft limits are low.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::config::Config;
use crate::http::MAX_CONNECTIONS;

/// How many files the program has open in addition to connections: about 20 for the runtime, the store and the
/// log, and those that a scrape reads from `/proc`.
const OWN: usize = 32;
/// How many files are reserved for requests to Twilio, even if fewer are allowed now: a reload may allow more.
const TWILIO: usize = 64;
/// The minimum number of connections, whatever the limit: without any, the program can't be observed.
const FEWEST: usize = 8;

/// Raises the limit as far as possible. Returns how many connections fit under it.
pub(super) fn connections(config: &Config) -> usize {
    // Each account's client keeps one connection open.
    let twilio = config.api.max_total_concurrency.max(TWILIO) + config.accounts.len();
    let reserved = OWN + twilio;
    let Some(limit) = raise() else { return MAX_CONNECTIONS };
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    if limit < reserved + FEWEST {
        tracing::warn!(
            limit,
            needed = reserved + FEWEST,
            "the limit on open files (RLIMIT_NOFILE) is too low: the store and requests to Twilio may fail"
        );
    }
    fitting(limit, reserved)
}

fn fitting(limit: usize, reserved: usize) -> usize {
    limit.saturating_sub(reserved).clamp(FEWEST, MAX_CONNECTIONS)
}

/// Raises the limit and returns it, or `None` if there is none.
fn raise() -> Option<u64> {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: maximum, maximum };
    if current == maximum || setrlimit(Resource::Nofile, raised).is_ok() {
        maximum
    } else {
        current
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_get_what_the_store_and_twilio_leave() {
        for (limit, expected) in [
            (0, FEWEST),
            (96, FEWEST),
            (105, 9),
            (128, 32),
            (351, 255),
            (352, MAX_CONNECTIONS),
            (1_024, MAX_CONNECTIONS),
            (usize::MAX, MAX_CONNECTIONS),
        ] {
            assert_eq!(fitting(limit, OWN + TWILIO), expected, "{limit}");
        }
    }
}
