//! Builds the program, runs its tasks, reloads the configuration and shuts down.

mod descriptors;
pub mod online;
mod polling;
mod process;
mod proxy;
mod push;
mod reload_queue;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, anyhow};
use prometheus::Registry;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::cli::ListenAddress;
use crate::clock::Clock;
use crate::config::{Config, Origin};
use crate::http::reload::{self, ReloadRequests};
use crate::http::{self, HttpState};
use crate::metrics::health::Health;
use crate::poller::heartbeat::Heartbeats;
use crate::poller::inbox::Inboxes;
use crate::poller::tracked::TrackedCalls;
use crate::signal::ReloadSignals;
use crate::store::{AttachedAccount, Store, StoreThread};
use crate::systemd;
use crate::web::WebSettings;

pub(crate) use polling::accounts;
use polling::{KnownSubaccounts, PollLoops, PollingSetup, StartupOptions};
use process::Process;
use push::PushState;
use reload_queue::ReloadQueue;

/// How long responses in progress may take to finish at shutdown.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(1);

/// A program that is ready to run: its store is open and its sockets are bound.
#[derive(Debug)]
pub struct App {
    setup: PollingSetup,
    origin: Origin,
    attached: Vec<AttachedAccount>,
    /// Subaccounts that an earlier run discovered.
    known: KnownSubaccounts,
    listeners: Vec<TcpListener>,
    startup: StartupOptions,
    http: HttpState,
    exemplars: Arc<AtomicBool>,
    pushing: PushState,
    reload_requests: ReloadRequests,
    store_thread: StoreThread,
}

/// The options that a reload doesn't change.
#[derive(Debug)]
pub struct ServerOptions {
    /// The directory of the store.
    pub storage: PathBuf,
    /// The addresses to listen on.
    pub listen: Vec<ListenAddress>,
    /// Whether `/-/reload` is enabled.
    pub lifecycle: bool,
    /// TLS, users and headers.
    pub web: WebSettings,
}

/// Reloads the configuration from the origin of the current one. An error lists all problems.
pub type LoadConfig = dyn Fn(&Origin) -> Result<Config, String> + Send + Sync;

/// Reloads the configuration of a running program.
pub struct ConfigReloader {
    /// Loads the configuration.
    pub load: Arc<LoadConfig>,
    /// Signals that request a reload.
    pub reload_signals: ReloadSignals,
}

impl std::fmt::Debug for ConfigReloader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ConfigReloader").finish_non_exhaustive()
    }
}

impl App {
    /// Opens the store, binds the sockets and creates the clients.
    ///
    /// # Errors
    /// Fails if the store, a socket or TLS can't be used.
    pub async fn build(config: &Config, options: ServerOptions) -> anyhow::Result<Self> {
        let clock = Clock::start();
        let connections = descriptors::connections(config);
        let registry = Registry::new();
        let health = Health::register(&registry).context("cannot register the metrics")?;
        health.config_loaded(true);
        let (store, store_thread) = open_store(config, &options.storage, &health, clock)?;
        registry
            .register(Box::new(Process::started_now(move || clock.wall())))
            .context("cannot register the metrics")?;
        let listeners = bind(&options.listen).await?;
        let startup = StartupOptions {
            clock,
            tracked: TrackedCalls::new(config.tracked_calls),
            health,
            store,
            inboxes: Inboxes::default(),
            heartbeats: Heartbeats::default(),
        };
        let (reloads, reload_requests) = reload::channel();
        let exemplars = Arc::new(AtomicBool::new(config.exemplars));
        let pushing = PushState::default();
        pushing.configure(config, &startup.inboxes, &startup.health);
        let beats = startup.heartbeats.clone();
        let store_is_lost = startup.store.is_lost();
        let [refusals, clocks, time] = [(); 3].map(|()| startup.health.clone());
        let http = HttpState {
            gather: Arc::new(move || {
                clocks.compare_clocks(clock.step());
                registry.gather()
            }),
            committed: startup.store.committed(),
            failures: startup.store.failures(),
            troubles: startup.health.troubles(),
            exemplars: Arc::clone(&exemplars),
            scrapers: http::Scrapers::new(config.limits.hold_back),
            scrapes: Arc::new(Semaphore::new(http::MAX_SCRAPES)),
            renders: Arc::new(Semaphore::new(http::MAX_RENDERS)),
            is_ready: Arc::new(move || beats.all_on_time() && !store_is_lost()),
            now: Arc::new(move || clock.now()),
            time: Arc::new(move || time.twilio_time(clock.now()).unwrap_or_else(|| clock.wall())),
            reloads: options.lifecycle.then_some(reloads),
            pushes: pushing.pushes(startup.health.clone()),
            web: options.web,
            connections: Arc::new(Semaphore::new(connections)),
            note_refused: Arc::new(move || refusals.count_refused_connection()),
        };
        let setup = PollingSetup::new(config, &startup)?;
        proxy::log_paths(config);
        let attached = setup.attach().await?;
        let known = setup.restore_subaccounts(&attached).await?;
        Ok(Self {
            setup,
            origin: config.origin.clone(),
            attached,
            known,
            listeners,
            startup,
            http,
            exemplars,
            pushing,
            reload_requests,
            store_thread,
        })
    }

