//! What is polled, from one configuration to the next.
//!
//! A reload ends all poll loops, and begins new ones with what the store knows: nothing that was
//! counted depends on a loop. What the loops learnt besides (which early reads find something) they
//! learn again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::config::{AccountConfig, Config, shape};
use crate::domain::listing::ListPlan;
use crate::domain::plan::ReadPlan;
use crate::domain::route::Routes;
use crate::domain::sid::AccountSid;
use crate::metrics::health::Health;
use crate::poller::discovery::{self, Wanted};
use crate::poller::gate::Gate;
use crate::poller::heartbeat::Heartbeats;
use crate::poller::loops::Loops;
use crate::poller::tracked::TrackedCalls;
use crate::poller::{self, Account, Shared};
use crate::store::{AccountKey, Attached, Store};
use crate::twilio::wire;
use crate::twilio::{Client, ClientOptions, Credentials, LargeBodies};

/// How long tasks may take to end: requests are abandoned at once, so this is for the commit in
/// flight.
pub(super) const GRACE: Duration = Duration::from_secs(10);

/// What outlives a configuration.
#[derive(Clone, Debug)]
pub(super) struct Lasting {
    pub(super) clock: Clock,
    pub(super) tracked: Arc<TrackedCalls>,
    pub(super) health: Health,
    pub(super) store: Store,
    pub(super) heartbeats: Heartbeats,
}

/// A configuration that is ready to be polled with: whatever can be wrong with it was found.
#[derive(Debug)]
pub(super) struct Prepared {
    accounts: Vec<(Account, Option<Wanted>)>,
    shared: Shared,
}

/// Poll loops that run.
#[derive(Debug)]
pub(super) struct Polling {
    loops: Loops,
    /// The accounts of the configuration, and the search for their subaccounts, which gives back
    /// those that it polls.
    accounts: Vec<(AccountKey, String, Option<Discovery>)>,
}

type Discovery = JoinHandle<Option<Vec<(wire::Account, String)>>>;

/// What was polled when loops ended.
#[derive(Debug, Default)]
pub(super) struct Polled {
    /// Every account by its label.
    labels: BTreeMap<String, AccountKey>,
    /// The subaccounts of each account that looked for them.
    subaccounts: BTreeMap<AccountKey, Vec<wire::Account>>,
}

impl Prepared {
    /// Prepares the clients.
    ///
    /// # Errors
    /// Certificates that can't be read or used, or no account.
    pub(super) fn new(config: &Config, lasting: &Lasting) -> anyhow::Result<Self> {
        let shared = Shared {
            clock: lasting.clock,
            tracked: Arc::clone(&lasting.tracked),
            budget: Arc::new(Semaphore::new(config.api.max_total_concurrency)),
            routes: Arc::new(Routes::new(config.routes.clone())),
            lists: ListPlan {
                interval: config.poll.interval,
                initial_lookback: config.poll.initial_lookback,
                catch_up: config.poll.catch_up,
            },
            reads: ReadPlan {
                live_interval: config.poll.live_interval,
                after_end: config.poll.after_end.clone(),
                settle_delay: config.poll.settle_delay,
                audit_after: config.poll.audit_after,
            },
            max_concurrency: config.api.max_concurrency,
            health: lasting.health.clone(),
            store: lasting.store.clone(),
        };
        Ok(Self { accounts: accounts(config)?, shared })
    }

    /// Loads the accounts before anything is served: a scrape right after a start shows every
    /// series.
    pub(super) async fn attach(&self) -> anyhow::Result<Vec<Attached>> {
        let mut attached = Vec::new();
        for (account, _) in &self.accounts {
            let known = self.shared.store.attach(account.key.clone(), account.label.clone()).await;
            attached.push(known.context("cannot load an account")?);
        }
        Ok(attached)
    }

    /// Shows the series of the subaccounts that the store remembers, as far as they are still wanted, and
    /// tells which these are: they are polled from the start, however long Twilio takes to list them.
    pub(super) async fn show_known(&self, attached: &[Attached]) -> anyhow::Result<Polled> {
        let mut before = Polled::default();
        let mut labels = BTreeMap::new();
        for ((account, wanted), attached) in self.accounts.iter().zip(attached) {
            let Some(wanted) = wanted else { continue };
            let known = attached.subaccounts.iter();
            let known = known.map(|known| wire::Account::new(known.sid, &known.status));
            let known: Vec<wire::Account> = known.filter(|known| wanted.wants(known)).collect();
            labels.extend(known.iter().map(|known| {
                let key = AccountKey { sid: known.sid, region: account.key.region.clone() };
                (key, wanted.label(known.sid))
            }));
            before.subaccounts.insert(account.key.clone(), known);
        }
        self.shared.store.show(labels).await.context("cannot load the known subaccounts")?;
        Ok(before)
    }

    /// Begins to poll. Accounts that aren't attached yet are loaded by their own loops.
    pub(super) fn start(
        self,
        attached: Vec<Attached>,
        mut before: Polled,
        heartbeats: &Heartbeats,
        stop: &CancellationToken,
    ) -> Polling {
        let loops = Loops::new(stop);
        let mut attached = attached.into_iter();
        let mut polled = Vec::new();
        for (account, wanted) in self.accounts {
            let (key, label) = (account.key.clone(), account.label.clone());
            let discovery = wanted.map(|wanted| {
                let known = before.subaccounts.remove(&key).unwrap_or_default();
                let (shared, beats) = (self.shared.clone(), heartbeats.clone());
                let account = account.clone();
                loops.spawn(discovery::run(account, wanted, known, shared, beats, loops.clone()))
            });
            let (shared, beat) = (self.shared.clone(), heartbeats.watch());
            let stop = loops.stop().clone();
            loops.spawn(poller::run(account, attached.next(), shared, beat, stop));
            polled.push((key, label, discovery));
        }
        Polling { loops, accounts: polled }
    }

