//! Polls an account's selected subaccounts as they come and go.
//!
//! The account's engine discovers them.

use std::collections::btree_map::{BTreeMap, Entry};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::domain::engine::effects::FoundAccounts;
use crate::domain::words::account::ListedAccount;
use crate::domain::words::sid::AccountSid;
use crate::domain::words::subaccounts::SubaccountFilter;
use crate::metrics::health::Health;
use crate::metrics::ledger::AccountId;
use crate::store::{AccountKey, Subaccount};

use super::heartbeat::{Heartbeat, Heartbeats};
use super::loops::Loops;
use super::{Account, Poll, Shared};

/// The longest time that storing the subaccounts may take.
const MAX_STORE_TIME: Duration = Duration::from_secs(10 * 60);

/// A polled subaccount.
#[derive(Debug)]
struct RunningSubaccount {
    /// Cancelled when the subaccount is gone.
    gone: CancellationToken,
    /// Its last status reported by Twilio.
    status: &'static str,
}

impl RunningSubaccount {
    /// Notes a change of status. A suspended account is still polled: it may become active again at any time, and its
    /// own requests show that.
    fn note_status(&mut self, label: &str, found: &ListedAccount, health: &Health) {
        if self.status != found.status {
            health.account_status(label, &found.sid.to_string(), self.status, found.status);
            tracing::info!(account = label, status = found.status, "subaccount status changed");
            self.status = found.status;
        }
    }
}

/// Returns a subaccount, which is read with its parent's client.
pub(crate) fn subaccount(
    parent: &Account,
    found: &ListedAccount,
    filter: &SubaccountFilter,
) -> Account {
    Account {
        key: AccountKey { sid: found.sid, region: parent.key.region.clone() },
        label: filter.label(found.sid),
        status: found.status,
        client: parent.client.clone(),
        parent: Some(parent.key.sid),
        accepts_pushes: parent.accepts_pushes,
    }
}

/// The polled subaccounts of an account, from which a reload resumes.
#[derive(Clone, Debug, Default)]
pub struct PolledSubaccounts(Arc<Mutex<Vec<ListedAccount>>>);

impl PolledSubaccounts {
    /// Starts with these accounts.
    pub fn new(accounts: Vec<ListedAccount>) -> Self {
        Self(Arc::new(Mutex::new(accounts)))
    }

    /// Returns the accounts that are polled now.
    pub fn accounts(&self) -> Vec<ListedAccount> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn replace(&self, accounts: Vec<ListedAccount>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = accounts;
    }
}

/// The poll loops of an account's subaccounts. The account itself is polled by its own task.
#[derive(Debug)]
pub struct Subaccounts {
    parent: Account,
    filter: SubaccountFilter,
    shared: Shared,
    heartbeats: Heartbeats,
    loops: Loops,
    running: BTreeMap<AccountSid, RunningSubaccount>,
    known: PolledSubaccounts,
    /// The subaccounts in the store, once they have been written.
    stored: Option<Vec<Subaccount>>,
}

/// The settings of the poll loops of subaccounts.
#[derive(Debug)]
pub struct SubaccountSettings {
    /// The group of loops that they join, which ends with the account's.
    pub loops: Loops,
    /// The heartbeats that watch them.
    pub heartbeats: Heartbeats,
    /// The parts that all accounts share.
    pub shared: Shared,
}

impl Subaccounts {
    /// Creates the loops of the subaccounts that `filter` selects, initially those already known.
    pub fn new(
        parent: Account,
        filter: SubaccountFilter,
        known: PolledSubaccounts,
        settings: SubaccountSettings,
    ) -> Self {
        let SubaccountSettings { loops, heartbeats, shared } = settings;
        let (running, stored) = (BTreeMap::new(), None);
        Self { parent, filter, shared, heartbeats, loops, running, known, stored }
    }

    /// Starts polling the subaccounts that are already known.
    pub(super) fn start(&mut self) {
        self.update(self.known.accounts(), true);
    }

    /// Polls the selected ones of the discovered subaccounts, and stores them.
    pub(super) async fn on_discovered(&mut self, found: FoundAccounts, heartbeat: &Heartbeat) {
        self.update(found.accounts, found.is_complete);
        self.save(heartbeat).await;
    }

