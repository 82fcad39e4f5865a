//! One complete read of a call's events, page by page.
//!
//! Invariant: several pages make a reading only if no two of them are at the same position in the list,
//! and if the first is unchanged at the end and still has a next page. Otherwise a page that was read
//! twice, or that shifted in between, would show one event twice, and so count it twice.

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

/// Most pages of one read: a hundred thousand events.
const MAX_PAGES: usize = 100;
/// The same for pages of one item, which are read only around an item that is too large.
const MAX_PAGES_OF_ONE: usize = 2_000;
/// Most items of one read that are too large alone: each costs a request and 16 MiB.
const MAX_TOO_LARGE: usize = 10;
/// Most time for one read: long enough for thousands of pages, and not for as many slow ones.
const MAX_TIME: Duration = Duration::from_secs(10 * 60);
/// How often a list is read that shifts under us.
const MAX_TRIES: usize = 3;

/// One read of a call's events.
#[derive(Clone, Debug)]
pub struct EventsRun {
    /// Which call is read, and why.
    pub read: Read,
    /// How its items are told apart.
    pub digests: Digests,
    /// How many items a page was asked for at first.
    pub asked_size: u16,
    /// How many it is asked for now: fewer where the items were too large together.
    pub size: u16,
    account: AccountSid,
    began_at: Timestamp,
    tries: usize,
    pages: Pages,
}

/// What the pages of one try have shown.
#[derive(Clone, Debug, Default)]
struct Pages {
    count: usize,
    too_large: usize,
    /// Twilio's time at the first page.
    read_at: Option<Timestamp>,
    /// Where pages were read, and where the next one is.
    positions: BTreeSet<String>,
    next: Option<String>,
    /// What pages have shown, by which one is recognised that comes again.
    shown: Vec<Vec<Identity>>,
    items: Vec<Item>,
    /// Whether the list stopped before its end.
    is_cut: bool,
    /// Whether the first page is read once more.
    is_check: bool,
}

/// What follows an answer.
#[derive(Clone, Debug)]
pub enum AfterEvents {
    /// Another page.
    Continue,
    /// All there is to read was read.
    Read(Reading),
    /// The read failed.
    Failed(Failure),
}

impl EventsRun {
    /// Begins to read a call of an account, in pages of a size.
    pub fn new(
        read: Read,
        digests: Digests,
        account: AccountSid,
        size: u16,
        now: Timestamp,
    ) -> Self {
        let (tries, pages) = (0, Pages::default());
        Self { read, digests, asked_size: size, size, account, began_at: now, tries, pages }
    }

    /// The page to ask for next.
    pub fn page(&self) -> PageRequest {
        let next = if self.pages.is_check { None } else { self.pages.next.clone() };
        PageRequest { size: self.size, next }
    }

    /// Takes a page that Twilio dated, or the failure to read it, at a local time.
    pub fn turn(
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
                    return self.begin_again();
                }
                None if self.pages.too_large >= MAX_TOO_LARGE => {
                    return AfterEvents::Failed(failure);
                }
                None => self.reject_page(),
            },
        };
        if self.pages.is_check {
            return self.check(&page);
        }
        self.take(page, date);
        if self.pages.next.is_some() {
            let most = if self.size == 1 { MAX_PAGES_OF_ONE } else { MAX_PAGES };
            if self.pages.count >= most || after(self.began_at, MAX_TIME) <= now {
                let text = "the list has too many pages, or they take too long";
                return AfterEvents::Failed(Failure::of_pages(FailureReason::Endless, text));
            }
            return AfterEvents::Continue;
        }
        if self.pages.count > 1 {
            self.pages.is_check = true;
            return AfterEvents::Continue;
        }
        self.end()
    }

    /// An item that alone is too large is rejected, and the list goes on behind it. Only the page itself
    /// could tell where the next one is, so its number has to do.
    fn reject_page(&mut self) -> Page<Item> {
        let (account, call, digests) = (self.account, self.read.sid, self.digests);
        let number = if self.pages.is_check { 0 } else { self.pages.count };
        self.pages.too_large += usize::from(!self.pages.is_check);
        let position = format!("Page={}", number + 1);
        let list = format!("/2010-04-01/Accounts/{account}/Calls/{call}/Events.json");
        let link = format!("{list}?PageSize=1&{position}");
        let place = format!("{call} {number}");
        let item = Item::rejected(place.as_bytes(), digests, Rejection::TooLarge);
        Page { items: vec![item], rejected: 0, next: NextPage::At { link, position } }
    }

    fn take(&mut self, page: Page<Item>, date: Timestamp) {
        let pages = &mut self.pages;
        let is_first = pages.count == 0;
        pages.read_at.get_or_insert(date);
        pages.count += 1;
        pages.next = None;
        let shows = identities(&page);
        // Two full pages of equal events may be different pages. A short page is the last of its list,
        // so one that comes twice is the same page.
        let is_full = shows.len() >= usize::from(self.size);
        let may_recur = shows.is_empty() || is_full && shows.iter().all(|one| *one == shows[0]);
        let is_repeated = !may_recur && pages.shown.contains(&shows);
        // Not even a first page that is empty says that nothing follows, if it names a next one.
        let is_empty_between = shows.is_empty() && page.next != NextPage::End;
        if is_repeated || is_empty_between {
            pages.is_cut = true;
            return;
        }
        if is_first || !may_recur {
            pages.shown.push(shows);
        }
        pages.items.extend(page.items);
        // Only a page without a next page ends the list.
        match page.next {
            NextPage::End => {}
            NextPage::Foreign => pages.is_cut = true,
            // The position without any parameter is the first page's.
            NextPage::At { position, .. } if position.is_empty() => pages.is_cut = true,
            NextPage::At { link, position } => {
                if pages.positions.insert(position) {
                    pages.next = Some(link);
                } else {
                    pages.is_cut = true;
                }
            }
        }
    }

    /// Compares the first page with what it was.
    fn check(&mut self, again: &Page<Item>) -> AfterEvents {
        let is_unchanged = self.pages.shown.first() == Some(&identities(again));
        if is_unchanged && again.next != NextPage::End {
            return self.end();
        }
        self.tries += 1;
        if self.tries < MAX_TRIES {
            return self.begin_again();
        }
        let text = "the list changed while it was read";
        AfterEvents::Failed(Failure::of_pages(FailureReason::Shifted, text))
    }

    fn begin_again(&mut self) -> AfterEvents {
        self.pages = Pages::default();
        AfterEvents::Continue
    }

    fn end(&mut self) -> AfterEvents {
        let Pages { mut items, shown, is_cut, read_at, .. } = std::mem::take(&mut self.pages);
        if is_cut {
            // What follows the first page may be that page again, and would be counted twice.
            items.truncate(shown.first().map_or(0, Vec::len));
        }
        let read_at = read_at.unwrap_or(self.began_at);
        AfterEvents::Read(Reading { items, read_at, is_complete: !is_cut })
    }
}

/// What a page shows, by which it is recognised when it comes again.
fn identities(page: &Page<Item>) -> Vec<Identity> {
    page.items.iter().map(|item| item.identity).collect()
}

#[cfg(test)]
mod tests;
