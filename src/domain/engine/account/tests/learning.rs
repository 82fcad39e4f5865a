//! The number of reads per call for accounts whose events appear live, only 15 minutes after the call, or change
//! from one to the other, with the default plan and over hours of virtual time.

use super::*;
use crate::domain::judge::route::Routes;
use crate::domain::track::reading::Item;
use crate::domain::words::call_event::{Body, CallEvent, Request, Response};
use crate::domain::words::parameters::Parameters;

/// An hour in seconds.
const HOUR: i64 = 3_600;
/// When events appear that don't appear live, in seconds after the call's end.
const QUARTER: i64 = 15 * 60;
/// The length of calls in seconds, for which at most five reads per call are expected.
const LENGTH: i64 = 120;
/// The number of calls per hour: enough for fifty audits to be negligible.
const CALLS: i64 = 3_000;

#[test]
fn with_delayed_events_a_call_takes_hardly_more_than_one_read() {
    let mut simulation = Simulation::new();
    simulation.run(2 * HOUR, |_| false);
    let reads = simulation.reads_per_settled_call(2 * HOUR, |_| false);
    assert!(reads <= 1.1, "{reads} reads per call");
}

#[test]
fn with_live_events_a_call_takes_three_to_five_reads() {
    let mut simulation = Simulation::new();
    simulation.run(2 * HOUR, |_| true);
    let reads = simulation.reads_per_settled_call(2 * HOUR, |_| true);
    assert!((3.0..=5.0).contains(&reads), "{reads} reads per call");
}

#[test]
fn early_reads_resume_when_events_start_to_appear_live() {
    let mut simulation = Simulation::new();
    simulation.run(2 * HOUR, |_| false);
    simulation.run(2 * HOUR, |_| true);
    let reads = simulation.reads_per_settled_call(HOUR, |_| true);
    assert!(reads >= 3.0, "{reads} reads per call: metrics are stale");
    simulation.run(2 * HOUR, |_| false);
    let reads = simulation.reads_per_settled_call(HOUR, |_| false);
    assert!(reads <= 1.1, "{reads} reads per call after events are delayed again");
}

/// A simulation of an account with calls at a steady rate, each read as soon as it is due.
struct Simulation {
    account: AccountProgress,
    now: i64,
    started: i64,
    reads: u64,
    settled: u64,
}

impl Simulation {
    fn new() -> Self {
        Self { account: account(), now: 0, started: 0, reads: 0, settled: 0 }
    }

    fn reads_per_settled_call(&mut self, seconds: i64, is_live: fn(i64) -> bool) -> f64 {
        let (reads, settled) = (self.reads, self.settled);
        self.run(seconds, is_live);
        let float = |number: u64| f64::from(u32::try_from(number).expect("few"));
        float(self.reads - reads) / float(self.settled - settled)
    }

    /// Advances time by `seconds`. `is_live` returns whether events appear live at a given time.
    fn run(&mut self, seconds: i64, is_live: fn(i64) -> bool) {
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
                self.account.apply_reading(Read { sid, stage, skips }, &reading, at(now));
                self.reads += 1;
                self.settled += u64::from(stage == Stage::Settling);
            }
            self.account.lists.forget_before = Some(at(now - QUARTER));
            if now % 60 == 0 {
                self.account.run_housekeeping(4, at(now));
            }
        }
        self.now += seconds;
    }

    /// Lists the calls that have started or ended since the previous list.
    fn list(&mut self, now: i64) {
        let to = now * CALLS / HOUR;
        let mut calls = Vec::new();
        for number in (self.started - (LENGTH + 60) * CALLS / HOUR).max(0)..to {
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
        self.started = to;
    }
}

/// A SID that is as random as Twilio's.
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

/// An event one second after a call's start.
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
