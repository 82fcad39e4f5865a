//! Complete Call Events as Twilio documents and sends them, and how they are judged.
//!
//! Each row is tested with parameters named as in Call Events (`call_sid`), the documentation (`CallSid`) and
//! scripts (`callSid`), and with numbers as JSON numbers and as strings.

use super::*;

/// The parameters of every request about a live call.
const CALL: &str =
    "call_sid=CA account_sid=AC from=x to=y api_version=2010-04-01 direction=inbound";
const TWIML: &str = "<Response><Hangup/></Response>";
/// The start of the body with which Twilio's proxy reports an error in place of the application's response.
pub(super) const PROXY: &str =
    "Twilio was unable to fetch content from: https://a.example/\\nError: ";

#[test]
fn the_parameters_determine_the_kind_of_request() {
    for (parameters, expected) in [
        // These expect TwiML; JSON is a failure.
        ("CALL call_status=ringing", "voice_url"),
        ("CALL call_status=ringing forwarded_from=z caller_name=n stir_verstat=A", "voice_url"),
        ("call_sid=CA call_status=in-progress direction=outbound-api", "voice_url"),
        (
            "call_sid=CA call_status=in-progress direction=outbound-api answered_by=human machine_detection_duration=3",
            "voice_url",
        ),
        ("CALL call_status=ringing error_code=11200 error_url=u", "fallback_url"),
        ("CALL call_status=in-progress error_code=11200 error_url=u digits=1", "fallback_url"),
        ("CALL call_status=in-progress digits=1 finished_on_key=#", "gather_action"),
        ("CALL call_status=in-progress digits= msg=timeout", "gather_action"),
        (
            "CALL call_status=in-progress speech_result=yes confidence=0.9 language=en",
            "gather_action",
        ),
        (
            "CALL call_status=in-progress recording_url=u recording_sid=RE recording_duration=3",
            "record_action",
        ),
        (
            "CALL call_status=in-progress dial_call_status=completed dial_call_sid=CA dial_bridged=true",
            "dial_action",
        ),
        ("CALL call_status=in-progress dial_call_status=completed recording_url=u", "dial_action"),
        (
            "CALL call_status=in-progress queue_result=bridged queue_sid=QU queue_time=3",
            "enqueue_action",
        ),
        ("CALL call_status=in-progress queue_position=1 queue_sid=QU queue_time=3", "wait_url"),
        ("CALL call_status=in-progress avg_queue_time=9", "wait_url"),
        ("CALL call_status=in-progress current_queue_size=9 max_queue_size=99", "wait_url"),
        // Pay, Refer, virtual agents and ConversationRelay request the next instructions with the call's
        // ordinary parameters; a conference requests its hold music.
        (
            "CALL call_status=in-progress result=success payment_token=t profile_id=p",
            "twiml_request",
        ),
        (
            "CALL call_status=in-progress refer_call_status=completed refer_sip_response_code=202",
            "twiml_request",
        ),
        ("CALL call_status=in-progress refer_transfer_target=s", "twiml_request"),
        ("CALL call_status=in-progress virtual_agent_status=live-agent-handoff", "twiml_request"),
        (
            "CALL call_status=in-progress session_id=VX session_status=ended handoff_data=d",
            "twiml_request",
        ),
        ("CALL call_status=in-progress conference_sid=CF friendly_name=f", "twiml_request"),
        ("CALL call_status=in-progress", "twiml_request"),
        (
            "call_sid=CA call_status=in-progress direction=outbound-dial parent_call_sid=CA",
            "twiml_request",
        ),
        ("call_sid=CA call_status=ringing direction=outbound-api", "twiml_request"),
        ("call_sid=CA call_status=in-progress", "twiml_request"),
    ] {
        let failed = format!("{expected} 200 !unsupported_content_type");
        check(parameters, "200 application/json {}", &failed);
        check(parameters, &format!("200 text/xml {TWIML}"), &format!("{expected} 200"));
        check(parameters, "204 - null", &format!("{expected} 204 ?"));
    }
}

