//! Whole histories of an account, lived through in virtual time from a seed: the engine and the store
//! that ship against a Twilio that stumbles and throttles, and a program that is reloaded, and killed
//! between any two steps and within its commits.
//!
//! Exactly once is the first claim: in the end each Call Event was counted once, each finished call once, what
//! callers felt once per call, and at no time did a value fall. Gentleness is the second: no request during a
//! `Retry-After`, one at a time after a 429, never more at once than are allowed. A seed that fails prints itself;
//! `HISTORY=<seed>` lives through it alone, `HISTORIES=<number>` through more of them.

mod life;
mod twilio;
mod world;

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use life::Life;
use world::World;

/// Histories that every run lives through; CI asks for more.
const FEW: u64 = 200;

#[test]
#[expect(clippy::print_stdout, reason = "what was lived through is a figure")]
fn every_event_of_every_history_is_counted_once() {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse().expect("a number"));
    if let Some(seed) = number("HISTORY") {
        let lived = live(seed);
        println!("history {seed}: {lived:?}");
        lived.expect("a history without a contradiction");
        return;
    }
    let count = number("HISTORIES").unwrap_or(FEW);
    let (next, began) = (AtomicU64::new(0), Instant::now());
    let totals = std::thread::scope(|scope| {
        let live_on = || {
            let mut totals = Lived::default();
            loop {
                let seed = next.fetch_add(1, Ordering::Relaxed);
                if seed >= count {
                    return totals;
                }
                match live(seed) {
                    Ok(lived) => totals.add(&lived),
                    Err(contradiction) => panic!("HISTORY={seed}: {contradiction}"),
                }
            }
        };
        let threads: Vec<_> = (0..2).map(|_| scope.spawn(live_on)).collect();
        let mut totals = Lived::default();
        for thread in threads {
            match thread.join() {
                Ok(lived) => totals.add(&lived),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        totals
    });
    println!("{count} histories in {:.1} s: {totals:?}", began.elapsed().as_secs_f64());
    // A simulation in which nothing happens proves nothing.
    assert!(totals.events > count * 10 && totals.kills > count && totals.failures > count);
    assert!(totals.torn_commits > count / 10 && totals.late > 0);
    assert!(totals.throttled > count && totals.pages > count && totals.reloads > count / 2);
    assert!(totals.steps > count * 100 && totals.discoveries > count);
    assert!(totals.reported > count * 2 && totals.pushes > count);
}

/// What happened in a history.
#[derive(Clone, Copy, Debug, Default)]
struct Lived {
    calls: u64,
    events: u64,
    late: u64,
    commits: u64,
    kills: u64,
    torn_commits: u64,
    failures: u64,
    throttled: u64,
    /// Pages of Call Events that were not the last.
    pages: u64,
    discoveries: u64,
    /// Entries of the error log.
    reported: u64,
    /// Pushes of its entries that were taken.
    pushes: u64,
    reloads: u64,
    /// Steps of the engine.
    steps: u64,
}

impl Lived {
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

/// Lives through the history of a seed; an error says what contradicts the claim.
fn live(seed: u64) -> Result<Lived, String> {
    let world = World::from_seed(seed);
    let mut life = Life::begin(&world, seed);
    while !life.is_over(&world) {
        life.step(&world)?;
    }
    let mut counted = life.counted();
    let (outcomes, expected) = (counted.remove(&world::outcomes()).unwrap_or(0), world.outcomes());
    if !expected.contains(&outcomes) {
        return Err(format!("{outcomes} calls have an outcome, and {expected:?} should"));
    }
    let reported = counted.extract_if(.., |(key, _), _| key.starts_with("reported ")).collect();
    let expected = life.error_log_since().map(|since| world.reports(since)).unwrap_or_default();
    if expected != reported {
        return Err(format!("the error log has {expected:?}, and counted was {reported:?}"));
    }
    let reported = reported.values().sum();
    let expected = world.truth();
    for (key, &count) in &expected {
        let found = counted.get(key).copied().unwrap_or(0);
        if found != count {
            return Err(format!("{key:?} is {found}, and was {count}"));
        }
    }
    let mut late = 0;
    for (key, &found) in &counted {
        let most = world.at_most().get(key).copied().unwrap_or(0);
        late += if expected.contains_key(key) { 0 } else { found };
        if !expected.contains_key(key) && found > most {
            return Err(format!("{key:?} is {found}, and was {most} at most"));
        }
    }
    Ok(Lived { late, reported, ..life.lived() })
}
