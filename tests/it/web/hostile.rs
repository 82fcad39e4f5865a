//! Slow, numerous and malicious clients.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::prelude::*;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::harness::{Program, Scrape, Twilio, eventually, everything, metric, world_of};

/// The number of slow clients within the connection limit, and beyond it.
const SLOW: [usize; 2] = [200, 1_000];
/// The limit on open connections.
const MAX_CONNECTIONS: usize = 256;
/// The limit on the additional memory for the clients, in bytes.
const MEMORY: u64 = 100 << 20;
/// The limit on the 99th percentile of scrape durations while other tests run; the benchmark `load -- slow`
/// measures it precisely.
const ANSWERED_WITHIN: Duration = Duration::from_secs(2);

#[tokio::test(flavor = "multi_thread")]
async fn slow_clients_delay_no_scrape_and_excess_ones_are_refused() {
    let twilio = Twilio::serving(everything(3, 1)).await;
    let mut program = Program::polling(&twilio).await;
    let scrape = twilio.wait_until_counted_by(&mut program).await;
    assert!(scrape.text.len() > 100_000, "{} bytes", scrape.text.len());
    let before = program.peak_memory();
    let slow = connect_slowly(&program, SLOW[0]).await;
    let mut took = Vec::new();
    for _ in 0..100 {
        let began = Instant::now();
        let (status, text) = program.get("/metrics").await;
        assert_eq!((status, text.len() > 100_000), (200, true));
        took.push(began.elapsed());
    }
    took.sort();
    let high = took[took.len() * 99 / 100 - 1];
    assert!(high < ANSWERED_WITHIN, "99th percentile {high:?}");
    let more = connect_slowly(&program, SLOW[1] - SLOW[0]).await;
    drop((slow, more));
    let scrape = eventually("a scrape succeeds again", async || {
        let text = program.request("/metrics").send().await.ok()?.text().await.ok()?;
        Some(Scrape::parse(&text))
    })
    .await;
    let refused = metric("twilio_exporter_http_connections_cut_total").value_in(&scrape);
    let expected = f64::from(u32::try_from(SLOW[1] - MAX_CONNECTIONS).expect("more than fit"));
    assert!(refused.is_some_and(|refused| refused >= expected), "{refused:?} refused");
    let more = program.peak_memory() - before;
    assert!(more < MEMORY, "{} MiB more", more >> 20);
    program.assert_running();
}

/// Connects slow clients: a third send incomplete headers, a third don't read the response, and a third are
/// silent.
async fn connect_slowly(program: &Program, count: usize) -> Vec<TcpStream> {
    let mut clients = Vec::new();
    for number in 0..count {
        let mut client = TcpStream::connect(program.address()).await.expect("a connection");
        let text = match number % 3 {
            0 => "GET /metrics HTTP/1.1\r\nHost: x\r\nX-Slow: ",
            1 => "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n",
            _ => "",
        };
        // Both fail if the client is refused.
        let _refused = client.write_all(text.as_bytes()).await;
        if number % 3 == 1 {
            // Otherwise more scrapes than the limit would be rendered at once.
            let _refused = client.peek(&mut [0]).await;
        }
        clients.push(client);
    }
    clients
}

#[tokio::test(flavor = "multi_thread")]
async fn malformed_requests_get_an_error_or_no_response() {
    let twilio = Twilio::serving(world_of(2)).await;
    let mut program = Program::polling(&twilio).await;
    let long = "a".repeat(70_000);
    let many: String = (0..200).map(|number| format!("X-{number}: a\r\n")).collect();
    for (request, expected) in [
        ("GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n".to_owned(), Some(200)),
        ("HEAD /metrics HTTP/1.1\r\nHost: x\r\n\r\n".to_owned(), Some(200)),
        ("POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n".to_owned(), Some(405)),
        ("DELETE / HTTP/1.1\r\nHost: x\r\n\r\n".to_owned(), Some(405)),
        ("TRACE / HTTP/1.1\r\nHost: x\r\n\r\n".to_owned(), Some(405)),
        ("CONNECT example.com:443 HTTP/1.1\r\nHost: x\r\n\r\n".to_owned(), None),
        ("GET /../../etc/passwd HTTP/1.1\r\nHost: x\r\n\r\n".to_owned(), Some(404)),
        ("GET /%2e%2e/%00 HTTP/1.1\r\nHost: x\r\n\r\n".to_owned(), Some(404)),
        ("GET http://elsewhere.example/metrics HTTP/1.1\r\nHost: x\r\n\r\n".to_owned(), Some(200)),
        (format!("GET /{long} HTTP/1.1\r\nHost: x\r\n\r\n"), None),
        (format!("GET / HTTP/1.1\r\nHost: x\r\nX: {long}\r\n\r\n"), None),
        (format!("GET / HTTP/1.1\r\nHost: x\r\n{many}\r\n"), None),
        ("GET / HTTP/1.1\r\nHost: x\r\nX: a\0b\r\n\r\n".to_owned(), Some(400)),
        ("GET / HTTP/9.9\r\n\r\n".to_owned(), Some(400)),
        ("\u{16}\u{3}\u{1}\u{2}\0\u{1}\0\u{1}\u{fc}\r\n\r\n".to_owned(), Some(400)),
        // Request smuggling: with an ambiguous length, one server's body is the next server's request.
        ("POST /-/reload HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nContent-Length: 30\r\n\r\nGET".to_owned(), Some(400)),
        ("POST /-/reload HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n".to_owned(), Some(400)),
        ("POST /-/reload HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n".to_owned(), Some(400)),
        ("GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n".to_owned(), Some(200)),
    ] {
        let shown: String = request.chars().take(60).collect();
        let status = send(&program, &request).await;
        match expected {
            Some(expected) => assert_eq!(status, Some(expected), "{shown:?}"),
            // Too large or unsupported: several refusals are acceptable.
            None => assert!(status.is_none_or(|status| (400..500).contains(&status)), "{shown:?}: {status:?}"),
        }
    }
    program.assert_running();
    assert_eq!(program.get("/-/healthy").await.0, 200);
}

