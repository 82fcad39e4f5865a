//! One reading of a list of calls, page by page, and how it ends.

use std::collections::BTreeSet;

use jiff::Timestamp;

use crate::domain::engine::page_size::PAGE_SIZES;
use crate::domain::engine::request::{NextPage, Page, PageRequest};
use crate::domain::track::listing::{Filter, ListKind};
use crate::domain::words::call::Call;
use crate::domain::words::label::label_enum;
use crate::domain::words::sid::CallSid;

/// Failures of one page after which its list is read again from its first page: the page's token may
/// have expired.
const MAX_PAGE_FAILURES: u32 = 5;
/// Most pages of one list: two days of a million calls each. Beyond it the cursor stays.
pub const MAX_LIST_PAGES: u32 = 2_000;
/// Seconds of a day, to which a server may cut a time filter.
const DAY_SECONDS: i64 = 24 * 60 * 60;

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
    /// Items of its pages, as its first page was asked for.
    pub page_size: u16,
    /// The path of the next page, as Twilio gave it; `None` for the first.
    pub next_page: Option<String>,
    pages: u32,
    failures: u32,
    seen_pages: BTreeSet<String>,
    /// The calls of the page before, by which a page is recognised that comes again.
    last_page: Vec<CallSid>,
    /// Whether calls were left in Twilio's list for want of room.
    has_left_calls: bool,
}

/// What follows a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AfterPage {
    /// Another page.
    Continue,
    /// The list was read to its end.
    Complete,
    /// The list stopped before its end: what it did not show is still to be found.
    Stopped(Stop),
}

label_enum! {
    /// Why a list stopped before its end.
    pub enum Stop {
        /// It has more pages than are read.
        Capped = "capped",
        /// A page without items names a next page.
        Empty = "empty_page",
        /// A page came twice.
        Repeated = "repeated_page",
        /// No item of a page could be decoded.
        Undecodable = "undecodable_page",
        /// The next page is on another host.
        Foreign = "foreign_next_page",
        /// It showed more calls than are tracked.
        NoRoom = "no_room",
    }
}

impl ListRun {
    pub(super) fn new(kind: ListKind, filter: Filter, asked_at: Timestamp) -> Self {
        Self {
            asked_at,
            kind,
            filter,
            began_at: None,
            page_size: PAGE_SIZES[0],
            next_page: None,
            pages: 0,
            failures: 0,
            seen_pages: BTreeSet::new(),
            last_page: Vec::new(),
            has_left_calls: false,
        }
    }

    /// Notes that a call was left in Twilio's list: the list is not known to its end.
    pub fn leave_call(&mut self) {
        self.has_left_calls = true;
    }

    /// Takes note of a page, and says what follows it. Only a page without a next page ends a list:
    /// an empty, repeated or undecodable one proves nothing about what would have followed.
    pub fn turn(&mut self, page: &Page<Call>, date: Timestamp) -> AfterPage {
        self.began_at.get_or_insert(date);
        self.pages += 1;
        self.failures = 0;
        let sids: Vec<CallSid> = page.items.iter().map(|call| call.sid).collect();
        let is_repeated = sids.len() > 1 && sids == self.last_page;
        self.last_page = sids;
        // Of all calls only the first page is wanted.
        let is_end = self.kind == ListKind::Unfiltered || self.is_past_filter(&page.items);
        let (link, position) = match &page.next {
            NextPage::Foreign if !is_end => return AfterPage::Stopped(Stop::Foreign),
            NextPage::At { link, position } if !is_end => (link, position),
            NextPage::End | NextPage::Foreign | NextPage::At { .. } => {
                let stop = self.has_left_calls.then_some(Stop::NoRoom);
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

    /// The page to ask for next.
    pub(in crate::domain::engine) fn page(&self) -> PageRequest {
        PageRequest { size: self.page_size, next: self.next_page.clone() }
    }

    /// Whether a page holds only calls that the filter excludes because a server cut it to the day:
    /// all calls that were asked for are newer, and behind us. Calls of other days are no sign of
    /// that.
    fn is_past_filter(&self, calls: &[Call]) -> bool {
        let Filter::StartedFrom(from) = self.filter else { return false };
        let day = from.as_second().div_euclid(DAY_SECONDS);
        let is_before =
            |start: Timestamp| start < from && start.as_second().div_euclid(DAY_SECONDS) == day;
        !calls.is_empty() && calls.iter().all(|call| call.start_time.is_some_and(is_before))
    }

    /// How many pages were read so far.
    pub fn pages(&self) -> u32 {
        self.pages
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
