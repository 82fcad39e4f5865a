//! Which responses decide a call's outcome for the caller, and which don't.

use super::judged::{PROXY, check, events, show};
use super::*;
use crate::domain::track::outcome::outcome;

/// The requests of a call in the order in which Twilio lists them, and the expected outcome.
#[test]
fn a_call_is_cut_off_unless_a_later_request_succeeds() {
    for (list, expected) in [
        // A call that is redirected while it waits for a Dial action continues with the new document.
        (
            "after in-progress&dial_call_status=completed 500 - 25 14000; next in-progress 200 text/xml 11 100",
            Some("recovered"),
        ),
        (
            "next in-progress 200 text/xml 18 100; after in-progress&dial_call_status=completed 500 - 25 14000",
            Some("recovered"),
        ),
        (
            "voice ringing 200 text/xml 10 50; menu in-progress&digits=1 500 - 10 300",
            Some("cut_off"),
        ),
        (
            "voice ringing 200 text/xml 10 50; menu in-progress&digits=1 null - 25 15000; fallback in-progress&error_code=11200&error_url=u 200 text/xml 25 30",
            Some("recovered"),
        ),
        // Twilio executes no TwiML after the end of a call, nor from callbacks.
        (
            "voice ringing 200 text/xml 10 50; record completed&recording_url=u&digits=hangup 200 text/plain 30 50",
            None,
        ),
        (
            "voice ringing 200 text/xml 10 50; record completed&recording_url=u&digits=hangup 500 - 30 50",
            None,
        ),
        (
            "voice ringing 500 - 10 50; record completed&recording_url=u&digits=hangup 200 text/xml 30 50",
            Some("cut_off"),
        ),
        (
            "voice ringing 200 text/xml 10 50; partial in-progress&unstable_speech_result=x&stability=0.8 204 - 30 50",
            None,
        ),
        (
            "voice ringing 500 - 10 50; partial in-progress&unstable_speech_result=x 200 text/xml 30 50",
            Some("cut_off"),
        ),
        // The caller hears an error if audio can't be played.
        ("voice ringing 200 text/xml 10 50; a.mp3 - 404 text/html 11 50", Some("cut_off")),
        (
            "voice ringing 200 text/xml 10 50; a.mp3 - 200 binary/octet-stream 11 50",
            Some("cut_off"),
        ),
        ("voice ringing 200 text/xml 10 50; a.mp3 - 200 audio/mpeg 11 50", None),
        (
            "voice ringing 200 text/xml 10 50; a.mp3 - 404 text/html 11 50; fallback in-progress&error_code=11200&error_url=u 200 text/xml 12 50",
            Some("recovered"),
        ),
        // The dialled leg hears the whisper; the caller doesn't.
        (
            "voice ringing 200 text/xml 10 50; whisper in-progress&parent_call_sid=CA 500 - 12 50",
            None,
        ),
    ] {
        let items: Vec<Item> = list.split("; ").map(request).collect();
        assert_eq!(outcome(&items).map(|found| found.outcome.as_str()), expected, "{list}");
    }
}

#[test]
fn the_last_failed_request_decides_a_calls_outcome() {
    let voice = "voice ringing 200 text/xml 10 50";
    let menu = "menu in-progress&digits=1 500 - 12 300";
    let fallback = "fallback in-progress&error_code=11200&error_url=u 500 - 13 30";
    let whisper = "whisper in-progress&parent_call_sid=CA 500 - 14 50";
    let status = "status completed&callback_source=call-progress-events 500 - 15 50";
    for (list, expected) in [
        (vec![voice, menu], "/menu"),
        (vec![voice, menu, fallback], "/fallback"),
        (vec![fallback, menu, voice], "/fallback"),
        (vec![voice, menu, whisper, status], "/menu"),
        (vec![voice, menu, "a.mp3 - 404 text/html 14 50"], "/a.mp3"),
    ] {
        let items: Vec<Item> = list.iter().copied().map(request).collect();
        let found = outcome(&items).expect("a failure");
        assert_eq!(found.decided_by.endpoint.route, expected, "{list:?}");
    }
}

/// Parses `path call_status&parameters code content-type second duration`.
fn request(text: &str) -> Item {
    let parts: Vec<&str> = text.split(' ').collect();
    let [path, parameters, code, content_type, second, duration] = parts[..] else {
        panic!("expected six parts: {text}")
    };
    let method = if parameters == "-" { "GET" } else { "POST" };
    let own = if parameters.contains("parent_call_sid") { "CA" } else { &call().to_string() };
    let parameters = if parameters == "-" {
        String::new()
    } else {
        let named =
            format!("call_status={parameters}&call_sid={own}&account_sid=AC&direction=inbound");
        let pairs = named.split('&').filter_map(|pair| pair.split_once('='));
        pairs.map(|(name, value)| format!("\"{name}\":\"{value}\"")).collect::<Vec<_>>().join(",")
    };
    let body = if content_type == "text/xml" { "<Response/>" } else { "OK" };
    judge(&format!(
        "{{\"request\":{{\"method\":\"{method}\",\"url\":\"https://h.example/{path}\",\"parameters\":{{{parameters}}}}},\
         \"response\":{{\"response_code\":{code},\"request_duration\":{duration},\"content_type\":\"{content_type}\",\
         \"response_body\":\"{body}\",\"date_created\":\"Mon, 02 Nov 2026 10:00:{second} +0000\"}}}}"
    ))
}

