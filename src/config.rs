//! The configuration: figment merges the layers, and this module checks the result and reports all problems
//! together.
//!
//! Secrets are read outside the layers and never shown. Apart from files, only `Environment::from_process`
//! reads process state.

mod account;
pub mod duration;
mod environment;
pub(crate) mod file;
pub(crate) mod layers;
mod origin;
mod problem;
mod proxy;
mod push;
pub(crate) mod reader;
mod secret;
pub mod shape;
mod show;
mod twilio_variables;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use figment::value::Value;

use crate::domain::engine::lists::ListPlan;
use crate::domain::engine::plan::ReadPlan;
use crate::domain::judge::route::{RoutePattern, Routes};
use crate::metrics::ledger::LedgerLimits;
use crate::twilio::push::PublicUrl;
use crate::twilio::{ClientOptions, Proxy};

pub use account::{AccountConfig, PushSecret};
pub use environment::Environment;
pub use origin::Origin;
pub use problem::{Problem, Problems};
pub use secret::SecretSource;

use reader::{Reader, Section};

/// The shortest `poll` duration; Twilio's times are whole seconds, and tests scale delays.
const MIN_DURATION: Duration = Duration::from_secs(1);
/// The shortest request timeout.
const MIN_TIMEOUT: Duration = Duration::from_millis(100);
/// The longest duration allowed anywhere: Twilio keeps Call Events for about that long.
const MAX_DURATION: Duration = Duration::from_secs(30 * 24 * 3600);
/// The maximum size of a file with root certificates, in bytes: about five times a system's whole bundle.
const MAX_CA_BYTES: u64 = 1 << 20;
/// The maximum number of early reads after a call ends.
const MAX_AFTER_END: usize = 8;
/// The maximum number of route patterns: each one is tried for each event.
const MAX_ROUTES: usize = 1_000;
/// The longest hold-back: longer than any useful scrape interval.
const MAX_HOLD_BACK: Duration = Duration::from_secs(600);

/// The whole configuration.
#[derive(Clone, Debug)]
pub struct Config {
    /// The accounts to poll; never empty.
    pub accounts: Vec<AccountConfig>,
    /// When lists are read.
    pub lists: ListPlan,
    /// When the events of a call are read.
    pub reads: ReadPlan,
    /// How requests to Twilio are made.
    pub api: ApiConfig,
    /// The user's route patterns.
    pub routes: Routes,
    /// The limits of the ledger.
    pub limits: LedgerLimits,
    /// The maximum number of calls tracked at once, over all accounts.
    pub tracked_calls: usize,
    /// The URL to which Twilio pushes error log entries, if configured.
    pub push_url: Option<PublicUrl>,
    /// Whether OpenMetrics scrapes include exemplars.
    pub exemplars: bool,
    /// Notices for the operator, one line each.
    pub notices: Vec<String>,
    /// Which parts come from the file.
    pub origin: Origin,
    /// The effective configuration as YAML.
    shown: String,
}

/// How requests to Twilio are made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiConfig {
    /// The maximum number of concurrent requests per account.
    pub max_concurrency: usize,
    /// The maximum number of concurrent requests in total.
    pub max_total_concurrency: usize,
    /// A file with additional root certificates.
    pub ca_file: Option<PathBuf>,
    /// The options of each HTTP client; the certificates are set once their file has been read.
    pub client: ClientOptions,
}

/// Loads and checks the configuration.
///
/// # Errors
/// Returns all problems together.
pub fn load(file: Option<&Path>, environment: &Environment) -> Result<Config, Problems> {
    load_replacing(&Origin::default(), file, environment)
}

