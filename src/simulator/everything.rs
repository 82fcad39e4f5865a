//! Answers for the catalogue of `Mix::Everything`: one call for each thing that can happen.
//! Calls are written so that their truth is beyond dispute; what is merely likely is in `demo`.

use serde_json::json;

use super::answer::{
    AUDIO, Answer, BINARY, FAILURES, JSON, NO_CONTENT, NOT_FOUND, NOT_MODIFIED, NULL, PLAIN_OK,
    REDIRECT, SERVER_ERROR, SUCCESSES, TIMEOUT, TWIML_OK, UNREACHABLE,
};
use super::draft::{CallSlot, Draft, Target};
use super::purpose::{
    AMD_CALLBACK, DIALLED, DIALLED_AT_LAST, ENQUEUED, ENQUEUED_AT_LAST, FALLBACK, GATHERED_AT_LAST,
    GATHERED_DIGITS, GATHERED_SPEECH, MEDIA, OTHER_CALLBACK, PARTIAL_RESULT, RECORDED,
    RECORDING_CALLBACK, STREAM_CALLBACK, TRANSCRIPTION_CALLBACK, TWIML_REQUEST, VOICE_URL_INBOUND,
    VOICE_URL_OUTBOUND, WAITING, status_callback, unsigned_status_callback,
};
use super::script::{Call, made_up_sid};

/// Three pages of 1,000, the most that Twilio puts on a page.
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
    failing_sounds,
    hung_up,
    failing_whisper,
    without_duration,
];

const VOICE: Target<'_> = on_ivr("https://ivr.example.com/voice", "/voice");
const MENU: Target<'_> = on_ivr("https://ivr.example.com/menu", "/menu");
const STATUS: Target<'_> = on_ivr("https://ivr.example.com/status", "/status");
const RESCUE: Target<'_> = Target {
    url: "https://fallback.example.com/voice",
    host: "fallback.example.com",
    route: "/voice",
};

/// How many calls there are before the catalogue starts again.
pub(crate) fn scenario_count() -> usize {
    SUCCESSES.len() + FAILURES.len() + UNREACHABLE.len() + SPECIALS.len()
}

/// Writes the call of this number, and its child leg when it has one.
pub(crate) fn write(seat: &CallSlot, number: usize) -> Vec<Call> {
    let number = number % scenario_count();
    let answers = SUCCESSES.iter().chain(FAILURES).chain(UNREACHABLE);
    match answers.clone().nth(number) {
        // Every other call that fails is rescued by its fallback URL.
        Some(answer) => vec![gather(seat, *answer, number.is_multiple_of(2))],
        None => SPECIALS[number - answers.count()](seat),
    }
}

fn gather(seat: &CallSlot, answer: Answer, has_fallback: bool) -> Call {
    let mut draft = Draft::inbound(seat);
    draft.ask(VOICE_URL_INBOUND, VOICE, TWIML_OK);
    draft.wait(1);
    draft.ask(GATHERED_DIGITS, MENU, answer);
    let is_failure = answer.failure.or(answer.twiml_failure).is_some();
    if is_failure && has_fallback {
        draft.ask(FALLBACK, RESCUE, TWIML_OK.after_ms(35));
    }
    completed(draft)
}

fn completed(mut draft: Draft) -> Call {
    draft.end("completed");
    draft.ask(status_callback("completed"), STATUS, NO_CONTENT);
    draft.done()
}

fn every_action(seat: &CallSlot) -> Vec<Call> {
    let mut draft = Draft::inbound(seat);
    draft.ask(VOICE_URL_INBOUND, VOICE, TWIML_OK);
    draft.ask(GATHERED_SPEECH, MENU, TWIML_OK);
    draft.ask(TWIML_REQUEST, on_ivr("https://ivr.example.com/queue", "/queue"), TWIML_OK);
    draft.ask(WAITING, on_ivr("https://ivr.example.com/wait", "/wait"), TWIML_OK);
    draft.ask(ENQUEUED, on_ivr("https://ivr.example.com/enqueued", "/enqueued"), TWIML_OK);
    draft.ask(DIALLED, on_ivr("https://ivr.example.com/dialled", "/dialled"), TWIML_OK);
    draft.ask(RECORDED, on_ivr("https://ivr.example.com/recorded", "/recorded"), TWIML_OK);
    vec![completed(draft)]
}