    /// Starts polling new selected subaccounts, and stops polling those that a complete list no longer contains.
    fn update(&mut self, found: Vec<ListedAccount>, is_complete: bool) {
        let found: Vec<_> = found
            .into_iter()
            .filter(|account| self.filter.includes(account.sid, account.status))
            .collect();
        self.running.retain(|sid, running| {
            let stays = !is_complete || found.iter().any(|account| account.sid == *sid);
            if !stays {
                running.gone.cancel();
                tracing::info!(account = self.filter.label(*sid), "subaccount gone");
            }
            stays
        });
        for found in found {
            match self.running.entry(found.sid) {
                Entry::Occupied(mut entry) => {
                    let label = self.filter.label(found.sid);
                    entry.get_mut().note_status(&label, &found, &self.shared.health);
                }
                Entry::Vacant(entry) => {
                    let account = subaccount(&self.parent, &found, &self.filter);
                    tracing::info!(account = account.label, "subaccount found");
                    let stop = self.loops.stop().clone();
                    let gone = stop.child_token();
                    entry.insert(RunningSubaccount { gone: gone.clone(), status: found.status });
                    let (label, shared) = (account.label.clone(), self.shared.clone());
                    let poll = Poll { account, attached: None, subaccounts: None, shared };
                    // Boxed, because this loop contains a future of its own type.
                    let polling = Box::pin(poll.run(self.heartbeats.watch(), gone));
                    self.loops.spawn(until_gone(polling, label, self.shared.clone(), stop));
                }
            }
        }
        let account = |(sid, running): (&AccountSid, &RunningSubaccount)| ListedAccount {
            sid: *sid,
            status: running.status,
        };
        self.known.replace(self.running.iter().map(account).collect());
    }

    /// Stores the subaccounts, if they changed, so that a restart polls them at once. A failure is retried after the
    /// next discovery.
    async fn save(&mut self, heartbeat: &Heartbeat) {
        let subaccount = |(sid, running): (&AccountSid, &RunningSubaccount)| Subaccount {
            sid: *sid,
            status: running.status.to_owned(),
        };
        let found: Vec<Subaccount> = self.running.iter().map(subaccount).collect();
        if self.stored.as_ref() == Some(&found) {
            return;
        }
        heartbeat.set_deadline(MAX_STORE_TIME);
        let parent = self.parent.key.clone();
        match self.shared.store.remember_subaccounts(parent, found.clone()).await {
            Ok(()) => self.stored = Some(found),
            Err(error) => {
                tracing::warn!(account = self.parent.label, %error, "cannot store the subaccounts");
            }
        }
    }
}

/// Polls a subaccount, and removes its series once it is gone. If the loops stop, the series stay: until the program
/// ends, or until a reload knows which accounts are polled next.
async fn until_gone(
    polling: Pin<Box<dyn Future<Output = Option<AccountId>> + Send>>,
    label: String,
    shared: Shared,
    stop: CancellationToken,
) {
    if let Some(id) = polling.await.filter(|_| !stop.is_cancelled()) {
        shared.store.detach(id);
        shared.health.remove_accounts(|other| other == label);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_status_replaces_the_previous_one() {
        let registry = prometheus::Registry::new();
        let health = Health::register(&registry).expect("instruments");
        let sid = found("active").sid.to_string();
        let _account = health.account("acme", &sid, "active");
        let mut running = RunningSubaccount { gone: CancellationToken::new(), status: "active" };
        for status in ["suspended", "suspended", "active"] {
            running.note_status("acme", &found(status), &health);
            let families = registry.gather();
            let info = families.iter().find(|family| family.name() == "twilio_account_info");
            let shown: Vec<&str> = info
                .expect("a family")
                .get_metric()
                .iter()
                .flat_map(|metric| metric.get_label())
                .filter(|label| label.name() == "status")
                .map(|label| label.value())
                .collect();
            assert_eq!(shown, [status]);
        }
    }

    fn found(status: &'static str) -> ListedAccount {
        let sid = AccountSid::parse("AC00000000000000000000000000000001").expect("a SID");
        ListedAccount { sid, status }
    }
}
