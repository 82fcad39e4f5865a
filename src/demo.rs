//! `demo` and `simulate`: the program against a Twilio of our own.
//!
//! The demo runs in real time with short delays, on loopback, with a store that goes away with it.

mod push;

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use axum::Router;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::app::{App, ServerOptions};
use crate::cli::{DEMO_LISTEN, DemoArgs, Flags, SimulateArgs};
use crate::clock::Clock;
use crate::config::{self, Config, Environment};
use crate::simulator::{Behaviour, FAILING, Mix, SimulatedAccount, Simulator, WorldConfig};
use crate::web::WebSettings;

use push::Pusher;

/// When the demo's webhooks begin to fail: late enough to see them healthy first.
const FAILING_AFTER: Duration = Duration::from_secs(30);
/// Calls that the demo's world has seen before it starts, so that the first page shows something.
const BACKLOG: Duration = Duration::from_secs(60);

/// The URL that the demo's Twilio pushes to, as far as it knows.
const PUBLIC_URL: &str = "https://exporter.example.com/push/error-log";
/// When the demo's error log shows an entry.
const ERROR_LOG_AFTER: Duration = Duration::from_secs(2);

/// The demo's delays: seconds where a real run has minutes.
const DELAYS: [(&str, &str); 7] = [
    ("TWILIO_EXPORTER_POLL__INTERVAL", "1s"),
    ("TWILIO_EXPORTER_POLL__LIVE_INTERVAL", "2s"),
    ("TWILIO_EXPORTER_POLL__AFTER_END", "[1s]"),
    ("TWILIO_EXPORTER_POLL__SETTLE_DELAY", "5s"),
    ("TWILIO_EXPORTER_POLL__AUDIT_AFTER", "10s"),
    ("TWILIO_EXPORTER_POLL__INITIAL_LOOKBACK", "2m"),
    ("TWILIO_EXPORTER_LIMITS__HOLD_BACK", "2s"),
];

/// A demo that is built and serves its Twilio, but polls nothing yet.
#[derive(Debug)]
pub struct Demo {
    app: App,
    twilio: String,
    pusher: Option<Pusher>,
    server: JoinHandle<()>,
    /// Goes away with the demo.
    _directory: tempfile::TempDir,
}

impl Demo {
    /// Starts the simulated Twilio, and builds the program against it.
    ///
    /// # Errors
    /// If a socket or the temporary store can't be had.
    pub async fn build(
        flags: &Flags,
        arguments: DemoArgs,
        stop: &CancellationToken,
    ) -> anyhow::Result<Self> {
        let world = WorldConfig {
            seed: arguments.seed,
            accounts: 1,
            subaccounts: 0,
            calls_per_minute: 40.0,
            max_calls: None,
            backlog: BACKLOG,
            call_seconds: 5..=20,
            failing_after: Some(FAILING_AFTER),
            failing_for: arguments.failing_for,
            mix: Mix::Demo,
        };
        let simulator = simulator(world);
        let events_after = arguments.events_after.unwrap_or_default();
        simulator.behave(Behaviour {
            events_after: events_after.as_secs(),
            error_log_after: ERROR_LOG_AFTER.as_secs(),
            ..Behaviour::default()
        });
        let listener =
            TcpListener::bind("127.0.0.1:0").await.context("cannot listen on loopback")?;
        let twilio = format!("http://{}", listener.local_addr()?);
        let server = serve(listener, simulator.router(), stop.clone());
        let account =
            simulator.accounts().into_iter().next().context("the world has no account")?;
        let directory = tempfile::Builder::new()
            .prefix("twilio-call-exporter-demo-")
            .tempdir()
            .context("cannot make a temporary store")?;
        let listen = flags.listen_or(DEMO_LISTEN);
        let config = demo_config(&account, &twilio, events_after, arguments.push)?;
        let place = ServerOptions {
            storage: directory.path().to_owned(),
            listen,
            lifecycle: flags.web_enable_lifecycle,
            web: WebSettings::load(flags.web_config_file.as_deref()).map_err(anyhow::Error::msg)?,
        };
        let app = App::build(&config, place).await?;
        let address = app.addresses().first().copied().filter(|_| arguments.push);
        let pusher = address.map(|address| Pusher {
            simulator,
            url: PUBLIC_URL.to_owned(),
            target: format!("http://{address}/push/error-log"),
        });
        Ok(Self { app, twilio, pusher, server, _directory: directory })
    }

    /// What a newcomer should look at, and what will happen.
    pub fn announcement(&self) -> String {
        let address = self.app.addresses().first().map_or_else(String::new, ToString::to_string);
        let (host, route) = FAILING;
        format!(
            "A simulated Twilio plays a phone line; nothing leaves this machine.\n\
             \n\
             \x20 http://{address}/metrics   the metrics, for Prometheus\n\
             \x20 http://{address}/failures  the most recent failing requests\n\
             \x20 http://{address}/          the exporter at a glance\n\
             \x20 {}/_simulator/truth   what the simulated Twilio knows\n\
             \n\
             Now:         calls come in, their webhooks are answered in good TwiML.\n\
             After {} s:  https://{host}{route} begins to fail: 500s, JSON instead of TwiML, timeouts.\n\
             \x20            See twilio_webhook_failures_total and\n\
             \x20            twilio_calls_with_webhook_failures_total; /failures leads to the calls.\n\
             \x20            twilio_error_log_entries_total counts what Twilio's error log reports.\n\
             \x20            With --events-after=15m, as on many accounts, only that knows at first.\n\
             \x20            With --push, Twilio pushes its error log instead of being asked for it.\n\
             \n\
             Delays are seconds here; a real run settles a call 16 minutes after its end.\n\
             Ctrl-C ends it and removes its store.\n",
            self.twilio,
            FAILING_AFTER.as_secs(),
        )
    }

