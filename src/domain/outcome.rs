//! What callers felt: whether a call with a failing TwiML request went on.
//!
//! Judged once per call, from its settling read.

use std::time::Duration;

use jiff::Timestamp;

use super::label::label_enum;
use super::reading::Item;
use super::twilio_time::{after, before};
use super::verdict::Warning;

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

/// The outcome of a call; `None` where no TwiML request and no sound failed.
///
/// A call recovers if a TwiML request that was made after the last failing one succeeded. The order is
/// that of the requests: while Twilio waits for one answer, a redirect of the call makes it ask
/// elsewhere and ignore that answer. Two requests of the same second were made in the order of the
/// list. An answer that can't be judged counts as a success and a redirect as nothing, so that no
/// cut-off is invented.
pub fn outcome(items: &[Item]) -> Option<Outcome> {
    let mut heard: Vec<Heard> = items.iter().filter_map(Heard::of).collect();
    if is_newest_first(items) {
        heard.reverse();
    }
    let latest =
        heard.iter().filter(|heard| heard.is_success).filter_map(|heard| heard.asked_at).max();
    let mut has_failed = false;
    // The latest success behind the place in the list, going backwards; `MAX` if its time is unknown.
    let mut latest_behind: Option<Timestamp> = None;
    for request in heard.iter().rev() {
        if request.is_success {
            latest_behind = latest_behind.max(Some(request.asked_at.unwrap_or(Timestamp::MAX)));
            continue;
        }
        has_failed = true;
        let is_recovered = match request.asked_at {
            Some(failed_at) => {
                latest >= Some(after(failed_at, RESOLUTION))
                    || latest_behind > Some(before(failed_at, RESOLUTION))
            }
            None => latest_behind.is_some(),
        };
        if !is_recovered {
            return Some(Outcome::CutOff);
        }
    }
    has_failed.then_some(Outcome::Recovered)
}

/// A request whose answer the caller hears.
struct Heard {
    /// The earliest time at which it can have been made, as far as Twilio tells.
    asked_at: Option<Timestamp>,
    is_success: bool,
}

impl Heard {
    fn of(item: &Item) -> Option<Self> {
        let observation = item.observed.as_ref().ok().filter(|_| item.is_heard)?;
        let is_success = observation.verdict.failure.is_none();
        // A sound that is played says nothing of the document that follows.
        let says_nothing = observation.verdict.warning == Some(Warning::Redirect)
            || (is_success && !observation.kind.expects_twiml());
        (!says_nothing).then(|| Self { asked_at: asked_at(item), is_success })
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
            ("bad ok bad ok", Some(Outcome::Recovered)),
            ("ok bad hop", Some(Outcome::CutOff)),
            ("bad cb", Some(Outcome::CutOff)),
            ("cb-bad ok", None),
            ("media ok", None),
            ("ok media-bad", Some(Outcome::CutOff)),
            ("ok media-bad ok", Some(Outcome::Recovered)),
            // The sounds of one document are fetched one after the other.
            ("ok media-bad media", Some(Outcome::CutOff)),
            ("bad media", Some(Outcome::CutOff)),
        ] {
            let seconds: Vec<String> = history
                .split_whitespace()
                .zip(0..)
                .map(|(word, second)| format!("{word}@{second}"))
                .collect();
            check(&seconds.join(" "), expected);
            // A list in the other order tells the same, by its times.
            let newest_first: Vec<String> = seconds.into_iter().rev().collect();
            check(&newest_first.join(" "), expected);
        }
    }

    #[test]
    fn requests_are_in_the_order_in_which_they_were_made() {
        use Outcome::{CutOff, Recovered};
        for (history, expected) in [
            // The call is redirected while a slow answer is awaited, which is ignored then.
            ("bad@25/14000 ok@11/100", Recovered),
            ("bad@25/14000 ok@18/100", Recovered),
            ("ok@18/100 bad@25/14000", Recovered),
            ("ok@18/100 bad@25/14000 cb@40", Recovered),
            // A slow success was asked for before the failure.
            ("ok@25/14000 bad@20/100", CutOff),
            ("bad@20/100 ok@25/14000", CutOff),
            // Within a second, the list decides: failures are slow.
            ("ok@10/50 bad@10/300", CutOff),
            ("bad@10/300 ok@10/50", Recovered),
            ("bad@10/300 ok@10/50 bad@10/20", CutOff),
            // A list that is plainly the newest first is read backwards.
            ("cb@30 ok@10/50 bad@10/300 ok@2", Recovered),
            ("cb@30 bad@10/300 ok@10/50 ok@2", CutOff),
        ] {
            check(history, Some(expected));
        }
    }

    #[test]
    fn an_item_without_a_time_stands_where_the_list_shows_it() {
        check("ok@0 bad@- ok@2", Some(Outcome::Recovered));
        check("ok@0 bad@-", Some(Outcome::CutOff));
        check("bad@1 ok@-", Some(Outcome::Recovered));
        check("ok@- bad@1", Some(Outcome::CutOff));
        check("bad@- ok@-", Some(Outcome::Recovered));
    }

    /// Reads `what@second/milliseconds` as a list of requests; `-` is no time.
    fn check(history: &str, expected: Option<Outcome>) {
        let items: Vec<Item> = history.split_whitespace().map(item).collect();
        assert_eq!(outcome(&items), expected, "{history}");
    }

    fn item(word: &str) -> Item {
        let (what, time) = word.split_once('@').expect("a time");
        let (second, ms) = time.split_once('/').unwrap_or((time, "0"));
        let kind = match what.split('-').next() {
            Some("cb") => RequestKind::StatusCallback,
            Some("media") => RequestKind::Media,
            Some(_) | None => RequestKind::VoiceUrl,
        };
        let verdict = Verdict {
            code: Code::NONE,
            failure: what.ends_with("bad").then_some(Reason::Timeout),
            malformation: None,
            content_type: None,
            warning: (what == "hop").then_some(Warning::Redirect),
            is_unjudged: false,
        };
        let endpoint = Endpoint { host: String::new(), route: String::new() };
        Item {
            identity: Identity::Rejected(Digest(0)),
            created_at: second.parse().ok().and_then(|at| Timestamp::from_second(at).ok()),
            observed: Ok(Observation {
                endpoint,
                is_configured: false,
                kind,
                duration_ms: ms.parse().ok(),
                has_invalid_duration: false,
                verdict,
            }),
            is_heard: kind != RequestKind::StatusCallback,
        }
    }
}
