//! When a call is read, and which of several calls is read first.

use crate::domain::words::call::{Call, Direction};
use std::collections::BTreeMap;

use super::*;

#[test]
fn an_active_call_is_read_at_growing_intervals() {
    let mut call = active(0);
    check(&call, 10, "live at 60");
    call.last_live_read_at = Some(at(61));
    check(&call, 62, "live at 121");
    call.last_live_read_at = Some(at(36_000));
    check(&call, 36_001, "live at 36600");
}

#[test]
fn an_ended_call_is_read_early_and_then_settled() {
    let mut call = ended(0);
    check(&call, 1, "after_end at 15");
    check(&call, 20, "after_end at 15");
    call.after_end_reads = 1;
    check(&call, 20, "after_end at 120");
    call.after_end_reads = 2;
    check(&call, 130, "settling at 963");
    call.settled_at = Some(at(970));
    check(&call, 980, "never");
    call.awaits_audit = true;
    check(&call, 980, "audit at 4570");
}

#[test]
fn a_missed_early_read_is_replaced_by_the_next_read() {
    let call = ended(0);
    check(&call, 200, "after_end at 120, skips 1");
    check(&call, 963, "settling at 963, skips 2");
    check(&call, 90_000, "settling at 963, skips 2");
}

#[test]
fn an_early_read_is_skipped_halfway_to_settling() {
    let call = ended(0);
    check(&call, 541, "after_end at 120, skips 1");
    check(&call, 542, "settling at 963, skips 2");
    let late = ReadPlan { after_end: vec![Duration::from_secs(900)], ..plan() };
    let next = |now| late.next_read(&call, FULL, at(now)).map(|next| next.stage);
    assert_eq!(next(931), Some(Stage::AfterEnd));
    assert_eq!(next(932), Some(Stage::Settling));
}

#[test]
fn active_calls_are_read_less_often_while_requests_are_scarce() {
    let scarce = EarlyPlan { live_interval: Duration::from_secs(500), ..FULL };
    let due_at = |early| plan().next_read(&active(0), early, at(10)).map(|next| next.due_at);
    assert_eq!((due_at(FULL), due_at(scarce)), (Some(at(60)), Some(at(500))));
}

#[test]
fn a_failed_read_waits_for_its_retry() {
    let mut call = ended(0);
    call.retry_at = Some(at(42));
    check(&call, 20, "after_end at 42");
}

#[test]
fn a_read_settles_a_call_by_twilios_clock() {
    let call = ended(0);
    assert!(!plan().settles(&call, Stage::Settling, at(960)));
    assert!(plan().settles(&call, Stage::Settling, at(961)));
    assert!(!plan().settles(&call, Stage::AfterEnd, at(961)));
}

#[test]
fn settling_goes_first_then_the_backlogs_share_then_early_reads() {
    let calls = |kinds: &[(i64, i64)]| {
        let ends = kinds.iter().flat_map(|&(from, count)| from..from + count);
        ends.map(|end| CallProgress { sid: sid(u32::try_from(end).expect("small")), ..ended(end) })
            .collect::<Vec<_>>()
    };
    // At 10,000 s: backlog, settling that is due, and early reads.
    let (backlog, settling, early) = ((0, 20), (8_950, 20), (9_900, 20));
    assert_eq!(order(&calls(&[backlog, settling, early]), 12), "sssbsssbsssb");
    assert_eq!(order(&calls(&[backlog, early]), 12), "eeebeeebeeeb");
    assert_eq!(order(&calls(&[settling, early]), 24), "sssssssssssssssssssseeee");
}

#[test]
fn audits_get_a_share_under_load() {
    let settling = (8_940..9_000)
        .map(|end| CallProgress { sid: sid(u32::try_from(end).expect("small")), ..ended(end) });
    let audits = (1..10).map(|number| CallProgress {
        sid: sid(number),
        settled_at: Some(at(5_000)),
        awaits_audit: true,
        ..ended(0)
    });
    let order = order(&settling.chain(audits).collect::<Vec<_>>(), 60);
    assert_eq!(order.matches('a').count(), 2, "{order}");
}

