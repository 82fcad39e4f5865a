//! Decodes Twilio's JSON.
//!
//! Only the needed fields are decoded. A page is split into raw JSON items, which are decoded one by one, so
//! that a malformed item doesn't affect the rest of its page. Invalid UTF-8 is replaced.
//!
//! Schemas: <https://github.com/twilio/twilio-oai>, `twilio_api_v2010.json`.

mod error_log;
mod lenient;
mod page;
mod pushed;

use jiff::Timestamp;
use serde::Deserialize;

use crate::domain::judge::observe::Rejection;
use crate::domain::words::account::ListedAccount;
use crate::domain::words::call::{Call, CallStatus, Direction};
use crate::domain::words::call_event::{Body, CallEvent, NO_DURATION_MS, Request, Response};
use crate::domain::words::sid::{AccountSid, CallSid};

pub use error_log::decode_logged_error;
use error_log::parse_instant;
use lenient::{LenientParameters, Number, RawText, StrictBody, Text};
pub(crate) use page::text_of;
pub use page::{Page, RawItem};
pub(super) use pushed::{Entries, decode_events, decode_form};

/// Parses a date as Twilio writes it (RFC 2822), or as HTTP does (RFC 9110, section 5.6.7).
pub(crate) fn parse_date(text: &str) -> Option<Timestamp> {
    jiff::fmt::rfc2822::DateTimeParser::new()
        .relaxed_weekday(true)
        .parse_timestamp(text.trim())
        .ok()
}

#[derive(Deserialize)]
struct CallWire<'a> {
    #[serde(default, borrow)]
    sid: Text<'a>,
    #[serde(default, borrow)]
    status: Text<'a>,
    #[serde(default, borrow)]
    direction: Text<'a>,
    #[serde(default, borrow)]
    start_time: Text<'a>,
    #[serde(default, borrow)]
    end_time: Text<'a>,
    #[serde(default, borrow)]
    date_created: Text<'a>,
    #[serde(default, borrow)]
    date_updated: Text<'a>,
}

/// Decodes a call. Returns `None` if it has no readable SID.
pub fn decode_call(item: &RawItem<'_>) -> Option<Call> {
    let wire: CallWire<'_> = serde_json::from_str(item.json()).ok()?;
    let date = |text: &Text<'_>| text.as_deref().and_then(parse_date);
    Some(Call {
        sid: CallSid::parse(wire.sid.as_deref()?).ok()?,
        status: CallStatus::from_word(wire.status.as_deref().unwrap_or_default()),
        direction: Direction::from_word(wire.direction.as_deref().unwrap_or_default()),
        start_time: date(&wire.start_time),
        end_time: date(&wire.end_time),
        date_created: date(&wire.date_created),
        date_updated: date(&wire.date_updated),
    })
}

#[derive(Deserialize)]
struct AccountWire<'a> {
    #[serde(default, borrow)]
    sid: Text<'a>,
    #[serde(default, borrow)]
    status: Text<'a>,
}

/// Decodes an account. Returns `None` if it has no readable SID.
pub fn decode_account(item: &RawItem<'_>) -> Option<ListedAccount> {
    let wire: AccountWire<'_> = serde_json::from_str(item.json()).ok()?;
    let sid = AccountSid::parse(wire.sid.as_deref()?).ok()?;
    Some(ListedAccount::new(sid, wire.status.as_deref().unwrap_or_default()))
}

/// A Call Event whose response body is decoded as `B`.
#[derive(Deserialize)]
#[serde(bound(deserialize = "B: Deserialize<'de> + Default"))]
struct CallEventWire<'a, B> {
    #[serde(borrow)]
    request: RequestWire<'a>,
    #[serde(default, borrow)]
    response: Option<ResponseWire<'a, B>>,
}

#[derive(Deserialize)]
struct RequestWire<'a> {
    #[serde(default, borrow)]
    method: Text<'a>,
    #[serde(default, borrow)]
    url: Text<'a>,
    #[serde(default)]
    parameters: LenientParameters,
}

#[derive(Deserialize)]
#[serde(bound(deserialize = "B: Deserialize<'de> + Default"))]
struct ResponseWire<'a, B> {
    #[serde(default)]
    response_code: Number,
    #[serde(default)]
    request_duration: Number,
    #[serde(default, borrow)]
    content_type: Text<'a>,
    #[serde(default)]
    response_body: B,
    #[serde(default, borrow)]
    date_created: Text<'a>,
}

/// Decodes a Call Event.
///
/// # Errors
/// Returns [`Rejection::Malformed`] if there is no request object, and [`Rejection::InvalidCode`] if the code
/// isn't a number. An unreadable date counts as absent. A missing URL and an unreadable duration are handled
/// when the event is judged.
pub fn decode_call_event(item: &RawItem<'_>) -> Result<CallEvent, Rejection> {
    // Nearly every body is valid Unicode and can be decoded in one pass. Otherwise decode field by field.
    let strict = serde_json::from_str::<CallEventWire<'_, StrictBody>>(item.json());
    match strict {
        Ok(wire) => decode_event(wire),
        Err(_) => serde_json::from_str::<CallEventWire<'_, RawText<'_>>>(item.json())
            .map_err(|_| Rejection::Malformed)
            .and_then(decode_event),
    }
}

fn decode_event<B: Into<Body>>(wire: CallEventWire<'_, B>) -> Result<CallEvent, Rejection> {
    let request = Request {
        method: wire.request.method.into_string().unwrap_or_default(),
        url: wire.request.url.into_string().unwrap_or_default(),
        parameters: wire.request.parameters.0,
    };
    let response = wire.response.map(decode_response).transpose()?;
    Ok(CallEvent { request, response })
}

fn decode_response<B: Into<Body>>(wire: ResponseWire<'_, B>) -> Result<Response, Rejection> {
    let code = match wire.response_code {
        Number::Absent => None,
        Number::Value(code) => Some(code),
        Number::Unreadable => return Err(Rejection::InvalidCode),
    };
    let duration_ms = match wire.request_duration {
        Number::Value(duration) => Some(u64::try_from(duration).unwrap_or(NO_DURATION_MS)),
        Number::Absent => None,
        Number::Unreadable => Some(NO_DURATION_MS),
    };
    Ok(Response {
        code,
        duration_ms,
        content_type: wire.content_type.into_string(),
        body: wire.response_body.into(),
        created_at: wire.date_created.as_deref().and_then(parse_date),
    })
}

#[cfg(test)]
mod tests;
