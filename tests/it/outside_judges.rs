//! Outside judges: programs that know the formats better than we do.

use std::io::Write;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use twilio_call_exporter::simulator::WorldConfig;

use crate::harness::{Program, Prometheus, Twilio, eventually, everything, metric};

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs promtool, from Debian's package prometheus"]
async fn promtool_accepts_the_metrics() {
    let twilio = Twilio::serving(everything(2, 1)).await;
    let mut program = Program::polling(&twilio).await;
    let scrape = twilio.is_told_by(&mut program).await;
    let mut promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool");
    promtool.stdin.take().expect("a pipe").write_all(scrape.text.as_bytes()).expect("written");
    let output = promtool.wait_with_output().expect("promtool ends");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    assert_eq!(said, "", "promtool has remarks");
}

/// P4: a single call whose only webhook fails, on a route that was never seen before.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs prometheus, from Debian's package prometheus"]
async fn prometheus_sees_the_first_failure_of_a_new_route() {
    let increase =
        "increase(twilio_webhook_failures_total{host=\"new.example\",reason=\"http_5xx\"}[5m])";
    // Without the hold-back there is nothing to be seen: that is what it is for.
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
        let seen = prometheus.query(increase).await.unwrap_or(0.0);
        assert_eq!(seen > 0.0, is_seen, "hold-back {hold_back}: increase {seen}");
    }
}

/// A believable phone line, and a switch: the first call read after it has failed on a new route.
async fn twilio_whose_next_call_fails_on_a_new_route() -> (Twilio, Arc<AtomicBool>) {
    let world = WorldConfig {
        calls_per_minute: 60.0,
        call_seconds: 1..=2,
        backlog: Duration::from_secs(20),
        ..WorldConfig::default()
    };
    let fails = Arc::new(AtomicBool::new(false));
    let (switch, failed) = (Arc::clone(&fails), std::sync::Mutex::new(None));
    let answer = move |uri: &str, _| {
        let call = uri.split("/Events.json").next().filter(|call| call.len() < uri.len())?;
        let mut failed = failed.lock().expect("no panic");
        if failed.is_none() && switch.load(Ordering::SeqCst) {
            *failed = Some(call.to_owned());
        }
        (failed.as_deref() == Some(call)).then(|| {
            let event = r#"{"request":{"method":"POST","url":"https://new.example/first","parameters":{"call_sid":"CA","call_status":"ringing","direction":"inbound"}},"response":{"response_code":500,"request_duration":20,"content_type":"text/html","response_body":"","date_created":"Tue, 11 Aug 2020 17:44:08 +0000"}}"#;
            (200, "application/json", format!(r#"{{"events":[{event}],"next_page_uri":null}}"#))
        })
    };
    (Twilio::answering(world, answer).await, fails)
}
