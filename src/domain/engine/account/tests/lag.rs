//! When an account is behind: a single late call isn't enough, and downtime is always detected.

use super::*;

/// When the settling read of a call that ended at 0 is due.
const DUE: i64 = 963;
/// A quarter of an hour, in seconds.
const QUARTER: i64 = 900;
const HOUR: i64 = 3_600;

#[test]
fn lag_reports_the_most_overdue_read() {
    let mut account = account();
    list(&mut account, &[ended(1, 0)], 5);
    let overdue = |account: &mut AccountProgress, second| account.lag(at(second)).overdue;
    assert_eq!(overdue(&mut account, DUE), Duration::ZERO);
    assert_eq!(overdue(&mut account, DUE + 901), Duration::from_secs(901));
    read(&mut account, Stage::Settling, 2_000);
    assert!(overdue(&mut account, 5_900).is_zero());
}

#[test]
fn an_account_with_an_old_cursor_is_catching_up() {
    let mut account = account();
    account.lists.cursor = Some(at(5_000));
    assert!(!account.lag(at(5_900)).is_catching_up);
    assert!(account.lag(at(5_901)).is_catching_up);
}

#[test]
fn an_account_is_behind_if_three_calls_and_over_a_twentieth_of_due_calls_are_late() {
    for (case, expected) in [
        // If few calls are due, one or two late ones prove nothing, however large their share.
        (Case::default(), false),
        (Case { late: 1, ..Case::default() }, false),
        (Case { late: 1, read_on_time: 18, ..Case::default() }, false),
        (Case { late: 2, waiting: 3, ..Case::default() }, false),
        (Case { late: 3, ..Case::default() }, true),
        (Case { late: 3, waiting: 5, read_on_time: 5, ..Case::default() }, true),
        // If many are due, the share decides.
        (Case { late: 3, read_on_time: 56, ..Case::default() }, true),
        (Case { late: 3, read_on_time: 57, ..Case::default() }, false),
        (Case { late: 50, read_on_time: 1_000, ..Case::default() }, false),
        (Case { late: 50, waiting: 400, read_on_time: 499, ..Case::default() }, true),
        // Unreadable calls count as neither late nor due.
        (Case { unreadable: 19, ..Case::default() }, false),
        (Case { unreadable: 19, read_on_time: 4, ..Case::default() }, false),
        (Case { unreadable: 500, late: 3, read_on_time: 20, ..Case::default() }, true),
        // Until they are half an hour overdue, they count.
        (
            Case { recently_unreadable: 2, unreadable: 19, read_on_time: 4, ..Case::default() },
            false,
        ),
        (Case { recently_unreadable: 3, unreadable: 19, read_on_time: 4, ..Case::default() }, true),
        (Case { recently_unreadable: 3, read_on_time: 57, ..Case::default() }, false),
        // Calls that were read late or long ago say nothing about the remaining work.
        (Case { read_late: 1_000, ..Case::default() }, false),
        (Case { late: 3, read_late: 1_000, ..Case::default() }, true),
        (Case { late: 3, read_long_ago: 1_000, ..Case::default() }, true),
    ] {
        let mut account = case.account();
        let lag = account.lag(at(Case::NOW));
        assert_eq!(lag.is_catching_up, expected, "{case:?}");
        let unreadable = case.unreadable + case.recently_unreadable;
        assert_eq!(lag.unreadable, u64::from(unreadable), "{case:?}");
        let is_overdue = case.late + case.waiting > 0;
        assert_eq!(!lag.overdue.is_zero(), is_overdue, "{case:?}");
    }
}

#[test]
fn a_single_failing_call_becomes_unreadable_and_adds_no_lag() {
    for failure in [ReadFailure::Failed, ReadFailure::NotFound, ReadFailure::Refused] {
        let mut account = account();
        list(&mut account, &[ended(1, 0)], 5);
        let mut reports = Vec::new();
        // The account has one call every ten minutes, and reads it on time.
        for minute in 1..=120 {
            let second = minute * 60;
            account.lists.cursor = Some(at(second));
            if minute % 10 == 0 {
                let number = u32::try_from(minute).expect("in range");
                list(&mut account, &[ended(number, second)], second);
            }
            settle(&mut account, second);
            if second > DUE && !account.calls[&sid(1)].failing.is_on_its_own() || minute % 10 == 5 {
                fail(&mut account, Stage::Settling, failure, second);
            }
            let lag = account.lag(at(second));
            assert!(!lag.is_catching_up, "{failure:?} after {minute} minutes");
            reports.push((lag.unreadable, lag.overdue.is_zero()));
        }
        let first = reports
            .iter()
            .position(|report| *report == (1, true))
            .expect("the call becomes unreadable");
        assert!((30..60).contains(&first), "{failure:?} after {first} minutes");
        assert!(reports[..first].iter().all(|(unreadable, _)| *unreadable == 0), "{failure:?}");
        if failure == ReadFailure::Failed {
            assert!(reports[first..].iter().all(|report| *report == (1, true)));
        } else {
            assert_eq!(reports.last(), Some(&(0, true)), "{failure:?}: not given up");
        }
    }
}

