//! Tests of the HTML and JSON responses: fields, links, escaping and errors.

use std::collections::BTreeMap;

use super::*;
use crate::domain::judge::kind::RequestKind;
use crate::domain::judge::route::Endpoint;
use crate::domain::judge::verdict::{Code, Reason};
use crate::domain::words::error_log::{ErrorCode, Level};
use crate::domain::words::sid::CallSid;
use crate::store::failures::FailureFilter;
use jiff::Timestamp;

/// Text that, unless escaped, ends an attribute, an element and a line.
const HOSTILE: &str = "/\"'><script>alert(1)</script>&amp;\\\n\u{0}\u{1b}\u{202e}\u{fffd}";

#[test]
fn json_has_exactly_the_documented_fields() {
    let mut unanswered = failure("/a", 40);
    unanswered.code = Code::NONE;
    unanswered.duration_ms = None;
    let fields = failure_json(&failure("/a", 0));
    let expected = json!({
        "time": "2023-11-14T22:13:20Z", "account": "prod", "host": "h", "route": "/a",
        "kind": "voice_url", "code": "502", "reason": "http_5xx", "duration_seconds": 0.143,
        "call_sid": "CA00000000000000000000000000000009",
    });
    assert_eq!(fields, expected);
    let fields = failure_json(&unanswered);
    assert_eq!((&fields["code"], &fields["duration_seconds"]), (&json!("none"), &Value::Null));
}

#[test]
fn rows_show_every_field_and_labels_link_to_filtered_lists() {
    let page = page_of("account=prod&limit=5", vec![failure("/a", 0)], 1);
    for expected in [
        "<time datetime=\"2023-11-14T22:13:20Z\">2023-11-14 22:13:20</time> <span class=\"age\">40 s ago",
        "<a href=\"failures?account=prod&amp;host=h&amp;limit=5\">h</a>",
        "<a href=\"failures?account=prod&amp;route=%2Fa&amp;limit=5\">/a</a>",
        "<a href=\"failures?account=prod&amp;kind=voice_url&amp;limit=5\">voice_url</a>",
        "href=\"failures?account=prod&amp;reason=http_5xx&amp;limit=5\">http_5xx</a>",
        "data-label=\"Code\">502</td>",
        "143 ms",
        "<a href=\"https://www.twilio.com/console/voice/calls/logs/CA00000000000000000000000000000009\" rel=\"noreferrer noopener\">CA00000000000000000000000000000009</a>",
        "<a href=\"failures.json?account=prod&amp;limit=5\">JSON</a>",
        "<a href=\"./\">Overview</a>",
        "<option value=\"prod\" selected>prod</option>",
        "1 failing request.",
    ] {
        assert!(page.contains(expected), "{expected} in {page}");
    }
    assert!(!page.contains("Older"));
}

#[test]
fn error_log_entries_have_their_own_section_with_explained_codes() {
    let mut unknown = report("/b", 30);
    (unknown.code, unknown.call_sid) = (ErrorCode::Other, None);
    let reported = vec![unknown, report("/a", 0)];
    let found = RecentFailures { reported, ..RecentFailures::default() };
    let page = page::found(&query::all(), &found, &[], at(40)).into_string();
    for expected in [
        "<h2>Reported by Twilio's error log</h2>",
        "40 s ago",
        "<a class=\"bad\" href=\"https://www.twilio.com/docs/api/errors/12300\" rel=\"noreferrer noopener\">12300</a> <span class=\"detail\">a content type that Twilio doesn't accept</span>",
        "calls/logs/CA00000000000000000000000000000008",
        "unknown",
        "No failing request is recorded.",
    ] {
        assert!(page.contains(expected), "{expected} in {page}");
    }
    assert!(!page.contains("Counted from Call Events"), "{page}");
    let expected = json!({
        "time": "2023-11-14T22:13:20Z", "account": "prod", "host": "h", "route": "/a",
        "error_code": "12300", "level": "error", "call_sid": "CA00000000000000000000000000000008",
    });
    assert_eq!(report_json(&report("/a", 0)), expected);
}

#[test]
fn links_to_calls_of_other_regions_name_the_region() {
    let mut elsewhere = failure("/a", 0);
    elsewhere.region = "ie1".to_owned();
    let page = page_of("", vec![elsewhere], 1);
    assert!(page.contains("CA00000000000000000000000000000009?x-target-region=ie1\""), "{page}");
}

