//! How many items a page is asked for. Some accounts and some calls get no answer to the largest
//! question, however often it is repeated, and answer a smaller one.
//!
//! A size is given up for the next smaller one after two equal failures in a row. As soon as a list was
//! read to its end in smaller pages, the next larger size is tried again: after an outage that shows
//! that nothing was wrong with it. If it fails, it is left alone for a while.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;

use crate::domain::track::listing::ListKind;
use crate::domain::track::twilio_time::after;
use crate::domain::words::sid::CallSid;

/// The sizes that are tried one after the other; the first is the most that Twilio gives.
pub const PAGE_SIZES: [u16; 4] = [1_000, 200, 50, 1];
/// The smallest size of all that an account asks for, as a position: with one item a page, a busy
/// account would be asked for thousands of pages after an outage.
const SMALLEST_OF_ALL: usize = 2;
/// How long a size is left alone that failed again.
const LEFT_ALONE: Duration = Duration::from_secs(60 * 60);

/// The size of pages of one list, or of one kind of lists.
#[derive(Clone, Debug)]
pub struct PageSize {
    position: usize,
    smallest: usize,
    /// Why the last page of this size failed, if nothing was read since.
    last_failure: Option<&'static str>,
    /// Whether this size failed before, and is tried again.
    is_trial: bool,
    /// Until when no larger size is tried.
    larger_from: Option<Timestamp>,
}

impl PageSize {
    /// The largest size; `smallest` is a position in [`PAGE_SIZES`].
    const fn new(smallest: usize) -> Self {
        Self { position: 0, smallest, last_failure: None, is_trial: false, larger_from: None }
    }

    /// The largest size, for lists that are the account's.
    pub const fn of_account() -> Self {
        Self::new(SMALLEST_OF_ALL)
    }

    /// Begins with a smaller size, where a page was asked for in one.
    fn begin_at(&mut self, size: u16) {
        if let Some(position) = PAGE_SIZES.iter().position(|known| *known == size)
            && position > self.position
        {
            *self = Self { position, ..Self::new(self.smallest) };
        }
    }

    /// Items of a page.
    pub fn get(&self) -> u16 {
        PAGE_SIZES[self.position]
    }

    /// Notes that a page of a size could not be read; answers that are too large need no second try.
    pub fn failed(&mut self, size: u16, reason: &'static str, is_too_large: bool, now: Timestamp) {
        if size != self.get() {
            return;
        }
        let is_again = self.last_failure.replace(reason) == Some(reason);
        if self.is_trial {
            self.larger_from = Some(after(now, LEFT_ALONE));
        } else if !is_again && !is_too_large {
            return;
        }
        let smallest = if is_too_large { PAGE_SIZES.len() - 1 } else { self.smallest };
        self.position = (self.position + 1).min(smallest.max(self.position));
        self.last_failure = None;
        self.is_trial = false;
    }

    /// Notes that a list was read to its end in pages of a size.
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

/// The sizes of pages of an account's lists of one sort, by what they are of: what fails for several is
/// learnt for all, and what fails for one alone for that one.
#[derive(Clone, Debug)]
pub struct PageSizes<K> {
    of_all: PageSize,
    /// Of those that failed.
    own: BTreeMap<K, PageSize>,
    smallest: usize,
}

impl PageSizes<ListKind> {
    /// For lists of calls, by kind.
    pub fn of_lists() -> Self {
        Self::new(SMALLEST_OF_ALL)
    }
}

impl PageSizes<CallSid> {
    /// For Call Events, by call.
    pub fn of_events() -> Self {
        Self::new(PAGE_SIZES.len() - 1)
    }

    /// Forgets the calls that are not tracked any more.
    pub fn keep(&mut self, is_tracked: impl Fn(&CallSid) -> bool) {
        self.own.retain(|sid, _| is_tracked(sid));
    }
}

impl<K: Ord> PageSizes<K> {
    fn new(smallest: usize) -> Self {
        Self { of_all: PageSize::of_account(), own: BTreeMap::new(), smallest }
    }

    /// Items of a page.
    pub fn size_for(&self, key: &K) -> u16 {
        let of_all = self.of_all.get();
        self.own.get(key).map_or(of_all, |own| own.get().min(of_all))
    }

