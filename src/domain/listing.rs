//! Finding calls: which list is read next, and how far the lists are known.
//!
//! Lists are newest first by start time, their pages shift while being read, their time filters may
//! cut to the day, a queued call may have no start time and a failed one no end time. So no single
//! list finds every call, every list overlaps the one before, and what is too old is left out here.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::Timestamp;

use super::call::{Call, CallStatus};
use super::label::label_enum;
use super::twilio_time::{after, before};

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
/// How soon a list is tried again after a failure; doubled with each further one.
const RETRY_FIRST: Duration = Duration::from_secs(1);
/// Longest wait before a list is tried again.
const RETRY_CAP: Duration = Duration::from_secs(120);
/// Failures of one page after which its list is begun anew: the page's token may have expired.
const MAX_PAGE_FAILURES: u32 = 5;
/// Most pages of one list: two days of a million calls each. Beyond it the cursor stays.
pub const MAX_LIST_PAGES: u32 = 2_000;

label_enum! {
    /// Why a list is read.
    pub enum ListKind {
        /// Calls that started since the cursor.
        Recent = "recent",
        /// Calls that ended lately.
        Ended = "ended",
        /// The first page of all calls.
        Unfiltered = "unfiltered",
        /// Calls of one active status.
        Active = "active",
        /// Recent calls with an hour's overlap.
        Deep = "deep",
    }
}

/// What a list asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filter {
    /// Calls that started at or after an instant.
    StartedFrom(Timestamp),
    /// Calls that ended at or after an instant.
    EndedFrom(Timestamp),
    /// Calls of one status.
    Status(CallStatus),
    /// All calls.
    Everything,
}

/// One reading of a list, page by page.
#[derive(Clone, Debug)]
pub struct ListRun {
    /// Why it is read.
    pub kind: ListKind,
    /// What it asks for.
    pub filter: Filter,
    /// When it was asked for: lists are paced by it, since a `Date` is cut to the second.
    pub asked_at: Timestamp,
    /// Twilio's time at its first page: how far the list is known once it was read to its end.
    pub began_at: Option<Timestamp>,
    /// The path of the next page, as Twilio gave it; `None` for the first.
    pub next_page: Option<String>,
    pages: u32,
    failures: u32,
    seen_pages: BTreeSet<String>,
}

/// What follows a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AfterPage {
    /// Another page.
    Continue,
    /// The list was read to its end.
    Complete,
    /// The list has more pages than are read: the cursor must not move.
    Capped,
}

impl ListRun {
    fn new(kind: ListKind, filter: Filter, asked_at: Timestamp) -> Self {
        Self {
            asked_at,
            kind,
            filter,
            began_at: None,
            next_page: None,
            pages: 0,
            failures: 0,
            seen_pages: BTreeSet::new(),
        }
    }

    /// Takes note of a page, and says what follows it.
    pub fn turn(&mut self, calls: &[Call], next: Option<String>, date: Timestamp) -> AfterPage {
        self.began_at.get_or_insert(date);
        self.pages += 1;
        self.failures = 0;
        let is_past_filter = match self.filter {
            // A server that cuts the filter to the day goes on to calls that nobody asked for.
            Filter::StartedFrom(from) => {
                calls.iter().all(|call| call.start_time.is_some_and(|start| start < from))
            }
            Filter::EndedFrom(_) | Filter::Status(_) | Filter::Everything => false,
        };
        match next {
            None => AfterPage::Complete,
            Some(_) if calls.is_empty() || is_past_filter => AfterPage::Complete,
            Some(_) if self.kind == ListKind::Unfiltered => AfterPage::Complete,
            Some(next) if !self.seen_pages.insert(next.clone()) => {
                drop(next);
                AfterPage::Complete
            }
            Some(_) if self.pages >= MAX_LIST_PAGES => AfterPage::Capped,
            Some(next) => {
                self.next_page = Some(next);
                AfterPage::Continue
            }
        }
    }

    /// Whether a page that failed is worth asking for again: what came before it is behind us.
    pub fn may_resume(&mut self) -> bool {
        self.failures += 1;
        self.next_page.is_some() && self.failures <= MAX_PAGE_FAILURES
    }

    /// Whether a call is what the list asked for.
    pub fn asks_for(&self, call: &Call) -> bool {
        match self.filter {
            Filter::StartedFrom(from) => call.start_time.is_none_or(|start| start >= from),
            Filter::EndedFrom(from) => call.end_time.is_none_or(|end| end >= from),
            Filter::Status(_) | Filter::Everything => true,
        }
    }
}

