//! The commands `demo` and `simulate`, which use a simulated Twilio.
//!
//! The demo runs in real time with short delays, on loopback, and removes its store at the end.

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

/// When the demo's webhooks start to fail: late enough to see them healthy first.
const FAILING_AFTER: Duration = Duration::from_secs(30);
/// The length of the call history when the demo starts, so that the first page isn't empty.
const BACKLOG: Duration = Duration::from_secs(60);

/// The public URL that the simulated Twilio signs when it pushes.
const PUBLIC_URL: &str = "https://exporter.example.com/push/error-log";
/// How soon the error log shows an entry.
const ERROR_LOG_AFTER: Duration = Duration::from_secs(2);

/// The demo's delays: seconds instead of minutes.
const DELAYS: [(&str, &str); 7] = [
    ("TWILIO_EXPORTER_POLL__INTERVAL", "1s"),
    ("TWILIO_EXPORTER_POLL__LIVE_INTERVAL", "2s"),
    ("TWILIO_EXPORTER_POLL__AFTER_END", "[1s]"),
    ("TWILIO_EXPORTER_POLL__SETTLE_DELAY", "5s"),
    ("TWILIO_EXPORTER_POLL__AUDIT_AFTER", "10s"),
    ("TWILIO_EXPORTER_POLL__INITIAL_LOOKBACK", "2m"),
    ("TWILIO_EXPORTER_LIMITS__HOLD_BACK", "2s"),
];

/// A demo that serves its simulated Twilio but doesn't poll it yet.
#[derive(Debug)]
pub struct Demo {
    app: App,
    twilio: String,
    pusher: Option<Pusher>,
    server: JoinHandle<()>,
    /// Removed when the demo is dropped.
    _directory: tempfile::TempDir,
}

impl Demo {
    /// Starts the simulated Twilio and builds the program against it.
    ///
    /// # Errors
    /// Fails if a socket or the temporary store can't be created.
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
        simulator.set_behaviour(Behaviour {
            events_after: events_after.as_secs(),
            error_log_after: ERROR_LOG_AFTER.as_secs(),
            ..Behaviour::default()
        });
        let listener =
            TcpListener::bind("127.0.0.1:0").await.context("cannot listen on loopback")?;
        let twilio = format!("http://{}", listener.local_addr()?);
        let server = serve(listener, simulator.router(), stop.clone());
        let account = simulator
            .accounts()
            .into_iter()
            .next()
            .context("the simulated Twilio has no account")?;
        let directory = tempfile::Builder::new()
            .prefix("twilio-call-exporter-demo-")
            .tempdir()
            .context("cannot create a temporary store")?;
        let listen = flags.listen_or(DEMO_LISTEN);
        let config = demo_config(&account, &twilio, events_after, arguments.push)?;
        let options = ServerOptions {
            storage: directory.path().to_owned(),
            listen,
            lifecycle: flags.web_enable_lifecycle,
            web: WebSettings::load(flags.web_config_file.as_deref()).map_err(anyhow::Error::msg)?,
        };
        let app = App::build(&config, options).await?;
        let address = app.addresses().first().copied().filter(|_| arguments.push);
        let pusher = address.map(|address| Pusher {
            simulator,
            url: PUBLIC_URL.to_owned(),
            target: format!("http://{address}/push/error-log"),
        });
        Ok(Self { app, twilio, pusher, server, _directory: directory })
    }

    /// Explains where to look and what will happen.
    pub fn announcement(&self) -> String {
        let address = self.app.addresses().first().map_or_else(String::new, ToString::to_string);
        let (host, route) = FAILING;
        format!(
            "A simulated Twilio is running a phone line; nothing leaves this machine.\n\
             \n\
             \x20 http://{address}/metrics   the metrics, for Prometheus\n\
             \x20 http://{address}/failures  the most recent failing requests\n\
             \x20 http://{address}/          the exporter's status\n\
             \x20 {}/_simulator/truth   what the simulated Twilio knows\n\
             \n\
             Now:         calls come in, and their webhooks return valid TwiML.\n\
             After {} s:  https://{host}{route} starts to fail: 500s, JSON instead of TwiML, timeouts.\n\
             \x20            See twilio_webhook_failures_total and\n\
             \x20            twilio_calls_with_webhook_failures_total; /failures links to the calls.\n\
             \x20            twilio_error_log_entries_total counts what Twilio's error log reports.\n\
             \x20            With --events-after=15m, as on many accounts, only this metric shows failures at first.\n\
             \x20            With --push, Twilio pushes its error log instead of being polled.\n\
             \n\
             Delays are seconds here; a real run settles a call 16 minutes after its end.\n\
             Ctrl-C stops the demo and removes its store.\n",
            self.twilio,
            FAILING_AFTER.as_secs(),
        )
    }

    /// Runs until `stop` is cancelled.
    ///
    /// # Errors
    /// Returns the program's errors.
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
    uses_push: bool,
) -> anyhow::Result<Config> {
    let own = [
        ("TWILIO_ACCOUNT_SID", account.account_sid.as_str()),
        ("TWILIO_AUTH_TOKEN", account.auth_token.as_str()),
        ("TWILIO_API_BASE_URL", twilio),
    ];
    let push_variables = [
        ("TWILIO_EXPORTER_PUSH__PUBLIC_URL", PUBLIC_URL),
        ("TWILIO_EXPORTER_POLL__ERROR_LOG_INTERVAL", "0s"),
    ];
    let push_variables = push_variables.into_iter().filter(|_| uses_push);
    let environment = Environment::from_pairs(own.into_iter().chain(DELAYS).chain(push_variables));
    let mut config = config::load(None, &environment).context("the demo's configuration")?;
    for configured in &mut config.accounts {
        configured.label = "demo".to_owned();
    }
    // A call is settled only once its events are visible.
    config.reads.settle_delay += events_after;
    Ok(config)
}

/// A simulated Twilio that serves its address.
#[derive(Debug)]
pub struct Simulation {
    simulator: Simulator,
    address: String,
    push_to: Option<String>,
    server: JoinHandle<()>,
}

impl Simulation {
    /// Binds the address and starts serving.
    ///
    /// # Errors
    /// Fails if the address can't be bound.
    pub async fn start(arguments: &SimulateArgs, stop: &CancellationToken) -> anyhow::Result<Self> {
        let world = WorldConfig {
            seed: arguments.seed,
            accounts: arguments.accounts,
            subaccounts: 0,
            calls_per_minute: arguments.calls_per_minute,
            max_calls: arguments.max_calls,
            backlog: arguments.backlog,
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

    /// Shows how to point the exporter at it. The credentials are made up and give access to nothing else.
    pub fn announcement(&self) -> String {
        let mut text = format!(
            "A simulated Twilio on {}, the expected counts are at /_simulator/truth.\n",
            self.address
        );
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

    /// Serves until `stop` is cancelled.
    ///
    /// # Errors
    /// Fails if the server panicked.
    pub async fn run(self) -> anyhow::Result<()> {
        self.server.await.context("the simulated Twilio stopped unexpectedly")
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
            tracing::warn!(%error, "the simulated Twilio can't be served any longer");
        }
    })
}
