//! The impact on callers: whether a call recovered from a failed request.
//!
//! Determined once per call, from its settling read.

use std::time::Duration;

use jiff::Timestamp;

use crate::domain::judge::observe::Observation;
use crate::domain::judge::verdict::Warning;
use crate::domain::track::reading::Item;
use crate::domain::track::twilio_time::{after, before};
use crate::domain::words::label::label_enum;

/// The resolution of response times: Twilio reports whole seconds.
const RESOLUTION: Duration = Duration::from_secs(1);

label_enum! {
    /// What happened to a call after a TwiML or audio request failed.
    pub enum Outcome {
        /// No later TwiML request succeeded: the caller was cut off.
        CutOff = "cut_off",
        /// A later TwiML request succeeded, such as the fallback URL's.
        Recovered = "recovered",
    }
}

/// The outcome of a call, and the request that decided it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallOutcome {
    /// The outcome.
    pub outcome: Outcome,
    /// The failed request that decided the outcome.
    pub decided_by: Observation,
    /// When Twilio recorded the response to that request.
    pub created_at: Option<Timestamp>,
}

/// Returns the outcome of a call, or `None` if no TwiML or audio request failed.
///
/// A call recovers if a TwiML request made after the last failed request succeeds. What counts is the order
/// in which requests were made, not answered: if a call is redirected while Twilio waits for a response,
/// Twilio requests the new URL and ignores that response. Requests of the same second are taken in list
/// order. A response that can't be judged counts as a success and an HTTP redirect is ignored, so that no
/// cut-off is reported by mistake.
///
/// A cut-off is decided by the last failed request that isn't followed by a success, a recovery by the last
/// failed request. A failed fallback request is later than the request that it was meant to rescue.
pub fn outcome(items: &[Item]) -> Option<CallOutcome> {
    let mut requests: Vec<CallerFacingRequest<'_>> =
        items.iter().filter_map(CallerFacingRequest::new).collect();
    if is_newest_first(items) {
        requests.reverse();
    }
    let successes = requests.iter().filter(|request| request.is_success);
    let latest = successes.filter_map(|request| request.requested_at).max();
    let (mut cut_off, mut recovered) = (Vec::new(), Vec::new());
    // The latest success further down the list; `MAX` if its time is unknown.
    let mut latest_below: Option<Timestamp> = None;
    for request in requests.iter().rev() {
        if request.is_success {
            let requested_at = request.requested_at.unwrap_or(Timestamp::MAX);
            latest_below = latest_below.max(Some(requested_at));
            continue;
        }
        let is_recovered = match request.requested_at {
            Some(failed_at) => {
                latest >= Some(after(failed_at, RESOLUTION))
                    || latest_below > Some(before(failed_at, RESOLUTION))
            }
            None => latest_below.is_some(),
        };
        if is_recovered { recovered.push(request) } else { cut_off.push(request) }
    }
    let (outcome, failed) = if cut_off.is_empty() {
        (Outcome::Recovered, recovered)
    } else {
        (Outcome::CutOff, cut_off)
    };
    last(&failed).map(|request| CallOutcome {
        outcome,
        decided_by: request.observation.clone(),
        created_at: request.created_at,
    })
}

/// Returns the last of the requests, which are in reverse list order: among those that weren't certainly
/// made before another, the last in the list.
fn last<'a>(backwards: &[&'a CallerFacingRequest<'a>]) -> Option<&'a CallerFacingRequest<'a>> {
    let latest = backwards.iter().filter_map(|request| request.requested_at).max();
    let may_be_last = |request: &&&CallerFacingRequest<'_>| {
        request.requested_at.is_none_or(|at| latest < Some(after(at, RESOLUTION)))
    };
    backwards.iter().find(may_be_last).copied()
}

/// A request whose response the caller hears.
struct CallerFacingRequest<'a> {
    observation: &'a Observation,
    created_at: Option<Timestamp>,
    /// The earliest time at which the request can have been made, if Twilio reports it.
    requested_at: Option<Timestamp>,
    is_success: bool,
}

impl<'a> CallerFacingRequest<'a> {
    fn new(item: &'a Item) -> Option<Self> {
        let observation = item.observed.as_ref().ok().filter(|_| item.is_caller_facing)?;
        let is_success = observation.verdict.failure.is_none();
        // Audio that plays says nothing about the TwiML that follows.
        let is_inconclusive = observation.verdict.warning == Some(Warning::Redirect)
            || (is_success && !observation.kind.expects_twiml());
        let created_at = item.created_at;
        (!is_inconclusive).then(|| Self {
            observation,
            created_at,
            requested_at: requested_at(item),
            is_success,
        })
    }
}

fn requested_at(item: &Item) -> Option<Timestamp> {
    let duration_ms = item.observed.as_ref().ok().and_then(|observation| observation.duration_ms);
    let duration = Duration::from_millis(duration_ms.unwrap_or_default());
    item.created_at.map(|created_at| before(created_at, duration))
}

/// Whether the list shows the newest request first, judging by neighbours whose order is certain.
fn is_newest_first(items: &[Item]) -> bool {
    let mut times = items.iter().filter_map(requested_at);
    let Some(mut last) = times.next() else { return false };
    let (mut later, mut earlier) = (0_usize, 0_usize);
    for time in times {
        later += usize::from(time >= after(last, RESOLUTION));
        earlier += usize::from(last >= after(time, RESOLUTION));
        last = time;
    }
    earlier > later
}

#[cfg(test)]
mod tests;
