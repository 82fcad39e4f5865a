//! Turns a Call Event into an observation: its endpoint, kind and verdict.

use crate::domain::judge::kind::{Expected, RequestKind};
use crate::domain::judge::route::{Endpoint, Routes};
use crate::domain::judge::verdict::{self, InvalidCode, Verdict};
use crate::domain::words::call_event::CallEvent;
use crate::domain::words::label::label_enum;
use crate::domain::words::webhook_url::WebhookUrl;

/// The longest valid duration of a request: Twilio gives up after 15 s, so over ten minutes can't be right.
const MAX_DURATION_MS: u64 = 10 * 60 * 1000;

label_enum! {
    /// Why an item of a Call Events page, or its duration, isn't counted.
    pub enum Rejection {
        /// Not a JSON object in the documented format.
        Malformed = "malformed",
        /// The URL has no scheme or no host.
        InvalidUrl = "invalid_url",
        /// The response code is neither 0 nor a number from 100 to 599.
        InvalidCode = "invalid_code",
        /// The duration is negative, not a number, or over ten minutes: the event is counted without it.
        InvalidDuration = "invalid_duration",
        /// The item alone exceeds the size limit of a page.
        TooLarge = "too_large",
    }
}

/// The result of judging a Call Event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observation {
    /// The endpoint of the request.
    pub endpoint: Endpoint,
    /// Whether a configured pattern matches the endpoint.
    pub is_configured: bool,
    /// The kind of the request.
    pub kind: RequestKind,
    /// The duration in milliseconds; at most ten minutes.
    pub duration_ms: Option<u64>,
    /// Whether Twilio reported an impossible duration.
    pub has_invalid_duration: bool,
    /// The verdict on the response.
    pub verdict: Verdict,
}

/// Judges a Call Event. Of its text, only the host and route are kept.
pub fn observe(event: &CallEvent, routes: &Routes) -> Result<Observation, Rejection> {
    let url = WebhookUrl::parse(&event.request.url).ok_or(Rejection::InvalidUrl)?;
    let kind = RequestKind::classify(event, &url);
    let verdict = verdict::judge(expected(kind, event), event.response.as_ref())
        .map_err(|InvalidCode| Rejection::InvalidCode)?;
    let reported_ms = event.response.as_ref().and_then(|response| response.duration_ms);
    let duration_ms = reported_ms.filter(|reported| *reported <= MAX_DURATION_MS);
    Ok(Observation {
        endpoint: routes.endpoint(&url),
        is_configured: routes.has_pattern_for(&url),
        kind,
        duration_ms,
        has_invalid_duration: duration_ms != reported_ms,
        verdict,
    })
}

/// Returns what Twilio expects in response. Once the call is over, it ignores all TwiML.
pub fn expected(kind: RequestKind, event: &CallEvent) -> Expected {
    let is_idle = kind.expects_twiml() && event.request.parameters.is_call_over();
    if is_idle { Expected::IdleTwiml } else { kind.expected() }
}
