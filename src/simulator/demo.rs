//! The calls of `Mix::Demo`: a realistic phone line that fails in one announced place. Before that, nothing
//! fails, so that the first failure is the announced one.

use super::answer::{Answer, JSON, NO_CONTENT, NOT_FOUND, SERVER_ERROR, TIMEOUT, TWIML_OK};
use super::draft::{CallSlot, Draft, Target};
use super::purpose::{
    DIALLED, FALLBACK, GATHERED_DIGITS, VOICE_URL_INBOUND, VOICE_URL_OUTBOUND, status_callback,
};
use super::script::Call;

/// The endpoint that fails in the demo: host and route.
pub const FAILING: (&str, &str) = ("ivr.example.com", "/menu");

const VOICE: Target<'_> = on_ivr("https://ivr.example.com/voice", "/voice");
const MENU: Target<'_> = on_ivr("https://ivr.example.com/menu", FAILING.1);
const AGENT: Target<'_> = on_ivr("https://ivr.example.com/agent", "/agent");
const STATUS: Target<'_> = on_ivr("https://ivr.example.com/status", "/status");
const FALLBACK_VOICE: Target<'_> = on_ivr("https://ivr.example.com/fallback", "/fallback");
const REMINDER: Target<'_> =
    on_orders("https://orders.example.com/twiml/reminder", "/twiml/reminder");
const ORDER: Target<'_> =
    on_orders("https://orders.example.com/orders/1042/confirm", "/orders/:id/confirm");
const ORDER_STATUS: Target<'_> =
    on_orders("https://orders.example.com/callbacks/status", "/callbacks/status");

/// Scripts one call, on a line that works or fails.
pub(crate) fn write(slot: &CallSlot, is_failing: bool) -> Vec<Call> {
    let mut slot = slot.clone();
    match slot.random.below(10) {
        0 | 1 => vec![reminder(&mut slot)],
        2 => vec![unanswered(&slot)],
        3 => vec![hung_up_early(&mut slot)],
        _ => menu(&mut slot, is_failing),
    }
}

fn menu(slot: &mut CallSlot, is_failing: bool) -> Vec<Call> {
    let mut draft = Draft::inbound(slot);
    draft.request(VOICE_URL_INBOUND, VOICE, success(slot));
    draft.wait(1);
    draft.request(status_callback("in-progress"), STATUS, NO_CONTENT);
    draft.wait(1);
    if is_failing && let Some(answer) = failure(slot) {
        draft.request(GATHERED_DIGITS, MENU, answer);
        if slot.random.below(3) == 0 {
            draft.request(FALLBACK, FALLBACK_VOICE, success(slot));
        }
        return vec![completed(draft, STATUS)];
    }
    draft.request(GATHERED_DIGITS, MENU, success(slot));
    if slot.random.below(3) == 0 {
        let child = Draft::child(slot, 3);
        draft.wait(2);
        draft.request(DIALLED, AGENT, success(slot));
        return vec![completed(draft, STATUS), completed(child, STATUS)];
    }
    vec![completed(draft, STATUS)]
}

fn reminder(slot: &mut CallSlot) -> Call {
    let mut draft = Draft::outbound_api(slot);
    draft.request(VOICE_URL_OUTBOUND, REMINDER, success(slot));
    draft.wait(1);
    draft.request(GATHERED_DIGITS, ORDER, success(slot));
    completed(draft, ORDER_STATUS)
}

fn unanswered(slot: &CallSlot) -> Call {
    let mut draft = Draft::outbound_unanswered(slot);
    draft.end("no-answer");
    draft.request(status_callback("no-answer"), ORDER_STATUS, NO_CONTENT);
    draft.finish()
}

fn hung_up_early(slot: &mut CallSlot) -> Call {
    let mut draft = Draft::inbound(slot);
    draft.request(VOICE_URL_INBOUND, VOICE, success(slot));
    completed(draft, STATUS)
}

fn completed(mut draft: Draft, target: Target<'_>) -> Call {
    draft.end("completed");
    draft.request(status_callback("completed"), target, NO_CONTENT);
    draft.finish()
}

/// Usually fast, sometimes slow enough for callers to notice.
fn success(slot: &mut CallSlot) -> Answer {
    let duration_ms = match slot.random.below(100) {
        0..2 => slot.random.between(2_000, 4_000),
        2..12 => slot.random.between(300, 1_200),
        _ => slot.random.between(40, 220),
    };
    TWIML_OK.after_ms(duration_ms)
}

fn failure(slot: &mut CallSlot) -> Option<Answer> {
    let duration_ms = slot.random.between(90, 900);
    match slot.random.below(10) {
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