fn every_callback(seat: &CallSlot) -> Vec<Call> {
    let mut draft = Draft::inbound(seat);
    draft.ask(VOICE_URL_INBOUND, VOICE, TWIML_OK);
    draft.ask(MEDIA, on_ivr("https://ivr.example.com/media/hello.mp3", "/media/hello.mp3"), AUDIO);
    draft.ask(status_callback("in-progress"), STATUS, NO_CONTENT);
    let partial = on_ivr("https://ivr.example.com/partial", "/partial");
    draft.ask(PARTIAL_RESULT, partial, NO_CONTENT);
    draft.ask(AMD_CALLBACK, on_ivr("https://ivr.example.com/amd", "/amd"), NO_CONTENT);
    draft.ask(STREAM_CALLBACK, on_ivr("https://ivr.example.com/stream", "/stream"), JSON);
    let transcription = on_ivr("https://ivr.example.com/transcription", "/transcription");
    draft.ask(TRANSCRIPTION_CALLBACK, transcription, JSON);
    draft.ask(OTHER_CALLBACK, on_ivr("https://ivr.example.com/pay", "/pay"), NO_CONTENT);
    draft.end("completed");
    draft.ask(unsigned_status_callback("completed"), STATUS, JSON);
    draft.wait(2);
    let recording = on_ivr("https://ivr.example.com/recording", "/recording");
    draft.ask(RECORDING_CALLBACK, recording, NO_CONTENT);
    vec![draft.done()]
}

fn outbound_with_api_requests(seat: &CallSlot) -> Vec<Call> {
    let mut draft = Draft::outbound_api(seat);
    draft.ask(VOICE_URL_OUTBOUND, VOICE, TWIML_OK);
    let call =
        format!("2010-04-01/Accounts/{}/Calls/{}.json", draft.account_sid(), draft.call_sid());
    draft.api_request(&format!("https://api.twilio.com/{call}"), 200);
    draft.api_request(&format!("https://api.dublin.ie1.twilio.com/{call}"), 404);
    draft.ask(GATHERED_DIGITS, MENU, TWIML_OK);
    vec![completed(draft)]
}

fn templated_routes(seat: &CallSlot) -> Vec<Call> {
    let mut draft = Draft::inbound(seat);
    draft.ask(VOICE_URL_INBOUND, VOICE, TWIML_OK);
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
        draft.ask(TWIML_REQUEST, on_ivr(url, route), TWIML_OK);
    }
    vec![completed(draft)]
}

fn hosts(seat: &CallSlot) -> Vec<Call> {
    let mut draft = Draft::inbound(seat);
    draft.ask(VOICE_URL_INBOUND, VOICE, TWIML_OK);
    for (url, host, route) in [
        ("https://secure.example.com:8443/voice?token=x#rc=2", "secure.example.com:8443", "/voice"),
        ("https://user:password@secure.example.com/voice", "secure.example.com", "/voice"),
        ("https://IVR.Example.com:443/menu", "ivr.example.com", "/menu"),
        ("http://192.0.2.10:8080/ivr/menu?lang=en", "192.0.2.10:8080", "/ivr/menu"),
        ("http://plain.example.com:80/menu", "plain.example.com", "/menu"),
        ("https://bare.example.com", "bare.example.com", "/"),
        ("https://bare.example.com/?a=b", "bare.example.com", "/"),
    ] {
        draft.ask(TWIML_REQUEST, Target { url, host, route }, TWIML_OK);
    }
    vec![completed(draft)]
}

fn hosted_by_twilio(seat: &CallSlot) -> Vec<Call> {
    let mut draft = Draft::inbound(seat);
    let (flow, bin) = (made_up_sid("FW", 1), made_up_sid("EH", 1));
    let studio = format!(
        "https://webhooks.twilio.com/v1/Accounts/{}/Flows/{flow}?FlowEvent=return",
        draft.account_sid()
    );
    let route = format!("/v1/Accounts/:id/Flows/{flow}");
    let studio = Target { url: &studio, host: "webhooks.twilio.com", route: &route };
    draft.ask(VOICE_URL_INBOUND, studio, TWIML_OK);
    draft.ask(GATHERED_DIGITS, studio, TWIML_OK);
    let (url, route) = (format!("https://handler.twilio.com/twiml/{bin}"), format!("/twiml/{bin}"));
    let target = Target { url: &url, host: "handler.twilio.com", route: &route };
    draft.ask(TWIML_REQUEST, target, TWIML_OK);
    vec![completed(draft)]
}

