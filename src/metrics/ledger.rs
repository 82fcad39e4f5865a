//! All durable series values, and the changes that facts make to them.
//!
//! Invariant: the ledger that a scrape sees holds only what the store has committed. `apply` makes
//! a delta without changing the ledger, the store commits it, and only then is it published.

mod apply;
mod committed;
mod exposure;
mod places;
mod retire;
mod room;

use std::collections::btree_map;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;

use crate::domain::engine::effects::Fact;
use crate::domain::judge::content_type::ContentType;
use crate::domain::judge::kind::RequestKind;
use crate::domain::judge::route::Endpoint;
use crate::domain::judge::verdict::{Code, Reason, Warning};
use crate::domain::track::outcome::Outcome;
use crate::domain::words::call::{CallStatus, Direction};
use crate::domain::words::error_log::{ErrorCode, Level, Product};

use super::exemplar::Exemplar;
use places::LimitShare;

pub use apply::{CountedReport, Delta, FailedRequest};
pub use committed::Committed;
pub use exposure::ShownZeros;
pub use places::{Exceeded, Overflow};
pub use room::ACCOUNT_SERIES;

/// The largest value of a counter: the largest integer of the store. Memory has the same bound, so that
/// a value is the same after a restart.
pub const MAX_VALUE: u64 = i64::MAX.unsigned_abs();

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
    /// Group: webhook requests whose code found no room.
    OtherRequests,
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
    /// Account: the customer's API requests whose code found no room.
    OtherApiRequests,
    /// Account: finished calls.
    Calls(Direction, CallStatus),
    /// Endpoint: calls with failures by what callers felt. Account: those that an earlier version
    /// counted by account alone.
    Outcomes(Outcome),
    /// Endpoint: entries of the error log about its webhooks. Account: those about anything else.
    ErrorLog(Product, ErrorCode, Level),
    /// Account: entries of the error log that tell no code, or whose code or place found no room.
    OtherErrors(Product, Level),
}

/// Facts of one account.
#[derive(Clone, Debug)]
pub struct Entry<'a> {
    /// The account.
    pub account: AccountId,
    /// The facts.
    pub facts: &'a [Fact],
    /// Twilio's time when they were learnt. An endpoint with a fact is not idle then, however long ago
    /// its event claims to have happened.
    pub learnt_at: Option<Timestamp>,
}

/// Whether a new endpoint or group already shows its values.
///
/// A series that appears with a value shows no increase, so it is first shown at 0 and released
/// once a scrape has seen that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hold {
    /// Whether its values are shown.
    pub is_released: bool,
    /// When it was first seen, or when the program started, whichever was later: no scrape could have
    /// shown it while the program was down.
    pub held_since: Timestamp,
    /// When an answer first showed it at 0 under its account's present label; not kept over a restart.
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
    /// Twilio's time of its last event, or when that was learnt; give or take an hour.
    pub last_event_at: Timestamp,
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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
    /// All endpoints.
    pub endpoints: BTreeMap<EndpointId, EndpointEntry>,
    /// All groups.
    pub groups: BTreeMap<GroupId, GroupEntry>,
    /// All values.
    pub cells: BTreeMap<Scope, BTreeMap<Cell, u64>>,
    /// The last call behind each failure and each bucket; not kept over a restart.
    pub exemplars: BTreeMap<Scope, BTreeMap<Cell, Exemplar>>,
    /// Whether this store was ever scraped.
    pub was_scraped: bool,
    accounts: BTreeMap<AccountId, String>,
    /// Since when each account has been shown under its label.
    shown_since: BTreeMap<AccountId, Timestamp>,
    /// Accounts whose error log was ever read.
    with_error_log: BTreeSet<AccountId>,
    /// The error codes of each account.
    error_codes: BTreeMap<AccountId, BTreeSet<ErrorCode>>,
    /// Counts the changes to which accounts are shown, and under which labels.
    exposure: u64,
    by_endpoint: BTreeMap<(AccountId, Endpoint), EndpointId>,
    by_group: BTreeMap<(EndpointId, RequestKind), GroupId>,
    /// Endpoints of each account, without the shared one.
    places_taken: BTreeMap<AccountId, usize>,
    /// Series of the endpoints `other`, for which there is room in any case.
    shared_series: usize,
    series: usize,
}

