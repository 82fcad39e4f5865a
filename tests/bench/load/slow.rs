//! A thousand slow clients at once, and scrapes of 10,000 series in between.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::exporter::Exporter;
use super::scenarios::{OPEN_METRICS, mebibytes, percentile};
use super::twilio::{self, Shape};

/// Clients at the same time.
const CLIENTS: usize = 1_000;
/// How soon a client that was cut off comes again.
const COMES_AGAIN: Duration = Duration::from_secs(1);
/// Scrapes that are timed.
const SCRAPES: usize = 500;
/// How long that may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// The figures that hold.
const WITHIN_MS: f64 = 100.0;
const MOST_BYTES: u64 = 50_000_000;
/// What the program cuts off so many times before anything is timed: nobody is new then.
const CUT: f64 = 2_000.0;

/// Scrapes as Prometheus makes them, each over a connection of its own, among slow clients who come
/// again whenever they are cut off.
pub(crate) async fn slow_clients() -> anyhow::Result<()> {
    let shape =
        Shape { accounts: 4, calls: 1_500, events: 10, routes: 60, is_gzip: false, delay_ms: 0 };
    let (_twilio, url) = twilio::start(shape)?;
    let directory = TempDir::new()?;
    let mut exporter = Exporter::start(directory.path(), &url, shape).await?;
    // All of it: what calls take is not to be taken for what clients take.
    exporter.has_counted(shape.total()).await?;
    for _ in 0..20 {
        exporter.scrape(OPEN_METRICS, "gzip").await?;
    }
    let before = exporter.usage()?;
    let builder = reqwest::Client::builder().no_proxy().tls_certs_only([]);
    exporter.http = builder.pool_max_idle_per_host(0).build()?;
    let address = exporter.url.trim_start_matches("http://").to_owned();
    let mut clients = JoinSet::new();
    for number in 0..CLIENTS {
        clients.spawn(be_slow(address.clone(), number));
    }
    // While all of them come at once, who is not quick may be cut off, too.
    let came = Instant::now();
    while cut(&exporter).await.unwrap_or(0.0) < CUT {
        ensure!(came.elapsed() < PATIENCE, "too few were cut off within {PATIENCE:?}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let patient = tokio::spawn(read_patiently(address));
    let cut_before = cut(&exporter).await?;
    let began = Instant::now();
    let mut times = Vec::new();
    for _ in 0..SCRAPES {
        let asked = Instant::now();
        exporter.scrape(OPEN_METRICS, "gzip").await?;
        times.push(asked.elapsed().as_secs_f64() * 1000.0);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let took = began.elapsed().as_secs_f64();
    let cut_after = cut(&exporter).await?;
    ensure!(cut_after > cut_before, "nobody was cut off");
    let megabytes = patient.await??;
    let more = exporter.usage()?.peak.saturating_sub(before.peak);
    let high = percentile(&mut times, 990);
    ensure!(high <= WITHIN_MS, "the 99th percentile of scrapes is {high:.1} ms");
    ensure!(more <= MOST_BYTES, "{:.1} MiB more", mebibytes(more));
    println!(
        "{CLIENTS} slow clients, {:.0} cut off a second: scrapes take {:.1} ms, 99th percentile {:.1} ms, worst {:.1} ms; a scraper with a megabyte a second got its {megabytes:.1} MB each time; {:.1} MiB more than the peak before",
        (cut_after - cut_before) / took,
        percentile(&mut times, 500),
        high,
        percentile(&mut times, 1000),
        mebibytes(more)
    );
    Ok(())
}

/// How many connections were cut off so far.
async fn cut(exporter: &Exporter) -> anyhow::Result<f64> {
    let text = String::from_utf8(exporter.scrape("text/plain", "identity").await?)?;
    let mut lines = text.lines();
    let line = lines.find_map(|l| l.strip_prefix("twilio_exporter_http_connections_cut_total "));
    Ok(line.unwrap_or("0").parse()?)
}

/// Asks some times, and takes what it gets at a megabyte a second; fails if it doesn't get all.
async fn read_patiently(address: String) -> anyhow::Result<f64> {
    let mut megabytes = 0.0;
    for _ in 0..8 {
        let mut stream = TcpStream::connect(&address).await?;
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await?;
        let (mut got, mut buffer) = (Vec::new(), vec![0; 16 * 1024]);
        loop {
            let read = stream.read(&mut buffer).await?;
            if read == 0 {
                break;
            }
            got.extend_from_slice(&buffer[..read]);
            tokio::time::sleep(Duration::from_millis(16)).await;
        }
        let text = String::from_utf8(got)?;
        let (head, body) = text.split_once("\r\n\r\n").context("no head")?;
        let length = head
            .lines()
            .find_map(|l| l.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
        ensure!(length == Some(body.len()), "{} bytes of {length:?}", body.len());
        megabytes = f64::from(u32::try_from(body.len())?) / 1e6;
    }
    Ok(megabytes)
}

/// A third doesn't end its request, a third doesn't take its answer, a third says nothing.
async fn be_slow(address: String, number: usize) {
    let text = match number % 3 {
        0 => "GET /metrics HTTP/1.1\r\nHost: x\r\nX-Slow: ",
        1 => "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n",
        _ => "",
    };
    loop {
        if let Ok(mut stream) = TcpStream::connect(&address).await {
            // Whoever is cut off comes again, whatever he was told.
            let _cut = stream.write_all(text.as_bytes()).await;
            if number % 3 == 1 {
                // Takes a kilobyte a second.
                let mut buffer = [0; 1024];
                while stream.read(&mut buffer).await.is_ok_and(|read| read > 0) {
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
            } else {
                let _cut = stream.read(&mut [0; 1]).await;
            }
        }
        tokio::time::sleep(COMES_AGAIN).await;
    }
}
