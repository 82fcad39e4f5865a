//! Secrets with what was copied along: taken off where no secret has it, else told, never shown.

use super::*;

/// Both places of a secret, what stands there, and what is said of it.
fn told(bytes: &[u8]) -> [Result<Config, String>; 3] {
    let directory = TempDir::new().expect("a temporary directory");
    let path = directory.path().join("token");
    fs::write(&path, bytes).expect("written");
    let shown = path.display().to_string();
    let of_file = |key: &str| {
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
        problems(of_file(&format!("auth_token_file: '{shown}'"))),
        problems(of_file("auth_token_credential: token")),
        problems(load(None, &Environment::from_pairs(variables))),
    ]
}

#[test]
fn what_surrounds_a_secret_by_accident_is_no_part_of_it() {
    for around in [
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
        for config in told(around.replace("{}", MARK).as_bytes()) {
            let config = config.expect(around);
            assert_eq!(config.accounts[0].credentials.secret.expose_secret(), MARK, "{around:?}");
        }
    }
}

#[test]
fn what_holds_no_secret_or_more_than_one_is_told_by_what_it_is() {
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
        (format!("marked\u{200b}secret{MARK}"), "contains characters that are not ASCII"),
        (format!("“{MARK}”"), "contains characters that are not ASCII"),
        (format!("\"{MARK}"), "has a quote at one end"),
        (format!("{MARK}'"), "has a quote at one end"),
        (format!("\"{MARK}'"), "has a quote at one end"),
        (format!("TWILIO_AUTH_TOKEN={MARK}\n"), assignment),
        (format!("token={MARK}\n"), assignment),
        (format!("\"TWILIO_AUTH_TOKEN={MARK}\""), assignment),
        ("${TWILIO_AUTH_TOKEN}".to_owned(), "contains the name of a variable"),
    ] {
        for problems in told(text.as_bytes()) {
            let problems = problems.expect_err(&text);
            assert!(problems.contains(expected), "{text:?}: {problems}");
            assert!(!problems.contains("marked"), "{text:?}: {problems}");
        }
    }
    // What base64 looks like is no assignment, and what stands before Twilio may have any password.
    for secret in ["bWFya2Vk+/8=", "bWFya2VkLXM_-A==", "pass word: a=b!"] {
        for config in told(secret.as_bytes()) {
            assert_eq!(
                config.expect(secret).accounts[0].credentials.secret.expose_secret(),
                secret
            );
        }
    }
}

#[test]
fn a_file_without_a_secret_is_told() {
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
        let [problems, ..] = told(&bytes);
        let problems = problems.expect_err(expected);
        assert!(problems.ends_with(expected), "{problems}");
    }
    for empty in ["", " \n", "\"\"", "''"] {
        let [.., problems] = told(empty.as_bytes());
        assert_eq!(
            problems.expect_err("empty"),
            "environment variable TWILIO_AUTH_TOKEN: is not set"
        );
    }
}

#[test]
fn sids_and_addresses_of_the_file_may_be_surrounded_by_white_space() {
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
fn a_mark_of_the_byte_order_hides_nothing_and_utf_16_is_told() {
    let file = format!("\u{feff}accounts: [{{ account_sid: {SID}, auth_token_env: T }}]");
    let config = load_text(&file, &Environment::from_pairs([("T", MARK)])).expect("valid");
    assert_eq!(config.accounts.len(), 1);
    let (_directory, path) = written(b"\xff\xfea\0:\0 \x001\0");
    let problems = load(Some(&path), &sdk_variables()).expect_err("UTF-16").to_string();
    assert!(problems.ends_with("cannot be read: is UTF-16: expected UTF-8"), "{problems}");
}
