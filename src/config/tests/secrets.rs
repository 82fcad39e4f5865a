//! Secrets: in whatever wrong place they stand, no message repeats them.

use super::*;

#[test]
fn no_secret_comes_back_from_wherever_it_stands() {
    let variables = Environment::from_pairs([("T", MARK), ("CREDENTIALS_DIRECTORY", "/nowhere")]);
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
        // Meant for a key, but without the space after its colon, which makes a key of it all.
        format!("{{auth_token:{MARK}}}"),
        format!("accounts: [{{auth_token:{MARK}}}]"),
        format!("accounts: [{{ account_sid: {SID}, auth_token_env: T, {MARK}: x }}]"),
        format!(
            "accounts: [{{ account_sid: {SID}, auth_token_env: T, subaccounts: {{ {MARK}: x }} }}]"
        ),
        format!(
            "accounts: [{{ account_sid: {SID}, auth_token_env: T, subaccounts: {{ names: {{ {MARK}: {MARK} }} }} }}]"
        ),
        // In place of where it stands.
        format!("accounts: [{{ account_sid: {SID}, auth_token_env: {MARK} }}]"),
        format!("accounts: [{{ account_sid: {SID}, auth_token_file: {MARK} }}]"),
        format!("accounts: [{{ account_sid: {SID}, auth_token_credential: {MARK} }}]"),
        format!("accounts: [{{ account_sid: {SID}, auth_token_env: T, region: {MARK} }}]"),
        format!("accounts: [{{ account_sid: {SID}, auth_token_env: T, edge: {MARK} }}]"),
        format!("accounts: [{{ account_sid: {SID}, auth_token_env: T, base_url: {MARK} }}]"),
        // In place of something else altogether.
        format!("accounts: {MARK}"),
        format!("routes: [ {MARK} ]"),
        format!("poll: {{ interval: {MARK}, after_end: [ {MARK} ] }}"),
        format!("auth_token: {MARK}"),
        MARK.to_owned(),
    ] {
        let problems = problems_of(&file, &variables);
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

#[test]
fn no_variable_comes_back() {
    for name in [
        "TWILIO_ACCOUNT_SID",
        "TWILIO_API_KEY",
        "TWILIO_API_BASE_URL",
        "TWILIO_REGION",
        "TWILIO_EDGE",
        "TWILIO_EXPORTER_AUTH_TOKEN",
        "TWILIO_EXPORTER_ACCOUNTS",
        "TWILIO_EXPORTER_ACCOUNTS__AUTH_TOKEN",
        "TWILIO_EXPORTER_EXEMPLARS",
    ] {
        let mut variables = sdk_variables();
        variables.0.insert(name.to_owned(), MARK.to_owned());
        let problems = load(None, &variables).expect_err(name).to_string();
        assert!(!problems.contains("marked-secret"), "{name}: {problems}");
    }
}

#[test]
fn a_name_that_is_no_secret_is_shown() {
    for name in ["intervall", "PROD_1_TWILIO_AUTH_TOKEN", "twilio-auth-token-2026", "é"] {
        assert_eq!(problem::name(name), name);
    }
    let token = "0123456789abcdef0123456789abcdef";
    for (name, shown) in [
        (token, "…"),
        ("AbCdEfGhIjKlMnOpQrStUvWxYzAbCdEf", "…"),
        (&format!("auth_token:{token}"), "auth_token:…"),
        (&format!("{token}:x"), "…"),
        ("a\nb", "a\\nb"),
    ] {
        assert_eq!(problem::name(name), shown);
    }
}
