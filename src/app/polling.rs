//! Starts, reconfigures and stops the poll loops.
//!
//! A reload stops the loops of accounts whose configuration changed and starts new ones from the store. Counts don't
//! depend on a loop, so none are lost, but a new loop has to relearn which early reads find events. All other loops
//! continue.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::config::{AccountConfig, ApiConfig, Config};
use crate::domain::engine::lists::ListPlan;
use crate::domain::engine::plan::ReadPlan;
use crate::domain::judge::route::Routes;
use crate::domain::words::account::ListedAccount;
use crate::metrics::health::Health;
use crate::poller::heartbeat::Heartbeats;
use crate::poller::inbox::Inboxes;
use crate::poller::loops::Loops;
use crate::poller::subaccounts::{self, PolledSubaccounts, Subaccounts};
use crate::poller::tracked::TrackedCalls;
use crate::poller::{self, Account, Poll, Shared};
use crate::store::{AccountKey, AttachedAccount, Store};
use crate::twilio::{Client, LargeBodies};

/// How long tasks may take to end. Requests are cancelled immediately; only commits in flight need the time.
pub(super) const GRACE: Duration = Duration::from_secs(10);

/// The state that is created at startup and survives reloads.
#[derive(Clone, Debug)]
pub(super) struct StartupOptions {
    pub(super) clock: Clock,
    pub(super) tracked: Arc<TrackedCalls>,
    pub(super) health: Health,
    pub(super) store: Store,
    pub(super) inboxes: Inboxes,
    pub(super) heartbeats: Heartbeats,
}

/// A checked configuration with its clients, ready to be polled.
#[derive(Debug)]
pub(super) struct PollingSetup {
    accounts: Vec<AccountSetup>,
    shared: Shared,
}

/// A configured account with its client, ready to be polled.
#[derive(Debug)]
struct AccountSetup {
    account: Account,
    settings: AccountSettings,
}

/// The configuration that an account's loops depend on.
#[derive(Clone, Debug, PartialEq)]
struct AccountSettings {
    account: AccountConfig,
    lists: ListPlan,
    reads: ReadPlan,
    api: ApiConfig,
    routes: Routes,
    accepts_pushes: bool,
}

/// The running poll loops.
#[derive(Debug, Default)]
pub(super) struct PollLoops {
    accounts: Vec<RunningAccount>,
    /// Limits the requests in flight, over all accounts.
    budget: Option<Arc<Semaphore>>,
}

/// A configured account that is being polled, with its discovered subaccounts.
#[derive(Debug)]
struct RunningAccount {
    key: AccountKey,
    label: String,
    settings: AccountSettings,
    loops: Loops,
    subaccounts: PolledSubaccounts,
}

/// The known subaccounts of each account.
pub(super) type KnownSubaccounts = BTreeMap<AccountKey, PolledSubaccounts>;

impl PollingSetup {
    /// Creates the clients of a configuration.
    ///
    /// # Errors
    /// Fails if a certificate can't be used.
    pub(super) fn new(config: &Config, startup: &StartupOptions) -> anyhow::Result<Self> {
        let shared = Shared {
            clock: startup.clock,
            tracked: Arc::clone(&startup.tracked),
            budget: Arc::new(Semaphore::new(config.api.max_total_concurrency)),
            routes: Arc::new(config.routes.clone()),
            lists: config.lists,
            reads: config.reads.clone(),
            max_concurrency: config.api.max_concurrency,
            inboxes: startup.inboxes.clone(),
            health: startup.health.clone(),
            store: startup.store.clone(),
        };
        let accounts = accounts(config)?.into_iter().zip(&config.accounts);
        let accounts = accounts.map(|(account, configured)| AccountSetup {
            settings: AccountSettings {
                account: configured.clone(),
                lists: config.lists,
                reads: config.reads.clone(),
                api: config.api.clone(),
                routes: config.routes.clone(),
                accepts_pushes: account.accepts_pushes,
            },
            account,
        });
        Ok(Self { accounts: accounts.collect(), shared })
    }

    /// Loads the accounts. Run before serving, so that the first scrape after a start includes every series.
    pub(super) async fn attach(&self) -> anyhow::Result<Vec<AttachedAccount>> {
        let mut attached = Vec::new();
        for AccountSetup { account, .. } in &self.accounts {
            let known = self.shared.store.attach(account.key.clone(), account.label.clone()).await;
            let known = known.context("cannot load an account")?;
            account.instruments(&self.shared, &known.lists);
            attached.push(known);
        }
        Ok(attached)
    }

