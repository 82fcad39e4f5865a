//! The state of one account: its calls, how far its lists have been read, and what to do next.
//!
//! The engine asks for steps, performs them and reports the results here. All times are Twilio's. They run on
//! the monotonic clock; when their offset is corrected, every wait moves with it.

mod failures;
mod lag;
mod lists;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;

use crate::domain::engine::demand::{Demand, ReadRates};
use crate::domain::engine::lists::{ActiveCalls, FOLLOWED_BY_RECENT, ListRun, Lists};
use crate::domain::engine::plan::{self, EarlyPlan, Queue, Read, ReadPlan, Stage, Step};
use crate::domain::track::failing::Failing;
use crate::domain::track::learning::{EarlyStage, Learning};
use crate::domain::track::outcome;
use crate::domain::track::progress::{CallProgress, Counted};
use crate::domain::track::reading::Reading;
use crate::domain::track::twilio_time::{TwilioTime, after, moved};
use crate::domain::words::call::CallStatus;
use crate::domain::words::sid::CallSid;

pub use lag::{AccountLag, is_cursor_behind};
pub use lists::{CallChanges, DATE_TOLERANCE};

/// The number of settled calls an hour that are always audited.
const AUDITS_PER_HOUR: u64 = 50;
/// Beyond that, one settled call in this many is audited.
const AUDIT_ONE_IN: u64 = 100;
/// The maximum number of calls to remember that the error log mentioned before any list returned them. They
/// are forgotten once a list of ended calls has been read to its end.
const MAX_UNLISTED_CALLS: usize = 1_000;
/// The longest wait after a settling read that was too early by Twilio's clock.
const TOO_EARLY_CAP: Duration = Duration::from_secs(60);

/// The state of one account.
#[derive(Debug)]
pub struct AccountProgress {
    reads: ReadPlan,
    /// Its calls, boxed because up to half of a map's space is unused.
    pub calls: BTreeMap<CallSid, Box<CallProgress>>,
    /// How far its lists have been read.
    pub lists: Lists,
    time: TwilioTime,
    /// Calls with a request in flight.
    busy: BTreeSet<CallSid>,
    /// The calls by their next step.
    queue: Queue,
    /// Calls that have changed since they were last placed in the queue.
    to_requeue: BTreeSet<CallSid>,
    learning: Learning,
    demand: Demand,
    /// The shortest time between two reads of an active call that the account can afford.
    live_interval: Duration,
    /// Calls that the error log mentioned before any list returned them.
    reported: BTreeSet<CallSid>,
    /// When a call's events were last read.
    last_read_at: Option<Timestamp>,
    /// When a list was last read to its end.
    last_listed_at: Option<Timestamp>,
    /// When the account started, if it started with a backlog that hasn't been read yet.
    started_behind_at: Option<Timestamp>,
    audit_hour: Option<Timestamp>,
    settled_this_hour: u64,
    audits_this_hour: u64,
}

impl AccountProgress {
    /// Resumes from the stored state.
    pub fn resume(reads: ReadPlan, lists: Lists, calls: Vec<CallProgress>) -> Self {
        let calls: BTreeMap<_, _> =
            calls.into_iter().map(|call| (call.sid, Box::new(call))).collect();
        Self {
            reads,
            to_requeue: calls.keys().copied().collect(),
            calls,
            lists,
            time: TwilioTime::default(),
            busy: BTreeSet::new(),
            queue: Queue::default(),
            learning: Learning::default(),
            demand: Demand::default(),
            live_interval: Duration::ZERO,
            reported: BTreeSet::new(),
            last_read_at: None,
            last_listed_at: None,
            started_behind_at: None,
            audit_hour: None,
            settled_this_hour: 0,
            audits_this_hour: 0,
        }
    }

    /// Converts a local time to Twilio's time.
    pub fn now(&self, local: Timestamp) -> Timestamp {
        self.time.at(local)
    }

    /// The estimate of Twilio's time.
    pub fn time(&self) -> &TwilioTime {
        &self.time
    }

    /// Updates the estimate of Twilio's time with the `Date` of a 200 response, which arrived at local time
    /// `local`. Starts the account once the time is known, and then returns how much of the past is skipped.
    pub fn learn_time(&mut self, date: Option<Timestamp>, local: Timestamp) -> Option<Duration> {
        let by = self.time.observe(date, local);
        if self.lists.is_started() {
            if !by.is_zero() {
                self.lists.shift(by);
                self.demand.shift(by);
                for call in self.calls.values_mut() {
                    call.shift(by);
                    self.to_requeue.insert(call.sid);
                }
                for at in [
                    &mut self.last_read_at,
                    &mut self.last_listed_at,
                    &mut self.started_behind_at,
                    &mut self.audit_hour,
                ] {
                    *at = at.map(|at| moved(at, by));
                }
            }
            return None;
        }
        self.time.is_known().then(|| self.start(self.now(local)))
    }