    /// Notes that a page of a size could not be read; answers that are too large need no second try.
    pub fn failed(&mut self, key: K, size: u16, reason: &'static str, now: Timestamp) {
        self.of_all.failed(size, reason, false, now);
        let own = self.own(key);
        own.begin_at(size);
        own.failed(size, reason, false, now);
    }

    /// Notes that items were too large together for pages of the size that was asked for, and not for
    /// smaller ones.
    pub fn too_large(&mut self, key: K, asked: u16, smaller: u16, now: Timestamp) {
        self.of_all.failed(asked, "too_large", true, now);
        self.own(key).begin_at(smaller);
    }

    /// Notes that all was read in pages of a size.
    pub fn read(&mut self, key: &K, size: u16, now: Timestamp) {
        self.of_all.read(size, now);
        if let Some(own) = self.own.get_mut(key) {
            own.read(size, now);
        }
    }

    fn own(&mut self, key: K) -> &mut PageSize {
        self.own.entry(key).or_insert(PageSize::new(self.smallest))
    }
}

/// The next smaller size.
pub fn smaller(size: u16) -> Option<u16> {
    PAGE_SIZES.into_iter().find(|known| *known < size)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_equal_failures_ask_for_smaller_pages() {
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
            assert_eq!(after_all(failures).get(), expected, "{failures}");
        }
    }

    #[test]
    fn after_an_outage_larger_pages_are_asked_for_at_once() {
        let mut size = after_all("a a a a");
        for (expected, is_trial) in [(200, true), (1_000, true), (1_000, false)] {
            size.read(size.get(), at(1));
            assert_eq!((size.get(), size.is_trial), (expected, is_trial));
        }
    }

    #[test]
    fn a_size_that_fails_again_is_left_alone_for_an_hour() {
        let mut size = after_all("a a");
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
    fn what_was_asked_for_before_says_nothing_of_the_size_that_is_asked_for_now() {
        let mut size = after_all("a a");
        size.failed(1_000, "a", false, at(0));
        size.failed(1_000, "a", false, at(0));
        size.read(1_000, at(0));
        assert_eq!(size.get(), 200);
    }

    #[test]
    fn a_call_that_fails_alone_shrinks_only_its_own_pages() {
        let (odd, other) = (sid(1), sid(2));
        let mut sizes = PageSizes::of_events();
        for _ in 0..6 {
            sizes.failed(odd, sizes.size_for(&odd), "a", at(0));
            sizes.read(&other, sizes.size_for(&other), at(0));
        }
        assert_eq!((sizes.size_for(&odd), sizes.size_for(&other)), (1, 1_000));
        sizes.read(&odd, 1, at(0));
        assert_eq!(sizes.size_for(&odd), 50);
        sizes.keep(|sid| *sid != odd);
        assert_eq!(sizes.size_for(&odd), 1_000);
    }

    #[test]
    fn a_call_begins_where_its_account_or_its_bodies_left_it() {
        let mut sizes = PageSizes::of_events();
        sizes.failed(sid(1), 50, "a", at(0));
        assert_eq!(sizes.size_for(&sid(1)), 50);
        sizes.failed(sid(1), 50, "a", at(0));
        assert_eq!(sizes.size_for(&sid(1)), 1);
    }

    #[test]
    fn bodies_that_are_too_large_together_need_no_second_try() {
        let mut sizes = PageSizes::of_events();
        sizes.too_large(sid(1), 1_000, 50, at(0));
        assert_eq!((sizes.size_for(&sid(1)), sizes.size_for(&sid(2))), (50, 200));
        // Others show that it was this call alone.
        sizes.read(&sid(2), 200, at(0));
        assert_eq!((sizes.size_for(&sid(1)), sizes.size_for(&sid(2))), (50, 1_000));
    }

    #[test]
    fn a_kind_of_list_that_fails_alone_shrinks_while_others_are_read() {
        let mut sizes = PageSizes::of_lists();
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
    fn what_fails_for_every_call_is_learnt_once() {
        let mut sizes = PageSizes::of_events();
        for number in 1..3 {
            sizes.failed(sid(number), 1_000, "a", at(0));
        }
        assert_eq!(sizes.size_for(&sid(3)), 200);
    }

    fn after_all(failures: &str) -> PageSize {
        let mut size = PageSize::of_account();
        for reason in failures.split_whitespace() {
            let reason = ["a", "b", "large", "ok"].into_iter().find(|known| *known == reason);
            match reason.expect("a reason") {
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
