//! Scrapes of 10,000 series while 200 clients stall, and after 1,000 clients have stalled.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::ensure;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::exporter::Exporter;
use super::scenarios::{OPEN_METRICS, mebibytes, percentile};
use super::twilio::{self, Shape};

/// The number of clients that stall while scrapes are timed.
const CLIENTS: usize = 200;
/// The number of clients that stall afterwards: many more than may be connected.
const MANY_CLIENTS: usize = 1_000;
/// How long those clients stall.
const STALL_FOR: Duration = Duration::from_secs(20);
/// How soon a disconnected client reconnects.
const RECONNECT_AFTER: Duration = Duration::from_secs(1);
/// The number of timed scrapes.
const SCRAPES: usize = 500;
/// The limits that the results must meet.
const MAX_MS: f64 = 50.0;
const MAX_MORE_BYTES: u64 = 100_000_000;
const RECOVERS_WITHIN: Duration = Duration::from_secs(30);
/// How long the clients may take to connect.
const CONNECTED_WITHIN: Duration = Duration::from_secs(10);

/// Times scrapes over new connections, like those that Prometheus opens after a pause.
pub(crate) async fn slow_clients() -> anyhow::Result<()> {
    let shape =
        Shape { accounts: 4, calls: 1_500, events: 10, routes: 60, is_gzip: false, delay_ms: 0 };
    let (_twilio, url) = twilio::start(shape)?;
    let directory = TempDir::new()?;
    let mut exporter = Exporter::start(directory.path(), &url, shape).await?;
    // Otherwise the cost of counting would be attributed to the clients.
    exporter.wait_until_counted(shape.total()).await?;
    for _ in 0..20 {
        exporter.scrape(OPEN_METRICS, "gzip").await?;
    }
    let before = exporter.usage()?;
    let builder = reqwest::Client::builder().no_proxy().tls_certs_only([]);
    exporter.http = builder.pool_max_idle_per_host(0).build()?;
    let connected = Arc::new(AtomicUsize::new(0));
    let mut clients = stalling(&exporter, CLIENTS, &connected);
    let started = Instant::now();
    while connected.load(Ordering::Relaxed) < CLIENTS {
        ensure!(started.elapsed() < CONNECTED_WITHIN, "not all clients are connected");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let mut times = Vec::new();
    for _ in 0..SCRAPES {
        let started = Instant::now();
        exporter.scrape(OPEN_METRICS, "gzip").await?;
        times.push(started.elapsed().as_secs_f64() * 1000.0);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let more = exporter.usage()?.peak.saturating_sub(before.peak);
    let high = percentile(&mut times, 990);
    println!(
        "{CLIENTS} stalling clients: scrapes take {:.1} ms, 99th percentile {high:.1} ms, worst {:.1} ms; peak memory {:.1} MiB higher than before",
        percentile(&mut times, 500),
        percentile(&mut times, 1000),
        mebibytes(more)
    );
    ensure!(
        high <= MAX_MS,
        "the 99th percentile of scrapes is {high:.1} ms, more than {MAX_MS} ms"
    );
    ensure!(more <= MAX_MORE_BYTES, "peak memory is {:.1} MiB higher", mebibytes(more));
    clients.shutdown().await;
    let mut clients = stalling(&exporter, MANY_CLIENTS, &connected);
    tokio::time::sleep(STALL_FOR).await;
    clients.shutdown().await;
    let ended = Instant::now();
    while exporter.scrape(OPEN_METRICS, "gzip").await.is_err() {
        ensure!(
            ended.elapsed() < RECOVERS_WITHIN,
            "no scrape succeeded within {RECOVERS_WITHIN:?}"
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let recovered = ended.elapsed();
    let more = exporter.usage()?.peak.saturating_sub(before.peak);
    println!(
        "{MANY_CLIENTS} stalling clients: {:.0} connections refused, a scrape succeeded {:.1} s after they ended, peak memory {:.1} MiB higher than before",
        refused(&exporter).await?,
        recovered.as_secs_f64(),
        mebibytes(more)
    );
    ensure!(more <= MAX_MORE_BYTES, "peak memory is {:.1} MiB higher", mebibytes(more));
    Ok(())
}

/// Returns the number of refused connections.
async fn refused(exporter: &Exporter) -> anyhow::Result<f64> {
    let text = String::from_utf8(exporter.scrape("text/plain", "identity").await?)?;
    let mut lines = text.lines();
    let line = lines.find_map(|l| l.strip_prefix("twilio_exporter_http_connections_cut_total "));
    Ok(line.unwrap_or("0").parse()?)
}

fn stalling(exporter: &Exporter, count: usize, connected: &Arc<AtomicUsize>) -> JoinSet<()> {
    let address = exporter.url.trim_start_matches("http://");
    (0..count).map(|number| stall(address.to_owned(), number, Arc::clone(connected))).collect()
}

/// Stalls, depending on the client's number: by sending incomplete headers, by reading a kilobyte per second, or by
/// sending nothing. Reconnects when disconnected. Adds its connections to `connected`, with a response as soon as that
/// starts.
async fn stall(address: String, number: usize, connected: Arc<AtomicUsize>) {
    let text = match number % 3 {
        0 => "GET /metrics HTTP/1.1\r\nHost: x\r\nX-Slow: ",
        1 => "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n",
        _ => "",
    };
    loop {
        if let Ok(mut stream) = TcpStream::connect(&address).await {
            // A refused client reconnects below.
            let _refused = stream.write_all(text.as_bytes()).await;
            if number % 3 == 1 {
                let _refused = stream.readable().await;
            }
            connected.fetch_add(1, Ordering::Relaxed);
            if number % 3 == 1 {
                let mut buffer = [0; 1024];
                while stream.read(&mut buffer).await.is_ok_and(|read| read > 0) {
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
            } else {
                let _ended = stream.read(&mut [0; 1]).await;
            }
        }
        tokio::time::sleep(RECONNECT_AFTER).await;
    }
}
