//! How an account is asked: how many requests at once, and when not at all.
//!
//! In local time: what is learnt of Twilio's clock must not move a pause.
//!
//! One failure concerns one call; failures of several calls in a row concern the account.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::Timestamp;

use super::concurrency::Concurrency;
use super::retry::backoff;
use super::sid::CallSid;
use super::twilio_time::after;

/// Failures of this many different calls in a row are the account's, not the calls'.
const CALLS_THAT_SPEAK_FOR_ALL: usize = 3;
/// Longest wait after a 429: the limit is on concurrency, so it passes quickly.
const THROTTLED_CAP: Duration = Duration::from_secs(60);
/// Longest wait while Twilio fails: an outage is noticed to be over within two minutes.
const FAILING_CAP: Duration = Duration::from_secs(120);
/// Wait after refused credentials, doubled up to the cap: a person has to act.
const REFUSED_FIRST: Duration = Duration::from_secs(60);
/// Longest wait after refused credentials.
const REFUSED_CAP: Duration = Duration::from_secs(600);

/// How an account is asked.
#[derive(Clone, Debug)]
pub struct Pace {
    concurrency: Concurrency,
    throttled: u32,
    failing: u32,
    failed_calls: BTreeSet<CallSid>,
    refused: u32,
    paused_until: Timestamp,
    reads_paused_until: Timestamp,
}

impl Pace {
    /// Starts with one request at a time, to grow to `max`.
    pub fn new(max: usize) -> Self {
        Self {
            concurrency: Concurrency::new(max),
            throttled: 0,
            failing: 0,
            failed_calls: BTreeSet::new(),
            refused: 0,
            paused_until: Timestamp::MIN,
            reads_paused_until: Timestamp::MIN,
        }
    }

    /// How many requests may be in flight.
    pub fn limit(&self) -> usize {
        self.concurrency.limit()
    }

    /// When requests may be made again.
    pub fn paused_until(&self) -> Timestamp {
        self.paused_until
    }

    /// When call events may be read again.
    pub fn reads_paused_until(&self) -> Timestamp {
        self.reads_paused_until.max(self.paused_until)
    }

    /// Notes a request that succeeded.
    pub fn succeeded(&mut self) {
        self.concurrency.succeeded();
        self.throttled = 0;
        self.failing = 0;
        self.failed_calls.clear();
    }

    /// Notes that call events could be read.
    pub fn read_succeeded(&mut self) {
        self.succeeded();
        self.refused = 0;
    }

    /// Notes a 429.
    pub fn throttled(&mut self, retry_after: Option<Duration>, now: Timestamp, random: u64) {
        self.concurrency.throttled();
        // Those that were in flight together are one refusal.
        self.throttled += u32::from(self.throttled == 0 || self.paused_until <= now);
        let wait =
            backoff(self.throttled, THROTTLED_CAP, random).max(retry_after.unwrap_or_default());
        self.paused_until = self.paused_until.max(after(now, wait));
    }

    /// Notes that Twilio failed or could not be reached, for a call or for a list.
    pub fn failed(
        &mut self,
        call: Option<CallSid>,
        retry_after: Option<Duration>,
        now: Timestamp,
        random: u64,
    ) {
        if let Some(wait) = retry_after {
            self.paused_until = self.paused_until.max(after(now, wait));
        }
        let speaks_for_all = match call {
            None => true,
            Some(call) => {
                self.failed_calls.insert(call);
                self.failed_calls.len() >= CALLS_THAT_SPEAK_FOR_ALL
            }
        };
        if speaks_for_all {
            self.failing += u32::from(self.failing == 0 || self.paused_until <= now);
            let wait = backoff(self.failing, FAILING_CAP, random);
            self.paused_until = self.paused_until.max(after(now, wait));
        }
    }

    /// Notes that the credentials were refused: for everything, or only for call events.
    pub fn refused(&mut self, only_reads: bool, now: Timestamp) {
        self.refused = (self.refused + 1).min(10);
        let wait = REFUSED_FIRST * 2_u32.pow(self.refused - 1);
        let until = after(now, wait.min(REFUSED_CAP));
        if only_reads {
            self.reads_paused_until = until;
        } else {
            self.paused_until = self.paused_until.max(until);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::UNIX_EPOCH;

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
        pace.throttled(Some(Duration::from_secs(90)), NOW, 0);
        assert_eq!(pace.paused_until(), after(NOW, Duration::from_secs(90)));
        assert_eq!(pace.limit(), 1);
    }

    #[test]
    fn requests_that_are_refused_together_lengthen_the_pause_once() {
        let mut pace = Pace::new(4);
        for _ in 0..4 {
            pace.throttled(None, NOW, 0);
        }
        let mut one = Pace::new(4);
        one.throttled(None, NOW, 0);
        assert_eq!(pace.paused_until(), one.paused_until());
        let again = one.paused_until();
        one.throttled(None, again, 0);
        assert!(one.paused_until().duration_since(again) > again.duration_since(NOW));
    }

    #[test]
    fn a_failure_with_a_retry_after_pauses_the_account_at_once() {
        let mut pace = Pace::new(4);
        pace.failed(Some(call(1)), Some(Duration::from_secs(30)), NOW, 0);
        assert_eq!(pace.paused_until(), after(NOW, Duration::from_secs(30)));
    }

    #[test]
    fn refused_reads_leave_the_lists_alone() {
        let mut pace = Pace::new(4);
        pace.refused(true, NOW);
        assert!(pace.paused_until() <= NOW);
        assert_eq!(pace.reads_paused_until(), after(NOW, REFUSED_FIRST));
    }

    fn call(digit: u32) -> CallSid {
        CallSid::parse(&format!("CA{digit:032}")).expect("a SID")
    }
}
