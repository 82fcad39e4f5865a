//! Subaccounts after a restart: they are shown immediately, and their new series start at 0.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use twilio_call_exporter::clock::Clock;
use twilio_call_exporter::simulator::WorldConfig;

use crate::harness::{Program, Scrape, Twilio, eventually, metric, world_of};

/// The value of `limits.hold_back`.
const HOLD_BACK: Duration = Duration::from_secs(2);

#[tokio::test(flavor = "multi_thread")]
async fn known_subaccounts_are_shown_and_polled_while_they_cannot_be_listed() {
    let switches = Arc::<Switches>::default();
    let twilio = twilio(Arc::clone(&switches)).await;
    let subaccount = twilio.accounts()[1].account_sid.clone();
    let program = start(&twilio).await;
    let before = counted(&program, &subaccount).await;
    // A failure on a new route, which isn't scraped before the program is killed.
    switches.new_calls.store(1, Ordering::SeqCst);
    recorded(&program, "/new-1").await;
    switches.cannot_list.store(true, Ordering::SeqCst);
    let program = program.kill_and_restart().await;
    let first = program.scrape().await;
    first.assert_not_below(&before);
    assert!(calls_of(&before, &subaccount) > 0.0);
    let failures = |route: &str| {
        let failures = metric("twilio_webhook_failures_total").label("account", &subaccount);
        failures.label("route", route).label("reason", "http_5xx")
    };
    assert_eq!(failures("/new-1").value_in(&first), Some(0.0));
    eventually("the failure is shown", async || {
        failures("/new-1").is_in(&program.scrape().await, 1.0).then_some(())
    })
    .await;
    // The subaccount is also polled: new series start at 0, however late the first scrape is.
    switches.new_calls.store(2, Ordering::SeqCst);
    recorded(&program, "/new-2").await;
    let since = Instant::now();
    eventually("the hold-back has passed", async || {
        (since.elapsed() > 2 * HOLD_BACK).then_some(())
    })
    .await;
    assert_eq!(failures("/new-2").value_in(&program.scrape().await), Some(0.0));
    eventually("the failure is shown", async || {
        failures("/new-2").is_in(&program.scrape().await, 1.0).then_some(())
    })
    .await;
    eventually("the failure to list subaccounts is logged", async || {
        program
            .log()
            .contains("\"resource\":\"accounts\",\"reason\":\"server_error\"")
            .then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_request_does_not_count_as_a_scrape() {
    let switches = Arc::<Switches>::default();
    let twilio = twilio(Arc::clone(&switches)).await;
    let program = start(&twilio).await;
    let http = reqwest::Client::builder().no_proxy().build().expect("a client");
    let send_head = async || {
        let head = http.head(format!("http://{}/metrics", program.address())).send().await;
        assert_eq!(head.expect("an answer").status(), 200);
    };
    let failures = |route| metric("twilio_webhook_failures_total").label("route", route);
    send_head().await;
    switches.new_calls.store(1, Ordering::SeqCst);
    recorded(&program, "/new-1").await;
    let first = failures("/new-1").value_in(&program.scrape().await);
    assert_eq!(first, Some(2.0), "nothing is held back before the first scrape");
    switches.new_calls.store(2, Ordering::SeqCst);
    recorded(&program, "/new-2").await;
    let since = Instant::now();
    eventually("the hold-back has passed", async || {
        send_head().await;
        (since.elapsed() > 2 * HOLD_BACK).then_some(())
    })
    .await;
    assert_eq!(failures("/new-2").value_in(&program.scrape().await), Some(0.0));
    eventually("the failure is shown", async || {
        failures("/new-2").is_in(&program.scrape().await, 2.0).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_applies_subaccount_filters_and_names() {
    let switches = Arc::<Switches>::default();
    let twilio = twilio(Arc::clone(&switches)).await;
    let subaccount = twilio.accounts()[1].account_sid.clone();
    let mut program = start(&twilio).await;
    let before = counted(&program, &subaccount).await;
    switches.cannot_list.store(true, Ordering::SeqCst);
    let named = format!(", names: {{ {subaccount}: acme }}");
    for (settings, shown) in [
        (named.as_str(), Some("acme")),
        (", exclude: [ 'AC*' ]", None),
        (", include: [ 'nothing' ]", None),
        ("", Some(subaccount.as_str())),
    ] {
        let path = program.directory().path().join("exporter.yml");
        std::fs::write(path, configuration(&twilio, settings)).expect("written");
        program = program.stop_and_restart().await.1;
        let scrape = program.scrape().await;
        for label in ["acme", &subaccount] {
            let expected = (shown == Some(label)).then(|| calls_of(&before, &subaccount));
            let calls = metric("twilio_calls_total").label("account", label);
            assert_eq!(calls.value_in(&scrape), expected, "{label} {settings}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subaccount_is_removed_only_after_a_complete_list() {
    let switches = Arc::<Switches>::default();
    let twilio = twilio(Arc::clone(&switches)).await;
    let [parent, subaccount] = &twilio.accounts()[..] else { panic!("two accounts") };
    let mut program = start(&twilio).await;
    counted(&program, &subaccount.account_sid).await;
    let parent = format!("{{\"sid\":\"{}\",\"status\":\"active\"}}", parent.account_sid);
    for (items, next_page, is_kept) in [
        (format!("{parent},42"), "null", true),
        (parent.clone(), "\"/2010-04-01/Accounts.json?Page=1\"", true),
        (parent.clone(), "\"https://elsewhere.example/2010-04-01/Accounts.json\"", true),
        (parent, "null", false),
    ] {
        *switches.list.lock().expect("no panic") =
            format!("{{\"accounts\":[{items}],\"next_page_uri\":{next_page}}}");
        program = program.stop_and_restart().await.1;
        let calls = metric("twilio_calls_total").label("account", &subaccount.account_sid);
        let passes = metric("twilio_exporter_pass_duration_seconds_count");
        eventually("the account list and then calls have been read", async || {
            let scrape = program.scrape().await;
            let asked = metric("twilio_exporter_api_requests_total").label("resource", "accounts");
            let is_read = asked.value_in(&scrape).is_some_and(|asked| asked >= 1.0)
                && passes.value_in(&scrape).is_some_and(|passes| passes >= 4.0);
            (is_read && calls.value_in(&scrape).is_some() == is_kept).then_some(())
        })
        .await;
        assert_eq!(program.log().contains("subaccount gone"), !is_kept, "{items} {next_page}");
    }
}

/// Switches for the behaviour of Twilio in a test.
#[derive(Default)]
struct Switches {
    /// Whether the list of accounts fails.
    cannot_list: AtomicBool,
    /// The response to list requests for accounts; if empty, the simulator responds.
    list: Mutex<String>,
    /// The number of additional calls of each account; each fails on its own route.
    new_calls: AtomicUsize,
}

/// A Twilio with a parent account and one subaccount.
async fn twilio(switches: Arc<Switches>) -> Twilio {
    let world = WorldConfig { subaccounts: 1, ..world_of(10) };
    let ended_at = Clock::start().now();
    Twilio::answering(world, move |uri, _| {
        if uri.starts_with("/2010-04-01/Accounts.json")
            && switches.cannot_list.load(Ordering::SeqCst)
        {
            return Some((503, "text/plain", String::new()));
        }
        let list = switches.list.lock().expect("no panic").clone();
        if uri.starts_with("/2010-04-01/Accounts.json") && !list.is_empty() {
            return Some((200, "application/json", list));
        }
        let new_calls = switches.new_calls.load(Ordering::SeqCst);
        if let Some(number) = (1..=new_calls).find(|number| uri.contains(&new_call(*number))) {
            return Some((200, "application/json", events(number, ended_at)));
        }
        let is_list = new_calls > 0 && uri.contains("/Calls.json");
        is_list.then(|| (200, "application/json", calls(new_calls, ended_at)))
    })
    .await
}

fn new_call(number: usize) -> String {
    format!("CA{number:032}")
}

fn calls(count: usize, ended_at: Timestamp) -> String {
    let call = |number| {
        serde_json::json!({
            "sid": new_call(number),
            "status": "completed",
            "direction": "inbound",
            "start_time": date(ended_at - SignedDuration::from_secs(1)),
            "end_time": date(ended_at),
        })
    };
    let calls: Vec<_> = (1..=count).map(call).collect();
    serde_json::json!({ "calls": calls, "next_page_uri": null }).to_string()
}

fn events(number: usize, ended_at: Timestamp) -> String {
    let call = new_call(number);
    let event = serde_json::json!({
        "request": {
            "method": "POST",
            "url": format!("https://ivr.example.com/new-{number}"),
            "parameters": { "CallSid": call, "CallStatus": "ringing", "Direction": "inbound" },
        },
        "response": {
            "response_code": 500,
            "request_duration": 40,
            "content_type": "text/plain",
            "response_body": "",
            "date_created": date(ended_at + SignedDuration::from_secs(30)),
        },
    });
    serde_json::json!({ "events": [event], "next_page_uri": null }).to_string()
}

fn date(at: Timestamp) -> String {
    at.strftime("%a, %d %b %Y %H:%M:%S +0000").to_string()
}

/// Waits until the failures of both accounts on a route have been counted, without scraping.
async fn recorded(program: &Program, route: &str) {
    eventually("the new failures are recorded", async || {
        let (_, text) = program.get(&format!("/failures.json?route={route}")).await;
        let page: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        (page["failures"].as_array().map(Vec::len) == Some(2)).then_some(())
    })
    .await;
}

async fn start(twilio: &Twilio) -> Program {
    let token = &twilio.accounts()[0].auth_token;
    Program::configured(&configuration(twilio, ""), &[("TOKEN", token)]).await
}

fn configuration(twilio: &Twilio, settings: &str) -> String {
    format!(
        "accounts:\n  - {{ account_sid: {}, auth_token_env: TOKEN, base_url: '{}', subaccounts: {{ discover: true{settings} }} }}\n\
         poll: {{ interval: 1s, after_end: [1s], settle_delay: 3s }}\nlimits: {{ hold_back: {}s }}\n",
        twilio.accounts()[0].account_sid,
        twilio.url(),
        HOLD_BACK.as_secs()
    )
}

/// Waits until all calls of a subaccount have been counted.
async fn counted(program: &Program, subaccount: &str) -> Scrape {
    eventually("the subaccount's calls are settled", async || {
        let scrape = program.scrape().await;
        (calls_of(&scrape, subaccount) >= 10.0).then_some(scrape)
    })
    .await
}

fn calls_of(scrape: &Scrape, account: &str) -> f64 {
    metric("twilio_calls_total").label("account", account).value_in(scrape).unwrap_or(0.0)
}
