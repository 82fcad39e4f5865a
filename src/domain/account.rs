//! What is known of one account: its calls, how far its lists are known, and what to do next.
//!
//! Pure: the poller's shell asks for steps, performs them, and reports back here.

mod lateness;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;

use super::call::{Call, CallStatus, Direction};
use super::learning::{EarlyStage, Learning};
use super::listing::{ActiveCalls, AfterPage, FOLLOWED_BY_RECENT, ListPlan, ListRun, Lists};
use super::outcome::{self, Outcome};
use super::plan::{self, Queue, ReadPlan, Stage, Step};
use super::progress::{CallProgress, Counted, Seen};
use super::reading::Reading;
use super::retry;
use super::sid::CallSid;
use super::twilio_time::after;

pub use lateness::Lateness;

/// Audits an hour that are always made, however few calls there are.
const AUDITS_PER_HOUR: u64 = 50;
/// Beyond that, one call in this many is audited.
const AUDIT_ONE_IN: u64 = 100;
/// Longest wait before an early read is tried again.
const EARLY_RETRY_CAP: Duration = Duration::from_secs(60);
/// Longest wait before a settling read is tried again.
const SETTLING_RETRY_CAP: Duration = Duration::from_secs(10 * 60);
/// How long a call's settling is tried that Twilio refuses to show, from its first failure.
const GIVE_UP_REFUSED_AFTER: Duration = Duration::from_secs(60 * 60);
/// How long a call's settling is tried that fails for any other reason, while other calls of the
/// account can be read.
const GIVE_UP_FAILING_AFTER: Duration = Duration::from_secs(24 * 60 * 60);
/// Failures of a call before it may be given up at all.
const GIVE_UP_FAILURES: u32 = 8;
/// How lately another call must have been read for a failure to be the call's own.
const READABLE_WITHIN: Duration = Duration::from_secs(60 * 60);
/// Longest wait after a settling read that Twilio answered too early by its own clock.
const TOO_EARLY_CAP: Duration = Duration::from_secs(60);

/// What is known of one account.
#[derive(Debug, Default)]
pub struct AccountProgress {
    /// Its calls.
    pub calls: BTreeMap<CallSid, CallProgress>,
    /// How far its lists are known.
    pub lists: Lists,
    /// Calls with a request in flight.
    busy: BTreeSet<CallSid>,
    /// Calls in the order of their turns.
    queue: Queue,
    /// Calls that changed since they were placed in it.
    moved: BTreeSet<CallSid>,
    learning: Learning,
    last_read_at: Option<Timestamp>,
    audit_hour: Option<Timestamp>,
    settled_this_hour: u64,
    audits_this_hour: u64,
}

/// What to do next, and when to ask again if nothing happens before.
#[derive(Debug)]
pub struct Plan {
    /// The list to read; at most one at a time.
    pub list: Option<ListRun>,
    /// What to do for single calls.
    pub steps: Vec<Step>,
    /// When the next thing will be due.
    pub wake_at: Timestamp,
}

/// What a list page or a fetched call changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CallChanges {
    /// Calls whose progress must be kept.
    pub changed: Vec<CallSid>,
    /// Calls that have finished, each once.
    pub finished: Vec<(Direction, CallStatus)>,
}

/// What a complete reading changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadChanges {
    /// What was counted.
    pub counted: Counted,
    /// What callers felt, told once per call.
    pub outcome: Option<Outcome>,
}

/// Why a read of a call's events failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadFailure {
    /// Twilio answers for other calls but not for this one: it isn't found, or can't be read.
    Refused,
    /// Twilio failed for this call, or could not be reached.
    Failed,
}

impl AccountProgress {
    /// Begins with what the store knows.
    pub fn resume(calls: Vec<CallProgress>, lists: Lists) -> Self {
        let calls: BTreeMap<_, _> = calls.into_iter().map(|call| (call.sid, call)).collect();
        Self { moved: calls.keys().copied().collect(), calls, lists, ..Self::default() }
    }

    /// Begins, now that Twilio's time is known. Returns how much of the past was cut off.
    pub fn start(&mut self, plan: &ListPlan, now: Timestamp) -> Duration {
        for call in self.calls.values_mut() {
            call.last_listed_at = now;
            self.moved.insert(call.sid);
        }
        self.lists.start(plan, now)
    }

