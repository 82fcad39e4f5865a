//! How requests of an account are paced: how many may be in flight, and when requests pause.
//!
//! All times are local, so that corrections of Twilio's time don't move a pause.
//!
//! A failure or refusal concerns only its call. Failures or refusals of several calls, with none read in between,
//! concern the account.
//!
//! Invariant: an account never has more requests in flight than its limit, and after a 429 at most one until a
//! request made after the 429 succeeds.

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

/// Consecutive failures of this many different calls concern the account.
const ACCOUNT_FAILURES: usize = 3;
/// The wait after a 429, which is short because Twilio limits concurrency.
const THROTTLED: Backoff = Backoff::for_requests(Duration::from_secs(60));
/// The wait while Twilio fails, which is at most two minutes, so that the end of an outage is detected soon.
const FAILING: Backoff = Backoff::for_requests(Duration::from_secs(120));
/// Refusals of this many different calls concern the account if the calls have different directions.
const MIXED_REFUSALS: usize = 3;
/// Refusals of this many different calls concern the account even if all have the same direction.
const UNIFORM_REFUSALS: usize = 10;
/// This many consecutive refusals of lists concern the account, whatever the kinds of lists.
const LIST_REFUSALS: u32 = 3;
/// The wait after refused credentials, starting at one minute, since an operator has to act.
const REFUSED: Backoff = Backoff::new(Duration::from_secs(120), Duration::from_secs(600));

/// The pace of an account's requests.
#[derive(Clone, Debug)]
pub struct Pace {
    concurrency: Concurrency,
    /// The last request made before a 429 arrived. Until a later request succeeds, requests are made one at a time.
    probes_after: Option<RequestId>,
    throttled: u32,
    failing: u32,
    failed_calls: BTreeSet<CallSid>,
    refused: u32,
    refused_calls: BTreeMap<CallSid, Direction>,
    refused_lists: BTreeSet<ListKind>,
    list_refusals: u32,
    /// No requests are made before this time.
    paused_until: Timestamp,
    /// No lists or events are requested before this time, because the credentials may not list calls.
    calls_paused_until: Timestamp,
    reads_paused_until: Timestamp,
}

impl Pace {
    /// Starts with a limit of one request, which may grow to `max`.
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

    /// The maximum number of requests in flight.
    pub fn limit(&self) -> usize {
        self.concurrency.limit()
    }

    /// The number of requests that may be made in addition to those in flight.
    pub fn free(&self, in_flight: usize) -> usize {
        match self.probes_after {
            Some(_) => usize::from(in_flight == 0),
            None => self.limit().saturating_sub(in_flight),
        }
    }

    /// When requests of any kind may be made again.
    pub fn all_paused_until(&self) -> Timestamp {
        self.paused_until
    }

    /// When calls may be listed again. Credentials that may not list calls may still list accounts.
    pub fn paused_until(&self) -> Timestamp {
        self.paused_until.max(self.calls_paused_until)
    }

    /// When Call Events may be read again.
    pub fn reads_paused_until(&self) -> Timestamp {
        self.reads_paused_until.max(self.paused_until())
    }

    /// Notes that a request succeeded, which ends probing if it was made after the last 429.
    pub fn end_probing_after(&mut self, id: RequestId) {
        self.probes_after = self.probes_after.filter(|last| id <= *last);
    }

    /// Notes a success: the limit may grow, and failures are no longer consecutive.
    pub fn succeeded(&mut self) {
        self.concurrency.succeeded();
        self.throttled = 0;
        self.failing = 0;
        self.failed_calls.clear();
    }

    /// Notes that a list was read.
    pub fn list_succeeded(&mut self) {
        self.succeeded();
        self.refused_lists.clear();
        self.list_refusals = 0;
    }

    /// Notes that Call Events were read.
    pub fn read_succeeded(&mut self) {
        self.succeeded();
        self.refused = 0;
        self.refused_calls.clear();
        self.reads_paused_until = Timestamp::MIN;
    }

