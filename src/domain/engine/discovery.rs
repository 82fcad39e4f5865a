//! Discovers an account's subaccounts by reading the list of accounts, page by page, every few minutes.

use std::time::Duration;

use jiff::Timestamp;

use crate::domain::track::twilio_time::after;
use crate::domain::words::account::ListedAccount;

use super::backoff::Backoff;
use super::effects::FoundAccounts;
use super::failure::{Failure, FailureReason, PageSizeVerdict};
use super::page_size::PageSize;
use super::request::{NextPage, Page, PageRequest};

/// The time between two discoveries: new subaccounts are rare, and a request is cheap.
const INTERVAL: Duration = Duration::from_secs(10 * 60);
/// The wait before a failed discovery is retried: most failures are brief.
const RETRY: Backoff = Backoff::new(Duration::from_secs(4), Duration::from_secs(60));
/// The maximum number of pages: a hundred thousand subaccounts.
const MAX_PAGES: usize = 100;

/// The progress of reading the list of accounts. Times are local.
#[derive(Debug)]
pub(super) struct Discovery {
    page_size: PageSize,
    due_at: Timestamp,
    is_in_flight: bool,
    failures: u32,
    /// The number of pages read so far.
    pages: usize,
    found: Vec<ListedAccount>,
    /// Whether all items so far could be decoded.
    is_readable: bool,
    /// The link to the next page, and its position.
    next: Option<(String, String)>,
}

/// How a discovery continues after a response.
#[derive(Debug)]
pub(super) enum AfterAccounts {
    /// Another page is needed.
    Continue,
    /// The discovered accounts, and the failure if the list is incomplete.
    Found(FoundAccounts, Option<Failure>),
    /// A request failed.
    Failed(Failure),
}

impl Discovery {
    /// Starts with a discovery that is due immediately.
    pub(super) fn new() -> Self {
        Self {
            page_size: PageSize::for_account(),
            due_at: Timestamp::MIN,
            is_in_flight: false,
            failures: 0,
            pages: 0,
            found: Vec::new(),
            is_readable: true,
            next: None,
        }
    }

    /// Returns when the next page is due; `MAX` while a request is in flight.
    pub(super) fn due_at(&self) -> Timestamp {
        if self.is_in_flight { Timestamp::MAX } else { self.due_at }
    }

    /// Returns the page to request, and marks it as in flight.
    pub(super) fn start_request(&mut self) -> PageRequest {
        self.is_in_flight = true;
        let next = self.next.as_ref().map(|(link, _)| link.clone());
        PageRequest { size: self.page_size.get(), next }
    }

    /// Notes that the request was lost, so that it is sent again.
    pub(super) fn abandon(&mut self) {
        self.is_in_flight = false;
    }

    /// Applies a page, or the failure to read it.
    pub(super) fn on_page(
        &mut self,
        result: Result<Page<ListedAccount>, Failure>,
        now: Timestamp,
        random: u64,
    ) -> AfterAccounts {
        self.is_in_flight = false;
        let page = match result {
            Ok(page) => page,
            Err(failure) => {
                if failure.page_size != PageSizeVerdict::Unrelated {
                    let size = self.page_size.get();
                    self.page_size.failed(size, failure.reason.as_str(), false, now);
                }
                self.restart();
                self.retry(now, random);
                return AfterAccounts::Failed(failure);
            }
        };
        self.pages += 1;
        self.is_readable &= page.rejected == 0;
        self.found.extend(page.items);
        let previous = self.next.take();
        let failure = match page.next {
            NextPage::End => None,
            NextPage::Foreign => {
                let text = "the next page is on another host: check the base URL";
                Some(Failure::invalid_pages(FailureReason::ForeignNextPage, text))
            }
            NextPage::At { position, .. }
                if self.pages >= MAX_PAGES
                    || previous.is_some_and(|(_, previous)| previous == position) =>
            {
                Some(incomplete())
            }
            NextPage::At { link, position } => {
                self.next = Some((link, position));
                return AfterAccounts::Continue;
            }
        };
        let failure = failure.or_else(|| (!self.is_readable).then(incomplete));
        let found = self.restart();
        match &failure {
            None => {
                self.failures = 0;
                self.page_size.read(self.page_size.get(), now);
                self.due_at = after(now, INTERVAL);
            }
            Some(_) => self.retry(now, random),
        }
        let found = FoundAccounts { accounts: found, is_complete: failure.is_none() };
        AfterAccounts::Found(found, failure)
    }

    fn retry(&mut self, now: Timestamp, random: u64) {
        self.failures = self.failures.saturating_add(1);
        self.due_at = after(now, RETRY.wait(self.failures, random));
    }

    /// Resets the progress to the first page, and returns the accounts found so far.
    fn restart(&mut self) -> Vec<ListedAccount> {
        self.pages = 0;
        self.is_readable = true;
        self.next = None;
        std::mem::take(&mut self.found)
    }
}

fn incomplete() -> Failure {
    Failure::invalid_pages(FailureReason::Incomplete, "the list stopped before its end")
}
