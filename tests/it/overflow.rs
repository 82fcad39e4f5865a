//! A host with one path per order uses up its share of routes; all other routes are still counted.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::json;
use twilio_call_exporter::clock::Clock;

use crate::harness::{Program, Twilio, eventually, metric, ongoing_calls};

/// Words that don't look like data, so path segments made of them aren't replaced.
const WORDS: &str = "amber birch cedar delta ember fjord grove heron ivory jolly";

#[tokio::test(flavor = "multi_thread")]
async fn ids_in_paths_of_one_host_do_not_hide_other_hosts_and_the_log_suggests_a_pattern() {
    let stage = Arc::new(AtomicUsize::new(0));
    let now = Arc::clone(&stage);
    let date = Clock::start().now().strftime("%a, %d %b %Y %H:%M:%S +0000").to_string();
    let twilio = Twilio::answering(ongoing_calls(1, 600), move |uri: &str, _| {
        let stage = now.load(Ordering::SeqCst);
        uri.contains("/Events.json").then(|| (200, "application/json", events(stage, &date)))
    })
    .await;
    let program = Program::polling(&twilio).await;
    let overflow = metric("twilio_exporter_route_overflow_total");
    eventually("routes of the host overflow", async || {
        overflow.value_in(&program.scrape().await).filter(|count| *count > 0.0)
    })
    .await;
    let lines = eventually("the overflow is logged", async || {
        let log = program.log();
        let lines = log.lines().filter(|line| line.contains("no room for this route"));
        Some(lines.map(str::to_owned).collect::<Vec<_>>()).filter(|lines| !lines.is_empty())
    })
    .await;
    let [line] = lines.as_slice() else { panic!("{lines:#?}") };
    let line: serde_json::Value = serde_json::from_str(line).expect("a line of JSON");
    let text = line.to_string();
    assert_eq!(line["level"], "WARN", "{text}");
    for expected in [
        r#""host":"orders.example""#,
        r#""route":"/order/"#,
        r#""pattern":"orders.example/order/:name/menu""#,
        "`routes:`",
        "`limits.routes_per_account`",
    ] {
        assert!(text.contains(expected), "{expected}: {text}");
    }
    wait_for_failures_of_new_host(&program, &stage, 1).await;
    let routes = routes_of(&program.scrape().await.text, "orders.example");
    assert_eq!(routes, 80);
    // Both the counters and the used route slots are restored from the store.
    let program = program.kill_and_restart().await;
    wait_for_failures_of_new_host(&program, &stage, 2).await;
    assert_eq!(routes_of(&program.scrape().await.text, "orders.example"), 80);
    // The suggested pattern takes effect immediately.
    let file = program.directory().path().join("exporter.yml");
    let text = std::fs::read_to_string(&file).expect("the configuration");
    std::fs::write(&file, text + "routes: [ 'orders.example/order/:name/menu' ]\n")
        .expect("written");
    program.signal("HUP");
    eventually("the pattern's route is counted", async || {
        let requests = metric("twilio_webhook_requests_total").label("host", "orders.example");
        requests.label("route", "/order/:name/menu").value_in(&program.scrape().await)
    })
    .await;
    wait_for_failures_of_new_host(&program, &stage, 3).await;
}

/// Enters a stage, and waits until the failures of the stage's new host are counted under its own name.
async fn wait_for_failures_of_new_host(program: &Program, stage: &AtomicUsize, number: usize) {
    stage.store(number, Ordering::SeqCst);
    let host = format!("host{number}.example");
    let scrape = eventually("the new host's failures are counted under its own name", async || {
        let scrape = program.scrape().await;
        let failures = metric("twilio_webhook_failures_total").label("host", &host);
        let failures = failures.label("route", "/voice").label("reason", "http_5xx");
        failures.value_in(&scrape).filter(|count| *count > 0.0).map(|_| scrape)
    })
    .await;
    let hidden = metric("twilio_webhook_failures_total").label("host", "other");
    assert!(hidden.value_in(&scrape).is_none_or(|count| count < 0.5), "{hidden:?}");
}

/// Events of requests for two hundred orders on one host, and after stage 0 also a failing request to a
/// host that is new at that stage.
fn events(stage: usize, date: &str) -> String {
    let event = |url: String, code: u16| {
        json!({
            "request": { "method": "POST", "url": url, "parameters": {} },
            "response": {
                "response_code": code,
                "request_duration": 5,
                "content_type": "text/xml",
                "response_body": "<Response/>",
                "date_created": date,
            },
        })
    };
    let words: Vec<&str> = WORDS.split(' ').collect();
    let order =
        |at: usize| format!("{}-{}-{}", words[at % 10], words[at / 10 % 10], words[at / 100]);
    let orders =
        (0..200).map(|at| event(format!("https://orders.example/order/{}/menu", order(at)), 200));
    let failing = (stage > 0).then(|| event(format!("https://host{stage}.example/voice"), 500));
    let events: Vec<_> = orders.chain(failing).collect();
    json!({ "events": events, "next_page_uri": null }).to_string()
}

fn routes_of(text: &str, host: &str) -> usize {
    let requests = text.lines().filter(|line| line.starts_with("twilio_webhook_requests_total{"));
    requests.filter(|line| line.contains(&format!("host=\"{host}\""))).count()
}
