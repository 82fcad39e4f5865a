//! Tracks which accounts are shown, and which held endpoints and groups have been shown at 0.
//!
//! Invariant: a held group counts as shown only after a scrape response that contained it, under the current
//! label of its account. While an account is hidden, none of its groups is shown or released.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;

use crate::domain::track::twilio_time::after;

use super::{AccountId, Hold, Ledger, Scope};

/// A group that no response has contained is released after its account has been shown for this long:
/// Prometheus scrapes more often, so nothing is scraping.
const RELEASE_UNSEEN_AFTER: Duration = Duration::from_secs(5 * 60);

/// The held endpoints and groups that a scrape response shows at 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShownZeros {
    /// Endpoints and groups shown at 0.
    pub held: Vec<Scope>,
    exposure_version: u64,
}

/// An endpoint or a group that is held at 0.
struct HeldScope {
    scope: Scope,
    hold: Hold,
    account: AccountId,
}

impl Ledger {
    /// Returns the accounts that are shown, with their labels.
    pub fn accounts(&self) -> &BTreeMap<AccountId, String> {
        &self.accounts
    }

    /// Shows an account under a label. If the label has changed, its series are new to Prometheus.
    pub fn show(&mut self, account: AccountId, label: String, now: Timestamp) {
        if self.accounts.get(&account) == Some(&label) {
            return;
        }
        self.accounts.insert(account, label);
        self.shown_since.insert(account, now);
        self.reset_shown(account);
    }

    /// Hides an account but keeps its values.
    pub fn hide(&mut self, account: AccountId) {
        if self.accounts.remove(&account).is_some() {
            self.shown_since.remove(&account);
            self.reset_shown(account);
        }
    }

    /// Changes the labels of accounts that are shown, and hides those that no longer have one.
    pub fn relabel(&mut self, labels: BTreeMap<AccountId, Option<String>>, now: Timestamp) {
        for (account, label) in labels {
            match label.filter(|_| self.accounts.contains_key(&account)) {
                Some(label) => self.show(account, label, now),
                None => self.hide(account),
            }
        }
    }

    fn reset_shown(&mut self, account: AccountId) {
        self.exposure_version += 1;
        let held: Vec<Scope> =
            self.held().filter(|held| held.account == account).map(|held| held.scope).collect();
        for scope in held {
            if let Some(hold) = self.hold_mut(scope) {
                hold.shown_at = None;
            }
        }
    }

    /// Returns the endpoints and groups whose values may be shown now.
    pub fn due_releases(&self, hold_back: Duration, now: Timestamp) -> Vec<Scope> {
        let is_due = |held: &HeldScope| {
            let Some(since) = self.shown_since.get(&held.account) else { return false };
            let due_at = match held.hold.shown_at {
                _ if hold_back.is_zero() => return true,
                Some(shown_at) => after(shown_at, hold_back),
                None => {
                    let unseen_since = held.hold.held_since.max(*since);
                    after(unseen_since, RELEASE_UNSEEN_AFTER.max(hold_back))
                }
            };
            due_at <= now
        };
        self.held().filter(is_due).map(|held| held.scope).collect()
    }

    /// Shows the values of endpoints and groups whose release the store has committed.
    pub fn release(&mut self, scopes: &[Scope]) {
        for scope in scopes {
            if let Some(hold) = self.hold_mut(*scope) {
                hold.is_released = true;
            }
        }
    }

    /// Returns the held endpoints and groups that a response written from the current ledger shows at 0.
    pub fn shown(&self) -> ShownZeros {
        let held = self.held().filter(|held| self.accounts.contains_key(&held.account));
        ShownZeros {
            held: held.map(|held| held.scope).collect(),
            exposure_version: self.exposure_version,
        }
    }

    /// Records that a scrape response has shown these endpoints and groups.
    pub fn mark_shown(&mut self, shown: &ShownZeros, now: Timestamp) {
        self.was_scraped = true;
        // Accounts have been added, hidden or renamed since: wait for the next response.
        if shown.exposure_version != self.exposure_version {
            return;
        }
        for scope in &shown.held {
            if let Some(hold) = self.hold_mut(*scope) {
                hold.shown_at.get_or_insert(now);
            }
        }
    }

    fn held(&self) -> impl Iterator<Item = HeldScope> {
        let endpoints = self.endpoints.iter().map(|(id, entry)| {
            let (scope, account) = (Scope::Endpoint(*id), entry.account);
            HeldScope { scope, hold: entry.hold, account }
        });
        let groups = self.groups.iter().filter_map(|(id, entry)| {
            let account = self.endpoints.get(&entry.endpoint)?.account;
            Some(HeldScope { scope: Scope::Group(*id), hold: entry.hold, account })
        });
        endpoints.chain(groups).filter(|held| !held.hold.is_released)
    }
}
