//! Finding calls: which list is read next, and how far the lists are known.
//!
//! Lists are newest first by start time, their pages shift while being read, their time filters may
//! cut to the day, a queued call may have no start time and a failed one no end time. So no single
//! list finds every call, every list overlaps the one before, and what is too old is left out here.

mod run;

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::domain::engine::backoff::Backoff;
use crate::domain::track::listing::{Filter, ListKind, ListProgress};
use crate::domain::track::twilio_time::{after, before, moved};
use crate::domain::words::call::{Call, CallStatus};

pub use run::{AfterPage, ListRun, MAX_LIST_PAGES, Stop};

/// How far a list of recent calls reaches behind the cursor: calls appear in lists late.
const OVERLAP: Duration = Duration::from_secs(5 * 60);
/// Active calls younger than this are followed by the list of recent calls.
pub const FOLLOWED_BY_RECENT: Duration = Duration::from_secs(15 * 60);
/// How often calls are looked for by their end: what recent lists miss is found within minutes.
const ENDED_EVERY: Duration = Duration::from_secs(5 * 60);
/// How often the unfiltered first page is read, for calls without any time.
const UNFILTERED_EVERY: Duration = Duration::from_secs(10 * 60);
/// How often one active status is listed while older calls are active; the statuses take turns.
const ACTIVE_EVERY: Duration = Duration::from_secs(6 * 60);
/// How often the deep list is read, and how far it reaches behind the one before.
const DEEP_EVERY: Duration = Duration::from_secs(60 * 60);
/// An account without a new call for this long is listed more slowly.
const IDLE_AFTER: Duration = Duration::from_secs(60 * 60);
/// How often an idle account is listed.
const IDLE_EVERY: Duration = Duration::from_secs(2 * 60);
/// When a list is tried again after a failure.
const RETRY: Backoff = Backoff::new(Duration::from_secs(2), Duration::from_secs(120));
/// How often Twilio is asked for its time before lists begin, after the first few answers.
const TIME_EVERY: Duration = Duration::from_secs(5);
/// Answers that are asked for at once, to learn Twilio's time: as many as have to agree.
const TIME_AT_ONCE: u32 = 3;

/// How often lists are read, and how far back a first or late start looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListPlan {
    /// Time between two lists of recent calls.
    pub interval: Duration,
    /// How far an account without a cursor looks back.
    pub initial_lookback: Duration,
    /// How far back a stale cursor is caught up.
    pub catch_up: Duration,
    /// Time between two looks at the error log; `None`: it isn't read.
    pub error_log_interval: Option<Duration>,
}

/// How far the lists are known.
#[derive(Clone, Debug)]
pub struct Lists {
    plan: ListPlan,
    /// All calls that started before this, and that lists show, are known.
    pub cursor: Option<Timestamp>,
    /// Calls that ended at or before this are forgotten once settled, and never taken up anew.
    pub forget_before: Option<Timestamp>,
    is_started: bool,
    recent: Schedule,
    ended: Schedule,
    unfiltered: Schedule,
    active: Schedule,
    deep: Schedule,
    active_turn: usize,
    last_new_call_at: Option<Timestamp>,
    fresh_since: Option<Timestamp>,
    /// Answers that came before Twilio's time was known.
    early_answers: u32,
}

/// When one kind of list is read, and how far it is known.
#[derive(Clone, Copy, Debug, Default)]
struct Schedule {
    /// When it was last asked for, read to its end or not.
    asked_at: Option<Timestamp>,
    /// Twilio's time at the last one that was read to its end.
    known_to: Option<Timestamp>,
    /// When it may be asked for again after a failure.
    retry_at: Option<Timestamp>,
    /// Failures since it was last read.
    failures: u32,
}

impl Schedule {
    fn due_at(&self, every: Duration) -> Timestamp {
        let regular = self.asked_at.map_or(Timestamp::MIN, |asked| after(asked, every));
        self.retry_at.unwrap_or(regular)
    }
}

/// What the lists need to know of the calls.
#[derive(Clone, Copy, Debug, Default)]
pub struct ActiveCalls {
    /// When the oldest active call younger than a quarter of an hour began.
    pub oldest_young: Option<Timestamp>,
    /// Whether an older call is active.
    pub has_old: bool,
}

impl Lists {
    /// Begins at what the store knows.
    pub fn resume(plan: ListPlan, known: ListProgress) -> Self {
        let at = |known_to| Schedule { known_to, ..Schedule::default() };
        Self {
            plan,
            cursor: known.cursor,
            forget_before: known.forget_before,
            is_started: false,
            recent: at(None),
            ended: at(known.ended_to),
            unfiltered: at(None),
            active: at(None),
            deep: at(known.deep_to),
            active_turn: 0,
            last_new_call_at: None,
            fresh_since: None,
            early_answers: 0,
        }
    }

