//! Accounts: the sources of credentials, base URLs, and refused values.

use super::*;

const KEY: &str = "SK00000000000000000000000000000002";

#[test]
fn reads_a_secret_from_a_file_a_variable_or_a_credential() {
    let directory = TempDir::new().expect("a temporary directory");
    fs::write(directory.path().join("token"), format!("{MARK}\n")).expect("written");
    let path = directory.path().display().to_string();
    let variables =
        Environment::from_pairs([("T", MARK), ("CREDENTIALS_DIRECTORY", path.as_str())]);
    for (source, username) in [
        (format!("auth_token_file: {path}/token"), SID),
        ("auth_token_env: T".to_owned(), SID),
        ("auth_token_credential: token".to_owned(), SID),
        (format!("api_key: {KEY}, api_secret_file: {path}/token"), KEY),
        (format!("api_key: {KEY}, api_secret_env: T"), KEY),
        (format!("api_key: {KEY}, api_secret_credential: token"), KEY),
    ] {
        let file = format!("accounts: [{{ account_sid: {SID}, {source} }}]");
        let config = load_text(&file, &variables).expect("valid configuration");
        let credentials = &config.accounts[0].credentials;
        assert_eq!(credentials.username, username, "{source}");
        assert_eq!(credentials.secret.expose_secret(), MARK, "{source}");
    }
}

#[test]
fn reports_each_mistake_in_an_account() {
    let sid = format!("account_sid: {SID}");
    for (account, expected) in [
        (
            "auth_token_env: T".to_owned(),
            "account_sid: is missing: expected an Account SID (`AC` and 32 hex digits)",
        ),
        (
            "account_sid: AC1, auth_token_env: T".to_owned(),
            "account_sid: expected an Account SID (`AC` and 32 hex digits), got 3 characters",
        ),
        (
            sid.clone(),
            "auth_token: expected exactly one of `auth_token_file`, `auth_token_env` and `auth_token_credential`, got 0",
        ),
        (
            format!("{sid}, auth_token_env: T, auth_token_file: /x"),
            "auth_token: expected exactly one of `auth_token_file`, `auth_token_env` and `auth_token_credential`, got 2",
        ),
        (
            format!("{sid}, auth_token_env: MISSING"),
            "auth_token_env: expected the name of an environment variable that is set, got 7 characters",
        ),
        (
            format!("{sid}, auth_token_env: EMPTY"),
            "auth_token_env: environment variable `EMPTY` is empty",
        ),
        (
            format!("{sid}, auth_token_file: /nowhere/x"),
            "auth_token_file: cannot read `/…` (10 characters): no such file or directory",
        ),
        (
            format!("{sid}, auth_token_credential: a/b"),
            "auth_token_credential: expected the name of a systemd credential, without `/`",
        ),
        (
            format!("{sid}, auth_token_credential: .."),
            "auth_token_credential: expected the name of a systemd credential, without `/`",
        ),
        (
            format!("{sid}, auth_token_credential: token"),
            "auth_token_credential: there are no systemd credentials (CREDENTIALS_DIRECTORY is not set): use LoadCredential= in the unit",
        ),
        (
            format!("{sid}, api_key: AC1, api_secret_env: T"),
            "api_key: expected an API key SID (`SK` and 32 hex digits), got 3 characters",
        ),
        (
            format!("{sid}, api_key: {KEY}"),
            "api_secret: expected exactly one of `api_secret_file`, `api_secret_env` and `api_secret_credential`, got 0",
        ),
        (
            format!("{sid}, auth_token_env: T, base_url: 'https://u:p@x'"),
            "base_url: expected a URL without a user name and password",
        ),
        (
            format!("{sid}, auth_token_env: T, base_url: 'x'"),
            "base_url: expected a URL such as `https://proxy.example.com`",
        ),
        (
            format!("{sid}, api_secret_env: T, auth_token_env: T"),
            "api_secret_env: can only be used with `api_key`: expected `auth_token_…`",
        ),
        (
            format!("{sid}, api_key: {KEY}, api_secret_env: T, auth_token_env: T"),
            "auth_token_env: can't be used with `api_key`: expected `api_secret_…`",
        ),
        (
            format!("{sid}, auth_token_env: T, name: ''"),
            "name: expected a name of 1 to 256 bytes without control characters, and no other account's SID",
        ),
        (
            format!("{sid}, auth_token_env: T, region: xx1"),
            "edge: is missing: the region isn't known, so correct it or set its edge (such as `dublin` for `ie1`)",
        ),
        (
            format!("{sid}, auth_token_env: T, region: IE1"),
            "region: expected up to 20 lower-case letters and digits, such as `ie1` or `dublin`, got 3 characters",
        ),
        (
            format!("{sid}, auth_token_env: T, base_url: 'http://api.twilio.com'"),
            "base_url: expected https, or http to a loopback address, because credentials are sent there",
        ),
        (
            format!("{sid}, auth_token_env: T, base_url: 'https://x/?a=b'"),
            "base_url: expected a URL without a query or fragment",
        ),
        (
            format!("{sid}, auth_token_env: T, base_url: 'https://x', edge: dublin"),
            "edge: can't be used with `base_url`: set only one of them",
        ),
        (
            format!("{sid}, auth_token_env: T, subaccounts: {{ discover: maybe }}"),
            "subaccounts.discover: expected `true` or `false`, got 5 characters",
        ),
        (
            format!("{sid}, auth_token_env: T, subaccounts: {{ names: {{ x: z }} }}"),
            "subaccounts.names: expected a mapping of SIDs (`AC…`) to names, got 1 character",
        ),
        (
            format!("{sid}, auth_token_env: T, name: AC00000000000000000000000000000003"),
            "name: expected a name of 1 to 256 bytes without control characters, and no other account's SID",
        ),
        (
            format!(
                "{sid}, auth_token_env: T, subaccounts: {{ names: {{ AC00000000000000000000000000000003: {SID}@ie1 }} }}"
            ),
            "subaccounts.names.AC00000000000000000000000000000003: expected a name of 1 to 256 bytes without control characters, and no other account's SID",
        ),
        (
            format!("{sid}, auth_token_env: T, subaccounts: {{ inklude: [] }}"),
            "subaccounts.inklude: unknown key, expected one of `discover`, `include`, `exclude`, `names`",
        ),
    ] {
        let variables = Environment::from_pairs([("T", MARK), ("EMPTY", "")]);
        let file = format!("accounts: [{{ {account} }}]");
        check(&file, &variables, &format!("FILE: accounts[0].{expected}"));
    }
}

