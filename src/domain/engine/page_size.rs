//! The page size of requests. For some accounts and some calls, requests with the largest page size always fail,
//! but smaller ones succeed.
//!
//! After two identical failures in a row, the next smaller size is used. Once a list has been read to its end in
//! smaller pages, the next larger size is tried again, since the failures may have been due to an outage. If that
//! fails, the larger size isn't tried for an hour.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;

use crate::domain::track::listing::ListKind;
use crate::domain::track::twilio_time::after;
use crate::domain::words::sid::CallSid;

/// The page sizes in the order in which they are tried; the first is Twilio's maximum.
pub const PAGE_SIZES: [u16; 4] = [1_000, 200, 50, 1];
/// The position of the smallest page size for an account's lists. With one item a page, a busy account would need
/// thousands of pages after an outage.
const SMALLEST_OF_ACCOUNT: usize = 2;
/// How long a larger size isn't tried after it failed again.
const LARGER_RETRY_AFTER: Duration = Duration::from_secs(60 * 60);

/// The page size of one list, or of one kind of list.
#[derive(Clone, Debug)]
pub struct PageSize {
    position: usize,
    smallest: usize,
    /// Why the last page of this size failed, if nothing has been read since.
    last_failure: Option<&'static str>,
    /// Whether this size failed before and is being tried again.
    is_trial: bool,
    /// When a larger size may be tried again.
    larger_from: Option<Timestamp>,
}

impl PageSize {
    /// Starts with the largest size; `smallest` is a position in [`PAGE_SIZES`].
    const fn new(smallest: usize) -> Self {
        Self { position: 0, smallest, last_failure: None, is_trial: false, larger_from: None }
    }

    /// Starts with the largest size, for a list of the account.
    pub const fn for_account() -> Self {
        Self::new(SMALLEST_OF_ACCOUNT)
    }

    /// Switches to `size` if it is smaller than the current size.
    fn shrink_to(&mut self, size: u16) {
        if let Some(position) = PAGE_SIZES.iter().position(|known| *known == size)
            && position > self.position
        {
            *self = Self { position, ..Self::new(self.smallest) };
        }
    }

    /// The current page size.
    pub fn get(&self) -> u16 {
        PAGE_SIZES[self.position]
    }

    /// Notes that a page of `size` items could not be read. If the answer was too large, the size shrinks at the first
    /// failure.
    pub fn failed(&mut self, size: u16, reason: &'static str, is_too_large: bool, now: Timestamp) {
        if size != self.get() {
            return;
        }
        let is_repeated = self.last_failure.replace(reason) == Some(reason);
        if self.is_trial {
            self.larger_from = Some(after(now, LARGER_RETRY_AFTER));
        } else if !is_repeated && !is_too_large {
            return;
        }
        let smallest = if is_too_large { PAGE_SIZES.len() - 1 } else { self.smallest };
        self.position = (self.position + 1).min(smallest.max(self.position));
        self.last_failure = None;
        self.is_trial = false;
    }

    /// Notes that a list was read to its end in pages of `size` items.
    pub fn read(&mut self, size: u16, now: Timestamp) {
        if size != self.get() {
            return;
        }
        self.last_failure = None;
        self.is_trial = false;
        if self.position > 0 && self.larger_from <= Some(now) {
            self.position -= 1;
            self.is_trial = true;
        }
    }
}

/// The page sizes of an account's lists, by key: the kind of list, or the call whose events are listed. Repeated
/// failures shrink the pages of their own key, and those of the whole account if no other key's page is read in
/// between.
#[derive(Clone, Debug)]
pub struct PageSizes<K> {
    account: PageSize,
    /// The page sizes of keys whose pages have failed.
    by_key: BTreeMap<K, PageSize>,
    smallest: usize,
}

impl PageSizes<ListKind> {
    /// The page sizes of lists of calls, by kind.
    pub fn for_lists() -> Self {
        Self::new(SMALLEST_OF_ACCOUNT)
    }
}

impl PageSizes<CallSid> {
    /// The page sizes of lists of Call Events, by call.
    pub fn for_events() -> Self {
        Self::new(PAGE_SIZES.len() - 1)
    }

    /// Forgets calls that are no longer tracked.
    pub fn retain(&mut self, is_tracked: impl Fn(&CallSid) -> bool) {
        self.by_key.retain(|sid, _| is_tracked(sid));
    }
}

impl<K: Ord> PageSizes<K> {
    fn new(smallest: usize) -> Self {
        Self { account: PageSize::for_account(), by_key: BTreeMap::new(), smallest }
    }

    /// The page size for a key.
    pub fn size_for(&self, key: &K) -> u16 {
        let account = self.account.get();
        self.by_key.get(key).map_or(account, |own| own.get().min(account))
    }

    /// Notes that a page of `size` items could not be read.
    pub fn failed(&mut self, key: K, size: u16, reason: &'static str, now: Timestamp) {
        self.account.failed(size, reason, false, now);
        let own = self.entry(key);
        own.shrink_to(size);
        own.failed(size, reason, false, now);
    }

    /// Notes that the answer was too large with pages of `asked` items, but not with pages of `smaller` items.
    pub fn too_large(&mut self, key: K, asked: u16, smaller: u16, now: Timestamp) {
        self.account.failed(asked, "too_large", true, now);
        self.entry(key).shrink_to(smaller);
    }

