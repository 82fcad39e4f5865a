//! Secrets in the wrong place: no message quotes them.

use super::*;

#[test]
fn no_message_quotes_a_misplaced_secret() {
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
        // Without the space after the colon, the whole text is the key.
        format!("{{auth_token:{MARK}}}"),
        format!("accounts: [{{auth_token:{MARK}}}]"),
        format!("accounts: [{{ account_sid: {SID}, auth_token_env: T, {MARK}: x }}]"),
        format!(
            "accounts: [{{ account_sid: {SID}, auth_token_env: T, subaccounts: {{ {MARK}: x }} }}]"
        ),
        format!(
            "accounts: [{{ account_sid: {SID}, auth_token_env: T, subaccounts: {{ names: {{ {MARK}: {MARK} }} }} }}]"
        ),
        format!("accounts: [{{ account_sid: {SID}, auth_token_env: T, push_auth_token: {MARK} }}]"),
        format!("push: {{ public_url: 'https://u:{MARK}@x.example' }}"),
        format!("push: {{ public_url: {MARK} }}"),
        format!("push: {MARK}"),
        // In place of its source.
        format!(
            "accounts: [{{ account_sid: {SID}, auth_token_env: T, push_auth_token_env: {MARK} }}]"
        ),
        format!("accounts: [{{ account_sid: {SID}, auth_token_env: {MARK} }}]"),
        format!("accounts: [{{ account_sid: {SID}, auth_token_file: {MARK} }}]"),
        format!("accounts: [{{ account_sid: {SID}, auth_token_credential: {MARK} }}]"),
        format!("accounts: [{{ account_sid: {SID}, auth_token_env: T, region: {MARK} }}]"),
        format!("accounts: [{{ account_sid: {SID}, auth_token_env: T, edge: {MARK} }}]"),
        format!("accounts: [{{ account_sid: {SID}, auth_token_env: T, base_url: {MARK} }}]"),
        // In an unrelated place.
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
    let config = load(None, &sdk_variables()).expect("valid configuration");
    for text in [format!("{config:?}"), config.to_string(), format!("{:?}", sdk_variables())] {
        assert!(!text.contains("marked-secret"), "{text}");
    }
    assert_eq!(config.accounts[0].credentials.secret.expose_secret(), MARK);
}

