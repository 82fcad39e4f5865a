//! What a call costs, in accounts whose events appear live, only after 15 minutes, or first so and
//! then so: the default plan, hours of virtual time.

use super::*;
use crate::domain::judge::route::Routes;
use crate::domain::track::reading::Item;
use crate::domain::words::call_event::{Body, CallEvent, Request, Response};
use crate::domain::words::parameters::Parameters;

/// An hour in seconds.
const HOUR: i64 = 3_600;
/// When events appear that don't appear live, in seconds after a call's end.
const QUARTER: i64 = 15 * 60;
/// How long calls last: as long as what five reads a call are allowed for.
const LENGTH: i64 = 120;
/// Calls an hour: so many that fifty audits are few.
const CALLS: i64 = 3_000;

#[test]
fn where_events_appear_after_15_minutes_a_call_costs_hardly_more_than_one_read() {
    let mut world = World::begin();
    world.live(2 * HOUR, |_| false);
    let reads = world.reads_per_settled_call(2 * HOUR, |_| false);
    assert!(reads <= 1.1, "{reads} reads per call");
}

#[test]
fn where_events_appear_live_a_call_costs_at_most_five_reads_and_its_numbers_are_fresh() {
    let mut world = World::begin();
    world.live(2 * HOUR, |_| true);
    let reads = world.reads_per_settled_call(2 * HOUR, |_| true);
    assert!((3.0..=5.0).contains(&reads), "{reads} reads per call");
}

#[test]
fn an_account_that_begins_to_show_its_events_live_is_read_early_again() {
    let mut world = World::begin();
    world.live(2 * HOUR, |_| false);
    world.live(2 * HOUR, |_| true);
    let reads = world.reads_per_settled_call(HOUR, |_| true);
    assert!(reads >= 3.0, "{reads} reads per call: its numbers are old");
    world.live(2 * HOUR, |_| false);
    let reads = world.reads_per_settled_call(HOUR, |_| false);
    assert!(reads <= 1.1, "{reads} reads per call, and back");
}

/// An account whose calls come at a steady rate, and are read at once when they are due.
struct World {
    account: AccountProgress,
    now: i64,
    begun: i64,
    reads: u64,
    settled: u64,
}

impl World {
    fn begin() -> Self {
        Self { account: account(), now: 0, begun: 0, reads: 0, settled: 0 }
    }

    fn reads_per_settled_call(&mut self, seconds: i64, is_live: fn(i64) -> bool) -> f64 {
        let (reads, settled) = (self.reads, self.settled);
        self.live(seconds, is_live);
        let float = |number: u64| f64::from(u32::try_from(number).expect("few"));
        float(self.reads - reads) / float(self.settled - settled)
    }

    /// Lives on; whether a call's events appear live is said by when it begins.
    fn live(&mut self, seconds: i64, is_live: fn(i64) -> bool) {
        for now in self.now..self.now + seconds {
            if now % 30 == 0 {
                self.list(now);
            }
            for step in due(&mut self.account, at(now), 1_000) {
                let Step::Read { read: Read { sid, stage, skips }, .. } = step else {
                    self.account.fetch_failed(step_sid(step), at(now));
                    continue;
                };
                let call = &self.account.calls[&sid];
                let is_shown =
                    is_live(now) || call.ended_at.is_some_and(|end| at(now - QUARTER) >= end);
                let items = is_shown.then(|| item(call.began_at)).into_iter().collect();
                let reading = Reading { items, read_at: at(now), is_complete: true };
                self.account.take_reading(Read { sid, stage, skips }, &reading, at(now));
                self.reads += 1;
                self.settled += u64::from(stage == Stage::Settling);
            }
            self.account.lists.forget_before = Some(at(now - QUARTER));
            if now % 60 == 0 {
                self.account.keep_house(4, at(now));
            }
        }
        self.now += seconds;
    }

    /// Shows the calls that have begun, and those that have ended since a list showed them.
    fn list(&mut self, now: i64) {
        let to = now * CALLS / HOUR;
        let mut calls = Vec::new();
        for number in (self.begun - (LENGTH + 60) * CALLS / HOUR).max(0)..to {
            let began = number * HOUR / CALLS;
            let has_ended = began + LENGTH <= now;
            let call = Call {
                sid: any_sid(number),
                status: if has_ended { CallStatus::Completed } else { CallStatus::InProgress },
                end_time: has_ended.then(|| at(began + LENGTH)),
                ..ended(0, began)
            };
            calls.push(call);
        }
        list(&mut self.account, &calls, now);
        self.begun = to;
    }
}

/// As random as Twilio's.
fn any_sid(number: i64) -> CallSid {
    let mut random = fastrand::Rng::with_seed(u64::try_from(number).expect("positive"));
    CallSid::parse(&format!("CA{:016x}{:016x}", number, random.u64(..))).expect("a SID")
}

fn step_sid(step: Step) -> CallSid {
    match step {
        Step::Read { read, .. } => read.sid,
        Step::Fetch(sid) => sid,
    }
}

/// An event of a second after a call's beginning.
fn item(began_at: Timestamp) -> Item {
    let event = CallEvent {
        request: Request {
            method: "POST".to_owned(),
            url: "https://app.example.com/voice".to_owned(),
            parameters: Parameters::default(),
        },
        response: Some(Response {
            code: Some(200),
            duration_ms: Some(40),
            content_type: None,
            body: Body::Absent,
            created_at: Some(after(began_at, Duration::from_secs(1))),
        }),
    };
    let digests = Digests::new(DigestKey::new([1; 16]), DigestVersion::CURRENT);
    Item::judge(&event, any_sid(1), digests, &Routes::default())
}
