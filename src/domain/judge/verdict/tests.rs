//! Tests the verdicts on responses.

use super::*;

const TWIML: &str = "<Response><Say>Hi</Say></Response>";

#[test]
fn a_valid_response_has_its_content_type() {
    check(VOICE, answer(200, "text/xml", TWIML), "200 text/xml");
    check(VOICE, answer(200, "Application/XML; charset=utf-8", TWIML), "200 application/xml");
    check(VOICE, answer(200, "application/twiml+xml", TWIML), "200 other_xml");
    check(VOICE, answer(200, "text/html", TWIML), "200 text/html");
    check(VOICE, answer(200, "text/plain", TWIML), "200 text/plain");
    check(VOICE, answer(200, "", TWIML), "200 none");
    check(VOICE, answer(200, "audio/mpeg", "ID3"), "200 audio");
    check(
        VOICE,
        answer(200, "text/xml", "<Response><Speak/></Response>"),
        "200 text/xml +unknown_verb",
    );
}

#[test]
fn a_response_that_is_not_twiml_fails_with_its_reason() {
    let large = format!("<Response><Say>{}</Say></Response>", "a".repeat(65_536));
    for (content_type, body, expected) in [
        ("text/xml", large.as_str(), "200 text/xml !too_large"),
        ("application/json", "{}", "200 application/json !unsupported_content_type"),
        ("application/octet-stream", TWIML, "200 other !unsupported_content_type"),
        ("text/xml", " \n", "200 text/xml !empty_body"),
        ("text/html", "", "200 text/html !empty_body"),
        ("text/html", "<html><p>Oops</html>", "200 text/html !not_twiml"),
        ("text/html", "<html/>", "200 text/html !not_twiml"),
        ("text/plain", "Hello", "200 text/plain !not_twiml"),
        ("text/xml", "<Response><Say></Response>", "200 text/xml !malformed_xml"),
        ("text/xml", "<!DOCTYPE x><Response/>", "200 text/xml !malformed_xml"),
        ("application/xml", "<rss/>", "200 application/xml !wrong_root"),
        ("", "<rss/>", "200 none !wrong_root"),
        ("", "Hello", "200 none !not_twiml"),
    ] {
        check(VOICE, answer(200, content_type, body), expected);
    }
}

#[test]
fn a_redacted_body_is_never_a_failure() {
    for body in [Body::Absent, Body::Structured] {
        let mut response = answer(200, "text/xml", "");
        response.body = body;
        check(VOICE, response, "200 text/xml ?");
    }
    let mut json = answer(200, "application/json", "");
    json.body = Body::Absent;
    check(VOICE, json, "200 application/json !unsupported_content_type");
}

#[test]
fn a_callback_is_judged_by_its_status_only() {
    for (code, content_type, body, expected) in [
        (204, "", "", "204"),
        (200, "application/json", "{}", "200"),
        (200, "text/html", "<p>", "200"),
        (404, "text/html", "", "404 !http_4xx"),
        (503, "text/html", "", "503 !http_5xx"),
    ] {
        check(RequestKind::StatusCallback, answer(code, content_type, body), expected);
    }
}

#[test]
fn a_redirect_is_a_warning_and_304_a_success() {
    check(VOICE, answer(302, "text/html", ""), "302 +redirect");
    check(VOICE, answer(304, "", ""), "304");
    check(VOICE, answer(100, "", ""), "100");
}

#[test]
fn audio_is_judged_by_its_content_type() {
    for (code, content_type, expected) in [
        (200, "audio/mpeg", "200"),
        (206, "Audio/X-WAV; rate=8000", "206"),
        (200, "binary/octet-stream", "200 !unsupported_content_type"),
        (200, "application/octet-stream", "200 !unsupported_content_type"),
        (200, "text/html", "200 !unsupported_content_type"),
        (200, "text/xml", "200 !unsupported_content_type"),
        (200, "video/mp4", "200 !unsupported_content_type"),
        (204, "", "204 !unsupported_content_type"),
        (200, "", "200 ?"),
        (302, "text/html", "302 +redirect"),
        (304, "", "304"),
        (403, "application/xml", "403 !http_4xx"),
        (404, "audio/mpeg", "404 !http_4xx"),
        (503, "", "503 !http_5xx"),
    ] {
        check(RequestKind::Media, answer(code, content_type, "x"), expected);
    }
}

#[test]
fn code_0_is_no_response_and_an_invalid_code_is_rejected() {
    check(VOICE, answer(0, "", ""), "none !no_response");
    assert_eq!(show(judge(Expected::Twiml, None)), "none !no_response");
    for code in [-1, 1, 99, 600, 100_000] {
        assert_eq!(judge(Expected::Twiml, Some(&answer(code, "", ""))), Err(InvalidCode), "{code}");
    }
}

#[test]
fn an_api_request_is_never_a_failure() {
    check(RequestKind::ApiRequest, answer(201, "application/json", "{}"), "201");
    check(RequestKind::ApiRequest, answer(400, "application/json", "{}"), "400");
}

#[test]
fn the_possible_reasons_depend_on_the_kind() {
    let possible: Vec<_> = Reason::possible_for(RequestKind::StatusCallback).collect();
    assert_eq!(possible.len(), 9);
    let of_media: Vec<_> = Reason::possible_for(RequestKind::Media).collect();
    assert_eq!(of_media.len(), 10);
    assert!(of_media.contains(&Reason::UnsupportedContentType));
    assert_eq!(Reason::possible_for(VOICE).count(), Reason::ALL.len());
    assert_eq!(Reason::possible_for(RequestKind::ApiRequest).count(), 0);
}

const VOICE: RequestKind = RequestKind::VoiceUrl;

fn check(kind: RequestKind, response: Response, expected: &str) {
    assert_eq!(show(judge(kind.expected(), Some(&response))), expected);
}

fn answer(code: i64, content_type: &str, body: &str) -> Response {
    Response {
        code: Some(code),
        duration_ms: Some(1),
        content_type: (!content_type.is_empty()).then(|| content_type.to_owned()),
        body: Body::Text(body.to_owned()),
        created_at: None,
    }
}

fn show(verdict: Result<Verdict, InvalidCode>) -> String {
    let verdict = verdict.expect("valid code");
    let mut text = verdict.code.to_string();
    for (mark, word) in [
        (" ", verdict.content_type.map(ContentType::as_str)),
        (" !", verdict.failure.map(Reason::as_str)),
        (" +", verdict.warning.map(Warning::as_str)),
        (" ?", verdict.is_unjudged.then_some("")),
    ] {
        if let Some(word) = word {
            text.push_str(mark);
            text.push_str(word);
        }
    }
    text
}
