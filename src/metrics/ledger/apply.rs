//! Computes the changes that facts make to the ledger, without making them.

mod place;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;

use crate::domain::judge::kind::RequestKind;
use crate::domain::judge::observe::Observation;
use crate::domain::judge::reported::Reported;
use crate::domain::judge::route::Endpoint;
use crate::domain::judge::twiml::Malformation;
use crate::domain::judge::verdict::{Code, Reason};
use crate::domain::track::twilio_time::after;
use crate::domain::words::error_log::{ErrorCode, Level};
use crate::domain::words::sid::{CallSid, ErrorLogSid};

use super::super::catalog::WEBHOOK_SECONDS;
use super::super::exemplar::Exemplar;
pub(super) use place::Target;

use super::{
    AccountId, Cell, EndpointEntry, EndpointId, Entry, Exceeded, Fact, GroupEntry, GroupId, Hold,
    Ledger, LedgerLimits, LimitShare, Overflow, Scope, bound_ms, room, sum,
};

/// A failed request as it was counted: if over a limit, under the shared endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FailedRequest {
    /// The account.
    pub account: AccountId,
    /// The endpoint that it was counted under.
    pub endpoint: EndpointId,
    /// The kind of request.
    pub kind: RequestKind,
    /// When Twilio recorded the response.
    pub at: Timestamp,
    /// The code label.
    pub code: Code,
    /// Why it failed.
    pub reason: Reason,
    /// The XML rule that the response broke, if that is why.
    pub malformation: Option<Malformation>,
    /// How long it took, in milliseconds.
    pub duration_ms: Option<u64>,
    /// The call that it belongs to.
    pub call_sid: CallSid,
}

/// An error log entry as it was counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CountedReport {
    /// The account.
    pub account: AccountId,
    /// The entry's SID, the same whether it is read or pushed.
    pub sid: ErrorLogSid,
    /// When it happened.
    pub at: Timestamp,
    /// The endpoint of the webhook that it concerns, if any.
    pub endpoint: Option<EndpointId>,
    /// The error code.
    pub code: ErrorCode,
    /// The severity.
    pub level: Level,
    /// The call that it belongs to, if any.
    pub call_sid: Option<CallSid>,
}

/// The maximum number of error codes of an account: Twilio has hundreds, but an application encounters about a
/// dozen.
const MAX_ERROR_CODES: usize = 100;

/// The endpoint and group under which an event is counted.
#[derive(Clone, Copy)]
struct Placement {
    endpoint: EndpointId,
    group: GroupId,
    /// Whether the group is new.
    is_new_group: bool,
    /// The limit that was exceeded, if the endpoint is the shared one for that reason.
    exceeded: Option<Exceeded>,
}

/// The rules by which a fact of an account is counted.
#[derive(Clone, Copy)]
struct CountingRules {
    account: AccountId,
    limits: LedgerLimits,
    /// The hold of endpoints and groups that it creates.
    hold: Hold,
    /// Whether these are shown at once only because there has been no scrape yet.
    is_released_unscraped: bool,
}

/// How much later an event must be for the time of its endpoint's last event to be updated.
const LAST_EVENT_STEP: Duration = Duration::from_secs(60 * 60);

/// The changes that facts make to the ledger.
#[derive(Clone, Debug, Default)]
pub struct Delta {
    /// New endpoints.
    pub endpoints: BTreeMap<EndpointId, EndpointEntry>,
    /// New groups.
    pub groups: BTreeMap<GroupId, GroupEntry>,
    /// The increases of values.
    pub added: BTreeMap<(Scope, Cell), u64>,
    /// Times of the last event of known endpoints, where at least an hour later than the recorded one.
    pub last_events: BTreeMap<EndpointId, Timestamp>,
    /// The last call behind each failure reason and each bucket.
    pub exemplars: BTreeMap<(Scope, Cell), Exemplar>,
    /// The failed requests, in the order of counting.
    pub failures: Vec<FailedRequest>,
    /// The error log entries, in the order of counting.
    pub reports: Vec<CountedReport>,
    /// New endpoints and groups that are shown at once only because there has been no scrape yet.
    pub(super) released_unscraped: Vec<Scope>,
    /// The number of events and error log entries over a limit, by account.
    pub overflowed: BTreeMap<AccountId, u64>,
    /// The first webhook request or entry over a limit in each account.
    pub first_overflows: BTreeMap<AccountId, Overflow>,
    pub(super) new_endpoints: BTreeMap<(AccountId, Endpoint), EndpointId>,
    pub(super) new_groups: BTreeMap<(EndpointId, RequestKind), GroupId>,
    new_error_codes: BTreeMap<AccountId, BTreeSet<ErrorCode>>,
    /// The number of new series.
    pub(super) series: usize,
    /// The number of new series of the shared endpoints (`other`).
    pub(super) shared_series: usize,
}

