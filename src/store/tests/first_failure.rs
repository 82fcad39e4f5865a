//! The first failure of a new route is an increase for every scraper, whenever the program crashes.
//!
//! Crashes happen between the store's steps. A crash within a step, between a commit and its publication, looks
//! from outside like one just after it: only the commit remains.

use std::sync::atomic::{AtomicI64, Ordering};

use super::*;
use crate::domain::track::outcome::Outcome;
use crate::metrics::exposition::{Exposition, Format};
use crate::metrics::snapshot;

/// When the failure is counted, in seconds.
const FAILURE: i64 = 100;
/// The seconds of a simulation.
const DURATION: std::ops::Range<i64> = 0..1_500;

/// A scraper with its interval and phase in seconds, and the values that it saw.
struct Scraper {
    interval: i64,
    phase: i64,
    seen: Vec<Option<[u64; 4]>>,
}

#[tokio::test]
async fn the_first_failure_is_an_increase_despite_crashes() {
    for crash_at in [99, 100, 105, 115, 130, 160, 165, 170, 175, 180, 200] {
        for down in [5, 400] {
            let mut scrapers = [scraper(30, 0), scraper(60, 10)];
            simulate(&mut scrapers, Some(crash_at..crash_at + down)).await;
            for scraper in scrapers {
                check(&scraper.seen, &format!("crash at {crash_at} for {down} s: {scraper:?}"));
            }
        }
    }
}

#[tokio::test]
async fn one_scraper_sees_the_increase_and_without_scrapes_the_hold_expires() {
    let mut one = [scraper(60, 0)];
    simulate(&mut one, None).await;
    check(&one[0].seen, "one scraper");
    // After the first scrape, new series are held; then there are no scrapes for a while.
    let mut late = [scraper(1_400, 0)];
    simulate(&mut late, None).await;
    assert_eq!(late[0].seen, [None, Some([1, 1, 1, 1])]);
}

/// Checks that all four series start at 0, never decrease and end at 1.
fn check(seen: &[Option<[u64; 4]>], scenario: &str) {
    let values: Vec<[u64; 4]> = seen.iter().copied().flatten().collect();
    assert_eq!(values.first(), Some(&[0, 0, 0, 0]), "{scenario}");
    assert_eq!(values.last(), Some(&[1, 1, 1, 1]), "{scenario}");
    assert!(values.is_sorted(), "{scenario}");
}

/// Simulates one failure, scrapes, and a time in which the program is down.
async fn simulate(scrapers: &mut [Scraper], down: Option<std::ops::Range<i64>>) {
    let directory = directory();
    let clock = Arc::new(AtomicI64::new(0));
    let mut running = None;
    let mut is_counted = false;
    for second in DURATION.step_by(5) {
        clock.store(second, Ordering::SeqCst);
        if down.as_ref().is_some_and(|down| down.contains(&second)) {
            // The handles are dropped and the writer ends; uncommitted data is lost.
            if let Some((store, thread)) = running.take() {
                drop_store_ok((store, thread));
            }
            continue;
        }
        let (store, _) = running.get_or_insert_with(|| open_with(&directory, &clock));
        let id = attach(store, "us1").await.id;
        if second >= FAILURE && !is_counted {
            let batch = Batch { facts: failure().into(), ..Batch::default() };
            store.commit(id, Arc::new(batch)).await.expect("committed");
            is_counted = true;
        }
        for scraper in scrapers.iter_mut() {
            if second % scraper.interval == scraper.phase {
                scraper.seen.push(scrape(store, second));
            }
        }
        // The writer checks for due releases after each command; the second reply proves that it has.
        attach(store, "us1").await;
        attach(store, "us1").await;
    }
}

/// Scrapes the route's values: failures, requests in the histogram, requests in one bucket, and calls that
/// were cut off.
fn scrape(store: &Store, second: i64) -> Option<[u64; 4]> {
    let committed = store.committed();
    committed.note_scrape();
    let mut exposition = Exposition::new(Format::Text);
    let shown = {
        let ledger = committed.read();
        snapshot::write(&ledger, false, &mut exposition);
        ledger.shown()
    };
    committed.note_shown(shown, at(second));
    let text = exposition.finish().concat();
    let value = |start: &str, label: &str| {
        let line = text.lines().find(|line| line.starts_with(start) && line.contains(label))?;
        line.rsplit_once(' ')?.1.parse::<f64>().ok().map(|value| if value > 0.5 { 1 } else { 0 })
    };
    Some([
        value("twilio_webhook_failures_total{", "reason=\"http_5xx\"")?,
        value("twilio_webhook_request_duration_seconds_count{", "route=\"/\"")?,
        value("twilio_webhook_request_duration_seconds_bucket{", "le=\"0.05\"")?,
        value("twilio_calls_with_webhook_failures_total{", "outcome=\"cut_off\"")?,
    ])
}

fn failure() -> [Fact; 2] {
    let Fact::Event { mut observation, call_sid, at, is_history } = event() else {
        unreachable!("an event")
    };
    observation.duration_ms = Some(20);
    observation.verdict.code =
        crate::domain::judge::verdict::Code::from_status(500).expect("a code");
    observation.verdict.failure = Some(crate::domain::judge::verdict::Reason::Http5xx);
    let (outcome, decided_by) = (Outcome::CutOff, observation.clone());
    let cut_off = Fact::Outcome { outcome, decided_by, at, is_history };
    [Fact::Event { observation, call_sid, at, is_history }, cut_off]
}

fn open_with(directory: &TempDir, clock: &Arc<AtomicI64>) -> (Store, StoreThread) {
    let clock = Arc::clone(clock);
    let health = Health::register(&Registry::new()).expect("instruments");
    let now = move || at(clock.load(Ordering::SeqCst));
    Store::open(directory.path(), limits(), health, now).expect("a store")
}

fn scraper(interval: i64, phase: i64) -> Scraper {
    Scraper { interval, phase, seen: Vec::new() }
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_700_000_000 + second).expect("an instant")
}

impl std::fmt::Debug for Scraper {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "every {} s: {:?}", self.interval, self.seen)
    }
}
