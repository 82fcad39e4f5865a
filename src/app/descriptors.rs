//! The limit on open files, and how many connections of clients it leaves room for.
//!
//! Clients must not take the files that the store and the requests to Twilio need. At start the soft limit
//! is raised to the hard one: nothing here uses `select`, which is why the soft one is low.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::config::Config;
use crate::http::MAX_CONNECTIONS;

/// What the program has open besides connections: some 20 files of the runtime, the store and the log,
/// and what a scrape reads from `/proc`.
const OWN: usize = 32;
/// Reserved for requests to Twilio even if fewer are allowed now: a reload may allow more.
const TWILIO: usize = 64;
/// Clients that are let in whatever the limit is: without any, the program can't be observed.
const FEWEST: usize = 8;

/// Raises the limit as far as it goes, and tells how many connections fit under it.
pub(super) fn connections(config: &Config) -> usize {
    // Each account's client keeps a connection for its next request.
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

/// The limit after it was raised; `None` if there is none.
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
