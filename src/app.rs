//! Builds the parts, runs the tasks, reloads the configuration, drains.

mod descriptors;
pub mod online;
mod polling;
mod process;
mod proxy;
mod push;
mod turns;
mod web;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, anyhow};
use prometheus::Registry;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::cli::ListenAddress;
use crate::clock::Clock;
use crate::config::web::WebConfig;
use crate::config::{Config, Origin};
use crate::http::reload::{self, ReloadRequests};
use crate::http::web::{Serving, Web};
use crate::http::{self, Crowd, Site};
use crate::metrics::health::Health;
use crate::poller::heartbeat::Heartbeats;
use crate::poller::inbox::Inboxes;
use crate::poller::tracked::TrackedCalls;
use crate::signal::Hangups;
use crate::store::{Attached, Store, StoreThread};
use crate::systemd;

use polling::{KnownSubaccounts, Lasting, Polling, Prepared};
use process::Process;
use push::Pushing;
use turns::ReloadTurns;

/// How long answers that are on their way may take at the end.
const ANSWERS_WITHIN: Duration = Duration::from_secs(1);

/// A built program: everything is open and bound, nothing runs yet.
#[derive(Debug)]
pub struct App {
    prepared: Prepared,
    origin: Origin,
    attached: Vec<Attached>,
    /// The subaccounts that are known from an earlier run.
    known: KnownSubaccounts,
    listeners: Vec<TcpListener>,
    lasting: Lasting,
    site: Site,
    exemplars: Arc<AtomicBool>,
    pushing: Pushing,
    reload_requests: ReloadRequests,
    web_file: Option<(PathBuf, WebConfig)>,
    store_thread: StoreThread,
}

/// Where the program stands: what no reload changes.
#[derive(Debug)]
pub struct Place {
    /// Directory of the store.
    pub storage: PathBuf,
    /// The addresses to serve.
    pub listen: Vec<ListenAddress>,
    /// Whether a reload may be asked for over HTTP.
    pub lifecycle: bool,
    /// How pages are served.
    pub web: WebSetup,
}

/// How pages are served, and the file that says so.
#[derive(Debug)]
pub struct WebSetup {
    serving: Serving,
    file: Option<(PathBuf, WebConfig)>,
}

impl WebSetup {
    /// Reads a web configuration file; without one, pages are plain and for everybody.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn load(file: Option<&Path>) -> Result<Self, String> {
        let (config, serving) = web::load(file)?;
        Ok(Self { serving, file: file.map(|file| (file.to_owned(), config)) })
    }
}

/// Reads the configuration again from where it came from, to replace the one of this origin; an error
/// tells everything that is wrong with it.
pub type Load = dyn Fn(&Origin) -> Result<Config, String> + Send + Sync;

/// How a running program comes by a new configuration.
pub struct Reloading {
    /// Reads it again.
    pub load: Arc<Load>,
    /// The signals that ask for it.
    pub hangups: Hangups,
}

impl std::fmt::Debug for Reloading {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reloading").finish_non_exhaustive()
    }
}

