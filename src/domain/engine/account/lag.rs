//! How far behind an account is: pending reads, overdue calls, and whether it is catching up.
//!
//! Alerts are held back while an account is catching up, so a single call must not put it in that state: it takes
//! several late calls, and a minimum share of all calls that are due.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;

use super::AccountProgress;
use crate::domain::engine::plan::{CATCHING_UP_AFTER, ReadPlan};
use crate::domain::track::progress::CallProgress;
use crate::domain::track::twilio_time::{after, before};
use crate::domain::words::call::{CallStatus, Direction};

/// The account is behind if more than one in this many of the calls that are due is late.
const LATE_ONE_IN: u64 = 20;
/// The account isn't behind if fewer calls than this are late, however few are due. In an account with one
/// call an hour, a failing call can be the only one that is due, and looks the same as an outage; the next one
/// may fail as well before another is read.
const MIN_LATE: u64 = 3;
/// How long a call that was read on time still counts as due: long enough to compute a share for an account
/// with dozens of calls an hour. With the usual settling delay, every call is still tracked for this long after
/// it settles.
const DUE_WINDOW: Duration = Duration::from_secs(30 * 60);
/// The minimum time for which an account that starts with a backlog reports that it is catching up, so that a
/// scrape every minute sees it.
const MIN_CATCHING_UP: Duration = Duration::from_secs(65);

/// How far behind an account is.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AccountLag {
    /// How long the most overdue settling read is overdue, not counting unreadable calls.
    pub overdue: Duration,
    /// Whether the account is catching up: the events counted now happened long ago.
    pub is_catching_up: bool,
    /// The number of calls whose events can't be read while those of other calls can.
    pub unreadable: u64,
    /// The number of calls that wait for a read, by stage.
    pub pending: BTreeMap<&'static str, u64>,
    /// The number of active calls.
    pub active: BTreeMap<(Direction, CallStatus), u64>,
}

/// The calls of an account whose settling read is due: those that wait for it, and those that got it on time
/// within the last half hour.
///
/// Calls that were read late or given up aren't included, since they say nothing about the remaining work. Nor
/// are unreadable calls once they are half an hour overdue. Until then they count: many unreadable calls at once
/// are a problem of the account, even if a read succeeds now and then.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct DueCalls {
    /// All of them.
    all: u64,
    /// Those that are waiting and more than 15 minutes overdue.
    late: u64,
}

impl DueCalls {
    fn add(&mut self, call: &CallProgress, plan: &ReadPlan, now: Timestamp) {
        let Some(end) = call.ended_at else { return };
        let (due_at, late_at) =
            (plan.settle_at(end), after(plan.settle_at(end), CATCHING_UP_AFTER));
        let (is_due, is_late) = match call.settled_at {
            None => {
                let is_excluded = call.is_unreadable() && after(due_at, DUE_WINDOW) < now;
                (due_at <= now && !is_excluded, late_at < now)
            }
            Some(at) => (before(now, DUE_WINDOW) < at && at <= late_at, false),
        };
        self.all += u64::from(is_due);
        self.late += u64::from(is_due && is_late);
    }

    /// Whether enough calls are late for the account to be behind.
    fn are_behind(self) -> bool {
        self.late >= MIN_LATE && self.late * LATE_ONE_IN > self.all
    }
}

/// Whether an account is behind with its lists, which have been read up to `cursor`. An account whose lists have
/// never been read is behind.
pub fn is_cursor_behind(cursor: Option<Timestamp>, now: Timestamp) -> bool {
    cursor.is_none_or(|cursor| after(cursor, CATCHING_UP_AFTER) < now)
}

/// Whether a call's settling read was already long overdue when the account started.
fn is_backlog(call: &CallProgress, plan: &ReadPlan, started_at: Timestamp) -> bool {
    call.ended_at.is_some_and(|end| after(plan.settle_at(end), CATCHING_UP_AFTER) <= started_at)
}

/// Whether no settling read of a call has been attempted yet.
fn is_untried(call: &CallProgress) -> bool {
    call.settled_at.is_none() && call.failing.count() == 0
}

impl AccountProgress {
    /// Returns how far behind the account is. An account that started with a backlog is catching up until its
    /// lists have been read and at least one read of each backlog call has been attempted. If no call was long
    /// overdue, all it counts is recent, and it isn't catching up.
    pub fn lag(&mut self, now: Timestamp) -> AccountLag {
        let mut lag = AccountLag::default();
        let (plan, early, mut due) = (&self.reads, self.early_plan(), DueCalls::default());
        let (mut has_backlog, mut is_backlog_tried) = (false, true);
        for call in self.calls.values() {
            if call.ended_at.is_none() {
                *lag.active.entry((call.direction, call.status)).or_default() += 1;
            }
            if let Some(next) = plan.next_read(call, early, now) {
                *lag.pending.entry(next.stage.as_str()).or_default() += 1;
            }
            if call.is_unreadable() {
                lag.unreadable += 1;
            } else {
                lag.overdue = lag.overdue.max(plan.overdue(call, now));
            }
            due.add(call, plan, now);
            if self.started_behind_at.is_some_and(|at| is_backlog(call, plan, at)) {
                has_backlog = true;
                is_backlog_tried &= !is_untried(call);
            }
        }
        let is_behind = is_cursor_behind(self.lists.cursor, now);
        self.started_behind_at = self.started_behind_at.filter(|&at| {
            is_behind || (has_backlog && (!is_backlog_tried || now < after(at, MIN_CATCHING_UP)))
        });
        lag.is_catching_up = is_behind || due.are_behind() || self.started_behind_at.is_some();
        lag
    }
}