/// Loads and checks the configuration that replaces a previous one.
fn load_replacing(
    previous: &Origin,
    file: Option<&Path>,
    environment: &Environment,
) -> Result<Config, Problems> {
    let mut problems: Vec<Problem> = environment
        .unreadable()
        .filter(|name| name.starts_with("TWILIO_"))
        .map(|name| Problem {
            place: format!("environment variable {name}"),
            key: String::new(),
            text: "is not valid UTF-8".to_owned(),
        })
        .collect();
    let (figment, keys) = layers::merge(file, environment, &mut problems);
    let data = figment::Provider::data(&figment).map_err(|error| {
        // Leave out figment's text and path: both may contain a misplaced secret.
        let text = format!("cannot be read as a configuration ({} levels deep)", error.path.len());
        Problems(vec![Problem { place: "configuration".to_owned(), key: String::new(), text }])
    })?;
    let dict = data.into_values().next().unwrap_or_default();
    let mut reader = Reader::new(&figment);
    reader.problems = problems;
    let mut top = Section::new("", dict);
    let mut proxy_problems = Vec::new();
    let proxy = proxy::from_environment(environment, &mut proxy_problems);
    reader.show(&top, "accounts", "");
    let accounts = read_accounts(&mut reader, &mut top, &figment, environment, proxy.as_ref());
    // If the file or its accounts can't be read, accounts may well be configured.
    let has_no_accounts = accounts.is_empty() && reader.problems.is_empty();
    reader.problems.append(&mut proxy_problems);
    let origin = Origin { keys, has_accounts: !accounts.is_empty() };
    let mut notices = Vec::new();
    if file.is_some() && origin.keys.is_empty() {
        notices.push("the configuration file is empty: using the defaults".to_owned());
    }
    let refusal = origin.refusal(previous).filter(|_| has_no_accounts);
    let accounts = if let Some((key, text)) = refusal {
        let place = file.map_or_else(String::new, |path| path.display().to_string());
        reader.problem(&place, key.to_owned(), text.to_owned());
        Vec::new()
    } else if origin.has_accounts {
        if environment.get("TWILIO_ACCOUNT_SID").is_some() {
            notices.push(
                "TWILIO_ACCOUNT_SID and the related variables are ignored: the file has accounts"
                    .to_owned(),
            );
        }
        let mut accounts: Vec<AccountConfig> = accounts.into_iter().flatten().collect();
        account::set_other_accounts(&mut accounts);
        accounts
    } else if has_no_accounts {
        twilio_variables::account_from_environment(&mut reader, environment, proxy.as_ref())
            .into_iter()
            .collect()
    } else {
        Vec::new()
    };
    let (lists, reads) = read_poll(&mut reader, &mut top);
    let push_url = push::read(&mut reader, &mut top, &accounts, &mut notices);
    let api = read_api(&mut reader, &mut top, proxy);
    let routes = read_routes(&mut reader, &mut top, &figment);
    let (limits, tracked_calls) = read_limits(&mut reader, &mut top);
    let exemplars = reader.flag(&mut top, "exemplars");
    reader.finish(top);
    let Reader { mut problems, shown, .. } = reader;
    if problems.is_empty() {
        Ok(Config {
            accounts,
            lists,
            reads,
            api,
            routes,
            limits,
            tracked_calls,
            push_url,
            exemplars,
            notices,
            origin,
            shown,
        })
    } else {
        problems.sort();
        problems.dedup();
        Err(Problems(problems))
    }
}

/// Loads and checks the configuration, and reads the certificates that it names. Refuses a configuration that
/// loses all keys, or all accounts, that the `previous` one took from its file.
///
/// # Errors
/// Returns all problems together.
pub fn load_with_certificates(
    previous: &Origin,
    file: Option<&Path>,
    environment: &Environment,
) -> Result<Config, Problems> {
    let mut config = load_replacing(previous, file, environment)?;
    if let Some(path) = &config.api.ca_file {
        let problem = |text: String| {
            let (place, key) = (shape::path(path), "api.ca_file".to_owned());
            Problems(vec![Problem { place, key, text }])
        };
        let pem = file::read(path, MAX_CA_BYTES)
            .map_err(|error| problem(format!("cannot be read: {}", file::why(&error))))?;
        let pem = file::strip_byte_order_mark(pem);
        if !crate::twilio::client::are_certificates(&pem) {
            return Err(problem("expected certificates in PEM".to_owned()));
        }
        config.api.client.ca_pem = Some(pem);
    }
    Ok(config)
}

/// Reads the accounts in the file; `None` for an account that can't be used.
fn read_accounts(
    reader: &mut Reader<'_>,
    top: &mut Section,
    figment: &figment::Figment,
    environment: &Environment,
    proxy: Option<&Proxy>,
) -> Vec<Option<AccountConfig>> {
    let values = file_only(reader, top, figment, "accounts", "a list of accounts");
    let mut accounts = Vec::new();
    let (mut names, mut identities) = (BTreeSet::new(), BTreeSet::new());
    for (index, value) in values.into_iter().enumerate() {
        let place = reader.place(&value, "accounts");
        let account = account::read(reader, index, value, environment, proxy);
        if let Some(account) = &account {
            if !names.insert(account.label.clone()) {
                let text = "is used by two accounts: expected unique names".to_owned();
                reader.problem(&place, format!("accounts[{index}].name"), text);
            }
            let mut subaccounts = account.subaccounts.names.values().cloned();
            if !subaccounts.all(|name| names.insert(name)) {
                let text =
                    "contains a name that is already in use: expected unique names".to_owned();
                reader.problem(&place, format!("accounts[{index}].subaccounts.names"), text);
            }
            if !identities.insert((account.account_sid, account.region.clone())) {
                let text =
                    "is listed twice in the same region: expected each account once".to_owned();
                reader.problem(&place, format!("accounts[{index}].account_sid"), text);
            }
        }
        accounts.push(account);
    }
    accounts
}

/// Reads a list that can only be set in the file.
fn file_only(
    reader: &mut Reader<'_>,
    top: &mut Section,
    figment: &figment::Figment,
    name: &'static str,
    expected: &str,
) -> Vec<Value> {
    if let Some(value) = top.take(name) {
        if layers::is_from_environment(figment, &value) {
            let place = reader.place(&value, name);
            reader.problem(&place, name.to_owned(), "can only be set in the file".to_owned());
            return Vec::new();
        }
        if let Value::Array(_, values) = value {
            return values;
        }
        reader.wrong(top, name, &value, expected);
    }
    Vec::new()
}

