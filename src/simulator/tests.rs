//! Drives the simulator over HTTP, as the exporter does.

use std::collections::{BTreeMap, BTreeSet};

use jiff::SignedDuration;
use serde_json::{Value, json};

use super::*;

/// Long after every call of the catalogue is over.
const LATER: SignedDuration = SignedDuration::from_secs(2_000);

#[tokio::test]
async fn calls_are_paged_by_token_and_filtered() {
    let twilio = Twilio::start(everything()).await;
    let calls = format!("{}/Calls.json", twilio.account_path());
    let whole = twilio.walk(&format!("{calls}?PageSize=1000"), "calls").await;
    let paged = twilio.walk(&format!("{calls}?PageSize=7"), "calls").await;
    assert_eq!(whole, paged);
    let first = twilio.get(&format!("{calls}?PageSize=7")).await.1;
    let last = first["calls"][6]["sid"].as_str().expect("a SID");
    assert_eq!(
        first["next_page_uri"],
        format!("{calls}?PageSize=7&Page=1&PageToken=PA{last}").as_str()
    );
    let busy = twilio.walk(&format!("{calls}?Status=busy&Unknown=1"), "calls").await;
    assert!(busy.len() == 1 && busy[0]["status"] == "busy");
    let later = format!("{calls}?StartTime%3E=2026-11-02T10%3A00%3A30Z&PageSize=20");
    let later = twilio.walk(&later, "calls").await;
    assert!(later.len() > 10 && later.len() < whole.len());
    let (status, error) = twilio.get(&format!("{calls}?StartTime=soon")).await;
    assert_eq!((status, &error["code"]), (400, &json!(20001)));
}

#[tokio::test]
async fn each_credential_gives_access_to_its_accounts() {
    let twilio = Twilio::start(WorldConfig { accounts: 2, subaccounts: 1, ..everything() }).await;
    let accounts = twilio.simulator.accounts();
    let path = |index: usize| format!("/2010-04-01/Accounts/{}.json", accounts[index].account_sid);
    let (parent, sub) = (&accounts[0], &accounts[1]);
    let key = (parent.api_key_sid.as_str(), parent.api_key_secret.as_str());
    let parent = (parent.account_sid.as_str(), parent.auth_token.as_str());
    let sub = (sub.account_sid.as_str(), sub.auth_token.as_str());
    for (credential, index, status) in [
        (parent, 0, 200),
        (parent, 1, 200),
        (parent, 2, 401),
        (key, 0, 200),
        (sub, 1, 200),
        (sub, 0, 401),
        ((sub.0, "wrong"), 1, 401),
    ] {
        assert_eq!(twilio.get_as(credential, &path(index)).await.0, status, "{index}");
    }
    let (_, error) = twilio.get_as(("AC0", "wrong"), &path(0)).await;
    assert_eq!(
        error,
        json!({"code": 20003, "message": "Authenticate", "status": 401,
            "more_info": "https://www.twilio.com/docs/errors/20003"})
    );
    let (_, list) = twilio.get_as(parent, "/2010-04-01/Accounts.json").await;
    assert_eq!(list["accounts"].as_array().expect("a list").len(), 2);
    let (status, error) = twilio.get("/2010-04-01/Accounts/AC1.json").await;
    assert_eq!((status, &error["code"]), (404, &json!(20404)));
    assert!(!format!("{:?}", twilio.simulator).contains(parent.1));
}

#[tokio::test]
async fn the_served_events_add_up_to_the_truth() {
    let twilio = Twilio::start(everything()).await;
    let calls = format!("{}/Calls.json?PageSize=50", twilio.account_path());
    let (mut codes, mut statuses) =
        (BTreeMap::<String, f64>::new(), BTreeMap::<String, f64>::new());
    let (mut pages_of_longest, mut duration_ms) = (0, 0);
    for call in twilio.walk(&calls, "calls").await {
        *statuses.entry(text(&call["status"])).or_default() += 1.0;
        let uri = format!("{}?PageSize=1000", text(&call["subresource_uris"]["events"]));
        let events = twilio.walk(&uri, "events").await;
        pages_of_longest = pages_of_longest.max(events.len().div_ceil(1000));
        for event in events {
            let url = event["request"]["url"].as_str().unwrap_or_default();
            let code = &event["response"]["response_code"];
            let is_bad = !url.starts_with("http") || code.is_string() || code == 999;
            if is_bad || url.contains("/2010-04-01/Accounts/") {
                continue;
            }
            let body = event["response"]["response_body"].as_str().unwrap_or_default();
            let is_answered = code.as_u64().is_some_and(|code| code > 0)
                && !body.starts_with("Twilio was unable to fetch content from");
            let code = if is_answered { code.to_string() } else { "none".to_owned() };
            *codes.entry(code).or_default() += 1.0;
            duration_ms += event["response"]["request_duration"].as_u64().unwrap_or(0);
        }
    }
    let truth = twilio.simulator.truth((twilio.clock)());
    assert!(truth.complete);
    assert_eq!(pages_of_longest, 3);
    for (code, count) in &codes {
        let labels = [("code", code.as_str())];
        assert_eq!(truth.value("twilio_webhook_requests_total", &labels), *count, "{code}");
    }
    assert_eq!(truth.value("twilio_webhook_requests_total", &[]), codes.values().sum::<f64>());
    for (status, count) in &statuses {
        let labels = [("status", status.as_str())];
        assert_eq!(truth.value("twilio_calls_total", &labels), *count, "{status}");
    }
    let seconds = truth.value("twilio_webhook_request_duration_seconds_sum", &[]);
    assert_eq!(
        format!("{seconds:.3}"),
        format!("{}.{:03}", duration_ms / 1000, duration_ms % 1000)
    );
    let (_, served) = twilio.get("/_simulator/truth").await;
    assert_eq!(served["families"].as_array().map(Vec::len), Some(truth.families.len()));
}

