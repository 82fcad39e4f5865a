//! A secret pasted into the wrong place in the command line, configuration or environment isn't repeated
//! in any error message.

use std::collections::BTreeMap;
use std::sync::Arc;

use tempfile::TempDir;

use crate::harness::{Ended, Program, Twilio, eventually, run, world_of};

const SID: &str = "AC00000000000000000000000000000001";
/// A substring of every secret.
const CANARY: &str = "canarysecret";
/// Forms in which a secret may be pasted.
const FORMS: [&str; 6] = [
    "canarysecret",
    "canarysecret0123456789abcdef",
    "https://user:canarysecret@h/x",
    "/v?token=canarysecret",
    "canarysecret:80",
    "a/canarysecret",
];

#[test]
fn errors_do_not_repeat_flag_values() {
    let flags = [
        "--config.file",
        "--web.config.file",
        "--web.listen-address",
        "--web.enable-lifecycle",
        "--log.level",
        "--log.format",
        "--online",
        "--seed",
        "--nonsense",
    ];
    for form in FORMS {
        for flag in flags {
            assert_secret_hidden(
                &run(&["check-config", &format!("{flag}={form}")], &[]),
                64..=78,
                flag,
            );
            assert_secret_hidden(&run(&["check-config", flag, form], &[]), 64..=78, flag);
        }
        for arguments in [
            &[form][..],
            &["check-config", form],
            &["check-config", &format!("--{form}")],
            &[&format!("--{form}"), "check-config"],
            &["demo", "--seed", form],
            &["simulate", "--accounts", form],
            &["simulate", "--failing-after", form],
            &["simulate", "--calls-per-minute", form],
            &["check-config", "--", form],
        ] {
            assert_secret_hidden(&run(arguments, &[]), 64..=64, form);
        }
    }
    let port = run(&["simulate", "--listen", "canarysecret:80"], &[]);
    assert_secret_hidden(&port, 1..=1, "an address that does not resolve");
    assert!(port.stderr.contains("a host name of 12 characters"), "{}", port.stderr);
    let level = run(&["--log.level=canarysecret"], &[]).stderr;
    assert!(level.contains("--log.level") && level.contains("12 characters"), "{level}");
}

#[test]
fn startup_errors_do_not_repeat_variables() {
    for name in [
        "TWILIO_ACCOUNT_SID",
        "TWILIO_API_KEY",
        "TWILIO_API_BASE_URL",
        "TWILIO_REGION",
        "TWILIO_EXPORTER_POLL__INTERVAL",
        "TWILIO_EXPORTER_POLL",
        "TWILIO_EXPORTER_API__MAX_CONCURRENCY",
        "TWILIO_EXPORTER_API__CA_FILE",
        "TWILIO_EXPORTER_EXEMPLARS",
        "TWILIO_EXPORTER_ROUTES",
        "TWILIO_EXPORTER_canarysecret",
        "TWILIO_EXPORTER_POLL__CANARYSECRET",
    ] {
        let directory = TempDir::new().expect("a directory");
        let storage = format!("--storage.path={}", directory.path().display());
        for form in FORMS {
            // A region may be any short word; here, the edge is missing.
            let variables = BTreeMap::from([
                ("TWILIO_ACCOUNT_SID", SID),
                ("TWILIO_AUTH_TOKEN", "x"),
                (name, form),
            ]);
            let variables: Vec<_> = variables.into_iter().collect();
            let ended = run(&["--web.listen-address=127.0.0.1:0", &storage], &variables);
            assert_secret_hidden(&ended, 1..=78, name);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn reload_responses_and_logs_do_not_repeat_secrets() {
    let twilio = Twilio::serving(world_of(1)).await;
    let account = &twilio.accounts()[0];
    let directory = Arc::new(TempDir::new().expect("a directory"));
    let (path, web) = (directory.path().join("exporter.yml"), directory.path().join("web.yml"));
    let right = format!(
        "accounts: [ {{ account_sid: {}, base_url: '{}', auth_token_env: TOKEN }} ]\n",
        account.account_sid,
        twilio.url()
    );
    std::fs::write(&path, &right).expect("written");
    std::fs::write(&web, "http_server_config: { http2: true }\n").expect("written");
    let arguments = vec![
        format!("--config.file={}", path.display()),
        format!("--web.config.file={}", web.display()),
        "--web.enable-lifecycle".to_owned(),
    ];
    let tokens = BTreeMap::from([("TOKEN".to_owned(), account.auth_token.clone())]);
    let program = Program::start(directory, tokens, arguments).await;
    for wrong in [
        "poll: { interval: 'https://user:canarysecret@h/x' }",
        "routes: [ '/v?token=canarysecret' ]",
        "canarysecret: 1",
        "api: { ca_file: /nowhere/canarysecret }",
        "limits: { series: canarysecret/x }",
        "exemplars: canarysecret/x",
        "a: [ canarysecret",
    ] {
        std::fs::write(&path, format!("{right}{wrong}\n")).expect("written");
        let url = format!("http://{}/-/reload", program.address());
        let client = reqwest::Client::builder().no_proxy().build().expect("a client");
        let response = client.post(url).send().await.expect("an answer");
        assert_eq!(response.status(), 500, "{wrong}");
        let text = response.text().await.expect("a body");
        assert!(!text.contains(CANARY), "{text}");
    }
    std::fs::write(&web, "basic_auth_users: { a: canarysecret/x }\n").expect("written");
    eventually("the web configuration is refused", async || {
        program.log().contains("cannot reload the web configuration").then_some(())
    })
    .await;
    let log = program.log();
    assert!(log.contains("cannot reload the configuration") && !log.contains(CANARY), "{log}");
}

/// Asserts that a program ended with one of these codes, reported an error and didn't print the secret.
fn assert_secret_hidden(ended: &Ended, codes: std::ops::RangeInclusive<i32>, context: &str) {
    assert!(ended.code.is_some_and(|code| codes.contains(&code)), "{context}: {ended:?}");
    let output = format!("{}{}", ended.stdout, ended.stderr).to_lowercase();
    assert!(!output.contains(CANARY), "{context}: {output}");
    assert!(!ended.stderr.is_empty(), "{context}: no error message");
}