impl Ledger {
    /// Computes the changes that facts make, without changing anything.
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
                    Fact::Outcome { outcome, decided_by, at, is_history } => {
                        let rules = self.rules(entry.account, *is_history, limits, now);
                        let endpoint = self.find_place(&mut delta, decided_by, rules).endpoint;
                        delta.add(Scope::Endpoint(endpoint), Cell::Outcomes(*outcome), 1);
                        let received_at = entry.received_at.unwrap_or(*at);
                        self.note_event(&mut delta, endpoint, received_at.max(*at));
                    }
                    Fact::Reported { reported, at, is_history } => {
                        let rules = self.rules(entry.account, *is_history, limits, now);
                        let times = (*at, entry.received_at.unwrap_or(now));
                        let counted = self.apply_report(&mut delta, reported, times, rules);
                        if let Some(endpoint) = counted.endpoint {
                            let received_at = entry.received_at.unwrap_or(*at);
                            self.note_event(&mut delta, endpoint, received_at.max(*at));
                        }
                        delta.reports.push(counted);
                    }
                    Fact::Event { observation, .. }
                        if observation.kind == RequestKind::ApiRequest =>
                    {
                        let code = Cell::ApiRequests(observation.verdict.code);
                        let has_room =
                            self.reserve_series(&mut delta, (account, code), false, limits);
                        let cell = if has_room { code } else { Cell::OtherApiRequests };
                        delta.add(account, cell, 1);
                        if !has_room {
                            *delta.overflowed.entry(entry.account).or_default() += 1;
                        }
                    }
                    Fact::Event { observation, call_sid, at, is_history } => {
                        let rules = self.rules(entry.account, *is_history, limits, now);
                        let (endpoint, group) = self.apply_event(&mut delta, observation, rules);
                        let last_event_at = (*at).max(entry.received_at.unwrap_or(*at));
                        self.note_event(&mut delta, endpoint, last_event_at);
                        let counted_at = entry.received_at.unwrap_or(now);
                        delta.add_exemplars(group, observation, *call_sid, counted_at);
                        delta.failures.extend(observation.verdict.failure.map(|reason| {
                            FailedRequest {
                                account: entry.account,
                                endpoint,
                                kind: observation.kind,
                                at: *at,
                                code: observation.verdict.code,
                                reason,
                                malformation: observation.verdict.malformation,
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

    /// Returns the rules by which a fact of an account is counted.
    fn rules(
        &self,
        account: AccountId,
        is_history: bool,
        limits: LedgerLimits,
        now: Timestamp,
    ) -> CountingRules {
        let skips_hold = is_history || limits.hold_back.is_zero();
        let is_released = skips_hold || !self.was_scraped;
        let is_released_unscraped = is_released && !skips_hold;
        let hold = Hold { is_released, held_since: now, shown_at: None };
        CountingRules { account, limits, hold, is_released_unscraped }
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
        event: &Observation,
        rules: CountingRules,
    ) -> (EndpointId, Scope) {
        let code = Cell::Requests(event.verdict.code);
        let place = self.find_place(delta, event, rules);
        let Placement { endpoint: endpoint_id, is_new_group, exceeded, .. } = place;
        let (endpoint, group) = (Scope::Endpoint(endpoint_id), Scope::Group(place.group));
        let code_has_room = self.reserve_series(delta, (group, code), is_new_group, rules.limits);
        delta.add(group, if code_has_room { code } else { Cell::OtherRequests }, 1);
        let exceeded = exceeded.or((!code_has_room).then_some(Exceeded::CodeSeries));
        if let Some(exceeded) = exceeded {
            delta.note_overflow(rules.account, &event.endpoint, exceeded);
        }
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

    fn apply_report(
        &self,
        delta: &mut Delta,
        reported: &Reported,
        (at, counted_at): (Timestamp, Timestamp),
        rules: CountingRules,
    ) -> CountedReport {
        let endpoint = reported.endpoint.as_ref().map(|endpoint| {
            let target = Target { endpoint, is_configured: reported.is_configured, group: None };
            let (id, exceeded) = self.find_endpoint(delta, target, rules);
            if let Some(exceeded) = exceeded {
                delta.note_overflow(rules.account, endpoint, exceeded);
            }
            id
        });
        let Reported { product, level, sid, call_sid, .. } = *reported;
        let account = rules.account;
        let code = self.error_code(delta, reported.code, account);
        let scope = endpoint.map_or(Scope::Account(account), Scope::Endpoint);
        let cell = Cell::ErrorLog(product, code, level);
        let has_own_cell = code != ErrorCode::Other || endpoint.is_some();
        let has_room =
            has_own_cell && self.reserve_series(delta, (scope, cell), false, rules.limits);
        let counted_as = if has_room {
            (scope, cell)
        } else {
            (Scope::Account(account), Cell::OtherErrors(product, level))
        };
        if code != reported.code || (has_own_cell && !has_room) {
            *delta.overflowed.entry(account).or_default() += 1;
        }
        delta.add(counted_as.0, counted_as.1, 1);
        if let Some(call_sid) = call_sid {
            delta
                .exemplars
                .insert(counted_as, Exemplar { call_sid, duration_ms: None, at: counted_at });
        }
        CountedReport { account, sid, at, endpoint, code, level, call_sid }
    }

    /// Returns the code under which to count an entry: `other` for new codes over [`MAX_ERROR_CODES`].
    fn error_code(&self, delta: &mut Delta, code: ErrorCode, account: AccountId) -> ErrorCode {
        let known = self.error_codes.get(&account);
        let new = delta.new_error_codes.entry(account).or_default();
        let is_known = known.is_some_and(|known| known.contains(&code)) || new.contains(&code);
        if is_known {
            code
        } else if known.map_or(0, BTreeSet::len) + new.len() < MAX_ERROR_CODES {
            new.insert(code);
            code
        } else {
            ErrorCode::Other
        }
    }

    /// Reserves a series for a code unless it has one, and returns whether there is room for it. The first
    /// code of a group always has room.
    fn reserve_series(
        &self,
        delta: &mut Delta,
        (scope, code): (Scope, Cell),
        is_new_group: bool,
        limits: LedgerLimits,
    ) -> bool {
        let is_known = self.cells.get(&scope).is_some_and(|cells| cells.contains_key(&code));
        if is_known || delta.added.contains_key(&(scope, code)) {
            return true;
        }
        let series = room::cell_series(code);
        let has_room = is_new_group || self.has_room(delta, series, LimitShare::Common, limits);
        delta.series += if has_room { series } else { 0 };
        has_room
    }
}

impl Delta {
    /// Records the call behind a failure and a bucket, at the time of counting: an event's own time may be
    /// much older, and exemplars must be in order.
    fn add_exemplars(
        &mut self,
        group: Scope,
        event: &Observation,
        call_sid: CallSid,
        at: Timestamp,
    ) {
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
        let added = self.added.entry((scope, cell)).or_default();
        *added = sum(*added, count);
    }

    fn is_shared(&self, endpoint: EndpointId) -> bool {
        self.endpoints.get(&endpoint).is_some_and(|entry| entry.endpoint == Endpoint::overflow())
    }

    fn note_overflow(&mut self, account: AccountId, endpoint: &Endpoint, exceeded: Exceeded) {
        *self.overflowed.entry(account).or_default() += 1;
        let first = || Overflow { endpoint: endpoint.clone(), exceeded };
        self.first_overflows.entry(account).or_insert_with(first);
    }
}

/// Returns the bound of the bucket that a duration in milliseconds falls into; `None`: above all bounds.
pub(super) fn duration_bound(duration_ms: u64) -> Option<u64> {
    WEBHOOK_SECONDS.iter().map(|&bound| bound_ms(bound)).find(|&bound| duration_ms <= bound)
}
