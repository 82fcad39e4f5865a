//! Tests how often each event is counted over a call's readings.

use super::*;
use crate::domain::judge::route::Routes;
use crate::domain::track::digest::{DigestKey, Digests};
use crate::domain::track::reading::Item;
use crate::domain::words::call_event::{Body, CallEvent, Request, Response};
use crate::domain::words::parameters::Parameters;

#[test]
fn counts_an_event_once_across_readings_in_any_order() {
    check(&[("a b", 2), ("b a", 0), ("b a c", 1), ("c", 0), ("c b a d", 1)]);
}

#[test]
fn counts_identical_events_as_often_as_one_reading_shows_them() {
    check(&[("a a", 2), ("a", 0), ("a a", 0), ("a a a", 1)]);
}

#[test]
fn an_unanswered_request_is_counted_when_the_call_settles() {
    check(&[("a?", 0), ("a? b", 1), ("a? b !", 1), ("a? b !", 0)]);
}

#[test]
fn a_response_that_appears_before_settling_is_counted_once() {
    check(&[("a?", 0), ("a", 1), ("a !", 0)]);
}

#[test]
fn a_response_that_appears_after_settling_is_not_counted_again() {
    check(&[("a? !", 1), ("a !", 0), ("a !", 0)]);
    check(&[("a? a? !", 2), ("a a? !", 0), ("a a !", 0), ("a a a !", 1)]);
}

#[test]
fn a_new_event_does_not_use_the_credit_of_an_unanswered_request() {
    check(&[("a? !", 1), ("a? a !", 1), ("a a !", 0)]);
}

#[test]
fn an_invalid_item_is_rejected_once() {
    let mut progress = progress();
    assert_eq!(progress.count(&reading("x a"), false).rejected, [Rejection::Malformed]);
    assert_eq!(progress.count(&reading("x a x"), false).rejected, [Rejection::Malformed]);
    assert_eq!(progress.count(&reading("x a x"), true).rejected, []);
}

#[test]
fn the_first_end_time_is_kept() {
    let mut progress = progress();
    let mut call = call();
    assert_eq!(progress.update(&call, at(5)), Seen::Nothing);
    call.status = CallStatus::Failed;
    call.date_updated = Some(at(7));
    assert_eq!(progress.update(&call, at(8)), Seen::Finished);
    assert_eq!((progress.ended_at, progress.has_end_time), (Some(at(7)), false));
    call.date_updated = Some(at(90));
    assert_eq!(progress.update(&call, at(91)), Seen::Nothing);
    assert_eq!(progress.ended_at, Some(at(7)));
}

#[test]
fn a_final_call_without_an_end_time_ends_now() {
    let mut progress = progress();
    let call = Call { status: CallStatus::Completed, date_updated: None, ..call() };
    assert_eq!(progress.update(&call, at(3_600)), Seen::Finished);
    assert_eq!(progress.ended_at, Some(at(3_600)));
}

#[test]
fn a_newer_digest_version_does_not_recount_existing_calls() {
    let mut progress = progress();
    progress.digest_version = DigestVersion::from_number(0).expect("known version");
    let began = reading_with(progress.digest_version, "a a b? x !");
    assert_eq!(progress.count(&began, true).events.len(), 3);
    let again = progress.count(&reading_with(progress.digest_version, "b a x a !"), true);
    assert_eq!((again.events.len(), again.rejected.len(), again.duplicates), (0, 0, 4));
    let wrong = progress.count(&reading_with(DigestVersion::CURRENT, "a !"), true);
    assert_eq!(wrong.events.len(), 1, "the current version would count the event again");
}

/// Checks the number of events counted by each reading. In a reading, a letter is an event, a letter with `?`
/// an unanswered one, `x` an invalid item, and `!` settles the call.
fn check(history: &[(&str, usize)]) {
    let mut progress = progress();
    for (step, (words, expected)) in history.iter().enumerate() {
        let counted = progress.count(&reading(words), words.contains('!'));
        assert_eq!(counted.events.len(), *expected, "step {step} of {history:?}");
    }
}

fn reading(words: &str) -> Reading {
    reading_with(DigestVersion::CURRENT, words)
}

fn reading_with(version: DigestVersion, words: &str) -> Reading {
    let digests = Digests::new(DigestKey::new([7; 16]), version);
    let items = words
        .split(' ')
        .filter(|word| !word.contains('!'))
        .map(|word| match word {
            "x" => Item::rejected(b"x", digests, Rejection::Malformed),
            _ => Item::judge(
                &event(&word[..1], word.ends_with('?')),
                sid(),
                digests,
                &Routes::default(),
            ),
        })
        .collect();
    Reading { items, read_at: at(100), is_complete: true }
}

fn event(name: &str, is_unanswered: bool) -> CallEvent {
    CallEvent {
        request: Request {
            method: "POST".to_owned(),
            url: format!("https://app.example.com/{name}"),
            parameters: Parameters::default(),
        },
        response: (!is_unanswered).then(|| Response {
            code: Some(200),
            duration_ms: Some(10),
            content_type: None,
            body: Body::Absent,
            created_at: Some(at(1)),
        }),
    }
}

fn progress() -> CallProgress {
    CallProgress::begin(&call(), at(0)).0
}

fn call() -> Call {
    Call {
        sid: sid(),
        status: CallStatus::InProgress,
        direction: Direction::Inbound,
        start_time: Some(at(0)),
        end_time: None,
        date_created: Some(at(0)),
        date_updated: None,
    }
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_700_000_000 + second).expect("valid timestamp")
}

fn sid() -> CallSid {
    CallSid::parse("CA00000000000000000000000000000001").expect("valid SID")
}