    /// Returns the bound addresses.
    pub fn addresses(&self) -> Vec<std::net::SocketAddr> {
        self.listeners.iter().filter_map(|listener| listener.local_addr().ok()).collect()
    }

    /// Runs until `stop` is cancelled, then shuts down. Without `reloading`, the configuration can't be reloaded.
    ///
    /// # Errors
    /// Fails if a server task or the store's thread ends early.
    pub async fn run(
        mut self,
        stop: CancellationToken,
        mut reloading: Option<ConfigReloader>,
    ) -> anyhow::Result<()> {
        let mut servers = JoinSet::new();
        for listener in self.listeners {
            let address = listener.local_addr().context("cannot determine the address")?;
            tracing::info!(%address, "listening");
            servers.spawn(http::serve(listener, self.http.clone(), stop.clone()));
        }
        let mut background = JoinSet::new();
        background.spawn(self.http.web.clone().follow());
        let heartbeats = &self.startup.heartbeats;
        let beats = heartbeats.clone();
        background.spawn(systemd::feed_watchdog(move || beats.all_on_time()));
        let loops = PollLoops::default();
        let mut polling = self.setup.start(self.attached, self.known, loops, heartbeats, &stop);
        let mut reloads = ReloadQueue::default();
        systemd::ready("polling Twilio");
        let served = loop {
            tokio::select! {
                () = stop.cancelled() => break Ok(()),
                // Nothing can be counted without the store. After a restart, counting continues.
                () = self.store_thread.ended() => break Err(anyhow!("the store's thread ended early")),
                Some(ended) = servers.join_next() => break ended.context("a server task panicked"),
                () = reload_signal(&mut reloading) => {
                    reloads.request(None);
                    continue;
                }
                Some(reply) = self.reload_requests.recv() => {
                    reloads.request(Some(reply));
                    continue;
                }
                () = reloads.ready() => {}
            }
            let replies = reloads.begin();
            let reloaded;
            systemd::reloading();
            (polling, reloaded) = ReloadTargets {
                origin: &mut self.origin,
                startup: &self.startup,
                exemplars: &self.exemplars,
                pushing: &self.pushing,
                http: &self.http,
            }
            .run(polling, reloading.as_ref(), &stop)
            .await;
            self.startup.health.config_loaded(reloaded.is_ok());
            match &reloaded {
                Ok(()) => tracing::info!("configuration reloaded"),
                Err(problems) => tracing::warn!(
                    %problems,
                    "cannot reload the configuration; the previous one stays active"
                ),
            }
            systemd::ready(match &reloaded {
                Ok(()) => "polling Twilio",
                Err(_) => "polling Twilio; the last reload failed, see the log",
            });
            for reply in replies {
                // The client may have disconnected.
                let _gone = reply.send(reloaded.clone());
            }
        };
        systemd::stopping();
        stop.cancel();
        polling.stop().await;
        // Ends requests that wait for a reload.
        drop(self.reload_requests);
        let drained = async { while servers.join_next().await.is_some() {} };
        if tokio::time::timeout(DRAIN_TIMEOUT, drained).await.is_err() {
            tracing::debug!("closed connections whose clients didn't read their responses in time");
        }
        servers.abort_all();
        while servers.join_next().await.is_some() {}
        // Dropping the last handles ends the writer.
        drop((self.startup, self.http));
        if !self.store_thread.join() {
            tracing::error!("the store's thread panicked");
        }
        served
    }
}

