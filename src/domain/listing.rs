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
const FOLLOWED_BY_RECENT: Duration = Duration::from_secs(15 * 60);
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
            seen_pages: BTreeSet::new(),
        }
    }

    /// Takes note of a page, and says what follows it.
    pub fn turn(&mut self, calls: &[Call], next: Option<String>, date: Timestamp) -> AfterPage {
        self.began_at.get_or_insert(date);
        self.pages += 1;
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
    recent_at: Option<Timestamp>,
    ended_at: Option<Timestamp>,
    unfiltered_at: Option<Timestamp>,
    active_at: Option<Timestamp>,
    deep_at: Option<Timestamp>,
    active_turn: usize,
    last_new_call_at: Option<Timestamp>,
    retry_at: Option<Timestamp>,
}

/// What the lists need to know of the calls.
#[derive(Clone, Copy, Debug, Default)]
pub struct ActiveCalls {
    /// When the oldest active call younger than a quarter of an hour began.
    pub oldest_young: Option<Timestamp>,
    /// Whether an older call is active.
    pub has_old: bool,
}

impl ActiveCalls {
    /// Adds an active call.
    pub fn add(&mut self, began_at: Timestamp, now: Timestamp) {
        if after(began_at, FOLLOWED_BY_RECENT) < now {
            self.has_old = true;
        } else {
            self.oldest_young = Some(self.oldest_young.map_or(began_at, |old| old.min(began_at)));
        }
    }
}

impl Lists {
    /// Begins at what the store knows.
    pub fn resume(cursor: Option<Timestamp>, forget_before: Option<Timestamp>) -> Self {
        Self { cursor, forget_before, ..Self::default() }
    }

    /// Sets the account's first horizon, or moves a stale cursor up to what is caught up. Returns
    /// how much was cut off.
    pub fn start(&mut self, plan: &ListPlan, now: Timestamp) -> Duration {
        let earliest = before(now, plan.catch_up);
        match self.cursor {
            Some(cursor) if cursor < earliest => {
                self.cursor = Some(earliest);
                Duration::try_from(earliest.duration_since(cursor)).unwrap_or_default()
            }
            Some(_) => Duration::ZERO,
            None => {
                let first = before(now, plan.initial_lookback);
                self.forget_before.get_or_insert(first);
                Duration::ZERO
            }
        }
    }

    /// Whether no list of recent calls was ever read to its end.
    pub fn is_first_pass(&self) -> bool {
        self.cursor.is_none()
    }

    /// Notes that a call was found that nobody knew.
    pub fn found_new_call(&mut self, now: Timestamp) {
        self.last_new_call_at = Some(now);
    }

    /// Notes that lists can't be read before an instant.
    pub fn pause(&mut self, until: Timestamp) {
        self.retry_at = Some(until);
    }

    /// The list that is due, and when the next one will be.
    pub fn next(
        &self,
        plan: &ListPlan,
        active: ActiveCalls,
        now: Timestamp,
    ) -> (Option<ListRun>, Timestamp) {
        let earliest = self.retry_at.unwrap_or(Timestamp::MIN);
        let due = |last: Option<Timestamp>, every| {
            last.map_or(Timestamp::MIN, |last| after(last, every)).max(earliest)
        };
        let mut candidates = vec![
            (due(self.recent_at, self.interval(plan, now)), ListKind::Recent),
            (due(self.ended_at, ENDED_EVERY), ListKind::Ended),
            (due(self.unfiltered_at, UNFILTERED_EVERY), ListKind::Unfiltered),
            (due(self.deep_at, DEEP_EVERY), ListKind::Deep),
        ];
        if active.has_old {
            candidates.push((due(self.active_at, ACTIVE_EVERY), ListKind::Active));
        }
        let wake_at = candidates.iter().map(|&(at, _)| at).min().unwrap_or(now);
        let kind = candidates.iter().find(|&&(at, _)| at <= now).map(|&(_, kind)| kind);
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
        let known = self.cursor.map_or(lookback, |cursor| before(cursor, OVERLAP));
        match kind {
            ListKind::Recent => {
                Filter::StartedFrom(active.oldest_young.map_or(known, |oldest| known.min(oldest)))
            }
            ListKind::Deep => {
                let last = self.deep_at.or(self.cursor);
                Filter::StartedFrom(last.map_or(lookback, |last| before(last, DEEP_EVERY)))
            }
            ListKind::Ended => {
                let last = self.ended_at.or(self.cursor);
                Filter::EndedFrom(last.map_or(lookback, |last| before(last, OVERLAP)))
            }
            ListKind::Active => Filter::Status(ACTIVE[self.active_turn % ACTIVE.len()]),
            ListKind::Unfiltered => Filter::Everything,
        }
    }

    /// Notes that a list was read to its end, or given up at its cap.
    pub fn finish(&mut self, run: &ListRun, is_complete: bool) {
        let asked_at = Some(run.asked_at);
        self.retry_at = None;
        match run.kind {
            ListKind::Recent => {
                self.recent_at = asked_at;
                if is_complete {
                    self.cursor = self.cursor.max(run.began_at);
                }
            }
            ListKind::Ended => self.ended_at = asked_at,
            ListKind::Unfiltered => self.unfiltered_at = asked_at,
            ListKind::Active => {
                self.active_at = asked_at;
                self.active_turn += 1;
            }
            ListKind::Deep => {
                if let (Filter::StartedFrom(from), Some(_), true) =
                    (run.filter, self.cursor, is_complete)
                {
                    // Nothing that ended before the deepest list began is asked for again.
                    self.forget_before = self.forget_before.max(Some(before(from, OVERLAP)));
                }
                self.deep_at = asked_at;
            }
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
