//! Decodes the entries of the error log's list.
//!
//! Schema: <https://github.com/twilio/twilio-oai>, `twilio_monitor_v1.json`.

use jiff::Timestamp;
use serde::Deserialize;

use crate::domain::words::error_log::{ErrorCode, Level, LoggedError, Product};
use crate::domain::words::sid::{AccountSid, CallSid, ErrorLogSid};

use super::lenient::{Number, Text};
use super::{RawItem, parse_date};

#[derive(Deserialize)]
struct AlertWire<'a> {
    #[serde(default, borrow)]
    sid: Text<'a>,
    #[serde(default, borrow)]
    account_sid: Text<'a>,
    #[serde(default, borrow)]
    resource_sid: Text<'a>,
    #[serde(default)]
    error_code: Number,
    #[serde(default, borrow)]
    log_level: Text<'a>,
    #[serde(default, borrow)]
    request_url: Text<'a>,
    #[serde(default, borrow)]
    date_generated: Text<'a>,
    #[serde(default, borrow)]
    date_created: Text<'a>,
}

/// Decodes an entry. Returns `None` if it has no readable SID.
pub fn decode_logged_error(item: &RawItem<'_>) -> Option<LoggedError> {
    let wire: AlertWire<'_> = serde_json::from_str(item.json()).ok()?;
    let date = |text: &Text<'_>| text.as_deref().and_then(parse_instant);
    let resource = wire.resource_sid.as_deref().unwrap_or_default();
    Some(LoggedError {
        sid: ErrorLogSid::parse(wire.sid.as_deref()?).ok()?,
        account: wire.account_sid.as_deref().and_then(|sid| AccountSid::parse(sid).ok()),
        product: Product::of_resource(resource),
        call_sid: CallSid::parse(resource).ok(),
        code: wire.error_code.into(),
        level: Level::from_word(wire.log_level.as_deref().unwrap_or_default()),
        generated_at: date(&wire.date_generated).or_else(|| date(&wire.date_created)),
        request_url: wire.request_url.into_string(),
    })
}

impl From<Number> for ErrorCode {
    fn from(number: Number) -> Self {
        match number {
            Number::Value(code) => Self::from_digits(&code.to_string()),
            Number::Absent | Number::Unreadable => Self::Other,
        }
    }
}

/// Parses a date of Twilio's newer APIs (RFC 3339) or older ones.
pub(super) fn parse_instant(text: &str) -> Option<Timestamp> {
    text.trim().parse().ok().or_else(|| parse_date(text))
}
