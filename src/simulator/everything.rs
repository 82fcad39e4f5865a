//! The catalogue of `Mix::Everything`: one call for each case. The truth of each call is certain; calls that
//! are only likely are in `demo`.

use serde_json::json;

use super::answer::{
    AUDIO, Answer, BINARY, FAILURES, JSON, NO_CONTENT, NOT_FOUND, NOT_MODIFIED, NULL, PLAIN_OK,
    REDIRECT, SERVER_ERROR, SUCCESSES, TIMEOUT, TWIML_OK, UNREACHABLE,
};
use super::draft::{CallSlot, Draft, Target};
use super::purpose::{
    AMD_CALLBACK, DIALLED, DIALLED_AFTER_END, ENQUEUED, ENQUEUED_AFTER_END, FALLBACK,
    GATHERED_AFTER_END, GATHERED_DIGITS, GATHERED_SPEECH, MEDIA, OTHER_CALLBACK, PARTIAL_RESULT,
    RECORDED, RECORDING_CALLBACK, STREAM_CALLBACK, TRANSCRIPTION_CALLBACK, TWIML_REQUEST,
    VOICE_URL_INBOUND, VOICE_URL_OUTBOUND, WAITING, legacy_status_callback, status_callback,
};
use super::script::{Call, made_up_sid};

/// Three pages of 1,000, Twilio's maximum page size.
const LONG_CALL_EVENTS: usize = 2_345;

const SPECIALS: &[fn(&CallSlot) -> Vec<Call>] = &[
    every_action,
    every_callback,
    outbound_with_api_requests,
    templated_routes,
    hosts,
    hosted_by_twilio,
    identical_callbacks,
    child_leg,
    failed_without_end_time,
    cancelled_while_queued,
    long_call,
    without_events,
    busy,
    no_answer,
    bad_items,
    null_response,
    pascal_case_parameters,
    redirected,
    not_modified,
    failing_callbacks,
    failing_fallback,
    failing_media,
    hung_up,
    failing_whisper,
    without_duration,
];

const VOICE: Target<'_> = on_ivr("https://ivr.example.com/voice", "/voice");
const MENU: Target<'_> = on_ivr("https://ivr.example.com/menu", "/menu");
const STATUS: Target<'_> = on_ivr("https://ivr.example.com/status", "/status");
const FALLBACK_VOICE: Target<'_> = Target {
    url: "https://fallback.example.com/voice",
    host: "fallback.example.com",
    route: "/voice",
};

/// The number of calls until the catalogue repeats.
pub(crate) fn scenario_count() -> usize {
    SUCCESSES.len() + FAILURES.len() + UNREACHABLE.len() + SPECIALS.len()
}

/// Scripts the call with this number, and its child leg if it has one.
pub(crate) fn write(slot: &CallSlot, number: usize) -> Vec<Call> {
    let number = number % scenario_count();
    let answers = SUCCESSES.iter().chain(FAILURES).chain(UNREACHABLE);
    match answers.clone().nth(number) {
        // The fallback URL succeeds for every other call that fails.
        Some(answer) => vec![gather(slot, *answer, number.is_multiple_of(2))],
        None => SPECIALS[number - answers.count()](slot),
    }
}

fn gather(slot: &CallSlot, answer: Answer, has_fallback: bool) -> Call {
    let mut draft = Draft::inbound(slot);
    draft.request(VOICE_URL_INBOUND, VOICE, TWIML_OK);
    draft.wait(1);
    draft.request(GATHERED_DIGITS, MENU, answer);
    let is_failure = answer.failure.or(answer.twiml_failure).is_some();
    if is_failure && has_fallback {
        draft.request(FALLBACK, FALLBACK_VOICE, TWIML_OK.after_ms(35));
    }
    completed(draft)
}

fn completed(mut draft: Draft) -> Call {
    draft.end("completed");
    draft.request(status_callback("completed"), STATUS, NO_CONTENT);
    draft.finish()
}

