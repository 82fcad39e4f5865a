//! Caller input and application responses never appear in labels, pages, log lines or the store.

mod pasted;

use std::fs;
use std::os::unix::fs::PermissionsExt;

use tempfile::TempDir;

use crate::harness::{Program, Twilio, eventually, metric, world_of};

/// The secret, put into every field that may hold one.
const MARK: &str = "MARKEDSECRET";
/// Characters that change what a terminal displays, escaped as JSON.
const UNSAFE_ESCAPED: &str = r"\u001b[31m\u202e\u2028\u0085";
/// A phone number, put into the same fields.
const NUMBER: &str = "15005550006";

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_of_a_call_event_appears_anywhere() {
    let answer = |uri: &str, before: u64| {
        if uri.contains("/Events.json") {
            // Some responses break off in the middle of a secret.
            let body = if before.is_multiple_of(7) { broken_page() } else { page() };
            return Some((200, "application/json", body));
        }
        if uri.contains("/v1/Alerts") {
            return Some((200, "application/json", alerts()));
        }
        (uri.contains("/Accounts.json")).then(|| {
            let accounts = format!(r#"{{"accounts":[{{"sid":"AC{:032}","status":"active","auth_token":"{MARK}","friendly_name":"{MARK}"}}]}}"#, 99);
            (200, "application/json", accounts)
        })
    };
    let twilio = Twilio::answering(world_of(10), answer).await;
    let often = [("TWILIO_EXPORTER_POLL__ERROR_LOG_INTERVAL", "1s")];
    let program = Program::polling_with(&twilio, &often).await;
    let scrape = eventually("events are counted, rejected and failed", async || {
        let scrape = program.scrape().await;
        let rejected = metric("twilio_exporter_call_events_rejected_total").value_in(&scrape);
        let failures = metric("twilio_webhook_failures_total").value_in(&scrape);
        let retries = metric("twilio_exporter_api_retries_total").value_in(&scrape);
        let reported = metric("twilio_error_log_entries_total").value_in(&scrape);
        let is_enough = |value: Option<f64>| value.is_some_and(|value| value > 5.0);
        let has_retried = retries.is_some_and(|retries| retries > 0.0);
        (is_enough(rejected) && is_enough(failures) && is_enough(reported) && has_retried)
            .then_some(scrape)
    })
    .await;
    assert!(scrape.text.contains("webhook"), "no webhooks are counted");
    let failures = program.get("/failures.json").await.1;
    assert!(failures.contains("http_5xx"), "no failure is recorded: {failures}");
    let (_directory, storage) = (program.directory(), program.storage());
    let mut places = vec![
        ("/metrics", scrape.text.clone()),
        ("/", program.get("/").await.1),
        ("/failures", program.get("/failures?limit=1000").await.1),
        ("/failures.json", program.get("/failures.json?limit=1000").await.1),
        ("the log", program.log()),
    ];
    program.stop().await;
    for entry in fs::read_dir(storage).expect("the store") {
        let path = entry.expect("an entry").path();
        places.push((
            "the store",
            String::from_utf8_lossy(&fs::read(path).expect("read")).into_owned(),
        ));
    }
    for (place, text) in places {
        let encoded = ["%35%35%35", "%20555%20", "ghp_", "jane%"];
        let unsafe_characters = ["\u{1b}", "\u{202e}", "\u{2028}", "\u{85}"];
        for secret in [MARK, &MARK.to_lowercase(), NUMBER, "hunter2"]
            .into_iter()
            .chain(encoded)
            .chain(unsafe_characters.into_iter().filter(|_| place != "the store"))
        {
            let at = text.find(secret);
            assert_eq!(at, None, "{place}: …{}…", at.map_or("", |at| around(&text, at)));
        }
    }
}

/// Events with a secret in every field.
fn page() -> String {
    let urls = urls();
    let parameters = format!(
        r#"{{"call_sid":"CA","call_status":"in-progress","from":"+{NUMBER}","to":"+{NUMBER}","digits":"{MARK}","speech_result":"{MARK}","{MARK}":"{MARK}","add_ons":{{"a":"{MARK}"}}}}"#
    );
    let mut events = Vec::new();
    for url in &urls {
        for (code, content_type, body) in [
            (
                "200",
                "text/xml",
                format!("<Response><Say>{MARK}</Say><Dial>+{NUMBER}</Dial></Response>"),
            ),
            ("200", "text/xml", format!("<Response><{MARK}>{MARK}</Response>")),
            ("200", "application/json", format!("{{\\\"a\\\":\\\"{MARK}\\\"}}")),
            ("500", "text/html", format!("Traceback: {MARK}")),
            (
                "502",
                "text/html",
                format!(
                    "Twilio was unable to fetch content from: https://{MARK}/\\nError: {MARK} timed out"
                ),
            ),
            ("200", MARK, MARK.to_owned()),
            (MARK, "text/xml", MARK.to_owned()),
        ] {
            let code = if code == MARK { format!("\"{MARK}\"") } else { code.to_owned() };
            events.push(format!(
                r#"{{"request":{{"method":"POST","url":"{url}","parameters":{parameters}}},"response":{{"response_code":{code},"request_duration":20,"content_type":"{content_type}","response_body":"{body}","date_created":"Tue, 11 Aug 2020 17:44:08 +0000"}}}}"#
            ));
        }
    }
    events.push(format!("\"{MARK}\""));
    events.push(format!("{{\"{MARK}\":\"{MARK}\"}}"));
    events.push(format!(r#"{{"request":"{MARK}"}}"#));
    format!(
        r#"{{"events":[{}],"next_page_uri":"https://{MARK}.example/{MARK}"}}"#,
        events.join(",")
    )
}

/// URLs with a secret in each part.
fn urls() -> [String; 14] {
    [
        format!("https://{MARK}:hunter2@app.example.com/voice"),
        format!("https://app.example.com/voice?token={MARK}&From=%2B{NUMBER}"),
        format!("https://app.example.com/voice#{MARK}"),
        format!("https://app.example.com/voice;session={MARK}"),
        format!("https://app.example.com/callers/+{NUMBER}/menu"),
        format!("https://app.example.com/callers/%2B{NUMBER}"),
        format!("https://app.example.com/callers/tel-{NUMBER}.xml"),
        format!("https://{NUMBER}.tenant.example.com/voice"),
        format!("https://app.example.com/{UNSAFE_ESCAPED}voice"),
        "https://app.example.com/callers/%2B%31%35%30%30%35%35%35%30%30%30%36".to_owned(),
        "https://app.example.com/callers/%252B1%20500%20555%200006".to_owned(),
        "https://app.example.com/hooks/ghp_NotARealToken".to_owned(),
        "https://app.example.com/callers/jane%2540example.com".to_owned(),
        format!("{MARK} is no URL {NUMBER}"),
    ]
}

/// Error log entries with a secret in every field.
fn alerts() -> String {
    let mut alerts = Vec::new();
    for (number, url) in urls().iter().enumerate() {
        for (kind, code) in [("CA", "11200"), ("SM", "30007"), ("CA", MARK), (MARK, "12100")] {
            let sid = alerts.len();
            alerts.push(format!(
                r#"{{"sid":"NO{sid:032}","resource_sid":"{kind}{number:032}","error_code":"{code}","log_level":"{MARK}","alert_text":"Msg={MARK}+%2B{NUMBER}&url={url}","request_url":"{url}","request_variables":"From=%2B{NUMBER}","response_body":"{MARK}"}}"#
            ));
        }
    }
    alerts.push(format!("\"{MARK}\""));
    alerts.push(format!(r#"{{"sid":"{MARK}","request_url":"{MARK}"}}"#));
    format!(
        r#"{{"alerts":[{}],"meta":{{"key":"{MARK}","next_page_url":"https://{MARK}.example/{MARK}"}}}}"#,
        alerts.join(",")
    )
}

fn broken_page() -> String {
    format!(r#"{{"events":[{{"request":{{"method":"POST","url":"https://app.example.com/{MARK}"#)
}

fn around(text: &str, at: usize) -> &str {
    let start =
        (0..=at.saturating_sub(60)).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    let end = (at + 60..).find(|at| *at >= text.len() || text.is_char_boundary(*at)).unwrap_or(at);
    &text[start..end.min(text.len())]
}

#[tokio::test(flavor = "multi_thread")]
async fn files_are_private_even_if_the_directory_is_world_readable() {
    let twilio = Twilio::serving(world_of(2)).await;
    let directory = TempDir::new().expect("a directory");
    let storage = directory.path().join("data");
    fs::create_dir(&storage).expect("a folder");
    fs::set_permissions(&storage, fs::Permissions::from_mode(0o755)).expect("world-readable");
    let program = Program::polling_in(directory, &twilio, &[]).await;
    let mut names = Vec::new();
    for entry in fs::read_dir(program.storage()).expect("the store") {
        let entry = entry.expect("an entry");
        let mode = entry.metadata().expect("there").permissions().mode();
        assert_eq!(mode & 0o077, 0, "{:?} has mode {mode:o}", entry.file_name());
        names.push(entry.file_name().into_string().expect("UTF-8"));
    }
    assert!(names.contains(&"exporter.db".to_owned()), "{names:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn core_dumps_are_disabled() {
    let twilio = Twilio::serving(world_of(1)).await;
    let program = Program::polling(&twilio).await;
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", program.id())).expect("proc");
    let line = limits.lines().find(|line| line.starts_with("Max core file size")).expect("a line");
    let numbers: Vec<&str> = line.split_whitespace().skip(4).take(2).collect();
    assert_eq!(numbers, ["0", "0"], "{line}");
}
