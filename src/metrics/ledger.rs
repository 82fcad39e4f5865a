//! All durable series values, and the changes that facts make to them.
//!
//! Invariant: the ledger that a scrape sees holds only what the store has committed. `apply` makes
//! a delta without changing the ledger, the store commits it, and only then is it published.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};
use std::time::Duration;

use jiff::Timestamp;

use crate::domain::call::{CallStatus, Direction};
use crate::domain::kind::RequestKind;
use crate::domain::observe::Observation;
use crate::domain::outcome::Outcome;
use crate::domain::route::Endpoint;
use crate::domain::twilio_time::after;
use crate::domain::verdict::{Code, ContentType, Reason, Warning};

use super::catalog::WEBHOOK_SECONDS;

/// A group that no scrape has shown is released after this long: nobody waits for it.
const RELEASE_UNSEEN_AFTER: Duration = Duration::from_secs(5 * 60);

/// An account in the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AccountId(pub u32);

/// An endpoint (account, host, route) in the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EndpointId(pub u32);

/// A group (endpoint, kind) in the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GroupId(pub u32);

/// What a value belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Scope {
    /// An account.
    Account(AccountId),
    /// An endpoint.
    Endpoint(EndpointId),
    /// A group.
    Group(GroupId),
}

/// Which value of its scope.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Cell {
    /// Group: webhook requests by code.
    Requests(Code),
    /// Group: failures by reason.
    Failures(Reason),
    /// Group: durations up to this many milliseconds and over the bound before; `None`: over all.
    DurationBucket(Option<u64>),
    /// Group: sum of durations in milliseconds.
    DurationSum,
    /// Endpoint: TwiML answers by content type.
    ContentTypes(ContentType),
    /// Endpoint: warnings by reason.
    Warnings(Warning),
    /// Account: the customer's API requests by code.
    ApiRequests(Code),
    /// Account: finished calls.
    Calls(Direction, CallStatus),
    /// Account: calls with failures by what callers felt.
    Outcomes(Outcome),
}

/// Something that is counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fact {
    /// A Call Event.
    Event(Observation),
    /// A call that has finished.
    Finished(Direction, CallStatus),
    /// What callers felt of a settled call.
    Felt(Outcome),
}

/// Facts of one account.
#[derive(Clone, Debug)]
pub struct Entry<'a> {
    /// The account.
    pub account: AccountId,
    /// Whether new groups are shown at once: the account is in its first pass.
    pub is_first_pass: bool,
    /// The facts.
    pub facts: &'a [Fact],
}

/// Whether a new endpoint or group already shows its values.
///
/// A series that appears with a value shows no increase, so it is first shown at 0 and released
/// once a scrape has seen that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hold {
    /// Whether its values are shown.
    pub is_released: bool,
    /// When it was first seen.
    pub created_at: Timestamp,
    /// When a scrape first showed it at 0; not kept over a restart.
    pub shown_at: Option<Timestamp>,
}

/// An endpoint of the ledger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointEntry {
    /// Its account.
    pub account: AccountId,
    /// Host and route.
    pub endpoint: Endpoint,
    /// Whether its values are shown.
    pub hold: Hold,
}

/// A group of the ledger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupEntry {
    /// Its endpoint.
    pub endpoint: EndpointId,
    /// Its kind.
    pub kind: RequestKind,
    /// Whether its values are shown.
    pub hold: Hold,
}

/// Bounds on the ledger's size, and how long new groups are held back.
#[derive(Clone, Copy, Debug)]
pub struct LedgerLimits {
    /// Most endpoints of an account.
    pub routes_per_account: usize,
    /// Most series in all.
    pub series: usize,
    /// How long a new group stays at 0 after a scrape showed it; zero: not at all.
    pub hold_back: Duration,
}

/// All durable series values.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    /// The accounts that are shown, with their labels.
    pub accounts: BTreeMap<AccountId, String>,
    /// All endpoints.
    pub endpoints: BTreeMap<EndpointId, EndpointEntry>,
    /// All groups.
    pub groups: BTreeMap<GroupId, GroupEntry>,
    /// All values.
    pub cells: BTreeMap<Scope, BTreeMap<Cell, u64>>,
    /// Whether a scrape was ever answered from this store.
    pub was_scraped: bool,
    by_endpoint: BTreeMap<(AccountId, Endpoint), EndpointId>,
    by_group: BTreeMap<(EndpointId, RequestKind), GroupId>,
    endpoints_of: BTreeMap<AccountId, usize>,
    series: usize,
}

