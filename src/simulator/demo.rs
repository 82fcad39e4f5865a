//! Answers for the calls of `Mix::Demo`: a believable phone line that breaks in one named place.
//! Before it breaks nothing fails at all, so that the first failure is the one announced.

use super::answer::{Answer, JSON, NO_CONTENT, NOT_FOUND, SERVER_ERROR, TIMEOUT, TWIML_OK};
use super::draft::{CallSlot, Draft, Target};
use super::purpose::{
    DIALLED, FALLBACK, GATHERED_DIGITS, VOICE_URL_INBOUND, VOICE_URL_OUTBOUND, status_callback,
};
use super::script::Call;

/// The place that fails in the demo: host and route.
pub const FAILING: (&str, &str) = ("ivr.example.com", "/menu");

const VOICE: Target<'_> = on_ivr("https://ivr.example.com/voice", "/voice");
const MENU: Target<'_> = on_ivr("https://ivr.example.com/menu", FAILING.1);
const AGENT: Target<'_> = on_ivr("https://ivr.example.com/agent", "/agent");
const STATUS: Target<'_> = on_ivr("https://ivr.example.com/status", "/status");
const RESCUE: Target<'_> = on_ivr("https://ivr.example.com/fallback", "/fallback");
const REMINDER: Target<'_> =
    on_orders("https://orders.example.com/twiml/reminder", "/twiml/reminder");
const ORDER: Target<'_> =
    on_orders("https://orders.example.com/orders/1042/confirm", "/orders/:id/confirm");
const ORDER_STATUS: Target<'_> =
    on_orders("https://orders.example.com/callbacks/status", "/callbacks/status");

/// Writes one call, from a line that works or from one that does not.
pub(crate) fn write(seat: &CallSlot, is_failing: bool) -> Vec<Call> {
    let mut seat = seat.clone();
    match seat.random.below(10) {
        0 | 1 => vec![reminder(&mut seat)],
        2 => vec![unanswered(&seat)],
        3 => vec![hung_up_early(&mut seat)],
        _ => menu(&mut seat, is_failing),
    }
}

fn menu(seat: &mut CallSlot, is_failing: bool) -> Vec<Call> {
    let mut draft = Draft::inbound(seat);
    draft.ask(VOICE_URL_INBOUND, VOICE, good(seat));
    draft.wait(1);
    draft.ask(status_callback("in-progress"), STATUS, NO_CONTENT);
    draft.wait(1);
    if is_failing && let Some(answer) = bad(seat) {
        draft.ask(GATHERED_DIGITS, MENU, answer);
        if seat.random.below(3) == 0 {
            draft.ask(FALLBACK, RESCUE, good(seat));
        }
        return vec![completed(draft, STATUS)];
    }
    draft.ask(GATHERED_DIGITS, MENU, good(seat));
    if seat.random.below(3) == 0 {
        let child = Draft::child(seat, 3);
        draft.wait(2);
        draft.ask(DIALLED, AGENT, good(seat));
        return vec![completed(draft, STATUS), completed(child, STATUS)];
    }
    vec![completed(draft, STATUS)]
}

fn reminder(seat: &mut CallSlot) -> Call {
    let mut draft = Draft::outbound_api(seat);
    draft.ask(VOICE_URL_OUTBOUND, REMINDER, good(seat));
    draft.wait(1);
    draft.ask(GATHERED_DIGITS, ORDER, good(seat));
    completed(draft, ORDER_STATUS)
}

fn unanswered(seat: &CallSlot) -> Call {
    let mut draft = Draft::outbound_unanswered(seat);
    draft.end("no-answer");
    draft.ask(status_callback("no-answer"), ORDER_STATUS, NO_CONTENT);
    draft.done()
}

fn hung_up_early(seat: &mut CallSlot) -> Call {
    let mut draft = Draft::inbound(seat);
    draft.ask(VOICE_URL_INBOUND, VOICE, good(seat));
    completed(draft, STATUS)
}

fn completed(mut draft: Draft, target: Target<'_>) -> Call {
    draft.end("completed");
    draft.ask(status_callback("completed"), target, NO_CONTENT);
    draft.done()
}

/// Mostly fast, sometimes as slow as callers notice.
fn good(seat: &mut CallSlot) -> Answer {
    let duration_ms = match seat.random.below(100) {
        0..2 => seat.random.between(2_000, 4_000),
        2..12 => seat.random.between(300, 1_200),
        _ => seat.random.between(40, 220),
    };
    TWIML_OK.after_ms(duration_ms)
}

fn bad(seat: &mut CallSlot) -> Option<Answer> {
    let duration_ms = seat.random.between(90, 900);
    match seat.random.below(10) {
        0..4 => Some(SERVER_ERROR.after_ms(duration_ms)),
        4 | 5 => Some(JSON.after_ms(duration_ms)),
        6 => Some(TIMEOUT),
        7 => Some(NOT_FOUND.after_ms(duration_ms)),
        _ => None,
    }
}

const fn on_ivr<'a>(url: &'a str, route: &'a str) -> Target<'a> {
    Target { url, host: FAILING.0, route }
}

const fn on_orders<'a>(url: &'a str, route: &'a str) -> Target<'a> {
    Target { url, host: "orders.example.com", route }
}
