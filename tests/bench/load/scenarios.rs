//! The scenarios and their measurements.

use std::time::{Duration, Instant};

use anyhow::ensure;
use tempfile::TempDir;
use tokio::net::TcpStream;

use super::exporter::Exporter;
use super::floor;
use super::twilio::{self, Shape};

/// The number of runs of a comparison: odd, for the median.
const RUNS: usize = 5;
/// Requests in flight per account, the default of `api.max_concurrency`.
const CONCURRENCY: u64 = 4;
/// The number of scrapes for each format and encoding.
const SCRAPES: usize = 300;
/// The format that Prometheus prefers.
pub(crate) const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0";

/// Measures events per second from HTTP to disk, and CPU time compared with the floor.
pub(crate) async fn throughput(encoding: &str) -> anyhow::Result<()> {
    let is_gzip = encoding == "gzip";
    let shape = Shape { accounts: 4, calls: 5_000, events: 10, routes: 20, is_gzip, delay_ms: 0 };
    let (mut rates, mut ratios, mut peaks) = (Vec::new(), Vec::new(), Vec::new());
    for run in 0..RUNS {
        let (_twilio, url) = twilio::start(shape)?;
        let directory = TempDir::new()?;
        let began = Instant::now();
        let exporter = Exporter::start(directory.path(), &url, shape).await?;
        exporter.wait_until_counted(shape.total()).await?;
        let (took, usage) = (began.elapsed(), exporter.usage()?);
        drop(exporter);
        let floor = floor::measure(&url, shape, shape.accounts * CONCURRENCY)?;
        let ratio = usage.cpu.as_secs_f64() / floor.usage.cpu.as_secs_f64();
        let rate = rate(shape.total(), took);
        println!(
            "throughput {encoding} {run}: {rate:.0} events/s in {:.2} s, CPU {:.2} s, peak {:.1} MiB; floor {:.0} events/s, CPU {:.2} s; CPU ratio {ratio:.2}",
            took.as_secs_f64(),
            usage.cpu.as_secs_f64(),
            mebibytes(usage.peak),
            self::rate(shape.total(), floor.took),
            floor.usage.cpu.as_secs_f64(),
        );
        rates.push(rate);
        ratios.push(ratio);
        peaks.push(mebibytes(usage.peak));
    }
    println!(
        "throughput, {encoding}: {} events/s, CPU {} times the floor, peak {} MiB",
        spread(&mut rates),
        spread(&mut ratios),
        spread(&mut peaks)
    );
    Ok(())
}

/// Measures memory with many tracked calls.
pub(crate) async fn memory() -> anyhow::Result<()> {
    for calls in [1_000, 10_000, 100_000] {
        let shape =
            Shape { accounts: 1, calls, events: 10, routes: 20, is_gzip: true, delay_ms: 0 };
        let (_twilio, url) = twilio::start(shape)?;
        let directory = TempDir::new()?;
        let exporter = Exporter::start(directory.path(), &url, shape).await?;
        exporter.wait_until_counted(shape.total()).await?;
        let while_reading = exporter.usage()?;
        drop(exporter);
        let exporter = Exporter::start(directory.path(), &url, shape).await?;
        ensure!(exporter.counted().await? == shape.total(), "some events were lost in the restart");
        let restarted = exporter.usage()?;
        println!(
            "memory of {calls} tracked calls: {:.1} MiB resident after reading them (peak {:.1}), {:.1} after a restart (peak {:.1})",
            mebibytes(while_reading.resident),
            mebibytes(while_reading.peak),
            mebibytes(restarted.resident),
            mebibytes(restarted.peak),
        );
    }
    Ok(())
}

