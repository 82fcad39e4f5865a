//! Finding an account's subaccounts: the list of accounts, read page by page every few minutes.

use std::time::Duration;

use jiff::Timestamp;

use crate::domain::track::twilio_time::after;
use crate::domain::words::account::ListedAccount;

use super::backoff::Backoff;
use super::effects::FoundAccounts;
use super::failure::{Failure, FailureReason, PageSizeVerdict};
use super::page_size::PageSize;
use super::request::{NextPage, Page, PageRequest};

/// How often subaccounts are looked for: new ones are rare, and a request costs little.
const EVERY: Duration = Duration::from_secs(10 * 60);
/// When a discovery that failed is tried again: most failures pass at once.
const RETRY: Backoff = Backoff::new(Duration::from_secs(4), Duration::from_secs(60));
/// Most pages of accounts: a hundred thousand subaccounts.
const MAX_PAGES: usize = 100;

/// The list of accounts, as far as it was read. In local time.
#[derive(Debug)]
pub(super) struct Discovery {
    page_size: PageSize,
    due_at: Timestamp,
    is_in_flight: bool,
    failures: u32,
    /// What was read of it so far.
    pages: usize,
    found: Vec<ListedAccount>,
    is_readable: bool,
    next: Option<(String, String)>,
}

/// What follows an answer.
#[derive(Debug)]
pub(super) enum AfterAccounts {
    /// Another page.
    Continue,
    /// The accounts that were found, and why not all were.
    Found(FoundAccounts, Option<Failure>),
    /// None were found.
    Failed(Failure),
}

impl Discovery {
    /// The first is due at once.
    pub(super) fn new() -> Self {
        Self {
            page_size: PageSize::of_account(),
            due_at: Timestamp::MIN,
            is_in_flight: false,
            failures: 0,
            pages: 0,
            found: Vec::new(),
            is_readable: true,
            next: None,
        }
    }

    /// When a page is to be asked for; `MAX` while one is.
    pub(super) fn due_at(&self) -> Timestamp {
        if self.is_in_flight { Timestamp::MAX } else { self.due_at }
    }

    /// The page to ask for, which counts as asked for from here on.
    pub(super) fn ask(&mut self) -> PageRequest {
        self.is_in_flight = true;
        let next = self.next.as_ref().map(|(link, _)| link.clone());
        PageRequest { size: self.page_size.get(), next }
    }

    /// Notes that the request was lost: it is asked again.
    pub(super) fn abandon(&mut self) {
        self.is_in_flight = false;
    }

    /// Takes a page, or the failure to read it.
    pub(super) fn turn(
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
                self.begin_again();
                self.retry(now, random);
                return AfterAccounts::Failed(failure);
            }
        };
        self.pages += 1;
        self.is_readable &= page.rejected == 0;
        self.found.extend(page.items);
        let before = self.next.take();
        let cut = match page.next {
            NextPage::End => None,
            NextPage::Foreign => {
                let text = "the next page is on another host: check the base URL";
                Some(Failure::of_pages(FailureReason::ForeignNextPage, text))
            }
            NextPage::At { position, .. }
                if self.pages >= MAX_PAGES
                    || before.is_some_and(|(_, before)| before == position) =>
            {
                Some(incomplete())
            }
            NextPage::At { link, position } => {
                self.next = Some((link, position));
                return AfterAccounts::Continue;
            }
        };
        let cut = cut.or_else(|| (!self.is_readable).then(incomplete));
        let found = self.begin_again();
        match &cut {
            None => {
                self.failures = 0;
                self.page_size.read(self.page_size.get(), now);
                self.due_at = after(now, EVERY);
            }
            Some(_) => self.retry(now, random),
        }
        AfterAccounts::Found(FoundAccounts { accounts: found, is_complete: cut.is_none() }, cut)
    }

    fn retry(&mut self, now: Timestamp, random: u64) {
        self.failures = self.failures.saturating_add(1);
        self.due_at = after(now, RETRY.wait(self.failures, random));
    }

    /// Forgets what was read, to begin with the first page.
    fn begin_again(&mut self) -> Vec<ListedAccount> {
        self.pages = 0;
        self.is_readable = true;
        self.next = None;
        std::mem::take(&mut self.found)
    }
}

fn incomplete() -> Failure {
    Failure::of_pages(FailureReason::Incomplete, "the list stopped before its end")
}