#[test]
fn a_callback_accepts_any_successful_response() {
    for (parameters, expected) in [
        (
            "CALL call_status=completed callback_source=call-progress-events sequence_number=3 timestamp=t call_duration=2 duration=1",
            "status_callback",
        ),
        (
            "CALL call_status=ringing callback_source=call-progress-events sequence_number=1",
            "status_callback",
        ),
        (
            "CALL call_status=in-progress callback_source=call-progress-events sequence_number=2 digits=1",
            "status_callback",
        ),
        ("CALL call_status=completed call_duration=2", "status_callback"),
        ("CALL call_status=busy", "status_callback"),
        ("CALL call_status=failed sip_response_code=503", "status_callback"),
        ("CALL call_status=no-answer", "status_callback"),
        ("CALL call_status=canceled", "status_callback"),
        (
            "CALL call_status=in-progress sequence_number=0 unstable_speech_result=x stability=0.8",
            "gather_callback",
        ),
        (
            "CALL call_status=in-progress sequence_number=1 stable_speech_result=x unstable_speech_result=y language=en-US",
            "gather_callback",
        ),
        (
            "CALL call_status=in-progress sequence_number=2 stable_speech_result=x",
            "gather_callback",
        ),
        ("CALL call_status=completed unstable_speech_result=x", "gather_callback"),
        ("CALL call_status=completed refer_call_status=failed", "status_callback"),
        (
            "call_sid=CA account_sid=AC recording_sid=RE recording_status=completed recording_url=u recording_source=DialVerb",
            "recording_callback",
        ),
        (
            "account_sid=AC conference_sid=CF recording_sid=RE recording_status=in-progress recording_source=Conference",
            "recording_callback",
        ),
        (
            "CALL call_status=in-progress recording_sid=RE recording_status=absent",
            "recording_callback",
        ),
        (
            "call_sid=CA account_sid=AC answered_by=machine_start machine_detection_duration=3",
            "amd_callback",
        ),
        (
            "call_sid=CA account_sid=AC stream_sid=MZ stream_event=stream-started stream_name=n",
            "stream_callback",
        ),
        (
            "call_sid=CA account_sid=AC transcription_sid=GT transcription_event=transcription-content transcription_data=d",
            "transcription_callback",
        ),
        (
            "call_sid=CA account_sid=AC stream_sid=MZ stream_event=siprec-stopped stream_name=n timestamp=t",
            "stream_callback",
        ),
        (
            "CALL call_status=completed transcription_sid=TR transcription_status=completed transcription_text=t recording_sid=RE recording_url=u",
            "transcription_callback",
        ),
        (
            "call_sid=CA account_sid=AC transcription_sid=GT transcription_event=transcription-content final=false stability=0.9 sequence_id=3",
            "transcription_callback",
        ),
        (
            "call_sid=CA account_sid=AC conference_sid=CF status_callback_event=participant-join",
            "other_callback",
        ),
        (
            "CALL call_status=in-progress conference_sid=CF status_callback_event=participant-mute sequence_number=3",
            "other_callback",
        ),
        (
            "account_sid=AC conference_sid=CF status_callback_event=conference-end reason_conference_ended=r",
            "other_callback",
        ),
        (
            "call_sid=CA account_sid=AC conference_sid=CF status_callback_event=announcement-end announce_url=u",
            "other_callback",
        ),
        ("call_sid=CA account_sid=AC siprec_sid=SR event=started", "other_callback"),
        ("call_sid=CA account_sid=AC virtual_agent_event=e connector_name=c", "other_callback"),
        (
            "call_sid=CA account_sid=AC for=payment-card-number attempt=1 error_type=timeout",
            "other_callback",
        ),
        ("call_sid=CA account_sid=AC payment_connector=p result=success", "other_callback"),
        ("call_status=in-progress", "other_callback"),
        ("", "other_callback"),
    ] {
        for (answer, verdict) in [
            ("204 - \"\"", "204"),
            ("200 application/json {}", "200"),
            ("200 text/html \"<p>thanks\"", "200"),
            ("200 text/xml \"<Response>\"", "200"),
            ("200 - null", "200"),
            ("302 text/html \"\"", "302 +redirect"),
            ("304 - \"\"", "304"),
            ("404 text/html \"\"", "404 !http_4xx"),
            ("500 application/json {}", "500 !http_5xx"),
        ] {
            check(parameters, answer, &format!("{expected} {verdict}"));
        }
        check(
            parameters,
            &format!("502 text/html \"{PROXY}Connection refused\""),
            &format!("{expected} none !connection"),
        );
    }
}

