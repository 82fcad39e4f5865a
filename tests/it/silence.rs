//! A problem that keeps the program from reading is logged once with its cause, and once when it ends.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use serde_json::Value;
use tempfile::TempDir;
use twilio_call_exporter::simulator::{Behaviour, WorldConfig};

use crate::harness::{Program, Twilio, eventually, metric, ongoing_calls, world_of};

const SID: &str = "AC00000000000000000000000000000001";
const CANNOT_READ: &str = "cannot read from Twilio";
const CAN_READ: &str = "can read from Twilio again";

/// Status, content type and body of a response, then the expected reason and log text.
type Case = (u16, &'static str, &'static str, &'static str, &'static str);

const ANSWERS: [Case; 8] = [
    (
        500,
        "application/json",
        r#"{"code":20500,"message":"Internal Server Error","status":500}"#,
        "server_error",
        "Twilio failed (HTTP 500, Twilio error 20500)",
    ),
    (
        503,
        "text/html",
        "<html>Sorry</html>",
        "server_error",
        "(HTTP 503): the response has no Twilio error code, so it may come from a proxy",
    ),
    (
        200,
        "text/html",
        "<html>Sign in</html>",
        "malformed",
        "(HTTP 200, content type `html`): a proxy, gateway or login page may have answered",
    ),
    (
        401,
        "application/json",
        r#"{"code":20003,"message":"Authenticate","status":401}"#,
        "unauthorized",
        "(HTTP 401, Twilio error 20003): check the Account SID and the auth token",
    ),
    (
        403,
        "application/json",
        r#"{"code":"20005","message":"Account not active","status":403}"#,
        "account_not_active",
        "the account is not active (HTTP 403, Twilio error 20005): it is suspended or closed",
    ),
    (
        401,
        "application/json",
        r#"{"code":70051,"message":"Authorization Error: required permission twilio/voice/calls/list is missing","status":401}"#,
        "missing_permission",
        "the API key lacks the permission `/twilio/voice/calls/list` (HTTP 401, Twilio error 70051)",
    ),
    (
        401,
        "application/json",
        r#"{"code":70051,"message":"+15005550006 may not","status":401}"#,
        "missing_permission",
        "lists of calls need `/twilio/voice/calls/list`",
    ),
    (
        400,
        "application/json",
        r#"{"code":20001,"message":"+15005550006","status":400}"#,
        "unexpected_status",
        "(HTTP 400, Twilio error 20001): see https://www.twilio.com/docs/errors/20001",
    ),
];

