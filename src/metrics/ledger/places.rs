//! Decides which new endpoints and groups get their own series, and reserves some for new hosts.
//!
//! Invariant: if the URLs of one host contain IDs, so that each adds an endpoint, they never use up the
//! endpoints of their account or the series of all accounts, and can't hide other hosts.

use std::collections::{BTreeMap, BTreeSet};

use crate::domain::judge::kind::RequestKind;
use crate::domain::judge::route::Endpoint;
use crate::domain::judge::verdict::Code;

use super::apply::{Delta, Target};
use super::{AccountId, Cell, EndpointId, Ledger, LedgerLimits, room};

/// Hosts to reserve endpoints and series for: more than an account's applications usually have.
const RESERVED_HOSTS: usize = 20;
/// At most a limit divided by this is reserved, so that known hosts can use most of a small limit.
const RESERVED_DIVISOR: usize = 5;

type ByEndpoint = BTreeMap<(AccountId, Endpoint), EndpointId>;

/// The first request or entry of an account that exceeded a limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Overflow {
    /// Its endpoint.
    pub endpoint: Endpoint,
    /// The limit that it exceeded.
    pub exceeded: Exceeded,
}

/// The limit that was exceeded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exceeded {
    /// The limit on the endpoints of the account.
    Endpoints,
    /// The limit on the series of all accounts, by a new endpoint or kind.
    Series,
    /// The same limit, by a new code: the request is still counted under its route.
    CodeSeries,
}

/// How much of a limit a new endpoint, group or code may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LimitShare {
    /// All that isn't reserved: for another endpoint of a host, another kind or another code.
    Common,
    /// All of it: for the first endpoint of a host.
    NewHost,
    /// All of it, and as many more endpoints as are reserved: for an endpoint of a configured pattern. It
    /// stands for many endpoints, and must fit even when these have reached the limit.
    Configured,
}

impl LimitShare {
    /// Returns the limit on the endpoints of an account.
    fn endpoints(self, limits: LedgerLimits) -> usize {
        let all = limits.routes_per_account;
        match self {
            Self::Common => all - reserved_endpoints(limits),
            Self::NewHost => all,
            Self::Configured => all + reserved_endpoints(limits),
        }
    }

    /// Returns the limit on the series of all accounts.
    pub(super) fn series(self, limits: LedgerLimits) -> usize {
        let all = limits.series;
        match self {
            Self::Common => {
                all - (RESERVED_HOSTS * room::MAX_ENDPOINT_SERIES).min(all / RESERVED_DIVISOR)
            }
            Self::NewHost | Self::Configured => all,
        }
    }
}

fn reserved_endpoints(limits: LedgerLimits) -> usize {
    RESERVED_HOSTS.min(limits.routes_per_account / RESERVED_DIVISOR)
}

impl Ledger {
    /// Returns the endpoints of an account, without the shared one.
    pub fn endpoints_of(&self, account: AccountId) -> impl Iterator<Item = &Endpoint> {
        own_endpoints(&self.by_endpoint, account)
    }

    /// Checks that there is room for a new endpoint, with its first group if it has one.
    pub(super) fn room_for_endpoint(
        &self,
        delta: &Delta,
        key: &(AccountId, Endpoint),
        target: Target<'_>,
        limits: LedgerLimits,
    ) -> Result<(), Exceeded> {
        let (account, Endpoint { host, .. }) = key;
        let is_new_host = !self.has_host(delta, *account, host);
        let share = match (target.is_configured, is_new_host) {
            (true, _) => LimitShare::Configured,
            (false, true) => LimitShare::NewHost,
            (false, false) => LimitShare::Common,
        };
        let known = self.endpoint_counts.get(account).copied().unwrap_or(0);
        let taken = known + own_endpoints(&delta.new_endpoints, *account).count();
        // If the limit has been lowered, the endpoints of one host may exceed it.
        let is_below_limit = taken < share.endpoints(limits)
            || (is_new_host && !self.has_hosts(delta, *account, reserved_endpoints(limits)));
        let series = match target.group {
            Some((kind, code)) => {
                room::endpoint_series(kind) + room::cell_series(Cell::Requests(code))
            }
            None => room::ENDPOINT_SERIES,
        };
        if !is_below_limit {
            Err(Exceeded::Endpoints)
        } else if !self.has_room(delta, series, share, limits) {
            Err(Exceeded::Series)
        } else {
            Ok(())
        }
    }

    /// Checks that there is room for a group of a known endpoint.
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

    /// Whether an account has endpoints of at least `count` hosts.
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

/// Returns the endpoints of an account, without the shared one.
fn own_endpoints(endpoints: &ByEndpoint, account: AccountId) -> impl Iterator<Item = &Endpoint> {
    from_host(endpoints, account, "").filter(|endpoint| **endpoint != Endpoint::overflow())
}

/// Returns the endpoints of an account, sorted by host, starting at `host`.
fn from_host<'a>(
    endpoints: &'a ByEndpoint,
    account: AccountId,
    host: &str,
) -> impl Iterator<Item = &'a Endpoint> {
    let first = (account, Endpoint { host: host.to_owned(), route: String::new() });
    let from_first = endpoints.range(first..).map(|(key, _)| key);
    from_first.take_while(move |(owner, _)| *owner == account).map(|(_, endpoint)| endpoint)
}
