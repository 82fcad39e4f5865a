//! Layers: precedence, nulls, and hostile files and variables.

use super::*;

#[test]
fn the_environment_overrides_the_file_and_the_file_the_defaults() {
    let file = "poll: { interval: 10s, after_end: [2s] }\nlimits: { series: 500 }\n";
    let mut variables = sdk_variables();
    for (name, value) in [
        ("TWILIO_EXPORTER_POLL__INTERVAL", "20s"),
        ("TWILIO_EXPORTER_POLL__AFTER_END", "[3s, 4m]"),
        ("TWILIO_EXPORTER_API__MAX_CONCURRENCY", "7"),
    ] {
        variables.0.insert(name.to_owned(), value.to_owned());
    }
    let config = load_text(file, &variables).expect("valid configuration");
    assert_eq!(config.lists.interval, seconds(20));
    assert_eq!(config.reads.after_end, [seconds(3), seconds(240)]);
    assert_eq!(config.api.max_concurrency, 7);
    assert_eq!(config.limits.series, 500);
    assert_eq!(config.reads.settle_delay, seconds(960));
}

#[test]
fn ignores_variables_of_kubernetes_services_but_reports_typos() {
    let mut variables = sdk_variables();
    for (name, value) in [
        ("SERVICE_HOST", "10.0.0.1"),
        ("SERVICE_PORT", "10914"),
        ("SERVICE_PORT_HTTP", "10914"),
        ("PORT", "tcp://10.0.0.1:10914"),
        ("PORT_10914_TCP_ADDR", "10.0.0.1"),
        ("METRICS_PORT", "tcp://10.0.0.1:80"),
        ("METRICS_SERVICE_PORT_HTTP", "80"),
        ("METRICS_PORT_80_TCP_PROTO", "tcp"),
    ] {
        load(None, &variables_with(name, value)).expect("each alone");
        variables.0.insert(format!("TWILIO_EXPORTER_{name}"), value.to_owned());
    }
    load(None, &variables).expect("valid configuration");
    for (name, value) in [("POLL__INTERVALL", "1s"), ("METRICS_PORT", "80"), ("WEB__PORT", "80")] {
        let mut variables = variables.clone();
        variables.0.insert(format!("TWILIO_EXPORTER_{name}"), value.to_owned());
        let problems = load(None, &variables).expect_err(name).to_string();
        assert!(problems.contains("unknown key") && problems.lines().count() == 1, "{problems}");
    }
}

#[test]
fn ignores_white_space_and_quotes_around_a_variable() {
    for template in ["{}", " {}\r\n", "\"{}\"", "'{}'\n", "\u{feff}{}", "{}\0"] {
        let set = |text: &str| template.replace("{}", text);
        let key = "SK00000000000000000000000000000002";
        let variables = [
            ("TWILIO_ACCOUNT_SID", SID),
            ("TWILIO_API_KEY", key),
            ("TWILIO_API_SECRET", MARK),
            ("TWILIO_REGION", "ie1"),
            ("TWILIO_API_BASE_URL", "https://proxy.example.com"),
            ("TWILIO_EXPORTER_POLL__INTERVAL", "20s"),
            ("TWILIO_EXPORTER_POLL__AFTER_END", "[3s, 4m]"),
            ("TWILIO_EXPORTER_EXEMPLARS", "false"),
            ("TWILIO_EXPORTER_LIMITS__SERIES", "500"),
            ("TWILIO_EXPORTER_API__CA_FILE", "/a b.pem"),
        ];
        let variables = variables.map(|(name, value)| (name, set(value)));
        let pairs = variables.iter().map(|(name, value)| (*name, value.as_str()));
        let config = load(None, &Environment::from_pairs(pairs)).expect(template);
        let account = &config.accounts[0];
        assert_eq!(account.account_sid.to_string(), SID, "{template:?}");
        assert_eq!(account.credentials.username, key, "{template:?}");
        assert_eq!(account.credentials.secret.expose_secret(), MARK, "{template:?}");
        assert_eq!(account.base_url.to_string(), "https://proxy.example.com", "{template:?}");
        assert_eq!(account.region, "ie1", "{template:?}");
        assert_eq!(config.lists.interval, seconds(20), "{template:?}");
        assert_eq!(config.reads.after_end, [seconds(3), seconds(240)], "{template:?}");
        assert!(!config.exemplars && config.limits.series == 500, "{template:?}");
        assert_eq!(config.api.ca_file.as_deref(), Some(Path::new("/a b.pem")), "{template:?}");
    }
}