    /// Exposes and returns the stored subaccounts that are still selected. They are polled from the start, even if
    /// Twilio takes long to list them.
    pub(super) async fn restore_subaccounts(
        &self,
        attached: &[AttachedAccount],
    ) -> anyhow::Result<KnownSubaccounts> {
        let mut all = KnownSubaccounts::new();
        let mut labels = BTreeMap::new();
        for (AccountSetup { account, settings }, attached) in self.accounts.iter().zip(attached) {
            let Some(filter) = settings.account.subaccount_filter() else { continue };
            let known = attached.subaccounts.iter();
            let known = known.map(|known| ListedAccount::new(known.sid, &known.status));
            let known: Vec<ListedAccount> =
                known.filter(|known| filter.includes(known.sid, known.status)).collect();
            labels.extend(known.iter().map(|known| {
                let key = AccountKey { sid: known.sid, region: account.key.region.clone() };
                let label = filter.label(known.sid);
                poller::instruments(&self.shared.health, &label, known.sid, known.status);
                (key, label)
            }));
            all.insert(account.key.clone(), PolledSubaccounts::new(known));
        }
        self.shared.store.show(labels).await.context("cannot load the known subaccounts")?;
        Ok(all)
    }

    /// Starts polling. If an account isn't attached yet, its loop attaches it.
    pub(super) fn start(
        mut self,
        attached: Vec<AttachedAccount>,
        mut known: KnownSubaccounts,
        mut polling: PollLoops,
        heartbeats: &Heartbeats,
        stop: &CancellationToken,
    ) -> PollLoops {
        // All accounts share one budget, including those whose loops continue.
        self.shared.budget = Arc::clone(polling.budget.get_or_insert(self.shared.budget));
        let mut attached = attached.into_iter();
        for AccountSetup { account, settings } in self.accounts {
            let loops = Loops::new(stop);
            let (key, label) = (account.key.clone(), account.label.clone());
            let subaccounts = known.remove(&key).unwrap_or_default();
            let discovery = settings.account.subaccount_filter().cloned().map(|filter| {
                let settings = subaccounts::SubaccountSettings {
                    loops: loops.clone(),
                    heartbeats: heartbeats.clone(),
                    shared: self.shared.clone(),
                };
                Subaccounts::new(account.clone(), filter, subaccounts.clone(), settings)
            });
            let (attached, shared) = (attached.next(), self.shared.clone());
            let poll = Poll { account, attached, subaccounts: discovery, shared };
            loops.spawn(poll.run(heartbeats.watch(), loops.stop().clone()));
            polling.accounts.push(RunningAccount { key, label, settings, loops, subaccounts });
        }
        polling
    }

    /// Returns the labels of all accounts to poll: the configured ones and their known subaccounts that are still
    /// selected.
    fn labels(&self, known: &KnownSubaccounts) -> BTreeMap<AccountKey, String> {
        let mut labels = BTreeMap::new();
        for AccountSetup { account, settings } in &self.accounts {
            labels.insert(account.key.clone(), account.label.clone());
            let Some((filter, known)) =
                settings.account.subaccount_filter().zip(known.get(&account.key))
            else {
                continue;
            };
            let known = known.accounts().into_iter();
            let selected = known.filter(|found| filter.includes(found.sid, found.status));
            labels.extend(selected.map(|found| {
                let key = AccountKey { sid: found.sid, region: account.key.region.clone() };
                (key, filter.label(found.sid))
            }));
        }
        labels
    }
}

