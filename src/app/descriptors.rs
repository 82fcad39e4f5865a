//! The limit on open files, and the number of client connections that it allows.
//!
//! Clients must leave enough files for the store and for requests to Twilio. At startup, the soft limit is raised to
//! the hard limit. Soft limits are low because of `select`, which this program doesn't use.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::config::Config;
use crate::http::MAX_CONNECTIONS;

/// Files that the program opens in addition to connections: about 20 for the runtime, the store and the log, and
/// those that a scrape reads from `/proc`.
const OWN_FILES: usize = 32;
/// The minimum number of files reserved for requests to Twilio, even if the configuration allows fewer requests: a
/// reload may allow more.
const TWILIO_FILES: usize = 64;
/// The minimum number of connections, regardless of the limit: without any, the program can't be monitored.
const MIN_CONNECTIONS: usize = 8;

/// Raises the limit as far as possible. Returns the number of connections that it allows.
pub(super) fn connections(config: &Config) -> usize {
    // Each account's client keeps a connection open.
    let twilio = config.api.max_total_concurrency.max(TWILIO_FILES) + config.accounts.len();
    let reserved = OWN_FILES + twilio;
    let Some(limit) = raise() else { return MAX_CONNECTIONS };
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    if limit < reserved + MIN_CONNECTIONS {
        tracing::warn!(
            limit,
            needed = reserved + MIN_CONNECTIONS,
            "the limit on open files (RLIMIT_NOFILE) is too low: the store and requests to Twilio may fail"
        );
    }
    allowed(limit, reserved)
}

fn allowed(limit: usize, reserved: usize) -> usize {
    limit.saturating_sub(reserved).clamp(MIN_CONNECTIONS, MAX_CONNECTIONS)
}

/// Raises the limit. Returns the new limit, or `None` if there is none.
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
    fn clients_get_the_files_that_the_store_and_twilio_leave_free() {
        for (limit, expected) in [
            (0, MIN_CONNECTIONS),
            (96, MIN_CONNECTIONS),
            (105, 9),
            (128, 32),
            (351, 255),
            (352, MAX_CONNECTIONS),
            (1_024, MAX_CONNECTIONS),
            (usize::MAX, MAX_CONNECTIONS),
        ] {
            assert_eq!(allowed(limit, OWN_FILES + TWILIO_FILES), expected, "{limit}");
        }
    }
}
