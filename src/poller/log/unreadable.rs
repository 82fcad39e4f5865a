//! Limits log lines about unreadable calls: one per call, and only a few in ten minutes.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::Timestamp;

use crate::domain::track::twilio_time::after;
use crate::domain::words::sid::CallSid;

/// The maximum number of lines in a window: enough for examples; the metric `calls_unreadable` has the number.
const LINES_PER_WINDOW: u32 = 4;
/// The length of a window: the longest wait between two attempts, so that a call without a line is considered again
/// in the next window.
const WINDOW: Duration = Duration::from_secs(10 * 60);

/// The unreadable calls of an account that the log has named.
#[derive(Clone, Debug, Default)]
pub(super) struct UnreadableCalls {
    logged: BTreeSet<CallSid>,
    window: Option<Timestamp>,
    lines: u32,
}

impl UnreadableCalls {
    /// Notes another failed attempt at an unreadable call. Returns whether to log it.
    pub(super) fn failed(&mut self, sid: CallSid, now: Timestamp) -> bool {
        if self.logged.contains(&sid) {
            return false;
        }
        if self.window.is_none_or(|start| after(start, WINDOW) <= now) {
            self.window = Some(now);
            self.lines = 0;
        }
        let has_room = self.lines < LINES_PER_WINDOW;
        if has_room {
            self.lines += 1;
            self.logged.insert(sid);
        }
        has_room
    }

    /// Notes that a call was read or given up. Returns whether it had been logged.
    pub(super) fn ended(&mut self, sid: CallSid) -> bool {
        self.logged.remove(&sid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logs_each_call_once_however_often_it_fails() {
        let mut calls = UnreadableCalls::default();
        assert!(calls.failed(sid(1), at(0)));
        assert!((1..200).all(|n| !calls.failed(sid(1), at(n * 600))));
        assert!(calls.ended(sid(1)), "its recovery is logged");
        assert!(!calls.ended(sid(1)));
        assert!(calls.failed(sid(1), at(200_000)), "it fails again");
    }

    #[test]
    fn logs_a_few_of_many_calls_per_window() {
        let mut calls = UnreadableCalls::default();
        let mut lines = |second| (0..10).filter(|&n| calls.failed(sid(n), at(second))).count();
        assert_eq!([0, 1, 599, 600, 601, 1_200, 1_800].map(&mut lines), [4, 0, 0, 4, 0, 2, 0]);
        assert!(!calls.ended(sid(11)), "it had not been logged");
    }

    fn sid(number: u32) -> CallSid {
        CallSid::parse(&format!("CA{number:032}")).expect("a SID")
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_700_000_000 + second).expect("an instant")
    }
}
