//! P2 by force: the real program on a real file, killed without warning at random instants, while
//! calls go on and Twilio stumbles.
//!
//! In the end every durable family equals the truth, and no scrape ever saw a counter fall, nor one
//! above the truth. `KILLS=<number>` kills as often, `KILL_SEED=<number>` at other instants.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use fastrand::Rng;
use twilio_call_exporter::simulator::{Behaviour, Stall};

use crate::harness::{Program, Scrape, Series, Twilio, eventually, ongoing_calls};

/// Kills that every run makes; CI asks for more.
const FEW: u64 = 8;
/// Calls per kill and account: as many as begin while the program lives once, so that they go on for
/// about as long as the kills take.
const CALLS_PER_KILL: u64 = 2;

#[tokio::test(flavor = "multi_thread")]
#[expect(clippy::print_stdout, reason = "what was lived through is a figure")]
async fn killed_at_any_instant_it_counts_everything_once_and_no_counter_ever_falls() {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse().expect("a number"));
    let (kills, seed) = (number("KILLS").unwrap_or(FEW), number("KILL_SEED").unwrap_or(1));
    let mut random = Rng::with_seed(seed);
    let twilio = Twilio::serving(ongoing_calls(2, 40 + kills * CALLS_PER_KILL)).await;
    let hold_back = [("TWILIO_EXPORTER_LIMITS__HOLD_BACK", "1s")];
    let mut program = Program::polling_with(&twilio, &hold_back).await;
    let began = Instant::now();
    let mut seen = Seen::default();
    let (mut unheard, mut behind) = (0, 0);
    for kill in 1..=kills {
        twilio.behave(behaviour(&mut random));
        program = program.kill_and_spawn();
        let until = Instant::now() + life(&mut random);
        let scrapes = seen.scrapes;
        watch(&mut program, &mut seen, until).await.unwrap_or_else(|what| {
            panic!("KILL_SEED={seed}: after kill {kill} of {kills}, {what}");
        });
        unheard += u64::from(seen.scrapes == scrapes);
        behind += u64::from(seen.is_behind(&twilio).unwrap_or_else(|what| {
            panic!("KILL_SEED={seed}: before kill {kill} of {kills}, {what}");
        }));
    }
    let took = began.elapsed();
    twilio.behave(Behaviour::default());
    program = program.kill_and_restart().await;
    // The last calls may go on for longer than the kills took, on a fast machine.
    eventually("everything has happened", async || twilio.truth().complete.then_some(())).await;
    let scrape = twilio.wait_until_counted_by(&mut program).await;
    seen.take(&scrape).expect("no counter fell");
    println!(
        "{} kills in {:.0} s, {unheard} of them before any scrape, {behind} with work left; {} scrapes, {} series",
        kills + 1,
        took.as_secs_f64(),
        seen.scrapes,
        seen.highest.len()
    );
    // A test in which nothing is interrupted proves nothing.
    assert!(unheard >= kills / 20, "{unheard} of {kills} kills came before any scrape");
    assert!(behind > kills / 3, "{behind} of {kills} kills left work undone");
    assert!(seen.scrapes > kills / 2, "{} scrapes", seen.scrapes);
}

/// The highest value that every durable series was ever seen at.
#[derive(Default)]
struct Seen {
    highest: BTreeMap<Series, f64>,
    scrapes: u64,
}

impl Seen {
    /// Takes a scrape; an error says which counter fell.
    fn take(&mut self, scrape: &Scrape) -> Result<(), String> {
        self.scrapes += 1;
        // A series may be absent until its account is loaded.
        for (series, value) in scrape.durable_with_buckets() {
            let highest = self.highest.entry(series.clone()).or_default();
            if value < *highest {
                return Err(format!("{series:?} fell from {highest} to {value}"));
            }
            *highest = value;
        }
        Ok(())
    }

    /// Whether something that has happened isn't counted yet; an error says what was counted that
    /// hasn't happened.
    fn is_behind(&self, twilio: &Twilio) -> Result<bool, String> {
        let truth = twilio.truth();
        let mut is_behind = false;
        let mut happened: BTreeMap<Series, f64> = BTreeMap::new();
        for series in &truth.families {
            happened.insert((series.name.clone(), series.labels.clone()), series.value);
        }
        for (series, happened) in &happened {
            is_behind |= self.highest.get(series).is_none_or(|counted| counted < happened);
        }
        for (series, counted) in &self.highest {
            let most = happened.get(series).copied().unwrap_or(0.0);
            if !series.0.ends_with("_bucket") && *counted > most + 1e-6 {
                return Err(format!("{series:?} is {counted}, and {most} have happened"));
            }
        }
        Ok(is_behind)
    }
}

/// Scrapes without a pause until an instant.
async fn watch(program: &mut Program, seen: &mut Seen, until: Instant) -> Result<(), String> {
    while Instant::now() < until {
        if program.has_listened() {
            let left = until.saturating_duration_since(Instant::now());
            match tokio::time::timeout(left, program.scrape()).await {
                Ok(scrape) => seen.take(&scrape)?,
                // Killed in the middle of a scrape.
                Err(_) => return Ok(()),
            }
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    Ok(())
}

/// How long the program lives: often it hasn't even begun.
fn life(random: &mut Rng) -> Duration {
    Duration::from_millis(match random.u8(..4) {
        0 => random.u64(..50),
        1 | 2 => random.u64(100..600),
        _ => random.u64(300..1_000),
    })
}

fn behaviour(random: &mut Rng) -> Behaviour {
    let good = Behaviour::default();
    match random.u8(..8) {
        0 => Behaviour { error_rate: 150, ..good },
        1 => Behaviour { truncate_body: 150, ..good },
        2 => Behaviour { max_concurrent: Some(1), ..good },
        3 => Behaviour { shift_pages: true, ..good },
        4 => Behaviour { stall: Stall { permille: 100, seconds: 1 }, ..good },
        _ => good,
    }
}
