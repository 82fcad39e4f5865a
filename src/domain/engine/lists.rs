//! Finding calls: which list is read next, and how far the lists have been read.
//!
//! Twilio sorts lists by start time, newest first. Pages shift while a list is being read, time filters may be
//! truncated to the day, a queued call may have no start time and a failed one no end time. So no single list
//! finds every call, each list overlaps the previous one, and calls that are too old are dropped here.

mod run;

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::domain::engine::backoff::Backoff;
use crate::domain::track::listing::{Filter, ListKind, ListProgress};
use crate::domain::track::twilio_time::{after, before, moved};
use crate::domain::words::call::{Call, CallStatus};

pub use run::{AfterPage, ListRun, MAX_LIST_PAGES, Stop};

/// How far a list of recent calls reaches back before the cursor: calls appear in lists with a delay.
const OVERLAP: Duration = Duration::from_secs(5 * 60);
/// Active calls younger than this are followed by the list of recent calls.
pub const FOLLOWED_BY_RECENT: Duration = Duration::from_secs(15 * 60);
/// How often calls are listed by end time, to find calls that recent lists miss within minutes.
const ENDED_EVERY: Duration = Duration::from_secs(5 * 60);
/// How often the first page of the unfiltered list is read, to find calls without any time.
const UNFILTERED_EVERY: Duration = Duration::from_secs(10 * 60);
/// How often calls of an active status are listed while older calls are active; the statuses take turns.
const ACTIVE_EVERY: Duration = Duration::from_secs(6 * 60);
/// How often the deep list is read, and how far it overlaps the previous one.
const DEEP_EVERY: Duration = Duration::from_secs(60 * 60);
/// An account without a new call for this long is listed more slowly.
const IDLE_AFTER: Duration = Duration::from_secs(60 * 60);
/// How often an idle account is listed.
const IDLE_EVERY: Duration = Duration::from_secs(2 * 60);
/// The waits between attempts of a list that fails.
const RETRY: Backoff = Backoff::new(Duration::from_secs(2), Duration::from_secs(120));
/// How often a request is made to learn Twilio's time, after the first few answers.
const TIME_EVERY: Duration = Duration::from_secs(5);
/// The number of requests made in quick succession to learn Twilio's time: as many answers have to agree.
const INITIAL_TIME_REQUESTS: u32 = 3;

/// How often lists are read, and how far back they reach after a start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListPlan {
    /// The time between two lists of recent calls.
    pub interval: Duration,
    /// How far back an account without a cursor looks.
    pub initial_lookback: Duration,
    /// How far back an account with a stale cursor catches up.
    pub catch_up: Duration,
    /// The time between two reads of the error log; `None` if it isn't read.
    pub error_log_interval: Option<Duration>,
}

/// The schedule of an account's lists, and how far they have been read.
#[derive(Clone, Debug)]
pub struct Lists {
    plan: ListPlan,
    /// All calls that started before this time and appear in lists have been found.
    pub cursor: Option<Timestamp>,
    /// Calls that ended at or before this time are forgotten once settled, and never tracked again.
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
    /// The number of answers received before Twilio's time was known.
    early_answers: u32,
}

/// When one kind of list is read, and how far it has been read.
#[derive(Clone, Copy, Debug, Default)]
struct Schedule {
    /// When it was last requested, whether or not it was read to its end.
    requested_at: Option<Timestamp>,
    /// Twilio's time at the start of the last list that was read to its end.
    known_to: Option<Timestamp>,
    /// When it may be requested again after a failure.
    retry_at: Option<Timestamp>,
    /// The number of failures since it was last read.
    failures: u32,
}

impl Schedule {
    fn due_at(&self, every: Duration) -> Timestamp {
        let regular = self.requested_at.map_or(Timestamp::MIN, |asked| after(asked, every));
        self.retry_at.unwrap_or(regular)
    }
}

/// The facts about active calls that the choice of lists depends on.
#[derive(Clone, Copy, Debug, Default)]
pub struct ActiveCalls {
    /// When the oldest active call of at most a quarter of an hour began.
    pub oldest_young: Option<Timestamp>,
    /// Whether an older call is active.
    pub has_old: bool,
}

impl Lists {
    /// Resumes from the stored state.
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

    /// How far the lists have been read, to be stored.
    pub fn progress(&self) -> ListProgress {
        ListProgress {
            cursor: self.cursor,
            forget_before: self.forget_before,
            ended_to: self.ended.known_to,
            deep_to: self.deep.known_to,
            error_log: None,
        }
    }

