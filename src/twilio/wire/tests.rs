//! Twilio's own examples, and malformed variants.

mod judged;
mod outcomes;

use super::*;
use crate::domain::judge::observe::Observation;
use crate::domain::judge::route::Routes;
use crate::domain::track::digest::{DigestKey, DigestVersion, Digests};
use crate::domain::track::reading::Item;

macro_rules! fixture {
    ($name:literal) => {
        include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/twilio/", $name))
    };
}

mod alerts;

#[test]
fn decodes_the_call_events_in_the_specification() {
    for page in
        [fixture!("oai-call-events.example.readFull.json"), fixture!("docs-call-events-page.json")]
    {
        let page = Page::split(page).expect("a page");
        let event = decode_call_event(&page.items[0]).expect("an event");
        let response = event.response.as_ref().expect("a response");
        assert_eq!((response.code, response.duration_ms), (Some(201), Some(50)));
        assert_eq!(response.created_at, parse_date("Tue, 11 Aug 2020 17:44:08 GMT"));
        assert!(event.request.parameters.names().any(|name| name == b"accountsid"));
        let item = Item::judge(&event, call(), digests(), &Routes::default());
        assert_eq!(item.observed.expect("observed").kind.as_str(), "api_request");
    }
    let empty = Page::split(fixture!("oai-call-events.example.readEmpty.json")).expect("a page");
    assert_eq!((empty.items.len(), empty.next_page), (0, None));
}

#[test]
fn decodes_the_calls_in_the_specification() {
    let page = Page::split(fixture!("oai-calls.example.readFullPage1.json")).expect("a page");
    let calls: Vec<Call> = page.items.iter().filter_map(decode_call).collect();
    assert_eq!(calls.len(), 2);
    assert_eq!(calls[0].status, CallStatus::Completed);
    assert_eq!(calls[0].direction, Direction::OutboundApi);
    assert_eq!(calls[0].end_time, parse_date("Fri, 18 Oct 2019 17:03:00 +0000"));
    assert!(page.next_page.is_some_and(|next| next.contains("PageToken=PACA")));
    let last = Page::split(fixture!("oai-calls.example.readFullPage2.json")).expect("a page");
    assert_eq!(last.items.iter().filter_map(decode_call).count(), 2);
}

#[test]
fn decodes_other_documented_pages_and_calls() {
    let old = Page::split(fixture!("docs-calls-list-2012-aftersid.json")).expect("a page");
    assert!(!old.items.is_empty());
    assert!(old.items.iter().all(|item| decode_call(item).is_some()));
    let next = old.next_page.expect("a next page");
    assert!(next.starts_with("/2010-04-01/Accounts/") && next.contains("AfterSid="), "{next}");
    let empty = Page::split(fixture!("oai-calls.example.readEmptyDateFunDateFormats.json"));
    let empty = empty.expect("a page");
    assert_eq!((empty.items.len(), empty.next_page), (0, None));
    let created = serde_json::from_str(fixture!("oai-call-instance.example.create.json"));
    let created = decode_call(&RawItem::new(created.expect("JSON"))).expect("a call");
    assert_ne!(created.status, CallStatus::Other);
    assert_ne!(created.direction, Direction::Other);
    assert!(created.start_time.is_some() && created.date_created.is_some());
}

#[test]
fn decodes_a_queued_call_without_times() {
    let raw = serde_json::from_str(fixture!("real-call-create-queued-2016.json")).expect("JSON");
    let call = decode_call(&RawItem::new(raw)).expect("a call");
    assert_eq!(call.status, CallStatus::Queued);
    assert_eq!((call.start_time, call.end_time, call.date_created), (None, None, None));
}

#[test]
fn decodes_accounts_without_their_tokens() {
    let page = Page::split(fixture!("real-accounts-list-page-2016.json")).expect("a page");
    let accounts: Vec<ListedAccount> = page.items.iter().filter_map(decode_account).collect();
    assert_eq!(accounts.len(), page.items.len());
    assert!(!format!("{accounts:?}").contains("redacted"));
    let page = Page::split(fixture!("oai-accounts.example.readFull.json")).expect("a page");
    assert!(page.items.iter().all(|item| decode_account(item).is_some()));
}

#[test]
fn distinguishes_responses_of_twilios_proxy_from_the_applications() {
    for (payload, reason) in [
        (fixture!("real-debugger-webhook-voice-unreachable-2024.json"), "connection"),
        (fixture!("real-debugger-webhook-sms-timeout-2023.json"), "timeout"),
    ] {
        let payload: serde_json::Value = serde_json::from_str(payload).expect("JSON");
        let webhook = &payload["webhook"];
        let event = serde_json::json!({
            "request": webhook["request"],
            "response": {
                "response_code": 502,
                "content_type": "text/html",
                "response_body": webhook["response"]["body"],
            },
        });
        let observed = observe(&event.to_string()).expect("observed");
        assert_eq!(observed.verdict.failure.map(|failure| failure.as_str()), Some(reason));
        assert_eq!(observed.verdict.code.to_string(), "none");
    }
}