impl PollLoops {
    /// Applies a new configuration. Polling of unchanged accounts isn't interrupted; the loops of the others end, and
    /// new ones start from the store.
    pub(super) async fn reconfigure(
        mut self,
        mut next: PollingSetup,
        startup: &StartupOptions,
        stop: &CancellationToken,
    ) -> Self {
        // If a loop has panicked or hangs, restart all loops.
        let can_keep = startup.heartbeats.all_on_time();
        let (kept, removed): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.accounts).into_iter().partition(|polled| {
                can_keep && next.accounts.iter().any(|new| new.settings == polled.settings)
            });
        next.accounts.retain(|new| kept.iter().all(|polled| polled.settings != new.settings));
        if kept.is_empty() {
            self.budget = None;
        }
        let ended = Self { accounts: removed, budget: None }.end().await;
        startup.heartbeats.forget_panicked();
        let known = ended.iter().map(|ended| (ended.key.clone(), ended.subaccounts.clone()));
        let known: KnownSubaccounts = known.collect();
        self.accounts = kept;
        let labels = next.labels(&known);
        self.hide_removed(&ended, labels, startup, stop).await;
        next.start(Vec::new(), known, self, &startup.heartbeats, stop)
    }

    /// Hides the series of accounts that are no longer polled and relabels the others. All values stay in the store.
    /// If the disk hangs, waits until `stop` is cancelled.
    async fn hide_removed(
        &self,
        ended: &[RunningAccount],
        labels: BTreeMap<AccountKey, String>,
        startup: &StartupOptions,
        stop: &CancellationToken,
    ) {
        for polled in ended {
            polled.log_removed(&labels);
        }
        let before: BTreeMap<AccountKey, String> =
            ended.iter().flat_map(RunningAccount::labels).collect();
        let relabelled = before.keys().map(|key| (key.clone(), labels.get(key).cloned())).collect();
        tokio::select! {
            () = stop.cancelled() => return,
            shown = startup.store.relabel(relabelled) => {
                if let Err(error) = shown {
                    tracing::warn!(%error, "cannot relabel the accounts or hide removed ones");
                }
            }
        }
        let gone: BTreeSet<&String> = before
            .iter()
            .filter(|(key, label)| labels.get(*key) != Some(*label))
            .map(|(_, label)| label)
            .collect();
        startup.health.remove_accounts(|label| gone.iter().any(|gone| *gone == label));
    }

    /// Ends all loops and returns their accounts. Commits in flight finish; requests are cancelled.
    async fn end(self) -> Vec<RunningAccount> {
        for polled in &self.accounts {
            polled.loops.stop().cancel();
        }
        let until = Instant::now() + GRACE;
        for polled in &self.accounts {
            if !polled.loops.end(until.saturating_duration_since(Instant::now())).await {
                tracing::warn!(
                    account = polled.label,
                    "some tasks didn't end in time; uncommitted events will be read again"
                );
            }
        }
        self.accounts
    }

    /// Ends all loops.
    pub(super) async fn stop(self) {
        self.end().await;
    }
}

impl RunningAccount {
    /// Logs which of the account and its subaccounts are no longer polled, since their removal may be a mistake.
    fn log_removed(&self, labels: &BTreeMap<AccountKey, String>) {
        let mut gone = self.labels();
        gone.retain(|(key, _)| !labels.contains_key(key));
        if gone.iter().any(|(key, _)| *key == self.key) {
            tracing::warn!(
                account = self.label,
                account_sid = %self.key.sid,
                region = self.key.region,
                subaccounts = gone.len() - 1,
                "an account is no longer polled: the configuration doesn't list it anymore"
            );
            return;
        }
        for (key, label) in gone {
            tracing::warn!(
                account = label,
                account_sid = %key.sid,
                "a subaccount is no longer polled: the configuration doesn't select it anymore"
            );
        }
    }

    /// Returns the labels of the account and its polled subaccounts.
    fn labels(&self) -> Vec<(AccountKey, String)> {
        let own = (self.key.clone(), self.label.clone());
        let of_subaccount = |found: ListedAccount| {
            let key = AccountKey { sid: found.sid, region: self.key.region.clone() };
            Some((key, self.settings.account.subaccount_filter()?.label(found.sid)))
        };
        let subaccounts = self.subaccounts.accounts();
        std::iter::once(own).chain(subaccounts.into_iter().filter_map(of_subaccount)).collect()
    }
}

/// Creates the accounts of a configuration, each with a client.
pub(crate) fn accounts(config: &Config) -> anyhow::Result<Vec<Account>> {
    let large_bodies = LargeBodies::default();
    let mut accounts = Vec::new();
    for account in &config.accounts {
        let label = account.label.clone();
        let (credentials, shared) = (account.credentials.clone(), large_bodies.clone());
        let client = Client::new(&account.base_url, credentials, &config.api.client, shared);
        let client = client
            .with_context(|| format!("account `{label}`: cannot create the client for Twilio"))?;
        let key = AccountKey { sid: account.account_sid, region: account.region.clone() };
        accounts.push(Account {
            key,
            label,
            status: "unknown",
            client,
            parent: None,
            accepts_pushes: config.push_url.is_some() && account.push_secret.is_some(),
        });
    }
    Ok(accounts)
}
