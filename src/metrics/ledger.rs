//! The values of all durable series, and the changes that facts make to them.
//!
//! Invariant: the ledger that a scrape sees contains only committed values. `apply` computes a delta without
//! changing the ledger, the store commits the delta, and only then is it published.

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

/// The largest value of a counter: the largest integer of the store. Values in memory have the same limit, so
/// that they are the same after a restart.
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

/// The account, endpoint or group that a value belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Scope {
    /// An account.
    Account(AccountId),
    /// An endpoint.
    Endpoint(EndpointId),
    /// A group.
    Group(GroupId),
}

/// A value within its scope.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Cell {
    /// Group: webhook requests by code.
    Requests(Code),
    /// Group: webhook requests whose code is over the limit.
    OtherRequests,
    /// Group: failures by reason.
    Failures(Reason),
    /// Group: durations up to this many milliseconds and above the previous bound; `None`: above all bounds.
    DurationBucket(Option<u64>),
    /// Group: the sum of durations in milliseconds.
    DurationSum,
    /// Endpoint: TwiML responses by content type.
    ContentTypes(ContentType),
    /// Endpoint: warnings by reason.
    Warnings(Warning),
    /// Account: the application's API requests by code.
    ApiRequests(Code),
    /// Account: the application's API requests whose code is over the limit.
    OtherApiRequests,
    /// Account: finished calls.
    Calls(Direction, CallStatus),
    /// Endpoint: calls with failures, by outcome for the caller. Account: those that an earlier version
    /// counted by account only.
    Outcomes(Outcome),
    /// Endpoint: error log entries about its webhooks. Account: entries about anything else.
    ErrorLog(Product, ErrorCode, Level),
    /// Account: error log entries without a code, or over a limit.
    OtherErrors(Product, Level),
}

/// Facts of one account.
#[derive(Clone, Debug)]
pub struct Entry<'a> {
    /// The account.
    pub account: AccountId,
    /// The facts.
    pub facts: &'a [Fact],
    /// Twilio's time when they were learnt. An endpoint with a fact counts as active at that time, even if
    /// its event is dated long before.
    pub received_at: Option<Timestamp>,
}

/// Whether a new endpoint or group shows its values yet.
///
/// A series that first appears with a value shows no increase, so it is first shown at 0, and released
/// after a scrape has seen that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hold {
    /// Whether its values are shown.
    pub is_released: bool,
    /// When it was first seen or when the exporter started, whichever was later: no scrape can have shown
    /// it while the exporter was down.
    pub held_since: Timestamp,
    /// When a scrape response first showed it at 0 under its account's current label; lost on restart.
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
    /// Twilio's time when its last event happened or was learnt, accurate to an hour.
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

/// Limits on the ledger's size, and how long new groups are held back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LedgerLimits {
    /// The maximum number of endpoints of an account.
    pub routes_per_account: usize,
    /// The maximum total number of series.
    pub series: usize,
    /// How long a new group stays at 0 after a scrape has shown it; if zero, groups aren't held back.
    pub hold_back: Duration,
}

/// The values of all durable series.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    /// All endpoints.
    pub endpoints: BTreeMap<EndpointId, EndpointEntry>,
    /// All groups.
    pub groups: BTreeMap<GroupId, GroupEntry>,
    /// All values.
    pub cells: BTreeMap<Scope, BTreeMap<Cell, u64>>,
    /// The last call behind each failure reason and each bucket; lost on restart.
    pub exemplars: BTreeMap<Scope, BTreeMap<Cell, Exemplar>>,
    /// Whether this store has ever been scraped.
    pub was_scraped: bool,
    accounts: BTreeMap<AccountId, String>,
    /// Since when each account has been shown under its label.
    shown_since: BTreeMap<AccountId, Timestamp>,
    /// Accounts whose error log has ever been read.
    with_error_log: BTreeSet<AccountId>,
    /// The error codes of each account.
    error_codes: BTreeMap<AccountId, BTreeSet<ErrorCode>>,
    /// The number of changes to the set of shown accounts and their labels.
    exposure_version: u64,
    by_endpoint: BTreeMap<(AccountId, Endpoint), EndpointId>,
    by_group: BTreeMap<(EndpointId, RequestKind), GroupId>,
    /// The number of endpoints of each account, without the shared one.
    endpoint_counts: BTreeMap<AccountId, usize>,
    /// Series of the shared endpoints (`other`), which the limit doesn't apply to.
    shared_series: usize,
    series: usize,
}

impl Ledger {
    /// Adds an endpoint that is in the store.
    pub fn insert_endpoint(&mut self, id: EndpointId, entry: EndpointEntry) {
        self.by_endpoint.insert((entry.account, entry.endpoint.clone()), id);
        if entry.endpoint == Endpoint::overflow() {
            self.shared_series += room::ENDPOINT_SERIES;
        } else {
            *self.endpoint_counts.entry(entry.account).or_default() += 1;
        }
        self.series += room::ENDPOINT_SERIES;
        self.endpoints.insert(id, entry);
    }

    /// Adds a group that is in the store.
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

    /// Returns a value, 0 if nothing has been counted.
    pub fn value(&self, scope: Scope, cell: Cell) -> u64 {
        self.cells.get(&scope).and_then(|cells| cells.get(&cell)).copied().unwrap_or(0)
    }

    /// Applies a delta that the store has committed.
    pub fn publish(&mut self, delta: Delta) {
        for (id, entry) in delta.endpoints {
            self.insert_endpoint(id, entry);
        }
        for (id, entry) in delta.groups {
            self.insert_group(id, entry);
        }
        if self.was_scraped {
            // A scrape has begun since the delta was computed, and its response may lack them.
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

    /// Shows the error log series of an account from now on, even if they are all 0.
    pub fn show_error_log(&mut self, account: AccountId) {
        self.with_error_log.insert(account);
    }

    /// Whether the error log of an account has ever been read.
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

/// Adds to a value, up to [`MAX_VALUE`], and returns the sum.
pub fn sum(value: u64, added: u64) -> u64 {
    value.saturating_add(added).min(MAX_VALUE)
}

/// Converts a bucket bound from seconds to whole milliseconds.
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
