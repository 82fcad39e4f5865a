//! Tests the dashboards with a real Prometheus that scrapes the demo: every query finds something, exactly the
//! expected alerts fire, and each dashboard is drawn for visual inspection.
//!
//! `DEMO_SECONDS=900 cargo test --test it drawn -- --ignored` runs the demo for longer. The pictures are in
//! `target/tmp/dashboards`. They come from this project's renderer: no Grafana server loads the files here.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;
use twilio_call_exporter::simulator::Mix;

use super::lint::{panels, queries};
use crate::backfill;
use crate::harness::{Browser, Program, Prometheus, Twilio, eventually};
use crate::rules;

/// The alerts that the demo must cause: its `/menu` responds with errors, with JSON or not at all. The paging alert
/// suppresses the alerts about callers cut off, non-XML responses and the error budget.
const EXPECTED_ALERTS: [(&str, &str); 2] =
    [("TwilioWebhookFailing", "/menu"), ("TwilioWebhookNearTimeout", "/menu")];

/// Thresholds that suit a two-minute demo with little traffic.
const THRESHOLDS: [(&str, &str); 2] = [
    // Only one call in fifty is slow enough for callers to notice, so two minutes may have none.
    ("twilio:slow_ratio:threshold", "0.5"),
    ("twilio:callback_failures_ratio:threshold", "0.05"),
];

/// Panels that show a text because the demo has no data for them.
const EMPTY_PANELS: [&str; 8] = [
    "Retries",
    "TwiML warnings",
    "Clock offset",
    "Throttled requests",
    "Accounts needing attention",
    "Exporter delay",
    "Overdue settling reads",
    "Failed calls by account",
];

/// Parts of queries that may find nothing, because there is no problem or because another query of the same panel
/// finds something: counts of problems, the budget left, and the budget overspent.
const EMPTY_QUERIES: [&str; 4] = ["== 0)", "> 1", "1 - (clamp_max", "absent("];

/// The time within which all expected alerts must fire. Only one failure in ten is a timeout, at a random time.
const FIRING_TIMEOUT: Duration = Duration::from_secs(180);

