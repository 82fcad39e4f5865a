//! Numbers and dates that Twilio never sends: the values are ignored, but the events are counted.

use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use twilio_call_exporter::clock::Clock;

use crate::harness::{Program, Twilio, eventually, metric, world_of};

const CALL: &str = "CA00000000000000000000000000000042";

#[tokio::test(flavor = "multi_thread")]
async fn odd_durations_and_dates_do_not_distort_sums_and_survive_a_restart() {
    let ended_at = Clock::start().now() - SignedDuration::from_secs(20);
    let past = "Thu, 01 Jan 1970 00:00:00 +0000";
    let future = "Thu, 30 Dec 9999 00:00:00 +0000";
    let usual = date(ended_at);
    let events = json!([
        event("/usual", json!(143), &usual),
        event("/usual", json!(600_000), &usual),
        event("/usual", json!(600_001), &usual),
        event("/usual", json!(i64::MAX), &usual),
        event("/usual", json!(u64::MAX), &usual),
        event("/usual", json!(-1), &usual),
        event("/usual", json!("soon"), &usual),
        event("/usual", json!(1e300), &usual),
        event("/past", json!(1), past),
        event("/future", json!(1), future),
    ]);
    let events = json!({ "events": events, "next_page_uri": null }).to_string();
    let call = json!({
        "sid": CALL,
        "status": "completed",
        "direction": "inbound",
        "start_time": date(ended_at - SignedDuration::from_secs(1)),
        "end_time": date(ended_at),
    });
    let calls = json!({ "calls": [call], "next_page_uri": null }).to_string();
    let twilio = Twilio::answering(world_of(1), move |uri, _| {
        let body = if uri.contains(CALL) { &events } else { &calls };
        Some((200, "application/json", body.clone()))
    })
    .await;
    let mut program = Program::polling(&twilio).await;
    let sum = metric("twilio_webhook_request_duration_seconds_sum").label("route", "/usual");
    let requests = metric("twilio_webhook_requests_total");
    eventually("all events are counted", async || {
        requests.is_in(&program.scrape().await, 10.0).then_some(())
    })
    .await;
    let scrape = program.scrape().await;
    assert_eq!(sum.value_in(&scrape), Some(600.143));
    let count = metric("twilio_webhook_request_duration_seconds_count");
    assert_eq!(count.value_in(&scrape), Some(4.0));
    let rejected = metric("twilio_exporter_call_events_rejected_total");
    assert_eq!(rejected.clone().label("reason", "invalid_duration").value_in(&scrape), Some(6.0));
    assert_eq!(rejected.value_in(&scrape), Some(6.0));
    let items = metric("twilio_exporter_call_events_total").label("result", "rejected");
    assert_eq!(items.value_in(&scrape), Some(0.0), "no item is rejected as a whole");
    let lag = metric("twilio_exporter_event_lag_seconds_sum").value_in(&scrape);
    assert!(lag.is_some_and(|lag| lag < 10_000.0), "{lag:?}");
    for _ in 0..2 {
        program = program.kill_and_restart().await;
        // Routes without recent events are removed when the lists are read.
        eventually("lists are read again", async || {
            let passes = metric("twilio_exporter_pass_duration_seconds_count");
            passes.value_in(&program.scrape().await).filter(|passes| *passes >= 2.0)
        })
        .await;
        assert_eq!(program.scrape().await.durable(), scrape.durable());
    }
}

fn event(path: &str, duration: serde_json::Value, created_at: &str) -> serde_json::Value {
    json!({
        "request": {
            "method": "POST",
            "url": format!("https://ivr.example.com{path}"),
            "parameters": { "CallSid": CALL, "CallStatus": "ringing", "Direction": "inbound" },
        },
        "response": {
            "response_code": 200,
            "request_duration": duration,
            "content_type": "text/xml",
            "response_body": "<Response/>",
            "date_created": created_at,
        },
    })
}

fn date(at: Timestamp) -> String {
    at.strftime("%a, %d %b %Y %H:%M:%S +0000").to_string()
}