#[tokio::test(flavor = "multi_thread")]
async fn logs_the_cause_of_each_response_that_is_not_a_list() {
    for (status, kind, body, reason, text) in ANSWERS {
        let answer =
            move |uri: &str, _| uri.contains("/Calls.json").then_some((status, kind, body));
        let twilio = Twilio::answering(world_of(2), answer).await;
        let program = Program::polling(&twilio).await;
        let line = logged_line(&program, CANNOT_READ, "calls").await;
        assert_eq!(line["reason"], reason);
        assert!(line["error"].as_str().is_some_and(|error| error.contains(text)), "{line}");
        let counted = metric("twilio_exporter_api_retries_total").label("reason", reason);
        assert!(counted.value_in(&program.scrape().await).is_some_and(|count| count > 0.0));
        let (_, page) = program.get("/").await;
        assert!(page.contains("lists of calls have been unreadable for"), "{page}");
        assert!(page.contains(text), "{text}: {page}");
        assert!(!program.log().contains("5005550006") && !page.contains("5005550006"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn logs_a_problem_once_and_its_end_with_the_duration() {
    let broken = Arc::new(AtomicUsize::new(usize::MAX));
    let is_broken = Arc::clone(&broken);
    let answer = move |_: &str, _| {
        let left = is_broken.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1));
        left.is_ok().then_some((500, "application/json", "{}"))
    };
    let twilio = Twilio::answering(world_of(5), answer).await;
    let mut program = Program::polling(&twilio).await;
    eventually("there were three attempts", async || (twilio.requests() >= 3).then_some(())).await;
    broken.store(0, Ordering::SeqCst);
    let line = logged_line(&program, CAN_READ, "calls").await;
    assert!(line["lasted_seconds"].as_u64().is_some_and(|seconds| seconds < 60), "{line}");
    twilio.wait_until_counted_by(&mut program).await;
    let (_, page) = program.get("/").await;
    assert!(!page.contains("not readable"), "{page}");
    assert_eq!(lines(&program, CANNOT_READ).len(), 1, "{}", program.log());
    assert_eq!(lines(&program, CAN_READ).len(), 1, "{}", program.log());
    // A single failed request isn't logged.
    let before = twilio.requests();
    broken.store(1, Ordering::SeqCst);
    eventually("a request has failed and others have succeeded", async || {
        (twilio.requests() > before + 5).then_some(())
    })
    .await;
    assert_eq!(lines(&program, CANNOT_READ).len(), 1, "{}", program.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn logs_an_unreadable_later_page_although_the_first_is_readable() {
    let answer = |uri: &str, _| {
        let is_later = uri.contains("/Calls.json") && uri.contains("&Page=2");
        if is_later {
            return Some((500, "application/json", r#"{"code":20500}"#.to_owned()));
        }
        let page: u32 = uri.split_once("&Page=").map_or(0, |(_, page)| page.parse().unwrap_or(0));
        let path = uri.split('?').next().filter(|path| path.ends_with("/Calls.json"))?;
        let next = format!("{path}?PageSize=1000&Page={}", page + 1);
        let calls = format!(r#"[{{"sid":"CA{:032}","status":"in-progress"}}]"#, page + 1);
        Some((200, "application/json", format!(r#"{{"calls":{calls},"next_page_uri":"{next}"}}"#)))
    };
    let twilio = Twilio::answering(world_of(1), answer).await;
    let program = Program::polling(&twilio).await;
    let line = logged_line(&program, CANNOT_READ, "calls").await;
    assert_eq!(line["reason"], "server_error");
    let so_far = twilio.requests();
    eventually("further lists fail", async || (twilio.requests() > so_far + 6).then_some(())).await;
    let logged: Vec<Value> = lines(&program, CANNOT_READ)
        .into_iter()
        .filter(|line| line["resource"] == "calls")
        .collect();
    assert_eq!(logged.len(), 1, "{logged:?}");
    assert!(!lines(&program, CAN_READ).iter().any(|line| line["resource"] == "calls"));
}

#[tokio::test(flavor = "multi_thread")]
async fn logs_events_and_accounts_separately_from_lists() {
    let answer = |uri: &str, _| {
        let is_refused = uri.contains("/Events.json") || uri.contains("/Accounts.json");
        is_refused.then_some((401, "application/json", r#"{"code":20003}"#))
    };
    let world = WorldConfig { subaccounts: 1, ..ongoing_calls(1, 50) };
    let twilio = Twilio::answering(world, answer).await;
    let parent = twilio.accounts()[0].clone();
    let text = format!(
        "accounts: [ {{ name: prod, account_sid: {}, auth_token_env: TOKEN, base_url: '{}', subaccounts: {{ discover: true }} }} ]\npoll: {{ interval: 1s, after_end: [1s], settle_delay: 3s }}\n",
        parent.account_sid,
        twilio.url()
    );
    let program = Program::configured(&text, &[("TOKEN", &parent.auth_token)]).await;
    let events = logged_line(&program, CANNOT_READ, "call_events").await;
    assert_eq!((&events["account"], &events["reason"]), (&"prod".into(), &"unauthorized".into()));
    let accounts = logged_line(&program, CANNOT_READ, "accounts").await;
    let text = accounts["error"].as_str().expect("a text");
    assert!(text.contains("only an auth token or a Main API key can list subaccounts"), "{text}");
    let (_, page) = program.get("/").await;
    for expected in
        ["prod: Call Events have been unreadable for", "prod: subaccounts have been unreadable for"]
    {
        assert!(page.contains(expected), "{page}");
    }
    assert!(!page.contains("lists of calls not readable"), "{page}");
    assert_eq!(lines(&program, CANNOT_READ).len(), 2, "{}", program.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn logs_the_end_of_a_problem_with_events() {
    let is_broken = Arc::new(AtomicBool::new(true));
    let broken = Arc::clone(&is_broken);
    let answer = move |uri: &str, _| {
        let is_hit = uri.contains("/Events.json") && broken.load(Ordering::SeqCst);
        is_hit.then_some((500, "application/json", r#"{"code":20500}"#))
    };
    let twilio = Twilio::answering(world_of(20), answer).await;
    let mut program = Program::polling(&twilio).await;
    assert_eq!(logged_line(&program, CANNOT_READ, "call_events").await["reason"], "server_error");
    is_broken.store(false, Ordering::SeqCst);
    assert!(logged_line(&program, CAN_READ, "call_events").await["lasted_seconds"].is_u64());
    twilio.wait_until_counted_by(&mut program).await;
    let (_, page) = program.get("/").await;
    assert!(!page.contains("Call Events not readable"), "{page}");
    assert_eq!(lines(&program, CANNOT_READ).len(), 1, "{}", program.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn one_unreadable_call_is_not_a_problem_of_the_account() {
    let odd = Arc::new(std::sync::OnceLock::new());
    let answer = move |uri: &str, _| {
        let call = uri.split("/Calls/").nth(1)?.split_once("/Events.json")?.0.to_owned();
        let is_odd = *odd.get_or_init(|| call.clone()) == call;
        is_odd.then_some((500, "application/json", r#"{"code":20500}"#))
    };
    let twilio = Twilio::answering(world_of(60), answer).await;
    let program = Program::polling(&twilio).await;
    eventually("the others are settled", async || {
        let reads = metric("twilio_exporter_call_reads_total").label("stage", "settling");
        let scrape = program.scrape().await;
        let found = reads.label("result", "found").value_in(&scrape)?;
        (found >= 50.0).then_some(())
    })
    .await;
    assert!(lines(&program, CANNOT_READ).len() <= 1, "{}", program.log());
    assert_eq!(lines(&program, CANNOT_READ).len(), lines(&program, CAN_READ).len());
}

#[tokio::test(flavor = "multi_thread")]
async fn logs_why_twilio_cannot_be_reached() {
    for (url, reason, text) in [
        ("http://127.0.0.1:9", "connection_refused", "cannot connect: connection refused: check"),
        ("https://api.twilio.com.invalid", "dns", "the host name can't be resolved: check"),
    ] {
        let variables = [
            ("TWILIO_ACCOUNT_SID", SID),
            ("TWILIO_AUTH_TOKEN", "made-up"),
            ("TWILIO_API_BASE_URL", url),
            ("TWILIO_EXPORTER_POLL__INTERVAL", "1s"),
        ];
        let variables: BTreeMap<String, String> = variables
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        let directory = Arc::new(TempDir::new().expect("a directory"));
        let program = Program::start(directory, variables, Vec::new()).await;
        let line = logged_line(&program, CANNOT_READ, "calls").await;
        assert_eq!(line["reason"], reason);
        assert!(line["error"].as_str().is_some_and(|error| error.contains(text)), "{line}");
        let retries = metric("twilio_exporter_api_retries_total").label("reason", reason);
        assert!(retries.value_in(&program.scrape().await).is_some_and(|retries| retries > 0.0));
        let (_, page) = program.get("/").await;
        assert!(page.replace("&#39;", "'").contains(text), "{page}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn logs_again_when_the_cause_changes() {
    let twilio = Twilio::serving(world_of(2)).await;
    twilio.set_behaviour(Behaviour { outage: true, ..Behaviour::default() });
    let program = Program::polling(&twilio).await;
    assert_eq!(logged_line(&program, CANNOT_READ, "calls").await["reason"], "server_error");
    let refused = twilio.accounts().iter().map(|one| one.account_sid.clone()).collect();
    twilio.set_behaviour(Behaviour { unauthorized: refused, ..Behaviour::default() });
    eventually("the new cause is logged", async || {
        lines(&program, CANNOT_READ)
            .iter()
            .any(|line| line["reason"] == "unauthorized")
            .then_some(())
    })
    .await;
    assert!(lines(&program, CAN_READ).is_empty());
}

/// Waits for the first log line with this message about a resource.
async fn logged_line(program: &Program, message: &str, resource: &str) -> Value {
    eventually(&format!("{message}: {resource}"), async || {
        lines(program, message).into_iter().find(|line| line["resource"] == resource)
    })
    .await
}

/// The fields of all log lines with this message.
fn lines(program: &Program, message: &str) -> Vec<Value> {
    let log = program.log();
    let parsed = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let with = parsed.filter(|line| {
        let fields = line.get("fields").unwrap_or(line);
        fields["message"] == message
    });
    with.map(|line| line.get("fields").cloned().unwrap_or(line)).collect()
}