/// What facts change.
#[derive(Clone, Debug, Default)]
pub struct Delta {
    /// New endpoints.
    pub endpoints: BTreeMap<EndpointId, EndpointEntry>,
    /// New groups.
    pub groups: BTreeMap<GroupId, GroupEntry>,
    /// What is added.
    pub added: BTreeMap<(Scope, Cell), u64>,
    /// Events that found no room, by account.
    pub overflowed: BTreeMap<AccountId, u64>,
    new_endpoints: BTreeMap<(AccountId, Endpoint), EndpointId>,
    new_groups: BTreeMap<(EndpointId, RequestKind), GroupId>,
    series: usize,
}

/// Series of a histogram: its buckets, `+Inf`, sum and count.
const HISTOGRAM_SERIES: usize = WEBHOOK_SECONDS.len() + 3;

/// Series that a new group brings at least.
fn series_of(kind: RequestKind) -> usize {
    1 + HISTOGRAM_SERIES + Reason::possible_for(kind).count()
}

impl Ledger {
    /// Adds an endpoint that the store knows.
    pub fn insert_endpoint(&mut self, id: EndpointId, entry: EndpointEntry) {
        self.by_endpoint.insert((entry.account, entry.endpoint.clone()), id);
        if entry.endpoint != Endpoint::overflow() {
            *self.endpoints_of.entry(entry.account).or_default() += 1;
        }
        self.endpoints.insert(id, entry);
    }

    /// Adds a group that the store knows.
    pub fn insert_group(&mut self, id: GroupId, entry: GroupEntry) {
        self.by_group.insert((entry.endpoint, entry.kind), id);
        self.series += series_of(entry.kind);
        self.groups.insert(id, entry);
    }

    /// Adds to a value.
    pub fn add(&mut self, scope: Scope, cell: Cell, count: u64) {
        *self.cells.entry(scope).or_default().entry(cell).or_default() += count;
    }

