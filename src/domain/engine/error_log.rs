//! Reading Twilio's error log: every few seconds, from a little before what is known of it, to its end; and
//! taking those entries that Twilio pushes.
//!
//! Invariant: each entry is handed on once, by its SID, whichever way it comes. What is known of the log moves
//! on only when a pass has read it to its end, so a pass that fails starts again from where it began, and what
//! was never pushed is still read.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;

use crate::domain::judge::reported::Reported;
use crate::domain::track::listing::ErrorLogProgress;
use crate::domain::track::twilio_time::{after, before};
use crate::domain::words::sid::{AccountSid, ErrorLogSid};

use super::backoff::Backoff;
use super::failure::{Failure, FailureReason, PageSizeVerdict, Verdict};
use super::page_size::PageSize;
use super::request::{NextPage, Page, PageRequest};

/// How far a pass reaches behind the newest entry that is known: entries appear late, and out of order.
const OVERLAP: Duration = Duration::from_secs(10 * 60);
/// How long the SIDs of entries are remembered, behind the newest one: longer than a pass reaches back.
pub const REMEMBERED: Duration = Duration::from_secs(15 * 60);
/// How old an entry may be that is pushed: the log's depth, and less than the store remembers SIDs for. What
/// is older is a copy of an old request.
const PUSHED_WITHIN: Duration = Duration::from_secs(30 * 24 * 3600);
/// Beyond so many known entries those are forgotten that are too old to be shown by a pass; the store still
/// knows them.
const MAX_KNOWN: usize = 20_000;
/// Most entries of one pass: Twilio shows no more for one question.
const MAX_ENTRIES: usize = 10_000;
/// Most pages of one pass, however few entries they have.
const MAX_PAGES: u32 = 200;
/// When a pass that failed is made again: the fast source should be back within the minute.
const FAILED: Backoff = Backoff::new(Duration::from_secs(15), Duration::from_secs(120));
/// When the log is tried again that these credentials may not read: a person has to act.
const REFUSED: Backoff = Backoff::new(Duration::from_secs(120), Duration::from_secs(600));

/// The error log, as far as it was read. Schedules are in local time, the log's own times are Twilio's.
#[derive(Debug)]
pub(super) struct ErrorLog {
    account: AccountSid,
    /// The time between two passes; `None` if the log isn't asked for.
    every: Option<Duration>,
    page_size: PageSize,
    due_at: Timestamp,
    is_in_flight: bool,
    failures: u32,
    /// How far it is known; `None` before it was first asked for.
    progress: Option<ErrorLogProgress>,
    /// Whether its entries are pushed.
    is_pushed: bool,
    /// Whether it was ever read, or is pushed: one that these credentials may not read has no progress.
    is_known: bool,
    /// Recent entries, so that overlapping passes hand none on twice.
    known: BTreeMap<ErrorLogSid, Timestamp>,
    pass: Option<Pass>,
}

/// One pass over the log's pages.
#[derive(Debug)]
struct Pass {
    from: Timestamp,
    size: u16,
    began_at: Timestamp,
    pages: u32,
    entries: usize,
    newest: Option<Timestamp>,
    next: Option<(String, String)>,
}

/// What a page, or a push, added.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogPage {
    /// The entries that are new, each with when it counts as having happened.
    pub new: Vec<(Reported, Timestamp)>,
    /// How many were known.
    pub duplicates: u64,
    /// How many can't be read.
    pub rejected: u64,
    /// How many are of other accounts, or happened before the account was first polled.
    pub ignored: u64,
    /// Whether the pass has read the log to its end.
    pub is_complete: bool,
}

impl ErrorLog {
    /// Begins with what is known: how far, and the latest entries.
    pub(super) fn new(
        account: AccountSid,
        every: Option<Duration>,
        is_pushed: bool,
        progress: Option<ErrorLogProgress>,
        latest: Vec<(ErrorLogSid, Timestamp)>,
    ) -> Self {
        Self {
            account,
            every,
            page_size: PageSize::of_account(),
            due_at: Timestamp::MIN,
            is_in_flight: false,
            failures: 0,
            is_pushed,
            is_known: progress.is_some(),
            progress,
            known: latest.into_iter().collect(),
            pass: None,
        }
    }

