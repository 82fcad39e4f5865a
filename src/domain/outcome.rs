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

#[cfg(test)]
mod tests {
    use super::super::digest::{Digest, Identity};
    use super::super::kind::RequestKind;
    use super::super::observe::Observation;
    use super::super::route::Endpoint;
    use super::super::verdict::{Code, Reason, Verdict};
    use super::*;

    #[test]
    fn the_last_failure_decides() {
        for (history, expected) in [
            ("", None),
            ("ok cb", None),
            ("bad", Some(Outcome::CutOff)),
            ("bad ok", Some(Outcome::Recovered)),
            ("bad ok bad", Some(Outcome::CutOff)),
            ("ok bad hop", Some(Outcome::CutOff)),
            ("bad cb", Some(Outcome::CutOff)),
            ("cb-bad ok", None),
        ] {
            let items: Vec<Item> = history.split_whitespace().zip(0..).map(item).collect();
            assert_eq!(outcome(&items), expected, "{history}");
            // A list in the other order tells the same, by its times.
            let items: Vec<Item> = items.into_iter().rev().collect();
            assert_eq!(outcome(&items), expected, "{history}, reversed");
        }
    }

    #[test]
    fn an_item_without_a_time_stands_where_the_list_shows_it() {
        let mut items: Vec<Item> = ["ok", "bad", "ok"].into_iter().zip(0..).map(item).collect();
        items[1].created_at = None;
        assert_eq!(outcome(&items), Some(Outcome::Recovered));
        items.pop();
        assert_eq!(outcome(&items), Some(Outcome::CutOff));
    }

    fn item((word, second): (&str, i64)) -> Item {
        let is_callback = word.starts_with("cb");
        let verdict = Verdict {
            code: Code::NONE,
            failure: word.ends_with("bad").then_some(Reason::Timeout),
            content_type: None,
            warning: (word == "hop").then_some(Warning::Redirect),
            is_unjudged: false,
        };
        let kind = if is_callback { RequestKind::StatusCallback } else { RequestKind::VoiceUrl };
        let endpoint = Endpoint { host: String::new(), route: String::new() };
        Item {
            identity: Identity::Rejected(Digest(0)),
            created_at: Timestamp::from_second(second).ok(),
            observed: Ok(Observation {
                endpoint,
                is_configured: false,
                kind,
                duration_ms: None,
                has_invalid_duration: false,
                verdict,
            }),
        }
    }
}
