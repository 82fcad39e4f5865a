//! An account that starts with a backlog reports from the start that it is catching up, until the backlog is read.

use super::*;

/// The start of the backlog: an hour before the account starts.
const LOOKBACK: i64 = -3_600;

#[test]
fn an_account_starts_behind_without_a_cursor_or_with_one_over_15_minutes_old() {
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
        assert_eq!(
            is_catching_up(&mut account, 0),
            expected,
            "{cursor:?}, before Twilio's time is known"
        );
        account.start(at(0));
        assert_eq!(is_catching_up(&mut account, 0), expected, "{cursor:?}, before the first pass");
        // A list without old calls ends it, since all further calls are recent.
        account.lists.cursor = Some(at(1));
        assert!(!is_catching_up(&mut account, 1), "{cursor:?}");
    }
}

#[test]
fn catching_up_is_reported_for_at_least_65_seconds() {
    let mut account = first_start(1);
    read_one(&mut account, 0, 2);
    for (second, expected) in [(2, true), (64, true), (65, false), (66, false)] {
        assert_eq!(is_catching_up(&mut account, second), expected, "after {second} s");
    }
}

#[test]
fn calls_that_are_not_long_overdue_are_not_a_backlog() {
    let mut account = fresh();
    account.start(at(0));
    // A call is long overdue 1,863 s after its end; this one ended half an hour ago.
    list(&mut account, &[ended(0, -1_800)], 1);
    account.lists.cursor = Some(at(1));
    assert!(!is_catching_up(&mut account, 1));
}

#[test]
fn a_first_start_has_caught_up_once_each_backlog_call_is_read() {
    let mut account = first_start(60);
    for number in 0..60 {
        // One read every three seconds. Calls that weren't long overdue at the start aren't backlog.
        let is_backlog = i64::from(number) * 60 + LOOKBACK + 963 + 900 <= 0;
        let second = i64::from(number) * 3 + 1;
        assert_eq!(
            is_catching_up(&mut account, second),
            is_backlog || second < 65,
            "before {number}"
        );
        read_one(&mut account, number, second);
    }
    assert!(!is_catching_up(&mut account, 200));
}

#[test]
fn a_backlog_call_whose_first_read_fails_does_not_prolong_catching_up() {
    let mut account = first_start(1);
    account.lists.cursor = Some(at(70));
    assert!(is_catching_up(&mut account, 70), "not attempted yet");
    fail_one(&mut account, 0, 71);
    assert!(!is_catching_up(&mut account, 71));
}

#[test]
fn an_outage_at_the_start_prolongs_catching_up() {
    let mut account = first_start(60);
    for number in 0..60 {
        fail_one(&mut account, number, 70);
    }
    assert!(is_catching_up(&mut account, 70));
}

#[test]
fn an_old_call_found_later_does_not_restart_catching_up() {
    let mut account = first_start(0);
    assert!(!is_catching_up(&mut account, 65));
    list(&mut account, &[ended(1, LOOKBACK)], 70);
    assert!(!is_catching_up(&mut account, 70));
}

/// An account that starts with calls a minute apart in the last hour, all of which its lists have returned.
fn first_start(calls: u32) -> AccountProgress {
    let mut account = fresh();
    account.start(at(0));
    let calls: Vec<Call> =
        (0..calls).map(|number| ended(number, LOOKBACK + i64::from(number) * 60)).collect();
    list(&mut account, &calls, 1);
    account.lists.cursor = Some(at(1));
    account
}

fn is_catching_up(account: &mut AccountProgress, second: i64) -> bool {
    account.lag(at(second)).is_catching_up
}

fn read_one(account: &mut AccountProgress, number: u32, second: i64) {
    let reading = reading(second);
    account.apply_reading(read_of(number, Stage::Settling), &reading, at(second));
}

fn fail_one(account: &mut AccountProgress, number: u32, second: i64) {
    let failure = ReadFailure::Failed;
    let read = read_of(number, Stage::Settling);
    account.read_failed(read, failure, at(second), 0);
}
