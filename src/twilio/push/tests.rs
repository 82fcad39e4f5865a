//! Which requests are accepted, and what is decoded from them.
//!
//! The signatures were computed by Twilio's own Python SDK (`twilio.request_validator`, 9.x).

use super::*;
use crate::domain::judge::reported::Reported;
use crate::domain::judge::route::Routes;

const TOKEN: &str = "made-up-token-of-an-account";
const URL: &str = "https://exporter.example.com/push/error-log";
const EVENTS: &str = r#"[{"specversion":"1.0","type":"com.twilio.error-logs.error.logged","source":"x","id":"EZ1","time":"2026-11-27T10:00:01.000Z","data":{"sid":"NO00000000000000000000000000000001","account_sid":"AC00000000000000000000000000000001","level":"ERROR","error_code":11200,"correlation_sid":"CA00000000000000000000000000000001","date_created":"2026-11-27T10:00:00Z","payload":"{\"webhook\":{\"request\":{\"url\":\"https://u:p@app.example.com/voice?From=%2B15005550006\"}}}"}}]"#;
const EVENTS_QUERY: &str =
    "bodySHA256=785c149e6c09558acb5ce852449b7675d14cb30312cd8ab6095d59e5fe7b0801";
const EVENTS_SIGNATURE: &str = "aLu2WWs7OL7gN2Vk6KlZNDo1kU8=";
const FORM: &str = "Sid=NO00000000000000000000000000000002&AccountSid=AC00000000000000000000000000000001&ParentAccountSid=&Timestamp=2026-11-27T10%3A00%3A00.000Z&Level=ERROR&PayloadType=application%2Fjson&Payload=%7B%22resource_sid%22%3A%22CA00000000000000000000000000000001%22%2C%22error_code%22%3A%2211200%22%2C%22webhook%22%3A%7B%22request%22%3A%7B%22url%22%3A%22https%3A%2F%2Fapp.example.com%2F%C3%A9%22%7D%7D%7D";
const FORM_SIGNATURE: &str = "+HmWz2+DdaTkntDRd5+nc9G+H4A=";

#[test]
fn decodes_both_forms() {
    assert_eq!(
        read(events()),
        [
            "NO00000000000000000000000000000001 voice 11200 error 2026-11-27T10:00:00Z app.example.com/voice"
        ]
    );
    assert_eq!(
        read(form()),
        [
            "NO00000000000000000000000000000002 voice 11200 error 2026-11-27T10:00:00Z app.example.com/é"
        ]
    );
}

#[test]
fn accepts_a_signature_with_or_without_the_default_port() {
    for (url, signature) in [
        (URL, EVENTS_SIGNATURE),
        (URL, "sNSsmgoiBeX6GK+IV83mFfqKtK4="),
        ("https://exporter.example.com:443/push/error-log", EVENTS_SIGNATURE),
        ("https://exporter.example.com:8443/x", "GWRo5qK2KDoVPl75cuPUw5za8Ps="),
    ] {
        let request = PushRequest { signature: Some(signature), ..events() };
        assert!(verified(request, url).is_ok(), "{url} {signature}");
    }
}

#[test]
fn a_shared_key_uses_the_algorithm_in_the_settings_header() {
    let sha256 = "dzVa892GJt3DUiLgc09lFsYeUGcWBiwR/stC5U4YjLQ=";
    let request = PushRequest { signature: Some(sha256), ..events() };
    assert_eq!(verified(request, URL).err(), Some(Refusal::WrongSignature));
    let settings = Some("key=webhooks_sharedkey_1,algorithm=HMAC_SHA256");
    assert!(verified(PushRequest { settings, ..request }, URL).is_ok());
}

#[test]
fn refuses_a_request_with_a_wrong_signature() {
    let longer = format!("{FORM}&Level=WARNING");
    let shorter = &FORM[..FORM.len() - 9];
    let other = EVENTS.replace("11200", "12100");
    let other_account = FORM.replace("0001&Parent", "0002&Parent");
    for (request, expected) in [
        (PushRequest { signature: None, ..events() }, Refusal::Unsigned),
        (PushRequest { signature: Some("%"), ..events() }, Refusal::Unsigned),
        (PushRequest { signature: Some(""), ..events() }, Refusal::WrongSignature),
        (PushRequest { signature: Some(FORM_SIGNATURE), ..events() }, Refusal::WrongSignature),
        (PushRequest { query: "", ..events() }, Refusal::WrongSignature),
        (PushRequest { query: "bodySHA256=00", ..events() }, Refusal::WrongSignature),
        (PushRequest { body: other.as_bytes(), ..events() }, Refusal::WrongBody),
        (PushRequest { body: b"", ..events() }, Refusal::WrongBody),
        (PushRequest { body: longer.as_bytes(), ..form() }, Refusal::WrongSignature),
        (PushRequest { body: shorter.as_bytes(), ..form() }, Refusal::WrongSignature),
        (PushRequest { body: other_account.as_bytes(), ..form() }, Refusal::WrongSignature),
        (PushRequest { body: EVENTS.as_bytes(), ..form() }, Refusal::WrongSignature),
        (PushRequest { query: "a=b", ..form() }, Refusal::WrongSignature),
    ] {
        assert_eq!(verified(request, URL).err(), Some(expected), "{:?}", request.query);
    }
    for url in ["https://exporter.example.com/push", "http://exporter.example.com/push/error-log"] {
        assert_eq!(verified(events(), url).err(), Some(Refusal::WrongSignature), "{url}");
    }
    let others = [signer("AC00000000000000000000000000000002", TOKEN), signer(SID, "another")];
    let url = URL.parse().expect("a URL");
    assert_eq!(verify(form(), &url, &others).err(), Some(Refusal::WrongSignature));
    assert_eq!(verify(events(), &url, &others[1..]).err(), Some(Refusal::WrongSignature));
    assert_eq!(verify(events(), &url, &[]).err(), Some(Refusal::WrongSignature));
}