    /// A value, 0 if nothing was ever counted.
    pub fn value(&self, scope: Scope, cell: Cell) -> u64 {
        self.cells.get(&scope).and_then(|cells| cells.get(&cell)).copied().unwrap_or(0)
    }

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
            let is_released =
                entry.is_first_pass || !self.was_scraped || limits.hold_back.is_zero();
            let hold = Hold { is_released, created_at: now, shown_at: None };
            for fact in entry.facts {
                match fact {
                    Fact::Finished(direction, status) => {
                        delta.add(account, Cell::Calls(*direction, *status), 1);
                    }
                    Fact::Felt(outcome) => delta.add(account, Cell::Outcomes(*outcome), 1),
                    Fact::Event(event) if event.kind == RequestKind::ApiRequest => {
                        delta.add(account, Cell::ApiRequests(event.verdict.code), 1);
                    }
                    Fact::Event(event) => {
                        self.apply_event(&mut delta, entry.account, event, limits, hold);
                    }
                }
            }
        }
        delta
    }

    fn apply_event(
        &self,
        delta: &mut Delta,
        account: AccountId,
        event: &Observation,
        limits: LedgerLimits,
        hold: Hold,
    ) {
        let endpoint_id = self.find_endpoint(delta, account, event, limits, hold);
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
        let is_overflow = event.endpoint == Endpoint::overflow();
        let known = self.endpoints_of.get(&account).copied().unwrap_or(0);
        let new = delta
            .new_endpoints
            .keys()
            .filter(|(of, endpoint)| *of == account && *endpoint != Endpoint::overflow())
            .count();
        let is_full = known + new >= limits.routes_per_account
            || self.series + delta.series + series_of(event.kind) > limits.series;
        if is_full && !is_overflow {
            *delta.overflowed.entry(account).or_default() += 1;
            let event = Observation { endpoint: Endpoint::overflow(), ..event.clone() };
            return self.find_endpoint(delta, account, &event, limits, hold);
        }
        let last = self.endpoints.last_key_value().map(|(id, _)| *id);
        let last = last.max(delta.endpoints.last_key_value().map(|(id, _)| *id));
        let id = EndpointId(last.map_or(1, |EndpointId(id)| id + 1));
        delta.endpoints.insert(id, EndpointEntry { account, endpoint: key.1.clone(), hold });
        delta.new_endpoints.insert(key, id);
        id
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

    /// Takes in a delta that the store has committed.
    pub fn publish(&mut self, delta: Delta) {
        for (id, entry) in delta.endpoints {
            self.insert_endpoint(id, entry);
        }
        for (id, entry) in delta.groups {
            self.insert_group(id, entry);
        }
        for ((scope, cell), count) in delta.added {
            self.add(scope, cell, count);
        }
    }

    /// The endpoints and groups whose values may be shown now.
    pub fn due_releases(&self, hold_back: Duration, now: Timestamp) -> Vec<Scope> {
        let is_due = |hold: &Hold| {
            let by_scrape = hold.shown_at.is_some_and(|shown| after(shown, hold_back) <= now);
            !hold.is_released && (by_scrape || after(hold.created_at, RELEASE_UNSEEN_AFTER) <= now)
        };
        self.holds().filter(|(_, hold)| is_due(hold)).map(|(scope, _)| scope).collect()
    }

    /// Shows the values of endpoints and groups whose release the store has committed.
    pub fn release(&mut self, scopes: &[Scope]) {
        for scope in scopes {
            if let Some(hold) = self.hold_mut(*scope) {
                hold.is_released = true;
            }
        }
    }

    /// Notes that a scrape has shown these at 0.
    pub fn mark_shown(&mut self, scopes: &[Scope], now: Timestamp) {
        self.was_scraped = true;
        for scope in scopes {
            if let Some(hold) = self.hold_mut(*scope) {
                hold.shown_at.get_or_insert(now);
            }
        }
    }

    /// The endpoints and groups that are held at 0.
    pub fn held(&self) -> Vec<Scope> {
        self.holds().filter(|(_, hold)| !hold.is_released).map(|(scope, _)| scope).collect()
    }

    fn holds(&self) -> impl Iterator<Item = (Scope, &Hold)> {
        let endpoints =
            self.endpoints.iter().map(|(id, entry)| (Scope::Endpoint(*id), &entry.hold));
        endpoints.chain(self.groups.iter().map(|(id, entry)| (Scope::Group(*id), &entry.hold)))
    }

    fn hold_mut(&mut self, scope: Scope) -> Option<&mut Hold> {
        match scope {
            Scope::Account(_) => None,
            Scope::Endpoint(id) => self.endpoints.get_mut(&id).map(|entry| &mut entry.hold),
            Scope::Group(id) => self.groups.get_mut(&id).map(|entry| &mut entry.hold),
        }
    }
}

impl Delta {
    fn add(&mut self, scope: Scope, cell: Cell, count: u64) {
        *self.added.entry((scope, cell)).or_default() += count;
    }
}

/// The bound of the bucket that a duration in milliseconds falls into.
fn duration_bound(duration_ms: u64) -> Option<u64> {
    WEBHOOK_SECONDS.iter().map(|&bound| bound_ms(bound)).find(|&bound| duration_ms <= bound)
}

/// A bound in whole milliseconds.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "bounds are small positive constants"
)]
pub(crate) fn bound_ms(seconds: f64) -> u64 {
    (seconds * 1000.0).round() as u64
}

/// The committed ledger, shared by the store that publishes and the scrapes that read.
#[derive(Clone, Debug, Default)]
pub struct Committed(Arc<RwLock<Ledger>>);

impl Committed {
    /// Shares a ledger.
    pub fn new(ledger: Ledger) -> Self {
        Self(Arc::new(RwLock::new(ledger)))
    }

    /// Looks at the ledger. Writers wait meanwhile: only for work in memory.
    pub fn read(&self) -> RwLockReadGuard<'_, Ledger> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the ledger, after the store has committed the change.
    pub fn publish(&self, change: impl FnOnce(&mut Ledger)) {
        change(&mut self.0.write().unwrap_or_else(PoisonError::into_inner));
    }
}

#[cfg(test)]
mod tests;