/// Waits for a reload signal; without a reloader, forever.
async fn reload_signal(reloading: &mut Option<ConfigReloader>) {
    match reloading {
        Some(reloading) => reloading.reload_signals.next().await,
        None => std::future::pending().await,
    }
}

/// The state that a reload changes, apart from the poll loops.
struct ReloadTargets<'a> {
    origin: &'a mut Origin,
    startup: &'a StartupOptions,
    exemplars: &'a AtomicBool,
    pushing: &'a PushState,
    http: &'a HttpState,
}

impl ReloadTargets<'_> {
    /// Reloads the configuration and applies it. An invalid configuration changes nothing.
    async fn run(
        self,
        polling: PollLoops,
        reloading: Option<&ConfigReloader>,
        stop: &CancellationToken,
    ) -> (PollLoops, Result<(), String>) {
        let Some(reloading) = reloading else {
            return (polling, Err("there is no configuration to reload".to_owned()));
        };
        // Reading a file may hang, which must not delay shutdown.
        let (load, former) = (Arc::clone(&reloading.load), self.origin.clone());
        let loaded = tokio::select! {
            () = stop.cancelled() => return (polling, Err("the exporter is stopping".to_owned())),
            loaded = tokio::task::spawn_blocking(move || load(&former)) => loaded,
        };
        let loaded = loaded.unwrap_or_else(|error| Err(format!("cannot be read: {error}")));
        let checked = loaded.and_then(|config| {
            let setup =
                PollingSetup::new(&config, self.startup).map_err(|error| format!("{error:#}"))?;
            Ok((config, setup))
        });
        let (config, setup) = match checked {
            Ok(checked) => checked,
            Err(problems) => return (polling, Err(problems)),
        };
        // While the old loops end, the watchdog watches this task instead.
        let heartbeat = self.startup.heartbeats.watch();
        heartbeat.set_deadline(polling::GRACE);
        proxy::log_paths(&config);
        let removed = config.origin.removed_keys(self.origin);
        if !removed.is_empty() {
            let keys = removed.join(", ");
            tracing::warn!(keys, "the configuration file no longer sets some keys");
        }
        *self.origin = config.origin.clone();
        self.startup.store.limit(config.limits);
        self.startup.tracked.set_limit(config.tracked_calls);
        self.exemplars.store(config.exemplars, Ordering::Relaxed);
        self.pushing.configure(&config, &self.startup.inboxes, &self.startup.health);
        self.http.scrapers.set_hold_back(config.limits.hold_back);
        (polling.reconfigure(setup, self.startup, stop).await, Ok(()))
    }
}

fn open_store(
    config: &Config,
    storage: &Path,
    health: &Health,
    clock: Clock,
) -> anyhow::Result<(Store, StoreThread)> {
    let (store, thread) = Store::open(storage, config.limits, health.clone(), move || clock.now())?;
    health.store_opened(store.created_at());
    let path = std::path::absolute(storage).unwrap_or_else(|_| PathBuf::from(storage));
    if store.is_new() {
        tracing::warn!(
            path = %path.display(),
            "created a new store: all counters start at 0; if this isn't the first start, the volume isn't persistent"
        );
    } else {
        tracing::info!(path = %path.display(), "store opened");
    }
    Ok((store, thread))
}

async fn bind(listen: &[ListenAddress]) -> anyhow::Result<Vec<TcpListener>> {
    let mut listeners = Vec::new();
    for address in listen {
        let listener = address.bind().await.map_err(|error| {
            anyhow!(
                "cannot listen on {}: {error}; choose a free port and an address of this machine with --web.listen-address",
                address.shown()
            )
        })?;
        listeners.push(listener);
    }
    Ok(listeners)
}
