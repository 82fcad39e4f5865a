//! Configuration files that are emptied or truncated while the program runs: accounts that disappear are
//! logged, and basic-auth users stay required.

use std::path::PathBuf;

use crate::harness::{Program, Twilio, eventually, metric, ongoing_calls};

/// Delays of seconds instead of the default minutes.
const POLL: &str = "poll: { interval: 1s, live_interval: 1s, after_end: [1s], settle_delay: 4s, audit_after: 2s }\n";
const LIMITS: &str = "limits:\n  hold_back: 0s\n";

#[tokio::test(flavor = "multi_thread")]
async fn an_emptied_configuration_is_rejected_and_a_truncated_one_logs_removed_accounts() {
    let twilio = Twilio::serving(ongoing_calls(3, 150)).await;
    let accounts = twilio.accounts();
    let account = |index: usize, name: &str| {
        format!(
            "  - account_sid: {}\n    auth_token_env: TOKEN_{index}\n    base_url: {}\n    name: {name}\n",
            accounts[index].account_sid,
            twilio.url()
        )
    };
    let whole = format!("{POLL}accounts:\n{}{}{LIMITS}", account(0, "one"), account(1, "two"));
    // The environment defines another account, which an empty file would activate.
    let variables = [
        ("TOKEN_0", accounts[0].auth_token.as_str()),
        ("TOKEN_1", &accounts[1].auth_token),
        ("TWILIO_ACCOUNT_SID", &accounts[2].account_sid),
        ("TWILIO_AUTH_TOKEN", &accounts[2].auth_token),
        ("TWILIO_API_BASE_URL", twilio.url()),
    ];
    // An empty file is allowed at startup, with a warning.
    let mut program = Program::configured("", &variables).await;
    assert!(program.log().contains("the configuration file is empty"));
    reload(&program, &whole, "\"configuration reloaded\"").await;
    for name in ["one", "two"] {
        wait_for_calls(&program, name, 1.0).await;
    }
    for (text, expected) in [("", "is empty"), (POLL, "accounts: lists no accounts")] {
        reload(&program, text, expected).await;
        program.assert_running();
        let info = metric("twilio_account_info");
        let scrape = program.scrape().await;
        assert_eq!(info.value_in(&scrape), Some(2.0), "{text}");
        assert!(metric("twilio_exporter_config_last_reload_successful").is_in(&scrape, 0.0));
        assert!(!scrape.text.contains(&accounts[2].account_sid), "{text}");
    }
    let so_far = wait_for_calls(&program, "two", 1.0).await;
    wait_for_calls(&program, "two", so_far + 1.0).await;
    let cut = whole.split("    name: one\n").next().expect("text before the second account");
    reload(&program, &format!("{cut}    name: one\n"), "\"configuration reloaded\"").await;
    let log = program.log();
    let warnings: Vec<serde_json::Value> = log
        .lines()
        .filter(|line| line.contains("\"WARN\"") && line.contains("no longer"))
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    assert_eq!(warnings.len(), 3, "{warnings:?}");
    for removed in &accounts[1..] {
        let about =
            warnings.iter().filter(|line| line["account_sid"] == removed.account_sid.as_str());
        assert_eq!(about.count(), 1, "{warnings:?}");
    }
    assert!(warnings.iter().any(|line| line["account"] == "two"), "{warnings:?}");
    assert!(warnings.iter().any(|line| line["keys"] == "limits.hold_back"), "{warnings:?}");
    wait_for_calls(&program, "one", 1.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_emptied_web_configuration_still_requires_basic_auth() {
    let directory = tempfile::TempDir::new().expect("a directory");
    let web = directory.path().join("web.yml");
    let users = |password: &str| {
        let hash = bcrypt::hash(password, 4).expect("a hash");
        format!("basic_auth_users:\n  prometheus: '{hash}'\n")
    };
    std::fs::write(&web, users("first")).expect("written");
    let variables = [
        ("TWILIO_ACCOUNT_SID", "AC00000000000000000000000000000000"),
        ("TWILIO_AUTH_TOKEN", "a-token"),
        ("TWILIO_API_BASE_URL", "http://127.0.0.1:9"),
    ];
    let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let arguments = vec![format!("--web.config.file={}", web.display())];
    let directory = std::sync::Arc::new(directory);
    let program = Program::start(directory, variables.into_iter().collect(), arguments).await;
    let status = async |password: &str| {
        // Use a new connection each time: an idle one may be closed at any moment.
        let request = program.request("/metrics").header("connection", "close");
        let request = match password {
            "" => request,
            password => request.basic_auth("prometheus", Some(password)),
        };
        request.send().await.expect("a response").status().as_u16()
    };
    assert_eq!((status("").await, status("first").await), (401, 200));
    let headers = "http_server_config: { http2: true }\n";
    for (cut, expected) in
        [("", "is empty"), (headers, "basic_auth_users: no longer has any users")]
    {
        std::fs::write(&web, cut).expect("written");
        eventually("the error is logged", async || {
            assert_eq!(status("").await, 401, "{cut:?}");
            program.log().contains(expected).then_some(())
        })
        .await;
    }
    std::fs::write(&web, users("second")).expect("written");
    eventually("the new password is accepted", async || {
        assert_eq!(status("").await, 401);
        (status("second").await == 200).then_some(())
    })
    .await;
    let errors = program.log().matches("cannot reload the web configuration").count();
    assert_eq!(errors, 2, "each problem is logged once");
}

/// Writes the configuration, sends SIGHUP, and waits for a new occurrence of `expected` in the log.
async fn reload(program: &Program, text: &str, expected: &str) {
    let path: PathBuf = program.directory().path().join("exporter.yml");
    std::fs::write(path, text).expect("written");
    let count = || program.log().matches(expected).count();
    let before = count();
    program.signal("HUP");
    eventually(expected, async || (count() > before).then_some(())).await;
}

/// Waits until at least `calls` calls of an account are counted; returns the count.
async fn wait_for_calls(program: &Program, account: &str, calls: f64) -> f64 {
    eventually("calls are counted", async || {
        let metric = metric("twilio_calls_total").label("account", account);
        metric.value_in(&program.scrape().await).filter(|count| *count >= calls)
    })
    .await
}