    /// Starts the account, now that Twilio's time is known. Returns how much of the past is skipped.
    pub fn start(&mut self, now: Timestamp) -> Duration {
        for call in self.calls.values_mut() {
            call.last_listed_at = now;
            self.to_requeue.insert(call.sid);
        }
        self.started_behind_at = is_cursor_behind(self.lists.cursor, now).then_some(now);
        self.lists.start(now)
    }

    fn early_plan(&self) -> EarlyPlan {
        EarlyPlan { thinned: self.learning.thinned(), live_interval: self.live_interval }
    }

    /// Returns the list that is due, if any, and when the next one is due.
    pub fn due_list(&self, now: Timestamp) -> (Option<ListRun>, Timestamp) {
        let (oldest_young, has_old) = self.queue.active(FOLLOWED_BY_RECENT, now);
        self.lists.next(ActiveCalls { oldest_young, has_old }, now)
    }

    /// Returns the next step that is due for a call. The call is busy until the result is reported. Nothing is
    /// due before Twilio's time is known.
    pub fn due_step(&mut self, now: Timestamp) -> Option<Step> {
        if !self.find_due_step(now) {
            return None;
        }
        let early = self.early_plan();
        loop {
            let call = self.queue.next_due().and_then(|sid| self.calls.get(&sid))?;
            let step = self.reads.step(call, early, now);
            if step.is_some() {
                self.busy.insert(call.sid);
            }
            self.queue.place((call, step.is_some()), &self.reads, early, now);
            if step.is_some() {
                return step;
            }
        }
    }

    /// Requeues calls if necessary, and returns whether a step is due for any call.
    pub fn find_due_step(&mut self, now: Timestamp) -> bool {
        if self.lists.is_started() {
            self.requeue(now);
        }
        self.lists.is_started() && self.queue.has_due()
    }

    /// When the queue has to be looked at again, unless something changes earlier.
    pub fn step_at(&self) -> Option<Timestamp> {
        self.queue.wake_at()
    }

    /// Updates the queue positions of calls that have changed or whose timers have expired.
    fn requeue(&mut self, now: Timestamp) {
        let (expired, early) = (self.queue.expired_timers(now), self.early_plan());
        if self.queue.is_empty() && self.to_requeue.len() >= self.calls.len() {
            self.to_requeue.clear();
            let calls = self.calls.values().map(|call| (&**call, self.busy.contains(&call.sid)));
            return self.queue.fill(calls, &self.reads, early, now);
        }
        for sid in std::mem::take(&mut self.to_requeue).into_iter().chain(expired) {
            match self.calls.get(&sid) {
                Some(call) => {
                    self.queue.place((call, self.busy.contains(&sid)), &self.reads, early, now);
                }
                None => self.queue.remove(sid),
            }
        }
    }

    /// Notes that a call's request is no longer in flight.
    fn mark_idle(&mut self, sid: CallSid) {
        self.busy.remove(&sid);
        self.to_requeue.insert(sid);
    }

    /// Notes that the error log mentions a call. Its events are read at once, or as soon as a list returns the
    /// call.
    pub fn report(&mut self, sid: CallSid, now: Timestamp) {
        match self.calls.get_mut(&sid) {
            Some(call) if call.settled_at.is_none() => {
                call.reported_at = Some(now);
                self.to_requeue.insert(sid);
            }
            Some(_) => {}
            None if self.reported.len() < MAX_UNLISTED_CALLS => {
                self.reported.insert(sid);
            }
            None => {}
        }
    }

