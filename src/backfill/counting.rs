//! Counts what each call adds to the counters, in the steps in which it happened.

use std::collections::BTreeMap;
use std::hash::Hasher;

use anyhow::{Context, bail};
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

/// This many refusals in a row concern the account rather than the calls.
const MAX_REFUSED: usize = 10;

/// The counters while calls are read, and the state that keeps what has been counted.
#[derive(Debug)]
pub(super) struct Counting {
    pub(super) state: State,
    pub(super) interval: Interval,
    ledger: Ledger,
    limits: LedgerLimits,
    sample: Sample,
    /// Refused calls of accounts of which no call has been read since.
    refused: BTreeMap<AccountId, Vec<PendingCall>>,
}

impl Counting {
    /// Continues with what has been counted.
    pub(super) fn resume(
        state: State,
        limits: LedgerLimits,
        interval: Interval,
        sample: Sample,
    ) -> anyhow::Result<Self> {
        let (ledger, refused) = (state.ledger()?, BTreeMap::new());
        Ok(Self { state, interval, ledger, limits, sample, refused })
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
            self.interval.may_contain(began_at, ended_at).then_some(PendingCall {
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

    /// Counts a call that was read.
    ///
    /// # Errors
    /// Fails if Twilio refuses the events of many calls in a row, or if the state can't be written.
    pub(super) fn add_read(&mut self, call: &PendingCall, read: &CallRead) -> anyhow::Result<()> {
        match read {
            CallRead::Refused(failure) => {
                let label = self.ledger.accounts().get(&call.account).map_or("", String::as_str);
                let refused = self.refused.entry(call.account).or_default();
                refused.push(call.clone());
                if refused.len() >= MAX_REFUSED {
                    bail!(
                        "account `{label}`: Twilio refuses the Call Events of all calls: {}",
                        failure.text
                    );
                }
                Ok(())
            }
            CallRead::Whole(reading) => {
                for refused in self.refused.remove(&call.account).unwrap_or_default() {
                    self.count(&refused, None, false)?;
                }
                self.count(call, Some((reading, true)), true)
            }
            CallRead::Unreadable(reading) => {
                self.count(call, reading.as_ref().map(|reading| (reading, false)), false)
            }
        }
    }

    /// Decides at the end whether refusals concerned calls or their account.
    ///
    /// # Errors
    /// Fails if no call of an account could be read.
    pub(super) fn settle_refused(&mut self) -> anyhow::Result<()> {
        for (account, calls) in std::mem::take(&mut self.refused) {
            if !self.state.has_read(account)? {
                let label = self.ledger.accounts().get(&account).map_or("", String::as_str);
                bail!(
                    "account `{label}`: Twilio refuses the Call Events of all {} calls: check the permissions of \
                     its credentials, then run the same command again to continue",
                    calls.len()
                );
            }
            for call in calls {
                self.count(&call, None, false)?;
            }
        }
        Ok(())
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
