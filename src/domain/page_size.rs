//! How many items a page is asked for. Some accounts and some calls get no answer to the largest
//! question, however often it is repeated, and answer a smaller one.
//!
//! A size is given up for the next smaller one after two equal failures in a row. As soon as a list was
//! read to its end in smaller pages, the next larger size is tried again: after an outage that shows
//! that nothing was wrong with it. If it fails, it is left alone for a while.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;

use super::sid::CallSid;
use super::twilio_time::after;

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

/// The sizes of an account's pages.
#[derive(Clone, Debug)]
pub struct PageSizes {
    /// Of lists.
    pub lists: PageSize,
    /// Of the Call Events of any call.
    events: PageSize,
    /// Of the Call Events of calls that failed.
    calls: BTreeMap<CallSid, PageSize>,
}

impl Default for PageSizes {
    fn default() -> Self {
        let of_all = PageSize::of_account();
        Self { lists: of_all.clone(), events: of_all, calls: BTreeMap::new() }
    }
}

impl PageSizes {
    /// Call Events of a page of a call.
    pub fn of_call(&self, sid: CallSid) -> u16 {
        let of_all = self.events.get();
        self.calls.get(&sid).map_or(of_all, |own| own.get().min(of_all))
    }

    /// Notes that a call's events could not be read in pages of a size.
    pub fn call_failed(&mut self, sid: CallSid, size: u16, reason: &'static str, now: Timestamp) {
        self.events.failed(size, reason, false, now);
        let own = self.own(sid);
        own.begin_at(size);
        own.failed(size, reason, false, now);
    }

    /// Notes that a call's events were too large together for pages of the size that was asked for, and
    /// not for smaller ones.
    pub fn call_too_large(&mut self, sid: CallSid, asked: u16, smaller: u16, now: Timestamp) {
        self.events.failed(asked, "too_large", true, now);
        self.own(sid).begin_at(smaller);
    }

    fn own(&mut self, sid: CallSid) -> &mut PageSize {
        self.calls.entry(sid).or_insert(PageSize::new(PAGE_SIZES.len() - 1))
    }

    /// Notes that a call's events were read to their end in pages of a size.
    pub fn call_read(&mut self, sid: CallSid, size: u16, now: Timestamp) {
        self.events.read(size, now);
        if let Some(own) = self.calls.get_mut(&sid) {
            own.read(size, now);
        }
    }

    /// Forgets the calls that are not tracked any more.
    pub fn keep(&mut self, is_tracked: impl Fn(&CallSid) -> bool) {
        self.calls.retain(|sid, _| is_tracked(sid));
    }
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
        let mut sizes = PageSizes::default();
        for _ in 0..6 {
            sizes.call_failed(odd, sizes.of_call(odd), "a", at(0));
            sizes.call_read(other, sizes.of_call(other), at(0));
        }
        assert_eq!((sizes.of_call(odd), sizes.of_call(other)), (1, 1_000));
        sizes.call_read(odd, 1, at(0));
        assert_eq!(sizes.of_call(odd), 50);
        sizes.keep(|sid| *sid != odd);
        assert_eq!(sizes.of_call(odd), 1_000);
    }

    #[test]
    fn a_call_begins_where_its_account_or_its_bodies_left_it() {
        let mut sizes = PageSizes::default();
        sizes.call_failed(sid(1), 50, "a", at(0));
        assert_eq!(sizes.of_call(sid(1)), 50);
        sizes.call_failed(sid(1), 50, "a", at(0));
        assert_eq!(sizes.of_call(sid(1)), 1);
    }

    #[test]
    fn bodies_that_are_too_large_together_need_no_second_try() {
        let mut sizes = PageSizes::default();
        sizes.call_too_large(sid(1), 1_000, 50, at(0));
        assert_eq!((sizes.of_call(sid(1)), sizes.of_call(sid(2))), (50, 200));
        // Others show that it was this call alone.
        sizes.call_read(sid(2), 200, at(0));
        assert_eq!((sizes.of_call(sid(1)), sizes.of_call(sid(2))), (50, 1_000));
    }

    #[test]
    fn what_fails_for_every_call_is_learnt_once() {
        let mut sizes = PageSizes::default();
        for number in 1..3 {
            sizes.call_failed(sid(number), 1_000, "a", at(0));
        }
        assert_eq!(sizes.of_call(sid(3)), 200);
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
