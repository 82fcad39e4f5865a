//! A Call Event: one request that Twilio made (or received), and the answer.
//!
//! Source: <https://www.twilio.com/docs/voice/api/call-event-resource>.
//! Holds a caller's data in memory for as long as it takes to judge it: `Debug` shows none of it,
//! and of the parameters only names and four values are kept at all.

use std::fmt;

use jiff::Timestamp;

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

/// The parameters of a request: all names, and the values that decide the request's kind and
/// identity. No other value is kept.
#[derive(Clone, Default)]
pub struct Parameters {
    names: Vec<String>,
    /// `call_status`.
    pub call_status: Option<String>,
    /// `sequence_number`, which orders status callbacks.
    pub sequence_number: Option<String>,
    /// `direction`.
    pub direction: Option<String>,
    /// `callback_source`.
    pub callback_source: Option<String>,
}

impl Parameters {
    /// Collects parameters; `value` is asked only for those whose value matters.
    pub fn collect<V>(
        pairs: impl IntoIterator<Item = (String, V)>,
        mut value: impl FnMut(V) -> Option<String>,
    ) -> Self {
        let mut parameters = Self::default();
        for (key, raw) in pairs {
            let name = normalised(&key);
            match name.as_str() {
                "callstatus" => parameters.call_status = value(raw),
                "sequencenumber" => parameters.sequence_number = value(raw),
                "direction" => parameters.direction = value(raw),
                "callbacksource" => parameters.callback_source = value(raw),
                _ => {}
            }
            parameters.names.push(name);
        }
        parameters.names.sort_unstable();
        parameters
    }

    /// Whether a parameter is there; `name` in lower case without underscores.
    pub fn has(&self, name: &str) -> bool {
        self.names.binary_search_by(|have| have.as_str().cmp(name)).is_ok()
    }

    /// All names, normalised and sorted.
    pub fn names(&self) -> &[String] {
        &self.names
    }
}

/// The name of a parameter without case and underscores: `CallSid` and `call_sid` are one.
fn normalised(key: &str) -> String {
    key.chars().filter(|&c| c != '_').flat_map(char::to_lowercase).collect()
}

/// The response of a Call Event.
pub struct Response {
    /// The HTTP status as Twilio tells it; 0 or absent where there was no answer.
    pub code: Option<i64>,
    /// How long the request took, in milliseconds.
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

impl fmt::Debug for Parameters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Parameters").field("count", &self.names.len()).finish_non_exhaustive()
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
