//! From one Call Event to one observation: where it went, what it was for, what it was worth.

use crate::domain::judge::kind::{Expected, RequestKind};
use crate::domain::judge::route::{Endpoint, Routes};
use crate::domain::judge::verdict::{self, InvalidCode, Verdict};
use crate::domain::words::call_event::CallEvent;
use crate::domain::words::label::label_enum;
use crate::domain::words::webhook_url::WebhookUrl;

/// Longest duration of a request: Twilio gives up after 15 s, so more than ten minutes are no duration.
const MAX_DURATION_MS: u64 = 10 * 60 * 1000;

label_enum! {
    /// Why an item of a Call Events page, or its duration, could not be counted.
    pub enum Rejection {
        /// No JSON object of the documented shape.
        Malformed = "malformed",
        /// The URL has no scheme or no host.
        InvalidUrl = "invalid_url",
        /// The response code is no number from 100 to 599, and not 0.
        InvalidCode = "invalid_code",
        /// The duration is negative, no number, or longer than ten minutes: the event is counted without it.
        InvalidDuration = "invalid_duration",
        /// The item alone exceeds the limit on a page's size.
        TooLarge = "too_large",
    }
}

/// One fact about one Call Event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observation {
    /// Where the request went.
    pub endpoint: Endpoint,
    /// Whether a pattern of the user's names the endpoint.
    pub is_configured: bool,
    /// What it was for.
    pub kind: RequestKind,
    /// How long it took, in milliseconds; at most ten minutes.
    pub duration_ms: Option<u64>,
    /// Whether Twilio tells a duration that no request can have had.
    pub has_invalid_duration: bool,
    /// What the answer was worth.
    pub verdict: Verdict,
}

/// Judges one Call Event. The only copies of its text that survive are host and route.
pub fn observe(event: &CallEvent, routes: &Routes) -> Result<Observation, Rejection> {
    let url = WebhookUrl::parse(&event.request.url).ok_or(Rejection::InvalidUrl)?;
    let kind = RequestKind::classify(event, &url);
    let verdict = verdict::judge(expected(kind, event), event.response.as_ref())
        .map_err(|InvalidCode| Rejection::InvalidCode)?;
    let told_ms = event.response.as_ref().and_then(|response| response.duration_ms);
    let duration_ms = told_ms.filter(|told| *told <= MAX_DURATION_MS);
    Ok(Observation {
        endpoint: routes.endpoint(&url),
        is_configured: routes.names(&url),
        kind,
        duration_ms,
        has_invalid_duration: duration_ms != told_ms,
        verdict,
    })
}

/// What Twilio expects of the answer: of a call that is over it obeys no TwiML, whatever it asked for.
pub fn expected(kind: RequestKind, event: &CallEvent) -> Expected {
    let is_idle = kind.expects_twiml() && event.request.parameters.is_call_over();
    if is_idle { Expected::IdleTwiml } else { kind.expected() }
}
