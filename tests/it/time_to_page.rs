//! How long it takes from a failing webhook to the page, and from the end of the outage to the end of
//! the page: the demo, with rules, thresholds and Alertmanager's configuration as they are.
//!
//! `OUTAGE_SECONDS=1800 cargo test --test it time_to_page -- --ignored` plays the whole outage, whose
//! page must end 20 minutes after it; else the demo is left once the page has come.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde_json::Value;
use tempfile::TempDir;
use twilio_call_exporter::clock::Clock;

use crate::harness::{Alertmanager, Program, Prometheus, Setup, lines, metric, say};
use crate::rules;

/// How long a page may take from the first failing webhook that is counted.
const PAGED_WITHIN: Duration = Duration::from_secs(180);
/// How long the page may take to end from the last of them.
const RESOLVED_WITHIN: Duration = Duration::from_secs(20 * 60);
/// After how many seconds the demo's webhooks begin to fail, and a little for them to be read.
const FAILING_WITHIN: Duration = Duration::from_secs(60);
const SCRAPE_INTERVAL: &str = "15s";

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs prometheus and prometheus-alertmanager, from Debian's packages"]
async fn the_demo_pages_once_within_3_min_and_ends_within_20() {
    let outage = std::env::var_os("OUTAGE_SECONDS").map(|seconds| {
        let seconds = seconds.to_str().and_then(|text| text.parse().ok()).expect("a number");
        Duration::from_secs(seconds)
    });
    let mut arguments = vec!["demo".to_owned()];
    arguments.extend(outage.map(|outage| format!("--failing-for={}s", outage.as_secs())));
    let directory = Arc::new(TempDir::new().expect("a directory"));
    let program = Program::start(directory, BTreeMap::new(), arguments).await;
    let alertmanager = Alertmanager::start().await;
    let _prometheus = Prometheus::start(&Setup {
        jobs: &[("twilio", program.address())],
        rules: &rules::files(),
        scrape_interval: SCRAPE_INTERVAL,
        evaluation_interval: &shipped_evaluation_interval(),
        alertmanager: Some(alertmanager.address()),
        ..Setup::default()
    });

    let failures = metric("twilio_webhook_failures_total").label("route", "/menu");
    let counted =
        async || failures.value_in(&program.scrape().await).filter(|failures| *failures > 0.0);
    let healthy = alertmanager.notifications("pager");
    within(FAILING_WITHIN, "a failing webhook is counted", counted).await;
    assert!(healthy.is_empty(), "nothing failed yet: {}", lines(&healthy));
    let began = Instant::now();
    // A page that comes too late is waited for, so that it is known by how much.
    within(PAGED_WITHIN * 2, "the pager rings", async || {
        alertmanager.notifications("pager").into_iter().next()
    })
    .await;
    let paged_after = began.elapsed();
    say(&format!("paged {:.0} s after the first failure", paged_after.as_secs_f64()));

    let Some(outage) = outage else {
        assert!(paged_after <= PAGED_WITHIN, "the page came after {paged_after:?}");
        return;
    };
    tokio::time::sleep(outage.saturating_sub(began.elapsed())).await;
    let ended = Instant::now();
    let is_over = || alertmanager.notifications("pager").into_iter().find(|one| one.is_resolved);
    within(RESOLVED_WITHIN, "the page ends", async || is_over()).await;
    say(&format!("resolved {:.0} s after the last failure", ended.elapsed().as_secs_f64()));
    let pages = alertmanager.notifications("pager");
    let text = lines(&pages);
    say(&format!("{text}\n{}", lines(&alertmanager.notifications("tickets"))));
    assert!(paged_after <= PAGED_WITHIN, "the page came after {paged_after:?}");
    // What is told from the error log on is told of the same host, in the same group: no other page.
    assert!(pages.len() <= 3, "one page, the hand-over to Call Events, and its end:\n{text}");
    let all = pages.iter().flat_map(|page| page.firing.iter().chain(&page.resolved));
    let hosts: BTreeSet<_> = all.filter_map(|labels| labels.get("host")).collect();
    assert_eq!(hosts.len(), 1, "{text}");
}

/// Most time from the first failing webhook to the alert that fires, while no Call Event is shown yet.
const REPORTED_WITHIN: Duration = Duration::from_secs(60);

/// Polled and pushed; `RUNS=5` plays each five times, `REPORTED_BY=push` or `=poll` only one of them.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs prometheus, from Debian's package"]
async fn the_error_log_fires_an_alert_within_the_minute_long_before_call_events() {
    let runs = std::env::var("RUNS").map_or(1, |text| text.parse().expect("a number"));
    let only = std::env::var("REPORTED_BY").ok();
    for (way, arguments) in [
        ("poll", &["demo", "--events-after=15m"][..]),
        ("push", &["demo", "--events-after=15m", "--push"]),
    ] {
        if only.as_ref().is_some_and(|only| only != way) {
            continue;
        }
        let mut took = Vec::new();
        for _ in 0..runs {
            took.push(reported_after(arguments).await);
        }
        say(&format!("{way}: fires {took:?} after the first webhook that failed"));
        assert!(!took.is_empty() && took.iter().all(|took| *took <= REPORTED_WITHIN), "{took:?}");
    }
}

/// How long it takes from the first failing webhook until an alert fires that Prometheus sees.
async fn reported_after(arguments: &[&str]) -> Duration {
    let directory = Arc::new(TempDir::new().expect("a directory"));
    let arguments = arguments.iter().map(|argument| (*argument).to_owned()).collect();
    let program = Program::start(directory, BTreeMap::new(), arguments).await;
    let prometheus = Prometheus::start(&Setup {
        jobs: &[("twilio", program.address())],
        rules: &rules::files(),
        scrape_interval: SCRAPE_INTERVAL,
        evaluation_interval: SCRAPE_INTERVAL,
        ..Setup::default()
    });
    let firing = r#"ALERTS{alertname="TwilioWebhookErrorsReported",alertstate="firing"}"#;
    within(FAILING_WITHIN + REPORTED_WITHIN * 2, "the alert fires", async || {
        prometheus.query(firing).await
    })
    .await;
    let failed_at = first_failure(&program.log());
    let took = Clock::start().now().duration_since(failed_at).unsigned_abs();
    let counted = metric("twilio_webhook_failures_total").value_in(&program.scrape().await);
    assert_eq!(counted.unwrap_or(0.0), 0.0, "no Call Event is shown yet");
    took
}

/// When the first webhook failed that callers heard of, by the error log.
fn first_failure(log: &str) -> Timestamp {
    let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let times = lines
        .filter(|line| line["message"] == "reported by Twilio's error log")
        .filter(|line| line["log_level"] == "error")
        .filter_map(|line| line["generated_at"].as_str()?.parse().ok());
    times.min().unwrap_or_else(|| panic!("no entry in {log}"))
}

async fn within<T>(limit: Duration, what: &str, mut check: impl AsyncFnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(found) = check().await {
            return found;
        }
        assert!(began.elapsed() < limit, "not within {limit:?}: {what}");
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

/// How often the configuration that we ship has rules evaluated.
fn shipped_evaluation_interval() -> String {
    let text = std::fs::read_to_string(format!("{}/prometheus.yml", rules::FOLDER)).expect("read");
    let (_, rest) = text.split_once("evaluation_interval: ").expect("an interval");
    rest.lines().next().expect("a line").to_owned()
}