#[test]
fn an_unreadable_event_does_not_affect_the_others() {
    let entry = |data: &str| {
        format!(
            r#"{{"type":"com.twilio.error-logs.error.logged","time":"2026-11-27T10:00:00Z","data":{data}}}"#
        )
    };
    let sid = r#""sid":"NO00000000000000000000000000000003""#;
    let items = [
        "null".to_owned(),
        "{}".to_owned(),
        r#"{"type":"com.twilio.voice.status-callback.call.completed","data":{}}"#.to_owned(),
        entry("null"),
        entry("{}"),
        entry(&format!("{{{sid}}}")),
        entry(&format!(r#"{{{sid},"payload":{{"resource_sid":"SM1","webhook":[]}}}}"#)),
        entry(&format!(
            r#"{{{sid},"error_code":"x","level":7,"payload":"{{","correlation_sid":[]}}"#
        )),
    ];
    let signed = |body: String| {
        let digest = digest::digest(&digest::SHA256, body.as_bytes());
        let hash: String = digest.as_ref().iter().map(|byte| format!("{byte:02X}")).collect();
        let query = format!("bodySHA256={hash}&bodySHA256={hash}");
        let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, TOKEN.as_bytes());
        let tag = hmac::sign(&key, format!("{URL}?{query}").as_bytes());
        let signature = BASE64_STANDARD.encode(tag);
        let request = PushRequest {
            query: &query,
            signature: Some(&signature),
            settings: None,
            body: body.as_bytes(),
        };
        verified(request, URL)
    };
    let pushed = signed(format!("[{}]", items.join(","))).expect("signed");
    assert_eq!(
        pushed.entries.iter().map(show).collect::<Vec<_>>(),
        [
            "NO00000000000000000000000000000003 other other other 2026-11-27T10:00:00Z nowhere",
            "NO00000000000000000000000000000003 messaging other other 2026-11-27T10:00:00Z nowhere",
            "NO00000000000000000000000000000003 other other other 2026-11-27T10:00:00Z nowhere",
        ]
    );
    assert_eq!(pushed.rejected, 4);
    for body in ["", "{}", "[", "1", "null"] {
        assert_eq!(signed(body.to_owned()).err(), Some(Refusal::Unreadable), "{body}");
    }
}

#[test]
fn a_public_url_is_http_without_credentials_and_query() {
    for (text, expected) in [
        ("exporter.example.com/push", InvalidPublicUrl::Syntax),
        ("ftp://exporter.example.com", InvalidPublicUrl::Syntax),
        ("mailto:a@example.com", InvalidPublicUrl::Syntax),
        ("https://u:p@exporter.example.com", InvalidPublicUrl::Credentials),
        ("https://exporter.example.com/?a=b", InvalidPublicUrl::Query),
        ("https://exporter.example.com/#a", InvalidPublicUrl::Query),
    ] {
        assert_eq!(text.parse::<PublicUrl>().err(), Some(expected), "{text}");
    }
    assert_eq!(URL.parse::<PublicUrl>().expect("a URL").to_string(), URL);
}

const SID: &str = "AC00000000000000000000000000000001";

fn events() -> PushRequest<'static> {
    PushRequest {
        query: EVENTS_QUERY,
        signature: Some(EVENTS_SIGNATURE),
        settings: None,
        body: EVENTS.as_bytes(),
    }
}

fn form() -> PushRequest<'static> {
    let (query, signature) = ("", Some(FORM_SIGNATURE));
    PushRequest { query, signature, settings: None, body: FORM.as_bytes() }
}

fn signer(sid: &str, token: &str) -> Signer {
    Signer::new(AccountSid::parse(sid).expect("a SID"), &SecretString::from(token))
}

fn verified(request: PushRequest<'_>, url: &str) -> Result<Pushed, Refusal> {
    let others = signer("AC00000000000000000000000000000009", "another");
    verify(request, &url.parse().expect("a URL"), &[others, signer(SID, TOKEN)])
}

fn read(request: PushRequest<'_>) -> Vec<String> {
    let pushed = verified(request, URL).expect("signed");
    assert_eq!(pushed.signer.to_string(), SID);
    assert_eq!(pushed.rejected, 0);
    pushed.entries.iter().map(show).collect()
}

fn show(entry: &LoggedError) -> String {
    let reported = Reported::judge(entry, &Routes::default());
    let at = reported.generated_at.map_or_else(String::new, |at| at.to_string());
    let endpoint = reported.endpoint.map(|endpoint| format!("{}{}", endpoint.host, endpoint.route));
    format!(
        "{} {} {} {} {at} {}",
        reported.sid,
        reported.product.as_str(),
        reported.code,
        reported.level.as_str(),
        endpoint.as_deref().unwrap_or("nowhere")
    )
}
