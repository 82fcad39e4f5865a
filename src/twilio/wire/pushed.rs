//! Decodes error log entries that Twilio pushes: as events of Event Streams, and as the form of the
//! Debugger's webhook.
//!
//! Schemas: <https://www.twilio.com/docs/events/event-types/errors/error-logs> and
//! <https://www.twilio.com/docs/usage/troubleshooting/debugging-event-webhooks>. Both contain the request with
//! its parameters, of which only the URL is decoded.

use jiff::Timestamp;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use crate::domain::words::error_log::{ErrorCode, Level, LoggedError, Product};
use crate::domain::words::sid::{AccountSid, CallSid, ErrorLogSid};

use super::lenient::{Number, RawText, Text};
use super::page::split_items;
use super::{RawItem, parse_instant};

/// The type of the events that contain an error log entry.
const LOGGED: &str = "com.twilio.error-logs.error.logged";

/// The entries of a request.
#[derive(Debug, Default)]
pub(in crate::twilio) struct Entries {
    /// The decoded entries.
    pub(in crate::twilio) decoded: Vec<LoggedError>,
    /// The number of items that couldn't be decoded.
    pub(in crate::twilio) rejected: u64,
}

#[derive(Deserialize)]
struct EventWire<'a> {
    #[serde(default, borrow, rename = "type")]
    kind: Text<'a>,
    #[serde(default, borrow)]
    time: Text<'a>,
    #[serde(default, borrow)]
    data: Option<&'a RawValue>,
}

#[derive(Default, Deserialize)]
struct DataWire<'a> {
    #[serde(default, borrow)]
    sid: Text<'a>,
    #[serde(default, borrow)]
    account_sid: Text<'a>,
    #[serde(default, borrow)]
    correlation_sid: Text<'a>,
    #[serde(default)]
    error_code: Number,
    #[serde(default, borrow)]
    level: Text<'a>,
    #[serde(default, borrow)]
    date_created: Text<'a>,
    #[serde(default, borrow)]
    payload: RawText<'a>,
}

/// The payload of both forms, usually JSON in a string.
#[derive(Default, Deserialize)]
struct PayloadWire {
    #[serde(default)]
    resource_sid: Lenient<String>,
    #[serde(default)]
    error_code: Number,
    #[serde(default)]
    webhook: Lenient<WebhookWire>,
}

#[derive(Default, Deserialize)]
struct WebhookWire {
    #[serde(default)]
    request: Lenient<RequestWire>,
}

#[derive(Default, Deserialize)]
struct RequestWire {
    #[serde(default)]
    url: Lenient<String>,
}

/// A value, or `None` if it has another type.
#[derive(Default)]
struct Lenient<T>(Option<T>);

impl<'de, T: DeserializeOwned> Deserialize<'de> for Lenient<T> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = <&RawValue>::deserialize(deserializer)?;
        Ok(Self(serde_json::from_str(raw.get()).ok()))
    }
}

/// Decodes a list of events, skipping other types. Returns `None` if it isn't a list.
pub(in crate::twilio) fn decode_events(json: &str) -> Option<Entries> {
    let mut entries = Entries::default();
    for item in split_items(json)? {
        match decode_event(&item) {
            Some(Some(entry)) => entries.decoded.push(entry),
            Some(None) => {}
            None => entries.rejected += 1,
        }
    }
    Some(entries)
}

/// Decodes an event. Returns `Some(None)` for another type, and `None` if it can't be decoded.
fn decode_event(item: &RawItem<'_>) -> Option<Option<LoggedError>> {
    let event: EventWire<'_> = serde_json::from_str(item.json()).ok()?;
    if event.kind.as_deref()? != LOGGED {
        return Some(None);
    }
    let data: DataWire<'_> = serde_json::from_str(event.data?.get()).ok()?;
    let payload = PayloadWire::read(data.payload);
    let resource = data.correlation_sid.into_string().or(payload.resource_sid.0);
    let dates = [data.date_created.as_deref(), event.time.as_deref()];
    let entry = Entry {
        sid: data.sid.as_deref()?,
        account: data.account_sid.as_deref(),
        resource: resource.as_deref().unwrap_or_default(),
        level: data.level.as_deref(),
        code: data.error_code,
        request_url: payload.webhook.0.and_then(|webhook| webhook.request.0?.url.0),
        generated_at: dates.into_iter().flatten().find_map(parse_instant),
    };
    entry.decode().map(Some)
}

/// Decodes the form of the Debugger's webhook. Returns `None` if it has no readable SID.
pub(in crate::twilio) fn decode_form(fields: &[(String, String)]) -> Option<LoggedError> {
    let field = |name| fields.iter().find(|(field, _)| field == name).map(|(_, text)| &**text);
    let payload = field("Payload").and_then(|json| serde_json::from_str(json).ok());
    let payload: PayloadWire = payload.unwrap_or_default();
    let entry = Entry {
        sid: field("Sid")?,
        account: field("AccountSid"),
        resource: payload.resource_sid.0.as_deref().unwrap_or_default(),
        level: field("Level"),
        code: payload.error_code,
        request_url: payload.webhook.0.and_then(|webhook| webhook.request.0?.url.0),
        generated_at: field("Timestamp").and_then(parse_instant),
    };
    entry.decode()
}

/// The fields of an entry in both forms.
struct Entry<'a> {
    sid: &'a str,
    account: Option<&'a str>,
    resource: &'a str,
    level: Option<&'a str>,
    code: Number,
    request_url: Option<String>,
    generated_at: Option<Timestamp>,
}

impl Entry<'_> {
    fn decode(self) -> Option<LoggedError> {
        Some(LoggedError {
            sid: ErrorLogSid::parse(self.sid).ok()?,
            account: self.account.and_then(|sid| AccountSid::parse(sid).ok()),
            product: Product::of_resource(self.resource),
            call_sid: CallSid::parse(self.resource).ok(),
            code: ErrorCode::from(self.code),
            level: Level::from_word(self.level.unwrap_or_default()),
            request_url: self.request_url,
            generated_at: self.generated_at,
        })
    }
}

impl PayloadWire {
    /// Decodes JSON in a string, or a plain JSON value.
    fn read(payload: RawText<'_>) -> Self {
        let RawText::Raw(raw) = payload else { return Self::default() };
        let read = match RawText::Raw(raw).into_string() {
            Some(json) => serde_json::from_str(&json),
            None => serde_json::from_str(raw.get()),
        };
        read.unwrap_or_default()
    }
}
