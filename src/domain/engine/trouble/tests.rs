//! What gets a line, and what does not.

use super::*;

#[test]
fn a_failed_request_that_the_next_one_mends_is_no_news() {
    let mut lists = Trouble::of_lists();
    for second in [0, 100, 200] {
        assert_eq!(fail(&mut lists, "recent", 0, "dns", second), None);
        assert_eq!(lists.look(at(second + 44)), None);
        assert_eq!(lists.read(&"recent", 0, at(second + 44)), None);
    }
    assert_eq!(lists.told(), None);
}

#[test]
fn trouble_is_told_once_with_its_cause_and_once_when_it_is_over() {
    let mut lists = Trouble::of_lists();
    assert_eq!(fail(&mut lists, "recent", 0, "dns", 0), None);
    assert_eq!(fail(&mut lists, "recent", 0, "dns", 1), cannot("dns"));
    assert_eq!(lists.told(), Some((&cause("dns"), at(0))));
    for second in 2..4_000 {
        assert_eq!(fail(&mut lists, "recent", 0, "dns", second), None);
    }
    assert_eq!(lists.read(&"recent", 0, at(4_000)), Some(TroubleChange::CanRead(seconds(4_000))));
    assert_eq!(lists.told(), None);
    assert_eq!(lists.read(&"recent", 0, at(4_001)), None);
}

#[test]
fn a_request_that_waits_for_its_timeout_is_told_before_it_is_tried_again() {
    let mut lists = Trouble::of_lists();
    let slow = Failure { asked_at: at(0), ..failure("recent", 0, "timeout", 30) };
    assert_eq!(lists.failed(slow, at(30)), None);
    assert_eq!(lists.look(at(44)), None);
    assert_eq!(lists.look(at(45)), cannot("timeout"));
    assert_eq!(lists.look(at(46)), None);
}

#[test]
fn another_cause_is_told_once_it_is_seen_twice() {
    let mut lists = Trouble::of_lists();
    for (second, reason, expected) in [
        (0, "dns", None),
        (1, "dns", cannot("dns")),
        (2, "tls", None),
        (3, "dns", None),
        (4, "tls", None),
        (5, "tls", cannot("tls")),
        (6, "tls", None),
    ] {
        assert_eq!(fail(&mut lists, "recent", 0, reason, second), expected, "{second}");
    }
    assert_eq!(lists.read(&"recent", 0, at(9)), Some(TroubleChange::CanRead(seconds(9))));
}

#[test]
fn a_later_page_that_always_fails_is_trouble_though_the_first_is_read() {
    let mut lists = Trouble::of_lists();
    let mut lines = Vec::new();
    for round in 0..100 {
        let second = round * 60;
        for page in [0, 1] {
            lines.extend(lists.read(&"deep", page, at(second)));
        }
        lines.extend(lists.read(&"recent", 9, at(second)));
        lines.extend(fail(&mut lists, "deep", 2, "timeout", second + 30));
    }
    assert_eq!(lines, [TroubleChange::CannotRead(cause("timeout"))]);
    assert!(lists.read(&"deep", 2, at(9_000)).is_some());
}

#[test]
fn a_list_that_is_not_wanted_any_more_is_forgotten() {
    let mut lists = Trouble::of_lists();
    assert_eq!(fail(&mut lists, "active", 0, "dns", 0), None);
    assert_eq!(lists.read(&"recent", 0, at(1)), None);
    assert_eq!(lists.look(at(800)), None);
    assert_eq!(fail(&mut lists, "active", 0, "dns", 801), cannot("dns"));
    assert_eq!(lists.read(&"recent", 0, at(1_000)), None);
    assert_eq!(lists.read(&"recent", 0, at(2_000)), Some(TroubleChange::CanRead(seconds(2_000))));
}

