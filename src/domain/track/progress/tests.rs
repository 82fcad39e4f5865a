//! Whole histories of one call's readings, and how often each event is counted.

use super::*;
use crate::domain::judge::route::Routes;
use crate::domain::track::digest::{DigestKey, Digests};
use crate::domain::track::reading::Item;
use crate::domain::words::call_event::{Body, CallEvent, Request, Response};
use crate::domain::words::parameters::Parameters;

#[test]
fn an_event_is_counted_once_however_often_and_in_whatever_order_it_is_read() {
    check(&[("a b", 2), ("b a", 0), ("b a c", 1), ("c", 0), ("c b a d", 1)]);
}

#[test]
fn equal_events_count_as_many_times_as_one_reading_shows_them() {
    check(&[("a a", 2), ("a", 0), ("a a", 0), ("a a a", 1)]);
}

#[test]
fn an_unanswered_request_waits_for_settling() {
    check(&[("a?", 0), ("a? b", 1), ("a? b !", 1), ("a? b !", 0)]);
}

#[test]
fn an_answer_filled_in_before_settling_counts_once() {
    check(&[("a?", 0), ("a", 1), ("a !", 0)]);
}

#[test]
fn an_answer_filled_in_after_settling_counts_once() {
    check(&[("a? !", 1), ("a !", 0), ("a !", 0)]);
    check(&[("a? a? !", 2), ("a a? !", 0), ("a a !", 0), ("a a a !", 1)]);
}

#[test]
fn a_new_event_does_not_take_the_credit_of_one_that_is_still_unanswered() {
    check(&[("a? !", 1), ("a? a !", 1), ("a a !", 0)]);
}

#[test]
fn an_item_that_says_nothing_is_rejected_once() {
    let mut progress = progress();
    assert_eq!(progress.count(&reading("x a"), false).rejected, [Rejection::Malformed]);
    assert_eq!(progress.count(&reading("x a x"), false).rejected, [Rejection::Malformed]);
    assert_eq!(progress.count(&reading("x a x"), true).rejected, []);
}

#[test]
fn a_call_keeps_the_end_that_was_seen_first() {
    let mut progress = progress();
    let mut call = call();
    assert_eq!(progress.see(&call, at(5)), Seen::Nothing);
    call.status = CallStatus::Failed;
    call.date_updated = Some(at(7));
    assert_eq!(progress.see(&call, at(8)), Seen::Finished);
    assert_eq!((progress.ended_at, progress.has_end_time), (Some(at(7)), false));
    call.date_updated = Some(at(90));
    assert_eq!(progress.see(&call, at(91)), Seen::Nothing);
    assert_eq!(progress.ended_at, Some(at(7)));
}

#[test]
fn a_final_call_that_tells_no_end_may_have_gone_on_until_now() {
    let mut progress = progress();
    let call = Call { status: CallStatus::Completed, date_updated: None, ..call() };
    assert_eq!(progress.see(&call, at(3_600)), Seen::Finished);
    assert_eq!(progress.ended_at, Some(at(3_600)));
}

#[test]
fn a_program_with_a_newer_digest_counts_nothing_of_an_old_call_again() {
    let mut progress = progress();
    progress.digest_version = DigestVersion::from_number(0).expect("no newer one");
    let began = reading_with(progress.digest_version, "a a b? x !");
    assert_eq!(progress.count(&began, true).events.len(), 3);
    let again = progress.count(&reading_with(progress.digest_version, "b a x a !"), true);
    assert_eq!((again.events.len(), again.rejected.len(), again.duplicates), (0, 0, 4));
    let wrong = progress.count(&reading_with(DigestVersion::CURRENT, "a !"), true);
    assert_eq!(wrong.events.len(), 1, "which it would, were the version not kept");
}

/// Reads a history: a letter is an event, `?` behind it an unanswered one, `x` a broken item, and
/// `!` makes the reading settle. Beside each reading stands how many events it counts.
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
    Timestamp::from_second(1_700_000_000 + second).expect("an instant")
}

fn sid() -> CallSid {
    CallSid::parse("CA00000000000000000000000000000001").expect("a SID")
}
