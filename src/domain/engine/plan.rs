//! Which call is read when.
//!
//! A call is read while active and shortly after its end, to have fresh numbers; the settling read
//! is what correctness rests on, and the audit estimates what even that missed.

mod queue;

use std::time::Duration;

use jiff::Timestamp;

use crate::domain::track::digest::DigestVersion;
use crate::domain::track::learning::{EarlyStage, Thinned};
use crate::domain::track::progress::CallProgress;
use crate::domain::track::twilio_time::after;
use crate::domain::words::call::CallStatus;
use crate::domain::words::label::label_enum;
use crate::domain::words::sid::CallSid;

pub use queue::Queue;

/// How long an active call may go unseen by every list before it is fetched singly.
/// The lists of the active statuses take turns within 24 minutes.
const UNSEEN_AFTER: Duration = Duration::from_secs(30 * 60);
/// How far behind a settling read may be and still count as current. What is later waits with the
/// backlog: after a downtime it would hold up for half an hour what is due now.
const CURRENT_LANE: Duration = Duration::from_secs(2 * 60);
/// From when on it is late.
const LATE: Duration = CURRENT_LANE.saturating_add(Duration::from_millis(1));
/// How long a call without an end time is remembered after lists stop showing it.
const ENDLESS_MEMORY: Duration = Duration::from_secs(48 * 60 * 60);
/// How far behind an account is that is catching up, with its lists or with its settling reads.
pub const CATCHING_UP_AFTER: Duration = Duration::from_secs(15 * 60);

label_enum! {
    /// Why a call's events are read.
    pub enum Stage {
        /// Because the error log tells of it.
        Reported = "reported",
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
#[derive(Clone, Debug, PartialEq, Eq)]
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
    /// Early reads that are skipped for this one.
    pub skips: u8,
}

/// Which call is read, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Read {
    /// The call.
    pub sid: CallSid,
    /// Why.
    pub stage: Stage,
    /// Early reads that are skipped for this one.
    pub skips: u8,
}

/// What to do next for one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Read its Call Events.
    Read {
        /// Which call, and why.
        read: Read,
        /// How its items are told apart.
        version: DigestVersion,
    },
    /// Fetch the call itself, because no list has shown it for long.
    Fetch(CallSid),
}

/// What is to be done for a call, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct ScheduledStep {
    due_at: Timestamp,
    lane: Lane,
    step: Step,
    /// When, once it is due, it becomes something else if nobody does it.
    changes_at: Option<Timestamp>,
}

/// What waits for a request. Settling goes first, since correctness rests on it; the backlog keeps
/// at least one request in four, and audits one in fifty. Early reads take what is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lane {
    /// Settling reads that became due lately, and calls that no list shows, which settle only after
    /// they were seen to end.
    Settling,
    /// Settling reads that are late.
    Backlog,
    /// Early reads of calls that ended.
    AfterEnd,
    /// Reads of active calls.
    Live,
    /// Audits.
    Audit,
}

impl Lane {
    const ALL: [Self; 5] = [Self::Settling, Self::Backlog, Self::AfterEnd, Self::Live, Self::Audit];
}

/// How early reads differ from the configured plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EarlyPlan {
    /// Stages that are thinned because they show nothing.
    pub thinned: Thinned,
    /// Least time between two reads of an active call: stretched while requests are scarce.
    pub live_interval: Duration,
}

impl EarlyPlan {
    /// Early reads as configured.
    pub const FULL: Self = Self { thinned: Thinned::NONE, live_interval: Duration::ZERO };
}

impl ReadPlan {
    /// What is to be done next for a call, if anything ever is.
    fn turn(&self, call: &CallProgress, early: EarlyPlan, now: Timestamp) -> Option<ScheduledStep> {
        let read = self.next_read(call, early, now).map(|next| ScheduledStep {
            due_at: next.due_at,
            lane: match next.stage {
                Stage::Live => Lane::Live,
                Stage::AfterEnd | Stage::Reported => Lane::AfterEnd,
                Stage::Settling if self.overdue(call, now) > CURRENT_LANE => Lane::Backlog,
                Stage::Settling => Lane::Settling,
                Stage::Audit => Lane::Audit,
            },
            step: Step::Read {
                read: Read { sid: call.sid, stage: next.stage, skips: next.skips },
                version: call.digest_version,
            },
            changes_at: match next.stage {
                Stage::AfterEnd => call.ended_at.map(|end| self.next_change(end, now)),
                Stage::Settling => call.ended_at.map(|end| after(self.settle_at(end), LATE)),
                // Once settling is due, that shows what the read would show.
                Stage::Reported => call.ended_at.map(|end| self.settle_at(end)),
                Stage::Live | Stage::Audit => None,
            },
        });
        let Some(fetch_at) = self.fetch_at(call) else { return read };
        let fetch = ScheduledStep {
            due_at: fetch_at,
            lane: Lane::Settling,
            step: Step::Fetch(call.sid),
            changes_at: None,
        };
        match read {
            // One request at a time for a call: that it goes on is to be known first.
            Some(read) if fetch_at > now => {
                let changes_at = Some(fetch_at);
                Some(if read.due_at < fetch_at {
                    ScheduledStep { changes_at, ..read }
                } else {
                    fetch
                })
            }
            Some(_) | None => Some(fetch),
        }
    }

