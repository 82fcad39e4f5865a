//! How late an account is: what waits, what is overdue, whether the past is being caught up.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;

use super::AccountProgress;
use crate::domain::call::{CallStatus, Direction};
use crate::domain::plan::{CATCHING_UP_AFTER, ReadPlan};
use crate::domain::twilio_time::after;

/// How late the account is.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Lateness {
    /// How long the most overdue settling read is overdue.
    pub overdue: Duration,
    /// Whether the past is being caught up.
    pub is_catching_up: bool,
    /// Calls that wait for a read, by stage.
    pub pending: BTreeMap<&'static str, u64>,
    /// Active calls.
    pub active: BTreeMap<(Direction, CallStatus), u64>,
}

impl AccountProgress {
    /// How late the account is.
    pub fn lateness(&self, plan: &ReadPlan, now: Timestamp) -> Lateness {
        let mut lateness = Lateness::default();
        let early = self.early_plan();
        for call in self.calls.values() {
            if call.ended_at.is_none() {
                *lateness.active.entry((call.direction, call.status)).or_default() += 1;
            }
            if let Some(next) = plan.next_read(call, early, now) {
                *lateness.pending.entry(next.stage.as_str()).or_default() += 1;
            }
            lateness.overdue = lateness.overdue.max(plan.overdue(call, now));
        }
        let is_cursor_old =
            self.lists.cursor.is_some_and(|cursor| after(cursor, CATCHING_UP_AFTER) < now);
        lateness.is_catching_up = is_cursor_old || lateness.overdue > CATCHING_UP_AFTER;
        lateness
    }
}
