//! The broken files in `tests/fixtures/config`, with one mistake each and its exact message.

use super::*;

#[test]
fn refuses_each_broken_file_with_its_reason() {
    let variables = with_token();
    let mut covered = vec![MANY.to_owned()];
    for (name, expected) in [
        (
            "unknown-key",
            "FILE: unknown key of 8 characters, expected one of `accounts`, `poll`, `push`, `api`, `routes`, `limits`, `exemplars`",
        ),
        (
            "unknown-key-in-poll",
            "FILE: poll.intervall: unknown key, expected one of `interval`, `live_interval`, `after_end`, `settle_delay`, `audit_after`, `error_log_interval`, `initial_lookback`, `catch_up`",
        ),
        (
            "unknown-key-in-api",
            "FILE: api.retries: unknown key, expected one of `max_concurrency`, `max_total_concurrency`, `connect_timeout`, `timeout`, `ca_file`",
        ),
        (
            "unknown-key-with-dots",
            "FILE: poll.interval: unknown key, expected one of `accounts`, `poll`, `push`, `api`, `routes`, `limits`, `exemplars`",
        ),
        (
            "duration-without-unit",
            "FILE: poll.interval: expected a duration such as `30s`, `16m` or `24h`, got `30`",
        ),
        ("duration-too-long", "FILE: poll.catch_up: expected a duration from 1s to 30d, got `31d`"),
        (
            "number-with-point",
            "FILE: api.max_concurrency: expected a whole number from 1 to 100, got `4.0`",
        ),
        ("empty-path", "FILE: api.ca_file: expected a path, got an empty string"),
        (
            "early-reads-too-late",
            "FILE: poll.catch_up: expected a duration such as `30s`, `16m` or `24h`, got 5 characters\n\
             configuration: poll.after_end: expected at most 8 durations, each longer than the one before and shorter than poll.settle_delay (16m)",
        ),
        (
            "early-reads-too-many",
            "configuration: poll.after_end: expected at most 8 durations, each longer than the one before and shorter than poll.settle_delay (16m)",
        ),
        ("section-is-a-list", "FILE: limits: expected a mapping, got a list"),
        (
            "route-with-query",
            "FILE: routes[0]: expected a route pattern: a pattern can't contain a query or a fragment, got 4 characters",
        ),
        (
            "route-with-blank",
            "FILE: routes[1]: expected a route pattern: a pattern can't contain white space or control characters, got 4 characters",
        ),
        (
            "route-with-wildcard",
            "FILE: routes[0]: expected a route pattern: `*` can only stand for the first labels of a host, as in `*.example.com/ivr`, got 4 characters",
        ),
        (
            "route-without-name",
            "FILE: routes[0]: expected a route pattern: a placeholder needs a name after its `:`, got 4 characters",
        ),
        ("accounts-is-a-mapping", "FILE: accounts: expected a list of accounts, got a mapping"),
        (
            "account-is-empty",
            "FILE: accounts[0]: expected a mapping with `account_sid:` and its credentials",
        ),
        (
            "account-with-inline-secret",
            "FILE: accounts[0].api_secret: secrets don't belong in this file: expected `api_secret_file`, `api_secret_env` or `api_secret_credential`",
        ),
        (
            "account-name-of-control-characters",
            "FILE: accounts[0].subaccounts.names.AC00000000000000000000000000000002: expected a name of 1 to 256 bytes without control characters, and no other account's SID",
        ),
        (
            "account-with-long-region",
            "FILE: accounts[0].region: expected up to 20 lower-case letters and digits, such as `ie1` or `dublin`, got 24 characters",
        ),
        ("key-twice", "FILE:3:3: invalid YAML"),
        ("two-documents", "FILE:3:1: invalid YAML"),
        ("tab", "FILE:2:2: invalid YAML"),
        ("unclosed", "FILE:1:7: invalid YAML"),
        ("unknown-alias", "FILE:1:7: invalid YAML"),
        ("no-number", "FILE:1:19: invalid YAML"),
        ("key-is-a-list", "FILE:1:1: invalid YAML"),
        ("only-a-text", "FILE: expected a mapping with keys such as `accounts:`"),
    ] {
        let file = folder().join(format!("{name}.yml"));
        check(&fs::read_to_string(&file).expect(name), &variables, expected);
        covered.push(format!("{name}.yml"));
    }
    let files = fs::read_dir(folder()).expect("a folder");
    for file in files.map(|file| file.expect("a file").file_name().display().to_string()) {
        assert!(covered.contains(&file), "no test covers {file}");
    }
}

#[test]
fn reports_many_mistakes_in_order() {
    let text = fs::read_to_string(folder().join(MANY)).expect("a file");
    let problems = problems_of(&text, &with_token());
    let keys: Vec<&str> = problems.lines().filter_map(|line| line.split(": ").nth(1)).collect();
    let sorted = [
        "accounts[0].account_sid",
        "accounts[0].auth_token",
        "api.max_concurrency",
        "poll.interval",
        "poll.intervall",
        "routes[0]",
    ];
    assert_eq!(keys, sorted, "{problems}");
}

/// A file that the tests of the command line also use.
const MANY: &str = "many-problems.yml";

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/config")
}

fn with_token() -> Environment {
    let mut variables = sdk_variables();
    variables.0.insert("T".to_owned(), MARK.to_owned());
    variables
}