#[test]
fn the_early_read_that_became_due_last_goes_first() {
    let calls = [9_930, 9_970, 9_950].map(|end: i64| CallProgress {
        sid: sid(u32::try_from(end).expect("small")),
        ..ended(end)
    });
    let live = CallProgress { sid: sid(1), ..active(9_939) };
    let mut queue = Queue::default();
    let all: Vec<_> = calls.into_iter().chain([live]).collect();
    all.iter().for_each(|call| queue.place((call, false), &plan(), FULL, at(10_000)));
    let order: Vec<_> = std::iter::from_fn(|| {
        let sid = queue.next_due()?;
        queue.remove(sid);
        Some(sid)
    })
    .collect();
    assert_eq!(order, [9_970, 9_950, 9_930, 1].map(sid));
}

/// The order in which calls are read at 10,000 s, one letter each; `b` is the backlog.
fn order(calls: &[CallProgress], count: usize) -> String {
    let now = at(10_000);
    let calls: BTreeMap<CallSid, &CallProgress> =
        calls.iter().map(|call| (call.sid, call)).collect();
    let mut queue = Queue::default();
    calls.values().for_each(|call| queue.place((call, false), &plan(), FULL, now));
    let mut take = || {
        let call = calls[&queue.next_due()?];
        queue.place((call, true), &plan(), FULL, now);
        let is_late = plan().overdue(call, now) > BACKLOG_AFTER;
        plan().step(call, FULL, now).map(|step| if is_late { 'b' } else { letter(&step) })
    };
    std::iter::from_fn(&mut take).take(count).collect()
}

#[test]
fn fetches_a_call_that_lists_no_longer_return() {
    let mut call = active(0);
    call.last_live_read_at = Some(at(1_900));
    let mut queue = Queue::default();
    queue.place((&call, false), &plan(), FULL, at(1_799));
    assert_eq!(queue.wake_at(), Some(at(1_800)));
    assert_eq!(plan().step(&call, FULL, at(1_799)), None);
    assert_eq!(plan().step(&call, FULL, at(1_801)), Some(Step::Fetch(call.sid)));
}

#[test]
fn the_queue_agrees_with_the_plan_at_all_times() {
    let mut random = fastrand::Rng::with_seed(1);
    for _ in 0..300 {
        let (mut queue, mut calls, mut now) = (Queue::default(), Vec::new(), 4_000);
        for _ in 0..60 {
            now += random.i64(0..60) * random.i64(0..20);
            let expired = queue.expired_timers(at(now));
            for call in calls.iter().filter(|call: &&CallProgress| expired.contains(&call.sid)) {
                queue.place((call, false), &plan(), FULL, at(now));
            }
            let number = random.usize(..=calls.len());
            let sid = sid(u32::try_from(number).expect("few"));
            let call = CallProgress { sid, ..random_call(&mut random, now) };
            queue.place((&call, false), &plan(), FULL, at(now));
            if number == calls.len() {
                calls.push(call)
            } else {
                calls[number] = call
            }
            assert!(queue.expired_timers(at(now)).is_empty(), "a timer that stays expired");
            let found = queue.due();
            for call in &calls {
                let next = plan().next_step(call, FULL, at(now));
                let due = next.filter(|next| next.due_at <= at(now));
                let expected = due.map(|next| (next.lane, next.due_at));
                assert_eq!(found.get(&call.sid), expected.as_ref(), "at {now}: {call:?}");
            }
            let mut filled = Queue::default();
            filled.fill(calls.iter().map(|call| (call, false)), &plan(), FULL, at(now));
            assert_eq!(format!("{filled:?}"), format!("{queue:?}"), "filled at once, at {now}");
        }
    }
}