    /// Notes a 429; `last` is the last request made so far.
    pub fn throttled(
        &mut self,
        last: RequestId,
        retry_after: Option<Duration>,
        now: Timestamp,
        random: u64,
    ) {
        self.concurrency.throttled();
        self.probes_after = Some(last);
        // Requests that were in flight together count as throttled once.
        self.throttled += u32::from(self.throttled == 0 || self.paused_until <= now);
        let wait = THROTTLED.wait(self.throttled, random).max(retry_after.unwrap_or_default());
        self.paused_until = self.paused_until.max(after(now, wait));
    }

    /// Notes that Twilio failed or couldn't be reached, for a call or, if `None`, for a list. A `Retry-After` for a
    /// call doesn't pause the account until other calls fail too.
    pub fn failed(
        &mut self,
        call: Option<CallSid>,
        retry_after: Option<Duration>,
        now: Timestamp,
        random: u64,
    ) {
        let is_account_wide = match call {
            None => true,
            Some(call) => {
                self.failed_calls.insert(call);
                self.failed_calls.len() >= ACCOUNT_FAILURES
            }
        };
        if is_account_wide {
            self.failing += u32::from(self.failing == 0 || self.paused_until <= now);
            let wait = FAILING.wait(self.failing, random).max(retry_after.unwrap_or_default());
            self.paused_until = self.paused_until.max(after(now, wait));
        }
    }

    /// Notes that Twilio refuses to return a call's events. Returns whether the refusal concerns the account: several
    /// calls of different directions are refused, or many of the same one, with none read in between. If so, reads
    /// pause.
    pub fn read_refused(
        &mut self,
        call: CallSid,
        direction: Direction,
        now: Timestamp,
        random: u64,
    ) -> bool {
        if self.refused_calls.len() < UNIFORM_REFUSALS {
            self.refused_calls.insert(call, direction);
        }
        let refused = self.refused_calls.len();
        let is_mixed = self.refused_calls.values().any(|other| *other != direction);
        let is_account_wide =
            refused >= UNIFORM_REFUSALS || (is_mixed && refused >= MIXED_REFUSALS);
        if is_account_wide && self.reads_paused_until <= now {
            self.reads_paused_until = after(now, self.next_refusal_wait(random));
        }
        is_account_wide
    }

    /// Notes that Twilio refuses a list. Returns whether the refusal concerns the account: it is the only list,
    /// several kinds of lists are refused, or one repeatedly, with none read in between. If so, lists and reads pause.
    pub fn list_refused(
        &mut self,
        kind: ListKind,
        is_only_list: bool,
        now: Timestamp,
        random: u64,
    ) -> bool {
        self.refused_lists.insert(kind);
        self.list_refusals = self.list_refusals.saturating_add(1);
        let is_account_wide =
            is_only_list || self.refused_lists.len() > 1 || self.list_refusals >= LIST_REFUSALS;
        if is_account_wide && self.paused_until() <= now {
            self.calls_paused_until = after(now, self.next_refusal_wait(random));
        }
        is_account_wide
    }

