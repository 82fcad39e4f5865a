//! The lifecycle of an account's calls: found, read, settled, audited, forgotten or given up.

use crate::domain::track::digest::{DigestKey, DigestVersion, Digests};
use crate::domain::words::call::{Call, Direction};
mod beginning;
mod capacity;
mod catch_up;
mod dates;
mod failures;
mod lag;
mod learning;

use super::*;
use crate::domain::engine::lists::{AfterPage, ListPlan, Stop};
use crate::domain::engine::request::{NextPage, Page};
use crate::domain::track::failing::ReadFailure;
use crate::domain::track::listing::ListProgress;
use crate::domain::track::outcome::Outcome;

#[test]
fn a_finished_call_is_counted_once_even_if_listed_repeatedly() {
    let mut account = account();
    let call = ended(1, 0);
    assert_eq!(list(&mut account, &[call.clone(), call.clone()], 5).finished.len(), 1);
    assert_eq!(list(&mut account, &[call], 35), CallChanges::default());
}

#[test]
fn a_call_is_read_settled_audited_and_forgotten() {
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
    assert_eq!(forget(&mut account, 100_000), []);
    account.lists.forget_before = Some(at(0));
    assert_eq!(forget(&mut account, 100_000), [sid(1)]);
    assert_eq!(list(&mut account, &[ended(1, 0)], 100_030), CallChanges::default());
    assert!(account.calls.is_empty(), "a forgotten call must not be tracked again");
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
fn a_settling_read_answered_too_early_does_not_settle_the_call() {
    let mut account = account();
    list(&mut account, &[ended(1, 0)], 5);
    read(&mut account, Stage::Settling, 960);
    assert_eq!(account.calls[&sid(1)].settled_at, None);
    read(&mut account, Stage::Settling, 962);
    assert_eq!(account.calls[&sid(1)].settled_at, Some(at(962)));
}

#[test]
fn a_late_read_that_fails_still_replaces_earlier_reads() {
    let mut account = account();
    list(&mut account, &[ended(1, 0)], 5);
    // The first early read was due at 15 s, the second is at 120 s.
    let due = due(&mut account, at(130), 8);
    let [Step::Read { read, .. }] = due[..] else { panic!("{due:?}") };
    let sid = sid(1);
    assert_eq!(read, Read { sid, stage: Stage::AfterEnd, skips: 1 });
    account.read_failed(read, ReadFailure::NotFound, at(130), 0);
    assert_eq!(steps(&mut account, 131), [""; 0], "the same read again");
    let seen: Vec<_> = account.calls[&sid].early_reads.iter().map(|read| read.stage).collect();
    assert_eq!(seen, [EarlyStage::after_end(1)]);
}

#[test]
fn an_early_read_that_is_not_found_is_done() {
    let mut account = account();
    list(&mut account, &[ended(1, 0)], 5);
    assert_eq!(steps(&mut account, 16), ["after_end"]);
    fail(&mut account, Stage::AfterEnd, ReadFailure::NotFound, 16);
    assert_eq!(steps(&mut account, 100), [""; 0]);
    assert_eq!(steps(&mut account, 121), ["after_end"]);
}

#[test]
fn a_calls_outcome_is_counted_once_even_if_the_call_is_read_twice_at_once() {
    let mut account = account();
    list(&mut account, &[ended(1, 0)], 5);
    let failing = failing_reading(1_000);
    let mut settle = || {
        let changes = account.apply_reading(read_of(1, Stage::Settling), &failing, at(1_000));
        changes.expect("a known call").outcome.map(|outcome| outcome.outcome)
    };
    assert_eq!(settle(), Some(Outcome::CutOff));
    assert_eq!(settle(), None);
}

#[test]
fn waits_a_minute_after_a_settling_read_dated_long_before_it_is_due() {
    let mut account = account();
    list(&mut account, &[ended(1, 0)], 5);
    account.apply_reading(read_of(1, Stage::Settling), &reading(363), at(963));
    assert_eq!(account.calls[&sid(1)].retry_at, Some(at(963 + 60)));
}

#[test]
fn an_active_call_missing_from_twilio_ends_after_three_fetches() {
    let mut account = account();
    list(&mut account, &[active(1, 0)], 5);
    let miss = |account: &mut AccountProgress, second| {
        let lists = run(account, second);
        account.finish_list(&lists, AfterPage::Complete, at(second - 1), 0);
        account.apply_fetched(sid(1), None, at(second)).finished
    };
    assert_eq!(miss(&mut account, 1_900), []);
    assert_eq!(miss(&mut account, 3_800), []);
    // A list that returns the call proves that it exists.
    list(&mut account, &[active(1, 0)], 4_000);
    assert_eq!(miss(&mut account, 5_900), []);
    assert_eq!(miss(&mut account, 7_800), []);
    assert_eq!(miss(&mut account, 9_700), [(Direction::Inbound, CallStatus::Other)]);
    assert_eq!(account.calls[&sid(1)].ended_at, Some(at(9_700)));
}

#[test]
fn a_missing_call_does_not_end_while_lists_fail() {
    let mut account = account();
    list(&mut account, &[active(1, 0)], 5);
    for hour in 1..100 {
        assert_eq!(account.apply_fetched(sid(1), None, at(hour * 3_600)), CallChanges::default());
    }
}

#[test]
fn an_endless_call_is_ended_after_the_maximum_duration() {
    const DAY: i64 = 86_400;
    let run_housekeeping =
        |account: &mut AccountProgress, second| account.run_housekeeping(4, at(second)).finished;
    for (status, days) in [(CallStatus::Other, 1), (CallStatus::InProgress, 7)] {
        let mut account = account();
        list(&mut account, &[Call { status, ..active(1, 0) }], 5);
        assert_eq!(run_housekeeping(&mut account, days * DAY), []);
        let end = days * DAY + 3_601;
        assert_eq!(run_housekeeping(&mut account, end), [(Direction::Inbound, CallStatus::Other)]);
        assert_eq!(run_housekeeping(&mut account, end + 1), []);
        read(&mut account, Stage::Settling, end + 963);
        assert!(account.calls[&sid(1)].settled_at.is_some());
    }
}

#[test]
fn without_room_new_calls_wait_and_known_calls_are_updated() {
    let mut account = account();
    list(&mut account, &[active(1, 0)], 5);
    let mut run = run(&account, 35);
    let calls = [active(3, 20), active(2, 10), ended(1, 0)];
    let page = page(&calls);
    let (changes, after) = account.apply_page(&mut run, &page, 1, Some(at(35)), at(35));
    assert_eq!((changes.left, changes.finished.len()), (1, 1));
    assert_eq!(after, AfterPage::Stopped(Stop::NoRoom));
    account.finish_list(&run, after, at(35), 0);
    assert_eq!(account.lists.cursor, None, "the untracked call must be found again");
    assert_eq!(account.calls.keys().copied().collect::<Vec<_>>(), [sid(1), sid(3)]);
}

#[test]
fn an_audit_counts_requests_that_are_still_unanswered() {
    let mut account = account();
    list(&mut account, &[ended(1, 0)], 5);
    read(&mut account, Stage::Settling, 1_000);
    let unanswered = failing_reading(4_600);
    let mut audit = |is_complete| {
        let reading = Reading { is_complete, ..unanswered.clone() };
        let changes = account.apply_reading(read_of(1, Stage::Audit), &reading, at(4_600));
        changes.expect("a known call").events.len()
    };
    assert_eq!(audit(false), 0);
    assert_eq!(audit(true), 1);
    assert_eq!(audit(true), 0);
}

#[test]
fn an_incomplete_reading_counts_its_events_but_does_not_settle_the_call() {
    let mut account = account();
    list(&mut account, &[ended(1, 0)], 5);
    let stopped = Reading { is_complete: false, ..answered_reading(1_000) };
    let mut counted = |reading: &Reading| {
        let changes = account.apply_reading(read_of(1, Stage::Settling), reading, at(1_000));
        changes.expect("a known call").events.len()
    };
    assert_eq!((counted(&stopped), counted(&stopped)), (1, 0));
    assert_eq!(account.calls[&sid(1)].settled_at, None);
}

#[test]
fn the_first_fifty_settled_calls_of_an_hour_are_audited() {
    let mut account = account();
    let calls: Vec<Call> = (0..120).map(|number| ended(number, 0)).collect();
    list(&mut account, &calls, 5);
    for number in 0..120 {
        account.apply_reading(read_of(number, Stage::Settling), &reading(1_000), at(1_000));
    }
    assert_eq!(account.calls.values().filter(|call| call.awaits_audit).count(), 50);
}

#[test]
fn beyond_fifty_an_hour_one_settled_call_in_a_hundred_is_audited() {
    let mut account = account();
    let calls: Vec<Call> = (0..10_000).map(|number| ended(number, 0)).collect();
    list(&mut account, &calls, 5);
    for number in 0..10_000 {
        account.apply_reading(read_of(number, Stage::Settling), &reading(1_000), at(1_000));
    }
    let audits = account.calls.values().filter(|call| call.awaits_audit).count();
    assert!((99..=100).contains(&audits), "{audits} audits");
}

#[test]
fn a_restart_resets_last_listed_times_to_twilios_time() {
    let mut account = account();
    list(&mut account, &[active(1, 0)], 5);
    account.calls.values_mut().for_each(|call| call.last_listed_at = at(-90_000));
    account.start(at(60));
    assert_eq!(account.calls[&sid(1)].last_listed_at, at(60));
}

fn list(account: &mut AccountProgress, calls: &[Call], second: i64) -> CallChanges {
    let mut run = run(account, second);
    let date = Some(at(second));
    let (changes, after) = account.apply_page(&mut run, &page(calls), usize::MAX, date, at(second));
    assert_eq!(after, AfterPage::Complete);
    changes
}

/// The steps that are due, up to the number of free requests.
fn due(account: &mut AccountProgress, now: Timestamp, free: usize) -> Vec<Step> {
    std::iter::from_fn(|| account.due_step(now)).take(free).collect()
}

fn read_of(number: u32, stage: Stage) -> Read {
    Read { sid: sid(number), stage, skips: 0 }
}

/// The only page of a list.
fn page(calls: &[Call]) -> Page<Call> {
    Page { items: calls.to_vec(), rejected: 0, next: NextPage::End }
}

fn run(account: &AccountProgress, second: i64) -> ListRun {
    account.lists.next(ActiveCalls::default(), at(second)).0.expect("a list is due")
}

fn forget(account: &mut AccountProgress, second: i64) -> Vec<CallSid> {
    account.run_housekeeping(4, at(second)).forgotten
}

fn fail(account: &mut AccountProgress, stage: Stage, failure: ReadFailure, second: i64) -> bool {
    let read = read_of(1, stage);
    account.read_failed(read, failure, at(second), 0)
}

fn steps(account: &mut AccountProgress, second: i64) -> Vec<&'static str> {
    let name = |step: &Step| match step {
        Step::Read { read, .. } => read.stage.as_str(),
        Step::Fetch(_) => "fetch",
    };
    due(account, at(second), 8).iter().map(name).collect()
}