    /// What to do next with `free` requests. Calls whose read is returned count as busy until its
    /// end is reported.
    pub fn plan(
        &mut self,
        lists: &ListPlan,
        reads: &ReadPlan,
        now: Timestamp,
        free: usize,
        may_list: bool,
        may_read: bool,
    ) -> Plan {
        // Before Twilio's time is known, nothing is due but a list.
        let is_started = self.lists.is_started();
        if is_started {
            self.place(reads, now);
        }
        let (oldest_young, has_old) = self.queue.active(FOLLOWED_BY_RECENT, now);
        let (due_list, list_at) =
            self.lists.next(lists, ActiveCalls { oldest_young, has_old }, now);
        let list = due_list.filter(|_| may_list && free > 0);
        let free = free - usize::from(list.is_some());
        let steps = if may_read && is_started { self.take(reads, now, free) } else { Vec::new() };
        let list_at = if may_list { list_at } else { Timestamp::MAX };
        let wake_at = self.queue.wake_at().map_or(list_at, |at| at.min(list_at));
        Plan { list, steps, wake_at }
    }

    /// Puts the calls that have changed, and those whose time has come, where they belong.
    fn place(&mut self, reads: &ReadPlan, now: Timestamp) {
        let (ripe, thinned) = (self.queue.ripe(now), self.learning.thinned());
        if self.queue.is_empty() && self.moved.len() >= self.calls.len() {
            self.moved.clear();
            let calls = self.calls.values().map(|call| (call, self.busy.contains(&call.sid)));
            return self.queue.fill(calls, reads, thinned, now);
        }
        for sid in std::mem::take(&mut self.moved).into_iter().chain(ripe) {
            match self.calls.get(&sid) {
                Some(call) => self.queue.place(call, self.busy.contains(&sid), reads, thinned, now),
                None => self.queue.remove(sid),
            }
        }
    }

    /// Takes the steps that are due, up to a number.
    fn take(&mut self, reads: &ReadPlan, now: Timestamp, free: usize) -> Vec<Step> {
        let (mut steps, thinned) = (Vec::new(), self.learning.thinned());
        while steps.len() < free
            && let Some(call) = self.queue.next_due().and_then(|sid| self.calls.get(&sid))
        {
            let step = reads.step(call, thinned, now);
            if step.is_some() {
                self.busy.insert(call.sid);
            }
            self.queue.place(call, step.is_some(), reads, thinned, now);
            steps.extend(step);
        }
        steps
    }

    /// Takes a page of a list. Returns what changed, and what follows the page.
    pub fn take_page(
        &mut self,
        run: &mut ListRun,
        calls: &[Call],
        next: Option<String>,
        date: Timestamp,
    ) -> (CallChanges, AfterPage) {
        let mut changes = CallChanges::default();
        for call in calls {
            if self.calls.contains_key(&call.sid) || run.asks_for(call) {
                self.see(call, date, &mut changes);
            }
        }
        (changes, run.turn(calls, next, date))
    }

    /// Takes a call that was fetched singly; `None` if Twilio no longer knows it.
    pub fn take_fetched(
        &mut self,
        sid: CallSid,
        fetched: Option<&Call>,
        now: Timestamp,
    ) -> CallChanges {
        self.free(sid);
        let mut changes = CallChanges::default();
        match fetched {
            Some(call) if call.sid == sid => self.see(call, now, &mut changes),
            Some(_) | None => {
                if let Some(call) = self.calls.get_mut(&sid)
                    && call.ended_at.is_none()
                {
                    call.finish(now, false);
                    changes.changed.push(sid);
                    changes.finished.push((call.direction, CallStatus::Other));
                }
            }
        }
        changes
    }

    /// Notes that a call's request came back.
    fn free(&mut self, sid: CallSid) {
        self.busy.remove(&sid);
        self.moved.insert(sid);
    }

    fn see(&mut self, call: &Call, now: Timestamp, changes: &mut CallChanges) {
        self.moved.insert(call.sid);
        let seen = match self.calls.get_mut(&call.sid) {
            Some(progress) => progress.see(call, now),
            None if self.lists.admits(call) => {
                let (progress, seen) = CallProgress::begin(call, now);
                self.calls.insert(call.sid, progress);
                self.lists.found_new_call(now);
                seen
            }
            None => Seen::Nothing,
        };
        match seen {
            Seen::Nothing => {}
            Seen::Changed => changes.changed.push(call.sid),
            Seen::Finished => {
                changes.changed.push(call.sid);
                changes.finished.push((call.direction, call.status));
            }
        }
    }

