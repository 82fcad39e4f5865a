//! Clients that are slow, many, or up to something.

use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::harness::{Program, Scrape, Twilio, eventually, everything, metric, world_of};

/// Clients that are slow at the same time in every run; CI asks for more, and alone on the machine.
const SLOW: usize = 300;
/// Connections that are kept, whoever comes.
const KEPT: usize = 256;
/// What they may cost in memory.
const MEMORY: u64 = 50 << 20;
/// Within which time nearly all scrapes are answered meanwhile: as a figure, and beside other tests.
const ANSWERED_WITHIN: [Duration; 2] = [Duration::from_millis(100), Duration::from_secs(2)];

#[tokio::test(flavor = "multi_thread")]
#[expect(clippy::print_stdout, reason = "how long scrapes took is a figure")]
async fn slow_clients_hold_up_no_scrape_and_cost_little_memory() {
    let twilio = Twilio::serving(everything(3, 1)).await;
    let mut program = Program::polling(&twilio).await;
    let scrape = twilio.is_told_by(&mut program).await;
    assert!(scrape.text.len() > 100_000, "{} bytes", scrape.text.len());
    let before = program.peak_memory();
    let asked = std::env::var("SLOW_CLIENTS").ok().map(|text| text.parse().expect("a number"));
    let count: usize = asked.unwrap_or(SLOW);
    let mut clients = Vec::new();
    for number in 0..count {
        let mut client = TcpStream::connect(program.address()).await.expect("a connection");
        // A third sends no request to its end, a third takes no answer, a third sends nothing at all.
        let text = match number % 3 {
            0 => "GET /metrics HTTP/1.1\r\nHost: x\r\nX-Slow: ",
            1 => "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n",
            _ => "",
        };
        // Whoever is cut off already can't send.
        let _cut = client.write_all(text.as_bytes()).await;
        clients.push(client);
    }
    let superfluous = f64::from(u32::try_from(count - KEPT).expect("more than are kept"));
    let are_cut = |scrape: &Scrape| {
        let cut = metric("twilio_exporter_http_connections_cut_total").value_in(scrape);
        cut.is_some_and(|cut| cut >= superfluous)
    };
    eventually("all have been taken in, and the superfluous ones cut off", async || {
        let text = program.request("/metrics").send().await.ok()?.text().await.ok()?;
        are_cut(&Scrape::parse(&text)).then_some(())
    })
    .await;
    let mut took = Vec::new();
    for _ in 0..200 {
        let began = Instant::now();
        let (status, text) = program.get("/metrics").await;
        assert_eq!(status, 200);
        assert!(text.len() > 100_000);
        took.push(began.elapsed());
        for client in clients.iter_mut().step_by(3) {
            let _cut = client.try_write(b"a");
        }
    }
    took.sort();
    let (median, high) = (took[took.len() / 2], took[took.len() * 99 / 100 - 1]);
    let more = program.peak_memory() - before;
    println!(
        "{count} slow clients: median {median:?}, 99th percentile {high:?}, {} KiB more",
        more >> 10
    );
    let within = ANSWERED_WITHIN[usize::from(asked.is_none())];
    assert!(high < within, "99th percentile {high:?}, median {median:?}");
    assert!(more < MEMORY, "{} MiB more", more >> 20);
    program.assert_running();
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_a_client_sends_it_gets_an_error_or_nothing() {
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
        // Two lengths, or a length and chunks: what one server takes for a body is the next one's request.
        ("POST /-/reload HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nContent-Length: 30\r\n\r\nGET".to_owned(), Some(400)),
        ("POST /-/reload HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n".to_owned(), Some(400)),
        ("POST /-/reload HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n".to_owned(), Some(400)),
        ("GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n".to_owned(), Some(200)),
    ] {
        let shown: String = request.chars().take(60).collect();
        let status = ask(&program, &request).await;
        match expected {
            Some(expected) => assert_eq!(status, Some(expected), "{shown:?}"),
            // Too much, or nothing that is answered here: refused in one of several ways.
            None => assert!(status.is_none_or(|status| (400..500).contains(&status)), "{shown:?}: {status:?}"),
        }
    }
    program.assert_running();
    assert_eq!(program.get("/-/healthy").await.0, 200);
}

/// Sends bytes, and reads the status of the first answer; `None` where the connection ends without.
async fn ask(program: &Program, request: &str) -> Option<u16> {
    let mut client = TcpStream::connect(program.address()).await.expect("a connection");
    // It may be refused before all of it was sent.
    let _refused = client.write_all(request.as_bytes()).await;
    let mut answer = vec![0; 64];
    let read = tokio::time::timeout(Duration::from_secs(20), client.read(&mut answer)).await;
    let read = read.expect("an answer, or an end").unwrap_or(0);
    let text = String::from_utf8_lossy(&answer[..read]).into_owned();
    text.strip_prefix("HTTP/1.1 ").and_then(|text| text.get(..3)?.parse().ok())
}
