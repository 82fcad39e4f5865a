//! Reduces an entry of Twilio's error log to the parts needed for counting.

use jiff::Timestamp;

use crate::domain::judge::route::{Endpoint, Routes};
use crate::domain::words::error_log::{ErrorCode, Level, LoggedError, Product};
use crate::domain::words::sid::{AccountSid, CallSid, ErrorLogSid};
use crate::domain::words::webhook_url::WebhookUrl;

/// The parts of an entry that are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reported {
    /// Identifies the entry in lists and pushes.
    pub sid: ErrorLogSid,
    /// The account that the entry belongs to, if Twilio reports it.
    pub account: Option<AccountSid>,
    /// When the error happened, if Twilio reports it.
    pub generated_at: Option<Timestamp>,
    /// The product that the entry belongs to.
    pub product: Product,
    /// The error code.
    pub code: ErrorCode,
    /// The severity.
    pub level: Level,
    /// The endpoint of a voice webhook.
    pub endpoint: Option<Endpoint>,
    /// Whether a configured pattern matches the endpoint.
    pub is_configured: bool,
    /// The call in which the error happened.
    pub call_sid: Option<CallSid>,
}

impl Reported {
    /// Reduces an entry. Of its URL, only the host and route are kept, and only for voice: URLs of other products
    /// aren't grouped.
    pub fn judge(entry: &LoggedError, routes: &Routes) -> Self {
        let url = entry.request_url.as_deref().filter(|_| entry.product == Product::Voice);
        let url = url.and_then(WebhookUrl::parse);
        Self {
            sid: entry.sid,
            account: entry.account,
            generated_at: entry.generated_at,
            product: entry.product,
            code: entry.code,
            level: entry.level,
            is_configured: url.as_ref().is_some_and(|url| routes.has_pattern_for(url)),
            endpoint: url.map(|url| routes.endpoint(&url)),
            call_sid: entry.call_sid,
        }
    }
}