impl App {
    /// Opens the store, binds the sockets, prepares the clients.
    ///
    /// # Errors
    /// Whatever the program can't start without: its store, a socket, TLS.
    pub async fn build(config: &Config, place: Place) -> anyhow::Result<Self> {
        let clock = Clock::start();
        let connections = descriptors::connections(config);
        let registry = Registry::new();
        let health = Health::register(&registry).context("cannot register the metrics")?;
        // What is built from was valid.
        health.config_loaded(true);
        let (store, store_thread) = open_store(config, &place.storage, &health, clock)?;
        registry
            .register(Box::new(Process::started_now(move || clock.wall())))
            .context("cannot register the metrics")?;
        let listeners = bind(&place.listen).await?;
        let lasting = Lasting {
            clock,
            tracked: TrackedCalls::new(config.tracked_calls),
            health,
            store,
            inboxes: Inboxes::default(),
            heartbeats: Heartbeats::default(),
        };
        let (reloads, reload_requests) = reload::channel();
        let exemplars = Arc::new(AtomicBool::new(config.exemplars));
        let pushing = Pushing::default();
        pushing.follow(config, &lasting.inboxes, &lasting.health);
        let beats = lasting.heartbeats.clone();
        let store_is_lost = lasting.store.is_lost();
        let [noted, compared, told] = [(); 3].map(|()| lasting.health.clone());
        let site = Site {
            gather: Arc::new(move || {
                compared.compare_clocks(clock.step());
                registry.gather()
            }),
            committed: lasting.store.committed(),
            failures: lasting.store.failures(),
            troubles: lasting.health.troubles(),
            exemplars: Arc::clone(&exemplars),
            scribe: http::Scribe::default(),
            scrapers: http::Scrapers::new(config.limits.hold_back),
            answers: http::Answers::default(),
            is_ready: Arc::new(move || beats.all_beat() && !store_is_lost()),
            now: Arc::new(move || clock.now()),
            time: Arc::new(move || told.twilio_time(clock.now()).unwrap_or_else(|| clock.wall())),
            reloads: place.lifecycle.then_some(reloads),
            pushes: pushing.pushes(lasting.health.clone()),
            web: Web::new(place.web.serving),
            crowd: Crowd::new(connections, Arc::new(move || noted.http_connection_cut())),
        };
        let prepared = Prepared::new(config, &lasting)?;
        proxy::announce(config);
        let attached = prepared.attach().await?;
        let known = prepared.show_known(&attached).await?;
        Ok(Self {
            prepared,
            origin: config.origin.clone(),
            attached,
            known,
            listeners,
            lasting,
            site,
            exemplars,
            pushing,
            reload_requests,
            web_file: place.web.file,
            store_thread,
        })
    }

    /// The addresses that are served.
    pub fn addresses(&self) -> Vec<std::net::SocketAddr> {
        self.listeners.iter().filter_map(|listener| listener.local_addr().ok()).collect()
    }

    /// Runs until `stop`, then drains. Without `reloading` the configuration stays as it is.
    ///
    /// # Errors
    /// If a socket can no longer be served, or nothing be stored.
    pub async fn run(
        mut self,
        stop: CancellationToken,
        mut reloading: Option<Reloading>,
    ) -> anyhow::Result<()> {
        let mut servers = JoinSet::new();
        for listener in self.listeners {
            let address = listener.local_addr().context("cannot tell the address")?;
            tracing::info!(%address, "listening");
            servers.spawn(http::serve(listener, self.site.clone(), stop.clone()));
        }
        let mut followers = JoinSet::new();
        if let Some((file, current)) = self.web_file {
            if current.tls.is_none() && current.users.is_empty() {
                tracing::warn!(
                    "the web configuration file sets neither TLS nor users: every client that reaches the port can read the pages"
                );
            }
            followers.spawn(web::follow(file, current, self.site.web.clone()));
        }
        let heartbeats = &self.lasting.heartbeats;
        let beats = heartbeats.clone();
        followers.spawn(systemd::feed_watchdog(move || beats.all_beat()));
        let polled = Polling::default();
        let mut polling = self.prepared.start(self.attached, self.known, polled, heartbeats, &stop);
        let mut reloads = ReloadTurns::default();
        systemd::ready("polling Twilio");
        let served = loop {
            tokio::select! {
                () = stop.cancelled() => break Ok(()),
                // Without it nothing is counted any more: started again, the program goes on.
                () = self.store_thread.ended() => break Err(anyhow!("the store's thread ended early")),
                Some(ended) = servers.join_next() => {
                    let served = ended.context("a server task panicked")?;
                    break served.context("cannot serve");
                }
                () = hangup(&mut reloading) => {
                    reloads.ask(None);
                    continue;
                }
                Some(reply) = self.reload_requests.recv() => {
                    reloads.ask(Some(reply));
                    continue;
                }
                () = reloads.turn() => {}
            }
            let replies = reloads.take();
            let reloaded;
            systemd::reloading();
            (polling, reloaded) = Reload {
                origin: &mut self.origin,
                lasting: &self.lasting,
                exemplars: &self.exemplars,
                pushing: &self.pushing,
                site: &self.site,
            }
            .run(polling, reloading.as_ref(), &stop)
            .await;
            self.lasting.health.config_loaded(reloaded.is_ok());
            match &reloaded {
                Ok(()) => tracing::info!("configuration reloaded"),
                Err(problems) => tracing::warn!(
                    %problems,
                    "cannot reload the configuration, the former one stays in force"
                ),
            }
            systemd::ready(match &reloaded {
                Ok(()) => "polling Twilio",
                Err(_) => "polling Twilio; the last reload failed, see the log",
            });
            for reply in replies {
                // A client that has gone away waits for no answer.
                let _gone = reply.send(reloaded.clone());
            }
        };
        systemd::stopping();
        stop.cancel();
        polling.stop().await;
        // Whoever waits for a reload is told that none will come.
        drop(self.reload_requests);
        let answered = async { while servers.join_next().await.is_some() {} };
        if tokio::time::timeout(ANSWERS_WITHIN, answered).await.is_err() {
            tracing::debug!("answers that nobody took were cut off");
        }
        servers.abort_all();
        while servers.join_next().await.is_some() {}
        // The last handles go, and with them the writer.
        drop((self.lasting, self.site));
        if !self.store_thread.join() {
            tracing::error!("the store's thread panicked");
        }
        served
    }
}