    fn next_refusal_wait(&mut self, random: u64) -> Duration {
        self.refused = self.refused.saturating_add(1);
        REFUSED.wait(self.refused, random)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The shortest wait after the first refusal.
    const REFUSED_FIRST: Duration = Duration::from_secs(60);
    const NOW: Timestamp = Timestamp::UNIX_EPOCH;
    const LAST: RequestId = RequestId::FIRST;

    #[test]
    fn one_failing_call_pauses_nothing_but_three_pause_the_account() {
        let mut pace = Pace::new(4);
        for digit in [1, 1, 1, 2] {
            pace.failed(Some(call(digit)), None, NOW, 0);
        }
        assert!(pace.paused_until() <= NOW);
        pace.failed(Some(call(3)), None, NOW, 0);
        assert!(pace.paused_until() > NOW);
    }

    #[test]
    fn a_success_resets_the_count_of_failed_calls() {
        let mut pace = Pace::new(4);
        pace.failed(Some(call(1)), None, NOW, 0);
        pace.failed(Some(call(2)), None, NOW, 0);
        pace.succeeded();
        pace.failed(Some(call(3)), None, NOW, 0);
        assert!(pace.paused_until() <= NOW);
    }

    #[test]
    fn honours_retry_after() {
        let mut pace = Pace::new(4);
        pace.throttled(LAST, Some(Duration::from_secs(90)), NOW, 0);
        assert_eq!(pace.paused_until(), after(NOW, Duration::from_secs(90)));
        assert_eq!(pace.limit(), 1);
    }

    #[test]
    fn after_a_429_makes_one_request_at_a_time_until_a_later_one_succeeds() {
        let mut pace = Pace::new(4);
        for _ in 0..200 {
            pace.succeeded();
        }
        assert_eq!([0, 1, 4].map(|in_flight| pace.free(in_flight)), [4, 3, 0]);
        let probe = LAST.next();
        pace.throttled(LAST, None, NOW, 0);
        assert_eq!([0, 1].map(|in_flight| pace.free(in_flight)), [1, 0]);
        // The success of a request made before the 429 doesn't count.
        pace.end_probing_after(LAST);
        assert_eq!([0, 1].map(|in_flight| pace.free(in_flight)), [1, 0]);
        pace.end_probing_after(probe);
        assert_eq!(pace.free(0), 1, "only successes raise the limit");
        // After another 429, the earlier probe no longer counts.
        pace.throttled(probe, None, NOW, 0);
        pace.end_probing_after(probe);
        assert_eq!([0, 1].map(|in_flight| pace.free(in_flight)), [1, 0]);
    }

    #[test]
    fn requests_throttled_together_lengthen_the_pause_once() {
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
    fn a_later_429_never_shortens_a_pause() {
        let mut pace = Pace::new(4);
        pace.throttled(LAST, Some(Duration::from_secs(90)), NOW, 0);
        let later = after(NOW, Duration::from_secs(1));
        pace.throttled(LAST, None, later, 0);
        pace.throttled(LAST, Some(Duration::from_secs(2)), later, 0);
        assert_eq!(pace.paused_until(), after(NOW, Duration::from_secs(90)));
    }

    #[test]
    fn retry_after_of_one_call_does_not_pause_other_calls() {
        let mut pace = Pace::new(4);
        for digit in [1, 1, 1, 2] {
            pace.failed(Some(call(digit)), Some(Duration::from_secs(30)), NOW, 0);
        }
        assert!(pace.paused_until() <= NOW);
        pace.failed(Some(call(3)), Some(Duration::from_secs(30)), NOW, 0);
        assert_eq!(pace.paused_until(), after(NOW, Duration::from_secs(30)));
    }

    #[test]
    fn one_refused_call_pauses_nothing_but_mixed_directions_pause_reads() {
        use Direction::{Inbound, OutboundDial};
        let mut pace = Pace::new(4);
        for (digit, direction) in [(1, Inbound), (1, Inbound), (1, OutboundDial), (2, Inbound)] {
            assert!(!pace.read_refused(call(digit), direction, NOW, 0));
        }
        assert_eq!(pace.reads_paused_until(), Timestamp::MIN);
        assert!(pace.read_refused(call(3), OutboundDial, NOW, 0));
        assert_eq!(pace.reads_paused_until(), after(NOW, REFUSED_FIRST));
        assert!(pace.paused_until() <= NOW, "lists continue");
        // A refusal during the pause doesn't lengthen it; one after the pause does.
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
    fn ten_consecutive_refusals_of_one_direction_pause_reads() {
        let mut pace = Pace::new(4);
        let refused =
            |pace: &mut Pace, digit| pace.read_refused(call(digit), Direction::Inbound, NOW, 0);
        assert!((0..9).all(|digit| !refused(&mut pace, digit)));
        pace.read_succeeded();
        assert!((0..9).all(|digit| !refused(&mut pace, digit)));
        assert!(refused(&mut pace, 9));
    }

    #[test]
    fn one_refused_list_pauses_nothing_but_several_pause_the_account() {
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
        assert!(pace.list_refused(ListKind::Unfiltered, true, NOW, 0), "the only list");
    }

    fn call(digit: u32) -> CallSid {
        CallSid::parse(&format!("CA{digit:032}")).expect("a SID")
    }
}
