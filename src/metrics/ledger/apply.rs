//! What facts change, computed apart from the change.

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
pub(super) use place::Wanted;

use super::{
    AccountId, Cell, EndpointEntry, EndpointId, Entry, Exceeded, Fact, GroupEntry, GroupId, Hold,
    Ledger, LedgerLimits, LimitShare, Overflow, Scope, bound_ms, room, sum,
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
    /// Which rule of XML was broken, where that is why.
    pub malformation: Option<Malformation>,
    /// How long it took, in milliseconds.
    pub duration_ms: Option<u64>,
    /// The call that leads back to it.
    pub call_sid: CallSid,
}

/// An entry of the error log, as it was counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CountedReport {
    /// Whose it is.
    pub account: AccountId,
    /// What makes it the same entry wherever it shows up.
    pub sid: ErrorLogSid,
    /// When it happened.
    pub at: Timestamp,
    /// The endpoint of the webhook that it is about.
    pub endpoint: Option<EndpointId>,
    /// What went wrong.
    pub code: ErrorCode,
    /// How bad it is.
    pub level: Level,
    /// The call that leads back to it.
    pub call_sid: Option<CallSid>,
}

/// Most error codes of an account: Twilio has hundreds, an application runs into a dozen.
const MAX_ERROR_CODES: usize = 100;

/// Where an event is counted.
#[derive(Clone, Copy)]
struct CountedAt {
    endpoint: EndpointId,
    group: GroupId,
    /// Whether the group is new.
    is_first: bool,
    /// What there is no room for in a place of its own.
    missing: Option<Exceeded>,
}

/// What an event of an account is counted by.
#[derive(Clone, Copy)]
struct CountingRules {
    account: AccountId,
    limits: LedgerLimits,
    /// Of endpoints and groups that it brings.
    hold: Hold,
    /// Whether those are shown at once only because nothing has scraped yet.
    is_released_unscraped: bool,
}

