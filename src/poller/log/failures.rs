//! Limits log lines about failed webhooks to a few a minute per endpoint, and counts the rest.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;

use crate::domain::judge::route::Endpoint;
use crate::domain::track::twilio_time::after;

/// The maximum number of lines of an endpoint in a window: enough to see a pattern.
const LINES_PER_WINDOW: u32 = 5;
/// The length of a window.
const WINDOW: Duration = Duration::from_secs(60);
/// The maximum number of endpoints with their own window; further ones share one.
const MAX_ENDPOINTS: usize = 1_000;

/// The recent log lines of each endpoint.
#[derive(Clone, Debug, Default)]
pub(super) struct FailureLog {
    windows: BTreeMap<Endpoint, Window>,
}

#[derive(Clone, Copy, Debug)]
struct Window {
    began_at: Timestamp,
    lines: u32,
    suppressed: u64,
}

impl FailureLog {
    /// Decides whether to log a failure of an endpoint. If so, returns the number of failures suppressed since the last
    /// line.
    pub(super) fn admit(&mut self, endpoint: &Endpoint, now: Timestamp) -> Option<u64> {
        if self.windows.len() >= MAX_ENDPOINTS && !self.windows.contains_key(endpoint) {
            self.windows.retain(|_, window| now < after(window.began_at, WINDOW));
            if self.windows.len() >= MAX_ENDPOINTS && *endpoint != Endpoint::overflow() {
                return self.admit(&Endpoint::overflow(), now);
            }
        }
        if let Some(window) = self.windows.get_mut(endpoint) {
            if now < after(window.began_at, WINDOW) {
                window.lines += 1;
                if window.lines <= LINES_PER_WINDOW {
                    return Some(0);
                }
                window.suppressed += 1;
                return None;
            }
            let suppressed = window.suppressed;
            *window = Window { began_at: now, lines: 1, suppressed: 0 };
            return Some(suppressed);
        }
        let window = Window { began_at: now, lines: 1, suppressed: 0 };
        self.windows.insert(endpoint.clone(), window);
        Some(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logs_a_few_failures_a_minute_and_counts_the_rest() {
        let mut log = FailureLog::default();
        let admitted: Vec<_> =
            (0..8).map(|second| log.admit(&endpoint("/a"), at(second))).collect();
        assert_eq!(admitted, [Some(0), Some(0), Some(0), Some(0), Some(0), None, None, None]);
        assert_eq!(
            log.admit(&endpoint("/b"), at(8)),
            Some(0),
            "another endpoint has its own window"
        );
        assert_eq!(log.admit(&endpoint("/a"), at(60)), Some(3));
        assert_eq!(log.admit(&endpoint("/a"), at(61)), Some(0));
    }

    #[test]
    fn memory_is_bounded() {
        let mut log = FailureLog::default();
        for number in 0..5_000 {
            log.admit(&endpoint(&format!("/{number}")), at(number));
        }
        assert!(log.windows.len() <= MAX_ENDPOINTS);
    }

    #[test]
    fn endpoints_beyond_the_limit_share_a_few_lines() {
        let mut log = FailureLog::default();
        let mut admit =
            |number: usize, second| log.admit(&endpoint(&format!("/{number}")), at(second));
        let lines = (0..5_000).filter_map(|number| admit(number, 0)).count();
        let shared = usize::try_from(LINES_PER_WINDOW).expect("a small number");
        assert_eq!(lines, MAX_ENDPOINTS + shared);
        assert_eq!(admit(1, 1), Some(0), "an endpoint with its own window keeps it");
        assert_eq!(admit(9_999, 60), Some(0), "another endpoint gets a window in the next minute");
        assert!(log.windows.len() <= MAX_ENDPOINTS + 1);
    }

    fn endpoint(route: &str) -> Endpoint {
        Endpoint { host: "a.example".to_owned(), route: route.to_owned() }
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("an instant")
    }
}
