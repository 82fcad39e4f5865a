//! How late an account is: what waits, what is overdue, whether the past is being caught up.
//!
//! Pages are held back while an account catches up, so no single call may decide that it does: it takes
//! several calls, and a share of all that are due.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;

use super::AccountProgress;
use crate::domain::engine::plan::{CATCHING_UP_AFTER, ReadPlan};
use crate::domain::track::progress::CallProgress;
use crate::domain::track::twilio_time::{after, before};
use crate::domain::words::call::{CallStatus, Direction};

/// The account is behind if more than one in this many of the calls that are due is late.
const ONE_IN: u64 = 20;
/// Fewer late calls than this make no account late, however few are due. In an account with a call an
/// hour, one that fails on its own can't be told from an outage, and is all that is due; the next one
/// may fail as well before another is read.
const FEWEST_LATE: u64 = 3;
/// How long a call that was read on time is counted among those that are due: long enough for a share
/// of an account with dozens of calls an hour. For as long after settling, every call is still known
/// with the usual settling delay.
const DUE_LATELY: Duration = Duration::from_secs(30 * 60);
/// How long an account that begins with the past says so at least: a scrape every minute sees it.
const SAID_FOR: Duration = Duration::from_secs(65);

/// How late the account is.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AccountLag {
    /// How long the most overdue settling read is overdue, calls that can't be read apart.
    pub overdue: Duration,
    /// Whether the past is being caught up: what is counted now happened long ago.
    pub is_catching_up: bool,
    /// Calls whose events can't be read though those of other calls are.
    pub unreadable: u64,
    /// Calls that wait for a read, by stage.
    pub pending: BTreeMap<&'static str, u64>,
    /// Active calls.
    pub active: BTreeMap<(Direction, CallStatus), u64>,
}

/// The calls of an account whose settling read is due: those that wait for it, and those of the last
/// half hour that got it on time. Calls that were read late, or given up, are not among them: they say
/// nothing about what is left. Neither are calls that fail on their own, once they should have been read
/// half an hour ago. Until then they count: many at once are the account's trouble, even if a read
/// succeeds now and then.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Due {
    /// All of them.
    all: u64,
    /// Those that wait and are more than 15 minutes overdue.
    late: u64,
}

impl Due {
    fn add(&mut self, call: &CallProgress, plan: &ReadPlan, now: Timestamp) {
        let Some(end) = call.ended_at else { return };
        let (due_at, late_at) =
            (plan.settle_at(end), after(plan.settle_at(end), CATCHING_UP_AFTER));
        let (is_due, is_late) = match call.settled_at {
            None => {
                let is_apart = call.is_unreadable() && after(due_at, DUE_LATELY) < now;
                (due_at <= now && !is_apart, late_at < now)
            }
            Some(at) => (before(now, DUE_LATELY) < at && at <= late_at, false),
        };
        self.all += u64::from(is_due);
        self.late += u64::from(is_due && is_late);
    }

    /// Whether so many are late that the account is.
    fn are_late(self) -> bool {
        self.late >= FEWEST_LATE && self.late * ONE_IN > self.all
    }
}

/// Whether an account whose lists are known up to a cursor is behind with them: what it counts next is
/// the past. One that was never read is.
pub fn is_cursor_behind(cursor: Option<Timestamp>, now: Timestamp) -> bool {
    cursor.is_none_or(|cursor| after(cursor, CATCHING_UP_AFTER) < now)
}

/// Whether a call is of the past: its settling read was long overdue when the account began.
fn is_of_the_past(call: &CallProgress, plan: &ReadPlan, began_at: Timestamp) -> bool {
    call.ended_at.is_some_and(|end| after(plan.settle_at(end), CATCHING_UP_AFTER) <= began_at)
}

/// Whether a call waits for its first attempt at a settling read.
fn is_untried(call: &CallProgress) -> bool {
    call.settled_at.is_none() && call.failing.count() == 0
}

impl AccountProgress {
    /// How late the account is. One that began with the past is catching up until that was read: its
    /// lists, and each call that was long overdue, at least as far as one attempt. Without such calls
    /// what it counts is recent, and it is not catching up.
    pub fn lag(&mut self, now: Timestamp) -> AccountLag {
        let mut lag = AccountLag::default();
        let (plan, early, mut due) = (&self.reads, self.early_plan(), Due::default());
        let (mut has_past, mut is_past_read) = (false, true);
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
            if self.began_behind_at.is_some_and(|at| is_of_the_past(call, plan, at)) {
                has_past = true;
                is_past_read &= !is_untried(call);
            }
        }
        let is_behind = is_cursor_behind(self.lists.cursor, now);
        self.began_behind_at = self
            .began_behind_at
            .filter(|&at| is_behind || (has_past && (!is_past_read || now < after(at, SAID_FOR))));
        lag.is_catching_up = is_behind || due.are_late() || self.began_behind_at.is_some();
        lag
    }
}