/// How much later an event has to be for its endpoint's time to be written anew.
const LAST_EVENT_STEP: Duration = Duration::from_secs(60 * 60);

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
    /// The entries of the error log, in the order of counting.
    pub reports: Vec<CountedReport>,
    /// Endpoints and groups that are new and shown at once only because nothing has scraped yet.
    pub(super) released_unscraped: Vec<Scope>,
    /// Events whose host and route, or code, found no room, by account.
    pub overflowed: BTreeMap<AccountId, u64>,
    /// What first found no room in each account.
    pub first_overflows: BTreeMap<AccountId, Overflow>,
    pub(super) new_endpoints: BTreeMap<(AccountId, Endpoint), EndpointId>,
    pub(super) new_groups: BTreeMap<(EndpointId, RequestKind), GroupId>,
    new_error_codes: BTreeMap<AccountId, BTreeSet<ErrorCode>>,
    /// Series that are new.
    pub(super) series: usize,
    /// Those of them that belong to endpoints `other`.
    pub(super) shared_series: usize,
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
                    Fact::Outcome { outcome, decided_by, at, is_history } => {
                        let terms = self.terms(entry.account, *is_history, limits, now);
                        let endpoint = self.find_place(&mut delta, decided_by, terms).endpoint;
                        delta.add(Scope::Endpoint(endpoint), Cell::Outcomes(*outcome), 1);
                        let learnt_at = entry.learnt_at.unwrap_or(*at);
                        self.note_event(&mut delta, endpoint, learnt_at.max(*at));
                    }
                    Fact::Reported { reported, at, is_history } => {
                        let terms = self.terms(entry.account, *is_history, limits, now);
                        let times = (*at, entry.learnt_at.unwrap_or(now));
                        let counted = self.apply_report(&mut delta, reported, times, terms);
                        if let Some(endpoint) = counted.endpoint {
                            let learnt_at = entry.learnt_at.unwrap_or(*at);
                            self.note_event(&mut delta, endpoint, learnt_at.max(*at));
                        }
                        delta.reports.push(counted);
                    }
                    Fact::Event { observation, .. }
                        if observation.kind == RequestKind::ApiRequest =>
                    {
                        let code = Cell::ApiRequests(observation.verdict.code);
                        let has_room = self.makes_room(&mut delta, (account, code), false, limits);
                        let cell = if has_room { code } else { Cell::OtherApiRequests };
                        delta.add(account, cell, 1);
                        if !has_room {
                            *delta.overflowed.entry(entry.account).or_default() += 1;
                        }
                    }
                    Fact::Event { observation, call_sid, at, is_history } => {
                        let terms = self.terms(entry.account, *is_history, limits, now);
                        let (endpoint, group) = self.apply_event(&mut delta, observation, terms);
                        let last_event_at = (*at).max(entry.learnt_at.unwrap_or(*at));
                        self.note_event(&mut delta, endpoint, last_event_at);
                        let counted_at = entry.learnt_at.unwrap_or(now);
                        delta.remember(group, observation, *call_sid, counted_at);
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

    /// What a fact of an account is counted by.
    fn terms(
        &self,
        account: AccountId,
        is_history: bool,
        limits: LedgerLimits,
        now: Timestamp,
    ) -> CountingRules {
        let is_known_at_once = is_history || limits.hold_back.is_zero();
        let is_released = is_known_at_once || !self.was_scraped;
        let is_released_unscraped = is_released && !is_known_at_once;
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
        terms: CountingRules,
    ) -> (EndpointId, Scope) {
        let code = Cell::Requests(event.verdict.code);
        let place = self.find_place(delta, event, terms);
        let CountedAt { endpoint: endpoint_id, is_first, missing, .. } = place;
        let (endpoint, group) = (Scope::Endpoint(endpoint_id), Scope::Group(place.group));
        let code_has_room = self.makes_room(delta, (group, code), is_first, terms.limits);
        delta.add(group, if code_has_room { code } else { Cell::OtherRequests }, 1);
        let missing = missing.or((!code_has_room).then_some(Exceeded::CodeSeries));
        if let Some(missing) = missing {
            delta.note_overflow(terms.account, &event.endpoint, missing);
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
        terms: CountingRules,
    ) -> CountedReport {
        let endpoint = reported.endpoint.as_ref().map(|endpoint| {
            let wanted = Wanted { endpoint, is_configured: reported.is_configured, group: None };
            let (id, missing) = self.find_endpoint(delta, wanted, terms);
            if let Some(missing) = missing {
                delta.note_overflow(terms.account, endpoint, missing);
            }
            id
        });
        let Reported { product, level, sid, call_sid, .. } = *reported;
        let account = terms.account;
        let code = self.error_code(delta, reported.code, account);
        let scope = endpoint.map_or(Scope::Account(account), Scope::Endpoint);
        let cell = Cell::ErrorLog(product, code, level);
        let tells_code = code != ErrorCode::Other || endpoint.is_some();
        let has_room = tells_code && self.makes_room(delta, (scope, cell), false, terms.limits);
        let counted_as = if has_room {
            (scope, cell)
        } else {
            (Scope::Account(account), Cell::OtherErrors(product, level))
        };
        if code != reported.code || (tells_code && !has_room) {
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

    /// The code under which an entry is counted: of too many, further ones are `other`.
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

    /// Whether a code may have a series of its own, which is counted if it is new. The first of a group
    /// has one in any case.
    fn makes_room(
        &self,
        delta: &mut Delta,
        (scope, code): (Scope, Cell),
        is_first: bool,
        limits: LedgerLimits,
    ) -> bool {
        let is_known = self.cells.get(&scope).is_some_and(|cells| cells.contains_key(&code));
        if is_known || delta.added.contains_key(&(scope, code)) {
            return true;
        }
        let series = room::cell_series(code);
        let has_room = is_first || self.has_room(delta, series, LimitShare::Common, limits);
        delta.series += if has_room { series } else { 0 };
        has_room
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
        let added = self.added.entry((scope, cell)).or_default();
        *added = sum(*added, count);
    }

    fn is_shared(&self, endpoint: EndpointId) -> bool {
        self.endpoints.get(&endpoint).is_some_and(|entry| entry.endpoint == Endpoint::overflow())
    }

    fn note_overflow(&mut self, account: AccountId, endpoint: &Endpoint, missing: Exceeded) {
        *self.overflowed.entry(account).or_default() += 1;
        let first = || Overflow { endpoint: endpoint.clone(), missing };
        self.first_overflows.entry(account).or_insert_with(first);
    }
}

/// The bound of the bucket that a duration in milliseconds falls into.
pub(super) fn duration_bound(duration_ms: u64) -> Option<u64> {
    WEBHOOK_SECONDS.iter().map(|&bound| bound_ms(bound)).find(|&bound| duration_ms <= bound)
}