    /// How far the lists are known, to be kept.
    pub fn progress(&self) -> ListProgress {
        ListProgress {
            cursor: self.cursor,
            forget_before: self.forget_before,
            ended_to: self.ended.known_to,
            deep_to: self.deep.known_to,
            error_log: None,
        }
    }

    /// Moves the schedules along with the account's time, so that no wait grows or shrinks when the
    /// offset of Twilio's clock is corrected.
    pub fn shift(&mut self, by: SignedDuration) {
        let shift = |at: &mut Option<Timestamp>| *at = at.map(|at| moved(at, by));
        for kind in ListKind::ALL {
            let schedule = self.schedule(*kind);
            shift(&mut schedule.asked_at);
            shift(&mut schedule.retry_at);
        }
        shift(&mut self.last_new_call_at);
    }

    /// Notes an answer that came before Twilio's time is known: the next is asked for soon.
    pub fn await_time(&mut self, now: Timestamp) {
        self.early_answers += 1;
        let is_soon = self.early_answers < TIME_AT_ONCE;
        self.unfiltered.retry_at = Some(if is_soon { now } else { after(now, TIME_EVERY) });
    }

    /// Whether Twilio's time is known, and with it the account's horizon.
    pub fn is_started(&self) -> bool {
        self.is_started
    }

    /// Sets the account's first horizon, or moves a stale cursor up to what is caught up. Returns
    /// how much was cut off. Needs Twilio's time: by a local clock that is wrong by hours, all
    /// calls would lie before the horizon.
    pub fn start(&mut self, now: Timestamp) -> Duration {
        self.is_started = true;
        self.last_new_call_at = Some(now);
        self.unfiltered.retry_at = None;
        // A start that got no further than its horizon is made good from there. Neither may lie in
        // the future: it would hide what comes until then.
        self.forget_before = self.forget_before.map(|horizon| horizon.min(now));
        self.cursor = self.cursor.or(self.forget_before).map(|cursor| cursor.min(now));
        let earliest = before(now, self.plan.catch_up);
        let mut skipped = Duration::ZERO;
        let known_to = match self.cursor {
            Some(cursor) if cursor < earliest => {
                self.cursor = Some(earliest);
                skipped = Duration::try_from(earliest.duration_since(cursor)).unwrap_or_default();
                earliest
            }
            Some(cursor) => cursor,
            None => {
                let first = before(now, self.plan.initial_lookback);
                self.forget_before = Some(first);
                self.fresh_since = Some(now);
                first
            }
        };
        // These may be behind the cursor, and then go on from where they were.
        let resumed = |at: Option<Timestamp>| Some(at.unwrap_or(known_to).clamp(earliest, now));
        self.ended.known_to = resumed(self.ended.known_to);
        self.deep.known_to = resumed(self.deep.known_to);
        skipped
    }

    /// Whether something happened before the account was first polled: old news, which nobody
    /// should be paged for.
    pub fn is_history(&self, at: Option<Timestamp>) -> bool {
        matches!((self.fresh_since, at), (Some(since), Some(at)) if at < since)
    }

    /// Notes that a call was found that nobody knew.
    pub fn found_new_call(&mut self, now: Timestamp) {
        self.last_new_call_at = Some(now);
    }

    /// The list that is due, and when the next one will be.
    pub fn next(&self, active: ActiveCalls, now: Timestamp) -> (Option<ListRun>, Timestamp) {
        if !self.is_started {
            // The first answers tell Twilio's time; a list without a time filter needs none.
            let due_at = self.unfiltered.retry_at.unwrap_or(now);
            let run = ListRun::new(ListKind::Unfiltered, Filter::Everything, now);
            return ((due_at <= now).then_some(run), due_at);
        }
        let mut candidates = vec![
            (self.recent.due_at(self.interval(now)), ListKind::Recent),
            (self.ended.due_at(ENDED_EVERY), ListKind::Ended),
            (self.unfiltered.due_at(UNFILTERED_EVERY), ListKind::Unfiltered),
            (self.deep.due_at(DEEP_EVERY), ListKind::Deep),
        ];
        if active.has_old {
            candidates.push((self.active.due_at(ACTIVE_EVERY), ListKind::Active));
        }
        let wake_at = candidates.iter().map(|&(at, _)| at).min().unwrap_or(now);
        // The most overdue first, so that a slow or failing list never starves another.
        let due = candidates.iter().filter(|&&(at, _)| at <= now);
        let kind = due.min_by_key(|&&(at, _)| at).map(|&(_, kind)| kind);
        let run = |kind| ListRun::new(kind, self.filter(kind, active, now), now);
        (kind.map(run), wake_at)
    }

