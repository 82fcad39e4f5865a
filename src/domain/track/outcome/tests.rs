//! Tests the outcome of a call, and which request decides it.

use super::*;
use crate::domain::judge::kind::RequestKind;
use crate::domain::judge::observe::Observation;
use crate::domain::judge::route::Endpoint;
use crate::domain::judge::verdict::{Code, Reason, Verdict};
use crate::domain::track::digest::{Digest, Identity};

#[test]
fn the_last_failure_decides_the_outcome() {
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
        // The audio files of one document are fetched one after the other.
        ("ok media-bad media", Some(Outcome::CutOff)),
        ("bad media", Some(Outcome::CutOff)),
    ] {
        let seconds: Vec<String> = history
            .split_whitespace()
            .zip(0..)
            .map(|(word, second)| format!("{word}@{second}"))
            .collect();
        check(&seconds.join(" "), expected);
        // A list in the opposite order has the same outcome because of its times.
        let newest_first: Vec<String> = seconds.into_iter().rev().collect();
        check(&newest_first.join(" "), expected);
    }
}

#[test]
fn requests_are_ordered_by_the_time_they_were_made() {
    use Outcome::{CutOff, Recovered};
    for (history, expected) in [
        // The call is redirected while Twilio waits for a slow response, which it then ignores.
        ("bad@25/14000 ok@11/100", Recovered),
        ("bad@25/14000 ok@18/100", Recovered),
        ("ok@18/100 bad@25/14000", Recovered),
        ("ok@18/100 bad@25/14000 cb@40", Recovered),
        // A slow success was requested before the failure.
        ("ok@25/14000 bad@20/100", CutOff),
        ("bad@20/100 ok@25/14000", CutOff),
        // Within a second, list order decides: failures are slow.
        ("ok@10/50 bad@10/300", CutOff),
        ("bad@10/300 ok@10/50", Recovered),
        ("bad@10/300 ok@10/50 bad@10/20", CutOff),
        // A list that clearly starts with the newest request is read backwards.
        ("cb@30 ok@10/50 bad@10/300 ok@2", Recovered),
        ("cb@30 bad@10/300 ok@10/50 ok@2", CutOff),
    ] {
        check(history, Some(expected));
    }
}

#[test]
fn an_item_without_a_time_keeps_its_position_in_the_list() {
    check("ok@0 bad@- ok@2", Some(Outcome::Recovered));
    check("ok@0 bad@-", Some(Outcome::CutOff));
    check("bad@1 ok@-", Some(Outcome::Recovered));
    check("ok@- bad@1", Some(Outcome::CutOff));
    check("bad@- ok@-", Some(Outcome::Recovered));
}

#[test]
fn the_last_failure_without_a_later_success_decides() {
    use Outcome::{CutOff, Recovered};
    for (history, expected, decided_by) in [
        // A failed fallback request is later than the request that it was meant to rescue.
        ("ok@0 bad#menu@2 bad#fallback@3", CutOff, "fallback"),
        ("bad#voice@0 ok@1 bad#menu@2 cb@4", CutOff, "menu"),
        ("bad#voice@0 bad#fallback@1 ok@2", Recovered, "fallback"),
        ("bad#voice@0 ok@1 bad#menu@2 ok@3", Recovered, "menu"),
        // Callbacks, redirects and whispers to another leg never decide.
        ("bad#menu@0 cb-bad#status@2", CutOff, "menu"),
        ("bad#menu@0 hop#moved@2", CutOff, "menu"),
        ("bad#menu@0 whisper-bad#agent@2 whisper-ok@3", CutOff, "menu"),
        // Audio counts like TwiML.
        ("ok@0 media-bad#first@1 media-bad#second@2", CutOff, "second"),
        ("bad#menu@0 media@1 media-bad#sound@2", CutOff, "sound"),
        ("media-bad#sound@0 bad#menu@1", CutOff, "menu"),
        ("media-bad#sound@0 ok@1", Recovered, "sound"),
        // Requests are ordered by when they were made: the slow failure was requested first.
        ("bad#quick@12/100 bad#slow@25/15000", CutOff, "quick"),
        ("bad#slow@25/15000 bad#quick@12/100", CutOff, "quick"),
        ("bad#quick@12/100 bad#slow@25/15000 ok@26", Recovered, "quick"),
        // With a success in between, only the failure after it is a cut-off.
        ("bad#slow@25/15000 ok@15/100 bad#last@20/100", CutOff, "last"),
        // Within a second, list order decides, also if the newest request comes first.
        ("ok@2 bad#one@10/50 bad#two@10/300", CutOff, "two"),
        ("ok@2 bad#two@10/300 bad#one@10/50", CutOff, "one"),
        ("cb@30 bad#two@10/300 bad#one@10/50 ok@2", CutOff, "two"),
        ("ok@2 bad#one@10/50 bad#two@10/300 ok@10/10", Recovered, "two"),
        // A request without a time keeps its position in the list.
        ("bad#one@10 bad#two@-", CutOff, "two"),
        ("bad#one@- bad#two@10", CutOff, "two"),
        ("ok@0 cb@1 bad#one@10 bad#two@- bad#three@2", CutOff, "two"),
    ] {
        let items: Vec<Item> = history.split_whitespace().map(item).collect();
        let found = outcome(&items).expect("failed request");
        let found = (found.outcome, found.decided_by.endpoint.route.as_str().to_owned());
        assert_eq!(found, (expected, decided_by.to_owned()), "{history}");
    }
}

#[test]
fn the_time_of_the_deciding_request_is_that_of_its_response() {
    for (history, second) in [("bad@25/14000 cb@40", Some(25)), ("bad@5 bad@-", None)] {
        let items: Vec<Item> = history.split_whitespace().map(item).collect();
        let created_at = outcome(&items).expect("failed request").created_at;
        assert_eq!(created_at.map(Timestamp::as_second), second, "{history}");
    }
}

/// Checks the outcome of requests given as `kind#route@second/milliseconds`; `-` as the second means no time.
fn check(history: &str, expected: Option<Outcome>) {
    let items: Vec<Item> = history.split_whitespace().map(item).collect();
    assert_eq!(outcome(&items).map(|found| found.outcome), expected, "{history}");
}

fn item(word: &str) -> Item {
    let (kind_text, time) = word.split_once('@').expect("time after `@`");
    let (kind_text, route) = kind_text.split_once('#').unwrap_or((kind_text, ""));
    let (second, ms) = time.split_once('/').unwrap_or((time, "0"));
    let kind = match kind_text.split('-').next() {
        Some("cb") => RequestKind::StatusCallback,
        Some("media") => RequestKind::Media,
        Some(_) | None => RequestKind::VoiceUrl,
    };
    let verdict = Verdict {
        code: Code::NONE,
        failure: kind_text.ends_with("bad").then_some(Reason::Timeout),
        malformation: None,
        content_type: None,
        warning: (kind_text == "hop").then_some(Warning::Redirect),
        is_unjudged: false,
    };
    let endpoint = Endpoint { host: "h".to_owned(), route: route.to_owned() };
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
        is_caller_facing: kind != RequestKind::StatusCallback && !kind_text.starts_with("whisper"),
    }
}
