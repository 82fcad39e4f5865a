//! Builds a call's script: time moves forward, and requests are made along the way. `scenario` decides which
//! call it is, and `world` when it is created.

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::answer::{Answer, Body};
use super::purpose::{CallParameters, ExpectedAnswer, Purpose};
use super::random::Random;
use super::script::{
    Call, Expected, ExpectedWebhook, ScriptedEvent, pascal_case, rfc2822, seconds_after,
};

/// The URL that Twilio requests, and its labels.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Target<'a> {
    pub(crate) url: &'a str,
    pub(crate) host: &'a str,
    pub(crate) route: &'a str,
}

/// How much of a call is generated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Detail {
    /// Everything except the JSON of its events, which is null: enough for lists and sums, and much faster.
    Outline,
    /// Everything.
    Full,
}

/// The parameters of a call that the world has scheduled.
#[derive(Clone, Debug)]
pub(crate) struct CallSlot {
    pub(crate) account_sid: String,
    /// The Call SIDs of the call and its child leg.
    pub(crate) call_sids: [String; 2],
    pub(crate) created_at: Timestamp,
    /// The minimum and maximum length of a call, in seconds; its events may extend it.
    pub(crate) call_seconds: (u64, u64),
    pub(crate) random: Random,
    pub(crate) detail: Detail,
}

/// A call under construction; its clock only moves forward.
#[derive(Debug)]
pub(crate) struct Draft {
    call: Call,
    /// The clock's origin: the creation of the call, or of a child leg's parent.
    origin: Timestamp,
    clock_ms: u64,
    length_seconds: u64,
    pascal_case: bool,
    detail: Detail,
}

impl Draft {
    /// Starts an inbound call.
    pub(crate) fn inbound(slot: &CallSlot) -> Draft {
        Draft::new(slot, 0, "inbound", Some(0), &[(0, "ringing"), (1, "in-progress")])
    }

    /// Starts a call placed through the API, which is queued for a second.
    pub(crate) fn outbound_api(slot: &CallSlot) -> Draft {
        let statuses = [(0, "queued"), (1, "ringing"), (2, "in-progress")];
        let mut draft = Draft::new(slot, 0, "outbound-api", Some(1), &statuses);
        let url =
            format!("https://api.twilio.com/2010-04-01/Accounts/{}/Calls.json", slot.account_sid);
        draft.api_request(&url, 201);
        draft.wait(2);
        draft
    }

    /// Starts a call placed through the API that is never answered.
    pub(crate) fn outbound_unanswered(slot: &CallSlot) -> Draft {
        let mut draft =
            Draft::new(slot, 0, "outbound-api", Some(1), &[(0, "queued"), (1, "ringing")]);
        let url =
            format!("https://api.twilio.com/2010-04-01/Accounts/{}/Calls.json", slot.account_sid);
        draft.api_request(&url, 201);
        draft.wait(3);
        draft
    }

    /// Starts a call that stays queued, without a start time.
    pub(crate) fn queued(slot: &CallSlot) -> Draft {
        Draft::new(slot, 0, "outbound-api", None, &[(0, "queued")])
    }

    /// Starts the leg that a `<Dial>` creates this many seconds after its parent.
    pub(crate) fn child(slot: &CallSlot, after: u64) -> Draft {
        let statuses = [(after, "ringing"), (after + 1, "in-progress")];
        let mut draft = Draft::new(slot, 1, "outbound-dial", Some(after), &statuses);
        draft.call.parent_call_sid = Some(slot.call_sids[0].clone());
        draft.call.created_at = seconds_after(slot.created_at, after);
        draft.wait(after + 1);
        draft
    }

