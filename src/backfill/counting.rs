//! Counts what each call adds to the counters, in the steps in which it happened.

use std::collections::BTreeMap;
use std::hash::Hasher;

use anyhow::Context;
use jiff::Timestamp;
use siphasher::sip::SipHasher24;

use crate::cli::Sample;
use crate::domain::engine::effects::Fact;
use crate::domain::track::outcome;
use crate::domain::track::progress::CallProgress;
use crate::domain::track::reading::Reading;
use crate::domain::words::call::Call;
use crate::domain::words::sid::CallSid;
use crate::metrics::ledger::{AccountId, Entry, Ledger, LedgerLimits};

use super::interval::Interval;
use super::requests::CallRead;
use super::state::{CANNOT_WRITE, PendingCall, State};

/// After this many unreadable calls in a row, another read shows whether any of the account can be read.
pub(super) const MAX_UNREADABLE: usize = 10;

/// The counters while calls are read, and the state that keeps what has been counted.
#[derive(Debug)]
pub(super) struct Counting {
    pub(super) state: State,
    pub(super) interval: Interval,
    /// Calls that ended later are counted by the exporter.
    counted_from: Option<Timestamp>,
    ledger: Ledger,
    limits: LedgerLimits,
    sample: Sample,
    /// Unreadable calls of accounts of which no call has been read since: perhaps none of the account can be.
    unreadable: BTreeMap<AccountId, Vec<(PendingCall, CallRead)>>,
}

impl Counting {
    /// Continues with what has been counted.
    pub(super) fn resume(
        state: State,
        limits: LedgerLimits,
        sample: Sample,
    ) -> anyhow::Result<Self> {
        let interval = state.interval()?;
        let (ledger, unreadable) = (state.ledger()?, BTreeMap::new());
        let counted_from = state.counted_from()?;
        Ok(Self { state, interval, counted_from, ledger, limits, sample, unreadable })
    }

    /// Returns the counters, without their values over time.
    pub(super) fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// Adds the listed calls that are part of the sample and may have events in the interval.
    pub(super) fn add_listed(&mut self, account: AccountId, calls: &[Call]) -> anyhow::Result<()> {
        let in_sample = calls.iter().filter(|call| is_sampled(call.sid, self.sample));
        let placed = in_sample.filter_map(|call| {
            // A call without any time can't be placed.
            let began_at = call.began().or(call.end())?;
            let ended_at = call.has_ended().then(|| call.end().unwrap_or(began_at));
            // The exporter counts all events of calls that ended later.
            let is_counted = self
                .counted_from
                .is_some_and(|from| ended_at.is_none_or(|ended_at| ended_at > from));
            let is_placed = !is_counted && self.interval.may_contain(began_at, ended_at);
            is_placed.then_some(PendingCall {
                account,
                sid: call.sid,
                direction: call.direction,
                status: call.status,
                began_at,
                ended_at,
            })
        });
        let placed: Vec<PendingCall> = placed.collect();
        self.state.add_calls(&placed).context(CANNOT_WRITE)
    }

    /// Counts a call that was read. Returns the number of unreadable calls of its account in a row.
    pub(super) fn add_read(&mut self, call: PendingCall, read: CallRead) -> anyhow::Result<usize> {
        match read {
            CallRead::Whole(reading) => {
                self.give_up(call.account)?;
                self.count(&call, Some((&reading, true)), true)?;
                Ok(0)
            }
            CallRead::Unreadable { .. } => {
                let unreadable = self.unreadable.entry(call.account).or_default();
                unreadable.push((call, read));
                Ok(unreadable.len())
            }
        }
    }

    /// Counts the unreadable calls of an account without their events, since others of the account can be read.
    pub(super) fn give_up(&mut self, account: AccountId) -> anyhow::Result<()> {
        for (call, read) in self.unreadable.remove(&account).unwrap_or_default() {
            let CallRead::Unreadable { reading, error } = read else { continue };
            let label = self.label(account);
            // There may be thousands, such as all that are too old. The result has their number.
            tracing::debug!(account = label, call_sid = %call.sid, error, "a call can't be read");
            self.count(&call, reading.as_ref().map(|reading| (reading, false)), false)?;
        }
        Ok(())
    }

