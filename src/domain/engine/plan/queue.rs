//! The calls of an account by their next step, so that the cost of finding due calls depends on how many are due,
//! not on how many are tracked.
//!
//! A call's position follows from the call, the plan and the time. Code that changes a call must place it again;
//! a timer marks when the passing of time changes its position.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;

use super::{EarlyPlan, Lane, ReadPlan, ScheduledStep, Step};
use crate::domain::track::progress::CallProgress;
use crate::domain::track::twilio_time::before;
use crate::domain::words::sid::CallSid;

/// One request in this many goes to the backlog, if there is one.
const BACKLOG_ONE_IN: u64 = 4;
/// One request in this many goes to an audit. Only one call in a hundred is audited, so audits keep up.
/// A multiple of [`BACKLOG_ONE_IN`], so that the two never fall on the same request.
const AUDIT_ONE_IN: u64 = 52;

/// The calls that wait for a step or are active.
#[derive(Debug, Default)]
pub struct Queue {
    settling: CallsByTime,
    backlog: CallsByTime,
    after_end: CallsByTime,
    live: CallsByTime,
    audit: CallsByTime,
    /// When each call's position changes with time.
    timers: CallsByTime,
    /// Active calls by when they began.
    active: CallsByTime,
    positions: BTreeMap<CallSid, QueuePosition>,
    /// The number of calls taken from the queue; it determines which lane goes first.
    taken: u64,
}

/// Calls ordered by time, earliest first.
type CallsByTime = BTreeSet<(Timestamp, CallSid)>;

/// A call's position in the queue.
#[derive(Clone, Copy, Debug, Default)]
struct QueuePosition {
    due: Option<(Lane, Timestamp)>,
    timer: Option<Timestamp>,
    active_since: Option<Timestamp>,
}

impl QueuePosition {
    fn new(
        (call, is_busy): (&CallProgress, bool),
        plan: &ReadPlan,
        early: EarlyPlan,
        now: Timestamp,
    ) -> Self {
        let active_since = call.ended_at.is_none().then_some(call.began_at);
        let next = if is_busy { None } else { plan.next_step(call, early, now) };
        let (due, timer) = match next {
            Some(ScheduledStep { due_at, lane, changes_at, .. }) if due_at <= now => {
                // A timer in the past would cause the call to be placed again every time.
                (Some((lane, due_at)), changes_at.filter(|&at| at > now))
            }
            Some(ScheduledStep { due_at, changes_at, .. }) => {
                // A different step, due later, may replace it before it is due.
                let changes_at = changes_at.filter(|&at| at > now);
                (None, Some(changes_at.map_or(due_at, |at| at.min(due_at))))
            }
            None => (None, None),
        };
        Self { due, timer, active_since }
    }

    /// Whether the call belongs in the queue.
    fn is_queued(&self) -> bool {
        self.due.is_some() || self.timer.is_some() || self.active_since.is_some()
    }
}

impl Queue {
    /// Whether the queue is empty.
    pub fn is_empty(&self) -> bool {
        self.positions.is_empty()
    }

    /// Places all calls, each with whether it is busy, in an empty queue. Building a set at once takes half as
    /// long as inserting calls one by one.
    pub fn fill<'a>(
        &mut self,
        calls: impl Iterator<Item = (&'a CallProgress, bool)>,
        plan: &ReadPlan,
        early: EarlyPlan,
        now: Timestamp,
    ) {
        let position = |known: (&'a CallProgress, bool)| {
            (known.0.sid, QueuePosition::new(known, plan, early, now))
        };
        let positions: Vec<(CallSid, QueuePosition)> =
            calls.map(position).filter(|(_, position)| position.is_queued()).collect();
        for lane in Lane::ALL {
            let due = positions.iter().filter_map(|&(sid, position)| Some((position.due?, sid)));
            let due = due.filter(|&((found, _), _)| found == lane);
            *self.lane(lane) = due.map(|((_, at), sid)| (at, sid)).collect();
        }
        let timers = positions.iter().filter_map(|&(sid, position)| Some((position.timer?, sid)));
        self.timers = timers.collect();
        let active =
            positions.iter().filter_map(|&(sid, position)| Some((position.active_since?, sid)));
        self.active = active.collect();
        self.positions = positions.into_iter().collect();
    }

