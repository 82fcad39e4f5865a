//! Where an event is counted: the endpoint and the group that it finds, or makes.

use jiff::Timestamp;

use crate::domain::judge::kind::RequestKind;
use crate::domain::judge::observe::Observation;
use crate::domain::judge::route::Endpoint;
use crate::domain::judge::verdict::Code;

use super::super::{
    AccountId, EndpointEntry, EndpointId, Exceeded, GroupEntry, GroupId, Ledger, Scope, room,
};
use super::{CountedAt, CountingRules, Delta};

/// A place that something has to be counted at.
#[derive(Clone, Copy)]
pub(in super::super) struct Wanted<'a> {
    /// Its endpoint.
    pub(in super::super) endpoint: &'a Endpoint,
    /// Whether a pattern of the user's names the endpoint.
    pub(in super::super) is_configured: bool,
    /// The group of it, with the first code.
    pub(in super::super) group: Option<(RequestKind, Code)>,
}

impl Ledger {
    /// Where an event is counted, or the outcome that it decides: both have the same place, which is made
    /// where there is none. The event itself may have been counted elsewhere, by other patterns, or its
    /// endpoint may have retired since.
    pub(super) fn find_place(
        &self,
        delta: &mut Delta,
        event: &Observation,
        terms: CountingRules,
    ) -> CountedAt {
        let group = Some((event.kind, event.verdict.code));
        let Observation { endpoint, is_configured, .. } = event;
        let wanted = Wanted { endpoint, is_configured: *is_configured, group };
        let (endpoint, missing) = self.find_endpoint(delta, wanted, terms);
        let is_first = self.group(delta, endpoint, event.kind).is_none();
        let group = self.find_group(delta, endpoint, event.kind, terms);
        CountedAt { endpoint, group, is_first, missing }
    }

    /// The endpoint under which something is counted, and what there is no room for in its own.
    pub(super) fn find_endpoint(
        &self,
        delta: &mut Delta,
        wanted: Wanted<'_>,
        terms: CountingRules,
    ) -> (EndpointId, Option<Exceeded>) {
        if *wanted.endpoint == Endpoint::overflow() {
            return (self.find_overflow(delta, terms), None);
        }
        let key = (terms.account, wanted.endpoint.clone());
        let known = self.endpoint(delta, &key);
        let room = match known {
            Some(id) => self.room_for_group(delta, id, wanted.group, terms.limits),
            None => self.room_for_endpoint(delta, &key, wanted, terms.limits),
        };
        match room {
            Ok(()) => (known.unwrap_or_else(|| self.add_endpoint(delta, key, terms)), None),
            Err(missing) => (self.find_overflow(delta, terms), Some(missing)),
        }
    }

    /// The endpoint that all share that found no room: there is room for it in any case.
    fn find_overflow(&self, delta: &mut Delta, terms: CountingRules) -> EndpointId {
        let key = (terms.account, Endpoint::overflow());
        self.endpoint(delta, &key).unwrap_or_else(|| self.add_endpoint(delta, key, terms))
    }

    fn endpoint(&self, delta: &Delta, key: &(AccountId, Endpoint)) -> Option<EndpointId> {
        self.by_endpoint.get(key).or_else(|| delta.new_endpoints.get(key)).copied()
    }

    fn add_endpoint(
        &self,
        delta: &mut Delta,
        key: (AccountId, Endpoint),
        terms: CountingRules,
    ) -> EndpointId {
        let last = self.endpoints.last_key_value().map(|(id, _)| *id);
        let last = last.max(delta.endpoints.last_key_value().map(|(id, _)| *id));
        let is_shared = key.1 == Endpoint::overflow();
        let id = EndpointId(last.map_or(1, |EndpointId(id)| id + 1));
        let entry = EndpointEntry {
            account: terms.account,
            endpoint: key.1.clone(),
            hold: terms.hold,
            last_event_at: Timestamp::MIN,
        };
        delta.endpoints.insert(id, entry);
        delta.new_endpoints.insert(key, id);
        delta.series += room::ENDPOINT_SERIES;
        delta.shared_series += if is_shared { room::ENDPOINT_SERIES } else { 0 };
        delta.released_unscraped.extend(terms.is_released_unscraped.then_some(Scope::Endpoint(id)));
        id
    }

    pub(in super::super) fn group(
        &self,
        delta: &Delta,
        endpoint: EndpointId,
        kind: RequestKind,
    ) -> Option<GroupId> {
        let key = (endpoint, kind);
        self.by_group.get(&key).or_else(|| delta.new_groups.get(&key)).copied()
    }

    fn find_group(
        &self,
        delta: &mut Delta,
        endpoint: EndpointId,
        kind: RequestKind,
        terms: CountingRules,
    ) -> GroupId {
        if let Some(id) = self.group(delta, endpoint, kind) {
            return id;
        }
        let last = self.groups.last_key_value().map(|(id, _)| *id);
        let last = last.max(delta.groups.last_key_value().map(|(id, _)| *id));
        let id = GroupId(last.map_or(1, |GroupId(id)| id + 1));
        let series = self.new_group_series_with(delta, endpoint, kind);
        delta.series += series;
        if self.is_shared(endpoint) || delta.is_shared(endpoint) {
            delta.shared_series += series + room::FIRST_CODE;
        }
        delta.groups.insert(id, GroupEntry { endpoint, kind, hold: terms.hold });
        delta.new_groups.insert((endpoint, kind), id);
        delta.released_unscraped.extend(terms.is_released_unscraped.then_some(Scope::Group(id)));
        id
    }
}
