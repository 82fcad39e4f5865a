//! The URL to which Twilio pushes, and the secrets that sign pushes.

use super::*;

const KEY: &str = "SK00000000000000000000000000000002";
const URL: &str = "https://exporter.example.com/push/error-log";

#[test]
fn uses_the_accounts_auth_token_or_a_separate_one_to_verify_pushes() {
    let variables = Environment::from_pairs([("T", MARK), ("P", "other-secret")]);
    let key = format!("api_key: {KEY}, api_secret_env: T");
    for (source, signs) in [
        ("auth_token_env: T".to_owned(), Some(MARK)),
        ("auth_token_env: T, push_auth_token_env: P".to_owned(), Some("other-secret")),
        (key.clone(), None),
        (format!("{key}, push_auth_token_env: P"), Some("other-secret")),
    ] {
        let file = format!("accounts: [{{ account_sid: {SID}, {source} }}]");
        let config = load_text(&file, &variables).expect("valid configuration");
        let secret = config.accounts[0].push_secret.as_ref();
        assert_eq!(secret.map(|secret| secret.0.expose_secret()), signs, "{source}");
        assert_eq!(config.push_url, None);
        assert!(!config.to_string().contains("other-secret"));
        let is_printed =
            config.to_string().contains("# secret that signs pushes: <redacted>, from environment");
        assert_eq!(is_printed, source.contains("push_auth_token"), "{config}");
    }
}

#[test]
fn twilios_variables_may_set_an_auth_token_and_an_api_key() {
    let own = [
        ("TWILIO_ACCOUNT_SID", SID),
        ("TWILIO_API_KEY", KEY),
        ("TWILIO_API_SECRET", "api-secret"),
        ("TWILIO_EXPORTER_PUSH__PUBLIC_URL", URL),
    ];
    let with_token = own.into_iter().chain([("TWILIO_AUTH_TOKEN", MARK)]);
    let config = load(None, &Environment::from_pairs(with_token)).expect("valid configuration");
    assert_eq!(config.push_url.map(|url| url.to_string()).as_deref(), Some(URL));
    let account = &config.accounts[0];
    assert_eq!(account.credentials.secret.expose_secret(), "api-secret");
    assert_eq!(account.push_secret.as_ref().expect("a secret").0.expose_secret(), MARK);
    let problems = load(None, &Environment::from_pairs(own)).expect_err("no token");
    assert!(problems.to_string().contains("needs an account with an auth token"), "{problems}");
}

#[test]
fn reports_pushes_that_can_never_be_verified() {
    let variables = Environment::from_pairs([("T", MARK)]);
    let with_key = format!("{{ account_sid: {SID}, name: a, api_key: {KEY}, api_secret_env: T }}");
    let with_token =
        "{ account_sid: AC00000000000000000000000000000009, auth_token_env: T }".to_owned();
    let push = format!("push: {{ public_url: '{URL}' }}");
    let file = format!("accounts: [{with_key}, {with_token}]\n{push}\n");
    let config = load_text(&file, &variables).expect("valid configuration");
    assert!(
        config.notices.iter().any(|notice| notice.contains("can't be verified for a: set")),
        "{:?}",
        config.notices
    );
    for (file, expected) in [
        (
            format!("accounts: [{with_key}]\n{push}\n"),
            "push.public_url: needs an account with an auth token to verify pushes",
        ),
        (
            format!("accounts: [{with_token}]\npush: {{ public_url: 7 }}\n"),
            "push.public_url: expected a string, got a number",
        ),
        (
            format!("accounts: [{with_token}]\npush: {{ public_url: 'exporter.example.com' }}\n"),
            "push.public_url: expected a URL such as `https://exporter.example.com/push/error-log`",
        ),
        (
            format!("accounts: [{with_token}]\npush: {{ public_url: '{URL}', url: x }}\n"),
            "push.url: unknown key, expected one of `public_url`",
        ),
        (
            format!("accounts: [{with_token}]\npush: {URL}\n"),
            "push: expected a mapping, got 43 characters",
        ),
    ] {
        let problems = problems_of(&file, &variables);
        assert!(problems.contains(expected), "{problems}");
    }
    let twice = format!(
        "accounts: [{{ account_sid: {SID}, auth_token_env: T, push_auth_token_env: T, push_auth_token_file: /x }}]"
    );
    let problems = problems_of(&twice, &variables);
    assert!(problems.contains("push_auth_token: expected at most one of"), "{problems}");
}
