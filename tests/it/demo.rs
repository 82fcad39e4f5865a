//! `demo`: what the metrics show in the first minute.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::harness::{eventually, metric};

#[tokio::test(flavor = "multi_thread")]
async fn the_demo_shows_webhooks_within_10_s_and_failures_within_60_s() {
    let began = Instant::now();
    let directory = Arc::new(TempDir::new().expect("a directory"));
    let arguments = vec!["demo".to_owned()];
    let program = crate::harness::Program::start(directory, BTreeMap::new(), arguments).await;
    for name in [
        "twilio_webhook_requests_total",
        "twilio_webhook_request_duration_seconds_count",
        "twilio_twiml_responses_total",
    ] {
        eventually(name, async || {
            metric(name).value_in(&program.scrape().await).filter(|value| *value > 0.0)
        })
        .await;
    }
    assert!(
        began.elapsed() < Duration::from_secs(10),
        "webhooks appeared after {:?}",
        began.elapsed()
    );
    let failures = metric("twilio_webhook_failures_total");
    assert!(failures.is_in(&program.scrape().await, 0.0), "webhooks failed too early");
    eventually("webhooks fail", async || {
        failures.value_in(&program.scrape().await).filter(|value| *value > 0.0)
    })
    .await;
    assert!(
        began.elapsed() < Duration::from_secs(60),
        "failures appeared after {:?}",
        began.elapsed()
    );
    assert!(program.stop().await.success());
}