    /// How far it is known, to be kept, once it was read or began to be pushed.
    pub(super) fn progress(&self) -> Option<ErrorLogProgress> {
        self.progress.filter(|_| self.is_known)
    }

    /// When a page is to be asked for; `MAX` while one is, and where the log isn't asked for.
    pub(super) fn due_at(&self) -> Timestamp {
        if self.is_in_flight || self.every.is_none() { Timestamp::MAX } else { self.due_at }
    }

    /// Begins to take what is pushed; tells whether it has not before. What is shown at 0 from then on is an
    /// increase when the first entry comes.
    pub(super) fn begin_pushed(&mut self, twilio_now: Timestamp) -> bool {
        if self.is_known || !self.is_pushed {
            return false;
        }
        self.begin(twilio_now);
        self.is_known = true;
        true
    }

    /// How far it is known; where nothing is, it begins now.
    fn begin(&mut self, twilio_now: Timestamp) -> ErrorLogProgress {
        // Entries tell whole seconds: one of the second in which the account was first polled is counted.
        let since = Timestamp::from_second(twilio_now.as_second()).unwrap_or(twilio_now);
        *self.progress.get_or_insert(ErrorLogProgress { since, known_to: since })
    }

    /// From when on entries are asked for, and the page to ask for, which counts as asked for from here on.
    pub(super) fn ask(
        &mut self,
        now: Timestamp,
        twilio_now: Timestamp,
    ) -> (Timestamp, PageRequest) {
        self.is_in_flight = true;
        let progress = self.begin(twilio_now);
        let size = self.page_size.get();
        let pass = self.pass.get_or_insert_with(|| Pass {
            // A `known_to` in the future would hide what comes until then.
            from: before(progress.known_to.min(twilio_now), OVERLAP).max(progress.since),
            size,
            began_at: now,
            pages: 0,
            entries: 0,
            newest: None,
            next: None,
        });
        let next = pass.next.as_ref().map(|(link, _)| link.clone());
        (pass.from, PageRequest { size: pass.size, next })
    }

    /// Notes that the request was lost: it is asked again.
    pub(super) fn abandon(&mut self) {
        self.is_in_flight = false;
        self.pass = None;
    }

    /// Takes a page, or the failure to read it, which ends the pass.
    ///
    /// # Errors
    /// The failure; of pages that were read, too.
    pub(super) fn turn(
        &mut self,
        result: Result<Page<Reported>, Failure>,
        now: Timestamp,
        twilio_now: Timestamp,
        random: u64,
    ) -> (LogPage, Option<Failure>) {
        self.is_in_flight = false;
        let page = match result {
            Ok(page) => page,
            Err(failure) => {
                self.failed(&failure, now, random);
                return (LogPage::default(), Some(failure));
            }
        };
        self.is_known = true;
        let mut read = LogPage { rejected: page.rejected, ..LogPage::default() };
        let count = page.items.len();
        let since = self.begin(twilio_now).since;
        for entry in page.items {
            let at = self.take(entry, since, twilio_now, &mut read);
            if let Some(pass) = &mut self.pass {
                pass.newest = pass.newest.max(Some(at));
            }
        }
        let end = self.next_page(page.next, count);
        match end {
            End::Continues => (read, None),
            End::Reached => {
                self.finish(now, twilio_now);
                read.is_complete = true;
                (read, None)
            }
            End::Cut(failure) => {
                self.failed(&failure, now, random);
                (read, Some(failure))
            }
        }
    }

    /// Takes entries that Twilio pushed, once it is known from when on they count. One without a date is
    /// ignored: it might be of any age.
    pub(super) fn push(
        &mut self,
        entries: Vec<Reported>,
        twilio_now: Timestamp,
    ) -> Option<LogPage> {
        let since = self.progress()?.since.max(before(twilio_now, PUSHED_WITHIN));
        let mut read = LogPage::default();
        for entry in entries {
            if entry.generated_at.is_some() {
                self.take(entry, since, twilio_now, &mut read);
            } else {
                read.ignored += 1;
            }
        }
        if self.known.len() > MAX_KNOWN {
            self.forget(before(twilio_now, REMEMBERED));
        }
        Some(read)
    }

