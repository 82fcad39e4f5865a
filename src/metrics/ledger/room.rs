//! Counts the series of the ledger, and checks whether there is room for more.
//!
//! Each series is counted before it can be shown, so that there are never more than
//! [`LedgerLimits::series`], apart from those that every account may have: [`ACCOUNT_SERIES`], and the
//! endpoint `other` with its kinds. [`places`](super::places) decides which new series may use the
//! remaining room.

use std::collections::BTreeMap;
use std::iter;

use crate::domain::judge::content_type::ContentType;
use crate::domain::judge::kind::RequestKind;
use crate::domain::judge::route::Endpoint;
use crate::domain::judge::verdict::{Reason, Warning};
use crate::domain::track::outcome::Outcome;
use crate::domain::words::call::{CallStatus, Direction};
use crate::domain::words::error_log::{ErrorCode, Level, Product};

use super::super::catalog::WEBHOOK_SECONDS;
use super::apply::Delta;
use super::{Cell, EndpointId, GroupId, Ledger, LedgerLimits, LimitShare};

/// The most series of a shown account apart from its endpoints: its finished calls, the outcomes that an
/// earlier version counted by account only, its API requests whose code is over the limit, and the common
/// codes of its error log and those over the limit.
pub const ACCOUNT_SERIES: usize = Direction::ALL.len() * CallStatus::ALL.len()
    + Outcome::ALL.len()
    + 1
    + ErrorCode::COMMON.len()
    + Product::ALL.len() * Level::ALL.len();

/// The series of an endpoint: its warnings, and the common codes of the error log.
pub(super) const ENDPOINT_SERIES: usize = Warning::ALL.len() + ErrorCode::COMMON.len();

/// The series of a histogram: its buckets, `+Inf`, sum and count.
const HISTOGRAM_SERIES: usize = WEBHOOK_SECONDS.len() + 3;

/// Returns the number of series of a group without its codes, but with the one for codes over the limit.
fn group_series(kind: RequestKind) -> usize {
    1 + HISTOGRAM_SERIES + Reason::possible_for(kind).count()
}

/// Returns the number of series that an endpoint has because of its kinds: outcomes if any is caller-facing,
/// content types if any expects TwiML.
fn kinds_series(mut kinds: impl Iterator<Item = RequestKind> + Clone) -> usize {
    let outcomes =
        if kinds.clone().any(RequestKind::is_caller_facing) { Outcome::ALL.len() } else { 0 };
    outcomes + if kinds.any(RequestKind::expects_twiml) { ContentType::ALL.len() } else { 0 }
}

/// Returns the number of series that a new group adds to an endpoint with these kinds.
fn added_series(kinds: impl Iterator<Item = RequestKind> + Clone, kind: RequestKind) -> usize {
    let before = kinds_series(kinds.clone());
    group_series(kind) + kinds_series(kinds.chain([kind])) - before
}

/// Returns the number of series of a new endpoint with its first group, without codes.
pub(super) fn endpoint_series(kind: RequestKind) -> usize {
    ENDPOINT_SERIES + added_series(iter::empty(), kind)
}

/// The series of a group's first code, which always has room if its group has.
pub(super) const FIRST_CODE: usize = 1;

/// The most series that a new endpoint adds with its first group and code.
pub(super) const MAX_ENDPOINT_SERIES: usize = ENDPOINT_SERIES
    + 1
    + HISTOGRAM_SERIES
    + Reason::ALL.len()
    + ContentType::ALL.len()
    + Outcome::ALL.len()
    + FIRST_CODE;

/// Returns the number of series that a cell adds: 1 for a code; all others are counted with their scope.
pub(super) fn cell_series(cell: Cell) -> usize {
    match cell {
        Cell::Requests(_) | Cell::ApiRequests(_) => 1,
        Cell::ErrorLog(Product::Voice, code, Level::Error) if ErrorCode::COMMON.contains(&code) => {
            0
        }
        Cell::ErrorLog(..) => 1,
        Cell::OtherErrors(..) => 0,
        Cell::OtherRequests
        | Cell::OtherApiRequests
        | Cell::Failures(_)
        | Cell::DurationBucket(_)
        | Cell::DurationSum
        | Cell::ContentTypes(_)
        | Cell::Warnings(_)
        | Cell::Calls(..)
        | Cell::Outcomes(_) => 0,
    }
}

impl Ledger {
    /// Returns an upper bound on the number of series.
    pub fn series(&self) -> usize {
        self.series + self.accounts.len() * ACCOUNT_SERIES
    }

    /// Returns the kinds of an endpoint.
    pub(super) fn kinds_of(
        &self,
        endpoint: EndpointId,
    ) -> impl Iterator<Item = RequestKind> + Clone {
        kinds_in(&self.by_group, endpoint)
    }

    /// Returns the number of series that a new group adds, including those of its endpoint for its kind.
    pub(super) fn new_group_series(&self, endpoint: EndpointId, kind: RequestKind) -> usize {
        added_series(self.kinds_of(endpoint), kind)
    }

    /// The same, also considering the new groups of a delta.
    pub(super) fn new_group_series_with(
        &self,
        delta: &Delta,
        endpoint: EndpointId,
        kind: RequestKind,
    ) -> usize {
        let new = kinds_in(&delta.new_groups, endpoint);
        added_series(self.kinds_of(endpoint).chain(new), kind)
    }

    pub(super) fn has_room(
        &self,
        delta: &Delta,
        series: usize,
        share: LimitShare,
        limits: LedgerLimits,
    ) -> bool {
        // If the reserve may be used, leave out the series that every account may have: they could use it up.
        let (known, new) = match share {
            LimitShare::Common => (self.series(), delta.series),
            LimitShare::NewHost | LimitShare::Configured => (
                self.series.saturating_sub(self.shared_series),
                delta.series.saturating_sub(delta.shared_series),
            ),
        };
        known + new + series <= share.series(limits)
    }

    pub(super) fn is_shared(&self, endpoint: EndpointId) -> bool {
        self.endpoints.get(&endpoint).is_some_and(|entry| entry.endpoint == Endpoint::overflow())
    }
}

fn kinds_in(
    groups: &BTreeMap<(EndpointId, RequestKind), GroupId>,
    endpoint: EndpointId,
) -> impl Iterator<Item = RequestKind> + Clone {
    let first = (endpoint, RequestKind::ALL[0]);
    let from_first = groups.range(first..).map(|(key, _)| *key);
    from_first.take_while(move |(owner, _)| *owner == endpoint).map(|(_, kind)| kind)
}
