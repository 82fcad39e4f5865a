//! Which failures are reported, and when.

use super::*;

#[test]
fn ignores_a_failure_followed_by_a_success() {
    let mut lists = Trouble::for_lists();
    for second in [0, 100, 200] {
        assert_eq!(fail(&mut lists, "recent", 0, "dns", second), None);
        assert_eq!(lists.check(at(second + 44)), None);
        assert_eq!(lists.succeeded(&"recent", 0, at(second + 44)), None);
    }
    assert_eq!(lists.current(), None);
}

#[test]
fn reports_trouble_once_when_it_starts_and_once_when_it_ends() {
    let mut lists = Trouble::for_lists();
    assert_eq!(fail(&mut lists, "recent", 0, "dns", 0), None);
    assert_eq!(fail(&mut lists, "recent", 0, "dns", 1), cannot("dns"));
    assert_eq!(lists.current(), Some((&cause("dns"), at(0))));
    for second in 2..4_000 {
        assert_eq!(fail(&mut lists, "recent", 0, "dns", second), None);
    }
    assert_eq!(
        lists.succeeded(&"recent", 0, at(4_000)),
        Some(TroubleChange::CanRead(seconds(4_000)))
    );
    assert_eq!(lists.current(), None);
    assert_eq!(lists.succeeded(&"recent", 0, at(4_001)), None);
}

#[test]
fn reports_a_timeout_before_the_retry() {
    let mut lists = Trouble::for_lists();
    let slow = FailedRequest { requested_at: at(0), ..failure("recent", 0, "timeout", 30) };
    assert_eq!(lists.failed(slow, at(30)), None);
    assert_eq!(lists.check(at(44)), None);
    assert_eq!(lists.check(at(45)), cannot("timeout"));
    assert_eq!(lists.check(at(46)), None);
}

#[test]
fn reports_a_changed_cause_once_it_is_repeated() {
    let mut lists = Trouble::for_lists();
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
    assert_eq!(lists.succeeded(&"recent", 0, at(9)), Some(TroubleChange::CanRead(seconds(9))));
}

#[test]
fn reports_a_later_page_that_always_fails_although_earlier_pages_succeed() {
    let mut lists = Trouble::for_lists();
    let mut lines = Vec::new();
    for round in 0..100 {
        let second = round * 60;
        for page in [0, 1] {
            lines.extend(lists.succeeded(&"deep", page, at(second)));
        }
        lines.extend(lists.succeeded(&"recent", 9, at(second)));
        lines.extend(fail(&mut lists, "deep", 2, "timeout", second + 30));
    }
    assert_eq!(lines, [TroubleChange::CannotRead(cause("timeout"))]);
    assert!(lists.succeeded(&"deep", 2, at(9_000)).is_some());
}

#[test]
fn forgets_a_list_that_is_no_longer_needed() {
    let mut lists = Trouble::for_lists();
    assert_eq!(fail(&mut lists, "active", 0, "dns", 0), None);
    assert_eq!(lists.succeeded(&"recent", 0, at(1)), None);
    assert_eq!(lists.check(at(800)), None);
    assert_eq!(fail(&mut lists, "active", 0, "dns", 801), cannot("dns"));
    assert_eq!(lists.succeeded(&"recent", 0, at(1_000)), None);
    assert_eq!(
        lists.succeeded(&"recent", 0, at(2_000)),
        Some(TroubleChange::CanRead(seconds(2_000)))
    );
}

#[test]
fn reports_unreadable_calls_while_no_other_call_is_readable() {
    let mut calls = Trouble::for_calls();
    assert_eq!(calls.succeeded(&"c0", 0, at(0)), None);
    for second in 1..200 {
        assert_eq!(
            fail(&mut calls, "c1", 0, "server_error", second),
            None,
            "a single unreadable call"
        );
    }
    assert_eq!(fail(&mut calls, "c2", 0, "server_error", 200), None);
    assert_eq!(fail(&mut calls, "c3", 0, "server_error", 201), cannot("server_error"));
    assert_eq!(calls.succeeded(&"c4", 0, at(211)), Some(TroubleChange::CanRead(seconds(210))));
    assert_eq!(fail(&mut calls, "c1", 0, "server_error", 300), None);
    assert_eq!(calls.check(at(300 + 3_599)), None);
    assert_eq!(calls.check(at(300 + 3_600)), cannot("server_error"));
}

#[test]
fn reports_a_single_unreadable_call_before_any_was_read() {
    let mut calls = Trouble::for_calls();
    assert_eq!(fail(&mut calls, "c1", 0, "missing_permission", 0), None);
    assert_eq!(fail(&mut calls, "c1", 0, "missing_permission", 1), cannot("missing_permission"));
}

#[test]
fn concurrent_failures_count_as_one() {
    let mut calls = Trouble::for_calls();
    for call in ["c1", "c2", "c3", "c4"] {
        let failure = FailedRequest { requested_at: at(0), ..failure(call, 0, "dns", 5) };
        assert_eq!(calls.failed(failure, at(5)), None);
    }
    assert_eq!(calls.succeeded(&"c1", 0, at(6)), None);
}

#[test]
fn reports_throttling_only_if_it_lasts() {
    let mut lists = Trouble::for_lists();
    for second in 0..45 {
        let failure = FailedRequest {
            severity: Severity::Normal,
            ..failure("recent", 0, "throttled", second)
        };
        assert_eq!(lists.failed(failure, at(second)), None);
    }
    assert_eq!(lists.check(at(45)), cannot("throttled"));
}

#[test]
fn reports_certain_failures_immediately() {
    let mut lists = Trouble::for_lists();
    let certain = |reason, second| FailedRequest {
        severity: Severity::Certain,
        ..failure("recent", 0, reason, second)
    };
    assert_eq!(lists.failed(certain("unauthorized", 0), at(0)), cannot("unauthorized"));
    let another = lists.failed(certain("account_not_active", 1), at(1));
    assert_eq!(another, cannot("account_not_active"));
}

#[test]
fn intermittent_trouble_does_not_flood_the_log() {
    let mut lists = Trouble::for_lists();
    let mut lines = 0;
    for second in (0..3_600).step_by(10) {
        lines += u32::from(fail(&mut lists, "recent", 0, "dns", second).is_some());
        lines += u32::from(fail(&mut lists, "recent", 0, "dns", second + 1).is_some());
        assert!(lists.current().is_some(), "still shown on the landing page");
        lines += u32::from(lists.succeeded(&"recent", 0, at(second + 2)).is_some());
    }
    assert_eq!(lines, 6 * 2 * LINES_PER_WINDOW);
}

fn fail(
    trouble: &mut Trouble<&'static str>,
    subject: &'static str,
    page: u32,
    reason: &'static str,
    second: i64,
) -> Option<TroubleChange> {
    trouble.failed(failure(subject, page, reason, second), at(second))
}

fn failure(
    subject: &'static str,
    page: u32,
    reason: &'static str,
    second: i64,
) -> FailedRequest<&'static str> {
    FailedRequest {
        subject,
        page,
        requested_at: at(second),
        severity: Severity::Ordinary,
        cause: cause(reason),
    }
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