#[test]
fn judges_a_body_that_is_a_string() {
    let large = format!("\"<Response><Say>{}</Say></Response>\"", "a".repeat(65_536));
    for (answer, verdict) in [
        ("200 text/xml \"\\ufeff<Response/>\"", "200"),
        ("200 text/xml;charset=UTF-8 \"<Response/>\"", "200"),
        ("200 TEXT/XML \"<Response><Speak/></Response>\"", "200 +unknown_verb"),
        ("200 text/html \"<Response/>\"", "200"),
        ("200 text/plain \"<?xml version='1.0'?><Response/>\"", "200"),
        ("200 application/vnd.x+xml \"<Response/>\"", "200"),
        ("200 - \"<Response/>\"", "200"),
        ("201 text/xml \"<Response/>\"", "201"),
        ("200 text/xml null", "200 ?"),
        ("200 text/xml {\"sid\":\"x\"}", "200 ?"),
        ("200 text/xml [1]", "200 ?"),
        ("200 text/xml 7", "200 ?"),
        ("200 - null", "200 ?"),
        ("200 text/xml \"<\\u0000R\\u0000\"", "200 ?"),
        ("200 application/json null", "200 !unsupported_content_type"),
        ("200 image/png null", "200 !unsupported_content_type"),
        ("200 text/xml \"\"", "200 !empty_body"),
        ("200 text/xml \" \\r\\n\\t\"", "200 !empty_body"),
        ("200 text/xml \"\\ufeff\"", "200 !empty_body"),
        ("204 - \"\"", "204 !empty_body"),
        ("200 text/html \"<!DOCTYPE html><title>Login</title>\"", "200 !not_twiml"),
        ("200 text/html \"<Response><Say>x\"", "200 !not_twiml"),
        ("200 text/plain \"OK\"", "200 !not_twiml"),
        ("200 - \"OK\"", "200 !not_twiml"),
        ("200 text/xml \"Warning: x\\n<Response/>\"", "200 !malformed_xml"),
        ("200 text/xml \" <?xml version='1.0'?><Response/>\"", "200 !malformed_xml"),
        ("200 text/xml \"<Response><Dial action='/x?a=1&b=2'/></Response>\"", "200 !malformed_xml"),
        ("200 application/soap+xml \"<Envelope/>\"", "200 !wrong_root"),
        (&format!("200 text/xml {large}"), "200 !too_large"),
        (&format!("200 application/json {large}"), "200 !too_large"),
        ("100 - null", "100"),
        ("301 text/html \"\"", "301 +redirect"),
        ("304 - null", "304"),
        ("401 text/html \"\"", "401 !http_4xx"),
        ("429 - null", "429 !http_4xx"),
        ("502 text/html \"<h1>502 Bad Gateway</h1>\"", "502 !http_5xx"),
        ("503 text/html null", "503 !http_5xx"),
        ("502 text/html null", "502 !http_5xx"),
        ("599 - null", "599 !http_5xx"),
        ("0 - null", "none !no_response"),
        ("null - null", "none !no_response"),
    ] {
        check("CALL call_status=ringing", answer, &format!("voice_url {verdict}"));
    }
}