fn every_action(slot: &CallSlot) -> Vec<Call> {
    let mut draft = Draft::inbound(slot);
    draft.request(VOICE_URL_INBOUND, VOICE, TWIML_OK);
    draft.request(GATHERED_SPEECH, MENU, TWIML_OK);
    draft.request(TWIML_REQUEST, on_ivr("https://ivr.example.com/queue", "/queue"), TWIML_OK);
    draft.request(WAITING, on_ivr("https://ivr.example.com/wait", "/wait"), TWIML_OK);
    draft.request(ENQUEUED, on_ivr("https://ivr.example.com/enqueued", "/enqueued"), TWIML_OK);
    draft.request(DIALLED, on_ivr("https://ivr.example.com/dialled", "/dialled"), TWIML_OK);
    draft.request(RECORDED, on_ivr("https://ivr.example.com/recorded", "/recorded"), TWIML_OK);
    vec![completed(draft)]
}

fn every_callback(slot: &CallSlot) -> Vec<Call> {
    let mut draft = Draft::inbound(slot);
    draft.request(VOICE_URL_INBOUND, VOICE, TWIML_OK);
    draft.request(
        MEDIA,
        on_ivr("https://ivr.example.com/media/hello.mp3", "/media/hello.mp3"),
        AUDIO,
    );
    draft.request(status_callback("in-progress"), STATUS, NO_CONTENT);
    let partial = on_ivr("https://ivr.example.com/partial", "/partial");
    draft.request(PARTIAL_RESULT, partial, NO_CONTENT);
    draft.request(AMD_CALLBACK, on_ivr("https://ivr.example.com/amd", "/amd"), NO_CONTENT);
    draft.request(STREAM_CALLBACK, on_ivr("https://ivr.example.com/stream", "/stream"), JSON);
    let transcription = on_ivr("https://ivr.example.com/transcription", "/transcription");
    draft.request(TRANSCRIPTION_CALLBACK, transcription, JSON);
    draft.request(OTHER_CALLBACK, on_ivr("https://ivr.example.com/pay", "/pay"), NO_CONTENT);
    draft.end("completed");
    draft.request(legacy_status_callback("completed"), STATUS, JSON);
    draft.wait(2);
    let recording = on_ivr("https://ivr.example.com/recording", "/recording");
    draft.request(RECORDING_CALLBACK, recording, NO_CONTENT);
    vec![draft.finish()]
}

fn outbound_with_api_requests(slot: &CallSlot) -> Vec<Call> {
    let mut draft = Draft::outbound_api(slot);
    draft.request(VOICE_URL_OUTBOUND, VOICE, TWIML_OK);
    let call =
        format!("2010-04-01/Accounts/{}/Calls/{}.json", draft.account_sid(), draft.call_sid());
    draft.api_request(&format!("https://api.twilio.com/{call}"), 200);
    draft.api_request(&format!("https://api.dublin.ie1.twilio.com/{call}"), 404);
    draft.request(GATHERED_DIGITS, MENU, TWIML_OK);
    vec![completed(draft)]
}

fn templated_routes(slot: &CallSlot) -> Vec<Call> {
    let mut draft = Draft::inbound(slot);
    draft.request(VOICE_URL_INBOUND, VOICE, TWIML_OK);
    let by_sid = format!("https://ivr.example.com/calls/{}/menu?lang=en", draft.call_sid());
    for (url, route) in [
        (by_sid.as_str(), "/calls/:id/menu"),
        ("https://ivr.example.com/orders/6f9619ff-8b86-d011-b42d-00cf4fc964ff", "/orders/:id"),
        ("https://ivr.example.com/tenants/42/menu", "/tenants/:id/menu"),
        ("https://ivr.example.com/lines/line15005550123", "/lines/:id"),
        ("https://ivr.example.com/to/%2B15005550123", "/to/:id"),
        ("https://ivr.example.com/users/anna@example.com/menu", "/users/:id/menu"),
        ("https://ivr.example.com/sessions/00f1e2d3c4b5a697", "/sessions/:id"),
        ("https://ivr.example.com/tokens/AbCdEfGh1234IjKlMnOp", "/tokens/:id"),
        ("https://ivr.example.com/menu;v=1", "/menu"),
        ("https://ivr.example.com/v2/menu#rc=2", "/v2/menu"),
    ] {
        draft.request(TWIML_REQUEST, on_ivr(url, route), TWIML_OK);
    }
    vec![completed(draft)]
}