#[test]
fn knows_all_of_twilios_verbs() {
    let elements: serde_json::Value =
        serde_json::from_str(fixture!("twiml-voice-elements.json")).expect("JSON");
    for verb in elements["response_children"].as_array().expect("a list") {
        let twiml = format!("<Response><{}/></Response>", verb.as_str().expect("a name"));
        let known = crate::domain::judge::twiml::Document::Twiml { has_unknown_verb: false };
        assert_eq!(crate::domain::judge::twiml::read(&twiml), known, "{twiml}");
    }
}

#[test]
fn an_unexpected_value_does_not_affect_the_rest_of_the_page() {
    const ANY: [&str; 14] = [
        "null",
        "true",
        "0",
        "-1",
        "1e300",
        "99999999999999999999",
        "\"\"",
        "\"x\"",
        "\"\\ud800\"",
        "[]",
        "[1,{}]",
        "{}",
        "{\"a\":{\"b\":[]}}",
        "\"200\"",
    ];
    const EVENT: [&str; 9] = [
        "request",
        "method",
        "url",
        "parameters",
        "response",
        "response_code",
        "request_duration",
        "content_type",
        "response_body",
    ];
    for field in EVENT {
        for value in ANY {
            let broken = event_with(field, value);
            let json = format!("{{\"events\":[{broken},42,{}]}}", event_with("", ""));
            let page = Page::split(&json).expect("a page");
            assert_eq!(page.items.len(), 3);
            // It may be accepted or rejected, but must not panic.
            let _either = observe(page.items[0].json());
            assert_eq!(observe(page.items[1].json()), Err(Rejection::Malformed));
            assert!(observe(page.items[2].json()).is_ok(), "{field} {value}");
        }
    }
    for field in ["sid", "status", "direction", "start_time", "end_time", "date_created"] {
        for value in ANY {
            let json = format!("{{\"sid\":\"CA{:032}\",\"{field}\":{value}}}", 1);
            let raw = serde_json::from_str(&json).expect("JSON");
            let _either = decode_call(&RawItem::new(raw));
        }
    }
}

#[test]
fn rejects_unusable_events_with_a_reason() {
    for (field, value, expected) in [
        ("request", "null", Err(Rejection::Malformed)),
        ("response", "42", Err(Rejection::Malformed)),
        ("url", "\"not a url\"", Err(Rejection::InvalidUrl)),
        ("url", "null", Err(Rejection::InvalidUrl)),
        ("response_code", "\"abc\"", Err(Rejection::InvalidCode)),
        ("response_code", "200.5", Err(Rejection::InvalidCode)),
        ("response_code", "999", Err(Rejection::InvalidCode)),
        ("response_code", "\"201\"", Ok("201")),
        ("response_code", "201.0", Ok("201")),
        ("response_code", "0", Ok("none")),
        ("response_code", "null", Ok("none")),
        ("response", "null", Ok("none")),
        ("parameters", "[]", Ok("200")),
        ("request_duration", "\"soon\"", Ok("200")),
        ("response_body", "{\"a\":1}", Ok("200")),
    ] {
        let observed = observe(&event_with(field, value));
        let code = observed.map(|observation| observation.verdict.code.to_string());
        assert_eq!(code, expected.map(str::to_owned), "{field} {value}");
    }
}

#[test]
fn counts_an_event_with_an_invalid_duration_without_it() {
    for (duration, expected) in [
        ("0", Ok(Some(0))),
        ("\"143\"", Ok(Some(143))),
        ("600000", Ok(Some(600_000))),
        ("null", Ok(None)),
        ("\"\"", Ok(None)),
        ("600001", Err(())),
        ("9223372036854775807", Err(())),
        ("18446744073709551615", Err(())),
        ("-1", Err(())),
        ("-9223372036854775808", Err(())),
        ("1e400", Err(())),
        ("12.5", Err(())),
        ("\"soon\"", Err(())),
        ("true", Err(())),
        ("[12]", Err(())),
    ] {
        let observed = observe(&event_with("request_duration", duration)).expect("a counted event");
        assert_eq!(observed.verdict.code.to_string(), "200", "{duration}");
        assert_eq!(observed.duration_ms, expected.unwrap_or(None), "{duration}");
        assert_eq!(observed.has_invalid_duration, expected.is_err(), "{duration}");
    }
}