/// Two status callbacks that nothing tells apart: they count twice.
fn identical_callbacks(seat: &CallSlot) -> Vec<Call> {
    let mut draft = Draft::inbound(seat);
    draft.ask(VOICE_URL_INBOUND, VOICE, TWIML_OK);
    draft.end("completed");
    draft.ask(status_callback("completed"), STATUS, NO_CONTENT);
    draft.ask(status_callback("completed"), STATUS, NO_CONTENT);
    vec![draft.done()]
}

fn child_leg(seat: &CallSlot) -> Vec<Call> {
    let mut parent = Draft::inbound(seat);
    parent.ask(VOICE_URL_INBOUND, VOICE, TWIML_OK);
    let mut child = Draft::child(seat, 2);
    let whisper = on_ivr("https://ivr.example.com/whisper", "/whisper");
    child.ask(TWIML_REQUEST, whisper, TWIML_OK);
    parent.wait(4);
    parent.ask(DIALLED, on_ivr("https://ivr.example.com/dialled", "/dialled"), TWIML_OK);
    vec![completed(parent), completed(child)]
}

fn failed_without_end_time(seat: &CallSlot) -> Vec<Call> {
    let mut draft = Draft::outbound_unanswered(seat);
    draft.end_unseen("failed");
    draft.ask(status_callback("failed"), STATUS, NO_CONTENT);
    vec![draft.done()]
}

fn cancelled_while_queued(seat: &CallSlot) -> Vec<Call> {
    let mut draft = Draft::queued(seat);
    draft.end_unseen("canceled");
    draft.ask(status_callback("canceled"), STATUS, NO_CONTENT);
    vec![draft.done()]
}

/// Many of its events are identical in everything that Twilio shows.
fn long_call(seat: &CallSlot) -> Vec<Call> {
    let mut draft = Draft::inbound(seat);
    draft.ask(VOICE_URL_INBOUND, VOICE, TWIML_OK);
    for _ in 2..LONG_CALL_EVENTS {
        draft.ask(GATHERED_DIGITS, MENU, TWIML_OK.after_ms(4));
    }
    vec![completed(draft)]
}

fn without_events(seat: &CallSlot) -> Vec<Call> {
    let mut draft = Draft::inbound(seat);
    draft.end("completed");
    vec![draft.done()]
}

fn busy(seat: &CallSlot) -> Vec<Call> {
    let mut draft = Draft::outbound_unanswered(seat);
    draft.end("busy");
    draft.ask(unsigned_status_callback("busy"), STATUS, NO_CONTENT);
    vec![draft.done()]
}

fn no_answer(seat: &CallSlot) -> Vec<Call> {
    let mut draft = Draft::outbound_unanswered(seat);
    draft.end("no-answer");
    draft.ask(unsigned_status_callback("no-answer"), STATUS, NO_CONTENT);
    vec![draft.done()]
}

/// Good and bad items on one page.
fn bad_items(seat: &CallSlot) -> Vec<Call> {
    let mut draft = Draft::inbound(seat);
    draft.ask(VOICE_URL_INBOUND, VOICE, TWIML_OK);
    draft.show(json!(42), "malformed");
    draft.show(json!("x"), "malformed");
    draft.show(json!({"request": null}), "malformed");
    draft.ask(TWIML_REQUEST, MENU, TWIML_OK);
    draft.spoil("/request/url", json!("not a url"), "invalid_url");
    draft.ask(TWIML_REQUEST, MENU, TWIML_OK);
    draft.spoil("/response/response_code", json!("abc"), "invalid_code");
    draft.ask(TWIML_REQUEST, MENU, TWIML_OK);
    draft.spoil("/response/response_code", json!(999), "invalid_code");
    vec![completed(draft)]
}

/// The null response is the only TwiML request: without a date, nothing is before or after it.
fn null_response(seat: &CallSlot) -> Vec<Call> {
    let mut draft = Draft::inbound(seat);
    draft.ask(VOICE_URL_INBOUND, VOICE, NULL);
    vec![completed(draft)]
}

fn pascal_case_parameters(seat: &CallSlot) -> Vec<Call> {
    let mut draft = Draft::inbound(seat);
    draft.use_pascal_case();
    draft.ask(VOICE_URL_INBOUND, VOICE, TWIML_OK);
    draft.ask(GATHERED_DIGITS, MENU, TWIML_OK);
    vec![completed(draft)]
}