#[test]
fn reports_a_secret_in_the_file_as_a_single_problem() {
    check(
        &format!("accounts: [{{ account_sid: {SID}, auth_token: {MARK} }}]"),
        &Environment::default(),
        "FILE: accounts[0].auth_token: secrets don't belong in this file: expected `auth_token_file`, `auth_token_env` or `auth_token_credential`",
    );
}

#[test]
fn an_account_may_be_named_after_its_own_sid_and_region() {
    let account = format!("account_sid: {SID}, auth_token_env: T");
    let file = format!(
        "accounts: [{{ {account}, name: {SID} }}, {{ {account}, name: {SID}@ie1, region: ie1 }}]"
    );
    let directory = TempDir::new().expect("a temporary directory");
    let path = directory.path().join("exporter.yml");
    fs::write(&path, file).expect("written");
    let config = load(Some(&path), &Environment::from_pairs([("T", MARK)])).expect("valid");
    let names: Vec<_> = config.accounts.iter().map(|account| account.label.clone()).collect();
    assert_eq!(names, [SID.to_owned(), format!("{SID}@ie1")]);
}

#[test]
fn refuses_duplicate_accounts() {
    let account = format!("account_sid: {SID}, auth_token_env: T");
    let file = format!(
        "accounts: [{{ {account}, name: a }}, {{ {account}, name: a, region: ie1 }}, {{ {account}, name: b }}]"
    );
    check(
        &file,
        &Environment::from_pairs([("T", MARK)]),
        "FILE: accounts[1].name: is used by two accounts: expected unique names\n\
         FILE: accounts[2].account_sid: is listed twice in the same region: expected each account once",
    );
}

#[test]
fn refuses_duplicate_names() {
    let names = format!("names: {{ {SID}: a, AC00000000000000000000000000000003: b }}");
    let file = format!(
        "accounts: [{{ account_sid: {SID}, auth_token_env: T, name: a, subaccounts: {{ {names} }} }}]"
    );
    check(
        &file,
        &Environment::from_pairs([("T", MARK)]),
        "FILE: accounts[0].subaccounts.names: contains a name that is already in use: expected unique names",
    );
}

