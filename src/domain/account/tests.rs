//! An account's histories: found, read, settled, audited, forgotten, given up.

use super::super::digest::{DigestKey, DigestVersion, Digests};
mod catch_up;
mod learning;

use super::super::listing::AfterPage;
use super::*;

#[test]
fn a_finished_call_is_counted_once_however_often_lists_show_it() {
    let mut account = account();
    let call = ended(1, 0);
    assert_eq!(list(&mut account, &[call.clone(), call.clone()], 5).finished.len(), 1);
    assert_eq!(list(&mut account, &[call], 35), CallChanges::default());
}

#[test]
fn a_call_goes_from_found_to_forgotten() {
    let mut account = account();
    list(&mut account, &[ended(1, 0)], 5);
    assert_eq!(steps(&mut account, 16), ["after_end"]);
    read(&mut account, Stage::AfterEnd, 16);
    assert_eq!(steps(&mut account, 130), ["after_end"]);
    read(&mut account, Stage::AfterEnd, 130);
    assert_eq!(steps(&mut account, 963), ["settling"]);
    read(&mut account, Stage::Settling, 961);
    assert_eq!(steps(&mut account, 4_561), ["audit"]);
    read(&mut account, Stage::Audit, 4_561);
    assert_eq!(steps(&mut account, 100_000), [""; 0]);
    assert_eq!(account.forget(at(100_000)), []);
    account.lists.forget_before = Some(at(0));
    assert_eq!(account.forget(at(100_000)), [sid(1)]);
    assert_eq!(list(&mut account, &[ended(1, 0)], 100_030), CallChanges::default());
    assert!(account.calls.is_empty(), "a forgotten call was taken up anew");
}

#[test]
fn a_busy_call_is_not_read_twice_at_once() {
    let mut account = account();
    list(&mut account, &[ended(1, 0)], 5);
    assert_eq!(steps(&mut account, 16).len(), 1);
    assert_eq!(steps(&mut account, 16).len(), 0);
    account.abandon(sid(1));
    assert_eq!(steps(&mut account, 16).len(), 1);
}

#[test]
fn a_settling_read_that_twilio_answers_too_early_settles_nothing() {
    let mut account = account();
    list(&mut account, &[ended(1, 0)], 5);
    read(&mut account, Stage::Settling, 960);
    assert_eq!(account.calls[&sid(1)].settled_at, None);
    read(&mut account, Stage::Settling, 962);
    assert_eq!(account.calls[&sid(1)].settled_at, Some(at(962)));
}

#[test]
fn a_call_that_twilio_refuses_is_given_up_an_hour_after_its_first_failure() {
    let mut account = account();
    list(&mut account, &[ended(1, 0)], 5);
    // The daemon was away for a day: that alone is no reason to give up.
    let mut fail = |second| {
        account.read_failed(sid(1), Stage::Settling, 0, ReadFailure::Refused, at(second), 0)
    };
    for minute in 0..=60 {
        assert!(!fail(86_400 + 60 * minute), "given up after {minute} minutes");
    }
    assert!(fail(86_400 + 3_601));
    assert!(account.calls[&sid(1)].settled_at.is_some());
}

#[test]
fn an_outage_of_days_gives_up_no_call() {
    let mut account = account();
    list(&mut account, &[ended(1, 0)], 5);
    let fail = |account: &mut AccountProgress, hour: i64| {
        account.read_failed(sid(1), Stage::Settling, 0, ReadFailure::Failed, at(hour * 3_600), 0)
    };
    assert!((1..100).all(|hour| !fail(&mut account, hour)));
    // Others can be read, and this one still fails: it is the call's own fault.
    account.last_read_at = Some(at(100 * 3_600));
    assert!(fail(&mut account, 100));
}

