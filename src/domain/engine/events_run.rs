//! One complete read of a call's events, page by page.
//!
//! Invariant: several pages form a reading only if no two have the same position in the list, and if the first is
//! unchanged at the end and still has a next page. Otherwise, an event would be counted twice if a page were read
//! twice or the list shifted between pages.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::Timestamp;

use crate::domain::judge::observe::Rejection;
use crate::domain::track::digest::{Digests, Identity};
use crate::domain::track::reading::{Item, Reading};
use crate::domain::track::twilio_time::after;
use crate::domain::words::sid::AccountSid;

use super::failure::{Failure, FailureReason, PageSizeVerdict};
use super::page_size::smaller;
use super::plan::Read;
use super::request::{NextPage, Page, PageRequest};

/// The maximum number of pages of a read: a hundred thousand events.
const MAX_PAGES: usize = 100;
/// The same for pages of one item, which are requested only around an item that is too large.
const MAX_PAGES_OF_ONE: usize = 2_000;
/// The maximum number of oversized items of a read: each costs a request and 16 MiB.
const MAX_TOO_LARGE: usize = 10;
/// The maximum duration of a read: enough for thousands of pages, but not for thousands of slow ones.
const MAX_TIME: Duration = Duration::from_secs(10 * 60);
/// The maximum number of attempts at a list that shifts while it is read.
const MAX_ATTEMPTS: usize = 3;

/// One read of a call's events.
#[derive(Clone, Debug)]
pub struct EventsRun {
    /// The call, and the stage of the read.
    pub read: Read,
    /// The digests that identify its items.
    pub digests: Digests,
    /// The initial page size.
    pub initial_size: u16,
    /// The current page size: smaller if pages of the initial size were too large.
    pub size: u16,
    account: AccountSid,
    began_at: Timestamp,
    attempts: usize,
    pages: Pages,
}

/// The pages of one attempt.
#[derive(Clone, Debug, Default)]
struct Pages {
    count: usize,
    too_large: usize,
    /// Twilio's time at the first page.
    read_at: Option<Timestamp>,
    /// The positions of the pages read, and of the next one.
    positions: BTreeSet<String>,
    /// The link to the next page.
    next: Option<String>,
    /// The identities of the items of each page, to detect a repeated page.
    seen: Vec<Vec<Identity>>,
    items: Vec<Item>,
    /// Whether the list stopped before its end.
    is_truncated: bool,
    /// Whether the first page is being read once more, to verify that it is unchanged.
    is_verifying: bool,
}

/// How a read continues after a response.
#[derive(Clone, Debug)]
pub enum AfterEvents {
    /// Another page is needed.
    Continue,
    /// The read ended. Its items may be incomplete.
    Read(Reading),
    /// The read failed.
    Failed(Failure),
}

impl EventsRun {
    /// Starts a read of a call of an account, in pages of `size`.
    pub fn new(
        read: Read,
        digests: Digests,
        account: AccountSid,
        size: u16,
        now: Timestamp,
    ) -> Self {
        let (attempts, pages) = (0, Pages::default());
        Self { read, digests, initial_size: size, size, account, began_at: now, attempts, pages }
    }

    /// Returns the page to request next.
    pub fn page(&self) -> PageRequest {
        let next = if self.pages.is_verifying { None } else { self.pages.next.clone() };
        PageRequest { size: self.size, next }
    }

    /// Applies a page, or the failure to read it. `date` is Twilio's time, `now` the local time.
    pub fn on_page(
        &mut self,
        result: Result<Page<Item>, Failure>,
        date: Timestamp,
        now: Timestamp,
    ) -> AfterEvents {
        let page = match result {
            Ok(page) => page,
            Err(failure) if failure.page_size != PageSizeVerdict::TooLarge => {
                return AfterEvents::Failed(failure);
            }
            Err(failure) => match smaller(self.size) {
                Some(smaller) => {
                    self.size = smaller;
                    return self.restart();
                }
                None if self.pages.too_large >= MAX_TOO_LARGE => {
                    return AfterEvents::Failed(failure);
                }
                None => self.reject_page(),
            },
        };
        if self.pages.is_verifying {
            return self.verify(&page);
        }
        self.take(page, date);
        if self.pages.next.is_some() {
            let max = if self.size == 1 { MAX_PAGES_OF_ONE } else { MAX_PAGES };
            if self.pages.count >= max || after(self.began_at, MAX_TIME) <= now {
                let text = "the list has too many pages or takes too long to read";
                return AfterEvents::Failed(Failure::invalid_pages(FailureReason::Endless, text));
            }
            return AfterEvents::Continue;
        }
        if self.pages.count > 1 {
            self.pages.is_verifying = true;
            return AfterEvents::Continue;
        }
        self.finish()
    }

