//! When the events of each call are read.
//!
//! A call is read while active and shortly after its end to keep the metrics fresh. Correctness depends on the
//! settling read; audits estimate how much even that misses.

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

/// How long an active call may be absent from all lists before it is fetched individually.
/// Each active status is listed at least every 24 minutes.
const UNSEEN_AFTER: Duration = Duration::from_secs(30 * 60);
/// The most that a settling read may be overdue without joining the backlog. After downtime, overdue reads would
/// otherwise delay current ones for half an hour.
const BACKLOG_AFTER: Duration = Duration::from_secs(2 * 60);
/// When an overdue settling read joins the backlog.
const BACKLOG_FROM: Duration = BACKLOG_AFTER.saturating_add(Duration::from_millis(1));
/// How long a call without an end time is kept after lists stop returning it.
const NO_END_TIME_RETENTION: Duration = Duration::from_secs(48 * 60 * 60);
/// An account is catching up when its lists or its settling reads are further behind than this.
pub const CATCHING_UP_AFTER: Duration = Duration::from_secs(15 * 60);

label_enum! {
    /// Why a call's events are read.
    pub enum Stage {
        /// Because the error log mentions the call.
        Reported = "reported",
        /// While the call is active.
        Live = "live",
        /// Soon after its end.
        AfterEnd = "after_end",
        /// After the settle delay: the last read that must not be skipped.
        Settling = "settling",
        /// Again, to check whether the settling read missed events.
        Audit = "audit",
    }
}

/// When the events of a call are read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadPlan {
    /// The time between two reads of an active call.
    pub live_interval: Duration,
    /// The delays from a call's end to its early reads.
    pub after_end: Vec<Duration>,
    /// The delay from a call's end to its settling read.
    pub settle_delay: Duration,
    /// The delay from the settling read to the audit.
    pub audit_after: Duration,
}

/// The next read of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NextRead {
    /// When it is due.
    pub due_at: Timestamp,
    /// The reason for the read.
    pub stage: Stage,
    /// The number of early reads that this one replaces.
    pub skips: u8,
}

/// A read of a call's events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Read {
    /// The call.
    pub sid: CallSid,
    /// The reason for the read.
    pub stage: Stage,
    /// The number of early reads that this one replaces.
    pub skips: u8,
}

/// The next step for a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Read its Call Events.
    Read {
        /// The call and the reason.
        read: Read,
        /// The version of the digests that identify its items.
        version: DigestVersion,
    },
    /// Fetch the call itself, because no list has returned it for a long time.
    Fetch(CallSid),
}

/// The next step for a call, and when it is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct ScheduledStep {
    due_at: Timestamp,
    lane: Lane,
    step: Step,
    /// When a different step replaces it if it hasn't been performed by then.
    changes_at: Option<Timestamp>,
}

/// The queues that compete for requests. Settling goes first, since correctness depends on it; the backlog gets
/// at least one request in four, and audits one in 52. Early reads get the rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lane {
    /// Settling reads that became due recently, and fetches of calls that no list returns: such a call can't settle
    /// until its end is known.
    Settling,
    /// Settling reads that are late.
    Backlog,
    /// Early reads of ended calls, and reads of calls that the error log mentions.
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
    /// Stages that are thinned because their reads find no events.
    pub thinned: Thinned,
    /// The shortest time between two reads of an active call, stretched while requests are scarce.
    pub live_interval: Duration,
}

impl EarlyPlan {
    /// Early reads as configured.
    pub const FULL: Self = Self { thinned: Thinned::NONE, live_interval: Duration::ZERO };
}

