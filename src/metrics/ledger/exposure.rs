//! Which accounts are shown, and what answers have shown of what is held at 0.
//!
//! Invariant: a held group counts as shown only by an answer that contained it, under the label that its
//! account still has. While an account is hidden, nothing of it is shown or released.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;

use crate::domain::track::twilio_time::after;

use super::{AccountId, Hold, Ledger, Scope};

/// A group that no answer has shown is released after its account was shown for this long: Prometheus
/// scrapes more often than that, so nothing scrapes.
const RELEASE_UNSEEN_AFTER: Duration = Duration::from_secs(5 * 60);

/// What an answer shows of what is held at 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShownZeros {
    /// The endpoints and groups that it shows at 0.
    pub held: Vec<Scope>,
    exposure: u64,
}

/// An endpoint or a group that is held at 0.
struct Held {
    scope: Scope,
    hold: Hold,
    account: AccountId,
}

impl Ledger {
    /// The accounts that are shown, with their labels.
    pub fn accounts(&self) -> &BTreeMap<AccountId, String> {
        &self.accounts
    }

    /// Shows an account under a label. With another label than before, its series are new to a scraper.
    pub fn show(&mut self, account: AccountId, label: String, now: Timestamp) {
        if self.accounts.get(&account) == Some(&label) {
            return;
        }
        self.accounts.insert(account, label);
        self.shown_since.insert(account, now);
        self.forget_shown(account);
    }

    /// Hides an account; its values stay.
    pub fn hide(&mut self, account: AccountId) {
        if self.accounts.remove(&account).is_some() {
            self.shown_since.remove(&account);
            self.forget_shown(account);
        }
    }

    /// Shows accounts under other labels, those of them that are shown already, and hides those that
    /// have none any more.
    pub fn relabel(&mut self, labels: BTreeMap<AccountId, Option<String>>, now: Timestamp) {
        for (account, label) in labels {
            match label.filter(|_| self.accounts.contains_key(&account)) {
                Some(label) => self.show(account, label, now),
                None => self.hide(account),
            }
        }
    }

    fn forget_shown(&mut self, account: AccountId) {
        self.exposure += 1;
        let held: Vec<Scope> =
            self.held().filter(|held| held.account == account).map(|held| held.scope).collect();
        for scope in held {
            if let Some(hold) = self.hold_mut(scope) {
                hold.shown_at = None;
            }
        }
    }

    /// The endpoints and groups whose values may be shown now.
    pub fn due_releases(&self, hold_back: Duration, now: Timestamp) -> Vec<Scope> {
        let is_due = |held: &Held| {
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

    /// What an answer that is made of the ledger as it is shows of what is held at 0.
    pub fn shown(&self) -> ShownZeros {
        let held = self.held().filter(|held| self.accounts.contains_key(&held.account));
        ShownZeros { held: held.map(|held| held.scope).collect(), exposure: self.exposure }
    }

    /// Notes what an answer has shown.
    pub fn mark_shown(&mut self, shown: &ShownZeros, now: Timestamp) {
        self.was_scraped = true;
        // Accounts came, went or were renamed since: the next answer tells what it shows of them.
        if shown.exposure != self.exposure {
            return;
        }
        for scope in &shown.held {
            if let Some(hold) = self.hold_mut(*scope) {
                hold.shown_at.get_or_insert(now);
            }
        }
    }

    fn held(&self) -> impl Iterator<Item = Held> {
        let endpoints = self.endpoints.iter().map(|(id, entry)| {
            let (scope, account) = (Scope::Endpoint(*id), entry.account);
            Held { scope, hold: entry.hold, account }
        });
        let groups = self.groups.iter().filter_map(|(id, entry)| {
            let account = self.endpoints.get(&entry.endpoint)?.account;
            Some(Held { scope: Scope::Group(*id), hold: entry.hold, account })
        });
        endpoints.chain(groups).filter(|held| !held.hold.is_released)
    }
}