#[test]
fn an_events_identity_includes_the_original_duration() {
    let identify = |duration: &str| {
        let json = event_with("request_duration", duration);
        let raw = serde_json::from_str(&json).expect("JSON");
        let event = decode_call_event(&RawItem::new(raw)).expect("an event");
        Item::judge(&event, call(), digests(), &Routes::default()).identity
    };
    // Must stay stable: with a new identity, events that are already counted would be counted again.
    assert_ne!(identify("9223372036854775807"), identify("600001"));
    assert_ne!(identify("9223372036854775807"), identify("null"));
    assert_eq!(identify("-1"), identify("null"));
    assert_eq!(identify("\"soon\""), identify("null"));
}

#[test]
fn decodes_a_body_truncated_within_a_character() {
    let observed =
        observe(&event_with("response_body", "\"<Response><Say>\\ud83d</Say></Response>\""));
    assert_eq!(observed.expect("observed").verdict.failure, None);
}

#[test]
fn rejects_anything_but_a_page() {
    for text in
        ["", "<html>", "[]", "{}", "{\"events\":null}", "{\"events\":{}}", "{\"events\":[1", "null"]
    {
        assert!(Page::split(text).is_none(), "{text}");
    }
    let odd = Page::split("{\"events\":[],\"next_page_uri\":7}").expect("a page");
    assert_eq!(odd.next_page, None);
}

#[test]
fn parses_dates_of_both_formats() {
    for text in [
        "Tue, 11 Aug 2020 17:44:08 +0000",
        "Tue, 11 Aug 2020 17:44:08 GMT",
        "Tue, 11 Aug 2020 19:44:08 +0200",
        "Wed, 11 Aug 2020 17:44:08 +0000",
    ] {
        assert_eq!(parse_date(text).map(Timestamp::as_second), Some(1_597_167_848), "{text}");
    }
    for (text, second) in [
        // The leap second of 2016, changes to and from daylight saving time, and a leap day.
        ("Sat, 31 Dec 2016 23:59:60 +0000", 1_483_228_799),
        ("Sun, 29 Mar 2026 01:30:00 +0000", 1_774_747_800),
        ("Sun, 29 Mar 2026 03:30:00 +0200", 1_774_747_800),
        ("Sun, 25 Oct 2026 02:30:00 +0200", 1_792_888_200),
        ("Sun, 25 Oct 2026 02:30:00 +0100", 1_792_891_800),
        ("Sun, 01 Nov 2026 01:30:00 -0700", 1_793_521_800),
        ("Thu, 29 Feb 2024 23:59:59 +0000", 1_709_251_199),
        ("Thu, 31 Dec 2026 23:59:59 -1200", 1_798_804_799),
    ] {
        assert_eq!(parse_date(text).map(Timestamp::as_second), Some(second), "{text}");
    }
    for text in [
        "Wed, 29 Feb 2023 12:00:00 +0000",
        "",
        "soon",
        "2020-08-11T17:44:08Z",
        "Tue, 32 Aug 2020 17:44:08 +0000",
    ] {
        assert_eq!(parse_date(text), None, "{text}");
    }
}

fn call() -> CallSid {
    CallSid::parse("CA00000000000000000000000000000010").expect("a SID")
}

fn observe(json: &str) -> Result<Observation, Rejection> {
    let raw = serde_json::from_str(json).expect("JSON");
    let event = decode_call_event(&RawItem::new(raw))?;
    Item::judge(&event, call(), digests(), &Routes::default()).observed
}

fn judge(json: &str) -> Item {
    let raw = serde_json::from_str(json).expect("JSON");
    let event = decode_call_event(&RawItem::new(raw)).expect("an event");
    Item::judge(&event, call(), digests(), &Routes::default())
}

/// Returns a valid event, except for the value of one field.
fn event_with(field: &str, value: &str) -> String {
    let member = |name: &str, usual: &str| {
        let chosen = if name == field { value } else { usual };
        format!("\"{name}\":{chosen}")
    };
    let request = [
        member("method", "\"POST\""),
        member("url", "\"https://app.example.com/status\""),
        member("parameters", "{\"call_sid\":\"CA\"}"),
    ];
    let response = [
        member("response_code", "200"),
        member("request_duration", "12"),
        member("content_type", "\"text/xml\""),
        member("response_body", "\"<Response/>\""),
        member("date_created", "\"Tue, 11 Aug 2020 17:44:08 +0000\""),
    ];
    let request = member("request", &format!("{{{}}}", request.join(",")));
    let response = member("response", &format!("{{{}}}", response.join(",")));
    format!("{{{request},{response}}}")
}

fn digests() -> Digests {
    Digests::new(DigestKey::new([1; 16]), DigestVersion::CURRENT)
}