#[test]
fn a_call_is_forgotten_once_no_list_can_return_it() {
    let mut call = ended(0);
    let forgettable =
        |call: &CallProgress, horizon, now| is_forgettable(call, Some(at(horizon)), at(now));
    assert!(!forgettable(&call, 0, 100), "not settled");
    call.settled_at = Some(at(1_000));
    assert!(forgettable(&call, 0, 100));
    assert!(!forgettable(&call, -1, 100), "a list may still return it");
    call.awaits_audit = true;
    assert!(!forgettable(&call, 0, 100), "not audited");
    call.awaits_audit = false;
    call.has_end_time = false;
    assert!(!forgettable(&call, 0, 100), "it has no end time, so lists may return it later");
    assert!(forgettable(&call, 0, 200_000));
}

#[test]
fn a_call_keeps_its_digest_version() {
    let older = DigestVersion::from_number(0).expect("a known version");
    for version in [older, DigestVersion::CURRENT] {
        let call = CallProgress { digest_version: version, ..ended(0) };
        let step = plan().step(&call, FULL, at(2000));
        assert!(matches!(step, Some(Step::Read { version: found, .. }) if found == version));
    }
}

/// Early reads as configured.
const FULL: EarlyPlan = EarlyPlan::FULL;

fn check(call: &CallProgress, now: i64, expected: &str) {
    let text = match plan().next_read(call, FULL, at(now)) {
        None => "never".to_owned(),
        Some(next) => {
            let second = next.due_at.duration_since(at(0)).as_secs();
            let skips =
                if next.skips > 0 { format!(", skips {}", next.skips) } else { String::new() };
            format!("{} at {second}{skips}", next.stage)
        }
    };
    assert_eq!(text, expected);
}

fn letter(step: &Step) -> char {
    match step {
        Step::Read { read: Read { stage: Stage::Settling, .. }, .. } => 's',
        Step::Read { read: Read { stage: Stage::Live, .. }, .. } => 'l',
        Step::Read { read: Read { stage: Stage::Reported, .. }, .. } => 'r',
        Step::Read { read: Read { stage: Stage::AfterEnd, .. }, .. } => 'e',
        Step::Read { read: Read { stage: Stage::Audit, .. }, .. } => 'a',
        Step::Fetch(_) => 'f',
    }
}

fn plan() -> ReadPlan {
    ReadPlan {
        live_interval: Duration::from_secs(60),
        after_end: vec![Duration::from_secs(15), Duration::from_secs(120)],
        settle_delay: Duration::from_secs(960),
        audit_after: Duration::from_secs(3_600),
    }
}

/// A call in a random state that is possible at a given time.
fn random_call(random: &mut fastrand::Rng, now: i64) -> CallProgress {
    let earlier = now - random.i64(0..60) * random.i64(0..60);
    let mut call = if random.bool() { active(earlier) } else { ended(earlier) };
    call.last_listed_at = at(now - random.i64(0..2_000));
    call.last_live_read_at = random.bool().then(|| at(random.i64(earlier..=now)));
    call.retry_at = (random.u8(..4) == 0).then(|| at(now + random.i64(-60..600)));
    call.after_end_reads = random.u8(..4);
    call.settled_at = (call.ended_at.is_some() && random.bool()).then(|| at(now));
    call.awaits_audit = random.bool();
    call
}

fn sid(number: u32) -> CallSid {
    CallSid::parse(&format!("CA{number:032}")).expect("a SID")
}

fn ended(second: i64) -> CallProgress {
    let call = Call { status: CallStatus::Completed, end_time: Some(at(second)), ..call(second) };
    CallProgress::begin(&call, at(second)).0
}

fn active(second: i64) -> CallProgress {
    CallProgress::begin(&call(second), at(second)).0
}

fn call(second: i64) -> Call {
    Call {
        sid: CallSid::parse(&format!("CA{second:032}")).expect("a SID"),
        status: CallStatus::InProgress,
        direction: Direction::Inbound,
        start_time: Some(at(second)),
        end_time: None,
        date_created: None,
        date_updated: None,
    }
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_700_000_000 + second).expect("an instant")
}