fn redirected(seat: &CallSlot) -> Vec<Call> {
    let mut draft = Draft::inbound(seat);
    draft.ask(VOICE_URL_INBOUND, on_ivr("https://ivr.example.com/old", "/old"), REDIRECT);
    draft.ask(VOICE_URL_INBOUND, VOICE, TWIML_OK);
    vec![completed(draft)]
}

fn not_modified(seat: &CallSlot) -> Vec<Call> {
    let mut draft = Draft::inbound(seat);
    draft.ask(VOICE_URL_INBOUND, VOICE, NOT_MODIFIED);
    vec![completed(draft)]
}

/// Failures that no caller hears.
fn failing_callbacks(seat: &CallSlot) -> Vec<Call> {
    let mut draft = Draft::inbound(seat);
    draft.ask(VOICE_URL_INBOUND, VOICE, TWIML_OK);
    draft.ask(status_callback("in-progress"), STATUS, TIMEOUT);
    draft.end("completed");
    draft.ask(status_callback("completed"), STATUS, NOT_FOUND);
    draft.ask(
        RECORDING_CALLBACK,
        on_ivr("https://ivr.example.com/recording", "/recording"),
        SERVER_ERROR,
    );
    draft.ask(OTHER_CALLBACK, on_ivr("https://ivr.example.com/pay", "/pay"), NULL);
    vec![draft.done()]
}

/// Twilio plays its application error in place of a sound, and hangs up or asks the fallback URL.
fn failing_sounds(seat: &CallSlot) -> Vec<Call> {
    let sound = on_ivr("https://ivr.example.com/media/gone.mp3", "/media/gone.mp3");
    let mut cut_off = Draft::inbound(seat);
    cut_off.ask(VOICE_URL_INBOUND, VOICE, TWIML_OK);
    cut_off.ask(MEDIA, sound, NOT_FOUND);
    let mut rescued = Draft::child(seat, 1);
    rescued.ask(MEDIA, sound, BINARY);
    rescued.ask(FALLBACK, RESCUE, TWIML_OK);
    vec![completed(cut_off), completed(rescued)]
}

/// The caller hangs up, and Twilio ignores what the actions answer.
fn hung_up(seat: &CallSlot) -> Vec<Call> {
    let mut draft = Draft::inbound(seat);
    draft.ask(VOICE_URL_INBOUND, VOICE, TWIML_OK);
    draft.end("completed");
    let recorded = on_ivr("https://ivr.example.com/recorded", "/recorded");
    draft.ask(RECORDED, recorded, PLAIN_OK);
    draft.ask(RECORDED, recorded, SERVER_ERROR);
    draft.ask(GATHERED_AT_LAST, MENU, JSON);
    draft.ask(DIALLED_AT_LAST, on_ivr("https://ivr.example.com/dialled", "/dialled"), NO_CONTENT);
    draft.ask(ENQUEUED_AT_LAST, on_ivr("https://ivr.example.com/enqueued", "/enqueued"), TIMEOUT);
    draft.ask(status_callback("completed"), STATUS, NO_CONTENT);
    vec![draft.done()]
}

/// The leg that was dialled is cut off, and the caller isn't.
fn failing_whisper(seat: &CallSlot) -> Vec<Call> {
    let mut parent = Draft::inbound(seat);
    parent.ask(VOICE_URL_INBOUND, VOICE, TWIML_OK);
    let mut child = Draft::child(seat, 2);
    child.ask(TWIML_REQUEST, on_ivr("https://ivr.example.com/whisper", "/whisper"), SERVER_ERROR);
    parent.wait(4);
    parent.ask(DIALLED, on_ivr("https://ivr.example.com/dialled", "/dialled"), TWIML_OK);
    vec![completed(parent), completed(child)]
}

fn failing_fallback(seat: &CallSlot) -> Vec<Call> {
    let mut draft = Draft::inbound(seat);
    draft.ask(VOICE_URL_INBOUND, VOICE, TWIML_OK);
    draft.ask(GATHERED_DIGITS, MENU, SERVER_ERROR);
    draft.ask(FALLBACK, RESCUE, JSON);
    vec![completed(draft)]
}

fn without_duration(seat: &CallSlot) -> Vec<Call> {
    let mut draft = Draft::inbound(seat);
    draft.ask(VOICE_URL_INBOUND, VOICE, Answer { duration_ms: None, ..TWIML_OK });
    vec![completed(draft)]
}

const fn on_ivr<'a>(url: &'a str, route: &'a str) -> Target<'a> {
    Target { url, host: "ivr.example.com", route }
}