impl ReadPlan {
    /// Returns the next step for a call, due or not; `None` if there will be none.
    fn next_step(
        &self,
        call: &CallProgress,
        early: EarlyPlan,
        now: Timestamp,
    ) -> Option<ScheduledStep> {
        let read = self.next_read(call, early, now).map(|next| ScheduledStep {
            due_at: next.due_at,
            lane: match next.stage {
                Stage::Live => Lane::Live,
                Stage::AfterEnd | Stage::Reported => Lane::AfterEnd,
                Stage::Settling if self.overdue(call, now) > BACKLOG_AFTER => Lane::Backlog,
                Stage::Settling => Lane::Settling,
                Stage::Audit => Lane::Audit,
            },
            step: Step::Read {
                read: Read { sid: call.sid, stage: next.stage, skips: next.skips },
                version: call.digest_version,
            },
            changes_at: match next.stage {
                Stage::AfterEnd => call.ended_at.map(|end| self.next_change(end, now)),
                Stage::Settling => {
                    call.ended_at.map(|end| after(self.settle_at(end), BACKLOG_FROM))
                }
                // Once the settling read is due, it covers this read.
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
            // A call has one request at a time: once the fetch is due, it goes first.
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

    /// When another early read, or the settling read, replaces the early read that is due.
    fn next_change(&self, end: Timestamp, now: Timestamp) -> Timestamp {
        let indices = 0..self.after_end.len();
        let changes = indices
            .flat_map(|index| [after(end, self.after_end[index]), self.skipped_from(end, index)]);
        changes.filter(|&at| at > now).fold(self.settle_at(end), Timestamp::min)
    }

    /// When an early read that hasn't been made is skipped: halfway between its due time and the settling read.
    fn skipped_from(&self, end: Timestamp, index: usize) -> Timestamp {
        let due_at = after(end, self.after_end[index]);
        let left = Duration::try_from(self.settle_at(end).duration_since(due_at));
        after(due_at, left.unwrap_or_default() / 2)
    }

    /// When a call is fetched individually, unless a list returns it earlier.
    fn fetch_at(&self, call: &CallProgress) -> Option<Timestamp> {
        let may_be_active = call.status.is_active() || call.status == CallStatus::Other;
        if call.ended_at.is_some() || !may_be_active {
            return None;
        }
        let fetch_at = after(call.last_listed_at, UNSEEN_AFTER);
        Some(call.retry_at.map_or(fetch_at, |retry| retry.max(fetch_at)))
    }

    /// Returns the next read of a call, if there will be one.
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

    /// The time between two reads of an active call: at least a sixtieth of its age, so that a long call, or one
    /// that Twilio never ends, is read less and less often.
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
        let done = usize::from(call.after_end_reads).min(self.after_end.len());
        let skips = |index: usize| u8::try_from(index - done).unwrap_or(u8::MAX);
        let due_at = |index: usize| after(end, self.after_end[index]);
        let mut remaining = (done..self.after_end.len())
            .filter(|&index| !early.thinned.skips(EarlyStage::after_end(index), call.sid))
            .filter(|&index| now < self.skipped_from(end, index));
        // The last read that is due replaces those before it.
        let due = remaining.clone().take_while(|&index| due_at(index) <= now).last();
        match due.or_else(|| remaining.next()).filter(|_| now < settle_at) {
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

    /// When the settling read of a call is due: late enough for Twilio's answer to settle it.
    pub(super) fn settle_at(&self, end: Timestamp) -> Timestamp {
        after(end, self.settle_delay + SETTLE_MARGIN + DATE_MARGIN)
    }

    /// Whether a read that Twilio answered at `read_at` settles the call.
    pub fn settles(&self, call: &CallProgress, stage: Stage, read_at: Timestamp) -> bool {
        match stage {
            Stage::Settling => call
                .ended_at
                .is_some_and(|end| read_at >= after(end, self.settle_delay + SETTLE_MARGIN)),
            Stage::Reported | Stage::Live | Stage::AfterEnd | Stage::Audit => false,
        }
    }

    /// How much later Twilio would have had to answer a read for it to settle the call; zero if it was late enough.
    pub fn until_settling(&self, call: &CallProgress, read_at: Timestamp) -> Duration {
        let settles_at =
            call.ended_at.map_or(read_at, |end| after(end, self.settle_delay + SETTLE_MARGIN));
        Duration::try_from(settles_at.duration_since(read_at)).unwrap_or_default()
    }

    /// How long a call's settling read has been overdue.
    pub fn overdue(&self, call: &CallProgress, now: Timestamp) -> Duration {
        match (call.ended_at, call.settled_at) {
            (Some(end), None) => {
                Duration::try_from(now.duration_since(self.settle_at(end))).unwrap_or_default()
            }
            (None | Some(_), _) => Duration::ZERO,
        }
    }
}

/// Twilio truncates times to the second: a call may have ended up to a second later than its end time.
const SETTLE_MARGIN: Duration = Duration::from_secs(1);
/// The `Date` of an answer is also truncated to the second, and our estimate of Twilio's time is off by up to
/// half a second. With this margin, the first answer settles the call.
const DATE_MARGIN: Duration = Duration::from_secs(2);

/// Whether all reads of a call are done and no list can return it any more.
pub fn is_forgettable(
    call: &CallProgress,
    forget_before: Option<Timestamp>,
    now: Timestamp,
) -> bool {
    let (Some(end), Some(horizon)) = (call.ended_at, forget_before) else { return false };
    let is_gone = call.has_end_time || after(call.last_listed_at, NO_END_TIME_RETENTION) < now;
    call.settled_at.is_some() && !call.awaits_audit && end <= horizon && is_gone
}

#[cfg(test)]
mod tests;
