//! Parses the command line.

mod backfill;

use std::ffi::OsString;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Args, Parser, Subcommand, ValueEnum};
use tokio::net::TcpListener;

use crate::config::{duration, shape};

pub use backfill::{BackfillArgs, Moment, Sample};

/// The exporter's port; it isn't in Prometheus' list of default ports.
const DEFAULT_LISTEN: &str = ":10914";
/// The demo's default address: loopback only, as its metrics are made up.
pub const DEMO_LISTEN: &str = "127.0.0.1:10914";
/// The default storage directory.
const DEFAULT_STORAGE: &str = "data";

/// Turns Twilio Call Events into Prometheus metrics.
///
/// Without a command, polls Twilio and serves /metrics. No configuration file is needed if
/// TWILIO_ACCOUNT_SID and TWILIO_AUTH_TOKEN (or TWILIO_API_KEY and TWILIO_API_SECRET) are set.
#[derive(Debug, Parser)]
#[command(name = "twilio-call-exporter", version, disable_help_subcommand = true)]
#[command(version = concat!("version ", env!("CARGO_PKG_VERSION")))]
pub struct Cli {
    /// Command to run instead of polling.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// Flags for every command.
    #[command(flatten)]
    pub flags: Flags,
}

/// Flags for every command.
#[derive(Clone, Debug, Args)]
pub struct Flags {
    /// Configuration file (YAML).
    #[arg(long = "config.file", value_name = "FILE", global = true)]
    pub config_file: Option<PathBuf>,
    /// Storage directory; created if missing, except by `backup` and `backfill`.
    #[arg(long = "storage.path", value_name = "DIR", default_value = DEFAULT_STORAGE, global = true)]
    pub storage_path: PathBuf,
    /// Address to serve /metrics on, as `host:port` or `:port`; repeatable [default: :10914].
    #[arg(long = "web.listen-address", value_name = "ADDRESS", global = true)]
    pub listen_addresses: Vec<ListenAddress>,
    /// Web configuration file (TLS, basic auth), in the format of Prometheus exporters.
    #[arg(long = "web.config.file", value_name = "FILE", global = true)]
    pub web_config_file: Option<PathBuf>,
    /// Enable POST /-/reload, which reloads the configuration.
    #[arg(long = "web.enable-lifecycle", global = true)]
    pub web_enable_lifecycle: bool,
    /// Minimum severity of log messages.
    #[arg(long = "log.level", value_name = "LEVEL", default_value = "info", global = true)]
    pub log_level: LogLevel,
    /// Format of log messages.
    #[arg(long = "log.format", value_name = "FORMAT", default_value = "text", global = true)]
    pub log_format: LogFormat,
}

impl Flags {
    /// The addresses to serve on; `default` if none are given.
    pub fn listen_or(&self, default: &str) -> Vec<ListenAddress> {
        if self.listen_addresses.is_empty() {
            return default.parse().into_iter().collect();
        }
        self.listen_addresses.clone()
    }

    /// The addresses to serve on.
    pub fn listen(&self) -> Vec<ListenAddress> {
        self.listen_or(DEFAULT_LISTEN)
    }
}

/// Command to run instead of polling.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Check the configuration and print the effective settings.
    CheckConfig(CheckConfigArgs),
    /// Write a copy of the store to a new file, with the exporter running or stopped.
    Backup(BackupArgs),
    /// Write past calls as OpenMetrics files that Prometheus and VictoriaMetrics can import.
    Backfill(BackfillArgs),
    /// Run against a simulated Twilio, without an account or network.
    Demo(DemoArgs),
    /// Serve a simulated Twilio, to test dashboards and alert routing.
    Simulate(SimulateArgs),
}

/// Arguments of `check-config`.
#[derive(Clone, Copy, Debug, Args)]
pub struct CheckConfigArgs {
    /// Also ask Twilio whether each account can be read, and estimate the requests needed.
    #[arg(long)]
    pub online: bool,
}

/// Arguments of `backup`.
#[derive(Clone, Debug, Args)]
pub struct BackupArgs {
    /// File to create; existing files are never overwritten.
    ///
    /// The copy of the store in --storage.path is one consistent file that has passed all store checks.
    /// Only its owner can read it. To restore it, stop the exporter, move everything out of the storage
    /// directory (exporter.db and exporter.db-wal belong together), copy this file there as exporter.db,
    /// and start the exporter.
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
}

/// Arguments of `demo`.
#[derive(Clone, Copy, Debug, Args)]
pub struct DemoArgs {
    /// Seed of the simulation.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Delay until an ended call shows its Call Events; 15m on many accounts [default: none].
    #[arg(long, value_parser = parse_duration)]
    pub events_after: Option<Duration>,
    /// Push the error log, signed as Twilio signs it, instead of polling it.
    #[arg(long)]
    pub push: bool,
    /// How long webhooks fail once they start to [default: until the demo ends].
    // Hidden from help: only tests use it, to see an alert resolve.
    #[arg(long, hide = true, value_parser = parse_duration)]
    pub failing_for: Option<Duration>,
}

