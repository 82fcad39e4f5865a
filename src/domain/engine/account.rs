//! What is known of one account: its calls, how far its lists are known, and what to do next.
//!
//! The engine asks for steps, has them performed, and reports back here. All times are Twilio's, which run on the monotonic clock; a correction of their offset moves every wait along.

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

/// Audits an hour that are always made, however few calls there are.
const AUDITS_PER_HOUR: u64 = 50;
/// Beyond that, one call in this many is audited.
const AUDIT_ONE_IN: u64 = 100;
/// Most calls that are remembered because the error log told of them, and no list has shown them yet. The
/// next list of ended calls forgets them.
const MAX_REPORTED: usize = 1_000;
/// Longest wait after a settling read that Twilio answered too early by its own clock.
const TOO_EARLY_CAP: Duration = Duration::from_secs(60);

/// What is known of one account.
#[derive(Debug)]
pub struct AccountProgress {
    reads: ReadPlan,
    /// Its calls. Boxed, because up to half of a map's space is unused.
    pub calls: BTreeMap<CallSid, Box<CallProgress>>,
    /// How far its lists are known.
    pub lists: Lists,
    time: TwilioTime,
    /// Calls with a request in flight.
    busy: BTreeSet<CallSid>,
    /// Calls in the order of their turns.
    queue: Queue,
    /// Calls that changed since they were placed in it.
    moved: BTreeSet<CallSid>,
    learning: Learning,
    demand: Demand,
    /// Least time between two reads of an active call, by what the account can afford.
    live_interval: Duration,
    /// Calls that the error log told of before any list showed them.
    reported: BTreeSet<CallSid>,
    /// When a call's events were last read.
    last_read_at: Option<Timestamp>,
    /// When a list was last read to its end.
    last_listed_at: Option<Timestamp>,
    /// When the account began, if that was with the past, which isn't read yet.
    began_behind_at: Option<Timestamp>,
    audit_hour: Option<Timestamp>,
    settled_this_hour: u64,
    audits_this_hour: u64,
}

impl AccountProgress {
    /// Begins with what the store knows.
    pub fn resume(reads: ReadPlan, lists: Lists, calls: Vec<CallProgress>) -> Self {
        let calls: BTreeMap<_, _> =
            calls.into_iter().map(|call| (call.sid, Box::new(call))).collect();
        Self {
            reads,
            moved: calls.keys().copied().collect(),
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
            began_behind_at: None,
            audit_hour: None,
            settled_this_hour: 0,
            audits_this_hour: 0,
        }
    }

    /// Twilio's time at a local time.
    pub fn now(&self, local: Timestamp) -> Timestamp {
        self.time.at(local)
    }

    /// What is known of Twilio's time.
    pub fn time(&self) -> &TwilioTime {
        &self.time
    }

    /// Learns Twilio's time from the `Date` of one of its 200s, which arrived at a local time.
    /// Begins once it is known, and then returns how much of the past was cut off.
    pub fn learn_time(&mut self, date: Option<Timestamp>, local: Timestamp) -> Option<Duration> {
        let by = self.time.observe(date, local);
        if self.lists.is_started() {
            if !by.is_zero() {
                self.lists.shift(by);
                self.demand.shift(by);
                for call in self.calls.values_mut() {
                    call.shift(by);
                    self.moved.insert(call.sid);
                }
                for at in [
                    &mut self.last_read_at,
                    &mut self.last_listed_at,
                    &mut self.began_behind_at,
                    &mut self.audit_hour,
                ] {
                    *at = at.map(|at| moved(at, by));
                }
            }
            return None;
        }
        self.time.is_known().then(|| self.start(self.now(local)))
    }

    /// Begins, now that Twilio's time is known. Returns how much of the past was cut off.
    pub fn start(&mut self, now: Timestamp) -> Duration {
        for call in self.calls.values_mut() {
            call.last_listed_at = now;
            self.moved.insert(call.sid);
        }
        self.began_behind_at = is_cursor_behind(self.lists.cursor, now).then_some(now);
        self.lists.start(now)
    }

    fn early_plan(&self) -> EarlyPlan {
        EarlyPlan { thinned: self.learning.thinned(), live_interval: self.live_interval }
    }

    /// The list that is due, if one is, and when the next one will be.
    pub fn due_list(&self, now: Timestamp) -> (Option<ListRun>, Timestamp) {
        let (oldest_young, has_old) = self.queue.active(FOLLOWED_BY_RECENT, now);
        self.lists.next(ActiveCalls { oldest_young, has_old }, now)
    }