    /// The accounts that will be polled, by label: those of the configuration, and those of their
    /// subaccounts that are known and still wanted.
    fn labels(&self, before: &Polled) -> BTreeMap<String, AccountKey> {
        let mut labels = BTreeMap::new();
        for (account, wanted) in &self.accounts {
            labels.insert(account.label.clone(), account.key.clone());
            let known = before.subaccounts.get(&account.key).into_iter().flatten();
            for (found, wanted) in known.filter_map(|found| Some((found, wanted.as_ref()?))) {
                if wanted.wants(found) {
                    let region = account.key.region.clone();
                    let key = AccountKey { sid: found.sid, region };
                    labels.insert(wanted.label(found.sid), key);
                }
            }
        }
        labels
    }

    /// Takes away the series of accounts that won't be polled any more, and names the others anew;
    /// the values of all stay in the store.
    /// Where the disk hangs, it is waited for until `stop`.
    pub(super) async fn let_go(&self, before: &Polled, stop: &CancellationToken) {
        let labels = self.labels(before);
        let named = labels.iter().map(|(label, key)| (key.clone(), label.clone())).collect();
        tokio::select! {
            () = stop.cancelled() => return,
            shown = self.shared.store.show_only(named) => {
                if let Err(error) = shown {
                    tracing::warn!(%error, "cannot tell which accounts to hide");
                }
            }
        }
        let stays = |label: &str| {
            let key = labels.get(label);
            key.is_some() && key == before.labels.get(label)
        };
        self.shared.health.remove_accounts(|label| !stays(label));
    }
}

impl Polling {
    /// Ends all loops, and tells what was polled. Commits in flight finish; fetches are abandoned.
    pub(super) async fn end(self) -> Polled {
        if !self.loops.end(GRACE).await {
            tracing::warn!("not everything ended in time; what was not committed is read again");
        }
        let mut polled = Polled::default();
        for (key, label, discovery) in self.accounts {
            polled.labels.insert(label, key.clone());
            let Some(discovery) = discovery else { continue };
            // One that was abandoned, or panicked, has lost what it knew; it is found again.
            let Ok(Some(found)) = discovery.await else { continue };
            for (subaccount, label) in &found {
                let region = key.region.clone();
                polled.labels.insert(label.clone(), AccountKey { sid: subaccount.sid, region });
            }
            let accounts = found.into_iter().map(|(account, _)| account).collect();
            polled.subaccounts.insert(key, accounts);
        }
        polled
    }
}

/// The accounts of a configuration, each with a client, and which of its subaccounts are wanted.
pub(super) fn accounts(config: &Config) -> anyhow::Result<Vec<(Account, Option<Wanted>)>> {
    let ca_pem = match &config.api.ca_file {
        Some(path) => Some(std::fs::read(path).with_context(|| {
            format!("cannot read the certificates of api.ca_file, {}", shape::path(path))
        })?),
        None => None,
    };
    let large_bodies = LargeBodies::default();
    let mut accounts = Vec::new();
    for account in &config.accounts {
        let options = ClientOptions {
            base_url: account.base_url.clone(),
            connect_timeout: config.api.connect_timeout,
            timeout: config.api.timeout,
            ca_pem: ca_pem.clone(),
            large_bodies: large_bodies.clone(),
        };
        let built = build_account(account, &options, config.api.max_concurrency)?;
        accounts.push((built, wanted(account, config)));
    }
    if accounts.is_empty() {
        bail!("no account to poll");
    }
    Ok(accounts)
}

fn build_account(
    account: &AccountConfig,
    options: &ClientOptions,
    max_concurrency: usize,
) -> anyhow::Result<Account> {
    let label = account.name.clone().unwrap_or_else(|| account.account_sid.clone());
    let credentials = Credentials {
        username: account.credentials.username.clone(),
        secret: account.credentials.secret.clone(),
    };
    let client = Client::new(options, credentials)
        .with_context(|| format!("account `{label}`: cannot prepare the connection to Twilio"))?;
    let sid =
        AccountSid::parse(&account.account_sid).with_context(|| format!("account `{label}`"))?;
    let key = AccountKey { sid, region: account.region.clone() };
    let gate = Gate::new(max_concurrency);
    Ok(Account { key, label, status: "unknown", client, gate })
}

fn wanted(account: &AccountConfig, config: &Config) -> Option<Wanted> {
    // In another region the same subaccounts are other accounts, whose labels must differ.
    let mut same_sid =
        config.accounts.iter().filter(|other| other.account_sid == account.account_sid);
    let is_first = same_sid.next().is_none_or(|first| first.region == account.region);
    let same_region = config.accounts.iter().filter(|other| other.region == account.region);
    let configured: BTreeSet<AccountSid> =
        same_region.filter_map(|other| AccountSid::parse(&other.account_sid).ok()).collect();
    let subaccounts = account.subaccounts.as_ref().filter(|subaccounts| subaccounts.discover)?;
    Some(Wanted {
        include: subaccounts.include.clone(),
        exclude: subaccounts.exclude.clone(),
        names: subaccounts.names.clone(),
        region: (!is_first).then(|| account.region.clone()),
        configured,
    })
}
