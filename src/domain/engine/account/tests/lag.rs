//! When an account is behind: no single call decides it, and no downtime is overlooked.

use super::*;

/// When the settling read of a call that ended at 0 is due.
const DUE: i64 = 963;
/// A quarter of an hour, in seconds.
const QUARTER: i64 = 900;
const HOUR: i64 = 3_600;

#[test]
fn lateness_tells_what_is_overdue() {
    let mut account = account();
    list(&mut account, &[ended(1, 0)], 5);
    let overdue = |account: &mut AccountProgress, second| account.lag(at(second)).overdue;
    assert_eq!(overdue(&mut account, DUE), Duration::ZERO);
    assert_eq!(overdue(&mut account, DUE + 901), Duration::from_secs(901));
    read(&mut account, Stage::Settling, 2_000);
    assert!(overdue(&mut account, 5_900).is_zero());
}

#[test]
fn an_account_whose_cursor_is_old_is_catching_up() {
    let mut account = account();
    account.lists.cursor = Some(at(5_000));
    assert!(!account.lag(at(5_900)).is_catching_up);
    assert!(account.lag(at(5_901)).is_catching_up);
}

#[test]
fn several_late_calls_that_are_more_than_a_twentieth_of_those_that_are_due_make_an_account_late() {
    for (case, expected) in [
        // Few calls are due: one or two prove nothing, however large their share.
        (Case::default(), false),
        (Case { late: 1, ..Case::default() }, false),
        (Case { late: 1, read_on_time: 18, ..Case::default() }, false),
        (Case { late: 2, waiting: 3, ..Case::default() }, false),
        (Case { late: 3, ..Case::default() }, true),
        (Case { late: 3, waiting: 5, read_on_time: 5, ..Case::default() }, true),
        // Many are due: the share decides.
        (Case { late: 3, read_on_time: 56, ..Case::default() }, true),
        (Case { late: 3, read_on_time: 57, ..Case::default() }, false),
        (Case { late: 50, read_on_time: 1_000, ..Case::default() }, false),
        (Case { late: 50, waiting: 400, read_on_time: 499, ..Case::default() }, true),
        // Calls that fail on their own are neither late nor due.
        (Case { unreadable: 19, ..Case::default() }, false),
        (Case { unreadable: 19, read_on_time: 4, ..Case::default() }, false),
        (Case { unreadable: 500, late: 3, read_on_time: 20, ..Case::default() }, true),
        // Unless many begin to at once.
        (Case { unreadable_lately: 2, unreadable: 19, read_on_time: 4, ..Case::default() }, false),
        (Case { unreadable_lately: 3, unreadable: 19, read_on_time: 4, ..Case::default() }, true),
        (Case { unreadable_lately: 3, read_on_time: 57, ..Case::default() }, false),
        // What was read late, or long ago, says nothing about what is left.
        (Case { read_late: 1_000, ..Case::default() }, false),
        (Case { late: 3, read_late: 1_000, ..Case::default() }, true),
        (Case { late: 3, read_long_ago: 1_000, ..Case::default() }, true),
    ] {
        let mut account = case.account();
        let lag = account.lag(at(Case::NOW));
        assert_eq!(lag.is_catching_up, expected, "{case:?}");
        let unreadable = case.unreadable + case.unreadable_lately;
        assert_eq!(lag.unreadable, u64::from(unreadable), "{case:?}");
        let is_overdue = case.late + case.waiting > 0;
        assert_eq!(!lag.overdue.is_zero(), is_overdue, "{case:?}");
    }
}

#[test]
fn one_call_that_fails_while_others_are_read_is_unreadable_and_makes_nothing_late() {
    for failure in [ReadFailure::Failed, ReadFailure::NotFound, ReadFailure::Refused] {
        let mut account = account();
        list(&mut account, &[ended(1, 0)], 5);
        let mut told = Vec::new();
        // The account has a call every ten minutes, which is read on time.
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
            told.push((lag.unreadable, lag.overdue.is_zero()));
        }
        let first = told.iter().position(|told| *told == (1, true)).expect("it is unreadable");
        assert!((30..60).contains(&first), "{failure:?} after {first} minutes");
        assert!(told[..first].iter().all(|(unreadable, _)| *unreadable == 0), "{failure:?}");
        if failure == ReadFailure::Failed {
            assert!(told[first..].iter().all(|told| *told == (1, true)));
        } else {
            assert_eq!(told.last(), Some(&(0, true)), "{failure:?}: it was given up");
        }
    }
}

