//! What facts change, computed apart from the change.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;

use crate::domain::kind::RequestKind;
use crate::domain::observe::Observation;
use crate::domain::route::Endpoint;
use crate::domain::sid::CallSid;
use crate::domain::twilio_time::after;
use crate::domain::verdict::{Code, Reason};

use super::super::catalog::WEBHOOK_SECONDS;
use super::super::exemplar::Exemplar;
use super::{
    AccountId, Cell, EndpointEntry, EndpointId, Entry, Fact, GroupEntry, GroupId, Hold, Ledger,
    LedgerLimits, Scope, bound_ms, series_of,
};

/// A request that failed, as it was counted: over a cap, its endpoint is the shared one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FailedRequest {
    /// Whose it is.
    pub account: AccountId,
    /// Where it went.
    pub endpoint: EndpointId,
    /// What it was for.
    pub kind: RequestKind,
    /// When Twilio recorded the answer.
    pub at: Timestamp,
    /// The code label.
    pub code: Code,
    /// Why it failed.
    pub reason: Reason,
    /// How long it took, in milliseconds.
    pub duration_ms: Option<u64>,
    /// The call that leads back to it.
    pub call_sid: CallSid,
}

/// How much later an event has to be for its endpoint's time to be written anew.
const LAST_EVENT_STEP: Duration = Duration::from_secs(60 * 60);
/// Places of an account that are kept for hosts that have none yet, so that the ids of one host never
/// hide another host; a fifth of all at most.
const RESERVED: usize = 20;

/// What facts change.
#[derive(Clone, Debug, Default)]
pub struct Delta {
    /// New endpoints.
    pub endpoints: BTreeMap<EndpointId, EndpointEntry>,
    /// New groups.
    pub groups: BTreeMap<GroupId, GroupEntry>,
    /// What is added.
    pub added: BTreeMap<(Scope, Cell), u64>,
    /// When known endpoints had an event that is later by an hour than the last that was noted.
    pub last_events: BTreeMap<EndpointId, Timestamp>,
    /// The last call behind each failure and each bucket.
    pub exemplars: BTreeMap<(Scope, Cell), Exemplar>,
    /// The requests that failed, in the order of counting.
    pub failures: Vec<FailedRequest>,
    /// Events that found no room, by account.
    pub overflowed: BTreeMap<AccountId, u64>,
    /// The first endpoint of each account that found no room.
    pub first_overflows: BTreeMap<AccountId, Endpoint>,
    new_endpoints: BTreeMap<(AccountId, Endpoint), EndpointId>,
    new_groups: BTreeMap<(EndpointId, RequestKind), GroupId>,
    series: usize,
}

