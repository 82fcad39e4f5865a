//! What callers felt: whether a call with a failing TwiML request went on.
//!
//! Judged once per call, from its settling read.

use jiff::Timestamp;

use super::label::label_enum;
use super::reading::Item;
use super::verdict::Warning;

label_enum! {
    /// How a call went on after a TwiML request had failed.
    pub enum Outcome {
        /// No later TwiML request succeeded: the caller was hung up on.
        CutOff = "cut_off",
        /// A later TwiML request succeeded, such as the fallback URL's.
        Recovered = "recovered",
    }
}

/// The outcome of a call; `None` where no TwiML request failed.
///
/// The last failure decides. An answer that can't be judged counts as a success and a redirect as
/// nothing, so that no cut-off is invented.
pub fn outcome(items: &[Item]) -> Option<Outcome> {
    let mut last_known = Timestamp::MIN;
    let mut twiml_requests: Vec<(Timestamp, bool)> = Vec::new();
    for item in items {
        // An item without a time stands where the list shows it.
        last_known = item.created_at.unwrap_or(last_known);
        if let Ok(observation) = &item.observed
            && observation.kind.expects_twiml()
            && observation.verdict.warning != Some(Warning::Redirect)
        {
            twiml_requests.push((last_known, observation.verdict.failure.is_some()));
        }
    }
    twiml_requests.sort_by_key(|&(at, _)| at);
    let has_failed = twiml_requests.iter().any(|&(_, failed)| failed);
    let last_failed = twiml_requests.last().is_some_and(|&(_, failed)| failed);
    has_failed.then_some(if last_failed { Outcome::CutOff } else { Outcome::Recovered })
}