#[test]
fn twiml_is_not_judged_after_the_end_of_a_call() {
    for (parameters, expected) in [
        (
            "CALL call_status=completed recording_url=u recording_sid=RE digits=hangup",
            "record_action",
        ),
        ("CALL call_status=completed digits=1", "gather_action"),
        ("CALL call_status=completed speech_result=yes", "gather_action"),
        ("CALL call_status=completed dial_call_status=no-answer", "dial_action"),
        ("CALL call_status=no-answer dial_call_status=canceled", "dial_action"),
        ("CALL call_status=completed queue_result=hangup", "enqueue_action"),
        ("CALL call_status=completed queue_position=1", "wait_url"),
        ("CALL call_status=completed error_code=11200 error_url=u", "fallback_url"),
        ("CALL call_status=failed error_code=11200 error_url=u", "fallback_url"),
        ("CALL call_status=completed callback_source=call-progress-events", "status_callback"),
        ("CALL call_status=canceled direction=outbound-api", "status_callback"),
    ] {
        for (answer, verdict) in [
            ("200 text/plain \"OK\"", "200"),
            ("200 application/json {}", "200"),
            ("200 text/xml \"<Response>\"", "200"),
            ("200 text/html \"\"", "200"),
            ("204 - \"\"", "204"),
            ("200 text/xml null", "200"),
            ("302 text/html \"\"", "302 +redirect"),
            ("404 text/html \"\"", "404 !http_4xx"),
            ("500 text/plain \"OK\"", "500 !http_5xx"),
            ("null - null", "none !no_response"),
        ] {
            let event = &events(parameters, answer)[0];
            assert!(!judge(event).is_caller_facing, "{event}");
            check(parameters, answer, &format!("{expected} {verdict}"));
        }
    }
}

#[test]
fn a_get_without_call_parameters_is_a_media_download() {
    for (answer, verdict) in [
        ("200 audio/mpeg null", "200"),
        ("200 Audio/X-WAV;rate=8000 \"RIFF\"", "200"),
        ("206 audio/ogg null", "206"),
        ("404 text/html \"x\"", "404 !http_4xx"),
        ("403 application/xml \"<Error/>\"", "403 !http_4xx"),
        ("404 audio/mpeg null", "404 !http_4xx"),
        ("500 - null", "500 !http_5xx"),
        ("200 binary/octet-stream \"x\"", "200 !unsupported_content_type"),
        ("200 application/octet-stream null", "200 !unsupported_content_type"),
        ("200 text/html \"<html>\"", "200 !unsupported_content_type"),
        ("204 - \"\"", "204 !unsupported_content_type"),
        ("200 - null", "200 ?"),
        ("304 - null", "304"),
        ("302 text/html null", "302 +redirect"),
        ("null - null", "none !no_response"),
    ] {
        for parameters in ["", "token=x expires=1"] {
            for event in events(parameters, answer) {
                let event = event.replace("\"POST\"", "\"GET\"");
                let observed = observe(&event).expect("observed");
                assert_eq!(show(&observed), format!("media {verdict}"), "{event}");
                assert!(judge(&event).is_caller_facing, "{event}");
            }
        }
    }
    let body = format!("502 text/html \"{PROXY}Response does not contain content type\"");
    let event = events("", &body)[0].replace("\"POST\"", "\"GET\"");
    assert_eq!(show(&observe(&event).expect("observed")), "media none !missing_content_type");
    check("CALL call_status=in-progress", "200 audio/mpeg \"ID3\"", "twiml_request 200");
    check("CALL call_status=in-progress queue_position=1", "200 audio/mpeg null", "wait_url 200");
}

#[test]
fn only_the_dialled_leg_hears_a_whisper() {
    let parameters = "account_sid=AC call_status=in-progress direction=outbound-dial";
    let parent = "CA00000000000000000000000000000099";
    for (call_sid, is_caller_facing) in
        [(call().to_string().as_str(), true), (parent, false), ("CA", false)]
    {
        let parameters = format!("{parameters} parent_call_sid={parent} call_sid={call_sid}");
        for event in events(&parameters, "500 - null") {
            let item = judge(&event);
            assert_eq!(item.is_caller_facing, is_caller_facing, "{event}");
            assert_eq!(show(&item.observed.expect("observed")), "twiml_request 500 !http_5xx");
        }
    }
}
