//! Reads Twilio's error log every few seconds, from shortly before the newest known entry to the end, and accepts
//! the entries that Twilio pushes.
//!
//! Invariant: each entry is counted once, by its SID, whether read or pushed. The log's progress advances only when
//! a pass has read it to its end: a failed pass starts again from the same time, and entries that were never pushed
//! are still read.

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

/// How far before the newest known entry a pass starts: entries appear late and out of order.
const OVERLAP: Duration = Duration::from_secs(10 * 60);
/// How far before the newest entry the SIDs of entries are kept: longer than the overlap of passes.
pub const REMEMBERED: Duration = Duration::from_secs(15 * 60);
/// The maximum age of a pushed entry: the log's retention, and less than the time for which the store keeps SIDs.
/// An older entry is a replay of an old request.
const MAX_PUSHED_AGE: Duration = Duration::from_secs(30 * 24 * 3600);
/// Above this number of SIDs, those too old for a pass to return are dropped; the store still has them.
const MAX_SEEN: usize = 20_000;
/// The maximum number of entries of a pass: Twilio returns no more for a query.
const MAX_ENTRIES: usize = 10_000;
/// The maximum number of pages of a pass, however few entries they have.
const MAX_PAGES: u32 = 200;
/// The wait after a failed pass: the log is the fast source, and should be available again within a minute.
const FAILED_RETRY: Backoff = Backoff::new(Duration::from_secs(15), Duration::from_secs(120));
/// The wait after a refusal: an operator has to grant access.
const REFUSED_RETRY: Backoff = Backoff::new(Duration::from_secs(120), Duration::from_secs(600));

/// The progress of reading the error log. Schedules are in local time; the log's own times are Twilio's.
#[derive(Debug)]
pub(super) struct ErrorLog {
    account: AccountSid,
    /// The time between two passes; `None` if the log isn't read.
    interval: Option<Duration>,
    page_size: PageSize,
    due_at: Timestamp,
    is_in_flight: bool,
    failures: u32,
    /// How far it has been read; `None` before the first request or push.
    progress: Option<ErrorLogProgress>,
    /// Whether Twilio pushes its entries.
    accepts_pushes: bool,
    /// Whether it has been read or accepts pushes: a log that can't be read has no progress to store.
    is_available: bool,
    /// Recent entries and their times, so that none is counted twice.
    seen: BTreeMap<ErrorLogSid, Timestamp>,
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
    /// The link to the next page, and its position.
    next: Option<(String, String)>,
}

/// The entries of a page or a push.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogPage {
    /// The new entries, each with the time to record for it.
    pub new: Vec<(Reported, Timestamp)>,
    /// The number of entries that had been counted before.
    pub duplicates: u64,
    /// The number of items that could not be decoded.
    pub rejected: u64,
    /// The number of ignored entries: of other accounts, older than the account's first poll, or, if pushed, too
    /// old or undated.
    pub ignored: u64,
    /// Whether the pass has read the log to its end.
    pub is_complete: bool,
}

impl ErrorLog {
    /// Starts from the stored progress and the latest entries.
    pub(super) fn new(
        account: AccountSid,
        interval: Option<Duration>,
        accepts_pushes: bool,
        progress: Option<ErrorLogProgress>,
        latest: Vec<(ErrorLogSid, Timestamp)>,
    ) -> Self {
        Self {
            account,
            interval,
            page_size: PageSize::for_account(),
            due_at: Timestamp::MIN,
            is_in_flight: false,
            failures: 0,
            accepts_pushes,
            is_available: progress.is_some(),
            progress,
            seen: latest.into_iter().collect(),
            pass: None,
        }
    }

    /// Returns the progress to store, once the log has been read or accepts pushes.
    pub(super) fn progress(&self) -> Option<ErrorLogProgress> {
        self.progress.filter(|_| self.is_available)
    }

    /// Returns when the next page is due; `MAX` while a request is in flight, or if the log isn't read.
    pub(super) fn due_at(&self) -> Timestamp {
        if self.is_in_flight || self.interval.is_none() { Timestamp::MAX } else { self.due_at }
    }

    /// Starts accepting pushes, and returns whether that is new. The metrics start at 0 then, so that the first
    /// entry is an increase.
    pub(super) fn start_push(&mut self, twilio_now: Timestamp) -> bool {
        if self.is_available || !self.accepts_pushes {
            return false;
        }
        self.start(twilio_now);
        self.is_available = true;
        true
    }

    /// Returns the progress, which starts now if there is none.
    fn start(&mut self, twilio_now: Timestamp) -> ErrorLogProgress {
        // The times of entries are in whole seconds: entries of the account's first second are counted.
        let since = Timestamp::from_second(twilio_now.as_second()).unwrap_or(twilio_now);
        *self.progress.get_or_insert(ErrorLogProgress { since, known_to: since })
    }

