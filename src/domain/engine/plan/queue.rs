//! The calls of an account in the order of their turns, so that a look at the plan costs what is
//! due and not what is known.
//!
//! A call's place follows from the call, the plan and the time. Whoever changes a call says so; when
//! time changes a place, a timer does.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;

use super::{EarlyPlan, Lane, ReadPlan, ScheduledStep, Step};
use crate::domain::track::progress::CallProgress;
use crate::domain::track::twilio_time::before;
use crate::domain::words::sid::CallSid;

/// One request in this many is the backlog's, if there is one.
const BACKLOG_ONE_IN: u64 = 4;
/// One request in this many is an audit's: one call in a hundred is audited, so that audits keep up.
/// A multiple of the above, so that neither takes the other's turn.
const AUDIT_ONE_IN: u64 = 52;

/// The calls that wait for something.
#[derive(Debug, Default)]
pub struct Queue {
    settling: CallsByTime,
    backlog: CallsByTime,
    after_end: CallsByTime,
    live: CallsByTime,
    audit: CallsByTime,
    /// When a call's place changes by itself.
    timers: CallsByTime,
    /// Active calls by their beginning.
    active: CallsByTime,
    places: BTreeMap<CallSid, QueuePosition>,
    /// Counts the steps taken, so that lanes take turns.
    taken: u64,
}

/// Calls, the first in time first.
type CallsByTime = BTreeSet<(Timestamp, CallSid)>;

/// Where a call stands.
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
        let turn = if is_busy { None } else { plan.turn(call, early, now) };
        let (due, timer) = match turn {
            Some(ScheduledStep { due_at, lane, changes_at, .. }) if due_at <= now => {
                // What has changed already needs no timer, or it would be looked at each time.
                (Some((lane, due_at)), changes_at.filter(|&at| at > now))
            }
            Some(ScheduledStep { due_at, changes_at, .. }) => {
                // Before it is due, it may become something else that is due later.
                let changes_at = changes_at.filter(|&at| at > now);
                (None, Some(changes_at.map_or(due_at, |at| at.min(due_at))))
            }
            None => (None, None),
        };
        Self { due, timer, active_since }
    }

    /// Whether there is anything to wait for.
    fn waits(&self) -> bool {
        self.due.is_some() || self.timer.is_some() || self.active_since.is_some()
    }
}

impl Queue {
    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// Puts all calls where they belong by now, each with whether it is busy, into an empty queue:
    /// a set that is built at once takes half the time of one that grows.
    pub fn fill<'a>(
        &mut self,
        calls: impl Iterator<Item = (&'a CallProgress, bool)>,
        plan: &ReadPlan,
        early: EarlyPlan,
        now: Timestamp,
    ) {
        let of = |known: (&'a CallProgress, bool)| {
            (known.0.sid, QueuePosition::new(known, plan, early, now))
        };
        let places: Vec<(CallSid, QueuePosition)> =
            calls.map(of).filter(|(_, place)| place.waits()).collect();
        for lane in Lane::ALL {
            let due = places.iter().filter_map(|&(sid, place)| Some((place.due?, sid)));
            let due = due.filter(|&((found, _), _)| found == lane);
            *self.lane(lane) = due.map(|((_, at), sid)| (at, sid)).collect();
        }
        let timers = places.iter().filter_map(|&(sid, place)| Some((place.timer?, sid)));
        self.timers = timers.collect();
        let active = places.iter().filter_map(|&(sid, place)| Some((place.active_since?, sid)));
        self.active = active.collect();
        self.places = places.into_iter().collect();
    }

    /// Puts a call where it belongs by now; one that is busy waits for nothing.
    pub fn place(
        &mut self,
        (call, is_busy): (&CallProgress, bool),
        plan: &ReadPlan,
        early: EarlyPlan,
        now: Timestamp,
    ) {
        self.remove(call.sid);
        let place = QueuePosition::new((call, is_busy), plan, early, now);
        if let Some((lane, due_at)) = place.due {
            self.lane(lane).insert((due_at, call.sid));
        }
        self.timers.extend(place.timer.map(|at| (at, call.sid)));
        self.active.extend(place.active_since.map(|at| (at, call.sid)));
        if place.waits() {
            self.places.insert(call.sid, place);
        }
    }

    /// Takes a call out that is no longer known.
    pub fn remove(&mut self, sid: CallSid) {
        let Some(place) = self.places.remove(&sid) else { return };
        if let Some((lane, due_at)) = place.due {
            self.lane(lane).remove(&(due_at, sid));
        }
        if let Some(at) = place.timer {
            self.timers.remove(&(at, sid));
        }
        if let Some(at) = place.active_since {
            self.active.remove(&(at, sid));
        }
    }

    /// The calls whose time has come to be placed anew.
    pub fn ripe(&self, now: Timestamp) -> Vec<CallSid> {
        self.timers.iter().take_while(|&&(at, _)| at <= now).map(|&(_, sid)| sid).collect()
    }

    /// When the next call's time will come.
    pub fn wake_at(&self) -> Option<Timestamp> {
        self.timers.first().map(|&(at, _)| at)
    }

    /// Whether a call is due.
    pub fn has_due(&self) -> bool {
        let lanes = [&self.settling, &self.backlog, &self.after_end, &self.live, &self.audit];
        lanes.iter().any(|turns| !turns.is_empty())
    }

    /// When the oldest active call began that is younger than an age, and whether an older one is
    /// active.
    pub fn active(&self, age: Duration, now: Timestamp) -> (Option<Timestamp>, bool) {
        let limit = before(now, age);
        let oldest_young = self.active.range((limit, CallSid::FIRST)..).next();
        let has_old = self.active.first().is_some_and(|&(began_at, _)| began_at < limit);
        (oldest_young.map(|&(began_at, _)| began_at), has_old)
    }

    /// How many calls are active.
    pub fn active_calls(&self) -> usize {
        self.active.len()
    }

    /// The next call that is due, as lanes take turns. Settling is done in the order in which it
    /// became due; early reads are perishable, so the one that became due last comes first. The
    /// caller places the call again.
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
            let turns = self.lane(lane);
            match lane {
                AfterEnd | Live => turns.last().copied(),
                Settling | Backlog | Audit => turns.first().copied(),
            }
        })?;
        self.taken += 1;
        Some(sid)
    }

    /// The calls that are due, and where they wait.
    #[cfg(test)]
    pub(super) fn due(&self) -> BTreeMap<CallSid, (Lane, Timestamp)> {
        let lanes = [
            (Lane::Settling, &self.settling),
            (Lane::Backlog, &self.backlog),
            (Lane::AfterEnd, &self.after_end),
            (Lane::Live, &self.live),
            (Lane::Audit, &self.audit),
        ];
        let of = |(lane, turns): (Lane, &'_ CallsByTime)| {
            turns.iter().map(move |&(at, sid)| (sid, (lane, at))).collect::<Vec<_>>()
        };
        lanes.into_iter().flat_map(of).collect()
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
    /// What is due for a call now.
    pub fn step(&self, call: &CallProgress, early: EarlyPlan, now: Timestamp) -> Option<Step> {
        self.turn(call, early, now).filter(|turn| turn.due_at <= now).map(|turn| turn.step)
    }
}
