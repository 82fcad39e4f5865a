//! An account that begins with the past says so from the first look on, until the past is read.

use super::*;

/// An hour ago, as far as a first start looks back.
const LOOKBACK: i64 = -3_600;

#[test]
fn an_account_begins_behind_if_it_was_never_read_or_not_for_a_quarter_of_an_hour() {
    for (cursor, expected) in [
        (None, true),
        (Some(-86_400), true),
        (Some(-901), true),
        (Some(-900), false),
        (Some(0), false),
    ] {
        let cursor = cursor.map(at);
        let known = ListProgress { cursor, ..ListProgress::default() };
        let mut account = resume(known);
        assert_eq!(is_late(&mut account, 0), expected, "{cursor:?}, before Twilio's time is known");
        account.start(at(0));
        assert_eq!(is_late(&mut account, 0), expected, "{cursor:?}, before the first pass");
        // A list without calls of the past ends it: what comes next is recent.
        account.lists.cursor = Some(at(1));
        assert!(!is_late(&mut account, 1), "{cursor:?}");
    }
}

#[test]
fn a_past_that_is_read_at_once_is_told_for_as_long_as_a_scrape_takes_to_come() {
    let mut account = first_start(1);
    read_one(&mut account, 0, 2);
    for (second, expected) in [(2, true), (64, true), (65, false), (66, false)] {
        assert_eq!(is_late(&mut account, second), expected, "after {second} s");
    }
}

#[test]
fn a_look_back_over_calls_that_are_not_long_overdue_is_no_past() {
    let mut account = fresh();
    account.start(at(0));
    // Half an hour and a minute ago is long overdue, half an hour is not.
    list(&mut account, &[ended(0, -1_800)], 1);
    account.lists.cursor = Some(at(1));
    assert!(!is_late(&mut account, 1));
}

#[test]
fn a_first_start_is_over_once_each_call_of_its_look_back_is_read() {
    let mut account = first_start(60);
    for number in 0..60 {
        // Three seconds each. What wasn't long overdue at the start is none of the past.
        let is_past = i64::from(number) * 60 + LOOKBACK + 963 + 900 <= 0;
        let second = i64::from(number) * 3 + 1;
        assert_eq!(is_late(&mut account, second), is_past || second < 65, "before {number}");
        read_one(&mut account, number, second);
    }
    assert!(!is_late(&mut account, 200));
}

#[test]
fn a_call_of_the_look_back_that_is_not_read_at_the_first_attempt_holds_nothing_back() {
    let mut account = first_start(1);
    account.lists.cursor = Some(at(70));
    assert!(is_late(&mut account, 70), "it wasn't tried");
    fail_one(&mut account, 0, 71);
    assert!(!is_late(&mut account, 71));
}

#[test]
fn an_outage_at_the_start_is_told_until_it_is_over() {
    let mut account = first_start(60);
    for number in 0..60 {
        fail_one(&mut account, number, 70);
    }
    assert!(is_late(&mut account, 70));
}

#[test]
fn a_call_of_the_past_that_is_found_later_does_not_begin_it_again() {
    let mut account = first_start(0);
    assert!(!is_late(&mut account, 65));
    list(&mut account, &[ended(1, LOOKBACK)], 70);
    assert!(!is_late(&mut account, 70));
}

/// An account that begins with calls a minute apart in the last hour, which its lists have shown.
fn first_start(calls: u32) -> AccountProgress {
    let mut account = fresh();
    account.start(at(0));
    let calls: Vec<Call> =
        (0..calls).map(|number| ended(number, LOOKBACK + i64::from(number) * 60)).collect();
    list(&mut account, &calls, 1);
    account.lists.cursor = Some(at(1));
    account
}

fn is_late(account: &mut AccountProgress, second: i64) -> bool {
    account.lag(at(second)).is_catching_up
}

fn read_one(account: &mut AccountProgress, number: u32, second: i64) {
    let reading = reading(second);
    account.take_reading(read_of(number, Stage::Settling), &reading, at(second));
}

fn fail_one(account: &mut AccountProgress, number: u32, second: i64) {
    let failure = ReadFailure::Failed;
    let read = read_of(number, Stage::Settling);
    account.read_failed(read, failure, at(second), 0);
}
