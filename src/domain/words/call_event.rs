//! A Call Event: a request that Twilio made (or received), and the response.
//!
//! Source: <https://www.twilio.com/docs/voice/api/call-event-resource>.
//! A Call Event may contain personal data of the caller. It stays in memory only until it is judged, and
//! `Debug` omits it.

use std::fmt;

use jiff::Timestamp;

use crate::domain::words::parameters::Parameters;

/// A Call Event.
#[derive(Debug)]
pub struct CallEvent {
    /// The request.
    pub request: Request,
    /// The response; `None` until Twilio shows one.
    pub response: Option<Response>,
}

/// The request of a Call Event.
pub struct Request {
    /// The HTTP method, as sent.
    pub method: String,
    /// The full URL, as sent: may contain user info, tokens and phone numbers.
    pub url: String,
    /// The request parameters.
    pub parameters: Parameters,
}

/// Stands for a duration that is negative or not a number. The event's identity treats it like a missing one.
pub const NO_DURATION_MS: u64 = u64::MAX;

/// The response of a Call Event.
pub struct Response {
    /// The HTTP status as reported by Twilio; 0 or absent if there was no response.
    pub code: Option<i64>,
    /// The duration of the request in milliseconds, as reported by Twilio: part of the event's identity even if
    /// implausible. [`NO_DURATION_MS`] if the value isn't a duration.
    pub duration_ms: Option<u64>,
    /// The `Content-Type` of the response, with its parameters.
    pub content_type: Option<String>,
    /// The response body.
    pub body: Body,
    /// When Twilio recorded the response, with a resolution of 1 s.
    pub created_at: Option<Timestamp>,
}

/// The body of a response, as far as the API shows it.
pub enum Body {
    /// Text, possibly empty.
    Text(String),
    /// A JSON value other than a string: a body parsed by Twilio, which can't be judged as TwiML.
    Structured,
    /// Null or missing: redacted, or never stored.
    Absent,
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request").finish_non_exhaustive()
    }
}

impl fmt::Debug for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Response").field("code", &self.code).finish_non_exhaustive()
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Text(_) => "Text(…)",
            Self::Structured => "Structured",
            Self::Absent => "Absent",
        })
    }
}
