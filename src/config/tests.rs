//! Configurations, good and broken, and exactly what is said of them.

mod accounts;
mod broken;
mod merging;
mod printed;
mod secrets;

use std::fs;
use std::path::PathBuf;

use secrecy::ExposeSecret;
use tempfile::TempDir;

use super::*;

const SID: &str = "AC00000000000000000000000000000001";
/// Stands wherever a secret may stand, and must never come back.
const MARK: &str = "marked-secret-0123456789";

#[test]
fn without_a_file_everything_is_at_its_default() {
    let config = load(None, &sdk_variables()).expect("a configuration");
    assert_eq!(
        config.poll,
        PollConfig {
            interval: seconds(30),
            live_interval: seconds(60),
            after_end: vec![seconds(15), seconds(120)],
            settle_delay: seconds(16 * 60),
            audit_after: seconds(3_600),
            initial_lookback: seconds(3_600),
            catch_up: seconds(24 * 3_600),
        }
    );
    assert_eq!(
        config.api,
        ApiConfig {
            max_concurrency: 4,
            max_total_concurrency: 64,
            connect_timeout: seconds(5),
            timeout: seconds(30),
            ca_file: None,
        }
    );
    let limits = LimitsConfig {
        routes_per_account: 100,
        series: 100_000,
        tracked_calls: 500_000,
        hold_back: seconds(65),
    };
    assert_eq!(config.limits, limits);
    assert!(config.routes.is_empty() && config.notices.is_empty());
}

#[test]
fn the_example_file_is_a_users_file_with_every_default() {
    let example = concat!(env!("CARGO_MANIFEST_DIR"), "/config/exporter.yml");
    let with = load(Some(Path::new(example)), &sdk_variables()).expect("a configuration");
    let without = load(None, &sdk_variables()).expect("a configuration");
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
fn each_mistake_is_told_with_place_key_found_and_wanted() {
    for (file, expected) in [
        (
            "poll: { interval: soon }",
            "FILE: poll.interval: found `soon`, wanted a duration such as `30s`, `16m` or `24h`",
        ),
        (
            "poll: { interval: 30 }",
            "FILE: poll.interval: found `30`, wanted a duration such as `30s`, `16m` or `24h`",
        ),
        (
            "poll: { interval: 500ms }",
            "FILE: poll.interval: found `500ms`, wanted a duration from 1s to 30d",
        ),
        (
            "poll: { catch_up: 31d }",
            "FILE: poll.catch_up: found `31d`, wanted a duration from 1s to 30d",
        ),
        (
            "poll: { after_end: 15s }",
            "FILE: poll.after_end: found `15s`, wanted a list of durations such as `[15s, 2m]`",
        ),
        (
            "poll: { after_end: [15s, x] }",
            "FILE: poll.after_end: found `x`, wanted a duration such as `30s`, `16m` or `24h`",
        ),
        (
            "poll: { after_end: [2m, 15s] }",
            "configuration: poll.after_end: wanted at most 8 durations, each longer than the one before and shorter than poll.settle_delay (16m)",
        ),
        (
            "poll: { settle_delay: 1m }",
            "configuration: poll.after_end: wanted at most 8 durations, each longer than the one before and shorter than poll.settle_delay (1m)",
        ),
        ("poll: []", "FILE: poll: found a list, wanted a mapping"),
        (
            "api: { max_concurrency: 0 }",
            "FILE: api.max_concurrency: found `0`, wanted a whole number from 1 to 100",
        ),
        (
            "api: { max_concurrency: 1.5 }",
            "FILE: api.max_concurrency: found `1.5`, wanted a whole number from 1 to 100",
        ),
        (
            "api: { max_concurrency: many }",
            "FILE: api.max_concurrency: found `many`, wanted a whole number from 1 to 100",
        ),
        ("api: { ca_file: 7 }", "FILE: api.ca_file: found `7`, wanted a path"),
        (
            "limits: { hold_back: 11m }",
            "FILE: limits.hold_back: found `11m`, wanted a duration from 0s to 10m",
        ),
        (
            "limits: { series: 99 }",
            "FILE: limits.series: found `99`, wanted a whole number from 100 to 10000000",
        ),
        ("routes: /x", "FILE: routes: found `/x`, wanted a list of patterns"),
        (
            "routes: [x]",
            "FILE: routes[0]: found `x`, wanted a route pattern: wanted a path such as `/ivr/:tenant/menu`, optionally after a host",
        ),
        ("routes: [/a, 7]", "FILE: routes[1]: found `7`, wanted a text"),
        (
            "nonsense: 1",
            "FILE: nonsense: unknown key, wanted one of `accounts`, `poll`, `api`, `routes`, `limits`, `exemplars`",
        ),
        (
            "limits: { x: 1 }",
            "FILE: limits.x: unknown key, wanted one of `routes_per_account`, `series`, `tracked_calls`, `hold_back`",
        ),
        ("- a", "FILE: found no mapping, wanted keys such as `accounts:`"),
        ("a: b: c", "FILE:1:5: is not valid YAML here"),
    ] {
        check(file, &sdk_variables(), expected);
    }
}

#[test]
fn all_mistakes_are_told_at_once_and_in_order() {
    let mut variables = sdk_variables();
    variables.0.insert("TWILIO_EXPORTER_POLL__INTERVAL".to_owned(), "never".to_owned());
    variables.0.insert("TWILIO_EXPORTER_NONSENSE".to_owned(), "1".to_owned());
    variables.0.insert("TWILIO_EXPORTER_ROUTES".to_owned(), "[/x]".to_owned());
    let file = "api: { timeout: 1 }\nx: 1\n";
    check(
        file,
        &variables,
        "FILE: api.timeout: found `1`, wanted a duration such as `30s`, `16m` or `24h`\n\
         FILE: x: unknown key, wanted one of `accounts`, `poll`, `api`, `routes`, `limits`, `exemplars`\n\
         environment variable TWILIO_EXPORTER_NONSENSE: nonsense: unknown key, wanted one of `accounts`, `poll`, `api`, `routes`, `limits`, `exemplars`\n\
         environment variable TWILIO_EXPORTER_POLL__INTERVAL: poll.interval: found `never`, wanted a duration such as `30s`, `16m` or `24h`\n\
         environment variable TWILIO_EXPORTER_ROUTES: routes: stands only in the file",
    );
}

fn sdk_variables() -> Environment {
    Environment::from_pairs([("TWILIO_ACCOUNT_SID", SID), ("TWILIO_AUTH_TOKEN", MARK)])
}

/// Loads a file of this text, and compares what is said of it; `FILE` stands for its path.
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
