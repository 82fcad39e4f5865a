//! How an account is asked: how many requests at once, and when not at all.
//!
//! In local time: what is learnt of Twilio's clock must not move a pause.
//!
//! One failure concerns one call, and so does one refusal; those of several calls, with nothing read
//! in between, concern the account.
//!
//! Invariant: an account never has more requests in flight than its limit, and after a 429 at most one
//! until one has succeeded that was made after it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;

use crate::domain::engine::backoff::Backoff;
use crate::domain::engine::concurrency::Concurrency;
use crate::domain::engine::request::RequestId;
use crate::domain::track::listing::ListKind;
use crate::domain::track::twilio_time::after;
use crate::domain::words::call::Direction;
use crate::domain::words::sid::CallSid;

/// Failures of this many different calls in a row are the account's, not the calls'.
const CALLS_THAT_SPEAK_FOR_ALL: usize = 3;
/// The wait after a 429: the limit is on concurrency, so it passes quickly.
const THROTTLED: Backoff = Backoff::of_request(Duration::from_secs(60));
/// The wait while Twilio fails: an outage is noticed to be over within two minutes.
const FAILING: Backoff = Backoff::of_request(Duration::from_secs(120));
/// Refusals of this many different calls are the account's if the calls are unlike: of several
/// directions.
const UNLIKE_REFUSALS: usize = 3;
/// Refusals of this many different calls are the account's even if the calls are alike.
const ALIKE_REFUSALS: usize = 10;
/// Refusals of lists that are the account's, whichever lists they are.
const LIST_REFUSALS: u32 = 3;
/// The wait after refused credentials, from a minute on: a person has to act.
const REFUSED: Backoff = Backoff::new(Duration::from_secs(120), Duration::from_secs(600));

/// How an account is asked.
#[derive(Clone, Debug)]
pub struct Pace {
    concurrency: Concurrency,
    /// The last request that had been made when a 429 came: until one after it succeeds, there is one
    /// request at a time.
    probes_after: Option<RequestId>,
    throttled: u32,
    failing: u32,
    failed_calls: BTreeSet<CallSid>,
    refused: u32,
    refused_calls: BTreeMap<CallSid, Direction>,
    refused_lists: BTreeSet<ListKind>,
    list_refusals: u32,
    /// Nothing is asked before.
    paused_until: Timestamp,
    /// Calls are refused to these credentials, and not asked for before.
    calls_paused_until: Timestamp,
    reads_paused_until: Timestamp,
}

impl Pace {
    /// Starts with one request at a time, to grow to `max`.
    pub fn new(max: usize) -> Self {
        Self {
            concurrency: Concurrency::new(max),
            probes_after: None,
            throttled: 0,
            failing: 0,
            failed_calls: BTreeSet::new(),
            refused: 0,
            refused_calls: BTreeMap::new(),
            refused_lists: BTreeSet::new(),
            list_refusals: 0,
            paused_until: Timestamp::MIN,
            calls_paused_until: Timestamp::MIN,
            reads_paused_until: Timestamp::MIN,
        }
    }

    /// How many requests may be in flight.
    pub fn limit(&self) -> usize {
        self.concurrency.limit()
    }

    /// How many more requests may be made beside those in flight.
    pub fn free(&self, in_flight: usize) -> usize {
        match self.probes_after {
            Some(_) => usize::from(in_flight == 0),
            None => self.limit().saturating_sub(in_flight),
        }
    }

    /// When any request may be made again.
    pub fn all_paused_until(&self) -> Timestamp {
        self.paused_until
    }

    /// When calls may be listed again. The list of accounts may be open to credentials that calls are
    /// refused to.
    pub fn paused_until(&self) -> Timestamp {
        self.paused_until.max(self.calls_paused_until)
    }

    /// When call events may be read again.
    pub fn reads_paused_until(&self) -> Timestamp {
        self.reads_paused_until.max(self.paused_until())
    }

    /// Notes that a request was answered with what it asked for.
    pub fn answered(&mut self, id: RequestId) {
        self.probes_after = self.probes_after.filter(|last| id <= *last);
    }

    /// Notes a request that succeeded.
    pub fn succeeded(&mut self) {
        self.concurrency.succeeded();
        self.throttled = 0;
        self.failing = 0;
        self.failed_calls.clear();
    }

    /// Notes that a list could be read.
    pub fn list_succeeded(&mut self) {
        self.succeeded();
        self.refused_lists.clear();
        self.list_refusals = 0;
    }

    /// Notes that call events could be read.
    pub fn read_succeeded(&mut self) {
        self.succeeded();
        self.refused = 0;
        self.refused_calls.clear();
        self.reads_paused_until = Timestamp::MIN;
    }

