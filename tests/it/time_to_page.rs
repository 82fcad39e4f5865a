//! Measures the time from a failing webhook to the page, and from the end of the outage to the end of the
//! page, in the demo with the shipped rules, thresholds and Alertmanager configuration.
//!
//! `OUTAGE_SECONDS=1800 cargo test --test it time_to_page -- --ignored` runs the whole outage, and the
//! page must end within 20 minutes after it; otherwise the test ends with the page.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde_json::Value;
use tempfile::TempDir;
use twilio_call_exporter::clock::Clock;

use crate::harness::{Alertmanager, Program, Prometheus, Setup, lines, metric, print_figures};
use crate::rules;

/// The maximum time from the first counted failure to the page.
const PAGED_WITHIN: Duration = Duration::from_secs(180);
/// The maximum time from the last failure to the end of the page.
const RESOLVED_WITHIN: Duration = Duration::from_secs(20 * 60);
/// The maximum time until a failing webhook of the demo has been read.
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
    assert!(healthy.is_empty(), "a page before the outage: {}", lines(&healthy));
    let began = Instant::now();
    // Wait longer than allowed, to report how late the page is.
    within(PAGED_WITHIN * 2, "the pager is notified", async || {
        alertmanager.notifications("pager").into_iter().next()
    })
    .await;
    let paged_after = began.elapsed();
    print_figures(&format!("paged {:.0} s after the first failure", paged_after.as_secs_f64()));

    let Some(outage) = outage else {
        assert!(paged_after <= PAGED_WITHIN, "the page came after {paged_after:?}");
        return;
    };
    tokio::time::sleep(outage.saturating_sub(began.elapsed())).await;
    let ended = Instant::now();
    let is_over = || alertmanager.notifications("pager").into_iter().find(|one| one.is_resolved);
    within(RESOLVED_WITHIN, "the page ends", async || is_over()).await;
    print_figures(&format!(
        "resolved {:.0} s after the last failure",
        ended.elapsed().as_secs_f64()
    ));
    let pages = alertmanager.notifications("pager");
    let text = lines(&pages);
    print_figures(&format!("{text}\n{}", lines(&alertmanager.notifications("tickets"))));
    assert!(paged_after <= PAGED_WITHIN, "the page came after {paged_after:?}");
    // Alerts from the error log and from Call Events are for the same host, so they share a group and a page.
    assert!(pages.len() <= 3, "expected one page, its update by Call Events, and its end:\n{text}");
    let all = pages.iter().flat_map(|page| page.firing.iter().chain(&page.resolved));
    let hosts: BTreeSet<_> = all.filter_map(|labels| labels.get("host")).collect();
    assert_eq!(hosts.len(), 1, "{text}");
}

/// The maximum time from the first failing webhook to a firing alert, before any Call Event appears.
const REPORTED_WITHIN: Duration = Duration::from_secs(60);

/// With polling and with pushes. `RUNS=5` runs each five times; `REPORTED_BY=push` or `=poll` runs only one.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs prometheus, from Debian's package"]
async fn the_error_log_fires_an_alert_within_a_minute_before_call_events_appear() {
    let runs = std::env::var("RUNS").map_or(1, |text| text.parse().expect("a number"));
    let only = std::env::var("REPORTED_BY").ok();
    for (source, arguments) in [
        ("poll", &["demo", "--events-after=15m"][..]),
        ("push", &["demo", "--events-after=15m", "--push"]),
    ] {
        if only.as_ref().is_some_and(|only| only != source) {
            continue;
        }
        let mut took = Vec::new();
        for _ in 0..runs {
            took.push(reported_after(arguments).await);
        }
        print_figures(&format!("{source}: fires {took:?} after the first failing webhook"));
        assert!(!took.is_empty() && took.iter().all(|took| *took <= REPORTED_WITHIN), "{took:?}");
    }
}

/// The time from the first failing webhook until an alert fires in Prometheus.
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
    assert_eq!(counted.unwrap_or(0.0), 0.0, "a Call Event appeared too early");
    took
}

/// When the first webhook failed, according to the error log entries of level `error`.
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
        assert!(began.elapsed() < limit, "timed out after {limit:?}: {what}");
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

/// The evaluation interval in the configuration we ship.
fn shipped_evaluation_interval() -> String {
    let text = std::fs::read_to_string(format!("{}/prometheus.yml", rules::FOLDER)).expect("read");
    let (_, rest) = text.split_once("evaluation_interval: ").expect("an interval");
    rest.lines().next().expect("a line").to_owned()
}