#[test]
fn truncated_results_say_so_and_link_to_older_ones() {
    let page = page_of("limit=2", vec![failure("/a", 2), failure("/a", 1)], 431);
    assert!(page.contains("The newest 2 of 431."), "{page}");
    let older = "<a href=\"failures?to=2023-11-14T22%3A13%3A21Z&amp;limit=2\">Older</a>";
    assert!(page.contains(older), "{page}");
}

#[test]
fn empty_results_are_explained() {
    let page = page_of("", Vec::new(), 0);
    assert!(page.contains("No failing request is recorded.") && page.contains("15 minutes"));
    let page = page_of("route=/nowhere", Vec::new(), 0);
    assert!(page.contains("matches these filters") && page.contains("value=\"/nowhere\""));
}

#[test]
fn the_form_keeps_all_values_of_a_repeated_parameter() {
    let query = "host=a&host=b&kind=voice_url&kind=dial_action&account=gone";
    let page = page_of(query, Vec::new(), 0);
    for expected in [
        "<input name=\"host\" value=\"a\"",
        "<input name=\"host\" value=\"b\"",
        "<option value=\"voice_url\" selected>",
        "<option value=\"dial_action\" selected>",
        "<option value=\"gone\" selected>",
    ] {
        assert!(page.contains(expected), "{expected} in {page}");
    }
}

#[test]
fn labels_and_queries_are_escaped() {
    let pages = |text: &str| {
        let text = text.to_owned();
        let mut failure = failure(&text, 0);
        failure.endpoint.host = text.clone();
        failure.account = text.clone();
        let mut reported = report(&text, 0);
        reported.endpoint.host = text.clone();
        reported.account = text.clone();
        let filter = FailureFilter {
            accounts: vec![text.clone()],
            hosts: vec![text.clone()],
            routes: vec![text.clone()],
            ..query::all()
        };
        let found = RecentFailures { failures: vec![failure], total: 2, reported: vec![reported] };
        let problems = [format!("found `{text}`")];
        [
            page::found(&filter, &found, &[text], at(40)).into_string(),
            page::refusal(StatusCode::BAD_REQUEST, &problems).into_string(),
        ]
    };
    for (hostile, harmless) in pages(HOSTILE).iter().zip(pages("harmless")) {
        assert!(!hostile.contains("<script") && !hostile.contains("\"'>"), "{hostile}");
        assert_eq!(elements(hostile), elements(&harmless), "{hostile}");
    }
}

#[test]
fn store_errors_are_reported_without_internal_details() {
    for error in
        [ReadError::Timeout, ReadError::Failed("/secret/path".to_owned()), ReadError::Closed]
    {
        let text = explain(&error);
        assert!(!text.contains("secret"), "{text}");
        let response = refusal(StatusCode::SERVICE_UNAVAILABLE, &[text.to_owned()], Format::Page);
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(response.headers()[header::CACHE_CONTROL], "no-store");
    }
}

pub(super) fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_700_000_000 + second).expect("an instant")
}

pub(super) fn failure(route: &str, second: i64) -> RecentFailure {
    RecentFailure {
        at: at(second),
        account: "prod".to_owned(),
        region: "us1".to_owned(),
        endpoint: Endpoint { host: "h".to_owned(), route: route.to_owned() },
        kind: RequestKind::VoiceUrl,
        code: Code::from_status(502).expect("a code"),
        reason: Reason::Http5xx,
        malformation: None,
        duration_ms: Some(143),
        call_sid: CallSid::parse("CA00000000000000000000000000000009").expect("a SID"),
    }
}

fn report(route: &str, second: i64) -> RecentReport {
    RecentReport {
        at: at(second),
        account: "prod".to_owned(),
        region: "us1".to_owned(),
        endpoint: Endpoint { host: "h".to_owned(), route: route.to_owned() },
        code: ErrorCode::Number(12_300),
        level: Level::Error,
        call_sid: CallSid::parse("CA00000000000000000000000000000008").ok(),
    }
}

fn page_of(query: &str, failures: Vec<RecentFailure>, total: usize) -> String {
    let filter = query::parse(query).expect("a filter");
    let found = RecentFailures { failures, total, reported: Vec::new() };
    page::found(&filter, &found, &["prod".to_owned()], at(40)).into_string()
}

/// Counts the start and end tags by name.
fn elements(page: &str) -> BTreeMap<String, usize> {
    let mut elements = BTreeMap::new();
    for (at, _) in page.match_indices('<') {
        let name: String =
            page[at + 1..].chars().take_while(|c| !c.is_whitespace() && *c != '>').collect();
        *elements.entry(name).or_default() += 1;
    }
    elements
}