    /// Time between two lists of recent calls, stretched for an account without calls.
    pub fn interval(&self, now: Timestamp) -> Duration {
        match self.last_new_call_at {
            Some(last) if after(last, IDLE_AFTER) < now => self.plan.interval.max(IDLE_EVERY),
            Some(_) | None => self.plan.interval,
        }
    }

    fn filter(&self, kind: ListKind, active: ActiveCalls, now: Timestamp) -> Filter {
        const ACTIVE: [CallStatus; 4] = [
            CallStatus::InProgress,
            CallStatus::Queued,
            CallStatus::InProgress,
            CallStatus::Ringing,
        ];
        let lookback = before(now, self.plan.initial_lookback);
        let known = self.cursor.map_or(lookback, |cursor| before(cursor.min(now), OVERLAP));
        match kind {
            ListKind::Recent => {
                Filter::StartedFrom(active.oldest_young.map_or(known, |oldest| known.min(oldest)))
            }
            ListKind::Deep => Filter::StartedFrom(before(
                self.deep.known_to.unwrap_or(lookback).min(now),
                DEEP_EVERY,
            )),
            ListKind::Ended => {
                Filter::EndedFrom(before(self.ended.known_to.unwrap_or(lookback).min(now), OVERLAP))
            }
            ListKind::Active => Filter::Status(ACTIVE[self.active_turn % ACTIVE.len()]),
            ListKind::Unfiltered => Filter::Everything,
        }
    }

    /// Notes how a list ended.
    pub fn finish(&mut self, run: &ListRun, after: AfterPage, now: Timestamp, random: u64) {
        match after {
            AfterPage::Continue => {}
            AfterPage::Complete => self.complete(run),
            // Regular lists go on from where they are known to.
            AfterPage::Stopped(Stop::Capped | Stop::NoRoom) => self.asked(run),
            AfterPage::Stopped(
                Stop::Empty | Stop::Repeated | Stop::Undecodable | Stop::Foreign,
            ) => self.fail(run, now, random),
        }
    }

    fn asked(&mut self, run: &ListRun) {
        let schedule = self.schedule(run.kind);
        schedule.asked_at = Some(run.asked_at);
        schedule.retry_at = None;
        schedule.failures = 0;
        self.active_turn += usize::from(run.kind == ListKind::Active);
    }

    fn complete(&mut self, run: &ListRun) {
        self.asked(run);
        let schedule = self.schedule(run.kind);
        schedule.known_to = schedule.known_to.max(run.began_at);
        match (run.kind, run.filter) {
            (ListKind::Recent, _) => self.cursor = self.cursor.max(run.began_at),
            (ListKind::Deep, Filter::StartedFrom(from)) if self.cursor.is_some() => {
                // Nothing that ended before the deepest list began is asked for again, nor what the
                // list of ended calls has still to cover.
                let ended = self.ended.known_to.map_or(from, |known_to| before(known_to, OVERLAP));
                self.forget_before = self.forget_before.max(Some(before(from.min(ended), OVERLAP)));
            }
            (ListKind::Deep | ListKind::Ended | ListKind::Unfiltered | ListKind::Active, _) => {}
        }
    }

    /// Notes that a list could not be read: it is asked for again soon, and no other kind waits
    /// for it. What it would have covered stays to be covered.
    pub fn fail(&mut self, run: &ListRun, now: Timestamp, random: u64) {
        let schedule = self.schedule(run.kind);
        schedule.failures = schedule.failures.saturating_add(1);
        schedule.retry_at = Some(after(now, RETRY.wait(schedule.failures, random)));
    }

    fn schedule(&mut self, kind: ListKind) -> &mut Schedule {
        match kind {
            ListKind::Recent => &mut self.recent,
            ListKind::Ended => &mut self.ended,
            ListKind::Unfiltered => &mut self.unfiltered,
            ListKind::Active => &mut self.active,
            ListKind::Deep => &mut self.deep,
        }
    }

    /// Whether a call that nobody knows may be taken up: not if it may have been forgotten.
    pub fn admits(&self, call: &Call) -> bool {
        match (call.end(), self.forget_before) {
            (Some(end), Some(horizon)) => end > horizon,
            (Some(_) | None, _) => true,
        }
    }
}

#[cfg(test)]
mod tests;
