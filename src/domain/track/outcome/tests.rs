//! What callers felt of a call, and which request decided it.

use super::*;
use crate::domain::judge::kind::RequestKind;
use crate::domain::judge::observe::Observation;
use crate::domain::judge::route::Endpoint;
use crate::domain::judge::verdict::{Code, Reason, Verdict};
use crate::domain::track::digest::{Digest, Identity};

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

#[test]
fn the_request_that_decides_is_the_last_that_failed_without_a_later_success() {
    use Outcome::{CutOff, Recovered};
    for (history, expected, decided_by) in [
        // A fallback URL that fails is later than what it was to rescue.
        ("ok@0 bad#menu@2 bad#fallback@3", CutOff, "fallback"),
        ("bad#voice@0 ok@1 bad#menu@2 cb@4", CutOff, "menu"),
        ("bad#voice@0 bad#fallback@1 ok@2", Recovered, "fallback"),
        ("bad#voice@0 ok@1 bad#menu@2 ok@3", Recovered, "menu"),
        // Neither a callback, a redirect nor a whisper to another leg decides.
        ("bad#menu@0 cb-bad#status@2", CutOff, "menu"),
        ("bad#menu@0 hop#moved@2", CutOff, "menu"),
        ("bad#menu@0 whisper-bad#agent@2 whisper-ok@3", CutOff, "menu"),
        // A sound counts like a document.
        ("ok@0 media-bad#first@1 media-bad#second@2", CutOff, "second"),
        ("bad#menu@0 media@1 media-bad#sound@2", CutOff, "sound"),
        ("media-bad#sound@0 bad#menu@1", CutOff, "menu"),
        ("media-bad#sound@0 ok@1", Recovered, "sound"),
        // The order is that of the requests: a slow failure was asked for before what overtook it.
        ("bad#quick@12/100 bad#slow@25/15000", CutOff, "quick"),
        ("bad#slow@25/15000 bad#quick@12/100", CutOff, "quick"),
        ("bad#quick@12/100 bad#slow@25/15000 ok@26", Recovered, "quick"),
        // A success stands between them: only what it doesn't follow is a cut-off.
        ("bad#slow@25/15000 ok@15/100 bad#last@20/100", CutOff, "last"),
        // Within a second, the list decides, also one that is the newest first.
        ("ok@2 bad#one@10/50 bad#two@10/300", CutOff, "two"),
        ("ok@2 bad#two@10/300 bad#one@10/50", CutOff, "one"),
        ("cb@30 bad#two@10/300 bad#one@10/50 ok@2", CutOff, "two"),
        ("ok@2 bad#one@10/50 bad#two@10/300 ok@10/10", Recovered, "two"),
        // Without a time, it stands where the list shows it.
        ("bad#one@10 bad#two@-", CutOff, "two"),
        ("bad#one@- bad#two@10", CutOff, "two"),
        ("ok@0 cb@1 bad#one@10 bad#two@- bad#three@2", CutOff, "two"),
    ] {
        let items: Vec<Item> = history.split_whitespace().map(item).collect();
        let found = outcome(&items).expect("a failure");
        let found = (found.outcome, found.decided_by.endpoint.route.as_str().to_owned());
        assert_eq!(found, (expected, decided_by.to_owned()), "{history}");
    }
}

#[test]
fn the_time_of_the_request_that_decides_is_that_of_its_answer() {
    for (history, second) in [("bad@25/14000 cb@40", Some(25)), ("bad@5 bad@-", None)] {
        let items: Vec<Item> = history.split_whitespace().map(item).collect();
        let created_at = outcome(&items).expect("a failure").created_at;
        assert_eq!(created_at.map(Timestamp::as_second), second, "{history}");
    }
}

/// Reads `what@second/milliseconds` as a list of requests; `-` is no time. A name behind `#` is the route.
fn check(history: &str, expected: Option<Outcome>) {
    let items: Vec<Item> = history.split_whitespace().map(item).collect();
    assert_eq!(outcome(&items).map(|found| found.outcome), expected, "{history}");
}

fn item(word: &str) -> Item {
    let (what, time) = word.split_once('@').expect("a time");
    let (what, name) = what.split_once('#').unwrap_or((what, ""));
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
    let endpoint = Endpoint { host: "h".to_owned(), route: name.to_owned() };
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
        is_heard: kind != RequestKind::StatusCallback && !what.starts_with("whisper"),
    }
}
