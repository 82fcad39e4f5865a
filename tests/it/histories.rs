//! Simulates whole histories of an account in virtual time, each from a seed: the real engine and store run
//! against a Twilio that fails and throttles, while the program is reloaded, and killed between steps and
//! during commits.
//!
//! Two properties are checked. Exactly once: in the end, each Call Event, each finished call and each call's
//! outcome has been counted once, and no counter ever decreased. Rate limits: no requests during a
//! `Retry-After`, one at a time after a 429, and never more in flight than configured. A failure prints its
//! seed. `HISTORY=<seed>` runs only that history; `HISTORIES=<number>` sets the number of histories.

mod life;
mod twilio;
mod world;

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use life::Simulation;
use world::World;

/// The default number of histories. CI runs more.
const DEFAULT_HISTORIES: u64 = 200;

#[test]
#[expect(clippy::print_stdout, reason = "the totals are a measurement")]
fn every_event_of_every_history_is_counted_once() {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse().expect("a number"));
    if let Some(seed) = number("HISTORY") {
        let result = simulate(seed);
        println!("history {seed}: {result:?}");
        result.expect("all properties hold");
        return;
    }
    let count = number("HISTORIES").unwrap_or(DEFAULT_HISTORIES);
    let (next, started) = (AtomicU64::new(0), Instant::now());
    let totals = std::thread::scope(|scope| {
        let worker = || {
            let mut totals = Totals::default();
            loop {
                let seed = next.fetch_add(1, Ordering::Relaxed);
                if seed >= count {
                    return totals;
                }
                match simulate(seed) {
                    Ok(history) => totals.add(&history),
                    Err(violation) => panic!("HISTORY={seed}: {violation}"),
                }
            }
        };
        let threads: Vec<_> = (0..2).map(|_| scope.spawn(worker)).collect();
        let mut totals = Totals::default();
        for thread in threads {
            match thread.join() {
                Ok(part) => totals.add(&part),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        totals
    });
    println!("{count} histories in {:.1} s: {totals:?}", started.elapsed().as_secs_f64());
    // If too little happens, the simulation proves nothing.
    assert!(totals.events > count * 10 && totals.kills > count && totals.failures > count);
    assert!(totals.torn_commits > count / 10 && totals.late > 0);
    assert!(totals.throttled > count && totals.pages > count && totals.reloads > count / 2);
    assert!(totals.steps > count * 100 && totals.discoveries > count);
    assert!(totals.reported > count * 2 && totals.pushes > count);
}

/// How often each thing happened in one or more histories.
#[derive(Clone, Copy, Debug, Default)]
struct Totals {
    calls: u64,
    events: u64,
    late: u64,
    commits: u64,
    kills: u64,
    torn_commits: u64,
    failures: u64,
    throttled: u64,
    /// Pages of Call Events that weren't the last of their list.
    pages: u64,
    discoveries: u64,
    /// Counted entries of the error log.
    reported: u64,
    /// Accepted pushes of entries of the error log.
    pushes: u64,
    reloads: u64,
    /// Steps of the engine.
    steps: u64,
}

impl Totals {
    fn add(&mut self, other: &Self) {
        self.calls += other.calls;
        self.events += other.events;
        self.late += other.late;
        self.commits += other.commits;
        self.kills += other.kills;
        self.torn_commits += other.torn_commits;
        self.failures += other.failures;
        self.throttled += other.throttled;
        self.pages += other.pages;
        self.discoveries += other.discoveries;
        self.reported += other.reported;
        self.pushes += other.pushes;
        self.reloads += other.reloads;
        self.steps += other.steps;
    }
}

/// Simulates the history of a seed. An error names the violated property.
fn simulate(seed: u64) -> Result<Totals, String> {
    let world = World::from_seed(seed);
    let mut simulation = Simulation::begin(&world, seed);
    while !simulation.is_over(&world) {
        simulation.step(&world)?;
    }
    let mut counted = simulation.counted();
    let (outcomes, expected) = (counted.remove(&world::outcomes()).unwrap_or(0), world.outcomes());
    if !expected.contains(&outcomes) {
        return Err(format!("{outcomes} calls have an outcome, expected {expected:?}"));
    }
    let reported = counted.extract_if(.., |(key, _), _| key.starts_with("reported ")).collect();
    let since = simulation.error_log_since();
    let expected = since.map(|since| world.reports(since)).unwrap_or_default();
    if expected != reported {
        return Err(format!("error log entries: expected {expected:?}, counted {reported:?}"));
    }
    let reported = reported.values().sum();
    let expected = world.expected_counts();
    for (key, &count) in &expected {
        let found = counted.get(key).copied().unwrap_or(0);
        if found != count {
            return Err(format!("{key:?} is {found}, expected {count}"));
        }
    }
    let mut late = 0;
    for (key, &found) in &counted {
        let maximum = world.maximum_counts().get(key).copied().unwrap_or(0);
        late += if expected.contains_key(key) { 0 } else { found };
        if !expected.contains_key(key) && found > maximum {
            return Err(format!("{key:?} is {found}, expected at most {maximum}"));
        }
    }
    Ok(Totals { late, reported, ..simulation.totals() })
}
