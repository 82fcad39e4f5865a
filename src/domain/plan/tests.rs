//! When one call is read, and which of many comes first.

use super::super::call::{Call, Direction};
use std::collections::BTreeMap;

use super::*;

#[test]
fn an_active_call_is_read_at_intervals_from_its_beginning() {
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
fn a_read_that_comes_late_makes_earlier_ones_superfluous() {
    let call = ended(0);
    check(&call, 200, "after_end at 120, skips 1");
    check(&call, 963, "settling at 963, skips 2");
    check(&call, 90_000, "settling at 963, skips 2");
}

#[test]
fn a_failed_read_waits_for_its_retry() {
    let mut call = ended(0);
    call.retry_at = Some(at(42));
    check(&call, 20, "after_end at 42");
}

#[test]
fn a_read_settles_only_by_twilios_clock() {
    let call = ended(0);
    assert!(!plan().settles(&call, Stage::Settling, at(960)));
    assert!(plan().settles(&call, Stage::Settling, at(961)));
    assert!(!plan().settles(&call, Stage::AfterEnd, at(961)));
}

#[test]
fn the_backlog_gets_one_request_in_four_and_the_present_the_rest() {
    let now = at(10_000);
    let mut calls = BTreeMap::new();
    for second in 0..20 {
        for end in [second, 8_950 + second, 9_900 + second] {
            let sid = sid(u32::try_from(end).expect("small"));
            calls.insert(sid, CallProgress { sid, ..ended(end) });
        }
    }
    let mut queue = Queue::default();
    calls.values().for_each(|call| queue.place(call, false, &plan(), FULL, now));
    let mut take = || {
        let call = &calls[&queue.next_due()?];
        queue.place(call, true, &plan(), FULL, now);
        plan().step(call, FULL, now)
    };
    let order: String = std::iter::from_fn(&mut take).take(8).map(|step| letter(&step)).collect();
    // A settling read shows as s, an early one as e; the oldest settling reads are the backlog's.
    assert_eq!(order, "sesssess");
    assert_eq!(std::iter::from_fn(&mut take).count(), 52);
}

#[test]
fn a_call_that_no_list_shows_any_more_is_fetched() {
    let mut call = active(0);
    call.last_live_read_at = Some(at(1_900));
    let mut queue = Queue::default();
    queue.place(&call, false, &plan(), FULL, at(1_799));
    assert_eq!(queue.wake_at(), Some(at(1_800)));
    assert_eq!(plan().step(&call, FULL, at(1_799)), None);
    assert_eq!(plan().step(&call, FULL, at(1_801)), Some(Step::Fetch(call.sid)));
}

#[test]
fn the_queue_knows_at_any_time_what_a_look_at_every_call_finds() {
    let mut random = fastrand::Rng::with_seed(1);
    for _ in 0..300 {
        let (mut queue, mut calls, mut now) = (Queue::default(), Vec::new(), 4_000);
        for _ in 0..60 {
            now += random.i64(0..60) * random.i64(0..20);
            let ripe = queue.ripe(at(now));
            for call in calls.iter().filter(|call: &&CallProgress| ripe.contains(&call.sid)) {
                queue.place(call, false, &plan(), FULL, at(now));
            }
            let number = random.usize(..=calls.len());
            let sid = sid(u32::try_from(number).expect("few"));
            let call = CallProgress { sid, ..any(&mut random, now) };
            queue.place(&call, false, &plan(), FULL, at(now));
            if number == calls.len() {
                calls.push(call)
            } else {
                calls[number] = call
            }
            assert!(queue.ripe(at(now)).is_empty(), "looked at again and again");
            let found = queue.due();
            for call in &calls {
                let turn = plan().turn(call, FULL, at(now)).filter(|turn| turn.due_at <= at(now));
                let expected = turn.map(|turn| (turn.lane, turn.due_at));
                assert_eq!(found.get(&call.sid), expected.as_ref(), "at {now}: {call:?}");
            }
            let mut filled = Queue::default();
            filled.fill(calls.iter().map(|call| (call, false)), &plan(), FULL, at(now));
            assert_eq!(format!("{filled:?}"), format!("{queue:?}"), "filled at once, at {now}");
        }
    }
}

#[test]
fn a_call_is_forgotten_when_no_list_can_bring_it_back() {
    let mut call = ended(0);
    let forgettable =
        |call: &CallProgress, horizon, now| is_forgettable(call, Some(at(horizon)), at(now));
    assert!(!forgettable(&call, 0, 100), "not settled");
    call.settled_at = Some(at(1_000));
    assert!(forgettable(&call, 0, 100));
    assert!(!forgettable(&call, -1, 100), "a list may still show it");
    call.awaits_audit = true;
    assert!(!forgettable(&call, 0, 100), "awaits its audit");
    call.awaits_audit = false;
    call.has_end_time = false;
    assert!(!forgettable(&call, 0, 100), "lists may show it for ever");
    assert!(forgettable(&call, 0, 200_000));
}

#[test]
fn a_call_is_read_with_the_digests_it_began_with() {
    for version in [DigestVersion::One, DigestVersion::Two] {
        let call = CallProgress { digest_version: version, ..ended(0) };
        let step = plan().step(&call, FULL, at(2000));
        assert!(matches!(step, Some(Step::Read { version: found, .. }) if found == version));
    }
}

/// No stage is thinned.
const FULL: Thinned = Thinned::NONE;

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
        Step::Read { stage: Stage::Settling, .. } => 's',
        Step::Read { stage: Stage::Live | Stage::AfterEnd | Stage::Audit, .. } => 'e',
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

/// A call in any state that it may be in at a time.
fn any(random: &mut fastrand::Rng, now: i64) -> CallProgress {
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
