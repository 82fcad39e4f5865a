//! Calls whose events can't be read are retried, and given up after a time that depends on the failure.

use super::*;

const HOUR: i64 = 3_600;

#[test]
fn a_call_that_fails_alone_is_given_up_after_a_time_that_depends_on_the_failure() {
    for (failure, hours) in [
        (ReadFailure::NotFound, 1),
        (ReadFailure::Refused, 1),
        (ReadFailure::Unreadable, 1),
        (ReadFailure::Failed, 24),
    ] {
        let mut account = account();
        list(&mut account, &[ended(1, 0), ended(2, 0)], 5);
        // The exporter was down for a day; that alone isn't a reason to give up.
        let begin = 24 * HOUR;
        let tries = (0..).step_by(300).take_while(|second| {
            read_other(&mut account, begin + second - 1);
            !fail(&mut account, Stage::Settling, failure, begin + second)
        });
        assert_eq!(tries.last(), Some(hours * HOUR - 300), "{failure:?}");
        assert!(account.calls[&sid(1)].settled_at.is_some());
    }
}

#[test]
fn no_call_is_given_up_during_or_right_after_a_long_outage() {
    for failure in [ReadFailure::NotFound, ReadFailure::Refused, ReadFailure::Failed] {
        let mut account = account();
        list(&mut account, &[ended(1, 0), ended(2, 0)], 5);
        assert!((1..600).all(|n| !fail(&mut account, Stage::Settling, failure, n * 600)));
        // Other calls can be read again, while this one fails once more in each way.
        for failure in [ReadFailure::Failed, ReadFailure::NotFound, ReadFailure::Refused] {
            read_other(&mut account, 600 * 600);
            assert!(!fail(&mut account, Stage::Settling, failure, 600 * 600 + 1));
        }
    }
}

#[test]
fn a_successful_read_resets_the_time_until_a_call_is_given_up() {
    let mut account = account();
    list(&mut account, &[ended(1, 0), ended(2, 0)], 5);
    for round in 0..10 {
        for second in (round * 3_000..(round + 1) * 3_000).step_by(300) {
            read_other(&mut account, second);
            assert!(!fail(&mut account, Stage::Settling, ReadFailure::NotFound, second + 1));
        }
        read(&mut account, Stage::Live, (round + 1) * 3_000);
    }
}

#[test]
fn a_failed_audit_is_retried_and_eventually_given_up() {
    let mut account = account();
    list(&mut account, &[ended(1, 0), ended(2, 0)], 5);
    read(&mut account, Stage::Settling, 1_000);
    assert!(!fail(&mut account, Stage::Audit, ReadFailure::NotFound, 4_700), "given up at once");
    assert!(account.calls[&sid(1)].awaits_audit);
    assert!(steps(&mut account, 6_000).contains(&"audit"));
    let is_given_up = (0..30).any(|n| {
        read_other(&mut account, 6_000 + n * 300);
        fail(&mut account, Stage::Audit, ReadFailure::NotFound, 6_001 + n * 300)
    });
    assert!(is_given_up, "never given up");
    assert!(!account.calls[&sid(1)].awaits_audit);
}

/// Reads another call of the account.
fn read_other(account: &mut AccountProgress, second: i64) {
    let changes = account.apply_reading(read_of(2, Stage::Live), &reading(second), at(second));
    assert!(changes.is_some());
}
