//! Configurations, good and broken, and exactly what is said of them.

mod accounts;

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
    let limits = LimitsConfig { routes_per_account: 100, series: 100_000, hold_back: seconds(65) };
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
fn the_environment_wins_over_the_file_and_the_file_over_the_defaults() {
    let file = "poll: { interval: 10s, after_end: [2s] }\nlimits: { series: 500 }\n";
    let mut variables = sdk_variables();
    for (name, value) in [
        ("TWILIO_EXPORTER_POLL__INTERVAL", "20s"),
        ("TWILIO_EXPORTER_POLL__AFTER_END", "[3s, 4m]"),
        ("TWILIO_EXPORTER_API__MAX_CONCURRENCY", "7"),
    ] {
        variables.0.insert(name.to_owned(), value.to_owned());
    }
    let config = load_text(file, &variables).expect("a configuration");
    assert_eq!(config.poll.interval, seconds(20));
    assert_eq!(config.poll.after_end, [seconds(3), seconds(240)]);
    assert_eq!(config.api.max_concurrency, 7);
    assert_eq!(config.limits.series, 500);
    assert_eq!(config.poll.settle_delay, seconds(960));
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
        ("api: { ca_file: 7 }", "FILE: api.ca_file: found `7`, wanted a text"),
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
            "FILE: limits.x: unknown key, wanted one of `routes_per_account`, `series`, `hold_back`",
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

#[test]
fn the_variables_of_a_kubernetes_service_of_our_name_are_no_keys() {
    let mut variables = sdk_variables();
    for name in ["SERVICE_HOST", "SERVICE_PORT", "SERVICE_PORT_HTTP", "PORT", "PORT_10914_TCP_ADDR"]
    {
        variables.0.insert(format!("TWILIO_EXPORTER_{name}"), "10.0.0.1".to_owned());
    }
    load(None, &variables).expect("a configuration");
    variables.0.remove("TWILIO_EXPORTER_SERVICE_HOST");
    assert!(load(None, &variables).is_err(), "without the Service they are unknown keys");
}

#[test]
fn null_means_the_default_for_no_key_but_is_said_or_harmless() {
    for key in ["accounts", "routes", "poll", "api", "limits"] {
        // Either way is right; that it doesn't panic is the test.
        let _either = load_text(&format!("{key}: null\n"), &sdk_variables());
    }
    for text in ["", "# nothing\n", "---\n", "{}"] {
        load_text(text, &sdk_variables()).expect("an empty file changes nothing");
    }
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let missing = load(Some(Path::new("/nowhere/exporter.yml")), &sdk_variables());
    let text = missing.expect_err("refused").to_string();
    assert!(text.starts_with("/nowhere/exporter.yml: cannot be read: "), "{text}");
    let large = format!("# {}\n", "x".repeat(1 << 20));
    assert!(problems_of(&large, &sdk_variables()).contains("larger than 1048576 bytes"));
    let (_directory, path) = written(b"poll: \xff\xfe\n");
    let binary = load(Some(&path), &sdk_variables()).expect_err("refused").to_string();
    assert!(binary.contains("cannot be read"), "{binary}");
}

#[test]
fn a_hostile_file_is_refused_in_time() {
    let mut bomb = "a0: &a0 [x, x]\n".to_owned();
    for level in 1..40 {
        let before = level - 1;
        bomb.push_str(&format!("a{level}: &a{level} [*a{before}, *a{before}, *a{before}]\n"));
    }
    let deep = format!("poll: {}{}", "[".repeat(100_000), "]".repeat(100_000));
    for text in [bomb, deep, "a: *unknown\n".to_owned(), "a: 1\na: 2\n".to_owned()] {
        assert!(load_text(&text, &sdk_variables()).is_err());
    }
}

#[test]
fn what_is_printed_can_be_read_again() {
    let file = "poll: { interval: 1m30s, after_end: [] }\napi: { ca_file: /etc/ca.pem }\nroutes: [ '/a/:b', '*.example.com/c' ]\n";
    let config = load_text(file, &sdk_variables()).expect("a configuration");
    let printed = config.to_string();
    let again: String = printed
        .lines()
        .skip_while(|line| *line != "poll:")
        .fold(String::new(), |text, line| text + line + "\n");
    let again = load_text(&again, &sdk_variables()).expect("a configuration");
    assert_eq!(again.to_string(), printed);
    assert_eq!((again.poll, again.api, again.routes), (config.poll, config.api, config.routes));
}

#[test]
fn no_secret_comes_back_from_wherever_it_stands() {
    for file in [
        format!("accounts: [{{ account_sid: {MARK}, auth_token: {MARK} }}]"),
        format!("accounts: [{{ account_sid: {SID}, api_key: {MARK}, api_secret_env: T }}]"),
        format!(
            "accounts: [{{ account_sid: {SID}, name: [{MARK}], auth_token_file: {{ a: {MARK} }} }}]"
        ),
        format!("accounts: [ {MARK} ]"),
        format!("accounts: {{ a: {MARK} }}"),
        format!(
            "accounts: [{{ account_sid: {SID}, auth_token_env: T, base_url: 'https://u:{MARK}@x.example' }}]"
        ),
        format!("accounts: [{{ account_sid: {SID}, auth_token_env: T, region: '{MARK}!' }}]"),
        format!("accounts: [{{ account_sid: {SID}, subaccounts: {MARK} }}]"),
        format!("accounts:\n  - auth_token: {MARK}\n   bad indent: {MARK}: x\n"),
    ] {
        let problems = problems_of(&file, &Environment::from_pairs([("T", MARK)]));
        assert!(!problems.contains("marked-secret"), "{file}: {problems}");
    }
    let numeric = "accounts: [{ account_sid: 1234567890, auth_token_file: 9876543210 }]";
    let problems = problems_of(numeric, &Environment::default());
    assert!(!problems.contains("1234567890") && !problems.contains("9876543210"), "{problems}");
    let config = load(None, &sdk_variables()).expect("a configuration");
    for text in [format!("{config:?}"), config.to_string(), format!("{:?}", sdk_variables())] {
        assert!(!text.contains("marked-secret"), "{text}");
    }
    assert_eq!(config.accounts[0].credentials.secret.expose_secret(), MARK);
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