impl Ledger {
    /// What facts change, without changing anything.
    pub fn apply<'a>(
        &self,
        entries: impl IntoIterator<Item = Entry<'a>>,
        limits: LedgerLimits,
        now: Timestamp,
    ) -> Delta {
        let mut delta = Delta::default();
        for entry in entries {
            let account = Scope::Account(entry.account);
            for fact in entry.facts {
                match fact {
                    Fact::Finished(direction, status) => {
                        delta.add(account, Cell::Calls(*direction, *status), 1);
                    }
                    Fact::Felt(outcome) => delta.add(account, Cell::Outcomes(*outcome), 1),
                    Fact::Event { observation, .. }
                        if observation.kind == RequestKind::ApiRequest =>
                    {
                        delta.add(account, Cell::ApiRequests(observation.verdict.code), 1);
                    }
                    Fact::Event { observation, call_sid, at, is_history } => {
                        let is_released =
                            *is_history || !self.was_scraped || limits.hold_back.is_zero();
                        let hold = Hold { is_released, held_since: now, shown_at: None };
                        let (endpoint, group) =
                            self.apply_event(&mut delta, entry.account, observation, limits, hold);
                        self.note_event(&mut delta, endpoint, *at);
                        delta.remember(group, observation, *call_sid, now);
                        delta.failures.extend(observation.verdict.failure.map(|reason| {
                            FailedRequest {
                                account: entry.account,
                                endpoint,
                                kind: observation.kind,
                                at: *at,
                                code: observation.verdict.code,
                                reason,
                                duration_ms: observation.duration_ms,
                                call_sid: *call_sid,
                            }
                        }));
                    }
                }
            }
        }
        delta
    }

    fn note_event(&self, delta: &mut Delta, endpoint: EndpointId, at: Timestamp) {
        if let Some(new) = delta.endpoints.get_mut(&endpoint) {
            new.last_event_at = new.last_event_at.max(at);
        } else if let Some(known) = self.endpoints.get(&endpoint)
            && after(known.last_event_at, LAST_EVENT_STEP) <= at
        {
            let last = delta.last_events.entry(endpoint).or_insert(at);
            *last = at.max(*last);
        }
    }

    fn apply_event(
        &self,
        delta: &mut Delta,
        account: AccountId,
        event: &Observation,
        limits: LedgerLimits,
        hold: Hold,
    ) -> (EndpointId, Scope) {
        let mut endpoint_id = self.find_endpoint(delta, account, event, limits, hold);
        let key = (endpoint_id, event.kind);
        let is_new = !self.by_group.contains_key(&key) && !delta.new_groups.contains_key(&key);
        let is_full = self.series + delta.series + series_of(event.kind) > limits.series;
        if is_new && is_full && !self.is_overflow(delta, account, endpoint_id) {
            // A known endpoint may bring new kinds, too; what found no room is counted there.
            endpoint_id = self.find_overflow(delta, account, event, limits, hold);
        }
        let group_id = self.find_group(delta, endpoint_id, event.kind, hold);
        let (endpoint, group) = (Scope::Endpoint(endpoint_id), Scope::Group(group_id));
        delta.add(group, Cell::Requests(event.verdict.code), 1);
        if let Some(reason) = event.verdict.failure {
            delta.add(group, Cell::Failures(reason), 1);
        }
        if let Some(duration) = event.duration_ms {
            delta.add(group, Cell::DurationBucket(duration_bound(duration)), 1);
            delta.add(group, Cell::DurationSum, duration);
        }
        if let Some(content_type) = event.verdict.content_type {
            delta.add(endpoint, Cell::ContentTypes(content_type), 1);
        }
        if let Some(warning) = event.verdict.warning {
            delta.add(endpoint, Cell::Warnings(warning), 1);
        }
        (endpoint_id, group)
    }

    fn find_endpoint(
        &self,
        delta: &mut Delta,
        account: AccountId,
        event: &Observation,
        limits: LedgerLimits,
        hold: Hold,
    ) -> EndpointId {
        let key = (account, event.endpoint.clone());
        if let Some(id) = self.by_endpoint.get(&key).or_else(|| delta.new_endpoints.get(&key)) {
            return *id;
        }
        let known = self.endpoints_of.get(&account).copied().unwrap_or(0);
        let new = delta
            .new_endpoints
            .keys()
            .filter(|(of, endpoint)| *of == account && *endpoint != Endpoint::overflow())
            .count();
        let most = limits.routes_per_account;
        let reserved = RESERVED.min(most / 5);
        let is_full = known + new >= most
            || (known + new >= most - reserved && self.has_host(delta, &key))
            || self.series + delta.series + series_of(event.kind) > limits.series;
        if is_full && event.endpoint != Endpoint::overflow() {
            return self.find_overflow(delta, account, event, limits, hold);
        }
        let last = self.endpoints.last_key_value().map(|(id, _)| *id);
        let last = last.max(delta.endpoints.last_key_value().map(|(id, _)| *id));
        let id = EndpointId(last.map_or(1, |EndpointId(id)| id + 1));
        let (endpoint, last_event_at) = (key.1.clone(), Timestamp::MIN);
        delta.endpoints.insert(id, EndpointEntry { account, endpoint, hold, last_event_at });
        delta.new_endpoints.insert(key, id);
        id
    }

    /// Whether an account has a place for a host already.
    fn has_host(&self, delta: &Delta, key: &(AccountId, Endpoint)) -> bool {
        let (account, Endpoint { host, .. }) = key;
        let first = (*account, Endpoint { host: host.clone(), route: String::new() });
        let is_host =
            |(of, endpoint): &(AccountId, Endpoint)| of == account && endpoint.host == *host;
        let known = self.by_endpoint.range(&first..).next().map(|(key, _)| key);
        let new = delta.new_endpoints.range(&first..).next().map(|(key, _)| key);
        known.is_some_and(is_host) || new.is_some_and(is_host)
    }

    fn is_overflow(&self, delta: &Delta, account: AccountId, id: EndpointId) -> bool {
        let key = (account, Endpoint::overflow());
        self.by_endpoint.get(&key).or_else(|| delta.new_endpoints.get(&key)) == Some(&id)
    }

    /// The endpoint that all share that found no room.
    fn find_overflow(
        &self,
        delta: &mut Delta,
        account: AccountId,
        event: &Observation,
        limits: LedgerLimits,
        hold: Hold,
    ) -> EndpointId {
        if event.endpoint != Endpoint::overflow() {
            *delta.overflowed.entry(account).or_default() += 1;
            delta.first_overflows.entry(account).or_insert_with(|| event.endpoint.clone());
        }
        let event = Observation { endpoint: Endpoint::overflow(), ..event.clone() };
        self.find_endpoint(delta, account, &event, limits, hold)
    }

    fn find_group(
        &self,
        delta: &mut Delta,
        endpoint: EndpointId,
        kind: RequestKind,
        hold: Hold,
    ) -> GroupId {
        let key = (endpoint, kind);
        if let Some(id) = self.by_group.get(&key).or_else(|| delta.new_groups.get(&key)) {
            return *id;
        }
        let last = self.groups.last_key_value().map(|(id, _)| *id);
        let last = last.max(delta.groups.last_key_value().map(|(id, _)| *id));
        let id = GroupId(last.map_or(1, |GroupId(id)| id + 1));
        delta.groups.insert(id, GroupEntry { endpoint, kind, hold });
        delta.new_groups.insert(key, id);
        delta.series += series_of(kind);
        id
    }
}

impl Delta {
    /// Notes the call behind a failure and a bucket, as counted now: an event's own time may be
    /// much older, and exemplars have to come in order.
    fn remember(&mut self, group: Scope, event: &Observation, call_sid: CallSid, at: Timestamp) {
        if let Some(reason) = event.verdict.failure {
            let exemplar = Exemplar { call_sid, duration_ms: None, at };
            self.exemplars.insert((group, Cell::Failures(reason)), exemplar);
        }
        if let Some(duration) = event.duration_ms {
            let exemplar = Exemplar { call_sid, duration_ms: Some(duration), at };
            self.exemplars
                .insert((group, Cell::DurationBucket(duration_bound(duration))), exemplar);
        }
    }

    fn add(&mut self, scope: Scope, cell: Cell, count: u64) {
        *self.added.entry((scope, cell)).or_default() += count;
    }
}

/// The bound of the bucket that a duration in milliseconds falls into.
pub(super) fn duration_bound(duration_ms: u64) -> Option<u64> {
    WEBHOOK_SECONDS.iter().map(|&bound| bound_ms(bound)).find(|&bound| duration_ms <= bound)
}
