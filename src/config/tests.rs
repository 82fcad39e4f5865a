//! Valid and invalid configurations, with the exact messages.

mod accounts;
mod broken;
mod merging;
mod mistakes;
mod printed;
mod proxy;
mod push;
mod reloaded;
mod secrets;

use std::ffi::OsString;
use std::fs;
use std::path::PathBuf;

use secrecy::ExposeSecret;
use tempfile::TempDir;

use super::*;

const SID: &str = "AC00000000000000000000000000000001";
/// A secret used in every position that may hold one; no output may contain it.
const MARK: &str = "marked-secret-0123456789";

#[test]
fn uses_the_defaults_without_a_file() {
    let config = load(None, &sdk_variables()).expect("valid configuration");
    assert_eq!(
        config.lists,
        ListPlan {
            interval: seconds(30),
            initial_lookback: seconds(3_600),
            catch_up: seconds(24 * 3_600),
            error_log_interval: Some(seconds(15)),
        }
    );
    assert_eq!(
        config.reads,
        ReadPlan {
            live_interval: seconds(60),
            after_end: vec![seconds(15), seconds(120)],
            settle_delay: seconds(16 * 60),
            audit_after: seconds(3_600),
        }
    );
    assert_eq!(
        config.api,
        ApiConfig {
            max_concurrency: 4,
            max_total_concurrency: 64,
            ca_file: None,
            client: ClientOptions {
                connect_timeout: seconds(5),
                timeout: seconds(30),
                ca_pem: None,
                proxy: None,
            },
        }
    );
    let limits = LedgerLimits { routes_per_account: 100, series: 100_000, hold_back: seconds(65) };
    assert_eq!((config.limits, config.tracked_calls), (limits, 500_000));
    assert!(config.routes == Routes::default() && config.notices.is_empty());
}

#[test]
fn the_example_file_is_valid_and_equals_the_defaults() {
    let example = concat!(env!("CARGO_MANIFEST_DIR"), "/config/exporter.yml");
    let with = load(Some(Path::new(example)), &sdk_variables()).expect("valid configuration");
    let without = load(None, &sdk_variables()).expect("valid configuration");
    assert_eq!(format!("{with}"), format!("{without}"));
}

#[test]
fn the_example_file_mentions_every_key() {
    let broken = "poll: {x: 1}\napi: {x: 1}\nlimits: {x: 1}\ny: 1\naccounts: [{x: 1, subaccounts: {x: 1}}]\n";
    let problems = problems_of(broken, &sdk_variables());
    let example = include_str!("../../config/exporter.yml");
    let mut known = 0;
    for line in problems.lines().filter(|line| line.contains("unknown key")) {
        let keys = line.split("one of ").nth(1).expect("a list of keys");
        for key in keys.split(", ").map(|key| key.trim_matches('`')) {
            let is_mentioned = example.contains(&format!("{key}:")) || example.contains(key);
            assert!(is_mentioned, "{key} is not in config/exporter.yml");
            known += 1;
        }
    }
    assert!(known > 25, "{known} keys");
}

#[test]
fn names_own_variables_that_are_not_utf_8_and_ignores_others() {
    use std::os::unix::ffi::OsStringExt;
    let broken = || OsString::from_vec(b"secret\xff".to_vec());
    let variables = [
        ("TWILIO_AUTH_TOKEN", broken()),
        ("TWILIO_EXPORTER_POLL__INTERVAL", broken()),
        ("OTHER", broken()),
        ("TWILIO_ACCOUNT_SID", "AC00000000000000000000000000000001".into()),
    ];
    let variables = variables.map(|(name, value)| (OsString::from(name), value));
    let environment = Environment::from_os(variables.into_iter());
    let problems = load(None, &environment).expect_err("not UTF-8").to_string();
    for name in ["TWILIO_AUTH_TOKEN", "TWILIO_EXPORTER_POLL__INTERVAL"] {
        assert!(problems.contains(&format!("{name}: is not valid UTF-8")), "{problems}");
    }
    assert!(!problems.contains("OTHER") && !problems.contains("secret"), "{problems}");
    let (_directory, path) =
        written(format!("accounts: [{{ account_sid: {SID}, auth_token_env: OTHER }}]").as_bytes());
    let environment = Environment::from_os([("OTHER".into(), broken())].into_iter());
    let problems = load(Some(&path), &environment).expect_err("not UTF-8").to_string();
    assert!(problems.ends_with("environment variable `OTHER` is not valid UTF-8"), "{problems}");
}