fn hosts(slot: &CallSlot) -> Vec<Call> {
    let mut draft = Draft::inbound(slot);
    draft.request(VOICE_URL_INBOUND, VOICE, TWIML_OK);
    for (url, host, route) in [
        ("https://secure.example.com:8443/voice?token=x#rc=2", "secure.example.com:8443", "/voice"),
        ("https://user:password@secure.example.com/voice", "secure.example.com", "/voice"),
        ("https://IVR.Example.com:443/menu", "ivr.example.com", "/menu"),
        ("http://192.0.2.10:8080/ivr/menu?lang=en", "192.0.2.10:8080", "/ivr/menu"),
        ("http://plain.example.com:80/menu", "plain.example.com", "/menu"),
        ("https://bare.example.com", "bare.example.com", "/"),
        ("https://bare.example.com/?a=b", "bare.example.com", "/"),
    ] {
        draft.request(TWIML_REQUEST, Target { url, host, route }, TWIML_OK);
    }
    vec![completed(draft)]
}

fn hosted_by_twilio(slot: &CallSlot) -> Vec<Call> {
    let mut draft = Draft::inbound(slot);
    let (flow, bin) = (made_up_sid("FW", 1), made_up_sid("EH", 1));
    let studio = format!(
        "https://webhooks.twilio.com/v1/Accounts/{}/Flows/{flow}?FlowEvent=return",
        draft.account_sid()
    );
    let route = format!("/v1/Accounts/:id/Flows/{flow}");
    let studio = Target { url: &studio, host: "webhooks.twilio.com", route: &route };
    draft.request(VOICE_URL_INBOUND, studio, TWIML_OK);
    draft.request(GATHERED_DIGITS, studio, TWIML_OK);
    let (url, route) = (format!("https://handler.twilio.com/twiml/{bin}"), format!("/twiml/{bin}"));
    let target = Target { url: &url, host: "handler.twilio.com", route: &route };
    draft.request(TWIML_REQUEST, target, TWIML_OK);
    vec![completed(draft)]
}

/// Two identical status callbacks, which count twice.
fn identical_callbacks(slot: &CallSlot) -> Vec<Call> {
    let mut draft = Draft::inbound(slot);
    draft.request(VOICE_URL_INBOUND, VOICE, TWIML_OK);
    draft.end("completed");
    draft.request(status_callback("completed"), STATUS, NO_CONTENT);
    draft.request(status_callback("completed"), STATUS, NO_CONTENT);
    vec![draft.finish()]
}

fn child_leg(slot: &CallSlot) -> Vec<Call> {
    let mut parent = Draft::inbound(slot);
    parent.request(VOICE_URL_INBOUND, VOICE, TWIML_OK);
    let mut child = Draft::child(slot, 2);
    let whisper = on_ivr("https://ivr.example.com/whisper", "/whisper");
    child.request(TWIML_REQUEST, whisper, TWIML_OK);
    parent.wait(4);
    parent.request(DIALLED, on_ivr("https://ivr.example.com/dialled", "/dialled"), TWIML_OK);
    vec![completed(parent), completed(child)]
}

fn failed_without_end_time(slot: &CallSlot) -> Vec<Call> {
    let mut draft = Draft::outbound_unanswered(slot);
    draft.end_without_time("failed");
    draft.request(status_callback("failed"), STATUS, NO_CONTENT);
    vec![draft.finish()]
}

