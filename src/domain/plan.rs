//! Which call is read when.
//!
//! A call is read while active and shortly after its end, to have fresh numbers; the settling read
//! is what correctness rests on, and the audit estimates what even that missed.

use std::time::Duration;

use jiff::Timestamp;

use super::call::CallStatus;
use super::digest::DigestVersion;
use super::label::label_enum;
use super::progress::CallProgress;
use super::sid::CallSid;
use super::twilio_time::after;

/// How long an active call may go unseen by every list before it is fetched singly.
/// The lists of the active statuses take turns within 24 minutes.
const UNSEEN_AFTER: Duration = Duration::from_secs(30 * 60);
/// How far behind a settling read may be and still count as current.
const CURRENT_LANE: Duration = Duration::from_secs(30 * 60);
/// How long a call without an end time is remembered after lists stop showing it.
const ENDLESS_MEMORY: Duration = Duration::from_secs(48 * 60 * 60);
/// How far behind a settling read must be for the account to be catching up.
pub const CATCHING_UP_AFTER: Duration = Duration::from_secs(15 * 60);

label_enum! {
    /// Why a call's events are read.
    pub enum Stage {
        /// While the call is active.
        Live = "live",
        /// Soon after its end.
        AfterEnd = "after_end",
        /// For the last time that must not be missed.
        Settling = "settling",
        /// Once more, to see whether settling missed something.
        Audit = "audit",
    }
}

/// When the events of a call are read.
#[derive(Clone, Debug)]
pub struct ReadPlan {
    /// Time between two reads of an active call.
    pub live_interval: Duration,
    /// When an ended call is read early, counted from its end.
    pub after_end: Vec<Duration>,
    /// When it is settled, counted from its end.
    pub settle_delay: Duration,
    /// When it is audited, counted from its settling.
    pub audit_after: Duration,
}

/// The next read of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NextRead {
    /// When it is due.
    pub due_at: Timestamp,
    /// Why.
    pub stage: Stage,
    /// Early reads that this one makes superfluous.
    pub skips: u8,
}

/// What to do next for one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Read its Call Events.
    Read {
        /// The call.
        sid: CallSid,
        /// Why.
        stage: Stage,
        /// Early reads that this one makes superfluous.
        skips: u8,
        /// How its items are told apart.
        version: DigestVersion,
    },
    /// Fetch the call itself, because no list has shown it for long.
    Fetch(CallSid),
}

impl ReadPlan {
    /// The next read of a call, if there will be one.
    pub fn next_read(&self, call: &CallProgress, now: Timestamp) -> Option<NextRead> {
        let next = match (call.ended_at, call.settled_at) {
            (None, _) => {
                let last = call.last_live_read_at.unwrap_or(call.began_at);
                let due_at = after(last, self.live_interval_of(call, last));
                NextRead { due_at, stage: Stage::Live, skips: 0 }
            }
            (Some(end), None) => self.next_after_end(call, end, now),
            (Some(_), Some(settled)) if call.awaits_audit => {
                NextRead { due_at: after(settled, self.audit_after), stage: Stage::Audit, skips: 0 }
            }
            (Some(_), Some(_)) => return None,
        };
        let due_at = call.retry_at.map_or(next.due_at, |retry| retry.max(next.due_at));
        Some(NextRead { due_at, ..next })
    }

    /// Time between two reads of an active call: a long call, or one that Twilio never ends, is
    /// read at a sixtieth of its age.
    fn live_interval_of(&self, call: &CallProgress, last: Timestamp) -> Duration {
        let age = Duration::try_from(last.duration_since(call.began_at)).unwrap_or_default();
        self.live_interval.max(age / 60)
    }

    fn next_after_end(&self, call: &CallProgress, end: Timestamp, now: Timestamp) -> NextRead {
        let settle_at = self.settle_at(end);
        let behind = usize::from(call.after_end_reads).min(self.after_end.len());
        let ahead = &self.after_end[behind..];
        let due = ahead.iter().take_while(|&&delay| after(end, delay) <= now).count();
        let count = |reads: usize| u8::try_from(reads).unwrap_or(u8::MAX);
        if settle_at <= now || ahead.is_empty() {
            NextRead { due_at: settle_at, stage: Stage::Settling, skips: count(ahead.len()) }
        } else {
            let index = due.saturating_sub(1);
            let due_at = after(end, ahead[index]);
            NextRead { due_at, stage: Stage::AfterEnd, skips: count(index) }
        }
    }

    /// When the settling read of a call is due: late enough that Twilio's answer settles it.
    fn settle_at(&self, end: Timestamp) -> Timestamp {
        after(end, self.settle_delay + SETTLE_MARGIN + DATE_MARGIN)
    }

    /// Whether a read that Twilio answered at `read_at` settles a call.
    pub fn settles(&self, call: &CallProgress, stage: Stage, read_at: Timestamp) -> bool {
        match stage {
            Stage::Settling => call
                .ended_at
                .is_some_and(|end| read_at >= after(end, self.settle_delay + SETTLE_MARGIN)),
            Stage::Live | Stage::AfterEnd | Stage::Audit => false,
        }
    }