#[test]
fn calls_that_can_not_be_read_are_trouble_when_no_other_is_read() {
    let mut calls = Trouble::of_calls();
    assert_eq!(calls.read(&"c0", 0, at(0)), None);
    for second in 1..200 {
        assert_eq!(fail(&mut calls, "c1", 0, "server_error", second), None, "one odd call");
    }
    assert_eq!(fail(&mut calls, "c2", 0, "server_error", 200), None);
    assert_eq!(fail(&mut calls, "c3", 0, "server_error", 201), cannot("server_error"));
    assert_eq!(calls.read(&"c4", 0, at(211)), Some(TroubleChange::CanRead(seconds(210))));
    assert_eq!(fail(&mut calls, "c1", 0, "server_error", 300), None);
    assert_eq!(calls.look(at(300 + 3_599)), None);
    assert_eq!(calls.look(at(300 + 3_600)), cannot("server_error"));
}

#[test]
fn before_any_call_was_read_one_speaks_for_all() {
    let mut calls = Trouble::of_calls();
    assert_eq!(fail(&mut calls, "c1", 0, "missing_permission", 0), None);
    assert_eq!(fail(&mut calls, "c1", 0, "missing_permission", 1), cannot("missing_permission"));
}

#[test]
fn requests_that_were_in_flight_together_are_one_failure() {
    let mut calls = Trouble::of_calls();
    for call in ["c1", "c2", "c3", "c4"] {
        let failure = Failure { asked_at: at(0), ..failure(call, 0, "dns", 5) };
        assert_eq!(calls.failed(failure, at(5)), None);
    }
    assert_eq!(calls.read(&"c1", 0, at(6)), None);
}

#[test]
fn what_is_part_of_normal_work_is_trouble_only_if_it_lasts() {
    let mut lists = Trouble::of_lists();
    for second in 0..45 {
        let failure =
            Failure { weight: Severity::Normal, ..failure("recent", 0, "throttled", second) };
        assert_eq!(lists.failed(failure, at(second)), None);
    }
    assert_eq!(lists.look(at(45)), cannot("throttled"));
}

#[test]
fn what_no_further_request_mends_is_told_at_once() {
    let mut lists = Trouble::of_lists();
    let certain = |reason, second| Failure {
        weight: Severity::Certain,
        ..failure("recent", 0, reason, second)
    };
    assert_eq!(lists.failed(certain("unauthorized", 0), at(0)), cannot("unauthorized"));
    let another = lists.failed(certain("account_not_active", 1), at(1));
    assert_eq!(another, cannot("account_not_active"));
}

#[test]
fn what_comes_and_goes_does_not_fill_the_log() {
    let mut lists = Trouble::of_lists();
    let mut lines = 0;
    for second in (0..3_600).step_by(10) {
        lines += u32::from(fail(&mut lists, "recent", 0, "dns", second).is_some());
        lines += u32::from(fail(&mut lists, "recent", 0, "dns", second + 1).is_some());
        assert!(lists.told().is_some(), "the page tells it all the same");
        lines += u32::from(lists.read(&"recent", 0, at(second + 2)).is_some());
    }
    assert_eq!(lines, 6 * 2 * LINES_PER_WINDOW);
}

fn fail(
    trouble: &mut Trouble<&'static str>,
    of: &'static str,
    page: u32,
    reason: &'static str,
    second: i64,
) -> Option<TroubleChange> {
    trouble.failed(failure(of, page, reason, second), at(second))
}

fn failure(
    of: &'static str,
    page: u32,
    reason: &'static str,
    second: i64,
) -> Failure<&'static str> {
    Failure { of, page, asked_at: at(second), weight: Severity::Ordinary, cause: cause(reason) }
}

fn cannot(reason: &'static str) -> Option<TroubleChange> {
    Some(TroubleChange::CannotRead(cause(reason)))
}

fn cause(reason: &'static str) -> Cause {
    Cause { reason, text: format!("the text of {reason}") }
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_700_000_000 + second).expect("an instant")
}