#[test]
fn reports_each_mistake_with_its_place_key_and_expected_value() {
    for (file, expected) in [
        (
            "poll: { interval: soon }",
            "FILE: poll.interval: expected a duration such as `30s`, `16m` or `24h`, got 4 characters",
        ),
        (
            "poll: { interval: 30 }",
            "FILE: poll.interval: expected a duration such as `30s`, `16m` or `24h`, got `30`",
        ),
        (
            "poll: { interval: 500ms }",
            "FILE: poll.interval: expected a duration from 1s to 30d, got `500ms`",
        ),
        (
            "poll: { catch_up: 31d }",
            "FILE: poll.catch_up: expected a duration from 1s to 30d, got `31d`",
        ),
        (
            "poll: { after_end: 15s }",
            "FILE: poll.after_end: expected a list of durations such as `[15s, 2m]`, got 3 characters",
        ),
        (
            "poll: { after_end: [15s, x] }",
            "FILE: poll.after_end: expected a duration such as `30s`, `16m` or `24h`, got 1 character",
        ),
        (
            "poll: { after_end: [2m, 15s] }",
            "configuration: poll.after_end: expected at most 8 durations, each longer than the one before and shorter than poll.settle_delay (16m)",
        ),
        (
            "poll: { settle_delay: 1m }",
            "configuration: poll.after_end: expected at most 8 durations, each longer than the one before and shorter than poll.settle_delay (1m)",
        ),
        ("poll: []", "FILE: poll: expected a mapping, got a list"),
        (
            "api: { max_concurrency: 0 }",
            "FILE: api.max_concurrency: expected a whole number from 1 to 100, got `0`",
        ),
        (
            "api: { max_concurrency: 1.5 }",
            "FILE: api.max_concurrency: expected a whole number from 1 to 100, got `1.5`",
        ),
        (
            "api: { max_concurrency: many }",
            "FILE: api.max_concurrency: expected a whole number from 1 to 100, got 4 characters",
        ),
        ("api: { ca_file: 7 }", "FILE: api.ca_file: expected a path, got a number with 1 digit"),
        (
            "limits: { hold_back: 11m }",
            "FILE: limits.hold_back: expected a duration from 0s to 10m, got `11m`",
        ),
        (
            "limits: { series: 99 }",
            "FILE: limits.series: expected a whole number from 100 to 10000000, got `99`",
        ),
        ("routes: /x", "FILE: routes: expected a list of patterns, got 2 characters"),
        (
            "routes: [x]",
            "FILE: routes[0]: expected a route pattern: a pattern needs a path, such as `/ivr/:tenant/menu`, optionally after a host, got 1 character",
        ),
        ("routes: [/a, 7]", "FILE: routes[1]: expected a string, got a number with 1 digit"),
        (
            "nonsense: 1",
            "FILE: unknown key of 8 characters, expected one of `accounts`, `poll`, `push`, `api`, `routes`, `limits`, `exemplars`",
        ),
        (
            "limits: { x: 1 }",
            "FILE: limits: unknown key of 1 character, expected one of `routes_per_account`, `series`, `tracked_calls`, `hold_back`",
        ),
        ("- a", "FILE: expected a mapping with keys such as `accounts:`"),
        ("a: b: c", "FILE:1:5: invalid YAML"),
    ] {
        check(file, &sdk_variables(), expected);
    }
}

#[test]
fn reports_all_mistakes_together_and_in_order() {
    let mut variables = sdk_variables();
    variables.0.insert("TWILIO_EXPORTER_POLL__INTERVAL".to_owned(), "never".to_owned());
    variables.0.insert("TWILIO_EXPORTER_NONSENSE".to_owned(), "1".to_owned());
    variables.0.insert("TWILIO_EXPORTER_ROUTES".to_owned(), "[/x]".to_owned());
    let file = "api: { timeout: 1 }\nx: 1\n";
    check(
        file,
        &variables,
        "FILE: unknown key of 1 character, expected one of `accounts`, `poll`, `push`, `api`, `routes`, `limits`, `exemplars`\n\
         FILE: api.timeout: expected a duration such as `30s`, `16m` or `24h`, got `1`\n\
         environment variable TWILIO_EXPORTER_POLL__INTERVAL: poll.interval: expected a duration such as `30s`, `16m` or `24h`, got 5 characters\n\
         environment variable TWILIO_EXPORTER_ROUTES: routes: can only be set in the file\n\
         environment variable TWILIO_EXPORTER_…: unknown key of 8 characters, expected one of `accounts`, `poll`, `push`, `api`, `routes`, `limits`, `exemplars`",
    );
}

fn sdk_variables() -> Environment {
    Environment::from_pairs([("TWILIO_ACCOUNT_SID", SID), ("TWILIO_AUTH_TOKEN", MARK)])
}

/// Loads a file with this text and compares the problems; `FILE` stands for its path.
fn check(text: &str, variables: &Environment, expected: &str) {
    assert_eq!(problems_of(text, variables), expected, "{text}");
}

fn problems_of(text: &str, variables: &Environment) -> String {
    let (_directory, path) = written(text.as_bytes());
    let problems = load(Some(&path), variables).expect_err(text).to_string();
    problems.replace(&path.display().to_string(), "FILE")
}

fn load_text(text: &str, variables: &Environment) -> Result<Config, Problems> {
    let (_directory, path) = written(text.as_bytes());
    load(Some(&path), variables)
}

fn written(bytes: &[u8]) -> (TempDir, PathBuf) {
    let directory = TempDir::new().expect("a temporary directory");
    let path = directory.path().join("exporter.yml");
    fs::write(&path, bytes).expect("written");
    (directory, path)
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}