#[test]
fn no_message_quotes_a_variable() {
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

/// Every secret and number in [`forms`] contains one of these.
const CANARIES: [&str; 2] = ["canarysecret", "5005550006"];

/// Secrets as users paste them: alone, in a URL, with a name in front, quoted, as a number.
fn forms() -> impl Iterator<Item = String> {
    let secret = [
        "{}",
        "/v?token={}",
        "https://user:{}@h/x",
        "a:{}",
        "{}/a",
        "{}@example.com",
        "30s {}",
        "AC{}",
        "interval{}",
        "/a b/{}",
        "${{{}}}",
        "a\u{1}{}",
        "{}\n{}",
    ];
    let secret = secret.map(|template| template.replace("{}", "canarysecret0123456789abcdef"));
    let more = ["canarysecret", "h/canarysecret", "15005550006", "+15005550006", "tel:15005550006"];
    secret.into_iter().chain(more.map(str::to_owned))
}

/// The form as YAML: quoted, and also unquoted if it is one word.
fn written_as_yaml(form: &str) -> Vec<String> {
    let quoted = serde_json::Value::from(form).to_string();
    let is_word = form.chars().all(|c| c.is_ascii_alphanumeric() || c == '/');
    if is_word { vec![quoted, form.to_owned()] } else { vec![quoted] }
}

/// The form as the value of a key, and everywhere around it.
fn placements(key: &str, form: &str) -> [String; 9] {
    [
        format!("{key}: {form}"),
        format!("{key}: [{form}]"),
        format!("{key}: [[{form}]]"),
        format!("{key}: [15s, {form}]"),
        format!("{key}: {{ {form}: 1 }}"),
        format!("{key}: {{ x: {form} }}"),
        format!("{key}: [{{ {form}: {form} }}]"),
        format!("{form}: {{ {key}: 1 }}"),
        format!("{key}{form}: 1"),
    ]
}

#[test]
fn no_key_of_the_configuration_reveals_a_pasted_secret() {
    let account = format!("account_sid: {SID}, auth_token_env: T");
    let sections = [
        ("{}", keys_of("x: 1", "")),
        ("poll: {{}}", keys_of("poll: { x: 1 }", "")),
        ("api: {{}}", keys_of("api: { x: 1 }", "")),
        ("limits: {{}}", keys_of("limits: { x: 1 }", "")),
        ("accounts: [{{}}]", keys_of("accounts: [{ x: 1 }]", "auth_token api_secret")),
        ("accounts: [{A, {}}]", keys_of("accounts: [{ x: 1 }]", "auth_token api_secret")),
        (
            "accounts: [{A, subaccounts: {{}}}]",
            keys_of("accounts: [{ subaccounts: { x: 1 } }]", ""),
        ),
        ("accounts: [{A, subaccounts: { names: {{}} }}]", vec![SID.to_owned()]),
    ];
    let variables = Environment::from_pairs([("T", MARK), ("CREDENTIALS_DIRECTORY", "/nowhere")]);
    let mut refused = 0;
    for (template, keys) in sections {
        assert!(!keys.is_empty(), "{template}");
        for (key, form) in keys.iter().flat_map(|key| forms().map(move |form| (key, form))) {
            for text in written_as_yaml(&form).iter().flat_map(|form| placements(key, form)) {
                let file = template.replace("{}", &text).replace('A', &account);
                let file = if template == "{}" { text } else { file };
                if let Err(problems) = load_text(&file, &variables) {
                    assert_no_canary(&problems, &file);
                    refused += 1;
                }
            }
        }
    }
    assert!(refused > 5_000, "{refused} refused");
}

#[test]
fn no_variable_reveals_a_pasted_secret() {
    let mut names: Vec<String> = ["ACCOUNT_SID", "AUTH_TOKEN", "API_KEY", "API_SECRET"]
        .into_iter()
        .chain(["REGION", "EDGE", "API_BASE_URL"])
        .map(|name| format!("TWILIO_{name}"))
        .collect();
    for (section, file) in [
        ("", "x: 1"),
        ("poll.", "poll: {x: 1}"),
        ("api.", "api: {x: 1}"),
        ("limits.", "limits: {x: 1}"),
    ] {
        for key in keys_of(file, "").into_iter().chain(["x".to_owned(), "x__y".to_owned()]) {
            let path = format!("{section}{key}").to_uppercase().replace('.', "__");
            names.push(format!("TWILIO_EXPORTER_{path}"));
        }
    }
    for (name, form) in names.iter().flat_map(|name| forms().map(move |form| (name, form))) {
        for (name, value) in [
            (name.clone(), form.clone()),
            (name.clone(), format!("[{form}]")),
            (name.clone(), format!("{{{form}={form}}}")),
            (format!("{name}__{form}"), "1".to_owned()),
            (format!("{name}{form}"), "1".to_owned()),
            (format!("TWILIO_EXPORTER_{form}__X"), "1".to_owned()),
        ] {
            let mut variables = sdk_variables();
            variables.0.insert(name.clone(), value.clone());
            if let Err(problems) = load(None, &variables) {
                assert_no_canary(&problems, &format!("{name}={value}"));
            }
        }
    }
}

#[test]
fn no_key_of_the_web_configuration_reveals_a_pasted_secret() {
    let hash = "$2b$10$wwwwwwwwwwwwwwwwwwwwww0123456789012345678901234567890123";
    let tls = "cert_file key_file client_ca_file cert key client_ca client_auth_type min_version max_version cipher_suites curve_preferences prefer_server_cipher_suites client_allowed_sans x";
    let headers = "Content-Security-Policy X-Frame-Options Strict-Transport-Security x";
    for (template, keys) in [
        ("{}", "tls_server_config basic_auth_users http_server_config rate_limit x"),
        ("tls_server_config: {{}}", tls),
        ("tls_server_config: {cert_file: a, key_file: b, {}}", tls),
        ("http_server_config: {{}}", "http2 headers x"),
        ("http_server_config: { headers: {{}} }", headers),
        ("basic_auth_users: {{}}", "prometheus"),
        ("basic_auth_users: {a: H, {}}", "prometheus"),
    ] {
        for (key, form) in keys.split(' ').flat_map(|key| forms().map(move |form| (key, form))) {
            for text in written_as_yaml(&form).iter().flat_map(|form| placements(key, form)) {
                let file = template.replace("{}", &text).replace('H', hash);
                let file = if template == "{}" { text } else { file };
                let (_directory, path) = written(file.as_bytes());
                if let Err(problems) = crate::web::load_web(&path) {
                    assert_no_canary(&problems, &file);
                }
            }
        }
    }
}

#[test]
fn no_message_quotes_the_path_of_a_missing_configuration() {
    for form in forms() {
        let path = Path::new(&form);
        assert_no_canary(&load(Some(path), &sdk_variables()).expect_err("no file"), &form);
        assert_no_canary(&crate::web::load_web(path).expect_err("no file"), &form);
    }
}

fn assert_no_canary(problems: &Problems, context: &str) {
    let message = problems.to_string().to_lowercase();
    let leaked = CANARIES.iter().find(|canary| message.contains(**canary));
    assert_eq!(leaked, None, "{context}: {message}");
}

/// The known keys at the position of `x`, from the error for `x`, and some more.
fn keys_of(file: &str, more: &str) -> Vec<String> {
    let problems = problems_of(file, &sdk_variables());
    let line = problems.lines().find(|line| line.contains("unknown key")).expect("a list of keys");
    let keys = line.split("one of ").nth(1).expect("keys").split(", ");
    let keys = keys.map(|key| key.trim_matches('`').to_owned());
    keys.chain(more.split_whitespace().map(str::to_owned)).chain(["x".to_owned()]).collect()
}