#[test]
fn an_audit_that_fails_is_tried_again_like_any_read() {
    let mut account = account();
    list(&mut account, &[ended(1, 0)], 5);
    read(&mut account, Stage::Settling, 1_000);
    let fail = |account: &mut AccountProgress, second| {
        account.read_failed(sid(1), Stage::Audit, 0, ReadFailure::Failed, at(second), 0)
    };
    assert!(!fail(&mut account, 4_700), "given up at the first failure");
    assert!(account.calls[&sid(1)].awaits_audit);
    assert_eq!(steps(&mut account, 6_000), ["audit"]);
    assert!((0..7).all(|minute| !fail(&mut account, 6_000 + minute * 60)));
    assert!(fail(&mut account, 10_000), "and given up at last");
    assert!(!account.calls[&sid(1)].awaits_audit);
}

#[test]
fn a_refused_read_that_came_late_leaves_those_before_it_behind() {
    let mut account = account();
    list(&mut account, &[ended(1, 0)], 5);
    // The first early read was due at 15 s, the second is at 120 s.
    let plan = account.plan(&lists(), &reads(), at(130), 8, false, true);
    let [Step::Read { sid, stage: Stage::AfterEnd, skips: 1, .. }] = plan.steps[..] else {
        panic!("{plan:?}")
    };
    account.read_failed(sid, Stage::AfterEnd, 1, ReadFailure::Refused, at(130), 0);
    assert_eq!(steps(&mut account, 131), [""; 0], "the same read again");
    let seen: Vec<_> = account.calls[&sid].early_reads.iter().map(|read| read.stage).collect();
    assert_eq!(seen, [EarlyStage::after_end(1)]);
}

#[test]
fn an_early_read_of_a_call_that_is_not_shown_yet_is_done() {
    let mut account = account();
    list(&mut account, &[ended(1, 0)], 5);
    assert_eq!(steps(&mut account, 16), ["after_end"]);
    account.read_failed(sid(1), Stage::AfterEnd, 0, ReadFailure::Refused, at(16), 0);
    assert_eq!(steps(&mut account, 100), [""; 0]);
    assert_eq!(steps(&mut account, 121), ["after_end"]);
}

#[test]
fn what_callers_felt_is_told_once_even_if_a_call_is_read_twice_at_once() {
    let mut account = account();
    list(&mut account, &[ended(1, 0)], 5);
    let failing = failing_reading(1_000);
    let mut settle = || {
        let plan = reads();
        let changes = account.take_reading(sid(1), Stage::Settling, 0, &failing, &plan, at(1_000));
        changes.expect("a known call").outcome
    };
    assert_eq!(settle(), Some(Outcome::CutOff));
    assert_eq!(settle(), None);
}

#[test]
fn an_answer_from_the_past_is_not_asked_for_again_at_once() {
    let mut account = account();
    list(&mut account, &[ended(1, 0)], 5);
    account.take_reading(sid(1), Stage::Settling, 0, &reading(363), &reads(), at(963));
    assert_eq!(account.calls[&sid(1)].retry_at, Some(at(963 + 60)));
}

#[test]
fn a_call_that_vanishes_while_active_counts_as_finished() {
    let mut account = account();
    list(
        &mut account,
        &[Call { end_time: None, status: CallStatus::InProgress, ..ended(1, 0) }],
        5,
    );
    let changes = account.take_fetched(sid(1), None, at(700));
    assert_eq!(changes.finished, [(Direction::Inbound, CallStatus::Other)]);
    assert_eq!(account.calls[&sid(1)].ended_at, Some(at(700)));
}

#[test]
fn the_first_fifty_settled_calls_of_an_hour_are_audited() {
    let mut account = account();
    let calls: Vec<Call> = (0..120).map(|number| ended(number, 0)).collect();
    list(&mut account, &calls, 5);
    for number in 0..120 {
        let plan = reads();
        account.take_reading(sid(number), Stage::Settling, 0, &reading(1_000), &plan, at(1_000));
    }
    assert_eq!(account.calls.values().filter(|call| call.awaits_audit).count(), 50);
}