#[test]
fn null_means_the_default() {
    let defaults = load(None, &sdk_variables()).expect("valid configuration").to_string();
    let mut files = Vec::new();
    for (section, keys) in SECTIONS {
        for null in ["null", "~", ""] {
            files.push(format!("{section}: {null}\n"));
            files.extend(keys.iter().map(|(key, _)| format!("{section}:\n  {key}: {null}\n")));
        }
    }
    for key in ["accounts", "routes", "exemplars"] {
        files.push(format!("{key}:\n"));
    }
    files.extend(["", "# nothing\n", "---\n", "{}", "null", "\u{feff}"].map(str::to_owned));
    for file in files {
        let config = load_text(&file, &sdk_variables()).expect(&file);
        assert_eq!(config.to_string(), defaults, "{file:?}");
    }
    assert!(load_text("poll: { nonsense: null }", &sdk_variables()).is_err());
}

#[test]
fn each_key_refuses_values_of_other_types() {
    for (section, keys) in SECTIONS {
        for (key, right) in keys {
            for (kind, value) in [
                ("duration", "x"),
                ("duration", "''"),
                ("duration", "-5s"),
                ("duration", "5"),
                ("duration", "1e999"),
                ("list", "30s"),
                ("list", "[[30s]]"),
                ("list", "[null]"),
                ("number", "4.0"),
                ("number", "-1"),
                ("number", "99999999999999999999999999999999999999999"),
                ("number", "'7'"),
                ("number", "30s"),
                ("path", "''"),
                ("path", "1.5"),
                ("path", "[/x]"),
                ("any", "true"),
                ("any", "{}"),
                ("any", ".nan"),
                ("any", "-.inf"),
            ] {
                if kind == *right || kind == "any" {
                    let file = format!("{section}: {{ {key}: {value} }}");
                    let problems = problems_of(&file, &sdk_variables());
                    let place = format!("FILE: {section}.{key}: expected ");
                    // The parser refuses numbers that aren't finite, with their position.
                    let is_reported =
                        problems.starts_with(&place) || problems.starts_with("FILE:1:");
                    assert!(is_reported && problems.lines().count() == 1, "{file}: {problems}");
                }
            }
        }
    }
    for value in ["1", "'true'", "[]", "{}"] {
        let problems = problems_of(&format!("exemplars: {value}"), &sdk_variables());
        assert!(problems.contains("expected `true` or `false`"), "{value}: {problems}");
    }
}

#[test]
fn parses_a_variable_by_the_type_of_its_key() {
    for (name, value, printed) in [
        ("POLL__INTERVAL", "30m", "interval: 30m"),
        ("POLL__AFTER_END", "[]", "after_end: []"),
        ("POLL__AFTER_END", "[15s,\"3m\"]", "after_end: [15s, 3m]"),
        ("API__MAX_CONCURRENCY", "007", "max_concurrency: 7"),
        ("API__CA_FILE", "/a,b.pem", "ca_file: \"/a,b.pem\""),
        ("LIMITS__HOLD_BACK", "0s", "hold_back: 0s"),
        ("EXEMPLARS", "false", "exemplars: false"),
    ] {
        let config = load(None, &variables_with(name, value)).expect(name);
        assert!(config.to_string().contains(printed), "{name}={value}: {config}");
    }
}

#[test]
fn names_an_invalid_variable() {
    for (name, value, expected) in [
        (
            "POLL__INTERVAL",
            "",
            "poll.interval: expected a duration such as `30s`, `16m` or `24h`, got an empty string",
        ),
        (
            "POLL__AFTER_END",
            "15s,2m",
            "poll.after_end: expected a list of durations such as `[15s, 2m]`, got 6 characters",
        ),
        ("POLL", "x", "poll: expected a mapping, got 1 character"),
        (
            "API__MAX_CONCURRENCY",
            "-1",
            "api.max_concurrency: expected a whole number from 1 to 100, got `-1`",
        ),
        ("EXEMPLARS", "no", "exemplars: expected `true` or `false`, got `no`"),
        ("ACCOUNTS", "[]", "accounts: can only be set in the file"),
        ("ROUTES", "", "routes: can only be set in the file"),
        (
            "LIMITS__INTERVALL",
            "1",
            "limits.intervall: unknown key, expected one of `routes_per_account`, `series`, `tracked_calls`, `hold_back`",
        ),
    ] {
        let problems = load(None, &variables_with(name, value)).expect_err(name).to_string();
        let place = format!("environment variable TWILIO_EXPORTER_{name}");
        assert_eq!(problems, format!("{place}: {expected}"));
    }
}

