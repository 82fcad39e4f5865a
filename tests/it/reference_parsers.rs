//! Checks by independent implementations: promtool, Prometheus, its Python client and a browser.

use std::io::Write;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use twilio_call_exporter::simulator::WorldConfig;

use crate::harness::{Browser, Program, Prometheus, Twilio, eventually, everything, metric};

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs promtool, from Debian's package prometheus"]
async fn promtool_accepts_the_metrics() {
    let twilio = Twilio::serving(everything(2, 1)).await;
    let mut program = Program::polling(&twilio).await;
    let scrape = twilio.wait_until_counted_by(&mut program).await;
    let output = run(Command::new("promtool").args(["check", "metrics"]), &scrape.text);
    assert_eq!(output, "", "promtool reports problems");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Debian's package python3-prometheus-client"]
async fn the_python_client_parses_openmetrics_with_the_same_samples() {
    const PARSER: &str = r#"
import sys
from prometheus_client.openmetrics.parser import text_string_to_metric_families
for family in text_string_to_metric_families(sys.stdin.read()):
    for sample in family.samples:
        call = sample.exemplar.labels["call_sid"] if sample.exemplar else "-"
        print(sample.name, call)
"#;
    let twilio = Twilio::serving(everything(1, 1)).await;
    let mut program = Program::polling(&twilio).await;
    twilio.wait_until_counted_by(&mut program).await;
    let accept = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,*/*;q=0.2";
    let response = program.request("/metrics").header("accept", accept).send().await;
    let response = response.expect("an answer");
    assert_eq!(
        response.headers()["content-type"],
        "application/openmetrics-text; version=1.0.0; charset=utf-8; escaping=allow-utf-8"
    );
    let body = response.text().await.expect("a body");
    let samples = run(Command::new("/usr/bin/python3").args(["-c", PARSER]), &body);
    let of =
        |name: &str| samples.lines().filter(|line| line.split(' ').next() == Some(name)).count();
    let text = program.scrape().await;
    for name in [
        "twilio_webhook_requests_total",
        "twilio_webhook_request_duration_seconds_bucket",
        "twilio_webhook_failures_total",
        "twilio_exporter_up",
    ] {
        let expected = text.names().into_iter().filter(|found| *found == name).count();
        assert!(expected > 0 && of(name) == expected, "{name}: {} of {expected}", of(name));
    }
    let with_call =
        |name: &str| samples.lines().any(|line| line.starts_with(&format!("{name} CA")));
    assert!(with_call("twilio_webhook_failures_total"), "{samples}");
    assert!(with_call("twilio_webhook_request_duration_seconds_bucket"));
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs prometheus, from Debian's package prometheus"]
async fn prometheus_stores_call_sids_as_exemplars() {
    let twilio = Twilio::serving(everything(1, 1)).await;
    let mut program = Program::polling(&twilio).await;
    twilio.wait_until_counted_by(&mut program).await;
    let prometheus = Prometheus::scraping(&program).await;
    for family in
        ["twilio_webhook_failures_total", "twilio_webhook_request_duration_seconds_bucket"]
    {
        let exemplars = prometheus.exemplars(family).await;
        let is_call = |labels: &serde_json::Value| {
            labels["call_sid"].as_str().is_some_and(|sid| sid.starts_with("CA") && sid.len() == 34)
        };
        assert!(!exemplars.is_empty() && exemplars.iter().all(is_call), "{family}: {exemplars:?}");
    }
}

/// `increase()` sees a single call whose only webhook fails on a route that has never been seen before.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs prometheus, from Debian's package prometheus"]
async fn prometheus_sees_the_first_failure_of_a_new_route() {
    // Without the hold-back `increase()` is 0, because the series starts at 1.
    for (hold_back, is_seen) in [("3s", true), ("0s", false)] {
        let (twilio, fails) = twilio_whose_next_call_fails_on_a_new_route().await;
        let variables = [("TWILIO_EXPORTER_LIMITS__HOLD_BACK", hold_back)];
        let program = Program::polling_with(&twilio, &variables).await;
        eventually("webhooks are counted", async || {
            metric("twilio_webhook_requests_total").value_in(&program.scrape().await)
        })
        .await;
        let prometheus = Prometheus::scraping(&program).await;
        fails.store(true, Ordering::SeqCst);
        eventually("Prometheus has the failure", async || {
            let failures =
                "twilio_webhook_failures_total{host=\"new.example\",reason=\"http_5xx\"}";
            prometheus.query(failures).await.filter(|failures| *failures == 1.0)
        })
        .await;
        let samples = "count_over_time(twilio_webhook_failures_total{host=\"new.example\",reason=\"http_5xx\"}[5m])";
        eventually("Prometheus has a few samples of it", async || {
            prometheus.query(samples).await.filter(|samples| *samples >= 3.0)
        })
        .await;
        for series in [
            "failures_total{host=\"new.example\",reason=\"http_5xx\"}",
            "request_duration_seconds_count{host=\"new.example\"}",
            "request_duration_seconds_bucket{host=\"new.example\",le=\"0.05\"}",
        ] {
            let increase = format!("increase(twilio_webhook_{series}[5m])");
            let seen = prometheus.query(&increase).await.unwrap_or(0.0);
            assert_eq!(seen > 0.0, is_seen, "hold-back {hold_back}: {increase} is {seen}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs chromium"]
async fn the_failures_page_fits_phone_and_desktop_windows() {
    let twilio = Twilio::serving(everything(1, 1)).await;
    let mut program = Program::polling(&twilio).await;
    twilio.wait_until_counted_by(&mut program).await;
    let text = program.get("/failures.json?limit=1000").await.1;
    let answer: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    let failures = answer["failures"].as_array().expect("a list").clone();
    assert!(failures.len() > 30, "{}", failures.len());
    let site = format!("http://{}", program.address());
    tokio::task::spawn_blocking(move || {
        let mut browser = Browser::start();
        for size in [(390, 844), (1130, 800), (1280, 900)] {
            let window = f64::from(size.0);
            // A page that is too wide is detected.
            let wide = "data:text/html,<meta name=viewport content=width=device-width><p style=width:2000px>x";
            assert!(browser.show(wide, size).width > window);
            let shown = browser.show(&format!("{site}/failures?limit=1000"), size);
            for failure in &failures {
                for field in ["host", "route", "kind", "code", "reason", "call_sid"] {
                    let value = failure[field].as_str().expect(field);
                    assert!(shown.html.contains(&format!(">{value}<")), "{value} at {size:?}");
                }
            }
            assert_eq!(shown.html.matches("<tr>").count(), failures.len() + 1, "at {size:?}");
            let long = "m".repeat(250);
            for page in [
                "/failures?limit=1000",
                "/failures?route=/nowhere",
                &format!("/failures?account={long}&host={long}"),
                &format!("/failures?kind={long}"),
                "/",
            ] {
                let shown = browser.show(&format!("{site}{page}"), size);
                assert!(shown.width <= window, "{page} is {} wide at {size:?}", shown.width);
            }
        }
    })
    .await
    .expect("no panic");
}

/// A realistic world, and a switch: the first call read after it is set fails on a new route.
async fn twilio_whose_next_call_fails_on_a_new_route() -> (Twilio, Arc<AtomicBool>) {
    let world = WorldConfig {
        calls_per_minute: 60.0,
        call_seconds: 1..=2,
        backlog: Duration::from_secs(20),
        ..WorldConfig::default()
    };
    let fails = Arc::new(AtomicBool::new(false));
    let (switch, failed) = (Arc::clone(&fails), std::sync::Mutex::new((None, None)));
    let answer = move |uri: &str, _| {
        let call = uri.split("/Events.json").next().filter(|call| call.len() < uri.len())?;
        let (failed, now) = &mut *failed.lock().expect("no panic");
        if failed.is_none() && switch.load(Ordering::SeqCst) {
            *failed = Some(call.to_owned());
        }
        (failed.as_deref() == Some(call)).then(|| {
            let event = r#"{"request":{"method":"POST","url":"https://new.example/first","parameters":{"call_sid":"CA","call_status":"ringing","direction":"inbound"}},"response":{"response_code":500,"request_duration":20,"content_type":"text/html","response_body":"","date_created":"NOW"}}"#;
            let event = event.replace("NOW", now.get_or_insert_with(date_now));
            (200, "application/json", format!(r#"{{"events":[{event}],"next_page_uri":null}}"#))
        })
    };
    (Twilio::answering(world, answer).await, fails)
}

/// The current time in Twilio's format.
fn date_now() -> String {
    let now = twilio_call_exporter::clock::Clock::start().now();
    now.strftime("%a, %d %b %Y %H:%M:%S +0000").to_string()
}

/// Runs a checker with this text as its input, asserts that it succeeds, and returns its output.
fn run(command: &mut Command, text: &str) -> String {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the checker starts");
    let mut input = child.stdin.take().expect("a pipe");
    let owned = text.to_owned();
    let writer = std::thread::spawn(move || input.write_all(owned.as_bytes()));
    let output = child.wait_with_output().expect("the checker ends");
    writer.join().expect("no panic").expect("written");
    let text =
        [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    assert!(output.status.success(), "{}", text.concat());
    text.concat()
}
