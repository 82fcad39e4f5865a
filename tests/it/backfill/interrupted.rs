//! A backfill that is interrupted goes on where it was.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tempfile::TempDir;
use twilio_call_exporter::simulator::{Behaviour, Mix};

use crate::harness::{Exchange, Twilio, eventually, print_figures};

use super::{backfill, files, past, rounded_now, spawn};

/// How often the program is killed.
const KILLS: usize = 20;

#[tokio::test(flavor = "multi_thread")]
async fn killed_20_times_it_reads_no_call_twice_and_writes_the_same_bytes() {
    let twilio = Twilio::serving(past(Mix::Everything, 6, 60)).await;
    let (whole, killed) =
        (TempDir::new().expect("a directory"), TempDir::new().expect("a directory"));
    let until = rounded_now() - jiff::SignedDuration::from_hours(2);
    let flags = [
        format!("--from={}", until - jiff::SignedDuration::from_hours(3)),
        format!("--until={until}"),
    ];
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let began = std::time::Instant::now();
    assert_eq!(backfill(&twilio, whole.path(), &flags).code, Some(0));
    let lasted = began.elapsed();
    let before = twilio.traffic().len();
    let mut random = fastrand::Rng::with_seed(1);
    // The number of concurrent requests may change.
    for _ in 0..KILLS {
        let mut child = spawn(&twilio, killed.path(), &[&flags[..], &["--concurrency=3"]].concat());
        // At random moments: which ones doesn't matter, as long as there are many.
        tokio::time::sleep(lasted.mul_f64(random.f64() / 8.0)).await;
        child.kill().expect("killed");
        child.wait().expect("ended");
    }
    let ended = backfill(&twilio, killed.path(), &flags);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert_eq!(files::contents(killed.path()), files::contents(whole.path()));
    // Requests that were in flight at a kill may be repeated. Lists of several pages are always begun twice.
    let traffic = twilio.traffic();
    let [of_whole, of_killed] = [&traffic[..before], &traffic[before..]].map(reads_of_events);
    print_figures(&format!("{of_whole} reads of events, {of_killed} with {KILLS} kills"));
    assert!((of_whole..=of_whole + KILLS * 3).contains(&of_killed), "{of_whole} {of_killed}");
    // Once complete, it neither requests nor writes anything.
    let requests = twilio.requests();
    let ended = backfill(&twilio, killed.path(), &flags);
    assert_eq!((ended.code, twilio.requests()), (Some(0), requests));
    assert!(
        ended.stdout.contains("promtool tsdb create-blocks-from openmetrics"),
        "{}",
        ended.stdout
    );
}

/// The number of reads of Call Events that were begun.
fn reads_of_events(traffic: &[Exchange]) -> usize {
    let first_pages = traffic
        .iter()
        .filter(|request| request.uri.contains("/Events.json") && !request.uri.contains("Page="));
    first_pages.count()
}

#[tokio::test(flavor = "multi_thread")]
async fn waits_out_throttling_and_an_outage() {
    let twilio = Twilio::serving(past(Mix::Demo, 4, 60)).await;
    let output = TempDir::new().expect("a directory");
    twilio.set_behaviour(Behaviour { max_concurrent: Some(0), ..Behaviour::default() });
    let mut child = spawn(&twilio, output.path(), &["--from=3h"]);
    eventually("it is throttled", async || (twilio.requests() >= 3).then_some(())).await;
    twilio.set_behaviour(Behaviour { outage: true, ..Behaviour::default() });
    let throttled = twilio.requests();
    eventually("Twilio fails", async || (twilio.requests() >= throttled + 2).then_some(())).await;
    // It doesn't ask again and again meanwhile.
    let traffic = twilio.traffic();
    for pair in traffic.windows(2) {
        let apart = pair[1].requested_at - pair[0].requested_at;
        assert!(apart >= Duration::from_millis(240), "{apart:?}");
    }
    twilio.set_behaviour(Behaviour::default());
    eventually("it ends", async || {
        child.try_wait().expect("a child").filter(|status| status.success())
    })
    .await;
    super::assert_equals_truth(&twilio, &files::History::read(output.path()));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_makes_no_call_unreadable() {
    // Requests fail from the hundredth on, until the program has asked for a call without its events.
    let is_over = AtomicBool::new(false);
    let answer = move |uri: &str, before: u64| {
        if before < 100 || is_over.load(Ordering::SeqCst) {
            return None;
        }
        is_over.store(uri.contains("/Calls/CA") && !uri.contains("/Events"), Ordering::SeqCst);
        Some((503, "application/json", "{}"))
    };
    let twilio = Twilio::answering(past(Mix::Demo, 5, 60), answer).await;
    let output = TempDir::new().expect("a directory");
    let ended = backfill(&twilio, output.path(), &["--from=4h"]);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(!ended.stdout.contains("didn't return"), "{}", ended.stdout);
    super::assert_equals_truth(&twilio, &files::History::read(output.path()));
}

#[tokio::test(flavor = "multi_thread")]
async fn with_credentials_that_expired_it_stops_and_continues_with_new_ones() {
    let twilio = Twilio::serving(past(Mix::Demo, 6, 60)).await;
    let output = TempDir::new().expect("a directory");
    let account = twilio.accounts()[0].account_sid.clone();
    let mut child = spawn(&twilio, output.path(), &["--from=5h"]);
    eventually("calls are read", async || (twilio.requests() >= 40).then_some(())).await;
    twilio.set_behaviour(Behaviour { unauthorized: vec![account], ..Behaviour::default() });
    let code = eventually("it stops", async || child.try_wait().expect("a child")).await.code();
    assert_eq!(code, Some(1));
    let ended = backfill(&twilio, output.path(), &["--from=5h"]);
    assert_eq!(ended.code, Some(1));
    assert!(ended.stderr.contains("refuses the credentials"), "{}", ended.stderr);
    twilio.set_behaviour(Behaviour::default());
    let ended = backfill(&twilio, output.path(), &["--from=5h"]);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    super::assert_equals_truth(&twilio, &files::History::read(output.path()));
}