    /// Rejects an item that is too large by itself, and continues after it. The link to the next page is in the
    /// unreadable page, so it is constructed from the page number.
    fn reject_page(&mut self) -> Page<Item> {
        let (account, call, digests) = (self.account, self.read.sid, self.digests);
        let number = if self.pages.is_verifying { 0 } else { self.pages.count };
        self.pages.too_large += usize::from(!self.pages.is_verifying);
        let position = format!("Page={}", number + 1);
        let list = format!("/2010-04-01/Accounts/{account}/Calls/{call}/Events.json");
        let link = format!("{list}?PageSize=1&{position}");
        let identity = format!("{call} {number}");
        let item = Item::rejected(identity.as_bytes(), digests, Rejection::TooLarge);
        Page { items: vec![item], rejected: 0, next: NextPage::At { link, position } }
    }

    fn take(&mut self, page: Page<Item>, date: Timestamp) {
        let pages = &mut self.pages;
        let is_first = pages.count == 0;
        pages.read_at.get_or_insert(date);
        pages.count += 1;
        pages.next = None;
        let identities = identities(&page);
        // Two full pages of equal events may be different pages. A short page is the last one, so if it is
        // repeated, it is the same page.
        let is_full = identities.len() >= usize::from(self.size);
        let may_recur = identities.is_empty()
            || is_full && identities.iter().all(|identity| *identity == identities[0]);
        let is_repeated = !may_recur && pages.seen.contains(&identities);
        // Even an empty first page doesn't end the list if it has a next page.
        let is_empty_between = identities.is_empty() && page.next != NextPage::End;
        if is_repeated || is_empty_between {
            pages.is_truncated = true;
            return;
        }
        if is_first || !may_recur {
            pages.seen.push(identities);
        }
        pages.items.extend(page.items);
        // Only a page without a next page ends the list.
        match page.next {
            NextPage::End => {}
            NextPage::Foreign => pages.is_truncated = true,
            // A position without parameters is that of the first page.
            NextPage::At { position, .. } if position.is_empty() => pages.is_truncated = true,
            NextPage::At { link, position } => {
                if pages.positions.insert(position) {
                    pages.next = Some(link);
                } else {
                    pages.is_truncated = true;
                }
            }
        }
    }

    /// Compares the first page with its first reading.
    fn verify(&mut self, again: &Page<Item>) -> AfterEvents {
        let is_unchanged = self.pages.seen.first() == Some(&identities(again));
        if is_unchanged && again.next != NextPage::End {
            return self.finish();
        }
        self.attempts += 1;
        if self.attempts < MAX_ATTEMPTS {
            return self.restart();
        }
        let text = "the list changed while it was being read";
        AfterEvents::Failed(Failure::invalid_pages(FailureReason::Shifted, text))
    }

    fn restart(&mut self) -> AfterEvents {
        self.pages = Pages::default();
        AfterEvents::Continue
    }

    fn finish(&mut self) -> AfterEvents {
        let Pages { mut items, seen, is_truncated, read_at, .. } = std::mem::take(&mut self.pages);
        if is_truncated {
            // The pages after the first may repeat it, and their events would be counted twice.
            items.truncate(seen.first().map_or(0, Vec::len));
        }
        let read_at = read_at.unwrap_or(self.began_at);
        AfterEvents::Read(Reading { items, read_at, is_complete: !is_truncated })
    }
}

/// Returns the identities of a page's items, to detect a repeated page.
fn identities(page: &Page<Item>) -> Vec<Identity> {
    page.items.iter().map(|item| item.identity).collect()
}

#[cfg(test)]
mod tests;
