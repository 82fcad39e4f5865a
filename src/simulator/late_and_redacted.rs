//! The state of Call Events at an instant: responses that appear later, and data that is redacted after a
//! while. The truth doesn't change.

use jiff::Timestamp;
use serde_json::Value;

use super::behaviour::Behaviour;
use super::script::{Call, ScriptedEvent, seconds_after};

/// The parameters that are redacted, compared in lower case and without underscores.
const REDACTED: [&str; 8] =
    ["from", "to", "caller", "called", "digits", "speechresult", "fromcity", "tocity"];

/// The items that Twilio shows for a call at an instant.
pub(crate) fn events(call: &Call, behaviour: &Behaviour, now: Timestamp) -> Vec<Value> {
    let events = call.visible_events(now, behaviour.visibility());
    events.into_iter().map(|event| shown(call, event, behaviour, now)).collect()
}

fn shown(call: &Call, event: &ScriptedEvent, behaviour: &Behaviour, now: Timestamp) -> Value {
    let mut item = event.item.clone();
    if now < seconds_after(event.at, behaviour.answers_after)
        && let Some(response) = item.get_mut("response")
    {
        *response = Value::Null;
    }
    let redact_after = behaviour.redact_after;
    if redact_after > 0 && seconds_after(call.ended_at, redact_after) <= now {
        redact(&mut item);
    }
    item
}

fn redact(item: &mut Value) {
    if let Some(body) = item.pointer_mut("/response/response_body") {
        *body = Value::Null;
    }
    let parameters = item.pointer_mut("/request/parameters").and_then(Value::as_object_mut);
    for (name, value) in parameters.into_iter().flatten() {
        let name = name.replace('_', "").to_ascii_lowercase();
        if REDACTED.contains(&name.as_str()) {
            *value = Value::from("");
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn redacts_only_personal_data() {
        let mut item = json!({
            "request": {"parameters": {"from": "x", "SpeechResult": "yes", "call_status": "ringing"}},
            "response": {"response_body": "<Response/>", "response_code": 200},
        });
        redact(&mut item);
        assert_eq!(
            item,
            json!({
                "request": {"parameters": {"from": "", "SpeechResult": "", "call_status": "ringing"}},
                "response": {"response_body": null, "response_code": 200},
            })
        );
    }
}