    /// When another early read, or settling, takes the place of the one that is due.
    fn next_change(&self, end: Timestamp, now: Timestamp) -> Timestamp {
        let indices = 0..self.after_end.len();
        let changes = indices
            .flat_map(|index| [after(end, self.after_end[index]), self.pointless_at(end, index)]);
        changes.filter(|&at| at > now).fold(self.settle_at(end), Timestamp::min)
    }

    /// When an early read that was not made is skipped: half the way from when it is due to
    /// settling.
    fn pointless_at(&self, end: Timestamp, index: usize) -> Timestamp {
        let due_at = after(end, self.after_end[index]);
        let left = Duration::try_from(self.settle_at(end).duration_since(due_at));
        after(due_at, left.unwrap_or_default() / 2)
    }

    /// When a call is fetched singly unless a list shows it before.
    fn fetch_at(&self, call: &CallProgress) -> Option<Timestamp> {
        let may_go_on = call.status.is_active() || call.status == CallStatus::Other;
        if call.ended_at.is_some() || !may_go_on {
            return None;
        }
        let fetch_at = after(call.last_listed_at, UNSEEN_AFTER);
        Some(call.retry_at.map_or(fetch_at, |retry| retry.max(fetch_at)))
    }

    /// The next read of a call, if there will be one.
    pub fn next_read(
        &self,
        call: &CallProgress,
        early: EarlyPlan,
        now: Timestamp,
    ) -> Option<NextRead> {
        let is_settling_due = call.ended_at.is_some_and(|end| self.settle_at(end) <= now);
        if let Some(reported_at) = call.reported_at.filter(|_| !is_settling_due) {
            let due_at = call.retry_at.map_or(reported_at, |retry| retry.max(reported_at));
            return Some(NextRead { due_at, stage: Stage::Reported, skips: 0 });
        }
        let next = match (call.ended_at, call.settled_at) {
            (None, _) if early.thinned.skips(EarlyStage::LIVE, call.sid) => return None,
            (None, _) => {
                let last = call.last_live_read_at.unwrap_or(call.began_at);
                let due_at = after(last, self.live_interval_of(call, early, last));
                NextRead { due_at, stage: Stage::Live, skips: 0 }
            }
            (Some(end), None) => self.next_after_end(call, end, early, now),
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
    fn live_interval_of(&self, call: &CallProgress, early: EarlyPlan, last: Timestamp) -> Duration {
        let age = Duration::try_from(last.duration_since(call.began_at)).unwrap_or_default();
        self.live_interval.max(early.live_interval).max(age / 60)
    }

    fn next_after_end(
        &self,
        call: &CallProgress,
        end: Timestamp,
        early: EarlyPlan,
        now: Timestamp,
    ) -> NextRead {
        let settle_at = self.settle_at(end);
        let behind = usize::from(call.after_end_reads).min(self.after_end.len());
        let skips = |index: usize| u8::try_from(index - behind).unwrap_or(u8::MAX);
        let due_at = |index: usize| after(end, self.after_end[index]);
        let mut ahead = (behind..self.after_end.len())
            .filter(|&index| !early.thinned.skips(EarlyStage::after_end(index), call.sid))
            .filter(|&index| now < self.pointless_at(end, index));
        // The last that is due takes the place of those before it.
        let due = ahead.clone().take_while(|&index| due_at(index) <= now).last();
        match due.or_else(|| ahead.next()).filter(|_| now < settle_at) {
            Some(index) => {
                NextRead { due_at: due_at(index), stage: Stage::AfterEnd, skips: skips(index) }
            }
            None => NextRead {
                due_at: settle_at,
                stage: Stage::Settling,
                skips: skips(self.after_end.len()),
            },
        }
    }

    /// When the settling read of a call is due: late enough that Twilio's answer settles it.
    pub(super) fn settle_at(&self, end: Timestamp) -> Timestamp {
        after(end, self.settle_delay + SETTLE_MARGIN + DATE_MARGIN)
    }

    /// Whether a read that Twilio answered at `read_at` settles a call.
    pub fn settles(&self, call: &CallProgress, stage: Stage, read_at: Timestamp) -> bool {
        match stage {
            Stage::Settling => call
                .ended_at
                .is_some_and(|end| read_at >= after(end, self.settle_delay + SETTLE_MARGIN)),
            Stage::Reported | Stage::Live | Stage::AfterEnd | Stage::Audit => false,
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

#[cfg(test)]
mod tests;
