//! Whole histories of an account, simulated in virtual time from a seed: the real engine and store run
//! against a Twilio that fails and throttles, while the program is reloaded and is killed between any two
//! steps and during commits.
//!
//! Two properties are checked. Exactly once: in the end each Call Event, each finished call and each call's
//! outcome is counted once, and no value ever falls. Rate limits: no request during a `Retry-After`, one at
//! a time after a 429, and never more in flight than allowed. A failure prints its seed; `HISTORY=<seed>`
//! runs only that history, `HISTORIES=<number>` sets the number of histories.

mod life;
mod twilio;
mod world;

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use life::Simulation;
use world::World;

/// Default number of histories; CI sets more.
const DEFAULT_HISTORIES: u64 = 200;

#[test]
#[expect(clippy::print_stdout, reason = "the totals are a measurement")]
fn every_event_of_every_history_is_counted_once() {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse().expect("a number"));
    if let Some(seed) = number("HISTORY") {
        let result = simulate(seed);
        println!("history {seed}: {result:?}");
        result.expect("no property is violated");
        return;
    }
    let count = number("HISTORIES").unwrap_or(DEFAULT_HISTORIES);
    let (next, began) = (AtomicU64::new(0), Instant::now());
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
    println!("{count} histories in {:.1} s: {totals:?}", began.elapsed().as_secs_f64());
    // A simulation in which too little happens proves nothing.
    assert!(totals.events > count * 10 && totals.kills > count && totals.failures > count);
    assert!(totals.torn_commits > count / 10 && totals.late > 0);
    assert!(totals.throttled > count && totals.pages > count && totals.reloads > count / 2);
    assert!(totals.steps > count * 100 && totals.discoveries > count);
    assert!(totals.reported > count * 2 && totals.pushes > count);
}

/// How often each thing happened, in one history or in several.
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
    /// Pages of Call Events other than the last.
    pages: u64,
    discoveries: u64,
    /// Entries of the error log.
    reported: u64,
    /// Accepted pushes of error log entries.
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

/// Simulates the history of a seed. An error describes the violated property.
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
        return Err(format!("the error log has {expected:?}, but {reported:?} were counted"));
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
        let most = world.maximum_counts().get(key).copied().unwrap_or(0);
        late += if expected.contains_key(key) { 0 } else { found };
        if !expected.contains_key(key) && found > most {
            return Err(format!("{key:?} is {found}, expected at most {most}"));
        }
    }
    Ok(Totals { late, reported, ..simulation.totals() })
}