    /// Takes a complete reading of a call's events.
    pub fn take_reading(
        &mut self,
        sid: CallSid,
        stage: Stage,
        skips: u8,
        reading: &Reading,
        plan: &ReadPlan,
        now: Timestamp,
    ) -> Option<ReadChanges> {
        self.free(sid);
        self.last_read_at = Some(now);
        let audits = self.decide_audit(reading.read_at);
        let call = self.calls.get_mut(&sid)?;
        let settles = plan.settles(call, stage, reading.read_at);
        let counted = call.count(reading, settles || stage == Stage::Audit);
        call.failures = 0;
        call.failing_since = None;
        call.retry_at = None;
        let mut result = ReadChanges { counted, outcome: None };
        match stage {
            Stage::Live => {
                call.last_live_read_at = Some(reading.read_at);
                call.note_early(EarlyStage::LIVE, reading.read_at, !reading.items.is_empty());
            }
            Stage::AfterEnd => {
                call.note_after_end(skips, reading.read_at, !reading.items.is_empty());
            }
            // Read twice at once: what callers felt is counted by the first.
            Stage::Settling if call.settled_at.is_some() => {}
            Stage::Settling if settles => {
                call.settled_at = Some(reading.read_at);
                call.awaits_audit = audits;
                self.learning.settled(&std::mem::take(&mut call.early_reads), reading);
                result.outcome = outcome::outcome(&reading.items);
                self.settled_this_hour += 1;
                self.audits_this_hour += u64::from(audits);
            }
            // Asked too early by Twilio's own clock: not settled, asked again.
            Stage::Settling => {
                let early = plan.until_settling(call, reading.read_at);
                let wait = early.clamp(Duration::from_secs(1), TOO_EARLY_CAP);
                call.retry_at = Some(after(now, wait));
            }
            Stage::Audit => call.awaits_audit = false,
        }
        Some(result)
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

    /// Takes note that a read failed. Returns whether the call is given up.
    pub fn read_failed(
        &mut self,
        sid: CallSid,
        stage: Stage,
        skips: u8,
        failure: ReadFailure,
        now: Timestamp,
        random: u64,
    ) -> bool {
        self.free(sid);
        let Some(call) = self.calls.get_mut(&sid) else { return false };
        // A call that isn't shown yet has no events yet: an early read of it is done.
        match (stage, failure) {
            (Stage::Live, ReadFailure::Refused) => {
                call.last_live_read_at = Some(now);
                call.note_early(EarlyStage::LIVE, now, false);
                return false;
            }
            (Stage::AfterEnd, ReadFailure::Refused) => {
                call.note_after_end(skips, now, false);
                return false;
            }
            (_, ReadFailure::Refused | ReadFailure::Failed) => {}
        }
        call.failures += 1;
        let since = *call.failing_since.get_or_insert(now);
        let is_tried = |long| call.failures >= GIVE_UP_FAILURES && after(since, long) < now;
        let (cap, is_final) = match (stage, failure) {
            (Stage::Live | Stage::AfterEnd, _) => (EARLY_RETRY_CAP, false),
            (Stage::Settling, ReadFailure::Refused) => {
                (SETTLING_RETRY_CAP, is_tried(GIVE_UP_REFUSED_AFTER))
            }
            (Stage::Settling, ReadFailure::Failed) => {
                let others_are_read =
                    self.last_read_at.is_some_and(|read| now < after(read, READABLE_WITHIN));
                (SETTLING_RETRY_CAP, others_are_read && is_tried(GIVE_UP_FAILING_AFTER))
            }
            (Stage::Audit, _) => (SETTLING_RETRY_CAP, is_tried(GIVE_UP_REFUSED_AFTER)),
        };
        call.retry_at = Some(after(now, retry::backoff(call.failures, cap, random)));
        if is_final {
            call.settled_at.get_or_insert(now);
            call.awaits_audit = false;
        }
        is_final
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

    /// Notes that a single fetch failed; it is tried again as a list would be.
    pub fn fetch_failed(&mut self, sid: CallSid, now: Timestamp) {
        self.free(sid);
        if let Some(call) = self.calls.get_mut(&sid) {
            // Seen again in ten minutes: a single call isn't worth more.
            call.last_listed_at = now;
        }
    }

    /// Forgets the calls that no list can bring back, and tells which.
    pub fn forget(&mut self, now: Timestamp) -> Vec<CallSid> {
        let horizon = self.lists.forget_before;
        let gone: Vec<CallSid> = self
            .calls
            .values()
            .filter(|call| plan::is_forgettable(call, horizon, now))
            .map(|call| call.sid)
            .collect();
        for sid in &gone {
            self.calls.remove(sid);
            self.moved.insert(*sid);
        }
        gone
    }
}

#[cfg(test)]
mod tests;
