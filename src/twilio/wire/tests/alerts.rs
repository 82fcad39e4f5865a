//! Recorded, documented and malformed error log entries.

use super::*;
use crate::domain::judge::reported::Reported;
use crate::domain::judge::route::Routes;
use crate::domain::words::error_log::LoggedError;

#[test]
fn decodes_a_recorded_page() {
    let page = Page::split(fixture!("real-alerts-list-2016.json")).expect("a page");
    let next = page.next_page.expect("a next page");
    assert!(next.starts_with("https://monitor.twilio.com/v1/Alerts?PageSize=2&Page=1&PageToken="));
    let entries: Vec<LoggedError> = page.items.iter().filter_map(decode_logged_error).collect();
    let shown: Vec<String> = entries.iter().map(show).collect();
    assert_eq!(
        shown,
        [
            "voice 11200 error 2016-10-27T02:34:21Z app.example.com/zombo/zombocom.mp3 CA00000000000000000000000000000004",
            "messaging 14101 error 2016-10-26T18:12:20Z nowhere no call",
        ]
    );
    assert_eq!(entries[0].sid.to_string(), "NO00000000000000000000000000000005");
    let account = entries[0].account.expect("an account");
    assert_eq!(account.to_string(), "AC00000000000000000000000000000001");
}

#[test]
fn decodes_the_documented_entry_with_its_redacted_account() {
    let json = serde_json::from_str(fixture!("docs-alert-11205-instance.json")).expect("JSON");
    let entry = decode_logged_error(&RawItem::new(json)).expect("an entry");
    assert_eq!(
        show(&entry),
        "voice 11205 error 2010-02-09T01:23:53Z demo.twilio.com/welcome CAa8857b0dcc71b4909aced594f7f87453"
    );
    assert_eq!(entry.account, None);
}

#[test]
fn an_unexpected_value_does_not_invalidate_an_entry() {
    const SID: &str = "NO00000000000000000000000000000001";
    for value in [
        "null",
        "1",
        "-1",
        "1.5",
        "true",
        "[]",
        "{}",
        "\"\"",
        "\"\\ud800\"",
        "[[{}]]",
        "\"99999999999999999999\"",
        "\"https://user:secret@[::1\"",
        "\"tel:+15005550006\"",
    ] {
        for field in [
            "account_sid",
            "resource_sid",
            "error_code",
            "log_level",
            "request_url",
            "date_generated",
            "date_created",
            "alert_text",
        ] {
            let json = format!("{{\"sid\":\"{SID}\",\"{field}\":{value}}}");
            let raw = serde_json::from_str(&json).expect("JSON");
            let entry = decode_logged_error(&RawItem::new(raw)).expect(&json);
            let reported = format!("{:?}", Reported::judge(&entry, &Routes::default()));
            assert!(!reported.contains("secret") && !reported.contains("1500555"), "{reported}");
        }
    }
    for invalid in
        ["{}", "[]", "1", "{\"sid\":null}", "{\"sid\":\"CA00000000000000000000000000000001\"}"]
    {
        let raw = serde_json::from_str(invalid).expect("JSON");
        assert!(decode_logged_error(&RawItem::new(raw)).is_none(), "{invalid}");
    }
}

#[test]
fn reads_the_next_page_from_metadata_of_any_shape() {
    for (meta, expected) in [
        ("null", None),
        ("1", None),
        ("[]", None),
        ("{}", None),
        ("{\"next_page_url\":null}", None),
        ("{\"next_page_url\":\"\"}", None),
        ("{\"next_page_url\":7}", None),
        ("{\"next_page_url\":\"https://x/y\"}", Some("https://x/y")),
    ] {
        let json = format!("{{\"alerts\":[],\"meta\":{meta}}}");
        let page = Page::split(&json).expect("a page");
        assert_eq!(page.next_page.as_deref(), expected, "{meta}");
    }
}

fn show(entry: &LoggedError) -> String {
    let reported = Reported::judge(entry, &Routes::default());
    let endpoint = reported.endpoint.map(|endpoint| format!("{}{}", endpoint.host, endpoint.route));
    let generated_at = reported.generated_at.map(|at| at.to_string()).unwrap_or_default();
    let call = reported.call_sid.map(|sid| sid.to_string());
    format!(
        "{} {} {} {generated_at} {} {}",
        reported.product,
        reported.code,
        reported.level,
        endpoint.as_deref().unwrap_or("nowhere"),
        call.as_deref().unwrap_or("no call")
    )
}

#[test]
fn decodes_recorded_debugger_payloads() {
    for (payload, expected) in [
        (
            fixture!("real-debugger-webhook-voice-unreachable-2024.json"),
            "voice 11200 error 2024-09-24T23:37:55Z 10.0.0.5:8080/ivr/menu CA000000000000000000000000000000d1",
        ),
        (
            fixture!("real-debugger-webhook-sms-timeout-2023.json"),
            "messaging 11200 error 2024-09-24T23:37:55Z nowhere no call",
        ),
    ] {
        let field = |name: &str, text: &str| (name.to_owned(), text.to_owned());
        let fields = [
            field("Sid", "NO00000000000000000000000000000001"),
            field("Level", "ERROR"),
            field("Timestamp", "2024-09-24T23:37:55Z"),
            field("Payload", payload),
        ];
        let entry = decode_form(&fields).expect("an entry");
        assert_eq!(show(&entry), expected);
        assert_eq!(entry.account, None);
        assert!(decode_form(&fields[1..]).is_none());
    }
}