fn cancelled_while_queued(slot: &CallSlot) -> Vec<Call> {
    let mut draft = Draft::queued(slot);
    draft.end_without_time("canceled");
    draft.request(status_callback("canceled"), STATUS, NO_CONTENT);
    vec![draft.finish()]
}

/// Many of its events are identical in everything that Twilio shows.
fn long_call(slot: &CallSlot) -> Vec<Call> {
    let mut draft = Draft::inbound(slot);
    draft.request(VOICE_URL_INBOUND, VOICE, TWIML_OK);
    for _ in 2..LONG_CALL_EVENTS {
        draft.request(GATHERED_DIGITS, MENU, TWIML_OK.after_ms(4));
    }
    vec![completed(draft)]
}

fn without_events(slot: &CallSlot) -> Vec<Call> {
    let mut draft = Draft::inbound(slot);
    draft.end("completed");
    vec![draft.finish()]
}

fn busy(slot: &CallSlot) -> Vec<Call> {
    let mut draft = Draft::outbound_unanswered(slot);
    draft.end("busy");
    draft.request(legacy_status_callback("busy"), STATUS, NO_CONTENT);
    vec![draft.finish()]
}

fn no_answer(slot: &CallSlot) -> Vec<Call> {
    let mut draft = Draft::outbound_unanswered(slot);
    draft.end("no-answer");
    draft.request(legacy_status_callback("no-answer"), STATUS, NO_CONTENT);
    vec![draft.finish()]
}

/// Valid and invalid items on one page.
fn bad_items(slot: &CallSlot) -> Vec<Call> {
    let mut draft = Draft::inbound(slot);
    draft.request(VOICE_URL_INBOUND, VOICE, TWIML_OK);
    draft.add_invalid(json!(42), "malformed");
    draft.add_invalid(json!("x"), "malformed");
    draft.add_invalid(json!({"request": null}), "malformed");
    draft.request(TWIML_REQUEST, MENU, TWIML_OK);
    draft.invalidate("/request/url", json!("not a url"), "invalid_url");
    draft.request(TWIML_REQUEST, MENU, TWIML_OK);
    draft.invalidate("/response/response_code", json!("abc"), "invalid_code");
    draft.request(TWIML_REQUEST, MENU, TWIML_OK);
    draft.invalidate("/response/response_code", json!(999), "invalid_code");
    vec![completed(draft)]
}

/// The null response is the only TwiML request: without a date, its order relative to others would be
/// unknown.
fn null_response(slot: &CallSlot) -> Vec<Call> {
    let mut draft = Draft::inbound(slot);
    draft.request(VOICE_URL_INBOUND, VOICE, NULL);
    vec![completed(draft)]
}

fn pascal_case_parameters(slot: &CallSlot) -> Vec<Call> {
    let mut draft = Draft::inbound(slot);
    draft.use_pascal_case();
    draft.request(VOICE_URL_INBOUND, VOICE, TWIML_OK);
    draft.request(GATHERED_DIGITS, MENU, TWIML_OK);
    vec![completed(draft)]
}

fn redirected(slot: &CallSlot) -> Vec<Call> {
    let mut draft = Draft::inbound(slot);
    draft.request(VOICE_URL_INBOUND, on_ivr("https://ivr.example.com/old", "/old"), REDIRECT);
    draft.request(VOICE_URL_INBOUND, VOICE, TWIML_OK);
    vec![completed(draft)]
}

fn not_modified(slot: &CallSlot) -> Vec<Call> {
    let mut draft = Draft::inbound(slot);
    draft.request(VOICE_URL_INBOUND, VOICE, NOT_MODIFIED);
    vec![completed(draft)]
}

