//! The proxy from the environment: which variable wins, and which values are refused.

use super::*;

/// Returns the proxy's address and the variable that names it.
fn found(variables: &[(&str, &str)]) -> Option<(String, &'static str)> {
    let config = load(None, &with(variables)).expect("valid configuration");
    config.api.client.proxy.map(|proxy| (proxy.address().to_owned(), proxy.source()))
}

fn with(variables: &[(&str, &str)]) -> Environment {
    let mut all = sdk_variables();
    all.0.extend(variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
    all
}

#[test]
fn uses_the_same_variable_as_the_http_client() {
    for (variables, expected) in [
        (&[][..], None),
        (&[("HTTPS_PROXY", "a:1")], Some(("a:1", "HTTPS_PROXY"))),
        (&[("https_proxy", "a:1")], Some(("a:1", "https_proxy"))),
        (&[("HTTPS_PROXY", "a:1"), ("https_proxy", "b:1")], Some(("a:1", "HTTPS_PROXY"))),
        (&[("HTTPS_PROXY", "a:1"), ("ALL_PROXY", "b:1")], Some(("a:1", "HTTPS_PROXY"))),
        (&[("https_proxy", "a:1"), ("ALL_PROXY", "b:1")], Some(("a:1", "https_proxy"))),
        (&[("ALL_PROXY", "a:1"), ("all_proxy", "b:1")], Some(("a:1", "ALL_PROXY"))),
        (&[("all_proxy", "a:1")], Some(("a:1", "all_proxy"))),
        (&[("HTTP_PROXY", "a:1"), ("http_proxy", "b:1")], None),
        (&[("HTTPS_PROXY", "")], None),
        (&[("HTTPS_PROXY", " \n")], None),
        (&[("HTTPS_PROXY", ""), ("https_proxy", "a:1")], None),
        (&[("HTTPS_PROXY", ""), ("ALL_PROXY", "a:1")], Some(("a:1", "ALL_PROXY"))),
        (&[("HTTPS_PROXY", " http://a:1/\r\n")], Some(("a:1", "HTTPS_PROXY"))),
        // A variable that isn't used may have any value.
        (&[("HTTPS_PROXY", "a:1"), ("ALL_PROXY", "socks5://b")], Some(("a:1", "HTTPS_PROXY"))),
        (&[("HTTP_PROXY", "'a"), ("NO_PROXY", "'b")], None),
        (&[("HTTPS_PROXY", "a:1"), ("NO_PROXY", "*")], Some(("a:1", "HTTPS_PROXY"))),
    ] {
        let expected = expected.map(|(address, source)| (address.to_owned(), source));
        assert_eq!(found(variables), expected, "{variables:?}");
    }
}

#[test]
fn reports_an_invalid_proxy_without_its_credentials() {
    let expected = "expected a proxy such as `http://proxy.example.com:3128`, got ";
    for (name, value, reason) in [
        ("HTTPS_PROXY", format!("\"http://user:{MARK}@h:1\""), "42 characters: it is in quotes"),
        ("https_proxy", format!("htp://user:{MARK}@h:1"), "its scheme is neither"),
        ("ALL_PROXY", format!("socks5://user:{MARK}@h:1"), "SOCKS proxies are not supported"),
        ("all_proxy", format!("http://user:{MARK}@h:x"), "its port is not a number"),
        ("HTTPS_PROXY", format!("http://user:{MARK}/@h"), "it has more than a host and a port"),
        ("HTTPS_PROXY", format!("http://{MARK}%"), "it has no valid host"),
    ] {
        let problems = load(None, &with(&[(name, &value)])).expect_err(name).to_string();
        let begin = format!("environment variable {name}: {expected}");
        assert!(problems.starts_with(&begin) && problems.contains(reason), "{problems}");
        assert!(!problems.contains("marked") && problems.lines().count() == 1, "{problems}");
    }
    // Reported together with all other problems, even if all accounts are on this machine.
    let variables = with(&[
        ("HTTPS_PROXY", "htp://h"),
        ("TWILIO_API_BASE_URL", "http://127.0.0.1:1"),
        ("TWILIO_EXPORTER_POLL__INTERVAL", "soon"),
    ]);
    let problems = load(None, &variables).expect_err("refused").to_string();
    assert!(problems.contains("HTTPS_PROXY") && problems.contains("poll.interval"), "{problems}");
}

#[test]
fn reports_proxy_variables_that_are_not_utf_8_if_used() {
    use std::os::unix::ffi::OsStringExt;
    let broken = || OsString::from_vec(b"http://secret\xff".to_vec());
    let load_with = |variables: Vec<(&str, OsString)>| {
        let sdk = sdk_variables().0;
        let sdk = sdk.into_iter().map(|(name, value)| (name.into(), value.into()));
        let more = variables.into_iter().map(|(name, value)| (name.into(), value));
        load(None, &Environment::from_os(sdk.chain(more)))
    };
    for (variables, named) in [
        (vec![("HTTPS_PROXY", broken()), ("https_proxy", "a:1".into())], "HTTPS_PROXY"),
        (vec![("all_proxy", broken())], "all_proxy"),
        (vec![("HTTPS_PROXY", "a:1".into()), ("no_proxy", broken())], "no_proxy"),
    ] {
        let problems = load_with(variables).expect_err(named).to_string();
        assert_eq!(problems, format!("environment variable {named}: is not valid UTF-8"));
    }
    for unused in ["HTTP_PROXY", "NO_PROXY"] {
        assert!(load_with(vec![(unused, broken())]).is_ok(), "{unused}");
    }
}

#[test]
fn prints_how_each_account_is_reached() {
    let account = |sid: u8, url: &str| {
        format!(
            "  - {{ account_sid: AC0000000000000000000000000000000{sid}, auth_token_env: TWILIO_AUTH_TOKEN, base_url: '{url}' }}\n"
        )
    };
    let file = format!(
        "accounts:\n{}{}{}",
        account(1, "https://api.twilio.com"),
        account(2, "https://twilio.internal"),
        account(3, "http://127.0.0.1:1")
    );
    let proxy = format!("http://user:{MARK}@proxy.example.com:3128");
    let variables = with(&[("https_proxy", &proxy), ("NO_PROXY", ".internal")]);
    let config = load_text(&file, &variables).expect("valid configuration");
    let printed = config.to_string();
    let lines: Vec<&str> = printed.lines().filter(|line| line.contains("# proxy")).collect();
    assert_eq!(
        lines,
        [
            "    # proxy: proxy.example.com:3128, from https_proxy",
            "    # proxy: none (NO_PROXY)",
            "    # proxy: none (loopback address)",
        ]
    );
    for text in [printed.clone(), format!("{config:?}")] {
        assert!(!text.contains("marked"), "{text}");
    }
    let without = load_text(&file, &sdk_variables()).expect("valid configuration").to_string();
    assert!(!without.contains("proxy:"), "{without}");
}
