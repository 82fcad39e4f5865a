//! The files, imported into a real Prometheus and read by other parsers.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use jiff::SignedDuration;
use tempfile::TempDir;
use twilio_call_exporter::simulator::{Mix, WorldConfig};

use crate::harness::{Prometheus, Setup, Twilio, eventually, print_figures};

use super::{HOUR, backfill, files, instant, past, rounded_now, spawn};

/// The calls per minute: 6,200 calls a day with 20,700 events.
const CALLS_PER_MINUTE: f64 = 3.6;
/// The largest memory of the program, in bytes.
const MAX_MEMORY: u64 = 150_000_000;
/// The calls that must be read per second.
const MIN_RATE: f64 = 2_000.0;

/// `BACKFILL_DAYS` sets the number of days.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs prometheus, from Debian's package prometheus"]
async fn in_prometheus_the_increase_of_each_hour_and_route_equals_the_truth() {
    let days =
        std::env::var("BACKFILL_DAYS").map_or(2, |days| days.parse().expect("a number of days"));
    let world = WorldConfig {
        calls_per_minute: CALLS_PER_MINUTE,
        backlog: Duration::from_secs(days * 12 * 3_600),
        failing_after: Some(Duration::ZERO),
        failing_for: Some(Duration::from_secs(6 * 3_600)),
        mix: Mix::Demo,
        ..WorldConfig::default()
    };
    // The line begins to fail in the middle.
    let age = SignedDuration::from_hours(i64::try_from(days * 12).expect("few"));
    let twilio = Twilio::started_ago(world, age).await;
    let output = TempDir::new().expect("a directory");
    let until = rounded_now() - SignedDuration::from_hours(1);
    let from = until - SignedDuration::from_hours(i64::try_from(days * 24 - 2).expect("few"));
    let began = Instant::now();
    let mut child =
        spawn(&twilio, output.path(), &[&format!("--from={from}"), &format!("--until={until}")]);
    let mut peak = 0;
    let status = loop {
        let memory =
            std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap_or_default();
        let high = memory.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kilobytes = high.and_then(|text| text.trim().strip_suffix(" kB")?.parse::<u64>().ok());
        peak = peak.max(kilobytes.unwrap_or(0) * 1024);
        if let Some(status) = child.try_wait().expect("a child") {
            break status;
        }
        assert!(began.elapsed() < Duration::from_secs(60 + days * 30), "it takes too long");
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    assert!(status.success());
    let traffic = twilio.traffic();
    let read = traffic.iter().filter(|request| request.uri.contains("/Events.json"));
    let times: Vec<Instant> = read.map(|request| request.requested_at).collect();
    let calls = u32::try_from(times.len()).expect("few");
    let rate = f64::from(calls) / (times[times.len() - 1] - times[0]).as_secs_f64();
    let requests = ["twilio_webhook_requests_total", "twilio_call_api_requests_total"];
    let [before, after] = [from, until].map(|at| {
        let truth = twilio.truth_at(at);
        requests.map(|family| truth.value(family, &[])).iter().sum::<f64>()
    });
    let events = after - before;
    print_figures(&format!(
        "{} calls with {events} events of {days} days, {rate:.0} per second, {:?} in all, {} MB of memory",
        calls,
        began.elapsed(),
        peak / 1_000_000
    ));
    assert!(peak > 0 && peak <= MAX_MEMORY, "{peak} bytes");
    if !cfg!(debug_assertions) {
        assert!(rate >= MIN_RATE, "{rate} calls per second");
    }
    let began = Instant::now();
    let blocks = import(output.path());
    print_figures(&format!("imported in {:?}", began.elapsed()));
    let prometheus = Prometheus::start_with_blocks(&Setup::default(), &blocks);
    eventually("Prometheus has loaded the blocks", async || prometheus.query("vector(1)").await)
        .await;
    let hours = |second: i64| second.div_euclid(HOUR) * HOUR;
    let (first, last) = (hours(from.as_second()) + 2 * HOUR, hours(until.as_second()));
    let mut compared = 0;
    for family in [
        "twilio_webhook_requests_total",
        "twilio_webhook_request_duration_seconds_count",
        "twilio_webhook_failures_total",
        "twilio_twiml_responses_total",
        "twilio_twiml_warnings_total",
        "twilio_call_api_requests_total",
        "twilio_calls_total",
        "twilio_calls_with_webhook_failures_total",
    ] {
        // A range in Prometheus 3 excludes its start, where there is a sample. The rounding undoes the extrapolation
        // by that millisecond.
        let query = format!("round(increase({family}{{source=\"backfill\"}}[3600001ms]))");
        let found = prometheus.range(&query, first, last, HOUR).await;
        let mut expected = increases(&twilio, family, first, last);
        for series in found {
            let mut labels: BTreeMap<String, String> =
                serde_json::from_value(series["metric"].clone()).expect("labels");
            labels.retain(|label, _| !["source", "job"].contains(&label.as_str()));
            for value in series["values"].as_array().expect("values") {
                let (hour, increase) =
                    (value[0].as_i64().expect("a time"), value[1].as_str().expect("a value"));
                let increase: f64 = increase.parse().expect("a number");
                let truth = expected.remove(&(hour, labels.clone())).unwrap_or(0.0);
                assert_eq!(increase, truth, "{family} {labels:?} at {hour}");
                compared += usize::from(truth > 0.0);
            }
        }
        assert!(expected.is_empty(), "{family}: {expected:?}");
    }
    print_figures(&format!("{compared} increases above 0 are equal"));
    assert!(compared > 100, "{compared}");
}

/// Its histograms can't have several times in one exposition (it drops samples), so each time is parsed by itself.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Debian's package python3-prometheus-client"]
async fn the_python_client_parses_the_samples_of_each_time() {
    const PARSER: &str = "import sys
from prometheus_client.openmetrics.parser import text_string_to_metric_families
for path in sys.argv[1:]:
    print(sum(len(family.samples) for family in text_string_to_metric_families(open(path).read())))";
    let twilio = Twilio::serving(past(Mix::Everything, 5, 60)).await;
    let output = TempDir::new().expect("a directory");
    let ended = backfill(&twilio, output.path(), &["--from=4h", "--step=5m"]);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let (mut paths, mut expected) = (Vec::new(), Vec::new());
    for (name, bytes) in files::contents(output.path()) {
        let text = String::from_utf8(bytes).expect("UTF-8");
        let samples = text.lines().filter(|line| !line.starts_with('#'));
        let times: BTreeSet<&str> =
            samples.map(|line| line.rsplit(' ').next().expect("a time")).collect();
        for time in times {
            let of_time =
                |line: &&str| line.starts_with('#') || line.ends_with(&format!(" {time}"));
            let lines: Vec<&str> = text.lines().filter(of_time).collect();
            let path = output.path().join(format!("{name}.{time}"));
            std::fs::write(&path, format!("{}\n", lines.join("\n"))).expect("written");
            expected.push(lines.iter().filter(|line| !line.starts_with('#')).count().to_string());
            paths.push(path);
        }
    }
    let parsed = Command::new("/usr/bin/python3")
        .args(["-c", PARSER])
        .args(&paths)
        .output()
        .expect("Python");
    assert!(parsed.status.success(), "{}", String::from_utf8_lossy(&parsed.stderr));
    let found = String::from_utf8(parsed.stdout).expect("UTF-8");
    assert_eq!(found.lines().collect::<Vec<_>>(), expected);
    assert!(expected.len() > 30, "{}", expected.len());
}

/// The increase of each series of a family in the hour before each full hour, by that hour and the labels.
fn increases(
    twilio: &Twilio,
    family: &str,
    first: i64,
    last: i64,
) -> BTreeMap<(i64, BTreeMap<String, String>), f64> {
    let mut before = files::values_of(&twilio.truth_at(instant(first - HOUR)));
    let mut increases = BTreeMap::new();
    for hour in (first..=last).filter(|second| second % HOUR == 0) {
        let after = files::values_of(&twilio.truth_at(instant(hour)));
        for ((name, labels), value) in after.iter().filter(|((name, _), _)| name == family) {
            let increase =
                value - before.get(&(name.clone(), labels.clone())).copied().unwrap_or(0.0);
            if increase > 0.0 {
                increases.insert((hour, labels.clone()), increase);
            }
        }
        before = after;
    }
    increases
}

/// Makes blocks of all files with promtool, as the documentation says.
pub(crate) fn import(output: &Path) -> std::path::PathBuf {
    let blocks = output.join("blocks");
    for (name, _) in files::contents(output) {
        let import = Command::new("promtool")
            .args(["tsdb", "create-blocks-from", "openmetrics"])
            .args([output.join("openmetrics").join(&name), blocks.clone()])
            .output()
            .expect("promtool");
        assert!(import.status.success(), "{name}: {}", String::from_utf8_lossy(&import.stderr));
    }
    blocks
}
