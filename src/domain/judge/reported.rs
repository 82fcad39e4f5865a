//! From one entry of Twilio's error log to what is counted of it.

use jiff::Timestamp;

use crate::domain::judge::route::{Endpoint, Routes};
use crate::domain::words::error_log::{ErrorCode, Level, LoggedError, Product};
use crate::domain::words::sid::{AccountSid, CallSid, ErrorLogSid};
use crate::domain::words::webhook_url::WebhookUrl;

/// What is kept of an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reported {
    /// What makes it the same entry wherever it shows up.
    pub sid: ErrorLogSid,
    /// The account that it is of, as far as Twilio tells.
    pub account: Option<AccountSid>,
    /// When it happened, as far as Twilio tells.
    pub generated_at: Option<Timestamp>,
    /// The product that it is of.
    pub product: Product,
    /// What went wrong.
    pub code: ErrorCode,
    /// How bad it is.
    pub level: Level,
    /// Where a voice webhook went.
    pub endpoint: Option<Endpoint>,
    /// Whether a pattern of the user's names the endpoint.
    pub is_configured: bool,
    /// The call that leads back to it.
    pub call_sid: Option<CallSid>,
}

impl Reported {
    /// Takes an entry. The only copies of its URL that survive are host and route, and those only of
    /// calls: URLs of other products are not ours to group.
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
            is_configured: url.as_ref().is_some_and(|url| routes.names(url)),
            endpoint: url.map(|url| routes.endpoint(&url)),
            call_sid: entry.call_sid,
        }
    }
}
