//! What callers felt: whether a call with a failing TwiML request went on.
//!
//! Judged once per call, from its settling read.

use std::time::Duration;

use jiff::Timestamp;

use crate::domain::judge::observe::Observation;
use crate::domain::judge::verdict::Warning;
use crate::domain::track::reading::Item;
use crate::domain::track::twilio_time::{after, before};
use crate::domain::words::label::label_enum;

/// How exactly the time of an answer is known: Twilio tells whole seconds.
const RESOLUTION: Duration = Duration::from_secs(1);

label_enum! {
    /// How a call went on after a TwiML request had failed.
    pub enum Outcome {
        /// No later TwiML request succeeded: the caller was hung up on.
        CutOff = "cut_off",
        /// A later TwiML request succeeded, such as the fallback URL's.
        Recovered = "recovered",
    }
}

/// What callers felt of a call, and the request that decided it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallOutcome {
    /// What callers felt.
    pub outcome: Outcome,
    /// The failing request that decided it.
    pub decided_by: Observation,
    /// When Twilio recorded the answer to that request.
    pub created_at: Option<Timestamp>,
}

/// The outcome of a call; `None` where no TwiML request and no sound failed.
///
/// A call recovers if a TwiML request that was made after the last failing one succeeded. The order is
/// that of the requests: while Twilio waits for one answer, a redirect of the call makes it ask
/// elsewhere and ignore that answer. Two requests of the same second were made in the order of the
/// list. An answer that can't be judged counts as a success and a redirect as nothing, so that no
/// cut-off is invented.
///
/// A cut-off is decided by the last failing request that no success follows, a recovery by the last
/// failing request. A fallback URL that fails, too, is later than what it was to rescue.
pub fn outcome(items: &[Item]) -> Option<CallOutcome> {
    let mut heard: Vec<CallerFacingRequest<'_>> =
        items.iter().filter_map(CallerFacingRequest::new).collect();
    if is_newest_first(items) {
        heard.reverse();
    }
    let latest =
        heard.iter().filter(|heard| heard.is_success).filter_map(|heard| heard.asked_at).max();
    let (mut cut_off, mut recovered) = (Vec::new(), Vec::new());
    // The latest success behind the place in the list, going backwards; `MAX` if its time is unknown.
    let mut latest_behind: Option<Timestamp> = None;
    for request in heard.iter().rev() {
        if request.is_success {
            latest_behind = latest_behind.max(Some(request.asked_at.unwrap_or(Timestamp::MAX)));
            continue;
        }
        let is_recovered = match request.asked_at {
            Some(failed_at) => {
                latest >= Some(after(failed_at, RESOLUTION))
                    || latest_behind > Some(before(failed_at, RESOLUTION))
            }
            None => latest_behind.is_some(),
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

/// The last of some requests, which are in the reverse order of the list: of those that were surely not
/// made before another, the one that the list shows last.
fn last<'a>(backwards: &[&'a CallerFacingRequest<'a>]) -> Option<&'a CallerFacingRequest<'a>> {
    let latest = backwards.iter().filter_map(|request| request.asked_at).max();
    let may_be_last = |request: &&&CallerFacingRequest<'_>| {
        request.asked_at.is_none_or(|at| latest < Some(after(at, RESOLUTION)))
    };
    backwards.iter().find(may_be_last).copied()
}

/// A request whose answer the caller hears.
struct CallerFacingRequest<'a> {
    observation: &'a Observation,
    created_at: Option<Timestamp>,
    /// The earliest time at which it can have been made, as far as Twilio tells.
    asked_at: Option<Timestamp>,
    is_success: bool,
}

impl<'a> CallerFacingRequest<'a> {
    fn new(item: &'a Item) -> Option<Self> {
        let observation = item.observed.as_ref().ok().filter(|_| item.is_heard)?;
        let is_success = observation.verdict.failure.is_none();
        // A sound that is played says nothing of the document that follows.
        let says_nothing = observation.verdict.warning == Some(Warning::Redirect)
            || (is_success && !observation.kind.expects_twiml());
        let created_at = item.created_at;
        (!says_nothing).then(|| Self {
            observation,
            created_at,
            asked_at: asked_at(item),
            is_success,
        })
    }
}

fn asked_at(item: &Item) -> Option<Timestamp> {
    let duration_ms = item.observed.as_ref().ok().and_then(|observation| observation.duration_ms);
    let duration = Duration::from_millis(duration_ms.unwrap_or_default());
    item.created_at.map(|created_at| before(created_at, duration))
}

/// Whether the list shows the newest request first, by the pairs of which one is surely the later.
fn is_newest_first(items: &[Item]) -> bool {
    let mut times = items.iter().filter_map(asked_at);
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