    /// What is due for a call. It counts as busy until the end of that is reported. Before Twilio's time
    /// is known, nothing is.
    pub fn due_step(&mut self, now: Timestamp) -> Option<Step> {
        if !self.has_due_step(now) {
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

    /// Whether something is due for a call.
    pub fn has_due_step(&mut self, now: Timestamp) -> bool {
        if self.lists.is_started() {
            self.place(now);
        }
        self.lists.is_started() && self.queue.has_due()
    }

    /// When something will be due for a call, if nothing happens before.
    pub fn step_at(&self) -> Option<Timestamp> {
        self.queue.wake_at()
    }

    /// Puts the calls that have changed, and those whose time has come, where they belong.
    fn place(&mut self, now: Timestamp) {
        let (ripe, early) = (self.queue.ripe(now), self.early_plan());
        if self.queue.is_empty() && self.moved.len() >= self.calls.len() {
            self.moved.clear();
            let calls = self.calls.values().map(|call| (&**call, self.busy.contains(&call.sid)));
            return self.queue.fill(calls, &self.reads, early, now);
        }
        for sid in std::mem::take(&mut self.moved).into_iter().chain(ripe) {
            match self.calls.get(&sid) {
                Some(call) => {
                    self.queue.place((call, self.busy.contains(&sid)), &self.reads, early, now);
                }
                None => self.queue.remove(sid),
            }
        }
    }

    /// Notes that a call's request came back.
    fn free(&mut self, sid: CallSid) {
        self.busy.remove(&sid);
        self.moved.insert(sid);
    }

    /// Notes that the error log tells of a call: its events are read at once, also where a list shows it
    /// only later.
    pub fn report(&mut self, sid: CallSid, now: Timestamp) {
        match self.calls.get_mut(&sid) {
            Some(call) if call.settled_at.is_none() => {
                call.reported_at = Some(now);
                self.moved.insert(sid);
            }
            Some(_) => {}
            None if self.reported.len() < MAX_REPORTED => {
                self.reported.insert(sid);
            }
            None => {}
        }
    }

    /// Takes a reading of a call's events. One that is not complete counts what it shows, settles
    /// nothing, and is to be reported as failed as well.
    pub fn take_reading(
        &mut self,
        read: Read,
        reading: &Reading,
        now: Timestamp,
    ) -> Option<Counted> {
        let Read { sid, stage, skips } = read;
        self.free(sid);
        // A `Date` far in the future settles nothing.
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
                // The next read waits for the schedule, which no `Date` moves.
                call.last_live_read_at = Some(now);
                call.note_early(EarlyStage::LIVE, read_at, !reading.items.is_empty());
            }
            Stage::AfterEnd => {
                call.note_after_end(skips, read_at, !reading.items.is_empty());
            }
            // Read twice at once: what callers felt is counted by the first.
            Stage::Settling if call.settled_at.is_some() => {}
            Stage::Settling if settles => {
                call.settled_at = Some(read_at);
                call.awaits_audit = audits;
                self.learning.settled(&std::mem::take(&mut call.early_reads), reading);
                counted.outcome = outcome::outcome(&reading.items);
                self.settled_this_hour += 1;
                self.audits_this_hour += u64::from(audits);
            }
            // Asked too early by Twilio's own clock: not settled, asked again.
            Stage::Settling => {
                let early = self.reads.until_settling(call, read_at);
                let wait = early.clamp(Duration::from_secs(1), TOO_EARLY_CAP);
                call.retry_at = Some(after(now, wait));
            }
            Stage::Audit => call.awaits_audit = false,
        }
        Some(counted)
    }

    /// When an event counts as having happened, and whether it is old news: it may tell no time, and an
    /// odd one in the future must not be the most recent for ever.
    pub fn dated(&self, created_at: Option<Timestamp>, now: Timestamp) -> (Timestamp, bool) {
        let at = created_at.unwrap_or(now).min(after(now, DATE_TOLERANCE));
        (at, self.lists.is_history(created_at))
    }

    /// Whether a call that settles now is audited later: the first fifty an hour, then one in a
    /// hundred.
    fn decide_audit(&mut self, now: Timestamp) -> bool {
        let hour = self.audit_hour.get_or_insert(now);
        if after(*hour, Duration::from_secs(3600)) <= now {
            *hour = now;
            self.settled_this_hour = 0;
            self.audits_this_hour = 0;
        }
        self.audits_this_hour < AUDITS_PER_HOUR.max(self.settled_this_hour / AUDIT_ONE_IN)
    }

    /// Takes back all steps, because it isn't known which one was lost. A call that is read twice
    /// at once is counted once all the same.
    pub fn abandon_all(&mut self) {
        self.moved.append(&mut self.busy);
    }

    /// Takes back a step that was never performed.
    pub fn abandon(&mut self, sid: CallSid) {
        self.free(sid);
    }

    /// Forgets the calls that no list can bring back, ends those that nothing else will end, and
    /// measures what reads cost. Looks at every call.
    pub fn keep_house(&mut self, max_concurrency: usize, now: Timestamp) -> CallChanges {
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
                self.moved.insert(call.sid);
            }
        }
        for sid in &found.forgotten {
            self.calls.remove(sid);
            self.moved.insert(*sid);
        }
        self.demand.calls_ended(found.finished.len());
        self.demand.measure(now);
        self.live_interval =
            self.demand.affordable_live_interval(self.read_rates(), max_concurrency);
        found
    }

    /// The concurrent requests that the planned reads need, at the durations of late.
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

/// Reads of a call that are always planned: one settles it, and one in a hundred is audited.
const SETTLING_AND_AUDIT: f64 = 1.01;

#[cfg(test)]
mod tests;