#[test]
fn the_only_call_of_a_quiet_account_holds_no_page_back_though_it_may_be_an_outage() {
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
fn an_outage_of_call_events_is_told_from_the_third_call_on_and_so_is_its_end() {
    let mut account = account();
    let calls: Vec<Call> = (0..40).map(|number| ended(number, i64::from(number) * 60)).collect();
    list(&mut account, &calls, 40 * 60);
    let told = |account: &mut AccountProgress, second| {
        account.lists.cursor = Some(at(second));
        let lag = account.lag(at(second));
        (lag.is_catching_up, lag.unreadable)
    };
    // Two calls are more than 15 minutes overdue, then three.
    assert_eq!(told(&mut account, DUE + QUARTER + 61), (false, 0));
    assert_eq!(told(&mut account, DUE + QUARTER + 121), (true, 0));
    for second in (DUE..2 * HOUR).step_by(120) {
        for number in 0..40 {
            let read = Read { sid: sid(number), ..settling() };
            account.read_failed(read, ReadFailure::Failed, at(second), 0);
        }
    }
    assert_eq!(told(&mut account, 2 * HOUR), (true, 0));
    for number in 0..40 {
        let is_over = number >= 38;
        assert_eq!(told(&mut account, 2 * HOUR), (!is_over, 0), "{number} were read");
        read_one(&mut account, number, 2 * HOUR);
    }
}

#[test]
fn an_account_that_reads_less_than_it_has_falls_behind_and_says_so() {
    let mut account = account();
    // A call every ten seconds, of which nine in ten are read on time.
    let mut told = Vec::new();
    for number in 0..1_000_u32 {
        let end = i64::from(number) * 10;
        list(&mut account, &[ended(number, end)], end);
        let now = end + DUE;
        account.lists.cursor = Some(at(now));
        if number % 10 != 0 {
            read_one(&mut account, number, now);
        }
        told.push(account.lag(at(now)).is_catching_up);
    }
    // Half an hour has 180 calls. The tenth is late a quarter of an hour after it should have been read.
    let is_late = |second: i64| told[usize::try_from(second / 10).expect("not negative")];
    assert!((0..QUARTER + 300).all(|second| !is_late(second)));
    assert!((QUARTER + 1_200..10_000).all(is_late));
}

/// Calls of an account, by what became of their settling reads.
#[derive(Clone, Copy, Debug, Default)]
struct Case {
    late: u32,
    waiting: u32,
    read_on_time: u32,
    read_late: u32,
    read_long_ago: u32,
    unreadable: u32,
    unreadable_lately: u32,
}

impl Case {
    const NOW: i64 = 20_000;

    fn account(self) -> AccountProgress {
        let mut account = account();
        // How long ago the settling read was due, and how long ago it was made.
        let mut number = 0;
        for (count, due, settled, is_unreadable) in [
            (self.late, QUARTER + 1, None, false),
            (self.waiting, QUARTER, None, false),
            (self.read_on_time, 2 * QUARTER, Some(QUARTER), false),
            (self.read_late, HOUR, Some(10), false),
            (self.read_long_ago, 2 * QUARTER, Some(2 * QUARTER), false),
            (self.unreadable, 2 * QUARTER + 1, None, true),
            (self.unreadable_lately, 2 * QUARTER, None, true),
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

/// Reads all calls that are due, but the first.
fn settle(account: &mut AccountProgress, second: i64) {
    let overdue = account.calls.values().map(|call| (call.sid, reads().overdue(call, at(second))));
    let due = overdue.filter(|(call, overdue)| *call != sid(1) && !overdue.is_zero());
    let due: Vec<CallSid> = due.map(|(call, _)| call).collect();
    for sid in due {
        account.take_reading(
            Read { sid, stage: Stage::Settling, skips: 0 },
            &reading(second),
            at(second),
        );
    }
}

fn read_one(account: &mut AccountProgress, number: u32, second: i64) {
    let reading = reading(second);
    account.take_reading(read_of(number, Stage::Settling), &reading, at(second));
}

fn secs(seconds: i64) -> u64 {
    u64::try_from(seconds).expect("not negative")
}
