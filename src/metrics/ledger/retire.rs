//! Removes endpoints without recent events and deleted accounts, so that the ledger stays bounded.

use std::time::Duration;

use jiff::Timestamp;

use crate::domain::judge::route::Endpoint;
use crate::domain::track::twilio_time::after;

use super::room::{ENDPOINT_SERIES, FIRST_CODE, cell_series};
use super::{AccountId, EndpointId, Ledger, Scope};

impl Ledger {
    /// Returns the endpoints of an account without an event since an instant of Twilio's time.
    pub fn idle_endpoints(&self, account: AccountId, since: Timestamp) -> Vec<EndpointId> {
        let of_account = self.endpoints.iter().filter(|(_, entry)| entry.account == account);
        of_account.filter(|(_, entry)| entry.last_event_at < since).map(|(id, _)| *id).collect()
    }

    /// Moves the last event of an account's endpoints forward by a period in which the account wasn't polled.
    pub fn postpone(&mut self, account: AccountId, by: Duration) {
        for entry in self.endpoints.values_mut().filter(|entry| entry.account == account) {
            entry.last_event_at = after(entry.last_event_at, by);
        }
    }

    /// Removes endpoints that the store has deleted. If one is used again, it starts as new.
    pub fn retire(&mut self, endpoints: &[EndpointId]) {
        for id in endpoints {
            let Some(entry) = self.endpoints.remove(id) else { continue };
            let is_shared = entry.endpoint == Endpoint::overflow();
            if !is_shared && let Some(count) = self.endpoint_counts.get_mut(&entry.account) {
                *count = count.saturating_sub(1);
            }
            let mut series = ENDPOINT_SERIES;
            self.by_endpoint.remove(&(entry.account, entry.endpoint));
            self.remove_values(Scope::Endpoint(*id));
            for kind in self.kinds_of(*id).collect::<Vec<_>>() {
                let Some(group) = self.by_group.remove(&(*id, kind)) else { continue };
                // Removing the last caller-facing group also removes the outcomes, and removing the last
                // TwiML group the content types.
                let group_series = self.new_group_series(*id, kind);
                self.series = self.series.saturating_sub(group_series);
                series += group_series + FIRST_CODE;
                self.groups.remove(&group);
                self.remove_values(Scope::Group(group));
            }
            self.series = self.series.saturating_sub(ENDPOINT_SERIES);
            if is_shared {
                self.shared_series = self.shared_series.saturating_sub(series);
            }
        }
    }

    /// Removes an account that the store has deleted, with its endpoints and values.
    pub fn remove_account(&mut self, account: AccountId) {
        let of_account = self.endpoints.iter().filter(|(_, entry)| entry.account == account);
        let endpoints: Vec<EndpointId> = of_account.map(|(id, _)| *id).collect();
        self.retire(&endpoints);
        self.endpoint_counts.remove(&account);
        self.remove_values(Scope::Account(account));
    }

    fn remove_values(&mut self, scope: Scope) {
        for cell in self.cells.remove(&scope).into_iter().flatten().map(|(cell, _)| cell) {
            self.series = self.series.saturating_sub(cell_series(cell));
        }
        self.exemplars.remove(&scope);
    }
}
