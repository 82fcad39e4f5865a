//! Builds the parts, runs the tasks, drains them.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, bail};
use prometheus::Registry;
use prometheus::process_collector::ProcessCollector;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::cli::ListenAddress;
use crate::clock::Clock;
use crate::config::{AccountConfig, Config};
use crate::domain::listing::ListPlan;
use crate::domain::plan::ReadPlan;
use crate::domain::route::Routes;
use crate::domain::sid::AccountSid;
use crate::domain::twilio_time::TwilioTime;
use crate::http::{self, Site};
use crate::metrics::health::Health;
use crate::metrics::ledger::LedgerLimits;
use crate::poller::discovery::{self, Wanted};
use crate::poller::gate::Gate;
use crate::poller::heartbeat::Heartbeats;
use crate::poller::{self, Account, Shared};
use crate::store::{AccountKey, Attached, Store, StoreThread};
use crate::twilio::{Client, ClientOptions, Credentials, LargeBodies};

/// How long tasks may take to end after the signal: requests are abandoned at once, so this is
/// for the commit in flight.
const GRACE: Duration = Duration::from_secs(10);

/// A built program: everything is open and bound, nothing runs yet.
#[derive(Debug)]
pub struct App {
    accounts: Vec<(Account, Attached, Option<Wanted>)>,
    listeners: Vec<TcpListener>,
    shared: Shared,
    heartbeats: Heartbeats,
    site: Site,
    store_thread: StoreThread,
}

impl App {
    /// Opens the store, binds the sockets, prepares the clients.
    ///
    /// # Errors
    /// Whatever the program can't start without: its store, a socket, TLS.
    pub async fn build(
        config: &Config,
        storage: &Path,
        listen: &[ListenAddress],
    ) -> anyhow::Result<Self> {
        let clock = Clock::start();
        let registry = Registry::new();
        let health = Health::register(&registry).context("cannot register the metrics")?;
        // What is built from was valid.
        health.config_loaded(true);
        let (store, store_thread) = open_store(config, storage, &health, clock)?;
        registry
            .register(Box::new(ProcessCollector::for_self()))
            .context("cannot register the metrics")?;
        let listeners = bind(listen).await?;
        let shared = Shared {
            clock,
            twilio_time: Arc::new(Mutex::new(TwilioTime::default())),
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
            health,
            store: store.clone(),
        };
        let heartbeats = Heartbeats::default();
        let beats = heartbeats.clone();
        let site = Site {
            registry,
            committed: store.committed(),
            failures: store.failures(),
            exemplars: config.exemplars,
            turns: http::Turns::default(),
            is_ready: Arc::new(move || beats.all_beat()),
            now: Arc::new(move || clock.now()),
        };
        // Before anything is served: a scrape right after a restart shows every series.
        let mut attached = Vec::new();
        for (account, wanted) in accounts(config)? {
            let known = store.attach(account.key.clone(), account.label.clone()).await;
            attached.push((account, known.context("cannot load an account")?, wanted));
        }
        Ok(Self { accounts: attached, listeners, shared, heartbeats, site, store_thread })
    }

    /// The addresses that are served.
    pub fn addresses(&self) -> Vec<std::net::SocketAddr> {
        self.listeners.iter().filter_map(|listener| listener.local_addr().ok()).collect()
    }

    /// Runs until `stop`, then drains.
    ///
    /// # Errors
    /// If a socket can no longer be served.
    pub async fn run(self, stop: CancellationToken) -> anyhow::Result<()> {
        let tasks = TaskTracker::new();
        let mut servers = tokio::task::JoinSet::new();
        for listener in self.listeners {
            let address = listener.local_addr().context("cannot tell the address")?;
            tracing::info!(%address, "listening");
            servers.spawn(serve(listener, self.site.clone(), stop.clone()));
        }
        for (account, attached, wanted) in self.accounts {
            if let Some(wanted) = wanted {
                tasks.spawn(discovery::run(
                    account.clone(),
                    wanted,
                    self.shared.clone(),
                    self.heartbeats.clone(),
                    tasks.clone(),
                    stop.clone(),
                ));
            }
            let beat = self.heartbeats.watch();
            tasks.spawn(poller::run(account, attached, self.shared.clone(), beat, stop.clone()));
        }
        tasks.close();
        let served = tokio::select! {
            () = stop.cancelled() => Ok(()),
            Some(ended) = servers.join_next() => ended.context("a server task panicked")?,
        };
        stop.cancel();
        if tokio::time::timeout(GRACE, tasks.wait()).await.is_err() {
            tracing::warn!("not everything ended in time; what was not committed is read again");
        }
        servers.abort_all();
        while servers.join_next().await.is_some() {}
        // The last handles go, and with them the writer.
        drop((self.shared, self.site));
        self.store_thread.join();
        served.context("cannot serve")
    }
}

async fn serve(listener: TcpListener, site: Site, stop: CancellationToken) -> std::io::Result<()> {
    axum::serve(listener, http::router(site)).with_graceful_shutdown(stop.cancelled_owned()).await
}

fn open_store(
    config: &Config,
    storage: &Path,
    health: &Health,
    clock: Clock,
) -> anyhow::Result<(Store, StoreThread)> {
    let limits = LedgerLimits {
        routes_per_account: config.limits.routes_per_account,
        series: config.limits.series,
        hold_back: config.limits.hold_back,
    };
    let (store, thread) = Store::open(storage, limits, health.clone(), move || clock.now())?;
    health.store_opened(crate::domain::twilio_time::seconds_between(
        jiff::Timestamp::UNIX_EPOCH,
        store.created_at(),
    ));
    let path = std::path::absolute(storage).unwrap_or_else(|_| PathBuf::from(storage));
    if store.is_new() {
        tracing::warn!(
            path = %path.display(),
            "created a new store: all counters start at 0; if this is no first start, its volume isn't persistent"
        );
    } else {
        tracing::info!(path = %path.display(), "store opened");
    }
    Ok((store, thread))
}

async fn bind(listen: &[ListenAddress]) -> anyhow::Result<Vec<TcpListener>> {
    let mut listeners = Vec::new();
    for address in listen {
        let listener = address.bind().await.with_context(|| {
            format!("cannot listen on `{address}`: free the port, or choose another with --web.listen-address")
        })?;
        listeners.push(listener);
    }
    Ok(listeners)
}

fn accounts(config: &Config) -> anyhow::Result<Vec<(Account, Option<Wanted>)>> {
    let ca_pem = match &config.api.ca_file {
        Some(path) => Some(std::fs::read(path).with_context(|| {
            format!("cannot read the certificates of api.ca_file `{}`", path.display())
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
    let same_region = config.accounts.iter().filter(|other| other.region == account.region);
    let configured: BTreeSet<AccountSid> =
        same_region.filter_map(|other| AccountSid::parse(&other.account_sid).ok()).collect();
    let subaccounts = account.subaccounts.as_ref().filter(|subaccounts| subaccounts.discover)?;
    Some(Wanted {
        include: subaccounts.include.clone(),
        exclude: subaccounts.exclude.clone(),
        names: subaccounts.names.clone(),
        configured,
    })
}