    /// Processes a reading of a call's events. The events of an incomplete reading are counted, but it doesn't
    /// settle the call, and the caller must also report it as failed.
    pub fn apply_reading(
        &mut self,
        read: Read,
        reading: &Reading,
        now: Timestamp,
    ) -> Option<Counted> {
        let Read { sid, stage, skips } = read;
        self.mark_idle(sid);
        // A `Date` far in the future must not settle the call.
        let read_at = reading.read_at.min(after(now, DATE_TOLERANCE));
        let audits = self.decide_audit(now);
        let call = self.calls.get_mut(&sid)?;
        let settles = reading.is_complete && self.reads.settles(call, stage, read_at);
        let counts_unanswered = settles || (stage == Stage::Audit && reading.is_complete);
        let mut counted = call.count(reading, counts_unanswered);
        if !reading.is_complete {
            return Some(counted);
        }
        self.last_read_at = Some(now);
        call.failing = Failing::default();
        call.retry_at = None;
        call.reported_at = None;
        match stage {
            Stage::Reported => {}
            Stage::Live => {
                // The next read is scheduled by our estimate of the time, not by this answer's `Date`.
                call.last_live_read_at = Some(now);
                call.note_early(EarlyStage::LIVE, read_at, !reading.items.is_empty());
            }
            Stage::AfterEnd => {
                call.note_after_end(skips, read_at, !reading.items.is_empty());
            }
            // The call was read twice at once: the first reading has already counted its outcome.
            Stage::Settling if call.settled_at.is_some() => {}
            Stage::Settling if settles => {
                call.settled_at = Some(read_at);
                call.awaits_audit = audits;
                self.learning.settled(&std::mem::take(&mut call.early_reads), reading);
                counted.outcome = outcome::outcome(&reading.items);
                self.settled_this_hour += 1;
                self.audits_this_hour += u64::from(audits);
            }
            // Too early by Twilio's clock: the call isn't settled and is read again.
            Stage::Settling => {
                let early = self.reads.until_settling(call, read_at);
                let wait = early.clamp(Duration::from_secs(1), TOO_EARLY_CAP);
                call.retry_at = Some(after(now, wait));
            }
            Stage::Audit => call.awaits_audit = false,
        }
        Some(counted)
    }

    /// Returns the time to record for an event, and whether the event predates the account's first poll. An
    /// event may have no time. A time in the future is capped, so that the event doesn't stay the most recent
    /// one forever.
    pub fn dated(&self, created_at: Option<Timestamp>, now: Timestamp) -> (Timestamp, bool) {
        let at = created_at.unwrap_or(now).min(after(now, DATE_TOLERANCE));
        (at, self.lists.is_history(created_at))
    }

    /// Whether a call that settles now is audited later: the first fifty an hour, then one in a hundred. Resets
    /// the counts every hour.
    fn decide_audit(&mut self, now: Timestamp) -> bool {
        let hour = self.audit_hour.get_or_insert(now);
        if after(*hour, Duration::from_secs(3600)) <= now {
            *hour = now;
            self.settled_this_hour = 0;
            self.audits_this_hour = 0;
        }
        self.audits_this_hour < AUDITS_PER_HOUR.max(self.settled_this_hour / AUDIT_ONE_IN)
    }

    /// Marks all calls as idle, because it isn't known which step was lost. A call that is then read twice at
    /// once is still counted once.
    pub fn abandon_all(&mut self) {
        self.to_requeue.append(&mut self.busy);
    }

    /// Marks a call as idle whose step was never performed.
    pub fn abandon(&mut self, sid: CallSid) {
        self.mark_idle(sid);
    }

    /// Forgets the calls that no list can return any more, ends active calls that have exceeded the maximum
    /// duration, and updates the measured demand. Visits every call.
    pub fn run_housekeeping(&mut self, max_concurrency: usize, now: Timestamp) -> CallChanges {
        let mut found = CallChanges::default();
        if !self.lists.is_started() {
            return found;
        }
        let horizon = self.lists.forget_before;
        for call in self.calls.values_mut() {
            if plan::is_forgettable(call, horizon, now) {
                found.forgotten.push(call.sid);
            } else if call.is_endless(now) {
                call.finish(now, false);
                found.finish(call, CallStatus::Other);
                self.to_requeue.insert(call.sid);
            }
        }
        for sid in &found.forgotten {
            self.calls.remove(sid);
            self.to_requeue.insert(*sid);
        }
        self.demand.calls_ended(found.finished.len());
        self.demand.measure(now);
        self.live_interval =
            self.demand.affordable_live_interval(self.read_rates(), max_concurrency);
        found
    }

    /// The number of concurrent requests that the planned reads need, given recent request durations.
    pub fn required_concurrency(&self) -> f64 {
        self.demand.required_concurrency(self.read_rates())
    }

    /// Notes how long a request for Call Events took.
    pub fn request_took(&mut self, took: Duration) {
        self.demand.request_took(took);
    }

    fn read_rates(&self) -> ReadRates {
        let thinned = self.learning.thinned();
        let early = (0..self.reads.after_end.len())
            .filter(|&index| !thinned.is_thinned(EarlyStage::after_end(index)))
            .fold(0.0, |sum, _| sum + 1.0);
        ReadRates {
            after_end: SETTLING_AND_AUDIT + early,
            active: self.queue.active_calls(),
            live_interval: (!thinned.is_thinned(EarlyStage::LIVE))
                .then_some(self.reads.live_interval),
        }
    }
}

/// The reads that every call needs: one to settle it, and an audit of one call in a hundred.
const SETTLING_AND_AUDIT: f64 = 1.01;

#[cfg(test)]
mod tests;
