//! The order and the timing of requests.

use super::*;
use crate::domain::words::call::{Call, CallStatus, Direction};
use failure::{Failure, FailureReason, PageSizeVerdict, Verdict};
use request::{Answer, AnswerContent, NextPage, Page};

#[test]
fn with_one_request_at_a_time_the_classes_alternate() {
    let mut engine = started(5);
    let mut requested = Vec::new();
    for _ in 0..6 {
        let request = engine.next(usize::MAX, at(2_000)).requests.pop().expect("something is due");
        requested.push(request.target.resource().as_str());
        let content = match request.target {
            // Endless lists and events.
            Target::Calls { .. } => AnswerContent::Calls(page(vec![call(9)], requested.len())),
            Target::CallEvents { .. } => {
                AnswerContent::CallEvents(page(Vec::new(), requested.len()))
            }
            Target::Accounts(_) => AnswerContent::Accounts(page(Vec::new(), requested.len())),
            Target::Call(_) | Target::ErrorLog { .. } => {
                panic!("nothing else is due")
            }
        };
        engine.on_answer(request.id, answer(Ok(content), 2_000), context(2_000));
    }
    let expected = ["accounts", "calls", "call_events", "accounts", "calls", "call_events"];
    assert_eq!(requested, expected);
}

#[test]
fn lacks_permits_only_if_requests_are_due() {
    let mut engine = started(5);
    let next = engine.next(0, at(2_000));
    assert!(next.needs_permits && next.requests.is_empty());
    let next = engine.next(1, at(2_000));
    assert_eq!(next.requests.len(), 1);
    assert!(!next.needs_permits, "the pace allows only one request at a time");
    // A new account may send only one request at a time.
    let mut engine = Engine::new(settings(), InitialState::default());
    let first = engine.next(usize::MAX, at(0)).requests;
    assert_eq!(first.len(), 1);
    assert!(!engine.next(0, at(0)).needs_permits);
}

#[test]
fn sends_nothing_during_a_pause_and_wakes_up_at_its_end() {
    let mut engine = started(5);
    let request = engine.next(usize::MAX, at(2_000)).requests.pop().expect("something is due");
    let retry_after = Some(Duration::from_secs(90));
    let throttled = Failure {
        reason: FailureReason::Throttled,
        text: "throttled".to_owned(),
        verdict: Verdict::Throttled { retry_after },
        page_size: PageSizeVerdict::Unrelated,
    };
    engine.on_answer(request.id, answer(Err(throttled), 2_000), context(2_000));
    let next = engine.next(usize::MAX, at(2_001));
    assert!(next.requests.is_empty() && !next.needs_permits);
    assert_eq!(next.wake_at, at(2_090));
    assert_eq!(
        engine.next(usize::MAX, at(2_090)).requests.len(),
        1,
        "a single request after the pause"
    );
}

#[test]
fn discovers_subaccounts_while_calls_are_refused() {
    let mut engine = Engine::new(settings(), InitialState::default());
    engine.last_class = RequestClass::Accounts;
    let list = engine.next(usize::MAX, at(0)).requests.pop().expect("a list");
    assert_eq!(list.target.resource().as_str(), "calls");
    let refused = Failure {
        reason: FailureReason::Unauthorized,
        text: "refused".to_owned(),
        verdict: Verdict::Refused,
        page_size: PageSizeVerdict::Unrelated,
    };
    engine.on_answer(list.id, answer(Err(refused), 0), context(0));
    let accounts = engine.next(usize::MAX, at(1)).requests.pop().expect("the accounts");
    assert_eq!(accounts.target.resource().as_str(), "accounts");
    let none = Page { items: Vec::new(), rejected: 0, next: NextPage::End };
    engine.on_answer(accounts.id, answer(Ok(AnswerContent::Accounts(none)), 1), context(1));
    let next = engine.next(usize::MAX, at(2));
    assert!(next.requests.is_empty());
    assert_eq!(next.wake_at, at(60), "the shortest pause after a refusal");
}

#[test]
fn repeats_abandoned_requests_and_ignores_their_responses() {
    let mut engine = started(5);
    let lost = engine.next(usize::MAX, at(2_000)).requests.pop().expect("something is due");
    engine.abandon_all();
    let effects = engine.on_answer(
        lost.id,
        answer(Ok(AnswerContent::Calls(page(vec![], 0))), 2_000),
        context(2_000),
    );
    assert!(!effects.needs_commit && effects.metric_updates.is_empty());
    let again = engine.next(usize::MAX, at(2_000)).requests;
    assert!(again.len() == 1 && again[0].id > lost.id);
}

/// An account that has started, with a number of calls that ended long ago.
fn started(calls: u32) -> Engine {
    let progress = |number| CallProgress::begin(&call(number), at(0)).0;
    let initial =
        InitialState { calls: (1..=calls).map(progress).collect(), ..InitialState::default() };
    let mut engine = Engine::new(settings(), initial);
    engine.last_class = RequestClass::Accounts;
    // Three responses have to agree on Twilio's time.
    for _ in 0..3 {
        let request = engine.next(1, at(0)).requests.pop().expect("a list");
        assert_eq!(request.target.resource().as_str(), "calls");
        let list =
            AnswerContent::Calls(Page { items: Vec::new(), rejected: 0, next: NextPage::End });
        engine.on_answer(request.id, answer(Ok(list), 0), context(0));
        engine.last_class = RequestClass::Accounts;
    }
    engine.last_class = RequestClass::Read;
    engine
}

fn settings() -> Settings {
    Settings {
        account: AccountSid::parse("AC00000000000000000000000000000001").expect("a SID"),
        lists: ListPlan {
            interval: Duration::from_secs(30),
            initial_lookback: Duration::from_secs(3_600),
            catch_up: Duration::from_secs(86_400),
            error_log_interval: None,
        },
        reads: ReadPlan {
            live_interval: Duration::from_secs(60),
            after_end: Vec::new(),
            settle_delay: Duration::from_secs(960),
            audit_after: Duration::from_secs(3_600),
        },
        max_concurrency: 4,
        discovers: true,
        has_error_log: false,
        accepts_pushes: false,
        digest_key: DigestKey::new([1; 16]),
    }
}

fn call(number: u32) -> Call {
    Call {
        sid: CallSid::parse(&format!("CA{number:032}")).expect("a SID"),
        status: CallStatus::Completed,
        direction: Direction::Inbound,
        start_time: Some(at(-10)),
        end_time: Some(at(-5)),
        date_created: None,
        date_updated: None,
    }
}

/// A page with a next page.
fn page<T>(items: Vec<T>, number: usize) -> Page<T> {
    let link = format!("?Page={}", number + 1);
    Page { items, rejected: 0, next: NextPage::At { position: link.clone(), link } }
}

fn answer(result: Result<AnswerContent, Failure>, second: i64) -> Answer {
    let (answered_at, date) = (Some(at(second)), Some(at(second)));
    Answer { answered_at, date, took: Duration::from_millis(300), result }
}

fn context(second: i64) -> Context {
    Context { now: at(second), random: 0, room: usize::MAX }
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_700_000_000 + second).expect("an instant")
}
