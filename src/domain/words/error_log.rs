//! Twilio's error log: an account's errors and warnings, available within seconds to a minute.
//!
//! Source: <https://www.twilio.com/docs/usage/monitor-alert>. An entry's text and request variables may
//! contain personal data of the caller and are never read.

use std::fmt;

use jiff::Timestamp;

use crate::domain::words::label::label_enum;
use crate::domain::words::sid::{AccountSid, CallSid, ErrorLogSid};

/// The largest number accepted as an error code: Twilio's codes have five digits.
const MAX_CODE: u32 = 999_999;

label_enum! {
    /// The `log_level` of an entry.
    pub enum Level {
        /// Something failed.
        Error = "error",
        /// Something is unusual.
        Warning = "warning",
        /// For information; called `INFO` in pushed entries.
        Notice = "notice",
        /// Debugging details.
        Debug = "debug",
        /// Missing, or an unknown level.
        Other = "other",
    }
}

impl Level {
    /// Parses Twilio's level, ignoring case.
    pub fn from_word(word: &str) -> Self {
        match word.to_ascii_lowercase().as_str() {
            "info" => Self::Notice,
            word => Self::from_label(word).unwrap_or(Self::Other),
        }
    }
}

label_enum! {
    /// The Twilio product that an entry belongs to.
    pub enum Product {
        /// Calls.
        Voice = "voice",
        /// Messages.
        Messaging = "messaging",
        /// Anything else.
        Other = "other",
    }
}

impl Product {
    /// Returns the product of the resource with this SID.
    pub fn of_resource(sid: &str) -> Self {
        match sid.get(..2) {
            Some("CA") => Self::Voice,
            Some("SM" | "MM") => Self::Messaging,
            Some(_) | None => Self::Other,
        }
    }
}

/// The `error_code` of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ErrorCode {
    /// A Twilio error code: <https://www.twilio.com/docs/api/errors>.
    Number(u32),
    /// Missing, not a valid code, or beyond the limit on distinct codes.
    Other,
}

impl ErrorCode {
    /// Common codes of failing voice webhooks: an HTTP error, no connection, an unknown host, a TLS failure,
    /// malformed XML, and a wrong content type. Every endpoint exports them from 0.
    pub const COMMON: [Self; 6] = [
        Self::Number(11_200),
        Self::Number(11_205),
        Self::Number(11_210),
        Self::Number(11_220),
        Self::Number(12_100),
        Self::Number(12_300),
    ];

    /// Parses a code from Twilio's digits.
    pub fn from_digits(digits: &str) -> Self {
        let is_digits = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
        let number =
            digits.parse().ok().filter(|number| is_digits && (1..=MAX_CODE).contains(number));
        number.map_or(Self::Other, Self::Number)
    }

    /// Returns a short description of the code, for codes of voice webhooks.
    ///
    /// Source: <https://www.twilio.com/docs/api/errors>.
    pub const fn meaning(self) -> Option<&'static str> {
        let Self::Number(number) = self else { return None };
        Some(match number {
            11_200 => "the webhook responded with an error",
            11_205 => "no connection, or no response in time",
            11_206 => "the connection was lost, or the response wasn't valid HTTP",
            11_210 => "the host name can't be resolved",
            11_215 => "too many redirects",
            11_217 => "an HTTP status that Twilio doesn't accept",
            11_220 => "the TLS handshake failed",
            11_235 => "the certificate can't be trusted",
            11_236 => "the certificate isn't valid yet, or has expired",
            11_237 => "the certificate chain is incomplete",
            11_750 => "the TwiML is larger than 64 KiB",
            12_100 => "the TwiML isn't well-formed XML",
            12_200 => "the TwiML has an unknown verb or attribute",
            12_300 => "a content type that Twilio doesn't accept",
            12_400 => "Twilio failed",
            15_003 => "a status callback didn't get a 2xx response",
            _ => return None,
        })
    }

    /// Returns the code with this label, if there is one.
    pub fn from_label(label: &str) -> Option<Self> {
        let code = Self::from_digits(label);
        (code != Self::Other || label == "other").then_some(code)
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => write!(f, "{number}"),
            Self::Other => f.write_str("other"),
        }
    }
}

/// An entry of the error log.
pub struct LoggedError {
    /// Unique, and the same in lists and pushes.
    pub sid: ErrorLogSid,
    /// The account that the entry belongs to.
    pub account: Option<AccountSid>,
    /// The product that the entry belongs to.
    pub product: Product,
    /// The call that the entry belongs to.
    pub call_sid: Option<CallSid>,
    /// The error code.
    pub code: ErrorCode,
    /// The severity.
    pub level: Level,
    /// The requested URL: may contain user info, tokens and phone numbers.
    pub request_url: Option<String>,
    /// When the error happened, with a resolution of 1 s.
    pub generated_at: Option<Timestamp>,
}

impl fmt::Debug for LoggedError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LoggedError").field("sid", &self.sid).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_digits_in_range_are_an_error_code() {
        for (digits, expected) in [
            ("11200", "11200"),
            ("011200", "11200"),
            ("999999", "999999"),
            ("1000000", "other"),
            ("99999999999999999999", "other"),
            ("0", "other"),
            ("-1", "other"),
            ("+11200", "other"),
            ("1.5", "other"),
            ("", "other"),
            ("+15005550006", "other"),
        ] {
            assert_eq!(ErrorCode::from_digits(digits).to_string(), expected, "{digits}");
        }
        assert_eq!(ErrorCode::from_label("other"), Some(ErrorCode::Other));
        assert_eq!(ErrorCode::from_label("x"), None);
    }

    #[test]
    fn the_product_follows_from_the_sid_and_the_level_ignores_case() {
        for (sid, expected) in [
            ("CA1", "voice"),
            ("SM1", "messaging"),
            ("MM", "messaging"),
            ("é", "other"),
            ("", "other"),
        ] {
            assert_eq!(Product::of_resource(sid).as_str(), expected, "{sid}");
        }
        assert_eq!(
            ["ERROR", "warning", "INFO", ""].map(|word| Level::from_word(word).as_str()),
            ["error", "warning", "notice", "other"]
        );
    }
}