/// Failures that don't affect the caller.
fn failing_callbacks(slot: &CallSlot) -> Vec<Call> {
    let mut draft = Draft::inbound(slot);
    draft.request(VOICE_URL_INBOUND, VOICE, TWIML_OK);
    draft.request(status_callback("in-progress"), STATUS, TIMEOUT);
    draft.end("completed");
    draft.request(status_callback("completed"), STATUS, NOT_FOUND);
    draft.request(
        RECORDING_CALLBACK,
        on_ivr("https://ivr.example.com/recording", "/recording"),
        SERVER_ERROR,
    );
    draft.request(OTHER_CALLBACK, on_ivr("https://ivr.example.com/pay", "/pay"), NULL);
    vec![draft.finish()]
}

/// Twilio plays its application error instead of the audio, and hangs up or requests the fallback URL.
fn failing_media(slot: &CallSlot) -> Vec<Call> {
    let media = on_ivr("https://ivr.example.com/media/gone.mp3", "/media/gone.mp3");
    let mut cut_off = Draft::inbound(slot);
    cut_off.request(VOICE_URL_INBOUND, VOICE, TWIML_OK);
    cut_off.request(MEDIA, media, NOT_FOUND);
    let mut recovered = Draft::child(slot, 1);
    recovered.request(MEDIA, media, BINARY);
    recovered.request(FALLBACK, FALLBACK_VOICE, TWIML_OK);
    vec![completed(cut_off), completed(recovered)]
}

/// The caller hangs up, and Twilio ignores the responses to the actions.
fn hung_up(slot: &CallSlot) -> Vec<Call> {
    let mut draft = Draft::inbound(slot);
    draft.request(VOICE_URL_INBOUND, VOICE, TWIML_OK);
    draft.end("completed");
    let recorded = on_ivr("https://ivr.example.com/recorded", "/recorded");
    draft.request(RECORDED, recorded, PLAIN_OK);
    draft.request(RECORDED, recorded, SERVER_ERROR);
    draft.request(GATHERED_AFTER_END, MENU, JSON);
    draft.request(
        DIALLED_AFTER_END,
        on_ivr("https://ivr.example.com/dialled", "/dialled"),
        NO_CONTENT,
    );
    draft.request(
        ENQUEUED_AFTER_END,
        on_ivr("https://ivr.example.com/enqueued", "/enqueued"),
        TIMEOUT,
    );
    draft.request(status_callback("completed"), STATUS, NO_CONTENT);
    vec![draft.finish()]
}

/// The dialled leg is cut off, but the caller isn't.
fn failing_whisper(slot: &CallSlot) -> Vec<Call> {
    let mut parent = Draft::inbound(slot);
    parent.request(VOICE_URL_INBOUND, VOICE, TWIML_OK);
    let mut child = Draft::child(slot, 2);
    child.request(
        TWIML_REQUEST,
        on_ivr("https://ivr.example.com/whisper", "/whisper"),
        SERVER_ERROR,
    );
    parent.wait(4);
    parent.request(DIALLED, on_ivr("https://ivr.example.com/dialled", "/dialled"), TWIML_OK);
    vec![completed(parent), completed(child)]
}

fn failing_fallback(slot: &CallSlot) -> Vec<Call> {
    let mut draft = Draft::inbound(slot);
    draft.request(VOICE_URL_INBOUND, VOICE, TWIML_OK);
    draft.request(GATHERED_DIGITS, MENU, SERVER_ERROR);
    draft.request(FALLBACK, FALLBACK_VOICE, JSON);
    vec![completed(draft)]
}

fn without_duration(slot: &CallSlot) -> Vec<Call> {
    let mut draft = Draft::inbound(slot);
    draft.request(VOICE_URL_INBOUND, VOICE, Answer { duration_ms: None, ..TWIML_OK });
    vec![completed(draft)]
}

const fn on_ivr<'a>(url: &'a str, route: &'a str) -> Target<'a> {
    Target { url, host: "ivr.example.com", route }
}