/// Times scrapes of 10,000 series while events arrive and two other scrapers read slowly.
pub(crate) async fn scrapes(delay_ms: u64) -> anyhow::Result<()> {
    // Enough calls to keep the exporter reading until the scrapes are over.
    let calls = if delay_ms == 0 { 25_000 } else { 6_000 };
    let shape = Shape { accounts: 4, calls, events: 10, routes: 60, is_gzip: false, delay_ms };
    let (_twilio, url) = twilio::start(shape)?;
    let directory = TempDir::new()?;
    let exporter = Exporter::start(directory.path(), &url, shape).await?;
    // By then, every route is known.
    exporter.wait_until_counted(shape.total() / 50).await?;
    let address = exporter.url.trim_start_matches("http://").to_owned();
    let slow = [address.clone(), address].map(|address| tokio::spawn(read_slowly(address)));
    let (before, began) = (exporter.counted().await?, Instant::now());
    let mut samples: Vec<(&str, &str, Vec<f64>)> = Vec::new();
    for format in ["text/plain", OPEN_METRICS] {
        for encoding in ["identity", "gzip"] {
            samples.push((format, encoding, Vec::new()));
        }
    }
    for _ in 0..SCRAPES {
        for (format, encoding, times) in &mut samples {
            let started = Instant::now();
            exporter.scrape(format, encoding).await?;
            times.push(started.elapsed().as_secs_f64() * 1000.0);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
    let (after, took) = (exporter.counted().await?, began.elapsed());
    ensure!(after < shape.total(), "everything was counted before the scrapes were over");
    ensure!(slow.iter().all(|reader| !reader.is_finished()), "a slow scraper finished early");
    let text = String::from_utf8(exporter.scrape("text/plain", "identity").await?)?;
    let series = text.lines().filter(|line| !line.starts_with('#')).count();
    println!(
        "scrapes of {series} series ({} bytes), Twilio responds after {delay_ms} ms, {:.0} events/s arrive, two slow scrapers:",
        text.len(),
        rate(after - before, took)
    );
    for (format, encoding, mut times) in samples {
        let format = format.split(';').next().unwrap_or_default();
        println!(
            "  {format}, {encoding}: median {:.1} ms, 99th percentile {:.1} ms, worst {:.1} ms",
            percentile(&mut times, 500),
            percentile(&mut times, 990),
            percentile(&mut times, 1000)
        );
    }
    for reader in slow {
        reader.abort();
    }
    Ok(())
}

/// Requests a scrape and reads it at one kilobyte per second.
async fn read_slowly(address: String) -> anyhow::Result<()> {
    let stream = TcpStream::connect(address).await?;
    stream.writable().await?;
    stream.try_write(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")?;
    let mut buffer = [0; 1024];
    loop {
        stream.readable().await?;
        match stream.try_read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(_) => tokio::time::sleep(Duration::from_secs(1)).await,
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Measures the time from the start of the process to the end of the first scrape, with an empty store.
pub(crate) async fn start() -> anyhow::Result<()> {
    let shape =
        Shape { accounts: 1, calls: 10, events: 10, routes: 20, is_gzip: false, delay_ms: 0 };
    let (_twilio, url) = twilio::start(shape)?;
    let mut times = Vec::new();
    for _ in 0..11 {
        let directory = TempDir::new()?;
        let began = Instant::now();
        let exporter = Exporter::start(directory.path(), &url, shape).await?;
        exporter.scrape("text/plain", "identity").await?;
        times.push(began.elapsed().as_secs_f64() * 1000.0);
    }
    println!("start to first scrape, empty store: {} ms", spread(&mut times));
    Ok(())
}

fn rate(events: u64, took: Duration) -> f64 {
    f64::from(u32::try_from(events).unwrap_or(u32::MAX)) / took.as_secs_f64()
}

/// Returns the value that `permille` thousandths of all values don't exceed. Sorts the values.
pub(crate) fn percentile(values: &mut [f64], permille: usize) -> f64 {
    values.sort_by(f64::total_cmp);
    values[(values.len() * permille / 1000).min(values.len() - 1)]
}

pub(crate) fn mebibytes(bytes: u64) -> f64 {
    f64::from(u32::try_from(bytes / 1024).unwrap_or(u32::MAX)) / 1024.0
}

/// Formats the median, the minimum and the maximum.
fn spread(values: &mut [f64]) -> String {
    values.sort_by(f64::total_cmp);
    let (first, last) = (values[0], values[values.len() - 1]);
    format!("{:.2} ({first:.2}-{last:.2})", values[values.len() / 2])
}