    /// Takes the unreadable calls that haven't been given up, by account: how many, and the last error.
    pub(super) fn take_unreadable(&mut self) -> Vec<(AccountId, usize, String)> {
        let unreadable = std::mem::take(&mut self.unreadable).into_iter();
        let described = unreadable.filter_map(|(account, calls)| {
            let error = calls.last().and_then(|(_, read)| match read {
                CallRead::Unreadable { error, .. } => Some(error.clone()),
                CallRead::Whole(_) => None,
            });
            Some((account, calls.len(), error?))
        });
        described.collect()
    }

    /// Gives up all unreadable calls.
    pub(super) fn give_up_all(&mut self) -> anyhow::Result<()> {
        let accounts: Vec<AccountId> = self.unreadable.keys().copied().collect();
        accounts.into_iter().try_for_each(|account| self.give_up(account))
    }

    /// Returns the label of an account.
    pub(super) fn label(&self, account: AccountId) -> &str {
        self.ledger.accounts().get(&account).map_or("", String::as_str)
    }

    /// Counts a call with its events, if any could be read, and whether these are all.
    fn count(
        &mut self,
        call: &PendingCall,
        read: Option<(&Reading, bool)>,
        is_readable: bool,
    ) -> anyhow::Result<()> {
        let mut steps: BTreeMap<i64, Vec<Fact>> = BTreeMap::new();
        for (at, fact) in facts(call, read) {
            if let Some(step) = self.interval.step_of(at) {
                steps.entry(step).or_default().push(fact);
            }
        }
        let mut changes = Vec::new();
        for (step, facts) in steps {
            let entry = Entry { account: call.account, facts: &facts, received_at: None };
            let delta = self.ledger.apply([entry], self.limits, call.began_at);
            self.ledger.publish(delta.clone());
            changes.push((step, delta));
        }
        self.state.add(call, is_readable, &changes).context(CANNOT_WRITE)
    }
}

/// Whether a call is part of a sample. Hashed, so that no pattern in SIDs can matter.
fn is_sampled(call: CallSid, sample: Sample) -> bool {
    let mut hasher = SipHasher24::new();
    hasher.write(call.to_string().as_bytes());
    hasher.finish().is_multiple_of(sample.0)
}

/// Returns the facts about a call, each with the time at which it happened.
fn facts(call: &PendingCall, read: Option<(&Reading, bool)>) -> Vec<(Timestamp, Fact)> {
    let mut facts = Vec::new();
    if let Some(at) = call.ended_at {
        facts.push((at, Fact::Finished(call.direction, call.status)));
    }
    let Some((reading, is_whole)) = read else { return facts };
    let is_settled = is_whole && call.ended_at.is_some();
    let unknown = call.ended_at.unwrap_or(call.began_at);
    let (call_sid, is_history) = (call.sid, true);
    for (observation, created_at) in progress(call).count(reading, is_settled).events {
        let at = created_at.unwrap_or(unknown);
        facts.push((at, Fact::Event { observation, call_sid, at, is_history }));
    }
    if let Some(decided) = outcome::outcome(&reading.items).filter(|_| is_settled) {
        let at = decided.created_at.unwrap_or(unknown);
        let fact = Fact::Outcome {
            outcome: decided.outcome,
            decided_by: decided.decided_by,
            at,
            is_history,
        };
        facts.push((known_at(reading).map_or(unknown, |at| at.max(unknown)), fact));
    }
    facts
}

/// Returns when the outcome of an ended call was certain: at its last event.
fn known_at(reading: &Reading) -> Option<Timestamp> {
    reading.items.iter().filter_map(|item| item.created_at).max()
}

fn progress(call: &PendingCall) -> CallProgress {
    let listed = Call {
        sid: call.sid,
        status: call.status,
        direction: call.direction,
        start_time: Some(call.began_at),
        end_time: call.ended_at,
        date_created: None,
        date_updated: None,
    };
    CallProgress::begin(&listed, call.began_at).0
}
