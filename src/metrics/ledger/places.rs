//! Which new endpoints and groups find room, and what is kept for hosts that have no endpoint yet.
//!
//! Invariant: the ids of one host, which bring one endpoint after the other, take neither the last places of
//! their account nor the last series of all accounts, so that they hide no other host.

use std::collections::{BTreeMap, BTreeSet};

use crate::domain::judge::kind::RequestKind;
use crate::domain::judge::route::Endpoint;
use crate::domain::judge::verdict::Code;

use super::apply::{Delta, Wanted};
use super::{AccountId, Cell, EndpointId, Ledger, LedgerLimits, room};

/// Hosts for which places and series are kept: more than an account's applications usually have.
const RESERVED: usize = 20;
/// The part of a limit that is kept at most: of a small limit most is left for the hosts that are known.
const RESERVED_PART: usize = 5;

type ByEndpoint = BTreeMap<(AccountId, Endpoint), EndpointId>;

/// What first found no room in an account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Overflow {
    /// Where the request went.
    pub endpoint: Endpoint,
    /// What there was no room for.
    pub missing: Exceeded,
}

/// What there is no room for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exceeded {
    /// Another endpoint of the account: it has as many as it may.
    Endpoints,
    /// The series of an endpoint or a kind: all accounts together have as many as they may.
    Series,
    /// The series of a code, likewise: the request stays on its route.
    CodeSeries,
}

/// How much of a limit something new may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LimitShare {
    /// What is not kept: another endpoint of a host, another kind, another code.
    Common,
    /// All of it: the first endpoint of a host.
    NewHost,
    /// All of it, and as many places more as are kept: an endpoint that a pattern of the user's names. It
    /// stands for many, and has to find a place where those have taken all.
    Configured,
}

impl LimitShare {
    /// Places of an account.
    fn places(self, limits: LedgerLimits) -> usize {
        let all = limits.routes_per_account;
        match self {
            Self::Common => all - reserved_places(limits),
            Self::NewHost => all,
            Self::Configured => all + reserved_places(limits),
        }
    }

    /// Series of all accounts.
    pub(super) fn series(self, limits: LedgerLimits) -> usize {
        let all = limits.series;
        match self {
            Self::Common => all - (RESERVED * room::MAX_ENDPOINT_SERIES).min(all / RESERVED_PART),
            Self::NewHost | Self::Configured => all,
        }
    }
}

fn reserved_places(limits: LedgerLimits) -> usize {
    RESERVED.min(limits.routes_per_account / RESERVED_PART)
}

impl Ledger {
    /// The endpoints of an account, without the shared one.
    pub fn endpoints_of(&self, account: AccountId) -> impl Iterator<Item = &Endpoint> {
        own_endpoints(&self.by_endpoint, account)
    }

    /// Whether there is room for a new endpoint, with its first group if it has one.
    pub(super) fn room_for_endpoint(
        &self,
        delta: &Delta,
        key: &(AccountId, Endpoint),
        wanted: Wanted<'_>,
        limits: LedgerLimits,
    ) -> Result<(), Exceeded> {
        let (account, Endpoint { host, .. }) = key;
        let is_new_host = !self.has_host(delta, *account, host);
        let claim = match (wanted.is_configured, is_new_host) {
            (true, _) => LimitShare::Configured,
            (false, true) => LimitShare::NewHost,
            (false, false) => LimitShare::Common,
        };
        let known = self.places_taken.get(account).copied().unwrap_or(0);
        let taken = known + own_endpoints(&delta.new_endpoints, *account).count();
        // Where the limit was lowered, the endpoints of one host may be more than all places.
        let has_place = taken < claim.places(limits)
            || (is_new_host && !self.has_hosts(delta, *account, reserved_places(limits)));
        let series = match wanted.group {
            Some((kind, code)) => {
                room::endpoint_series(kind) + room::cell_series(Cell::Requests(code))
            }
            None => room::ENDPOINT_SERIES,
        };
        if !has_place {
            Err(Exceeded::Endpoints)
        } else if !self.has_room(delta, series, claim, limits) {
            Err(Exceeded::Series)
        } else {
            Ok(())
        }
    }

    /// Whether there is room for a group of a known endpoint.
    pub(super) fn room_for_group(
        &self,
        delta: &Delta,
        endpoint: EndpointId,
        group: Option<(RequestKind, Code)>,
        limits: LedgerLimits,
    ) -> Result<(), Exceeded> {
        let Some((kind, code)) = group else { return Ok(()) };
        if self.group(delta, endpoint, kind).is_some() {
            return Ok(());
        }
        let series = self.new_group_series_with(delta, endpoint, kind)
            + room::cell_series(Cell::Requests(code));
        let has_room = self.has_room(delta, series, LimitShare::Common, limits);
        has_room.then_some(()).ok_or(Exceeded::Series)
    }

    fn has_host(&self, delta: &Delta, account: AccountId, host: &str) -> bool {
        [&self.by_endpoint, &delta.new_endpoints].into_iter().any(|endpoints| {
            from_host(endpoints, account, host).next().is_some_and(|next| next.host == host)
        })
    }

    /// Whether an account has endpoints of so many hosts.
    fn has_hosts(&self, delta: &Delta, account: AccountId, count: usize) -> bool {
        let mut hosts = BTreeSet::new();
        let known = self.endpoints_of(account);
        let mut all = known.chain(own_endpoints(&delta.new_endpoints, account));
        count == 0
            || all.any(|endpoint| {
                hosts.insert(&endpoint.host);
                hosts.len() >= count
            })
    }
}

/// The endpoints of an account, without the shared one.
fn own_endpoints(endpoints: &ByEndpoint, account: AccountId) -> impl Iterator<Item = &Endpoint> {
    from_host(endpoints, account, "").filter(|endpoint| **endpoint != Endpoint::overflow())
}

/// The endpoints of an account from a host on.
fn from_host<'a>(
    endpoints: &'a ByEndpoint,
    account: AccountId,
    host: &str,
) -> impl Iterator<Item = &'a Endpoint> {
    let first = (account, Endpoint { host: host.to_owned(), route: String::new() });
    let from_first = endpoints.range(first..).map(|(key, _)| key);
    from_first.take_while(move |(of, _)| *of == account).map(|(_, endpoint)| endpoint)
}