fn read(account: &mut AccountProgress, stage: Stage, second: i64) {
    let changes = account.apply_reading(read_of(1, stage), &reading(second), at(second));
    assert!(changes.is_some());
}

/// A reading of a webhook request without a response.
fn failing_reading(second: i64) -> Reading {
    reading_of(None, second)
}

fn answered_reading(second: i64) -> Reading {
    use crate::domain::words::call_event::{Body, Response};
    let response = Response {
        code: Some(200),
        duration_ms: Some(40),
        content_type: Some("text/xml".to_owned()),
        body: Body::Absent,
        created_at: Some(at(0)),
    };
    reading_of(Some(response), second)
}

fn reading_of(
    response: Option<crate::domain::words::call_event::Response>,
    second: i64,
) -> Reading {
    use crate::domain::words::call_event::{CallEvent, Request};
    use crate::domain::words::parameters::Parameters;
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
        response,
    };
    let digests = Digests::new(DigestKey::new([1; 16]), DigestVersion::CURRENT);
    let item = crate::domain::track::reading::Item::judge(
        &event,
        sid(1),
        digests,
        &crate::domain::judge::route::Routes::default(),
    );
    Reading { items: vec![item], read_at: at(second), is_complete: true }
}

fn reading(second: i64) -> Reading {
    Reading { items: Vec::new(), read_at: at(second), is_complete: true }
}

/// An account without stored state.
fn fresh() -> AccountProgress {
    resume(ListProgress::default())
}

fn resume(known: ListProgress) -> AccountProgress {
    AccountProgress::resume(reads(), Lists::resume(lists(), known), Vec::new())
}

fn account() -> AccountProgress {
    let mut account = fresh();
    account.lists.start(at(0));
    account.lists.forget_before = None;
    account
}

fn lists() -> ListPlan {
    ListPlan {
        interval: Duration::from_secs(30),
        initial_lookback: Duration::from_secs(200_000),
        catch_up: Duration::from_secs(200_000),
        error_log_interval: None,
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

fn active(number: u32, second: i64) -> Call {
    Call { end_time: None, status: CallStatus::InProgress, ..ended(number, second) }
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