    /// Notes a 429, when `last` was the last request that had been made.
    pub fn throttled(
        &mut self,
        last: RequestId,
        retry_after: Option<Duration>,
        now: Timestamp,
        random: u64,
    ) {
        self.concurrency.throttled();
        self.probes_after = Some(last);
        // Those that were in flight together are one refusal.
        self.throttled += u32::from(self.throttled == 0 || self.paused_until <= now);
        let wait = THROTTLED.wait(self.throttled, random).max(retry_after.unwrap_or_default());
        self.paused_until = self.paused_until.max(after(now, wait));
    }

    /// Notes that Twilio failed or could not be reached, for a call or for a list. What Twilio asks
    /// to wait for one call is that call's wait, until other calls fail as well.
    pub fn failed(
        &mut self,
        call: Option<CallSid>,
        retry_after: Option<Duration>,
        now: Timestamp,
        random: u64,
    ) {
        let speaks_for_all = match call {
            None => true,
            Some(call) => {
                self.failed_calls.insert(call);
                self.failed_calls.len() >= CALLS_THAT_SPEAK_FOR_ALL
            }
        };
        if speaks_for_all {
            self.failing += u32::from(self.failing == 0 || self.paused_until <= now);
            let wait = FAILING.wait(self.failing, random).max(retry_after.unwrap_or_default());
            self.paused_until = self.paused_until.max(after(now, wait));
        }
    }

    /// Notes that Twilio refuses to show a call's events. Returns whether the refusal is the
    /// account's: unlike calls are refused, or many, and none is read in between. Reads pause then.
    pub fn read_refused(
        &mut self,
        call: CallSid,
        direction: Direction,
        now: Timestamp,
        random: u64,
    ) -> bool {
        if self.refused_calls.len() < ALIKE_REFUSALS {
            self.refused_calls.insert(call, direction);
        }
        let refused = self.refused_calls.len();
        let is_unlike = self.refused_calls.values().any(|other| *other != direction);
        let is_accounts = refused >= ALIKE_REFUSALS || (is_unlike && refused >= UNLIKE_REFUSALS);
        if is_accounts && self.reads_paused_until <= now {
            self.reads_paused_until = after(now, self.longer_refusal(random));
        }
        is_accounts
    }

    /// Notes that Twilio refuses a list. Returns whether the refusal is the account's: unlike lists
    /// are refused, or one again and again, and none is read in between. All that is asked about calls
    /// pauses then.
    pub fn list_refused(
        &mut self,
        kind: ListKind,
        is_only_list: bool,
        now: Timestamp,
        random: u64,
    ) -> bool {
        self.refused_lists.insert(kind);
        self.list_refusals = self.list_refusals.saturating_add(1);
        let is_accounts =
            is_only_list || self.refused_lists.len() > 1 || self.list_refusals >= LIST_REFUSALS;
        if is_accounts && self.paused_until() <= now {
            self.calls_paused_until = after(now, self.longer_refusal(random));
        }
        is_accounts
    }