#[tokio::test]
async fn the_behaviour_can_be_changed_over_http() {
    let twilio = Twilio::start(everything()).await;
    let account = twilio.account_path();
    let calls = format!("{account}/Calls.json");
    let list = twilio.get(&calls).await.1;
    let events = text(&list["calls"][0]["subresource_uris"]["events"]);
    twilio.set_behaviour(json!({"outage": true})).await;
    assert_eq!(twilio.get(&calls).await.0, 503);
    twilio.set_behaviour(json!({"missing_permission": true})).await;
    let (status, error) = twilio.get(&events).await;
    assert_eq!((status, &error["code"]), (401, &json!(70051)));
    assert_matches_recorded(
        &error,
        "twilio/voice/request-inspector/read",
        "twilio/messaging/messages/list",
    );
    twilio.set_behaviour(json!({"error_rate": 1000})).await;
    let (status, error) = twilio.get(&calls).await;
    assert_eq!(status, 500);
    assert_matches_recorded(&error, "", "");
    twilio.set_behaviour(json!({"max_concurrent": 0})).await;
    let (status, error) = twilio.get(&calls).await;
    assert_eq!((status, &error["code"]), (429, &json!(20429)));
    assert_matches_recorded(&error, "", "");
    twilio.set_behaviour(json!({"truncate_body": 1000})).await;
    assert_eq!(twilio.get(&calls).await, (200, Value::Null));
    twilio
        .set_behaviour(json!({"unauthorized": [twilio.simulator.accounts()[0].account_sid]}))
        .await;
    let (status, error) = twilio.get(&calls).await;
    assert_eq!(status, 401);
    assert_matches_recorded(&error, "", "");
    twilio.set_behaviour(json!({"looping_next_page": true})).await;
    let page = twilio.get(&calls).await.1;
    assert_eq!(page["next_page_uri"], page["uri"]);
    twilio.set_behaviour(json!({"foreign_next_page": true})).await;
    let page = twilio.get(&calls).await.1;
    assert!(text(&page["next_page_uri"]).starts_with("https://elsewhere.example.net/"));
    twilio.set_behaviour(json!({"events_after": 1_000_000})).await;
    assert_eq!(twilio.get(&events).await.1["events"], json!([]));
    twilio.set_behaviour(json!({})).await;
    assert_eq!(twilio.simulator.behaviour(), Behaviour::default());
}

#[tokio::test]
async fn a_missing_call_returns_the_recorded_error() {
    let twilio = Twilio::start(everything()).await;
    let path = format!("{}/Calls/CA{}.json", twilio.account_path(), "0".repeat(32));
    let (status, error) = twilio.get(&path).await;
    assert_eq!(status, 404);
    let recorded = "/2010-04-01/Accounts/AC00000000000000000000000000000001.json";
    assert_matches_recorded(&error, &path, recorded);
}

/// Compares an error with a recorded one of Twilio's, after replacing a word of its message.
fn assert_matches_recorded(error: &Value, word: &str, recorded_word: &str) {
    const RECORDED: &str = include_str!("../../tests/fixtures/twilio/recorded-errors.json");
    let all: Vec<Value> = serde_json::from_str(RECORDED).expect("JSON");
    let mut bodies = all.iter().map(|one| &one["body"]);
    let recorded = bodies.find(|body| body["code"] == error["code"]).expect("a recorded error");
    let message = text(&error["message"]).replace(word, recorded_word);
    assert_eq!((message, &error["status"]), (text(&recorded["message"]), &recorded["status"]));
}

#[tokio::test]
async fn refuses_too_many_concurrent_requests() {
    let twilio = Twilio::start(everything()).await;
    let stall = json!({"permille": 1000, "seconds": 1});
    twilio.set_behaviour(json!({"max_concurrent": 1, "stall": stall})).await;
    let path = format!("{}.json", twilio.account_path());
    let (one, two) = tokio::join!(twilio.get(&path), twilio.get(&path));
    assert_eq!(BTreeSet::from([one.0, two.0]), BTreeSet::from([200, 429]));
    assert_eq!(twilio.get(&path).await.0, 200);
}