    /// Takes an entry, and tells when it counts as having happened.
    fn take(
        &mut self,
        entry: Reported,
        since: Timestamp,
        twilio_now: Timestamp,
        read: &mut LogPage,
    ) -> Timestamp {
        let at = entry.generated_at.unwrap_or(twilio_now).min(twilio_now);
        let is_ours = entry.account.is_none_or(|account| account == self.account);
        if !is_ours || at < since {
            read.ignored += 1;
        } else if self.known.insert(entry.sid, at).is_some() {
            read.duplicates += 1;
        } else {
            read.new.push((entry, at));
        }
        at
    }

    fn forget(&mut self, before: Timestamp) {
        self.known.retain(|_, at| before <= *at);
    }

    fn next_page(&mut self, next: NextPage, entries: usize) -> End {
        // A page that was asked for before a reload, or a clock that jumped: it said all it can.
        let Some(pass) = &mut self.pass else { return End::Reached };
        pass.pages += 1;
        pass.entries += entries;
        match next {
            NextPage::End => End::Reached,
            NextPage::Foreign => End::Cut(Failure::of_pages(
                FailureReason::ForeignNextPage,
                "the next page is on another host: check the base URL",
            )),
            // Twilio shows no more: older entries than these are lost.
            NextPage::At { .. } if pass.entries >= MAX_ENTRIES => End::Reached,
            NextPage::At { position, .. }
                if pass.pages >= MAX_PAGES
                    || position.is_empty()
                    || pass.next.as_ref().is_some_and(|(_, before)| *before == position) =>
            {
                let text = "the list stopped before its end";
                End::Cut(Failure::of_pages(FailureReason::Incomplete, text))
            }
            NextPage::At { link, position } => {
                pass.next = Some((link, position));
                End::Continues
            }
        }
    }

    fn finish(&mut self, now: Timestamp, twilio_now: Timestamp) {
        self.failures = 0;
        let Some(pass) = self.pass.take() else { return };
        self.page_size.read(pass.size, now);
        // However many pages it took, an hour has no more requests than it would have of one page.
        self.due_at = after(pass.began_at, self.every.unwrap_or_default() * pass.pages).max(now);
        if let (Some(progress), Some(newest)) = (&mut self.progress, pass.newest) {
            progress.known_to = progress.known_to.min(twilio_now).max(newest);
            let forget_before = before(progress.known_to, REMEMBERED);
            self.forget(forget_before);
        }
    }

    fn failed(&mut self, failure: &Failure, now: Timestamp, random: u64) {
        let pass = self.pass.take();
        self.failures = self.failures.saturating_add(1);
        let is_refused = matches!(failure.verdict, Verdict::Refused | Verdict::NotFound);
        let backoff = if is_refused { REFUSED } else { FAILED };
        let wait = match failure.verdict {
            Verdict::Failed { retry_after } => retry_after.unwrap_or_default(),
            Verdict::Throttled { .. }
            | Verdict::Refused
            | Verdict::NotFound
            | Verdict::Unreadable => Duration::ZERO,
        };
        let wait = wait.max(backoff.wait(self.failures, random));
        let wait = wait.max(self.every.unwrap_or_default());
        self.due_at = after(now, wait);
        if let Some(pass) = pass.filter(|_| failure.page_size != PageSizeVerdict::Unrelated) {
            let is_too_large = failure.page_size == PageSizeVerdict::TooLarge;
            let reason = failure.reason.as_str();
            self.page_size.failed(pass.size, reason, is_too_large, now);
        }
    }
}

/// What follows a page.
#[derive(Debug)]
enum End {
    Continues,
    Reached,
    Cut(Failure),
}

#[cfg(test)]
mod tests;