/// How often lists are read, and how far back a first or late start looks.
#[derive(Clone, Copy, Debug)]
pub struct ListPlan {
    /// Time between two lists of recent calls.
    pub interval: Duration,
    /// How far an account without a cursor looks back.
    pub initial_lookback: Duration,
    /// How far back a stale cursor is caught up.
    pub catch_up: Duration,
}

/// How far the lists are known.
#[derive(Clone, Debug, Default)]
pub struct Lists {
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
    pub fn resume(cursor: Option<Timestamp>, forget_before: Option<Timestamp>) -> Self {
        Self { cursor, forget_before, ..Self::default() }
    }

    /// Whether Twilio's time is known, and with it the account's horizon.
    pub fn is_started(&self) -> bool {
        self.is_started
    }

    /// Sets the account's first horizon, or moves a stale cursor up to what is caught up. Returns
    /// how much was cut off. Needs Twilio's time: by a local clock that is wrong by hours, all
    /// calls would lie before the horizon.
    pub fn start(&mut self, plan: &ListPlan, now: Timestamp) -> Duration {
        self.is_started = true;
        self.last_new_call_at = Some(now);
        self.unfiltered.retry_at = None;
        // A start that got no further than its horizon is made good from there. A `Date` far in the
        // future, once, must not hide what comes until then.
        self.cursor = self.cursor.or(self.forget_before).map(|cursor| cursor.min(now));
        let earliest = before(now, plan.catch_up);
        let mut skipped = Duration::ZERO;
        let known_to = match self.cursor {
            Some(cursor) if cursor < earliest => {
                self.cursor = Some(earliest);
                skipped = Duration::try_from(earliest.duration_since(cursor)).unwrap_or_default();
                earliest
            }
            Some(cursor) => cursor,
            None => {
                let first = before(now, plan.initial_lookback);
                self.forget_before = Some(first);
                self.fresh_since = Some(now);
                first
            }
        };
        self.ended.known_to = Some(known_to);
        self.deep.known_to = Some(known_to);
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
    pub fn next(
        &self,
        plan: &ListPlan,
        active: ActiveCalls,
        now: Timestamp,
    ) -> (Option<ListRun>, Timestamp) {
        if !self.is_started {
            // The first answer tells Twilio's time; a list without a time filter needs none.
            let run = ListRun::new(ListKind::Unfiltered, Filter::Everything, now);
            return (Some(run), now);
        }
        let mut candidates = vec![
            (self.recent.due_at(self.interval(plan, now)), ListKind::Recent),
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
        let run = |kind| ListRun::new(kind, self.filter(kind, plan, active, now), now);
        (kind.map(run), wake_at)
    }

    /// Time between two lists of recent calls, stretched for an account without calls.
    pub fn interval(&self, plan: &ListPlan, now: Timestamp) -> Duration {
        match self.last_new_call_at {
            Some(last) if after(last, IDLE_AFTER) < now => plan.interval.max(IDLE_EVERY),
            Some(_) | None => plan.interval,
        }
    }

    fn filter(
        &self,
        kind: ListKind,
        plan: &ListPlan,
        active: ActiveCalls,
        now: Timestamp,
    ) -> Filter {
        const ACTIVE: [CallStatus; 4] = [
            CallStatus::InProgress,
            CallStatus::Queued,
            CallStatus::InProgress,
            CallStatus::Ringing,
        ];
        let lookback = before(now, plan.initial_lookback);
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

    /// Notes that a list was read to its end, or given up at its cap.
    pub fn finish(&mut self, run: &ListRun, is_complete: bool) {
        let schedule = self.schedule(run.kind);
        schedule.asked_at = Some(run.asked_at);
        schedule.retry_at = None;
        schedule.failures = 0;
        if is_complete {
            schedule.known_to = schedule.known_to.max(run.began_at);
        }
        match (run.kind, run.filter) {
            (ListKind::Recent, _) if is_complete => self.cursor = self.cursor.max(run.began_at),
            (ListKind::Active, _) => self.active_turn += 1,
            (ListKind::Deep, Filter::StartedFrom(from)) if is_complete && self.cursor.is_some() => {
                // Nothing that ended before the deepest list began is asked for again.
                self.forget_before = self.forget_before.max(Some(before(from, OVERLAP)));
            }
            (ListKind::Recent | ListKind::Deep | ListKind::Ended | ListKind::Unfiltered, _) => {}
        }
    }

    /// Notes that a list could not be read: it is asked for again soon, and no other kind waits
    /// for it. What it would have covered stays to be covered.
    pub fn fail(&mut self, run: &ListRun, now: Timestamp) {
        let schedule = self.schedule(run.kind);
        let doubled = RETRY_FIRST.saturating_mul(1 << schedule.failures.min(10));
        schedule.failures += 1;
        schedule.retry_at = Some(after(now, doubled.min(RETRY_CAP)));
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