    fn new(
        slot: &CallSlot,
        leg: usize,
        direction: &'static str,
        started_after: Option<u64>,
        statuses: &[(u64, &'static str)],
    ) -> Draft {
        let mut random = slot.random.clone();
        let length_seconds = random.between(slot.call_seconds.0, slot.call_seconds.1);
        let at = |after| seconds_after(slot.created_at, after);
        let call = Call {
            sid: slot.call_sids[leg].clone(),
            account_sid: slot.account_sid.clone(),
            parent_call_sid: None,
            direction,
            from: phone_number(random.next()),
            to: phone_number(random.below(10)),
            created_at: slot.created_at,
            started_at: started_after.map(at),
            ended_at: at(length_seconds),
            shows_end_time: true,
            statuses: statuses.iter().map(|(after, status)| (at(*after), *status)).collect(),
            events: Vec::new(),
        };
        Draft {
            call,
            origin: slot.created_at,
            clock_ms: 0,
            length_seconds,
            pascal_case: false,
            detail: slot.detail,
        }
    }

    /// Advances the clock by seconds.
    pub(crate) fn wait(&mut self, seconds: u64) {
        self.clock_ms += seconds * 1000;
    }

    /// Writes parameter names as in Twilio's documentation of webhooks.
    pub(crate) fn use_pascal_case(&mut self) {
        self.pascal_case = true;
    }

    pub(crate) fn account_sid(&self) -> String {
        self.call.account_sid.clone()
    }

    pub(crate) fn call_sid(&self) -> String {
        self.call.sid.clone()
    }

    /// Twilio makes a request to the application and gets this response.
    pub(crate) fn request(&mut self, purpose: Purpose, target: Target<'_>, answer: Answer) {
        self.clock_ms += answer.duration_ms.unwrap_or(0);
        let item = self.if_full(|draft| draft.exchange(purpose, target.url, answer));
        let is_success = answer.is_genuine_success();
        let is_judged = is_success && purpose.expects == ExpectedAnswer::Twiml;
        let own_failure = match purpose.expects {
            ExpectedAnswer::Twiml => answer.twiml_failure,
            ExpectedAnswer::Media if answer.class != "audio" => Some("unsupported_content_type"),
            ExpectedAnswer::Media | ExpectedAnswer::IgnoredTwiml | ExpectedAnswer::Status => None,
        };
        let failure = answer.failure.or(own_failure.filter(|_| is_success));
        let expects_twiml =
            matches!(purpose.expects, ExpectedAnswer::Twiml | ExpectedAnswer::IgnoredTwiml);
        let expected = ExpectedWebhook {
            host: target.host.to_owned(),
            route: target.route.to_owned(),
            kind: purpose.kind,
            code: answer.code_label(),
            duration_ms: answer.duration_ms,
            has_succeeded: match purpose.expects {
                ExpectedAnswer::Twiml => Some(failure.is_none()),
                ExpectedAnswer::Media => failure.map(|_| false),
                ExpectedAnswer::IgnoredTwiml | ExpectedAnswer::Status => None,
            },
            failure,
            warning: answer.warning.filter(|_| purpose.expects == ExpectedAnswer::Twiml),
            content_type: (is_success && expects_twiml).then_some(answer.class),
            unjudged: is_judged && answer.has_no_body(),
        };
        self.push(item, Expected::Webhook(expected));
    }

    /// The customer's program makes an API request.
    pub(crate) fn api_request(&mut self, url: &str, code: u16) {
        let item = self.if_full(|draft| draft.api_exchange(url, code));
        self.push(item, Expected::ApiRequest { code: code.to_string() });
    }

    /// Adds an item that isn't a valid Call Event.
    pub(crate) fn add_invalid(&mut self, item: Value, reason: &'static str) {
        self.push(item, Expected::Rejected(reason));
    }

    /// Replaces a value of the last event by one that makes the event invalid.
    pub(crate) fn invalidate(&mut self, pointer: &str, value: Value, reason: &'static str) {
        if let Some(event) = self.call.events.last_mut() {
            event.expected = Expected::Rejected(reason);
            if let Some(field) = event.item.pointer_mut(pointer) {
                *field = value;
            }
        }
    }

    /// Ends the call with this status; later requests come after the end.
    pub(crate) fn end(&mut self, status: &'static str) {
        let length = self.length_seconds.max(self.clock_ms / 1000 + 1);
        self.clock_ms = length * 1000;
        self.call.ended_at = self.at();
        self.call.statuses.push((self.call.ended_at, status));
    }

    /// Ends the call without an `end_time`.
    pub(crate) fn end_without_time(&mut self, status: &'static str) {
        self.end(status);
        self.call.shows_end_time = false;
    }

    /// Returns the finished call.
    pub(crate) fn finish(self) -> Call {
        self.call
    }

    fn at(&self) -> Timestamp {
        seconds_after(self.origin, self.clock_ms / 1000)
    }

    fn push(&mut self, item: Value, expected: Expected) {
        let at = self.at();
        self.call.events.push(ScriptedEvent { at, item, expected });
    }

    fn if_full(&self, item: impl FnOnce(&Draft) -> Value) -> Value {
        match self.detail {
            Detail::Outline => Value::Null,
            Detail::Full => item(self),
        }
    }

    fn exchange(&self, purpose: Purpose, url: &str, answer: Answer) -> Value {
        let is_download = matches!(purpose.call, CallParameters::None);
        json!({
            "request": {
                "method": if is_download { "GET" } else { "POST" },
                "url": url,
                "parameters": self.parameters(purpose),
            },
            "response": self.response(url, answer),
        })
    }

    fn api_exchange(&self, url: &str, code: u16) -> Value {
        json!({
            "request": {"method": "POST", "url": url, "parameters": {
                "account_sid": self.call.account_sid, "from": self.call.from, "to": self.call.to,
                "url": "https://orders.example.com/twiml/reminder", "method": "POST", "timeout": "55",
            }},
            "response": {
                "response_code": code, "request_duration": 50, "content_type": "application/json",
                "response_body": json!({"sid": self.call.sid}).to_string(),
                "date_created": rfc2822(self.at()),
            },
        })
    }

    fn parameters(&self, purpose: Purpose) -> Value {
        let mut pairs: Vec<(&str, &str)> = Vec::new();
        let call = &self.call;
        match purpose.call {
            CallParameters::All(status) => {
                pairs.push(("call_status", status));
                pairs.push(("direction", call.direction));
                pairs.push(("from", &call.from));
                pairs.push(("to", &call.to));
                pairs.push(("api_version", "2010-04-01"));
                pairs.push(("from_country", "US"));
                pairs.extend(call.parent_call_sid.as_deref().map(|sid| ("parent_call_sid", sid)));
            }
            CallParameters::Sids | CallParameters::None => {}
        }
        match purpose.call {
            CallParameters::All(_) | CallParameters::Sids => {
                pairs.push(("call_sid", &call.sid));
                pairs.push(("account_sid", &call.account_sid));
            }
            CallParameters::None => {}
        }
        pairs.extend(purpose.extra);
        let format_key =
            |key: &str| if self.pascal_case { pascal_case(key) } else { key.to_owned() };
        pairs.into_iter().map(|(key, value)| (format_key(key), Value::from(value))).collect()
    }

    fn response(&self, url: &str, answer: Answer) -> Value {
        let Some(code) = answer.code else { return Value::Null };
        let mut response = Map::new();
        response.insert("response_code".to_owned(), json!(code));
        if let Some(duration_ms) = answer.duration_ms {
            response.insert("request_duration".to_owned(), json!(duration_ms));
        }
        response.insert("content_type".to_owned(), json!(answer.content_type));
        if !matches!(answer.body, Body::Absent) {
            let body = answer.body.text(url, &self.call.account_sid, &self.call.sid);
            response.insert("response_body".to_owned(), json!(body));
        }
        response.insert("date_created".to_owned(), json!(rfc2822(self.at())));
        Value::Object(response)
    }
}

fn phone_number(number: u64) -> String {
    format!("+1500555{:04}", number % 10_000)
}

#[cfg(test)]
mod tests {
    use super::super::answer::{NULL, TIMEOUT, TWIML_OK};
    use super::super::purpose::{MEDIA, VOICE_URL_INBOUND};
    use super::*;

    const VOICE: Target<'_> =
        Target { url: "https://ivr.example.com/voice", host: "ivr.example.com", route: "/voice" };

    #[test]
    fn an_event_has_the_documented_shape() {
        let item =
            &written(|draft| draft.request(VOICE_URL_INBOUND, VOICE, TWIML_OK)).events[0].item;
        assert_eq!(item["request"]["url"], VOICE.url);
        assert_eq!(item["request"]["parameters"]["call_status"], "ringing");
        assert_eq!(item["response"]["response_code"], 200);
        assert_eq!(item["response"]["request_duration"], 85);
        assert_eq!(item["response"]["date_created"], "Thu, 01 Jan 1970 00:00:00 +0000");
        let from = item["request"]["parameters"]["from"].as_str().expect("a number");
        assert!(from.starts_with("+1500555") && from.len() == 12, "{from}");
    }

    #[test]
    fn a_response_advances_the_clock() {
        let call = written(|draft| {
            draft.request(VOICE_URL_INBOUND, VOICE, TIMEOUT);
            draft.end("completed");
        });
        assert_eq!(call.events[0].at.as_second(), 15);
        assert_eq!(call.ended_at.as_second(), 16);
    }

    #[test]
    fn a_null_response_is_null_and_a_download_has_no_parameters() {
        let call = written(|draft| draft.request(MEDIA, VOICE, NULL));
        assert_eq!(call.events[0].item["response"], Value::Null);
        assert_eq!(call.events[0].item["request"]["parameters"], json!({}));
    }

    #[test]
    fn an_invalidated_event_counts_only_as_rejected() {
        let call = written(|draft| {
            draft.request(VOICE_URL_INBOUND, VOICE, TWIML_OK);
            draft.invalidate("/response/response_code", json!(999), "invalid_code");
        });
        assert_eq!(call.events[0].item["response"]["response_code"], 999);
        assert!(matches!(call.events[0].expected, Expected::Rejected("invalid_code")));
    }

    fn written(write: impl FnOnce(&mut Draft)) -> Call {
        let slot = CallSlot {
            account_sid: format!("AC{:032x}", 1),
            call_sids: [format!("CA{:032x}", 1), format!("CA{:032x}", 2)],
            created_at: Timestamp::UNIX_EPOCH,
            call_seconds: (5, 5),
            random: Random::from_parts(&[1]),
            detail: Detail::Full,
        };
        let mut draft = Draft::inbound(&slot);
        write(&mut draft);
        draft.finish()
    }
}