    /// Places a call at its current position; a busy call waits for no step.
    pub fn place(
        &mut self,
        (call, is_busy): (&CallProgress, bool),
        plan: &ReadPlan,
        early: EarlyPlan,
        now: Timestamp,
    ) {
        self.remove(call.sid);
        let position = QueuePosition::new((call, is_busy), plan, early, now);
        if let Some((lane, due_at)) = position.due {
            self.lane(lane).insert((due_at, call.sid));
        }
        self.timers.extend(position.timer.map(|at| (at, call.sid)));
        self.active.extend(position.active_since.map(|at| (at, call.sid)));
        if position.is_queued() {
            self.positions.insert(call.sid, position);
        }
    }

    /// Removes a call.
    pub fn remove(&mut self, sid: CallSid) {
        let Some(position) = self.positions.remove(&sid) else { return };
        if let Some((lane, due_at)) = position.due {
            self.lane(lane).remove(&(due_at, sid));
        }
        if let Some(at) = position.timer {
            self.timers.remove(&(at, sid));
        }
        if let Some(at) = position.active_since {
            self.active.remove(&(at, sid));
        }
    }

    /// Returns the calls that have to be placed again because their timers have expired.
    pub fn expired_timers(&self, now: Timestamp) -> Vec<CallSid> {
        self.timers.iter().take_while(|&&(at, _)| at <= now).map(|&(_, sid)| sid).collect()
    }

    /// When the next timer expires.
    pub fn wake_at(&self) -> Option<Timestamp> {
        self.timers.first().map(|&(at, _)| at)
    }

    /// Whether any call is due.
    pub fn has_due(&self) -> bool {
        let lanes = [&self.settling, &self.backlog, &self.after_end, &self.live, &self.audit];
        lanes.iter().any(|calls| !calls.is_empty())
    }

    /// Returns when the oldest active call of at most `age` began, and whether an older call is active.
    pub fn active(&self, age: Duration, now: Timestamp) -> (Option<Timestamp>, bool) {
        let limit = before(now, age);
        let oldest_young = self.active.range((limit, CallSid::FIRST)..).next();
        let has_old = self.active.first().is_some_and(|&(began_at, _)| began_at < limit);
        (oldest_young.map(|&(began_at, _)| began_at), has_old)
    }

    /// The number of active calls.
    pub fn active_calls(&self) -> usize {
        self.active.len()
    }

    /// Returns the next call that is due, alternating between lanes. Settling reads are taken in the order in which
    /// they became due. Early reads lose their value with time, so the one that became due last is taken first.
    /// The caller must place the call again.
    pub fn next_due(&mut self) -> Option<CallSid> {
        use Lane::{AfterEnd, Audit, Backlog, Live, Settling};
        let order = if self.taken % AUDIT_ONE_IN == 1 {
            [Audit, Settling, AfterEnd, Live, Backlog]
        } else if self.taken % BACKLOG_ONE_IN == BACKLOG_ONE_IN - 1 {
            [Backlog, Settling, AfterEnd, Live, Audit]
        } else {
            [Settling, AfterEnd, Live, Backlog, Audit]
        };
        let (_, sid) = order.into_iter().find_map(|lane| {
            let calls = self.lane(lane);
            match lane {
                AfterEnd | Live => calls.last().copied(),
                Settling | Backlog | Audit => calls.first().copied(),
            }
        })?;
        self.taken += 1;
        Some(sid)
    }

    /// The calls that are due, with their lanes and due times.
    #[cfg(test)]
    pub(super) fn due(&self) -> BTreeMap<CallSid, (Lane, Timestamp)> {
        let lanes = [
            (Lane::Settling, &self.settling),
            (Lane::Backlog, &self.backlog),
            (Lane::AfterEnd, &self.after_end),
            (Lane::Live, &self.live),
            (Lane::Audit, &self.audit),
        ];
        let calls_of = |(lane, calls): (Lane, &'_ CallsByTime)| {
            calls.iter().map(move |&(at, sid)| (sid, (lane, at))).collect::<Vec<_>>()
        };
        lanes.into_iter().flat_map(calls_of).collect()
    }

    fn lane(&mut self, lane: Lane) -> &mut CallsByTime {
        match lane {
            Lane::Settling => &mut self.settling,
            Lane::Backlog => &mut self.backlog,
            Lane::AfterEnd => &mut self.after_end,
            Lane::Live => &mut self.live,
            Lane::Audit => &mut self.audit,
        }
    }
}

impl ReadPlan {
    /// Returns the step that is due for a call now.
    pub fn step(&self, call: &CallProgress, early: EarlyPlan, now: Timestamp) -> Option<Step> {
        self.next_step(call, early, now).filter(|next| next.due_at <= now).map(|next| next.step)
    }
}