    /// Returns the start time of the pass and the page to request, and marks the request as in flight.
    pub(super) fn start_request(
        &mut self,
        now: Timestamp,
        twilio_now: Timestamp,
    ) -> (Timestamp, PageRequest) {
        self.is_in_flight = true;
        let progress = self.start(twilio_now);
        let size = self.page_size.get();
        let pass = self.pass.get_or_insert_with(|| Pass {
            // A `known_to` in the future would hide entries until then.
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

    /// Notes that the request was lost: the pass starts again.
    pub(super) fn abandon(&mut self) {
        self.is_in_flight = false;
        self.pass = None;
    }

    /// Applies a page, or the failure to read it, which ends the pass. A page that could be read may come with a
    /// failure, too: if the list stopped before its end.
    pub(super) fn on_page(
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
        self.is_available = true;
        let mut read = LogPage { rejected: page.rejected, ..LogPage::default() };
        let count = page.items.len();
        let since = self.start(twilio_now).since;
        for entry in page.items {
            let at = self.take(entry, since, twilio_now, &mut read);
            if let Some(pass) = &mut self.pass {
                pass.newest = pass.newest.max(Some(at));
            }
        }
        match self.advance(page.next, count) {
            PassStatus::Continues => (read, None),
            PassStatus::Complete => {
                self.finish(now, twilio_now);
                read.is_complete = true;
                (read, None)
            }
            PassStatus::Failed(failure) => {
                self.failed(&failure, now, random);
                (read, Some(failure))
            }
        }
    }

    /// Applies entries that Twilio pushed. Returns `None` before pushes are accepted. An entry without a date is
    /// ignored, because its age is unknown.
    pub(super) fn push(
        &mut self,
        entries: Vec<Reported>,
        twilio_now: Timestamp,
    ) -> Option<LogPage> {
        let since = self.progress()?.since.max(before(twilio_now, MAX_PUSHED_AGE));
        let mut read = LogPage::default();
        for entry in entries {
            if entry.generated_at.is_some() {
                self.take(entry, since, twilio_now, &mut read);
            } else {
                read.ignored += 1;
            }
        }
        if self.seen.len() > MAX_SEEN {
            self.forget(before(twilio_now, REMEMBERED));
        }
        Some(read)
    }

    /// Applies an entry, and returns the time to record for it.
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
        } else if self.seen.insert(entry.sid, at).is_some() {
            read.duplicates += 1;
        } else {
            read.new.push((entry, at));
        }
        at
    }

    fn forget(&mut self, before: Timestamp) {
        self.seen.retain(|_, at| before <= *at);
    }

    fn advance(&mut self, next: NextPage, entries: usize) -> PassStatus {
        // Without a pass there is no next page to request.
        let Some(pass) = &mut self.pass else { return PassStatus::Complete };
        pass.pages += 1;
        pass.entries += entries;
        match next {
            NextPage::End => PassStatus::Complete,
            NextPage::Foreign => PassStatus::Failed(Failure::invalid_pages(
                FailureReason::ForeignNextPage,
                "the next page is on another host: check the base URL",
            )),
            // Twilio returns no more: older entries are lost.
            NextPage::At { .. } if pass.entries >= MAX_ENTRIES => PassStatus::Complete,
            NextPage::At { position, .. }
                if pass.pages >= MAX_PAGES
                    || position.is_empty()
                    || pass.next.as_ref().is_some_and(|(_, previous)| *previous == position) =>
            {
                let text = "the list stopped before its end";
                PassStatus::Failed(Failure::invalid_pages(FailureReason::Incomplete, text))
            }
            NextPage::At { link, position } => {
                pass.next = Some((link, position));
                PassStatus::Continues
            }
        }
    }

    fn finish(&mut self, now: Timestamp, twilio_now: Timestamp) {
        self.failures = 0;
        let Some(pass) = self.pass.take() else { return };
        self.page_size.read(pass.size, now);
        // Wait one interval a page, so that an hour has no more requests than with passes of one page.
        self.due_at = after(pass.began_at, self.interval.unwrap_or_default() * pass.pages).max(now);
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
        let backoff = if is_refused { REFUSED_RETRY } else { FAILED_RETRY };
        let wait = match failure.verdict {
            Verdict::Failed { retry_after } => retry_after.unwrap_or_default(),
            Verdict::Throttled { .. }
            | Verdict::Refused
            | Verdict::NotFound
            | Verdict::Unreadable => Duration::ZERO,
        };
        let wait = wait.max(backoff.wait(self.failures, random));
        let wait = wait.max(self.interval.unwrap_or_default());
        self.due_at = after(now, wait);
        if let Some(pass) = pass.filter(|_| failure.page_size != PageSizeVerdict::Unrelated) {
            let is_too_large = failure.page_size == PageSizeVerdict::TooLarge;
            let reason = failure.reason.as_str();
            self.page_size.failed(pass.size, reason, is_too_large, now);
        }
    }
}

/// How a pass continues after a page.
#[derive(Debug)]
enum PassStatus {
    Continues,
    Complete,
    Failed(Failure),
}

#[cfg(test)]
mod tests;