#[test]
fn what_lists_showed_before_a_restart_is_dated_by_twilios_time() {
    let mut account = account();
    list(
        &mut account,
        &[Call { end_time: None, status: CallStatus::InProgress, ..ended(1, 0) }],
        5,
    );
    account.calls.values_mut().for_each(|call| call.last_listed_at = at(-90_000));
    account.start(&lists(), at(60));
    assert_eq!(account.calls[&sid(1)].last_listed_at, at(60));
}

#[test]
fn lateness_tells_what_is_overdue() {
    let mut account = account();
    list(&mut account, &[ended(1, 0)], 5);
    account.lists.cursor = Some(at(5_000));
    assert_eq!(account.lateness(&reads(), at(963)).overdue, Duration::ZERO);
    assert!(!account.lateness(&reads(), at(963)).is_catching_up);
    let late = account.lateness(&reads(), at(963 + 901));
    assert_eq!(late.overdue, Duration::from_secs(901));
    assert!(late.is_catching_up);
    read(&mut account, Stage::Settling, 2_000);
    assert!(account.lateness(&reads(), at(5_900)).overdue.is_zero());
    assert!(account.lateness(&reads(), at(5_901)).is_catching_up, "the cursor is old");
}

fn list(account: &mut AccountProgress, calls: &[Call], second: i64) -> CallChanges {
    let mut run =
        account.lists.next(&lists(), ActiveCalls::default(), at(second)).0.expect("a list is due");
    let (changes, after) = account.take_page(&mut run, calls, None, at(second));
    assert_eq!(after, AfterPage::Complete);
    changes
}

fn steps(account: &mut AccountProgress, second: i64) -> Vec<&'static str> {
    let plan = account.plan(&lists(), &reads(), at(second), 8, false, true);
    let name = |step: &Step| match step {
        Step::Read { stage, .. } => stage.as_str(),
        Step::Fetch(_) => "fetch",
    };
    plan.steps.iter().map(name).collect()
}

fn read(account: &mut AccountProgress, stage: Stage, second: i64) {
    let changes = account.take_reading(sid(1), stage, 0, &reading(second), &reads(), at(second));
    assert!(changes.is_some());
}

fn failing_reading(second: i64) -> Reading {
    use super::super::call_event::{CallEvent, Request};
    use super::super::parameters::Parameters;
    let event = CallEvent {
        request: Request {
            method: "POST".to_owned(),
            url: "https://app.example.com/voice".to_owned(),
            parameters: Parameters::collect(
                [("call_sid", "CA"), ("call_status", "in-progress")]
                    .map(|(key, value)| (key.to_owned(), value)),
                |value| Some(value.to_owned()),
            ),
        },
        response: None,
    };
    let digests = Digests::new(DigestKey::new([1; 16]), DigestVersion::CURRENT);
    let item =
        super::super::reading::Item::of(&event, digests, &super::super::route::Routes::default());
    Reading { items: vec![item], read_at: at(second) }
}

fn reading(second: i64) -> Reading {
    Reading { items: Vec::new(), read_at: at(second) }
}

fn account() -> AccountProgress {
    let mut account = AccountProgress::default();
    account.lists.start(&lists(), at(0));
    account.lists.forget_before = None;
    account
}

fn lists() -> ListPlan {
    ListPlan {
        interval: Duration::from_secs(30),
        initial_lookback: Duration::from_secs(200_000),
        catch_up: Duration::from_secs(200_000),
    }
}

fn reads() -> ReadPlan {
    ReadPlan {
        live_interval: Duration::from_secs(60),
        after_end: vec![Duration::from_secs(15), Duration::from_secs(120)],
        settle_delay: Duration::from_secs(960),
        audit_after: Duration::from_secs(3_600),
    }
}

fn ended(number: u32, second: i64) -> Call {
    Call {
        sid: sid(number),
        status: CallStatus::Completed,
        direction: Direction::Inbound,
        start_time: Some(at(second)),
        end_time: Some(at(second)),
        date_created: None,
        date_updated: None,
    }
}

fn sid(number: u32) -> CallSid {
    CallSid::parse(&format!("CA{number:032}")).expect("a SID")
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_700_000_000 + second).expect("an instant")
}