#[test]
fn no_file_can_have_the_environments_name() {
    let error = fs::File::open(layers::ENVIRONMENT_NAME).expect_err("not a path");
    assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput);
}

#[test]
fn reports_missing_accounts_together_with_other_problems() {
    let nothing = Environment::default();
    let problems = problems_of("poll: { interval: x }", &nothing);
    assert!(problems.contains("poll.interval: expected a duration"), "{problems}");
    assert!(problems.contains("TWILIO_ACCOUNT_SID: is not set"), "{problems}");
    // If the accounts can't be read, they may not be missing.
    for file in ["accounts: {}", "a: b: c", "- a"] {
        assert!(!problems_of(file, &nothing).contains("TWILIO_ACCOUNT_SID"), "{file}");
    }
}

#[test]
fn names_an_unreadable_file() {
    let missing = load(Some(Path::new("/nowhere/exporter.yml")), &sdk_variables());
    let text = missing.expect_err("refused").to_string();
    assert!(
        text.starts_with("--config.file, `/…` (21 characters): cannot be read: No such"),
        "{text}"
    );
    let large = format!("# {}\n", "x".repeat(1 << 20));
    assert!(problems_of(&large, &sdk_variables()).contains("larger than 1048576 bytes"));
    let two_byte_characters = format!("#{}\n", "é".repeat(1 << 19));
    assert!(
        problems_of(&two_byte_characters, &sdk_variables()).contains("larger than 1048576 bytes")
    );
    let (_directory, path) = written(b"poll: \xff\xfe\n");
    let binary = load(Some(&path), &sdk_variables()).expect_err("refused").to_string();
    assert!(binary.ends_with(": cannot be read: is not valid UTF-8"), "{binary}");
}

#[test]
fn refuses_a_hostile_file_quickly() {
    let mut bomb = "a0: &a0 [x, x]\n".to_owned();
    for level in 1..40 {
        let before = level - 1;
        bomb.push_str(&format!("a{level}: &a{level} [*a{before}, *a{before}, *a{before}]\n"));
    }
    let deep = format!("poll: {}{}", "[".repeat(100_000), "]".repeat(100_000));
    let merges = "a: &a { x: 1 }\nb: { <<: *b }\n".to_owned();
    let wide = format!("x: &x '{}'\ny: [{}]\n", "z".repeat(500_000), vec!["*x"; 45_000].join(", "));
    for text in [bomb, deep, merges, wide, "a: *unknown\n".to_owned(), "a: 1\na: 2\n".to_owned()] {
        assert!(load_text(&text, &sdk_variables()).is_err());
    }
}

#[test]
fn refuses_a_hostile_variable() {
    let deep = "[".repeat(60_000);
    for (name, value) in [
        ("POLL__AFTER_END".to_owned(), deep.clone()),
        ("POLL__AFTER_END".to_owned(), format!("{deep}{}", "]".repeat(60_000))),
        ("POLL__AFTER_END".to_owned(), "{a=".repeat(20_000)),
        ("A__".repeat(20_000), "1".to_owned()),
    ] {
        assert!(load(None, &variables_with(&name, &value)).is_err());
    }
}

/// The sections with their keys and the type of each key.
const SECTIONS: [(&str, &[(&str, &str)]); 3] = [
    (
        "poll",
        &[
            ("interval", "duration"),
            ("live_interval", "duration"),
            ("after_end", "list"),
            ("settle_delay", "duration"),
            ("audit_after", "duration"),
            ("initial_lookback", "duration"),
            ("catch_up", "duration"),
        ],
    ),
    (
        "api",
        &[
            ("max_concurrency", "number"),
            ("max_total_concurrency", "number"),
            ("connect_timeout", "duration"),
            ("timeout", "duration"),
            ("ca_file", "path"),
        ],
    ),
    (
        "limits",
        &[
            ("routes_per_account", "number"),
            ("series", "number"),
            ("tracked_calls", "number"),
            ("hold_back", "duration"),
        ],
    ),
];

fn variables_with(name: &str, value: &str) -> Environment {
    let mut variables = sdk_variables();
    variables.0.insert(format!("TWILIO_EXPORTER_{name}"), value.to_owned());
    variables
}