    /// Notes that a list was read to its end in pages of `size` items.
    pub fn read(&mut self, key: &K, size: u16, now: Timestamp) {
        self.account.read(size, now);
        if let Some(own) = self.by_key.get_mut(key) {
            own.read(size, now);
        }
    }

    fn entry(&mut self, key: K) -> &mut PageSize {
        self.by_key.entry(key).or_insert(PageSize::new(self.smallest))
    }
}

/// Returns the next smaller page size, if there is one.
pub fn smaller(size: u16) -> Option<u16> {
    PAGE_SIZES.into_iter().find(|known| *known < size)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_identical_failures_in_a_row_shrink_pages() {
        for (failures, expected) in [
            ("", 1_000),
            ("a", 1_000),
            ("a b", 1_000),
            ("a b a", 1_000),
            ("a ok a", 1_000),
            ("a a", 200),
            ("a b b", 200),
            ("a a a", 200),
            ("a a a a", 50),
            ("a a a a a a a a", 50),
            ("large", 200),
            ("large large large large", 1),
        ] {
            assert_eq!(size_after(failures).get(), expected, "{failures}");
        }
    }

    #[test]
    fn page_sizes_recover_immediately_after_an_outage() {
        let mut size = size_after("a a a a");
        for (expected, is_trial) in [(200, true), (1_000, true), (1_000, false)] {
            size.read(size.get(), at(1));
            assert_eq!((size.get(), size.is_trial), (expected, is_trial));
        }
    }

    #[test]
    fn a_size_that_fails_again_is_not_tried_for_an_hour() {
        let mut size = size_after("a a");
        size.read(200, at(0));
        assert_eq!(size.get(), 1_000);
        size.failed(1_000, "a", false, at(10));
        assert_eq!(size.get(), 200, "one failure is enough");
        size.read(200, at(3_609));
        assert_eq!(size.get(), 200);
        size.read(200, at(3_610));
        assert_eq!(size.get(), 1_000);
    }

    #[test]
    fn results_for_an_earlier_page_size_are_ignored() {
        let mut size = size_after("a a");
        size.failed(1_000, "a", false, at(0));
        size.failed(1_000, "a", false, at(0));
        size.read(1_000, at(0));
        assert_eq!(size.get(), 200);
    }

    #[test]
    fn a_single_failing_call_shrinks_only_its_own_pages() {
        let (failing, other) = (sid(1), sid(2));
        let mut sizes = PageSizes::for_events();
        for _ in 0..6 {
            sizes.failed(failing, sizes.size_for(&failing), "a", at(0));
            sizes.read(&other, sizes.size_for(&other), at(0));
        }
        assert_eq!((sizes.size_for(&failing), sizes.size_for(&other)), (1, 1_000));
        sizes.read(&failing, 1, at(0));
        assert_eq!(sizes.size_for(&failing), 50);
        sizes.retain(|sid| *sid != failing);
        assert_eq!(sizes.size_for(&failing), 1_000);
    }

    #[test]
    fn a_failing_call_starts_from_the_size_that_was_requested() {
        let mut sizes = PageSizes::for_events();
        sizes.failed(sid(1), 50, "a", at(0));
        assert_eq!(sizes.size_for(&sid(1)), 50);
        sizes.failed(sid(1), 50, "a", at(0));
        assert_eq!(sizes.size_for(&sid(1)), 1);
    }

    #[test]
    fn answers_that_are_too_large_shrink_pages_at_the_first_failure() {
        let mut sizes = PageSizes::for_events();
        sizes.too_large(sid(1), 1_000, 50, at(0));
        assert_eq!((sizes.size_for(&sid(1)), sizes.size_for(&sid(2))), (50, 200));
        // A read of another call shows that only this call was affected.
        sizes.read(&sid(2), 200, at(0));
        assert_eq!((sizes.size_for(&sid(1)), sizes.size_for(&sid(2))), (50, 1_000));
    }

    #[test]
    fn a_single_failing_kind_of_list_shrinks_only_its_own_pages() {
        let mut sizes = PageSizes::for_lists();
        for _ in 0..8 {
            sizes.failed(ListKind::Recent, sizes.size_for(&ListKind::Recent), "a", at(0));
            sizes.read(&ListKind::Active, sizes.size_for(&ListKind::Active), at(0));
        }
        assert_eq!(
            (sizes.size_for(&ListKind::Recent), sizes.size_for(&ListKind::Active)),
            (50, 1_000)
        );
    }

    #[test]
    fn failures_of_two_calls_shrink_pages_of_all_calls() {
        let mut sizes = PageSizes::for_events();
        for number in 1..3 {
            sizes.failed(sid(number), 1_000, "a", at(0));
        }
        assert_eq!(sizes.size_for(&sid(3)), 200);
    }

    fn size_after(failures: &str) -> PageSize {
        let mut size = PageSize::for_account();
        for reason in failures.split_whitespace() {
            let reason = ["a", "b", "large", "ok"].into_iter().find(|known| *known == reason);
            match reason.expect("a known reason") {
                "ok" => size.read(size.get(), at(0)),
                reason => size.failed(size.get(), reason, reason == "large", at(0)),
            }
        }
        size
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("an instant")
    }

    fn sid(number: u32) -> CallSid {
        CallSid::parse(&format!("CA{number:032}")).expect("a SID")
    }
}
