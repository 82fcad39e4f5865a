//! `simulate --push-to`: sends signed requests and retries them until they are accepted.

use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use axum::http::StatusCode;
use secrecy::SecretString;
use twilio_call_exporter::domain::words::sid::AccountSid;
use twilio_call_exporter::twilio::push::{PushRequest, Signer, verify};

#[tokio::test(flavor = "multi_thread")]
async fn simulate_retries_pushes_until_they_are_accepted() {
    let (sender, mut received) = tokio::sync::mpsc::unbounded_channel();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}/push/error-log", listener.local_addr().expect("an address"));
    let refusals = Arc::new(AtomicU32::new(2));
    let router = axum::Router::new().fallback(async move |request: axum::extract::Request| {
        let (parts, body) = request.into_parts();
        let body = axum::body::to_bytes(body, usize::MAX).await.expect("a body");
        // The receiver may be closed at the end of the test.
        let _closed = sender.send((parts, body));
        let refuses =
            refusals.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1));
        if refuses.is_ok() { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::NO_CONTENT }
    });
    let server = tokio::spawn(async move { axum::serve(listener, router).await });
    let (to, every) = (format!("--push-to={url}"), "--calls-per-minute=600");
    let arguments = ["simulate", "--listen=127.0.0.1:0", "--failing-after=1s", every, &to];
    let (_simulation, signer) = simulation(&arguments);
    let mut opened = Vec::new();
    while opened.len() < 4 {
        let next = tokio::time::timeout(Duration::from_secs(30), received.recv()).await;
        let (parts, body) = next.expect("in time").expect("a request");
        let header = |name: &str| parts.headers.get(name).and_then(|value| value.to_str().ok());
        let request = PushRequest {
            query: parts.uri.query().expect("a query"),
            signature: header("x-twilio-signature"),
            settings: None,
            body: &body,
        };
        let pushed = verify(request, &url.parse().expect("a URL"), std::slice::from_ref(&signer));
        opened.push(pushed.expect("signed").entries.first().expect("an entry").sid);
    }
    assert!(opened[0] == opened[1] && opened[1] == opened[2], "retries until accepted");
    assert_ne!(opened[2], opened[3]);
    server.abort();
}

/// A child process that is killed when dropped, and its output, which stays open.
struct Simulation(Child, Option<BufReader<ChildStdout>>);

impl Drop for Simulation {
    fn drop(&mut self) {
        // It may have exited already.
        let _closed = self.0.kill();
        let _closed = self.0.wait();
    }
}

/// Starts a simulated Twilio in its own process; returns it with the signer of its only account.
fn simulation(arguments: &[&str]) -> (Simulation, Signer) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_twilio-call-exporter"));
    let command = command.args(arguments).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = Simulation(command.spawn().expect("it starts"), None);
    let output = child.0.stdout.take().expect("its output");
    let output = child.1.insert(BufReader::new(output));
    let line =
        output.lines().map_while(Result::ok).find(|line| line.contains("TWILIO_AUTH_TOKEN="));
    let line = line.expect("a line with the credentials");
    let of = |name: &str| {
        let words = line.split(' ').filter_map(|word| word.split_once('='));
        let (_, value) = words.clone().find(|(key, _)| *key == name).expect("a variable");
        value.to_owned()
    };
    let account = AccountSid::parse(&of("TWILIO_ACCOUNT_SID")).expect("a SID");
    (child, Signer::new(account, &SecretString::from(of("TWILIO_AUTH_TOKEN"))))
}
