//! Twilio's error log: errors and warnings of an account, known within seconds to a minute.
//!
//! Source: <https://www.twilio.com/docs/usage/monitor-alert>. An entry's text and request variables may
//! hold a caller's data, and are never read.

use std::fmt;

use jiff::Timestamp;

use crate::domain::words::label::label_enum;
use crate::domain::words::sid::{AccountSid, CallSid, ErrorLogSid};

/// Largest number that is taken for an error code: Twilio's have five digits.
const MAX_CODE: u32 = 999_999;

label_enum! {
    /// The `log_level` of an entry.
    pub enum Level {
        /// Something failed.
        Error = "error",
        /// Something is odd.
        Warning = "warning",
        /// Something is worth knowing; pushed entries call it `INFO`.
        Notice = "notice",
        /// Detail for debugging.
        Debug = "debug",
        /// Missing, or a level that Twilio added later.
        Other = "other",
    }
}

impl Level {
    /// The level for Twilio's word, in whatever case.
    pub fn from_word(word: &str) -> Self {
        match word.to_ascii_lowercase().as_str() {
            "info" => Self::Notice,
            word => Self::from_label(word).unwrap_or(Self::Other),
        }
    }
}

label_enum! {
    /// Which of Twilio's products an entry is of.
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
    /// The product of the resource with a SID.
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
    /// A code of Twilio's: <https://www.twilio.com/docs/api/errors>.
    Number(u32),
    /// Missing, no number that can be a code, or one of too many.
    Other,
}

impl ErrorCode {
    /// Codes of failing voice webhooks that are common: no answer or a wrong one, no connection, an unknown
    /// host, TLS, a document that is no XML, and one that is no TwiML. Counted from 0 on for every endpoint.
    pub const COMMON: [Self; 6] = [
        Self::Number(11_200),
        Self::Number(11_205),
        Self::Number(11_210),
        Self::Number(11_220),
        Self::Number(12_100),
        Self::Number(12_300),
    ];

    /// The code for Twilio's digits.
    pub fn from_digits(digits: &str) -> Self {
        let is_digits = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
        let number =
            digits.parse().ok().filter(|number| is_digits && (1..=MAX_CODE).contains(number));
        number.map_or(Self::Other, Self::Number)
    }

    /// What happened, in a few words, for the codes of voice webhooks.
    ///
    /// Source: <https://www.twilio.com/docs/api/errors>.
    pub const fn meaning(self) -> Option<&'static str> {
        let Self::Number(number) = self else { return None };
        Some(match number {
            11_200 => "the webhook answered with an error",
            11_205 => "no connection, or no answer in time",
            11_206 => "the connection broke, or no valid HTTP answer",
            11_210 => "the host name can't be resolved",
            11_215 => "too many redirects",
            11_217 => "an HTTP status that Twilio doesn't take",
            11_220 => "the TLS handshake failed",
            11_235 => "the certificate can't be trusted",
            11_236 => "the certificate is not valid yet, or expired",
            11_237 => "the certificate chain is incomplete",
            11_750 => "the TwiML is larger than 64 KiB",
            12_100 => "the TwiML is no well-formed XML",
            12_200 => "the TwiML has an unknown verb or attribute",
            12_300 => "the content type is none that Twilio takes",
            12_400 => "Twilio failed",
            15_003 => "a status callback was not answered with 2xx",
            _ => return None,
        })
    }

    /// The code with this label, if it is one.
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

/// One entry, as Twilio shows it.
pub struct LoggedError {
    /// Unique, and the same wherever the entry shows up.
    pub sid: ErrorLogSid,
    /// The account that it is of.
    pub account: Option<AccountSid>,
    /// The product that it is of.
    pub product: Product,
    /// The call that it is of.
    pub call_sid: Option<CallSid>,
    /// What went wrong.
    pub code: ErrorCode,
    /// How bad it is.
    pub level: Level,
    /// The URL that was asked for: may hold user info, tokens and phone numbers.
    pub request_url: Option<String>,
    /// When it happened; 1 s resolution.
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
    fn only_digits_that_can_be_a_code_are_one() {
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
    fn a_product_is_told_by_its_resource_and_a_level_in_any_case() {
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