/// Arguments of `simulate`.
#[derive(Clone, Debug, Args)]
pub struct SimulateArgs {
    /// Address of the simulated Twilio; keep it local, as /_simulator/truth needs no credentials.
    #[arg(long, default_value = "127.0.0.1:10915")]
    pub listen: ListenAddress,
    /// Seed of the simulation.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Number of accounts.
    #[arg(long, default_value_t = 1)]
    pub accounts: usize,
    /// Calls per minute, per account.
    #[arg(long, default_value_t = 30.0, value_parser = parse_rate)]
    pub calls_per_minute: f64,
    /// Time after which webhooks start to fail [default: never].
    #[arg(long, value_parser = parse_duration)]
    pub failing_after: Option<Duration>,
    /// Play every scenario in turn instead of a realistic phone line.
    #[arg(long)]
    pub everything: bool,
    /// Push the error log to this URL, signed as Twilio signs it, e.g. http://127.0.0.1:10914/push/error-log.
    #[arg(long, value_name = "URL")]
    pub push_to: Option<String>,
    /// Stop generating calls after this many per account.
    #[arg(long)]
    pub max_calls: Option<u64>,
    /// Length of the call history at the start, e.g. 30d to try `backfill`.
    #[arg(long, value_name = "DURATION", default_value = "1m", value_parser = parse_duration)]
    pub backlog: Duration,
}

/// Parses a rate, per second or per minute.
fn parse_rate(text: &str) -> Result<f64, String> {
    let rate = text.parse().ok().filter(|rate| (0.01..=100_000.0).contains(rate));
    rate.ok_or_else(|| "expected a number from 0.01 to 100000".to_owned())
}

fn parse_duration(text: &str) -> Result<Duration, String> {
    duration::parse(text).ok_or_else(|| "expected a duration such as `30s`".to_owned())
}

/// Minimum severity of log messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogLevel {
    /// Errors that stop the program.
    Error,
    /// Problems that need attention.
    Warn,
    /// Failing webhooks, startup, recovery and shutdown.
    Info,
    /// Every polling pass and request.
    Debug,
}

/// Format of log messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// One line of text per message.
    Text,
    /// One JSON object per message.
    Json,
}

/// Parses a command line.
///
/// # Errors
/// Returns clap's errors, which include requests for `--help` and `--version`. Their text quotes no value
/// from the command line: a token may have been pasted in the wrong place.
pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Cli, clap::Error> {
    Cli::try_parse_from(arguments).map_err(without_values)
}

fn without_values(mut error: clap::Error) -> clap::Error {
    let is_unknown = error.kind() == ErrorKind::UnknownArgument;
    for kind in [ContextKind::InvalidValue, ContextKind::InvalidSubcommand, ContextKind::InvalidArg]
    {
        // In other errors, the argument is one of this program's own.
        if kind == ContextKind::InvalidArg && !is_unknown {
            continue;
        }
        if let Some(ContextValue::String(text)) = error.get(kind) {
            let shape = format!("… ({})", shape::text(text));
            error.insert(kind, ContextValue::String(shape));
        }
    }
    error
}

/// An address to listen on: `host:port`, `[v6]:port`, or `:port` for all interfaces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenAddress {
    host: Option<String>,
    port: u16,
}

impl FromStr for ListenAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let expected = || "expected `host:port`, `[address]:port` or `:port`".to_owned();
        let (host, port) = text.rsplit_once(':').ok_or_else(expected)?;
        let port = port.parse().map_err(|_| expected())?;
        if host.contains(':') && !(host.starts_with('[') && host.ends_with(']')) {
            return Err(expected());
        }
        Ok(Self { host: (!host.is_empty()).then(|| host.to_owned()), port })
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host.as_deref().unwrap_or_default(), self.port)
    }
}

impl ListenAddress {
    /// Formats the address for an error; hides a host that isn't an address, as it may be anything.
    pub fn shown(&self) -> String {
        let host = self.host.as_deref().unwrap_or_default();
        let address = host.trim_start_matches('[').trim_end_matches(']');
        if host.is_empty() || host == "localhost" || address.parse::<IpAddr>().is_ok() {
            format!("`{self}`")
        } else {
            format!("a host name of {} and port {}", shape::text(host), self.port)
        }
    }

    /// Binds the address.
    ///
    /// # Errors
    /// Returns the operating system's error.
    pub async fn bind(&self) -> std::io::Result<TcpListener> {
        match &self.host {
            Some(host) => TcpListener::bind(format!("{host}:{}", self.port)).await,
            None => {
                // An IPv6 socket also accepts IPv4; without IPv6 on this machine, bind IPv4.
                let all = SocketAddr::from((Ipv6Addr::UNSPECIFIED, self.port));
                match TcpListener::bind(all).await {
                    Err(error) if error.kind() != std::io::ErrorKind::AddrInUse => {
                        TcpListener::bind((Ipv4Addr::UNSPECIFIED, self.port)).await
                    }
                    bound => bound,
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_listen_addresses() {
        for text in [":10914", "127.0.0.1:0", "[::1]:80", "localhost:65535"] {
            assert_eq!(text.parse::<ListenAddress>().expect(text).to_string(), text);
        }
        for text in ["", "10914", "localhost", ":x", "::1:80", "a:70000"] {
            assert!(text.parse::<ListenAddress>().is_err(), "{text}");
        }
    }

    #[test]
    fn accepts_flags_before_and_after_the_command() {
        for line in ["x --log.level debug demo --seed 3", "x demo --seed 3 --log.level debug"] {
            let cli = parse(line.split(' ').map(OsString::from)).expect(line);
            assert_eq!(cli.flags.log_level, LogLevel::Debug);
            assert!(matches!(
                cli.command,
                Some(Command::Demo(DemoArgs {
                    seed: 3,
                    events_after: None,
                    push: false,
                    failing_for: None
                }))
            ));
        }
        assert!(parse(["x", "--nonsense"].map(OsString::from)).is_err());
        for rate in ["0", "-1", "NaN", "inf", "many"] {
            let flag = format!("--calls-per-minute={rate}");
            assert!(parse(["x", "simulate", &flag].map(OsString::from)).is_err(), "{rate}");
        }
    }
}
