//! `backfill`: the history of past calls as OpenMetrics files.

mod files;
mod imported;
mod interrupted;
mod mistakes;

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tempfile::TempDir;
use twilio_call_exporter::simulator::{Behaviour, Mix, WorldConfig};

use crate::harness::{Ended, Twilio, print_figures};

pub(crate) use imported::import;

use files::History;

/// A directory that doesn't exist.
const NO_STORE: &str = "/nonexistent/store";
/// The length of an hour in seconds.
const HOUR: i64 = 3_600;

#[tokio::test(flavor = "multi_thread")]
async fn a_day_of_everything_equals_the_truth_at_each_hour() {
    let twilio = Twilio::serving(past(Mix::Everything, 26, 12)).await;
    let output = TempDir::new().expect("a directory");
    let ended = backfill(&twilio, output.path(), &["--from=24h"]);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let history = History::read(output.path());
    assert_eq!(history.labels("source"), ["backfill"]);
    assert_eq!(history.labels("job"), ["twilio"]);
    assert!(history.labels("instance").is_empty() && history.labels("sampled").is_empty());
    history.assert_complete(60);
    assert_equals_truth(&twilio, &history);
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_truncated_to_days_and_failing_requests_change_nothing() {
    let twilio = Twilio::serving(past(Mix::Demo, 6, 60)).await;
    let (smooth, rough) =
        (TempDir::new().expect("a directory"), TempDir::new().expect("a directory"));
    let until = rounded_now() - SignedDuration::from_hours(2);
    let flags =
        [format!("--from={}", until - SignedDuration::from_hours(3)), format!("--until={until}")];
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    assert_eq!(backfill(&twilio, smooth.path(), &flags).code, Some(0));
    twilio.set_behaviour(Behaviour {
        day_filters: true,
        repeat_calls: true,
        error_rate: 20,
        truncate_body: 20,
        html_instead: 20,
        ..Behaviour::default()
    });
    let ended = backfill(&twilio, rough.path(), &[&flags[..], &["--concurrency=4"]].concat());
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(ended.stderr.contains("will be retried"), "{}", ended.stderr);
    assert_eq!(files::contents(rough.path()), files::contents(smooth.path()));
    assert_equals_truth(&twilio, &History::read(rough.path()));
}

#[tokio::test(flavor = "multi_thread")]
async fn two_accounts_and_a_longer_step() {
    let twilio = Twilio::serving(WorldConfig { accounts: 2, ..past(Mix::Demo, 6, 60) }).await;
    let output = TempDir::new().expect("a directory");
    let ended = backfill(&twilio, output.path(), &["--from=4h", "--step=5m"]);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let history = History::read(output.path());
    history.assert_complete(300);
    assert_eq!(history.labels("account").len(), 2);
    assert_equals_truth(&twilio, &history);
    // Only one of them.
    let one = TempDir::new().expect("a directory");
    let name = twilio.accounts()[1].account_sid.clone();
    let ended =
        backfill(&twilio, one.path(), &["--from=4h", "--step=5m", &format!("--account={name}")]);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert_eq!(History::read(one.path()).labels("account"), [name]);
}

/// `SAMPLED_HOURS` sets the number of hours.
#[tokio::test(flavor = "multi_thread")]
async fn a_sample_is_scaled_and_marked() {
    let hours =
        std::env::var("SAMPLED_HOURS").map_or(6, |hours| hours.parse().expect("a number of hours"));
    let twilio = Twilio::serving(past(Mix::Demo, hours + 2, 1_200)).await;
    let output = TempDir::new().expect("a directory");
    let ended = backfill(&twilio, output.path(), &[&format!("--from={hours}h"), "--sample=1/20"]);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let history = History::read(output.path());
    assert_eq!(history.labels("sampled"), ["1/20"]);
    let (mut all, mut over) = (0, [0; 2]);
    for (family, deviations) in files::deviations(&twilio, &history, 20).await {
        for deviation in deviations.iter().map(|deviation| deviation.abs()) {
            all += 1;
            over[0] += u32::from(deviation > 2.0);
            over[1] += u32::from(deviation > 3.0);
            assert!(deviation < 4.5, "{family}: {deviations:?}");
        }
    }
    print_figures(&format!(
        "{all} totals of an hour, {} over 2 standard errors, {} over 3",
        over[0], over[1]
    ));
    // By chance, one in 22 is over 2, one in 370 over 3, and one in 150,000 over 4.5.
    assert!(all < 200 || over[0] * 10 <= all && over[1] * 50 <= all, "{over:?} of {all}");
}

#[tokio::test(flavor = "multi_thread")]
async fn sends_no_more_than_the_given_rate_one_request_at_a_time() {
    let twilio = Twilio::serving(past(Mix::Demo, 4, 18)).await;
    let output = TempDir::new().expect("a directory");
    let ended = backfill(&twilio, output.path(), &["--from=3h", "--requests-per-second=40"]);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let traffic = twilio.traffic();
    assert!(traffic.len() > 30, "{}", traffic.len());
    for pair in traffic.windows(2) {
        let (answered, _) = pair[0].answered.expect("an answer");
        assert!(answered <= pair[1].requested_at, "two at once");
    }
    let lasted = traffic[traffic.len() - 1].requested_at - traffic[0].requested_at;
    let least = Duration::from_millis(25) * u32::try_from(traffic.len() - 2).expect("few");
    assert!(lasted >= least, "{} requests in {lasted:?}", traffic.len());
}

/// A world of the last hours, in which nothing happens from now on.
pub(crate) fn past(mix: Mix, hours: u32, calls_per_hour: u32) -> WorldConfig {
    WorldConfig {
        mix,
        calls_per_minute: f64::from(calls_per_hour) / 60.0,
        backlog: Duration::from_secs(u64::from(hours) * 3_600),
        max_calls: Some(u64::from(hours * calls_per_hour)),
        ..WorldConfig::default()
    }
}

/// Runs `backfill` for all accounts, without a limit on its rate unless `flags` has one.
pub(crate) fn backfill(twilio: &Twilio, output: &Path, flags: &[&str]) -> Ended {
    let (arguments, variables) = command(twilio, output, flags);
    mistakes::run_with(&arguments, &variables)
}

/// Starts such a command, without its output.
fn spawn(twilio: &Twilio, output: &Path, flags: &[&str]) -> Child {
    let (arguments, variables) = command(twilio, output, flags);
    Command::new(env!("CARGO_BIN_EXE_twilio-call-exporter"))
        .args(&arguments)
        .env_clear()
        .envs(variables)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("the program starts")
}

/// The arguments and the environment of such a command.
fn command(twilio: &Twilio, output: &Path, flags: &[&str]) -> (Vec<String>, Vec<(String, String)>) {
    let accounts = twilio.accounts();
    let mut variables = vec![("TWILIO_API_BASE_URL".to_owned(), twilio.url().to_owned())];
    let mut arguments = vec![
        "backfill".to_owned(),
        "--yes".to_owned(),
        format!("--output={}", output.display()),
        format!("--storage.path={}", NO_STORE),
    ];
    if let [account] = &accounts[..] {
        variables.push(("TWILIO_ACCOUNT_SID".to_owned(), account.account_sid.clone()));
        variables.push(("TWILIO_AUTH_TOKEN".to_owned(), account.auth_token.clone()));
    } else {
        let config = output.with_extension("yml");
        let mut text = "accounts:\n".to_owned();
        for (index, account) in accounts.iter().enumerate() {
            variables.push((format!("TOKEN_{index}"), account.auth_token.clone()));
            text.push_str(&format!(
                "  - account_sid: {}\n    auth_token_env: TOKEN_{index}\n    base_url: {}\n",
                account.account_sid,
                twilio.url()
            ));
        }
        std::fs::write(&config, text).expect("written");
        arguments.push(format!("--config.file={}", config.display()));
        variables.remove(0);
    }
    arguments.extend(flags.iter().map(|flag| (*flag).to_owned()));
    if !flags.iter().any(|flag| flag.starts_with("--requests-per-second")) {
        arguments.push("--requests-per-second=100000".to_owned());
    }
    (arguments, variables)
}

/// Asserts that at each full hour, and at the end, all series have the value that they would have had if counting had
/// begun with the first sample.
fn assert_equals_truth(twilio: &Twilio, history: &History) {
    let (first, last) = history.ends();
    let before = files::values_of(&twilio.truth_at(instant(first)));
    let hours = (first..=last).filter(|second| second % HOUR == 0);
    let mut compared = 0;
    for second in hours.chain([last]) {
        let mut found = history.at(second);
        for (series, value) in files::values_of(&twilio.truth_at(instant(second))) {
            let expected = value - before.get(&series).copied().unwrap_or(0.0);
            let value = found.remove(&series).unwrap_or(0.0);
            assert!(
                (value - expected).abs() < 1e-6,
                "{series:?} at {second}: {value}, not {expected}"
            );
            compared += usize::from(expected > 0.0);
        }
        found.retain(|_, value| *value > 0.0);
        assert!(found.is_empty(), "at {second}: {found:?}");
    }
    assert!(compared > 40, "{compared} values");
}

fn instant(second: i64) -> Timestamp {
    Timestamp::from_second(second).expect("a time")
}

/// The current time, rounded down to a minute.
fn rounded_now() -> Timestamp {
    let now = twilio_call_exporter::clock::Clock::start().now();
    instant(now.as_second().div_euclid(60) * 60)
}
