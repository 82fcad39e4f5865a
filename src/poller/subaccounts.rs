//! The subaccounts of an account that are wanted, polled as they come and go.
//!
//! The engine of the account looks for them.

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

/// How long the store may take to remember them.
const REMEMBER: Duration = Duration::from_secs(10 * 60);

/// A subaccount that is polled.
#[derive(Debug)]
struct RunningSubaccount {
    /// Cancelled when it is gone.
    gone: CancellationToken,
    /// What Twilio told last.
    status: &'static str,
}

impl RunningSubaccount {
    /// A suspended account is polled on: it may be active again at any time, and says so itself.
    fn note_status(&mut self, label: &str, found: &ListedAccount, health: &Health) {
        if self.status != found.status {
            health.account_status(label, &found.sid.to_string(), self.status, found.status);
            tracing::info!(account = label, status = found.status, "subaccount has another status");
            self.status = found.status;
        }
    }
}

fn subaccount(parent: &Account, found: &ListedAccount, wanted: &SubaccountFilter) -> Account {
    Account {
        key: AccountKey { sid: found.sid, region: parent.key.region.clone() },
        label: wanted.label(found.sid),
        status: found.status,
        client: parent.client.clone(),
        parent: Some(parent.key.sid),
        is_pushed: parent.is_pushed,
    }
}

/// The subaccounts of an account that are polled, for a reload to go on with.
#[derive(Clone, Debug, Default)]
pub struct Known(Arc<Mutex<Vec<ListedAccount>>>);

impl Known {
    /// These to begin with.
    pub fn new(accounts: Vec<ListedAccount>) -> Self {
        Self(Arc::new(Mutex::new(accounts)))
    }

    /// Those that are polled now.
    pub fn accounts(&self) -> Vec<ListedAccount> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn replace(&self, accounts: Vec<ListedAccount>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = accounts;
    }
}

/// The subaccounts of an account, as they come and go. The account itself is polled by its own task.
#[derive(Debug)]
pub struct Subaccounts {
    parent: Account,
    wanted: SubaccountFilter,
    shared: Shared,
    heartbeats: Heartbeats,
    loops: Loops,
    polled: BTreeMap<AccountSid, RunningSubaccount>,
    known: Known,
    /// Those that the store remembers, once it does.
    remembered: Option<Vec<Subaccount>>,
}

/// What subaccounts are polled with.
#[derive(Debug)]
pub struct SubaccountSettings {
    /// The loops that end with those of the account.
    pub loops: Loops,
    /// What watches them.
    pub heartbeats: Heartbeats,
    /// What all accounts share.
    pub shared: Shared,
}

impl Subaccounts {
    /// Those of an account that are wanted, beginning with those that are known already.
    pub fn new(
        parent: Account,
        wanted: SubaccountFilter,
        known: Known,
        polling: SubaccountSettings,
    ) -> Self {
        let SubaccountSettings { loops, heartbeats, shared } = polling;
        let (polled, remembered) = (BTreeMap::new(), None);
        Self { parent, wanted, shared, heartbeats, loops, polled, known, remembered }
    }

    /// Polls those that are known already.
    pub(super) fn begin(&mut self) {
        self.follow(self.known.accounts(), true);
    }

    /// Polls those that were found, as far as they are wanted, and has the store remember them.
    pub(super) async fn found(&mut self, found: FoundAccounts, heartbeat: &Heartbeat) {
        self.follow(found.accounts, found.is_complete);
        self.remember(heartbeat).await;
    }

    /// Polls those that were found and are wanted, and lets go of those that a complete list shows no more.
    fn follow(&mut self, found: Vec<ListedAccount>, is_complete: bool) {
        let found: Vec<_> = found
            .into_iter()
            .filter(|account| self.wanted.wants(account.sid, account.status))
            .collect();
        self.polled.retain(|sid, polled| {
            let stays = !is_complete || found.iter().any(|account| account.sid == *sid);
            if !stays {
                polled.gone.cancel();
                tracing::info!(account = self.wanted.label(*sid), "subaccount gone");
            }
            stays
        });
        for found in found {
            match self.polled.entry(found.sid) {
                Entry::Occupied(mut entry) => {
                    let label = self.wanted.label(found.sid);
                    entry.get_mut().note_status(&label, &found, &self.shared.health);
                }
                Entry::Vacant(entry) => {
                    let account = subaccount(&self.parent, &found, &self.wanted);
                    tracing::info!(account = account.label, "subaccount found");
                    let stop = self.loops.stop().clone();
                    let gone = stop.child_token();
                    entry.insert(RunningSubaccount { gone: gone.clone(), status: found.status });
                    let (label, shared) = (account.label.clone(), self.shared.clone());
                    let poll = Poll { account, attached: None, subaccounts: None, shared };
                    // Of the same type as the loop that this is part of: how large that is must not depend
                    // on itself.
                    let polled = Box::pin(poll.run(self.heartbeats.watch(), gone));
                    self.loops.spawn(until_gone(polled, label, self.shared.clone(), stop));
                }
            }
        }
        let account = |(sid, polled): (&AccountSid, &RunningSubaccount)| ListedAccount {
            sid: *sid,
            status: polled.status,
        };
        self.known.replace(self.polled.iter().map(account).collect());
    }

    /// Has the store remember them, if they changed, so that a restart begins with them. What fails is
    /// tried again after the next discovery.
    async fn remember(&mut self, heartbeat: &Heartbeat) {
        let subaccount = |(sid, polled): (&AccountSid, &RunningSubaccount)| Subaccount {
            sid: *sid,
            status: polled.status.to_owned(),
        };
        let found: Vec<Subaccount> = self.polled.iter().map(subaccount).collect();
        if self.remembered.as_ref() == Some(&found) {
            return;
        }
        heartbeat.promise(REMEMBER);
        let parent = self.parent.key.clone();
        match self.shared.store.remember_subaccounts(parent, found.clone()).await {
            Ok(()) => self.remembered = Some(found),
            Err(error) => {
                tracing::warn!(account = self.parent.label, %error, "cannot remember the subaccounts");
            }
        }
    }
}

/// Polls a subaccount until it is gone. When the whole program stops, its series stay to the end,
/// and when only the polling does, until it is known who is polled next.
async fn until_gone(
    polled: Pin<Box<dyn Future<Output = Option<AccountId>> + Send>>,
    label: String,
    shared: Shared,
    stop: CancellationToken,
) {
    if let Some(id) = polled.await.filter(|_| !stop.is_cancelled()) {
        shared.store.detach(id);
        shared.health.remove_accounts(|other| other == label);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_status_takes_the_place_of_the_one_before() {
        let registry = prometheus::Registry::new();
        let health = Health::register(&registry).expect("instruments");
        let sid = found("active").sid.to_string();
        let _polled = health.account("acme", &sid, "active");
        let mut polled = RunningSubaccount { gone: CancellationToken::new(), status: "active" };
        for status in ["suspended", "suspended", "active"] {
            polled.note_status("acme", &found(status), &health);
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
