//! A Call Event: one request that Twilio made (or received), and the answer.
//!
//! Source: <https://www.twilio.com/docs/voice/api/call-event-resource>.
//! Holds a caller's data in memory for as long as it takes to judge it; `Debug` shows none of it.

use std::fmt;

use jiff::Timestamp;

use crate::domain::words::parameters::Parameters;

/// One Call Event.
#[derive(Debug)]
pub struct CallEvent {
    /// What was asked.
    pub request: Request,
    /// What was answered; `None` while Twilio has no answer to show.
    pub response: Option<Response>,
}

/// The request of a Call Event.
pub struct Request {
    /// HTTP method, as sent.
    pub method: String,
    /// The whole URL, as sent: may hold user info, tokens and phone numbers.
    pub url: String,
    /// What was sent along.
    pub parameters: Parameters,
}

/// Stands for a duration that is negative or no number. To the event's identity it is as if there were
/// none.
pub const NO_DURATION_MS: u64 = u64::MAX;

/// The response of a Call Event.
pub struct Response {
    /// The HTTP status as Twilio tells it; 0 or absent where there was no answer.
    pub code: Option<i64>,
    /// How long the request took, in milliseconds, as Twilio tells it: it identifies the event, however
    /// odd it is. [`NO_DURATION_MS`] where what it tells is no duration.
    pub duration_ms: Option<u64>,
    /// The `Content-Type` of the answer, with its parameters.
    pub content_type: Option<String>,
    /// The answer itself.
    pub body: Body,
    /// When Twilio recorded the answer; 1 s resolution.
    pub created_at: Option<Timestamp>,
}

/// The body of an answer, as far as the API shows it.
pub enum Body {
    /// The text of the answer, possibly empty.
    Text(String),
    /// Something other than a string: an answer that Twilio parsed, which nobody can judge as TwiML.
    Structured,
    /// Null or missing: redacted, or never kept.
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