impl Ledger {
    /// Adds an endpoint that the store knows.
    pub fn insert_endpoint(&mut self, id: EndpointId, entry: EndpointEntry) {
        self.by_endpoint.insert((entry.account, entry.endpoint.clone()), id);
        if entry.endpoint == Endpoint::overflow() {
            self.shared_series += room::ENDPOINT_SERIES;
        } else {
            *self.places_taken.entry(entry.account).or_default() += 1;
        }
        self.series += room::ENDPOINT_SERIES;
        self.endpoints.insert(id, entry);
    }

    /// Adds a group that the store knows.
    pub fn insert_group(&mut self, id: GroupId, entry: GroupEntry) {
        let series = self.new_group_series(entry.endpoint, entry.kind);
        self.series += series;
        if self.is_shared(entry.endpoint) {
            self.shared_series += series + room::FIRST_CODE;
        }
        self.by_group.insert((entry.endpoint, entry.kind), id);
        self.groups.insert(id, entry);
    }

    /// Adds to a value, up to [`MAX_VALUE`].
    pub fn add(&mut self, scope: Scope, cell: Cell, count: u64) {
        let value = match self.cells.entry(scope).or_default().entry(cell) {
            btree_map::Entry::Occupied(known) => known.into_mut(),
            btree_map::Entry::Vacant(new) => {
                self.series += room::cell_series(cell);
                new.insert(0)
            }
        };
        *value = sum(*value, count);
        if let (Cell::ErrorLog(_, code, _), Some(account)) = (cell, self.account_of(scope)) {
            self.error_codes.entry(account).or_default().insert(code);
        }
    }

    /// A value, 0 if nothing was ever counted.
    pub fn value(&self, scope: Scope, cell: Cell) -> u64 {
        self.cells.get(&scope).and_then(|cells| cells.get(&cell)).copied().unwrap_or(0)
    }

    /// Takes in a delta that the store has committed.
    pub fn publish(&mut self, delta: Delta) {
        for (id, entry) in delta.endpoints {
            self.insert_endpoint(id, entry);
        }
        for (id, entry) in delta.groups {
            self.insert_group(id, entry);
        }
        if self.was_scraped {
            // A scrape began after the delta was made, and does not show them.
            for scope in delta.released_unscraped {
                if let Some(hold) = self.hold_mut(scope) {
                    hold.is_released = false;
                }
            }
        }
        for ((scope, cell), count) in delta.added {
            self.add(scope, cell, count);
        }
        for ((scope, cell), exemplar) in delta.exemplars {
            self.exemplars.entry(scope).or_default().insert(cell, exemplar);
        }
        for (id, at) in delta.last_events {
            if let Some(entry) = self.endpoints.get_mut(&id) {
                entry.last_event_at = at;
            }
        }
    }

    fn account_of(&self, scope: Scope) -> Option<AccountId> {
        let of_endpoint = |id| self.endpoints.get(&id).map(|entry| entry.account);
        match scope {
            Scope::Account(id) => Some(id),
            Scope::Endpoint(id) => of_endpoint(id),
            Scope::Group(id) => self.groups.get(&id).and_then(|group| of_endpoint(group.endpoint)),
        }
    }

    /// Shows what the error log of an account says, if only that it says nothing.
    pub fn show_error_log(&mut self, account: AccountId) {
        self.with_error_log.insert(account);
    }

    /// Whether the error log of an account was ever read.
    pub fn has_error_log(&self, account: AccountId) -> bool {
        self.with_error_log.contains(&account)
    }

    fn hold_mut(&mut self, scope: Scope) -> Option<&mut Hold> {
        match scope {
            Scope::Account(_) => None,
            Scope::Endpoint(id) => self.endpoints.get_mut(&id).map(|entry| &mut entry.hold),
            Scope::Group(id) => self.groups.get_mut(&id).map(|entry| &mut entry.hold),
        }
    }
}

/// A value with more added to it, up to [`MAX_VALUE`].
pub fn sum(value: u64, added: u64) -> u64 {
    value.saturating_add(added).min(MAX_VALUE)
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

#[cfg(test)]
mod tests;
