//! SIGKILL at random moments, with a real store, calls in progress and errors from Twilio.
//!
//! At the end, every durable family equals what happened, and no scrape has shown a counter that fell or
//! was ahead of what had happened. `KILLS=<number>` sets the number of kills and `KILL_SEED=<number>`
//! varies their timing.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use fastrand::Rng;
use twilio_call_exporter::simulator::{Behaviour, Stall};

use crate::harness::{Program, Scrape, Series, Twilio, eventually, ongoing_calls};

/// The default number of kills; CI sets more.
const DEFAULT_KILLS: u64 = 8;
/// Calls per kill and account: about as many as start between two kills, so that there are calls until the
/// last kill.
const CALLS_PER_KILL: u64 = 2;

#[tokio::test(flavor = "multi_thread")]
#[expect(clippy::print_stdout, reason = "the numbers show what was tested")]
async fn random_kills_lose_nothing_count_nothing_twice_and_lower_no_counter() {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse().expect("a number"));
    let (kills, seed) =
        (number("KILLS").unwrap_or(DEFAULT_KILLS), number("KILL_SEED").unwrap_or(1));
    let mut random = Rng::with_seed(seed);
    let twilio = Twilio::serving(ongoing_calls(2, 40 + kills * CALLS_PER_KILL)).await;
    let hold_back = [("TWILIO_EXPORTER_LIMITS__HOLD_BACK", "1s")];
    let mut program = Program::polling_with(&twilio, &hold_back).await;
    let began = Instant::now();
    let mut observed = Observed::default();
    let (mut unscraped, mut behind) = (0, 0);
    for kill in 1..=kills {
        twilio.set_behaviour(behaviour(&mut random));
        program = program.kill_and_spawn();
        let until = Instant::now() + uptime(&mut random);
        let scrapes = observed.scrapes;
        scrape_until(&mut program, &mut observed, until).await.unwrap_or_else(|error| {
            panic!("KILL_SEED={seed}: after kill {kill} of {kills}: {error}");
        });
        unscraped += u64::from(observed.scrapes == scrapes);
        behind += u64::from(observed.is_behind(&twilio).unwrap_or_else(|error| {
            panic!("KILL_SEED={seed}: before kill {kill} of {kills}: {error}");
        }));
    }
    let took = began.elapsed();
    twilio.set_behaviour(Behaviour::default());
    program = program.kill_and_restart().await;
    // On a fast machine, the last calls may outlast the kills.
    eventually("everything has happened", async || twilio.truth().complete.then_some(())).await;
    let scrape = twilio.wait_until_counted_by(&mut program).await;
    observed.record(&scrape).expect("no counter fell");
    println!(
        "{} kills in {:.0} s: {unscraped} before a scrape, {behind} with events not yet counted; {} scrapes, {} series",
        kills + 1,
        took.as_secs_f64(),
        observed.scrapes,
        observed.highest.len()
    );
    // The test is meaningful only if the kills interrupt something.
    assert!(unscraped >= kills / 20, "only {unscraped} of {kills} kills came before a scrape");
    assert!(behind > kills / 3, "only {behind} of {kills} kills left events uncounted");
    assert!(observed.scrapes > kills / 2, "only {} scrapes", observed.scrapes);
}

/// The highest value observed of each durable series, and the number of scrapes.
#[derive(Default)]
struct Observed {
    highest: BTreeMap<Series, f64>,
    scrapes: u64,
}

impl Observed {
    /// Records a scrape. Returns an error if a counter fell.
    fn record(&mut self, scrape: &Scrape) -> Result<(), String> {
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

    /// Returns whether something that happened isn't counted yet, or an error if something was counted that
    /// didn't happen.
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
            let actual = happened.get(series).copied().unwrap_or(0.0);
            if !series.0.ends_with("_bucket") && *counted > actual + 1e-6 {
                return Err(format!("{series:?} is {counted}, but only {actual} happened"));
            }
        }
        Ok(is_behind)
    }
}

/// Scrapes continuously until an instant.
async fn scrape_until(
    program: &mut Program,
    observed: &mut Observed,
    until: Instant,
) -> Result<(), String> {
    while Instant::now() < until {
        if program.detect_listen_address() {
            let left = until.saturating_duration_since(Instant::now());
            match tokio::time::timeout(left, program.scrape()).await {
                Ok(scrape) => observed.record(&scrape)?,
                // The kill interrupts this scrape.
                Err(_) => return Ok(()),
            }
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    Ok(())
}

/// How long the program runs before the next kill: sometimes too short to start.
fn uptime(random: &mut Rng) -> Duration {
    Duration::from_millis(match random.u8(..4) {
        0 => random.u64(..50),
        1 | 2 => random.u64(100..600),
        _ => random.u64(300..1_000),
    })
}

fn behaviour(random: &mut Rng) -> Behaviour {
    let normal = Behaviour::default();
    match random.u8(..8) {
        0 => Behaviour { error_rate: 150, ..normal },
        1 => Behaviour { truncate_body: 150, ..normal },
        2 => Behaviour { max_concurrent: Some(1), ..normal },
        3 => Behaviour { shift_pages: true, ..normal },
        4 => Behaviour { stall: Stall { permille: 100, seconds: 1 }, ..normal },
        _ => normal,
    }
}