    /// Runs until `stop`.
    ///
    /// # Errors
    /// As the program's own.
    pub async fn run(self, stop: CancellationToken) -> anyhow::Result<()> {
        let pushing = self.pusher.map(|pusher| tokio::spawn(pusher.run(stop.child_token())));
        let result = self.app.run(stop, None).await;
        pushing.inspect(JoinHandle::abort);
        self.server.abort();
        result
    }
}

fn demo_config(
    account: &SimulatedAccount,
    twilio: &str,
    events_after: Duration,
    is_pushed: bool,
) -> anyhow::Result<Config> {
    let own = [
        ("TWILIO_ACCOUNT_SID", account.account_sid.as_str()),
        ("TWILIO_AUTH_TOKEN", account.auth_token.as_str()),
        ("TWILIO_API_BASE_URL", twilio),
    ];
    let pushed = [
        ("TWILIO_EXPORTER_PUSH__PUBLIC_URL", PUBLIC_URL),
        ("TWILIO_EXPORTER_POLL__ERROR_LOG_INTERVAL", "0s"),
    ];
    let pushed = pushed.into_iter().filter(|_| is_pushed);
    let environment = Environment::from_pairs(own.into_iter().chain(DELAYS).chain(pushed));
    let mut config = config::load(None, &environment).context("the demo's own configuration")?;
    for configured in &mut config.accounts {
        configured.label = "demo".to_owned();
    }
    // A call is complete only once its events are shown.
    config.reads.settle_delay += events_after;
    Ok(config)
}

/// A simulated Twilio that is bound and serves.
#[derive(Debug)]
pub struct Simulation {
    simulator: Simulator,
    address: String,
    push_to: Option<String>,
    server: JoinHandle<()>,
}

impl Simulation {
    /// Binds and serves.
    ///
    /// # Errors
    /// If the socket can't be had.
    pub async fn start(arguments: &SimulateArgs, stop: &CancellationToken) -> anyhow::Result<Self> {
        let world = WorldConfig {
            seed: arguments.seed,
            accounts: arguments.accounts,
            subaccounts: 0,
            calls_per_minute: arguments.calls_per_minute,
            max_calls: arguments.max_calls,
            backlog: BACKLOG,
            call_seconds: 5..=20,
            failing_after: arguments.failing_after,
            failing_for: None,
            mix: if arguments.everything { Mix::Everything } else { Mix::Demo },
        };
        let simulator = simulator(world);
        let listener = arguments
            .listen
            .bind()
            .await
            .with_context(|| format!("cannot listen on {}", arguments.listen.shown()))?;
        let address = format!("http://{}", listener.local_addr()?);
        let server = serve(listener, simulator.router(), stop.clone());
        let push_to = arguments.push_to.clone();
        if let Some(url) = &push_to {
            let (simulator, url) = (simulator.clone(), url.clone());
            let pusher = Pusher { simulator, target: url.clone(), url };
            tokio::spawn(pusher.run(stop.clone()));
        }
        Ok(Self { simulator, address, push_to, server })
    }

    /// How to point the exporter at it. The credentials are made up and open nothing else.
    pub fn announcement(&self) -> String {
        let mut text =
            format!("A simulated Twilio on {}, truth at /_simulator/truth.\n", self.address);
        let push = self.push_to.as_ref();
        let push = push.map(|url| format!("TWILIO_EXPORTER_PUSH__PUBLIC_URL={url} "));
        let push = push.unwrap_or_default();
        for account in self.simulator.accounts() {
            text.push_str(&format!(
                "\nTWILIO_API_BASE_URL={} {push}TWILIO_ACCOUNT_SID={} TWILIO_AUTH_TOKEN={} twilio-call-exporter\n",
                self.address, account.account_sid, account.auth_token
            ));
        }
        text
    }

    /// Serves until `stop`.
    ///
    /// # Errors
    /// If the server panicked.
    pub async fn run(self) -> anyhow::Result<()> {
        self.server.await.context("the simulated Twilio ended early")
    }
}

fn simulator(world: WorldConfig) -> Simulator {
    let clock = Clock::start();
    Simulator::new(world, Arc::new(move || clock.now()))
}

fn serve(listener: TcpListener, router: Router, stop: CancellationToken) -> JoinHandle<()> {
    tokio::spawn(async move {
        let served = axum::serve(listener, router).with_graceful_shutdown(stop.cancelled_owned());
        if let Err(error) = served.await {
            tracing::warn!(%error, "the simulated Twilio can no longer be served");
        }
    })
}