#[test]
fn builds_the_base_url_from_region_and_edge() {
    for (keys, base_url, region) in [
        ("", "https://api.twilio.com", "us1"),
        ("region: us1", "https://api.twilio.com", "us1"),
        ("region: ie1", "https://api.dublin.ie1.twilio.com", "ie1"),
        ("region: au1, edge: singapore", "https://api.singapore.au1.twilio.com", "au1"),
        ("edge: ashburn", "https://api.ashburn.us1.twilio.com", "us1"),
        (
            "base_url: 'https://api.dublin.ie1.twilio.com'",
            "https://api.dublin.ie1.twilio.com",
            "ie1",
        ),
        ("base_url: 'http://127.0.0.1:8080'", "http://127.0.0.1:8080", "us1"),
        (
            "base_url: 'https://proxy.example.com/twilio', region: ie1",
            "https://proxy.example.com/twilio",
            "ie1",
        ),
    ] {
        let comma = if keys.is_empty() { "" } else { ", " };
        let file = format!("accounts: [{{ account_sid: {SID}, auth_token_env: T{comma}{keys} }}]");
        let config =
            load_text(&file, &Environment::from_pairs([("T", MARK)])).expect("valid configuration");
        let account = &config.accounts[0];
        assert_eq!(
            (account.base_url.to_string().as_str(), account.region.as_str()),
            (base_url, region),
            "{keys}"
        );
    }
}

#[test]
fn reads_an_account_from_the_sdks_variables() {
    let sid = ("TWILIO_ACCOUNT_SID", SID);
    let key = [sid, ("TWILIO_API_KEY", KEY), ("TWILIO_API_SECRET", MARK), ("TWILIO_REGION", "ie1")];
    let config = load(None, &Environment::from_pairs(key)).expect("valid configuration");
    assert_eq!(config.accounts[0].credentials.username, KEY);
    assert_eq!(config.accounts[0].base_url.to_string(), "https://api.dublin.ie1.twilio.com");
    for (variables, expected) in [
        (vec![sid], "environment variable TWILIO_AUTH_TOKEN: is not set"),
        (
            vec![sid, ("TWILIO_AUTH_TOKEN", "")],
            "environment variable TWILIO_AUTH_TOKEN: is not set",
        ),
        (
            vec![sid, ("TWILIO_API_KEY", KEY), ("TWILIO_AUTH_TOKEN", MARK)],
            "environment variable TWILIO_API_SECRET: is not set",
        ),
        (
            vec![sid, ("TWILIO_API_SECRET", MARK)],
            "environment variable TWILIO_AUTH_TOKEN: is not set",
        ),
        (
            vec![sid, ("TWILIO_API_KEY", MARK), ("TWILIO_API_SECRET", MARK)],
            "environment variable TWILIO_API_KEY: expected an API key SID (`SK` and 32 hex digits), got 24 characters",
        ),
        (
            vec![sid, ("TWILIO_AUTH_TOKEN", MARK), ("TWILIO_REGION", "xx1")],
            "environment variable TWILIO_EDGE: is missing: the region isn't known, so correct it or set its edge (such as `dublin` for `ie1`)",
        ),
        (
            vec![sid, ("TWILIO_AUTH_TOKEN", MARK), ("TWILIO_EDGE", "a.b")],
            "environment variable TWILIO_EDGE: expected up to 20 lower-case letters and digits, such as `ie1` or `dublin`, got 3 characters",
        ),
        (
            vec![
                sid,
                ("TWILIO_AUTH_TOKEN", MARK),
                ("TWILIO_EDGE", "dublin"),
                ("TWILIO_API_BASE_URL", "https://x"),
            ],
            "environment variable TWILIO_EDGE: can't be used with `base_url`: set only one of them",
        ),
        (vec![sid, ("TWILIO_API_KEY", KEY)], "environment variable TWILIO_API_SECRET: is not set"),
        (
            vec![("TWILIO_ACCOUNT_SID", "x"), ("TWILIO_AUTH_TOKEN", MARK)],
            "environment variable TWILIO_ACCOUNT_SID: expected an Account SID (`AC` and 32 hex digits), got 1 character",
        ),
        (
            vec![sid, ("TWILIO_AUTH_TOKEN", MARK), ("TWILIO_API_BASE_URL", "http://x")],
            "environment variable TWILIO_API_BASE_URL: expected https, or http to a loopback address, because credentials are sent there",
        ),
    ] {
        let problems = load(None, &Environment::from_pairs(variables)).expect_err("refused");
        assert_eq!(problems.to_string(), expected);
    }
}

#[test]
fn accounts_in_the_file_override_the_sdks_variables() {
    let file = format!("accounts: [{{ account_sid: {SID}, auth_token_env: T, name: prod }}]");
    let mut variables = sdk_variables();
    variables.0.insert("T".to_owned(), "other".to_owned());
    let config = load_text(&file, &variables).expect("valid configuration");
    assert_eq!(config.accounts[0].credentials.secret.expose_secret(), "other");
    assert_eq!(config.notices.len(), 1, "{:?}", config.notices);
}
