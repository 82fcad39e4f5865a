//! Secrets copied with surrounding text: it is stripped if no secret can contain it and reported otherwise,
//! and is never shown.

use super::*;

/// Loads a secret from a file, a credential and a variable; returns each configuration or its last message.
fn load_secret(bytes: &[u8]) -> [Result<Config, String>; 3] {
    let directory = TempDir::new().expect("a temporary directory");
    let path = directory.path().join("token");
    fs::write(&path, bytes).expect("written");
    let shown = path.display().to_string();
    let load_with_key = |key: &str| {
        let file = format!("accounts: [{{ account_sid: {SID}, {key} }}]");
        let directory = directory.path().display().to_string();
        let pairs = [("CREDENTIALS_DIRECTORY", directory.as_str())];
        load_text(&file, &Environment::from_pairs(pairs))
    };
    let text = String::from_utf8(bytes.to_vec()).unwrap_or_default();
    let variables = [("TWILIO_ACCOUNT_SID", SID), ("TWILIO_AUTH_TOKEN", text.as_str())];
    let problems = |loaded: Result<Config, Problems>| {
        loaded.map_err(|problems| {
            let text = problems.to_string().replace(&shown, "TOKEN");
            text.rsplit(": ")
                .take(2)
                .collect::<Vec<_>>()
                .into_iter()
                .rev()
                .collect::<Vec<_>>()
                .join(": ")
        })
    };
    [
        problems(load_with_key(&format!("auth_token_file: '{shown}'"))),
        problems(load_with_key("auth_token_credential: token")),
        problems(load(None, &Environment::from_pairs(variables))),
    ]
}

#[test]
fn strips_white_space_and_quotes_from_a_secret() {
    for template in [
        "{}",
        "{}\n",
        "{}\r\n",
        "  {}\t\n\n",
        "\u{feff}{}\r\n",
        "\"{}\"",
        "'{}'\n",
        "\"{}\" \n",
        "{}\0",
        "\u{a0}{}",
    ] {
        for config in load_secret(template.replace("{}", MARK).as_bytes()) {
            let config = config.expect(template);
            assert_eq!(config.accounts[0].credentials.secret.expose_secret(), MARK, "{template:?}");
        }
    }
}

#[test]
fn says_what_is_wrong_with_text_that_is_not_a_secret() {
    let assignment = "contains an assignment";
    for (text, expected) in [
        (format!("{MARK}\n{MARK}"), "has more than one line"),
        (format!("{MARK}\r\n# the token\r\n"), "has more than one line"),
        (format!("TWILIO_ACCOUNT_SID={SID}\nTWILIO_AUTH_TOKEN={MARK}\n"), "has more than one line"),
        (format!("auth_token: {MARK}"), assignment),
        (format!("export TWILIO_AUTH_TOKEN={MARK}"), assignment),
        (format!("TWILIO_AUTH_TOKEN=\"{MARK}\""), assignment),
        (format!("marked\0secret{MARK}"), "contains NUL characters"),
        (MARK.chars().flat_map(|c| [c, '\0']).collect(), "contains NUL characters"),
        (format!("marked\tsecret{MARK}"), "contains control characters"),
        (format!("{MARK}\u{1b}[0m"), "contains control characters"),
        (format!("marked\u{200b}secret{MARK}"), "contains non-ASCII characters"),
        (format!("“{MARK}”"), "contains non-ASCII characters"),
        (format!("\"{MARK}"), "has a quote at one end"),
        (format!("{MARK}'"), "has a quote at one end"),
        (format!("\"{MARK}'"), "has a quote at one end"),
        (format!("TWILIO_AUTH_TOKEN={MARK}\n"), assignment),
        (format!("token={MARK}\n"), assignment),
        (format!("\"TWILIO_AUTH_TOKEN={MARK}\""), assignment),
        ("${TWILIO_AUTH_TOKEN}".to_owned(), "contains an unexpanded variable"),
    ] {
        for problems in load_secret(text.as_bytes()) {
            let problems = problems.expect_err(&text);
            assert!(problems.contains(expected), "{text:?}: {problems}");
            assert!(!problems.contains("marked"), "{text:?}: {problems}");
        }
    }
    // Base64 isn't an assignment, and a proxy in front of Twilio may use any password.
    for secret in ["bWFya2Vk+/8=", "bWFya2VkLXM_-A==", "pass word: a=b!"] {
        for config in load_secret(secret.as_bytes()) {
            assert_eq!(
                config.expect(secret).accounts[0].credentials.secret.expose_secret(),
                secret
            );
        }
    }
}

#[test]
fn reports_a_file_without_a_secret() {
    for (bytes, expected) in [
        (b"".to_vec(), "file `TOKEN` is empty"),
        (b"\r\n\n".to_vec(), "file `TOKEN` is empty"),
        (b"\"\" \n".to_vec(), "file `TOKEN` is empty"),
        (b"\xef\xbb\xbf\n".to_vec(), "file `TOKEN` is empty"),
        (vec![0xff, 0xfe], "`TOKEN` is UTF-16: expected UTF-8"),
        (vec![0xfe, 0xff, 0, b'a'], "`TOKEN` is UTF-16: expected UTF-8"),
        (vec![b'a', 0xff], "`TOKEN` is not valid UTF-8"),
        (vec![b'x'; 65_537], "`TOKEN` is larger than 65536 bytes"),
    ] {
        let [problems, ..] = load_secret(&bytes);
        let problems = problems.expect_err(expected);
        assert!(problems.ends_with(expected), "{problems}");
    }
    for empty in ["", " \n", "\"\"", "''"] {
        let [.., problems] = load_secret(empty.as_bytes());
        assert_eq!(
            problems.expect_err("empty"),
            "environment variable TWILIO_AUTH_TOKEN: is not set"
        );
    }
}

#[test]
fn ignores_white_space_around_sids_and_urls_in_the_file() {
    let file = format!(
        "accounts: [{{ account_sid: \"{SID}\\n\", auth_token_env: T, base_url: ' https://x.example ', region: 'ie1 ', subaccounts: {{ include: [' a ', \"{SID}\\n\"] }} }}]"
    );
    let config = load_text(&file, &Environment::from_pairs([("T", MARK)])).expect("valid");
    let account = &config.accounts[0];
    assert_eq!((account.account_sid.to_string().as_str(), &*account.region), (SID, "ie1"));
    assert_eq!(account.base_url.to_string(), "https://x.example");
    assert_eq!(account.subaccounts.include, ["a", SID]);
}

#[test]
fn accepts_a_utf_8_byte_order_mark_and_reports_utf_16() {
    let file = format!("\u{feff}accounts: [{{ account_sid: {SID}, auth_token_env: T }}]");
    let config = load_text(&file, &Environment::from_pairs([("T", MARK)])).expect("valid");
    assert_eq!(config.accounts.len(), 1);
    let (_directory, path) = written(b"\xff\xfea\0:\0 \x001\0");
    let problems = load(Some(&path), &sdk_variables()).expect_err("UTF-16").to_string();
    assert!(problems.ends_with("cannot be read: is UTF-16: expected UTF-8"), "{problems}");
}