    fn longer_refusal(&mut self, random: u64) -> Duration {
        self.refused = self.refused.saturating_add(1);
        REFUSED.wait(self.refused, random)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The shortest wait of the first refusal.
    const REFUSED_FIRST: Duration = Duration::from_secs(60);
    const NOW: Timestamp = Timestamp::UNIX_EPOCH;
    const LAST: RequestId = RequestId::FIRST;

    #[test]
    fn one_failing_call_pauses_nobody_and_three_pause_the_account() {
        let mut pace = Pace::new(4);
        for digit in [1, 1, 1, 2] {
            pace.failed(Some(call(digit)), None, NOW, 0);
        }
        assert!(pace.paused_until() <= NOW);
        pace.failed(Some(call(3)), None, NOW, 0);
        assert!(pace.paused_until() > NOW);
    }

    #[test]
    fn a_success_between_clears_the_suspicion() {
        let mut pace = Pace::new(4);
        pace.failed(Some(call(1)), None, NOW, 0);
        pace.failed(Some(call(2)), None, NOW, 0);
        pace.succeeded();
        pace.failed(Some(call(3)), None, NOW, 0);
        assert!(pace.paused_until() <= NOW);
    }

    #[test]
    fn a_retry_after_is_honoured() {
        let mut pace = Pace::new(4);
        pace.throttled(LAST, Some(Duration::from_secs(90)), NOW, 0);
        assert_eq!(pace.paused_until(), after(NOW, Duration::from_secs(90)));
        assert_eq!(pace.limit(), 1);
    }

    #[test]
    fn after_a_429_one_request_at_a_time_tries_until_one_that_was_made_after_it_succeeds() {
        let mut pace = Pace::new(4);
        for _ in 0..200 {
            pace.succeeded();
        }
        assert_eq!([0, 1, 4].map(|in_flight| pace.free(in_flight)), [4, 3, 0]);
        let probe = LAST.next();
        pace.throttled(LAST, None, NOW, 0);
        assert_eq!([0, 1].map(|in_flight| pace.free(in_flight)), [1, 0]);
        // A success that was asked for before the 429 proves nothing.
        pace.answered(LAST);
        assert_eq!([0, 1].map(|in_flight| pace.free(in_flight)), [1, 0]);
        pace.answered(probe);
        assert_eq!(pace.free(0), 1, "the limit grows by successes alone");
        // Throttled again, the probe that has succeeded proves nothing any more.
        pace.throttled(probe, None, NOW, 0);
        pace.answered(probe);
        assert_eq!([0, 1].map(|in_flight| pace.free(in_flight)), [1, 0]);
    }

    #[test]
    fn requests_that_are_refused_together_lengthen_the_pause_once() {
        let mut pace = Pace::new(4);
        for _ in 0..4 {
            pace.throttled(LAST, None, NOW, 0);
        }
        let mut one = Pace::new(4);
        one.throttled(LAST, None, NOW, 0);
        assert_eq!(pace.paused_until(), one.paused_until());
        let again = one.paused_until();
        one.throttled(LAST, None, again, 0);
        assert!(one.paused_until().duration_since(again) > again.duration_since(NOW));
    }

    #[test]
    fn a_later_429_never_shortens_what_twilio_asked_to_wait() {
        let mut pace = Pace::new(4);
        pace.throttled(LAST, Some(Duration::from_secs(90)), NOW, 0);
        let later = after(NOW, Duration::from_secs(1));
        pace.throttled(LAST, None, later, 0);
        pace.throttled(LAST, Some(Duration::from_secs(2)), later, 0);
        assert_eq!(pace.paused_until(), after(NOW, Duration::from_secs(90)));
    }

    #[test]
    fn what_twilio_asks_to_wait_for_one_call_pauses_no_other() {
        let mut pace = Pace::new(4);
        for digit in [1, 1, 1, 2] {
            pace.failed(Some(call(digit)), Some(Duration::from_secs(30)), NOW, 0);
        }
        assert!(pace.paused_until() <= NOW);
        pace.failed(Some(call(3)), Some(Duration::from_secs(30)), NOW, 0);
        assert_eq!(pace.paused_until(), after(NOW, Duration::from_secs(30)));
    }

    #[test]
    fn a_refused_call_pauses_nothing_and_unlike_ones_pause_the_reads() {
        use Direction::{Inbound, OutboundDial};
        let mut pace = Pace::new(4);
        for (digit, direction) in [(1, Inbound), (1, Inbound), (1, OutboundDial), (2, Inbound)] {
            assert!(!pace.read_refused(call(digit), direction, NOW, 0));
        }
        assert_eq!(pace.reads_paused_until(), Timestamp::MIN);
        assert!(pace.read_refused(call(3), OutboundDial, NOW, 0));
        assert_eq!(pace.reads_paused_until(), after(NOW, REFUSED_FIRST));
        assert!(pace.paused_until() <= NOW, "lists go on");
        // What was in flight with it lengthens nothing; a refusal after the pause does.
        assert!(pace.read_refused(call(4), Inbound, NOW, 0));
        assert_eq!(pace.reads_paused_until(), after(NOW, REFUSED_FIRST));
        let again = after(NOW, REFUSED_FIRST);
        assert!(pace.read_refused(call(5), Inbound, again, 0));
        assert_eq!(pace.reads_paused_until(), after(again, REFUSED_FIRST * 2));
        pace.read_succeeded();
        assert!(pace.reads_paused_until() <= NOW);
        assert!(!pace.read_refused(call(6), OutboundDial, NOW, 0));
    }

    #[test]
    fn many_alike_calls_that_are_refused_in_a_row_pause_the_reads() {
        let mut pace = Pace::new(4);
        let refused =
            |pace: &mut Pace, digit| pace.read_refused(call(digit), Direction::Inbound, NOW, 0);
        assert!((0..9).all(|digit| !refused(&mut pace, digit)));
        pace.read_succeeded();
        assert!((0..9).all(|digit| !refused(&mut pace, digit)));
        assert!(refused(&mut pace, 9));
    }

    #[test]
    fn one_refused_list_pauses_nothing_and_others_with_it_the_account() {
        let refused = |pace: &mut Pace, kind| pace.list_refused(kind, false, NOW, 0);
        let mut pace = Pace::new(4);
        for _ in 0..100 {
            assert!(!refused(&mut pace, ListKind::Ended));
            pace.list_succeeded();
        }
        assert!(pace.paused_until() <= NOW);
        assert!(!refused(&mut pace, ListKind::Ended));
        assert!(refused(&mut pace, ListKind::Recent));
        assert_eq!(pace.paused_until(), after(NOW, REFUSED_FIRST));
        let mut pace = Pace::new(4);
        let kinds = [ListKind::Recent; 3];
        assert_eq!(kinds.map(|kind| refused(&mut pace, kind)), [false, false, true]);
        let mut pace = Pace::new(4);
        assert!(pace.list_refused(ListKind::Unfiltered, true, NOW, 0), "the only list there is");
    }

    fn call(digit: u32) -> CallSid {
        CallSid::parse(&format!("CA{digit:032}")).expect("a SID")
    }
}