/// The seconds between two points of a graph.
const STEP: i64 = 2;

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs prometheus and chromium, from Debian's packages"]
async fn the_demo_fires_its_alerts_and_every_panel_shows_something() {
    let directory = Arc::new(TempDir::new().expect("a directory"));
    let program = Program::start(directory, BTreeMap::new(), vec!["demo".to_owned()]).await;
    let blocks = blocks_of_last_week().await;
    let rules = rules_for_a_demo();
    let mut prometheus = Prometheus::watching_with_blocks(&program, &rules, &blocks).await;
    let expected: BTreeSet<(String, String)> = EXPECTED_ALERTS
        .iter()
        .map(|(name, route)| ((*name).to_owned(), (*route).to_owned()))
        .collect();
    for job in ["twilio", "text"] {
        let began = Instant::now();
        loop {
            let seen = firing_alerts(&prometheus, job).await;
            if seen == expected {
                break;
            }
            assert!(began.elapsed() < FIRING_TIMEOUT, "job {job}: {seen:?}");
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }
    for alert in prometheus.alerts().await {
        check_failures_link(&program, &alert).await;
    }
    if let Some(seconds) = std::env::var_os("DEMO_SECONDS") {
        let seconds = seconds.to_str().and_then(|text| text.parse().ok()).expect("a number");
        tokio::time::sleep(Duration::from_secs(seconds)).await;
    }
    let mut results = Vec::new();
    for dashboard in super::all() {
        results.push((dashboard.uid, evaluate(&prometheus, &dashboard.json()).await));
    }
    prometheus.restart().await;
    eventually("the alerts fire again after a restart of Prometheus", async || {
        (firing_alerts(&prometheus, "twilio").await == expected).then_some(())
    })
    .await;
    tokio::task::spawn_blocking(move || draw(&results)).await.expect("no panic");
}

/// Returns the path of blocks with imported history around this time of last week.
async fn blocks_of_last_week() -> PathBuf {
    let output = TempDir::new().expect("a directory").keep();
    let twilio = Twilio::serving(backfill::past(Mix::Demo, 7 * 24 + 6, 60)).await;
    let ended = backfill::backfill(&twilio, &output, &["--from=172h", "--until=164h"]);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    backfill::import(&output)
}

/// Returns the rules with the demo's thresholds, and with shorter intervals and `for` durations.
fn rules_for_a_demo() -> Vec<(&'static str, String)> {
    let read =
        |name: &str| std::fs::read_to_string(format!("{}/{name}", rules::FOLDER)).expect("rules");
    let mut thresholds = read("thresholds.rules.yml");
    for (name, value) in THRESHOLDS {
        let (before, after) = thresholds.split_once(&format!("record: {name}\n")).expect(name);
        let (_, rest) = after.split_once('\n').expect("an expression");
        thresholds = format!("{before}record: {name}\n        expr: vector({value})\n{rest}");
    }
    let alerts =
        read("alerts.rules.yml").replace("for: 1m", "for: 1s").replace("for: 5m", "for: 1s");
    vec![
        ("thresholds.rules.yml", thresholds),
        (
            "recording.rules.yml",
            read("recording.rules.yml").replace("interval: 1m", "interval: 1s"),
        ),
        ("alerts.rules.yml", alerts),
    ]
}

/// Returns the name and route of each firing alert of a job.
async fn firing_alerts(prometheus: &Prometheus, job: &str) -> BTreeSet<(String, String)> {
    let alerts = prometheus.alerts().await;
    let matches = |alert: &&Value| alert["state"] == "firing" && alert["labels"]["job"] == job;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    alerts
        .iter()
        .filter(matches)
        .map(|alert| (text(&alert["labels"]["alertname"]), text(&alert["labels"]["route"])))
        .collect()
}

/// Asserts that an alert's link to `/failures` leads to at least one failure.
async fn check_failures_link(program: &Program, alert: &Value) {
    let Some(url) = alert["annotations"]["failures_url"].as_str() else { return };
    if alert["labels"]["job"] != "twilio" {
        return;
    }
    let path = url.strip_prefix(&format!("http://{}", program.address())).expect(url);
    let (status, page) = program.get(&path.replacen("/failures?", "/failures.json?", 1)).await;
    assert_eq!(status, 200, "{url}: {page}");
    let answer: Value = serde_json::from_str(&page).expect("JSON");
    assert!(
        answer["failures"].as_array().is_some_and(|failures| !failures.is_empty()),
        "{url}: {page}"
    );
}

/// Returns a dashboard with Prometheus' results for its queries. Fails if an unexpected query finds nothing.
async fn evaluate(prometheus: &Prometheus, dashboard: &Value) -> Value {
    let to = twilio_call_exporter::clock::Clock::start().now().as_second() / STEP * STEP;
    let from = to - prometheus.age().as_secs().try_into().unwrap_or(0);
    let mut empty = Vec::new();
    for (place, expr) in queries(dashboard) {
        let found = prometheus.instant(&fill(&expr, to - from)).await;
        let may_be_empty = EMPTY_PANELS.iter().any(|quiet| place.contains(quiet))
            || EMPTY_QUERIES.iter().any(|part| expr.contains(part));
        if found.is_empty() && !may_be_empty {
            empty.push(format!("{place}: {expr}"));
        }
    }
    for variable in dashboard["templating"]["list"].as_array().expect("variables") {
        let Some(query) = variable["definition"].as_str() else { continue };
        let inside = query.trim_start_matches("label_values(").trim_end_matches(')');
        let (series, label) = inside.rsplit_once(", ").expect("series and a label");
        if prometheus.label_values(&fill(series, to - from), label).await.is_empty() {
            empty.push(query.to_owned());
        }
    }
    assert!(empty.is_empty(), "no results for {empty:#?}");
    let mut results = json!({ "step": STEP });
    for panel in panels(dashboard).filter(|panel| panel["type"] != "row") {
        let mut answers = Vec::new();
        for target in panel["targets"].as_array().expect("targets") {
            let expr = fill(target["expr"].as_str().expect("a query"), to - from);
            answers.push(if target["instant"] == true {
                prometheus.instant(&expr).await
            } else {
                prometheus.range(&expr, from, to, STEP).await
            });
        }
        results[panel["id"].to_string()] = json!(answers);
    }
    json!({ "dashboard": dashboard, "results": results, "from": from, "to": to })
}

/// Returns a query as Grafana sends it if "All" is selected.
fn fill(expr: &str, range: i64) -> String {
    // Imported history has a sample a minute.
    let rate_interval = if expr.contains("offset 1w") { "5m15s" } else { "20s" };
    let mut filled = expr
        .replace("$__rate_interval", rate_interval)
        .replace("$__range", &format!("{}s", range.max(60)))
        .replace("=~\"$job", "=~\"twilio");
    for variable in ["account", "host", "route", "kind"] {
        filled = filled.replace(&format!("\"${variable}"), "\".+");
    }
    assert!(!filled.contains('$'), "{filled}");
    filled
}

/// Draws each dashboard in a browser, and saves the page and a picture.
fn draw(results: &[(&str, Value)]) {
    let folder = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("dashboards");
    std::fs::create_dir_all(&folder).expect("the folder is created");
    let mut browser = Browser::start_with_scripts();
    for (uid, data) in results {
        let page = folder.join(format!("{uid}.html"));
        let panels = panels(&data["dashboard"]).filter(|panel| panel["type"] != "row").count();
        // `<` could end the script.
        let data = data.to_string().replace('<', "\\u003c");
        let renderer = include_str!("renderer.html");
        let html = renderer.replacen(
            "<script>",
            &format!("<script>window.DATA = {data};</script>\n<script>"),
            1,
        );
        std::fs::write(&page, html).expect("the file is written");
        let shown = browser.show(&format!("file://{}", page.display()), (1440, 900));
        assert!(
            shown.html.contains(&format!("{panels} panels drawn")),
            "{uid} isn't drawn completely: {page:?}"
        );
        assert!(!shown.html.contains(">NO DATA<"), "{uid} has an empty panel: {page:?}");
        assert!(shown.width <= 1440.0, "{uid} is {} wide", shown.width);
        let picture = folder.join(format!("{uid}.png"));
        std::fs::write(&picture, browser.picture()).expect("the file is written");
    }
}