/// Waits for a signal that asks for a reload.
async fn hangup(reloading: &mut Option<Reloading>) {
    match reloading {
        Some(reloading) => reloading.hangups.next().await,
        None => std::future::pending().await,
    }
}

/// What a reload changes, besides the poll loops.
struct Reload<'a> {
    origin: &'a mut Origin,
    lasting: &'a Lasting,
    exemplars: &'a AtomicBool,
    pushing: &'a Pushing,
    site: &'a Site,
}

impl Reload<'_> {
    /// Reads the configuration again, and polls with it; where something is wrong with it, nothing
    /// changes.
    async fn run(
        self,
        polling: Polling,
        reloading: Option<&Reloading>,
        stop: &CancellationToken,
    ) -> (Polling, Result<(), String>) {
        let Some(reloading) = reloading else {
            return (polling, Err("there is no configuration to reload".to_owned()));
        };
        // Files may hang: what waits for them holds up no stop.
        let (load, former) = (Arc::clone(&reloading.load), self.origin.clone());
        let loaded = tokio::select! {
            () = stop.cancelled() => return (polling, Err("the exporter is stopping".to_owned())),
            loaded = tokio::task::spawn_blocking(move || load(&former)) => loaded,
        };
        let loaded =
            loaded.unwrap_or_else(|error| Err(format!("cannot be read this time: {error}")));
        let prepared = loaded.and_then(|config| {
            let prepared =
                Prepared::new(&config, self.lasting).map_err(|error| format!("{error:#}"))?;
            Ok((config, prepared))
        });
        let (config, prepared) = match prepared {
            Ok(prepared) => prepared,
            Err(problems) => return (polling, Err(problems)),
        };
        // The loops that end are watched no more: this one is watched in their place.
        let heartbeat = self.lasting.heartbeats.watch();
        heartbeat.promise(polling::GRACE);
        proxy::announce(&config);
        let lost = config.origin.lost(self.origin);
        if !lost.is_empty() {
            let keys = lost.join(", ");
            tracing::warn!(keys, "the configuration file no longer sets some keys");
        }
        *self.origin = config.origin.clone();
        self.lasting.store.limit(config.limits);
        self.lasting.tracked.set_limit(config.tracked_calls);
        self.exemplars.store(config.exemplars, Ordering::Relaxed);
        self.pushing.follow(&config, &self.lasting.inboxes, &self.lasting.health);
        self.site.scrapers.limit(config.limits.hold_back);
        self.site.crowd.limit(descriptors::connections(&config));
        (polling.change(prepared, self.lasting, stop).await, Ok(()))
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
            format!(
                "cannot listen on {}: free the port, or choose another with --web.listen-address",
                address.shown()
            )
        })?;
        listeners.push(listener);
    }
    Ok(listeners)
}