#[tokio::test]
async fn serves_only_made_up_phone_numbers() {
    let twilio = Twilio::start(everything()).await;
    let calls = format!("{}/Calls.json?PageSize=1000", twilio.account_path());
    for call in twilio.walk(&calls, "calls").await {
        let uri = format!("{}?PageSize=1000", text(&call["subresource_uris"]["events"]));
        let events = twilio.walk(&uri, "events").await;
        let served = format!("{call}{}", Value::from(events));
        let numbers: Vec<_> = served.split("\"+").skip(1).collect();
        assert!(numbers.len() > 1 && numbers.iter().all(|number| number.starts_with("1500555")));
    }
}

#[tokio::test]
async fn lists_of_several_pages_shift_between_reads() {
    let twilio = Twilio::start(everything()).await;
    let calls = twilio.walk(&format!("{}/Calls.json", twilio.account_path()), "calls").await;
    let uri = |call: &Value| format!("{}?PageSize=1", text(&call["subresource_uris"]["events"]));
    twilio.set_behaviour(json!({"shift_pages": true})).await;
    let mut firsts = BTreeSet::new();
    let call = &calls[0];
    for _ in 0..8 {
        firsts.insert(twilio.get(&uri(call)).await.1["events"].to_string());
    }
    assert!(firsts.len() > 1);
}

#[tokio::test]
async fn every_response_has_twilios_headers_and_a_skewed_date() {
    let twilio = Twilio::start(everything()).await;
    twilio.set_behaviour(json!({"date_skew_seconds": -3600, "outage": true})).await;
    let url = format!("{}{}.json", twilio.base, twilio.account_path());
    let response = twilio.client.get(url).send().await.expect("an answer");
    let header = |name| response.headers()[name].to_str().expect("ASCII").to_owned();
    let skewed = (twilio.clock)() - SignedDuration::from_hours(1);
    assert_eq!(header("date"), skewed.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string());
    assert_eq!(header("content-type"), "application/json");
    assert_eq!(header("twilio-concurrent-requests"), "1");
    assert!(header("twilio-request-id").starts_with("RQ"));
    assert!(header("twilio-request-duration").parse::<f64>().is_ok());
}

struct Twilio {
    simulator: Simulator,
    clock: Clock,
    base: String,
    client: reqwest::Client,
}

impl Twilio {
    /// Serves a world that started some time ago; its clock stands still.
    async fn start(config: WorldConfig) -> Twilio {
        // Another test may have installed it already.
        _ = rustls::crypto::ring::default_provider().install_default();
        let start: Timestamp = "2026-11-02T10:00:00Z".parse().expect("a time");
        let started: Clock = Arc::new(move || start);
        let clock: Clock = Arc::new(move || start + LATER);
        let world = World::new(config, started());
        let shared = Arc::new(Shared::new(world, Arc::clone(&clock)));
        let simulator = Simulator { shared };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let base = format!("http://{}", listener.local_addr().expect("an address"));
        let router = simulator.router();
        tokio::spawn(async move { axum::serve(listener, router).await });
        let client = reqwest::Client::builder().no_proxy().build().expect("a client");
        Twilio { simulator, clock, base, client }
    }

    fn account_path(&self) -> String {
        format!("/2010-04-01/Accounts/{}", self.simulator.accounts()[0].account_sid)
    }

    async fn get(&self, path: &str) -> (u16, Value) {
        let account = &self.simulator.accounts()[0];
        self.get_as((&account.account_sid, &account.auth_token), path).await
    }

    /// Returns the status and the JSON; null if the body isn't JSON.
    async fn get_as(&self, (user, password): (&str, &str), path: &str) -> (u16, Value) {
        let request = self.client.get(format!("{}{path}", self.base));
        let response = request.basic_auth(user, Some(password)).send().await.expect("an answer");
        let status = response.status().as_u16();
        let body = response.text().await.expect("a body");
        (status, serde_json::from_str(&body).unwrap_or(Value::Null))
    }

    /// Returns all items of a list, following its next pages.
    async fn walk(&self, path: &str, key: &str) -> Vec<Value> {
        let (mut items, mut next) = (Vec::new(), Some(path.to_owned()));
        while let Some(path) = next {
            let (status, page) = self.get(&path).await;
            assert_eq!(status, 200, "{path}");
            items.extend(page[key].as_array().expect("a list").iter().cloned());
            next = page["next_page_uri"].as_str().map(str::to_owned);
        }
        items
    }

    async fn set_behaviour(&self, behaviour: Value) {
        let url = format!("{}/_simulator/behaviour", self.base);
        let response = self.client.post(url).body(behaviour.to_string()).send().await;
        assert_eq!(response.expect("an answer").status(), 200);
    }
}

fn everything() -> WorldConfig {
    WorldConfig {
        mix: Mix::Everything,
        calls_per_minute: 60.0,
        max_calls: Some(Mix::Everything.scenario_count()),
        ..WorldConfig::default()
    }
}

fn text(value: &Value) -> String {
    value.as_str().expect("a string").to_owned()
}
