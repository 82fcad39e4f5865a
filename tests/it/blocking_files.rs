//! Configuration files whose reads block: the wait ends with an error and doesn't delay a stop.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::harness::{Program, Twilio, eventually, metric, ongoing_calls, run, world_of};

/// The read timeout for files, plus an allowance for starting the program.
const GIVES_UP_WITHIN: Duration = Duration::from_secs(5 + 3);
/// The longest a stop may take.
const STOPS_WITHIN: Duration = Duration::from_secs(2);

#[test]
fn a_blocking_file_fails_the_start_and_is_named() {
    let directory = TempDir::new().expect("a directory");
    let fifo = fifo_in(directory.path());
    let accounts = "accounts: [ { account_sid: AC00000000000000000000000000000001, auth_token_";
    let (secret, ca, config) = (
        directory.path().join("secret.yml"),
        directory.path().join("ca.yml"),
        directory.path().join("web.yml"),
    );
    let write = |text: String, path: &Path| std::fs::write(path, text).expect("written");
    write(format!("{accounts}file: '{}' }} ]\n", fifo.display()), &secret);
    write(format!("{accounts}env: TOKEN }} ]\napi: {{ ca_file: '{}' }}\n", fifo.display()), &ca);
    let tls = format!("cert_file: '{}', key: x", fifo.display());
    write(format!("tls_server_config: {{ {tls} }}\n"), &config);
    let flag = |name: &str, path: &Path| format!("--{name}={}", path.display());
    for (flags, named) in [
        (vec![flag("config.file", &secret)], "accounts[0].auth_token_file: "),
        (vec![flag("config.file", &ca)], "api.ca_file: "),
        (vec![flag("config.file", &fifo)], "--config.file, "),
        (vec![flag("web.config.file", &config)], "cert_file: "),
    ] {
        let began = Instant::now();
        let flags: Vec<&str> = flags.iter().map(String::as_str).chain(["check-config"]).collect();
        let ended = run(&flags, &[("TOKEN", "token")]);
        assert_eq!(ended.code, Some(78), "{flags:?}: {}", ended.stderr);
        assert!(ended.stderr.contains(named), "{named}: {}", ended.stderr);
        assert!(ended.stderr.contains("reading it took too long"), "{named}: {}", ended.stderr);
        assert!(began.elapsed() < GIVES_UP_WITHIN, "{:?}", began.elapsed());
    }
}

#[test]
fn sigterm_ends_a_start_that_waits_for_a_file() {
    let directory = TempDir::new().expect("a directory");
    let fifo = fifo_in(directory.path());
    // PID 1 of a container receives only the signals that it handles, so SIGTERM needs a handler.
    let mut child = Command::new(env!("CARGO_BIN_EXE_twilio-call-exporter"))
        .arg(format!("--config.file={}", fifo.display()))
        .stderr(std::process::Stdio::piped())
        .spawn()
        .expect("started");
    let until = Instant::now() + STOPS_WITHIN;
    let handles_term = || {
        let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).expect("proc");
        let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).expect("a mask");
        u64::from_str_radix(caught.trim(), 16).expect("hex") & (1 << 14) != 0
    };
    while !handles_term() {
        assert!(Instant::now() < until, "no SIGTERM handler while waiting for the file");
        std::thread::yield_now();
    }
    let began = Instant::now();
    crate::harness::signal(&child, "TERM");
    let status = child.wait().expect("ended");
    assert!(status.success(), "{status}");
    assert!(began.elapsed() < STOPS_WITHIN, "{:?}", began.elapsed());
}

#[test]
fn a_ca_file_without_certificates_is_an_error() {
    let directory = TempDir::new().expect("a directory");
    let (ca, config) = (directory.path().join("ca.pem"), directory.path().join("exporter.yml"));
    let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    for text in ["", "no certificate", broken] {
        std::fs::write(&ca, text).expect("written");
        let accounts = "accounts: [ { account_sid: AC00000000000000000000000000000001, auth_token_env: TOKEN } ]";
        let yaml = format!("{accounts}\napi: {{ ca_file: '{}' }}\n", ca.display());
        std::fs::write(&config, yaml).expect("written");
        let flag = format!("--config.file={}", config.display());
        let ended = run(&[&flag, "check-config"], &[("TOKEN", "token")]);
        assert_eq!(ended.code, Some(78), "{text}: {}", ended.stderr);
        assert!(
            ended.stderr.contains("api.ca_file: expected certificates in PEM"),
            "{}",
            ended.stderr
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_that_waits_for_a_file_changes_nothing_and_delays_no_stop() {
    let twilio = Twilio::serving(ongoing_calls(1, 200)).await;
    let (program, secret) = with_secret_file(&twilio, |path, token| {
        std::fs::write(path, token).expect("written");
    })
    .await;
    wait_for_calls(&program, 2.0).await;
    std::fs::remove_file(&secret).expect("removed");
    let fifo = fifo_in(secret.parent().expect("a directory"));
    std::fs::rename(fifo, &secret).expect("renamed");
    program.signal("HUP");
    // Calls are still counted while the reload waits for the file.
    let so_far = wait_for_calls(&program, 1.0).await;
    wait_for_calls(&program, so_far + 2.0).await;
    eventually("the reload is abandoned", async || {
        program.log().contains("reading it took too long").then_some(())
    })
    .await;
    let so_far = wait_for_calls(&program, 1.0).await;
    wait_for_calls(&program, so_far + 2.0).await;
    program.signal("HUP");
    let began = Instant::now();
    assert!(program.stop().await.success());
    assert!(began.elapsed() < STOPS_WITHIN, "{:?}", began.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_from_a_fifo_is_read() {
    let twilio = Twilio::serving(world_of(5)).await;
    let (mut program, _) = with_secret_file(&twilio, |path, token| {
        let fifo = fifo_in(path.parent().expect("a directory"));
        std::fs::rename(fifo, path).expect("renamed");
        let (path, token) = (path.to_owned(), token.to_owned());
        std::thread::spawn(move || std::fs::write(path, token).expect("read"));
    })
    .await;
    twilio.wait_until_counted_by(&mut program).await;
}

/// Starts a program with a secret file, which `write` creates; returns the file's path too.
async fn with_secret_file(
    twilio: &Twilio,
    write: impl FnOnce(&Path, &str),
) -> (Program, std::path::PathBuf) {
    let account = &twilio.accounts()[0];
    let directory = Arc::new(TempDir::new().expect("a directory"));
    let (secret, path) = (directory.path().join("secret"), directory.path().join("exporter.yml"));
    write(&secret, &account.auth_token);
    let text = format!(
        "accounts: [ {{ account_sid: {}, base_url: '{}', auth_token_file: '{}' }} ]\npoll: {{ interval: 1s, live_interval: 1s, after_end: [1s], settle_delay: 4s, audit_after: 2s }}\nlimits: {{ hold_back: 0s }}\n",
        account.account_sid,
        twilio.url(),
        secret.display()
    );
    std::fs::write(&path, text).expect("written");
    let arguments = vec![format!("--config.file={}", path.display())];
    (Program::start(directory, std::collections::BTreeMap::new(), arguments).await, secret)
}

fn fifo_in(directory: &Path) -> std::path::PathBuf {
    let path = directory.join("fifo");
    assert!(Command::new("mkfifo").arg(&path).status().expect("mkfifo runs").success());
    path
}

async fn wait_for_calls(program: &Program, calls: f64) -> f64 {
    eventually("calls are counted", async || {
        let counted = metric("twilio_calls_total").value_in(&program.scrape().await);
        counted.filter(|count| *count >= calls)
    })
    .await
}