    /// Shifts the schedules with the account's time, so that no wait changes when the offset of Twilio's clock is
    /// corrected.
    pub fn shift(&mut self, by: SignedDuration) {
        let shift = |at: &mut Option<Timestamp>| *at = at.map(|at| moved(at, by));
        for kind in ListKind::ALL {
            let schedule = self.schedule(*kind);
            shift(&mut schedule.requested_at);
            shift(&mut schedule.retry_at);
        }
        shift(&mut self.last_new_call_at);
    }

    /// Notes an answer received before Twilio's time is known, and schedules the next request soon.
    pub fn await_time(&mut self, now: Timestamp) {
        self.early_answers += 1;
        let is_soon = self.early_answers < INITIAL_TIME_REQUESTS;
        self.unfiltered.retry_at = Some(if is_soon { now } else { after(now, TIME_EVERY) });
    }

    /// Whether Twilio's time, and so the account's horizon, is known.
    pub fn is_started(&self) -> bool {
        self.is_started
    }

    /// Sets the account's first horizon, or moves a stale cursor to the earliest time that is caught up. Returns how
    /// much of the past is skipped. `now` must be Twilio's time: if a local clock were hours ahead, all calls would
    /// lie before the horizon.
    pub fn start(&mut self, now: Timestamp) -> Duration {
        self.is_started = true;
        self.last_new_call_at = Some(now);
        self.unfiltered.retry_at = None;
        // If an earlier start only set the horizon, resume from there. Neither time may be in the future: calls
        // would be missed until then.
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
        // These lists may be behind the cursor; they resume where they stopped.
        let resumed = |at: Option<Timestamp>| Some(at.unwrap_or(known_to).clamp(earliest, now));
        self.ended.known_to = resumed(self.ended.known_to);
        self.deep.known_to = resumed(self.deep.known_to);
        skipped
    }

    /// Whether something happened before the account was first polled, and so must not fire alerts.
    pub fn is_history(&self, at: Option<Timestamp>) -> bool {
        matches!((self.fresh_since, at), (Some(since), Some(at)) if at < since)
    }

    /// Notes that a new call was found.
    pub fn found_new_call(&mut self, now: Timestamp) {
        self.last_new_call_at = Some(now);
    }

    /// Returns the list that is due, if any, and when the next one is due.
    pub fn next(&self, active: ActiveCalls, now: Timestamp) -> (Option<ListRun>, Timestamp) {
        if !self.is_started {
            // The first answers reveal Twilio's time, so the list must not need a time filter.
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
        // The most overdue list goes first, so that a slow or failing list never starves another.
        let due = candidates.iter().filter(|&&(at, _)| at <= now);
        let kind = due.min_by_key(|&&(at, _)| at).map(|&(_, kind)| kind);
        let run = |kind| ListRun::new(kind, self.filter(kind, active, now), now);
        (kind.map(run), wake_at)
    }

    /// The time between two lists of recent calls, stretched for an idle account.
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
            // The next list of this kind resumes from where the last complete one began.
            AfterPage::Stopped(Stop::Capped | Stop::NoRoom) => self.reschedule(run),
            AfterPage::Stopped(
                Stop::Empty | Stop::Repeated | Stop::Undecodable | Stop::Foreign,
            ) => self.fail(run, now, random),
        }
    }

    fn reschedule(&mut self, run: &ListRun) {
        let schedule = self.schedule(run.kind);
        schedule.requested_at = Some(run.requested_at);
        schedule.retry_at = None;
        schedule.failures = 0;
        self.active_turn += usize::from(run.kind == ListKind::Active);
    }

    fn complete(&mut self, run: &ListRun) {
        self.reschedule(run);
        let schedule = self.schedule(run.kind);
        schedule.known_to = schedule.known_to.max(run.began_at);
        match (run.kind, run.filter) {
            (ListKind::Recent, _) => self.cursor = self.cursor.max(run.began_at),
            (ListKind::Deep, Filter::StartedFrom(from)) if self.cursor.is_some() => {
                // Only forget calls that neither the next deep list nor the list of ended calls can return.
                let ended = self.ended.known_to.map_or(from, |known_to| before(known_to, OVERLAP));
                self.forget_before = self.forget_before.max(Some(before(from.min(ended), OVERLAP)));
            }
            (ListKind::Deep | ListKind::Ended | ListKind::Unfiltered | ListKind::Active, _) => {}
        }
    }

    /// Notes that a list could not be read. It is requested again soon, without delaying other kinds, and the next
    /// attempt covers the same period.
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

    /// Whether an unknown call may be tracked: not if it may already have been counted and forgotten.
    pub fn admits(&self, call: &Call) -> bool {
        match (call.end(), self.forget_before) {
            (Some(end), Some(horizon)) => end > horizon,
            (Some(_) | None, _) => true,
        }
    }
}

#[cfg(test)]
mod tests;
