//! Reading a list of calls page by page, and how that ends.

use std::collections::BTreeSet;

use jiff::Timestamp;

use crate::domain::engine::page_size::PAGE_SIZES;
use crate::domain::engine::request::{NextPage, Page, PageRequest};
use crate::domain::track::listing::{Filter, ListKind};
use crate::domain::words::call::Call;
use crate::domain::words::label::label_enum;
use crate::domain::words::sid::CallSid;

/// After more failures of one page than this, its list is read again from the first page: the page's token may have
/// expired.
const MAX_PAGE_FAILURES: u32 = 5;
/// The maximum number of pages of a list: two days of a million calls each. If a list is longer, the cursor doesn't
/// move.
pub const MAX_LIST_PAGES: u32 = 2_000;
/// The seconds of a day, to which a server may truncate a time filter.
const DAY_SECONDS: i64 = 24 * 60 * 60;

/// The progress of reading one list, page by page.
#[derive(Clone, Debug)]
pub struct ListRun {
    /// The kind of list.
    pub kind: ListKind,
    /// The filter that it is requested with.
    pub filter: Filter,
    /// When it was requested. Lists are paced by this time, since a `Date` is truncated to the second.
    pub requested_at: Timestamp,
    /// Twilio's time at its first page: all calls up to this time are found once the list is read to its end.
    pub began_at: Option<Timestamp>,
    /// The page size that its first page was requested with.
    pub page_size: u16,
    /// The path of the next page, as given by Twilio; `None` for the first.
    pub next_page: Option<String>,
    pages: u32,
    failures: u32,
    seen_pages: BTreeSet<String>,
    /// The calls of the previous page, to detect a repeated page.
    last_page: Vec<CallSid>,
    /// Whether there was no room to track some of its calls.
    has_untracked_calls: bool,
}

/// How a list continues after a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AfterPage {
    /// Another page follows.
    Continue,
    /// The list was read to its end.
    Complete,
    /// The list stopped before its end: the remaining calls still have to be found.
    Stopped(Stop),
}

label_enum! {
    /// Why a list stopped before its end.
    pub enum Stop {
        /// It has more pages than the maximum.
        Capped = "capped",
        /// A page without items links to a next page.
        Empty = "empty_page",
        /// A page was repeated.
        Repeated = "repeated_page",
        /// No item of a page could be decoded.
        Undecodable = "undecodable_page",
        /// The next page is on another host.
        Foreign = "foreign_next_page",
        /// It has more new calls than may be tracked.
        NoRoom = "no_room",
    }
}

impl ListRun {
    /// Starts reading a list.
    pub fn new(kind: ListKind, filter: Filter, requested_at: Timestamp) -> Self {
        Self {
            requested_at,
            kind,
            filter,
            began_at: None,
            page_size: PAGE_SIZES[0],
            next_page: None,
            pages: 0,
            failures: 0,
            seen_pages: BTreeSet::new(),
            last_page: Vec::new(),
            has_untracked_calls: false,
        }
    }

    /// Notes that a call isn't tracked for lack of room: the list doesn't count as complete.
    pub fn mark_untracked(&mut self) {
        self.has_untracked_calls = true;
    }

    /// Processes a page, and returns how the list continues. A list is complete only at a page without a next page,
    /// or once its remaining pages aren't needed. An empty, repeated or undecodable page proves nothing about the
    /// pages after it.
    pub fn advance(&mut self, page: &Page<Call>, date: Timestamp) -> AfterPage {
        self.began_at.get_or_insert(date);
        self.pages += 1;
        self.failures = 0;
        let sids: Vec<CallSid> = page.items.iter().map(|call| call.sid).collect();
        let is_repeated = sids.len() > 1 && sids == self.last_page;
        self.last_page = sids;
        // Only the first page of the unfiltered list is needed.
        let is_end = self.kind == ListKind::Unfiltered || self.is_past_filter(&page.items);
        let (link, position) = match &page.next {
            NextPage::Foreign if !is_end => return AfterPage::Stopped(Stop::Foreign),
            NextPage::At { link, position } if !is_end => (link, position),
            NextPage::End | NextPage::Foreign | NextPage::At { .. } => {
                let stop = self.has_untracked_calls.then_some(Stop::NoRoom);
                return stop.map_or(AfterPage::Complete, AfterPage::Stopped);
            }
        };
        if page.items.is_empty() {
            let is_empty = page.rejected == 0;
            return AfterPage::Stopped(if is_empty { Stop::Empty } else { Stop::Undecodable });
        }
        if is_repeated || !self.seen_pages.insert(position.clone()) {
            return AfterPage::Stopped(Stop::Repeated);
        }
        if self.pages >= MAX_LIST_PAGES {
            return AfterPage::Stopped(Stop::Capped);
        }
        self.next_page = Some(link.clone());
        AfterPage::Continue
    }

    /// The next page to request.
    pub fn page(&self) -> PageRequest {
        PageRequest { size: self.page_size, next: self.next_page.clone() }
    }

    /// Whether a page holds only calls that the filter excludes, which a server returns if it truncates the filter to
    /// the day. All matching calls are newer and have been read. Calls of other days don't prove that.
    fn is_past_filter(&self, calls: &[Call]) -> bool {
        let Filter::StartedFrom(from) = self.filter else { return false };
        let day = from.as_second().div_euclid(DAY_SECONDS);
        let is_before =
            |start: Timestamp| start < from && start.as_second().div_euclid(DAY_SECONDS) == day;
        !calls.is_empty() && calls.iter().all(|call| call.start_time.is_some_and(is_before))
    }

    /// The number of pages read so far.
    pub fn pages(&self) -> u32 {
        self.pages
    }

    /// Counts a failure of the current page, and returns whether to request it again instead of the whole list.
    pub fn note_page_failure(&mut self) -> bool {
        self.failures += 1;
        self.next_page.is_some() && self.failures <= MAX_PAGE_FAILURES
    }

    /// Whether a call matches the list's time filter; a call without that time does.
    pub fn matches(&self, call: &Call) -> bool {
        match self.filter {
            Filter::StartedFrom(from) => call.start_time.is_none_or(|start| start >= from),
            Filter::EndedFrom(from) => call.end_time.is_none_or(|end| end >= from),
            Filter::StartedOn(_) | Filter::EndedOn(_) | Filter::Status(_) | Filter::Everything => {
                true
            }
        }
    }
}