    /// How long before a read would settle a call Twilio answered it.
    pub fn until_settling(&self, call: &CallProgress, read_at: Timestamp) -> Duration {
        let settles_at =
            call.ended_at.map_or(read_at, |end| after(end, self.settle_delay + SETTLE_MARGIN));
        Duration::try_from(settles_at.duration_since(read_at)).unwrap_or_default()
    }

    /// How long a call's settling read is overdue.
    pub fn overdue(&self, call: &CallProgress, now: Timestamp) -> Duration {
        match (call.ended_at, call.settled_at) {
            (Some(end), None) => {
                Duration::try_from(now.duration_since(self.settle_at(end))).unwrap_or_default()
            }
            (None | Some(_), _) => Duration::ZERO,
        }
    }
}

/// Twilio's times are cut to the second: a call may have ended up to a second later than it says.
const SETTLE_MARGIN: Duration = Duration::from_secs(1);
/// The `Date` of an answer is cut to the second, too, and our idea of Twilio's time is off by up to
/// half a second: asked this much later, the first answer settles the call.
const DATE_MARGIN: Duration = Duration::from_secs(2);

/// Whether a call is done with, and no list can bring it back.
pub fn is_forgettable(
    call: &CallProgress,
    forget_before: Option<Timestamp>,
    now: Timestamp,
) -> bool {
    let (Some(end), Some(horizon)) = (call.ended_at, forget_before) else { return false };
    let is_gone = call.has_end_time || after(call.last_listed_at, ENDLESS_MEMORY) < now;
    call.settled_at.is_some() && !call.awaits_audit && end <= horizon && is_gone
}

/// The candidates for the next requests, sorted into lanes.
///
/// Current goes first, the backlog keeps at least one request in four; within current, early reads
/// take at most half while settling is due. Audits take what nobody else wants.
#[derive(Debug, Default)]
pub struct Lanes {
    early: Vec<(Timestamp, Step)>,
    settling: Vec<(Timestamp, Step)>,
    backlog: Vec<(Timestamp, Step)>,
    audit: Vec<(Timestamp, Step)>,
    wake_at: Option<Timestamp>,
}

impl Lanes {
    /// Considers a call.
    pub fn add(&mut self, call: &CallProgress, plan: &ReadPlan, now: Timestamp) {
        if call.ended_at.is_none() && call.status.is_active() | (call.status == CallStatus::Other) {
            let due_at = after(call.last_listed_at, UNSEEN_AFTER);
            let due_at = call.retry_at.map_or(due_at, |retry| retry.max(due_at));
            self.put(due_at, now, Step::Fetch(call.sid), |lanes| &mut lanes.early);
            if due_at <= now {
                // One request at a time for a call.
                return;
            }
        }
        let Some(next) = plan.next_read(call, now) else { return };
        let step = Step::Read {
            sid: call.sid,
            stage: next.stage,
            skips: next.skips,
            version: call.digest_version,
        };
        self.put(next.due_at, now, step, |lanes| match next.stage {
            Stage::Live | Stage::AfterEnd => &mut lanes.early,
            Stage::Settling if plan.overdue(call, now) > CURRENT_LANE => &mut lanes.backlog,
            Stage::Settling => &mut lanes.settling,
            Stage::Audit => &mut lanes.audit,
        });
    }

    fn put(
        &mut self,
        due_at: Timestamp,
        now: Timestamp,
        step: Step,
        lane: impl FnOnce(&mut Self) -> &mut Vec<(Timestamp, Step)>,
    ) {
        if due_at <= now {
            lane(self).push((due_at, step));
        } else {
            self.wake_at = Some(self.wake_at.map_or(due_at, |wake_at| wake_at.min(due_at)));
        }
    }

    /// When the first call that isn't due yet will be.
    pub fn wake_at(&self) -> Option<Timestamp> {
        self.wake_at
    }

    /// Takes up to `free` steps, oldest first in each lane. `turn` counts the steps taken before,
    /// and moves on with each.
    pub fn take(mut self, free: usize, turn: &mut u64) -> Vec<Step> {
        for lane in [&mut self.early, &mut self.settling, &mut self.backlog, &mut self.audit] {
            // No lane gives more than is free: the rest need not be in order.
            if lane.len() > free {
                lane.select_nth_unstable_by_key(free, |&(due_at, _)| due_at);
                lane.truncate(free);
            }
            // Newest first, so that the oldest is popped.
            lane.sort_unstable_by_key(|&(due_at, _)| std::cmp::Reverse(due_at));
        }
        let mut steps = Vec::new();
        while steps.len() < free {
            let backlog_first = *turn % 4 == 3;
            let settling_first = turn.is_multiple_of(2);
            let order: [&mut Vec<_>; 4] = match (backlog_first, settling_first) {
                (true, _) => {
                    [&mut self.backlog, &mut self.settling, &mut self.early, &mut self.audit]
                }
                (false, true) => {
                    [&mut self.settling, &mut self.early, &mut self.backlog, &mut self.audit]
                }
                (false, false) => {
                    [&mut self.early, &mut self.settling, &mut self.backlog, &mut self.audit]
                }
            };
            let Some((_, step)) = order.into_iter().find_map(Vec::pop) else { break };
            *turn += 1;
            steps.push(step);
        }
        steps
    }
}

#[cfg(test)]
mod tests;
