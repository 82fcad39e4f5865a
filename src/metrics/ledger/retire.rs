//! Letting go of what has no events any more, so that the ledger stays bounded over years.

use jiff::Timestamp;

use crate::domain::route::Endpoint;

use super::{AccountId, EndpointId, GroupId, Ledger, Scope, series_of};

impl Ledger {
    /// The endpoints of an account that had no event since an instant of Twilio's time.
    pub fn idle_endpoints(&self, account: AccountId, since: Timestamp) -> Vec<EndpointId> {
        let of_account = self.endpoints.iter().filter(|(_, entry)| entry.account == account);
        of_account.filter(|(_, entry)| entry.last_event_at < since).map(|(id, _)| *id).collect()
    }

    /// Lets go of endpoints that the store has deleted. One that returns begins as new.
    pub fn retire(&mut self, endpoints: &[EndpointId]) {
        for id in endpoints {
            let Some(entry) = self.endpoints.remove(id) else { continue };
            if entry.endpoint != Endpoint::overflow()
                && let Some(count) = self.endpoints_of.get_mut(&entry.account)
            {
                *count = count.saturating_sub(1);
            }
            self.by_endpoint.remove(&(entry.account, entry.endpoint));
            self.let_go(Scope::Endpoint(*id));
            let groups = self.groups.iter().filter(|(_, group)| group.endpoint == *id);
            let groups: Vec<GroupId> = groups.map(|(group, _)| *group).collect();
            for group_id in groups {
                if let Some(group) = self.groups.remove(&group_id) {
                    self.by_group.remove(&(group.endpoint, group.kind));
                    self.series = self.series.saturating_sub(series_of(group.kind));
                }
                self.let_go(Scope::Group(group_id));
            }
        }
    }

    /// Lets go of an account that the store has deleted, with everything of it.
    pub fn remove_account(&mut self, account: AccountId) {
        let of_account = self.endpoints.iter().filter(|(_, entry)| entry.account == account);
        let endpoints: Vec<EndpointId> = of_account.map(|(id, _)| *id).collect();
        self.retire(&endpoints);
        self.endpoints_of.remove(&account);
        self.let_go(Scope::Account(account));
    }

    fn let_go(&mut self, scope: Scope) {
        self.cells.remove(&scope);
        self.exemplars.remove(&scope);
    }
}