#[test]
fn a_failing_call_of_a_quiet_account_does_not_hold_alerts_back() {
    let mut account = account();
    list(&mut account, &[ended(1, 0)], 5);
    for minute in 17..24 * 60 {
        let second = minute * 60;
        account.lists.cursor = Some(at(second));
        assert!(!fail(&mut account, Stage::Settling, ReadFailure::Failed, second));
        let lag = account.lag(at(second));
        assert!(!lag.is_catching_up, "after {minute} minutes");
        assert_eq!(lag.unreadable, 0, "no other call was read");
        assert_eq!(lag.overdue, Duration::from_secs(secs(second - DUE)));
    }
}

#[test]
fn an_outage_is_reported_from_the_third_late_call_until_its_end() {
    let mut account = account();
    let calls: Vec<Call> = (0..40).map(|number| ended(number, i64::from(number) * 60)).collect();
    list(&mut account, &calls, 40 * 60);
    let reports = |account: &mut AccountProgress, second| {
        account.lists.cursor = Some(at(second));
        let lag = account.lag(at(second));
        (lag.is_catching_up, lag.unreadable)
    };
    // Two calls are more than 15 minutes overdue, then three.
    assert_eq!(reports(&mut account, DUE + QUARTER + 61), (false, 0));
    assert_eq!(reports(&mut account, DUE + QUARTER + 121), (true, 0));
    for second in (DUE..2 * HOUR).step_by(120) {
        for number in 0..40 {
            let read = Read { sid: sid(number), ..settling() };
            account.read_failed(read, ReadFailure::Failed, at(second), 0);
        }
    }
    assert_eq!(reports(&mut account, 2 * HOUR), (true, 0));
    for number in 0..40 {
        let is_over = number >= 38;
        assert_eq!(reports(&mut account, 2 * HOUR), (!is_over, 0), "{number} were read");
        read_one(&mut account, number, 2 * HOUR);
    }
}

#[test]
fn an_account_that_reads_too_few_calls_falls_behind() {
    let mut account = account();
    // There is a call every ten seconds, and nine in ten are read on time.
    let mut reports = Vec::new();
    for number in 0..1_000_u32 {
        let end = i64::from(number) * 10;
        list(&mut account, &[ended(number, end)], end);
        let now = end + DUE;
        account.lists.cursor = Some(at(now));
        if number % 10 != 0 {
            read_one(&mut account, number, now);
        }
        reports.push(account.lag(at(now)).is_catching_up);
    }
    // 180 calls are due in half an hour. The tenth that isn't read is late after a quarter of an hour.
    let is_late = |second: i64| reports[usize::try_from(second / 10).expect("not negative")];
    assert!((0..QUARTER + 300).all(|second| !is_late(second)));
    assert!((QUARTER + 1_200..10_000).all(is_late));
}

/// The numbers of an account's calls, by the state of their settling reads.
#[derive(Clone, Copy, Debug, Default)]
struct Case {
    late: u32,
    waiting: u32,
    read_on_time: u32,
    read_late: u32,
    read_long_ago: u32,
    unreadable: u32,
    recently_unreadable: u32,
}

impl Case {
    const NOW: i64 = 20_000;

    fn account(self) -> AccountProgress {
        let mut account = account();
        // How many calls, how long ago the settling read was due, how long ago it was made, whether it fails.
        let mut number = 0;
        for (count, due, settled, is_unreadable) in [
            (self.late, QUARTER + 1, None, false),
            (self.waiting, QUARTER, None, false),
            (self.read_on_time, 2 * QUARTER, Some(QUARTER), false),
            (self.read_late, HOUR, Some(10), false),
            (self.read_long_ago, 2 * QUARTER, Some(2 * QUARTER), false),
            (self.unreadable, 2 * QUARTER + 1, None, true),
            (self.recently_unreadable, 2 * QUARTER, None, true),
        ] {
            for _ in 0..count {
                let call = ended(number, Self::NOW - due - DUE);
                let (mut call, _) = CallProgress::begin(&call, at(Self::NOW));
                call.settled_at = settled.map(|ago| at(Self::NOW - ago));
                if is_unreadable {
                    call.failing = unreadable();
                }
                account.calls.insert(call.sid, Box::new(call));
                number += 1;
            }
        }
        account.lists.cursor = Some(at(Self::NOW));
        account
    }
}

fn unreadable() -> Failing {
    let mut failing = Failing::default();
    for second in 0..4 {
        failing.fail(ReadFailure::Failed, Some(at(second)), at(second));
    }
    assert!(failing.is_on_its_own());
    failing
}

fn settling() -> Read {
    read_of(1, Stage::Settling)
}

/// Reads all calls whose settling read is overdue, except the first.
fn settle(account: &mut AccountProgress, second: i64) {
    let overdue = account.calls.values().map(|call| (call.sid, reads().overdue(call, at(second))));
    let due = overdue.filter(|(call, overdue)| *call != sid(1) && !overdue.is_zero());
    let due: Vec<CallSid> = due.map(|(call, _)| call).collect();
    for sid in due {
        account.apply_reading(
            Read { sid, stage: Stage::Settling, skips: 0 },
            &reading(second),
            at(second),
        );
    }
}

fn read_one(account: &mut AccountProgress, number: u32, second: i64) {
    let reading = reading(second);
    account.apply_reading(read_of(number, Stage::Settling), &reading, at(second));
}

fn secs(seconds: i64) -> u64 {
    u64::try_from(seconds).expect("not negative")
}