/// The number of clients that guess passwords: below the connection limit.
const GUESSERS: usize = 150;
/// Prometheus' default scrape timeout.
const SCRAPE_TIMEOUT: Duration = Duration::from_secs(10);

#[tokio::test(flavor = "multi_thread")]
async fn password_guessing_locks_out_no_user() {
    let directory = Arc::new(TempDir::new().expect("a directory"));
    let file = directory.path().join("web.yml");
    let hash = bcrypt::hash("right", 7).expect("a hash");
    std::fs::write(&file, format!("basic_auth_users: {{ prometheus: '{hash}' }}"))
        .expect("written");
    let variables = [
        ("TWILIO_ACCOUNT_SID", "AC00000000000000000000000000000000"),
        ("TWILIO_AUTH_TOKEN", "a-token"),
        ("TWILIO_API_BASE_URL", "http://127.0.0.1:9"),
    ];
    let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let flag = format!("--web.config.file={}", file.display());
    let mut program = Program::start(directory, BTreeMap::from(variables), vec![flag]).await;
    let mut guessers = JoinSet::new();
    for guesser in 0..GUESSERS {
        guessers.spawn(guess(program.address().to_owned(), guesser));
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    // The first request waits for the guesses before it; then the password is known to be correct.
    for _ in 0..10 {
        let request = program.request("/metrics").basic_auth("prometheus", Some("right"));
        let answer = request.timeout(SCRAPE_TIMEOUT).send().await.expect("a response in time");
        assert_eq!(answer.status(), 200);
    }
    program.assert_running();
}

/// Guesses a different password each time, endlessly. Two thirds of the clients wait for each response and keep
/// their connections; the others disconnect early.
async fn guess(address: String, guesser: usize) {
    let mut number = 0_u64;
    loop {
        let Ok(mut client) = TcpStream::connect(&address).await else { continue };
        let patience = Duration::from_millis(if guesser.is_multiple_of(3) { 20 } else { 60_000 });
        let mut read = 1;
        while read > 0 {
            number += 1;
            let credentials = BASE64_STANDARD.encode(format!("prometheus:{guesser}-{number}"));
            let request = format!(
                "GET /metrics HTTP/1.1\r\nHost: x\r\nAuthorization: Basic {credentials}\r\n\r\n"
            );
            let _closed = client.write_all(request.as_bytes()).await;
            let mut answer = [0; 2048];
            let answered = tokio::time::timeout(patience, client.read(&mut answer)).await;
            read = answered.map_or(0, |read| read.unwrap_or(0));
        }
    }
}

/// Sends `request` and returns the status of the first response, or `None` if the connection closes without one.
async fn send(program: &Program, request: &str) -> Option<u16> {
    let mut client = TcpStream::connect(program.address()).await.expect("a connection");
    // The program may close the connection before everything is sent.
    let _refused = client.write_all(request.as_bytes()).await;
    let mut answer = vec![0; 64];
    let read = tokio::time::timeout(Duration::from_secs(20), client.read(&mut answer)).await;
    let read = read.expect("a response or the end of the connection").unwrap_or(0);
    let text = String::from_utf8_lossy(&answer[..read]).into_owned();
    text.strip_prefix("HTTP/1.1 ").and_then(|text| text.get(..3)?.parse().ok())
}