#[test]
fn classifies_the_errors_of_twilios_proxy() {
    for (error, reason) in [
        ("Error reading response: Response does not contain content type", "missing_content_type"),
        (
            "Total timeout is triggered. Configured tt is 15000ms and we attempted 1 time(s)",
            "timeout",
        ),
        ("HTTP Connection Failure - Read timed out", "timeout"),
        ("Connect timeout after 5000ms", "connection"),
        ("Failed to connect to ip 192.0.2.6: connection timed out: /192.0.2.6:80", "connection"),
        ("Handshake failure\\nSSL Version: TLSv1.2", "tls"),
        ("Certificate Invalid - Domain Mismatch", "tls"),
        ("DNS lookup failed", "dns"),
        ("upstream connect error or disconnect/reset before headers", "connection"),
        ("Blacklisted IP", "connection"),
        ("Connection refused by crossland.example", "connection"),
        ("", "no_response"),
        ("Too many redirects", "redirects"),
    ] {
        let answer =
            format!("502 text/html \"{PROXY}{error}\\nAccount SID: AC\\nURL Fragment: false\"");
        check("CALL call_status=ringing", &answer, &format!("voice_url none !{reason}"));
    }
    // Without the marker at the start, or with another code, the response is the application's own.
    for (answer, verdict) in [
        (format!("502 text/html \"<pre>{PROXY}x\""), "502 !http_5xx"),
        (format!("503 text/html \"{PROXY}x\""), "503 !http_5xx"),
        (format!("200 text/html \"{PROXY}x\""), "200 !not_twiml"),
    ] {
        check("CALL call_status=ringing", &answer, &format!("voice_url {verdict}"));
    }
}

pub(super) fn check(parameters: &str, answer: &str, expected: &str) {
    for event in events(parameters, answer) {
        let observed = observe(&event).expect("observed");
        assert_eq!(observed.duration_ms, Some(140));
        assert_eq!(show(&observed), expected, "{event:.600}");
    }
}

/// Returns Call Events for a request with these parameters and the response `code content-type body`, one for
/// each spelling of names and numbers.
pub(super) fn events(parameters: &str, answer: &str) -> Vec<String> {
    let mut parts = answer.splitn(3, ' ');
    let mut part = || parts.next().expect("code, content type, body");
    let (code, content_type, body) = (part(), part(), part());
    let content_type =
        if content_type == "-" { "null".to_owned() } else { format!("\"{content_type}\"") };
    let body = if body.starts_with('<') { format!("\"{body}\"") } else { body.to_owned() };
    let parameters = parameters.replace("CALL", CALL);
    let mut events = Vec::new();
    for casing in [snake, pascal, camel] {
        let pairs: Vec<String> = parameters
            .split_whitespace()
            .filter_map(|pair| pair.split_once('='))
            .map(|(name, value)| format!("\"{}\":\"{value}\"", casing(name)))
            .collect();
        for number in [code.to_owned(), format!("\"{code}\"").replace("\"null\"", "null")] {
            events.push(format!(
                "{{\"request\":{{\"method\":\"POST\",\"url\":\"https://a.example/x\",\"parameters\":{{{}}}}},\
                 \"response\":{{\"response_code\":{number},\"request_duration\":\"140\",\
                 \"content_type\":{content_type},\"response_body\":{body}}}}}",
                pairs.join(",")
            ));
        }
    }
    events
}

pub(super) fn show(observed: &Observation) -> String {
    let verdict = &observed.verdict;
    let failure = verdict.failure.map(|reason| format!(" !{reason}")).unwrap_or_default();
    let warning = verdict.warning.map(|warning| format!(" +{warning}")).unwrap_or_default();
    let unjudged = if verdict.is_unjudged { " ?" } else { "" };
    format!("{} {}{failure}{warning}{unjudged}", observed.kind, verdict.code)
}

fn snake(name: &str) -> String {
    name.to_owned()
}

fn pascal(name: &str) -> String {
    let words = name.split('_').map(|word| word[..1].to_uppercase() + &word[1..]);
    words.collect()
}

fn camel(name: &str) -> String {
    let pascal = pascal(name);
    pascal[..1].to_lowercase() + &pascal[1..]
}
