//! The cost of planning for an account with many tracked calls.
//!
//! `cargo bench --bench plan`. Each call has ten counted Call Events. The calls ended during the last half
//! hour, so some wait to be settled, some are due and none is finished.

use std::time::Duration;

use divan::Bencher;
use divan::counter::ItemsCount;
use jiff::Timestamp;
use twilio_call_exporter::domain::engine::lists::ListPlan;
use twilio_call_exporter::domain::engine::plan::ReadPlan;
use twilio_call_exporter::domain::engine::request::{Answer, AnswerContent, NextPage, Page};
use twilio_call_exporter::domain::engine::{Context, Engine, InitialState, Settings};
use twilio_call_exporter::domain::track::digest::{Digest, DigestKey};
use twilio_call_exporter::domain::track::progress::{CallProgress, Multiset};
use twilio_call_exporter::domain::words::call::{Call, CallStatus, Direction};
use twilio_call_exporter::domain::words::sid::{AccountSid, CallSid};

/// The numbers of tracked calls.
const CALLS: [u64; 3] = [1_000, 10_000, 100_000];

fn main() {
    divan::main();
}

/// The first planning after a start, which schedules every call.
#[divan::bench(args = CALLS, sample_count = 20)]
fn plan_first(bencher: Bencher<'_, '_>, calls: u64) {
    bencher
        .counter(ItemsCount::new(calls))
        .with_inputs(|| account(calls))
        .bench_local_refs(|account| plan(account, 0));
}

/// A later planning; the requests are abandoned again.
#[divan::bench(args = CALLS)]
fn plan_again(bencher: Bencher<'_, '_>, calls: u64) {
    let mut account = account(calls);
    let mut milliseconds = 0;
    plan(&mut account, milliseconds);
    bencher.bench_local(|| {
        milliseconds += 1;
        plan(&mut account, milliseconds);
    });
}

/// The housekeeping that runs at most once a second: forgets old calls and updates gauges.
#[divan::bench(args = CALLS)]
fn housekeeping(bencher: Bencher<'_, '_>, calls: u64) {
    let mut account = account(calls);
    plan(&mut account, 0);
    bencher.counter(ItemsCount::new(calls)).bench_local(|| account.run_housekeeping(now()));
}

fn plan(account: &mut Engine, milliseconds: i64) {
    let now = now() + jiff::SignedDuration::from_millis(milliseconds);
    let next = account.next(usize::MAX, now);
    assert!(!next.requests.is_empty(), "something is due");
    account.abandon_all();
}

/// An account that has learnt Twilio's time.
fn account(calls: u64) -> Engine {
    let settings = Settings {
        account: AccountSid::parse("AC00000000000000000000000000000001").expect("a SID"),
        lists: lists(),
        reads: reads(),
        max_concurrency: 4,
        discovers: false,
        has_error_log: false,
        accepts_pushes: false,
        digest_key: DigestKey::new([1; 16]),
    };
    let calls = (0..calls).map(|number| call(number, calls)).collect();
    let mut account = Engine::new(settings, InitialState { calls, ..InitialState::default() });
    // Three responses must agree on Twilio's time.
    for _ in 0..3 {
        let request = account.next(1, now()).requests.pop().expect("a list");
        let page = Page { items: Vec::new(), rejected: 0, next: NextPage::End };
        let answer = Answer {
            answered_at: Some(now()),
            date: Some(now()),
            took: Duration::ZERO,
            result: Ok(AnswerContent::Calls(page)),
        };
        account.on_answer(request.id, answer, Context { now: now(), random: 0, room: usize::MAX });
    }
    account
}

fn call(number: u64, calls: u64) -> CallProgress {
    let share = i64::try_from(1_800 * number / calls).expect("small");
    let end = now() - jiff::SignedDuration::from_secs(share);
    let call = Call {
        sid: CallSid::parse(&format!("CA{number:032x}")).expect("a SID"),
        status: CallStatus::Completed,
        direction: Direction::Inbound,
        start_time: Some(end - jiff::SignedDuration::from_secs(60)),
        end_time: Some(end),
        date_created: None,
        date_updated: None,
    };
    let digests = (0..10).map(|event| (Digest(number * 10 + event), 1)).collect();
    CallProgress { counted: Multiset::new(digests), ..CallProgress::begin(&call, now()).0 }
}

fn lists() -> ListPlan {
    ListPlan {
        interval: Duration::from_secs(30),
        initial_lookback: Duration::from_secs(3_600),
        catch_up: Duration::from_secs(86_400),
        error_log_interval: None,
    }
}

fn reads() -> ReadPlan {
    ReadPlan {
        live_interval: Duration::from_secs(60),
        after_end: vec![Duration::from_secs(15), Duration::from_secs(120)],
        settle_delay: Duration::from_secs(16 * 60),
        audit_after: Duration::from_secs(3_600),
    }
}

fn now() -> Timestamp {
    Timestamp::from_second(1_700_000_000).expect("an instant")
}
