//! Finds or creates the endpoint and group under which an event is counted.

use jiff::Timestamp;

use crate::domain::judge::kind::RequestKind;
use crate::domain::judge::observe::Observation;
use crate::domain::judge::route::Endpoint;
use crate::domain::judge::verdict::Code;

use super::super::{
    AccountId, EndpointEntry, EndpointId, Exceeded, GroupEntry, GroupId, Ledger, Scope, room,
};
use super::{CountingRules, Delta, Placement};

/// Where to count an event, an outcome or an error log entry, if there is room.
#[derive(Clone, Copy)]
pub(in super::super) struct Target<'a> {
    /// Its endpoint.
    pub(in super::super) endpoint: &'a Endpoint,
    /// Whether the endpoint comes from a configured pattern.
    pub(in super::super) is_configured: bool,
    /// The kind of the group, and the code.
    pub(in super::super) group: Option<(RequestKind, Code)>,
}

impl Ledger {
    /// Returns where to count an event or the outcome that it decides: both use the same endpoint and group,
    /// which are created if needed. When an outcome is counted, its event may have been counted under
    /// another endpoint, by other patterns, or its endpoint may have been retired since.
    pub(super) fn find_place(
        &self,
        delta: &mut Delta,
        event: &Observation,
        rules: CountingRules,
    ) -> Placement {
        let group = Some((event.kind, event.verdict.code));
        let Observation { endpoint, is_configured, .. } = event;
        let target = Target { endpoint, is_configured: *is_configured, group };
        let (endpoint, exceeded) = self.find_endpoint(delta, target, rules);
        let is_new_group = self.group(delta, endpoint, event.kind).is_none();
        let group = self.find_group(delta, endpoint, event.kind, rules);
        Placement { endpoint, group, is_new_group, exceeded }
    }

    /// Returns the endpoint to count under, and the limit exceeded if it isn't the target's own.
    pub(super) fn find_endpoint(
        &self,
        delta: &mut Delta,
        target: Target<'_>,
        rules: CountingRules,
    ) -> (EndpointId, Option<Exceeded>) {
        if *target.endpoint == Endpoint::overflow() {
            return (self.find_overflow(delta, rules), None);
        }
        let key = (rules.account, target.endpoint.clone());
        let known = self.endpoint(delta, &key);
        let room = match known {
            Some(id) => self.room_for_group(delta, id, target.group, rules.limits),
            None => self.room_for_endpoint(delta, &key, target, rules.limits),
        };
        match room {
            Ok(()) => (known.unwrap_or_else(|| self.add_endpoint(delta, key, rules)), None),
            Err(exceeded) => (self.find_overflow(delta, rules), Some(exceeded)),
        }
    }

    /// Returns the shared endpoint for everything over a limit; it isn't limited itself.
    fn find_overflow(&self, delta: &mut Delta, rules: CountingRules) -> EndpointId {
        let key = (rules.account, Endpoint::overflow());
        self.endpoint(delta, &key).unwrap_or_else(|| self.add_endpoint(delta, key, rules))
    }

    fn endpoint(&self, delta: &Delta, key: &(AccountId, Endpoint)) -> Option<EndpointId> {
        self.by_endpoint.get(key).or_else(|| delta.new_endpoints.get(key)).copied()
    }

    fn add_endpoint(
        &self,
        delta: &mut Delta,
        key: (AccountId, Endpoint),
        rules: CountingRules,
    ) -> EndpointId {
        let last = self.endpoints.last_key_value().map(|(id, _)| *id);
        let last = last.max(delta.endpoints.last_key_value().map(|(id, _)| *id));
        let is_shared = key.1 == Endpoint::overflow();
        let id = EndpointId(last.map_or(1, |EndpointId(id)| id + 1));
        let entry = EndpointEntry {
            account: rules.account,
            endpoint: key.1.clone(),
            hold: rules.hold,
            last_event_at: Timestamp::MIN,
        };
        delta.endpoints.insert(id, entry);
        delta.new_endpoints.insert(key, id);
        delta.series += room::ENDPOINT_SERIES;
        delta.shared_series += if is_shared { room::ENDPOINT_SERIES } else { 0 };
        delta.released_unscraped.extend(rules.is_released_unscraped.then_some(Scope::Endpoint(id)));
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
        rules: CountingRules,
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
        delta.groups.insert(id, GroupEntry { endpoint, kind, hold: rules.hold });
        delta.new_groups.insert((endpoint, kind), id);
        delta.released_unscraped.extend(rules.is_released_unscraped.then_some(Scope::Group(id)));
        id
    }
}