fn read_poll(reader: &mut Reader<'_>, top: &mut Section) -> (ListPlan, ReadPlan) {
    let mut section = reader.section(top, "poll");
    let interval = reader.duration(&mut section, "interval", MIN_DURATION, MAX_DURATION);
    let live_interval = reader.duration(&mut section, "live_interval", MIN_DURATION, MAX_DURATION);
    let before = reader.problems.len();
    let after_end = reader.durations(&mut section, "after_end", MIN_DURATION, MAX_DURATION);
    let settle_delay = reader.duration(&mut section, "settle_delay", MIN_DURATION, MAX_DURATION);
    let are_valid = reader.problems.len() == before;
    let is_increasing = after_end.windows(2).all(|pair| pair[0] < pair[1]);
    let is_early = after_end.last().is_none_or(|last| *last < settle_delay);
    if are_valid && !(is_increasing && is_early && after_end.len() <= MAX_AFTER_END) {
        let text = format!(
            "expected at most {MAX_AFTER_END} durations, each longer than the one before and shorter than poll.settle_delay ({})",
            duration::show(settle_delay)
        );
        reader.problem("configuration", section.key("after_end"), text);
    }
    let audit_after = reader.duration(&mut section, "audit_after", MIN_DURATION, MAX_DURATION);
    let key = "error_log_interval";
    let error_log_interval = reader.duration(&mut section, key, Duration::ZERO, MAX_DURATION);
    if !error_log_interval.is_zero() && error_log_interval < MIN_DURATION {
        let text =
            format!("expected 0s or a duration of at least {}", duration::show(MIN_DURATION));
        reader.problem("configuration", section.key(key), text);
    }
    let lists = ListPlan {
        interval,
        initial_lookback: reader.duration(
            &mut section,
            "initial_lookback",
            MIN_DURATION,
            MAX_DURATION,
        ),
        catch_up: reader.duration(&mut section, "catch_up", MIN_DURATION, MAX_DURATION),
        error_log_interval: Some(error_log_interval).filter(|interval| !interval.is_zero()),
    };
    reader.finish(section);
    (lists, ReadPlan { live_interval, after_end, settle_delay, audit_after })
}

fn read_api(reader: &mut Reader<'_>, top: &mut Section, proxy: Option<Proxy>) -> ApiConfig {
    let mut section = reader.section(top, "api");
    let api = ApiConfig {
        max_concurrency: reader.number(&mut section, "max_concurrency", 1, 100),
        max_total_concurrency: reader.number(&mut section, "max_total_concurrency", 1, 1_000),
        client: ClientOptions {
            connect_timeout: reader.duration(
                &mut section,
                "connect_timeout",
                MIN_TIMEOUT,
                MAX_DURATION,
            ),
            timeout: reader.duration(&mut section, "timeout", MIN_TIMEOUT, MAX_DURATION),
            ca_pem: None,
            proxy,
        },
        ca_file: reader.path(&mut section, "ca_file"),
    };
    reader.finish(section);
    api
}

fn read_routes(reader: &mut Reader<'_>, top: &mut Section, figment: &figment::Figment) -> Routes {
    let values = file_only(reader, top, figment, "routes", "a list of patterns");
    if values.len() > MAX_ROUTES {
        let text = format!("expected at most {MAX_ROUTES} patterns, got {}", values.len());
        let place = reader.place(&values[0], "routes");
        reader.problem(&place, "routes".to_owned(), text);
    }
    let mut routes = Vec::new();
    for (index, value) in values.iter().enumerate() {
        match value.as_str().map(RoutePattern::parse) {
            Some(Ok(pattern)) => routes.push(pattern),
            Some(Err(error)) => reader.wrong(
                top,
                &format!("routes[{index}]"),
                value,
                &format!("a route pattern: {error}"),
            ),
            None => reader.wrong(top, &format!("routes[{index}]"), value, "a string"),
        }
    }
    let shown: Vec<String> = routes.iter().map(ToString::to_string).collect();
    reader.show(top, "routes", &show::json(&shown));
    Routes::new(routes)
}

fn read_limits(reader: &mut Reader<'_>, top: &mut Section) -> (LedgerLimits, usize) {
    let mut section = reader.section(top, "limits");
    let routes_per_account = reader.number(&mut section, "routes_per_account", 1, 10_000);
    let series = reader.number(&mut section, "series", 100, 10_000_000);
    let tracked_calls = reader.number(&mut section, "tracked_calls", 100, 10_000_000);
    let hold_back = reader.duration(&mut section, "hold_back", Duration::ZERO, MAX_HOLD_BACK);
    reader.finish(section);
    (LedgerLimits { routes_per_account, series, hold_back }, tracked_calls)
}

#[cfg(test)]
mod tests;
