//! Mistakes in the command line, directories that can't be used, missing permissions, and odd calls.

use std::collections::BTreeMap;
use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use jiff::SignedDuration;
use prometheus::Registry;
use tempfile::TempDir;
use twilio_call_exporter::metrics::health::Health;
use twilio_call_exporter::metrics::ledger::LedgerLimits;
use twilio_call_exporter::simulator::{Behaviour, Mix};
use twilio_call_exporter::store::Store;

use crate::disk::SmallDisk;
use crate::harness::{Ended, Program, Series, Twilio, eventually, metric, run, world_of};

use super::{backfill, command, files, past, rounded_now};

#[tokio::test(flavor = "multi_thread")]
async fn refuses_mistakes_before_it_requests_or_writes_anything() {
    let twilio = Twilio::serving(past(Mix::Demo, 3, 60)).await;
    let directory = TempDir::new().expect("a directory");
    let output = directory.path().join("new");
    let tomorrow = format!("--until={}", rounded_now() + SignedDuration::from_hours(24));
    let in_an_hour = format!("--from={}", rounded_now() + SignedDuration::from_hours(1));
    for (flags, expected) in [
        (&[in_an_hour.as_str()][..], "is in the future"),
        (&["--from=2h", &tomorrow], "is in the future"),
        (&["--from=31d"], "more than 30 days ago"),
        (&["--from=2h", "--until=3h"], "at least one step"),
        (&["--from=2h", "--until=30m"], "less than an hour ago"),
        (&["--from=30m"], "earlier than an hour ago"),
        (&["--from=2026-01-31T16:20:00"], "has no time zone"),
        (&["--from=yesterday"], "expected a time such as"),
        (&["--from=2h", "--step=6m"], "from `10s` to `5m`"),
        (&["--from=2h", "--sample=20"], "expected `1/N`"),
        (&["--from=2h", "--requests-per-second=0"], "expected a number"),
        (&["--from=2h", "--concurrency=0"], "--concurrency"),
        (&[], "--from"),
    ] {
        let ended = backfill(&twilio, &output, flags);
        assert_eq!(ended.code, Some(64), "{flags:?}: {}", ended.stderr);
        assert!(ended.stderr.contains(expected), "{flags:?}: {}", ended.stderr);
        assert!(!output.exists(), "{flags:?}");
    }
    assert_eq!(twilio.requests(), 0);
    let ended = backfill(&twilio, &output, &["--from=2h", "--account=unknown"]);
    assert_eq!(ended.code, Some(64), "{}", ended.stderr);
    assert!(
        ended.stderr.contains("--account: no account has this name of 7 characters, only `AC"),
        "{}",
        ended.stderr
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn refuses_directories_of_others_and_other_flags() {
    let twilio = Twilio::serving(past(Mix::Demo, 3, 60)).await;
    let directory = TempDir::new().expect("a directory");
    let used = directory.path().join("used");
    fs::create_dir(&used).expect("created");
    fs::write(used.join("notes.txt"), "mine").expect("written");
    let ended = backfill(&twilio, &used, &["--from=2h"]);
    assert_eq!(ended.code, Some(64), "{}", ended.stderr);
    assert!(ended.stderr.contains("isn't empty and doesn't hold a backfill"), "{}", ended.stderr);
    assert_eq!(fs::read_dir(&used).expect("a directory").count(), 1);
    // A file of this name that isn't a backfill's.
    fs::write(
        used.join("backfill.db"),
        "no database, but long enough to have a header: ".repeat(9),
    )
    .expect("written");
    let ended = backfill(&twilio, &used, &["--from=2h"]);
    assert_eq!(ended.code, Some(64), "{}", ended.stderr);
    assert!(ended.stderr.contains("doesn't hold a backfill of this program"), "{}", ended.stderr);
    let ended = backfill(&twilio, &used.join("notes.txt").join("below"), &["--from=2h"]);
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    assert!(ended.stderr.contains("cannot use the output directory"), "{}", ended.stderr);
    // Another backfill.
    let output = directory.path().join("output");
    assert_eq!(backfill(&twilio, &output, &["--from=2h"]).code, Some(0));
    let before = files::contents(&output);
    let ended = backfill(&twilio, &output, &["--from=3h"]);
    assert_eq!(ended.code, Some(64), "{}", ended.stderr);
    assert!(
        ended
            .stderr
            .contains("holds a backfill with `--from 2h --step 1m --sample 1/1 --job twilio`"),
        "{}",
        ended.stderr
    );
    // The same flags, but other limits.
    let (arguments, mut variables) = command(&twilio, &output, &["--from=2h"]);
    variables.push(("TWILIO_EXPORTER_LIMITS__ROUTES_PER_ACCOUNT".to_owned(), "50".to_owned()));
    let ended = run_with(&arguments, &variables);
    assert_eq!(ended.code, Some(64), "{}", ended.stderr);
    assert!(ended.stderr.contains("`limits:` have changed"), "{}", ended.stderr);
    assert_eq!(files::contents(&output), before);
    // Deleted files are written again, without a request.
    fs::remove_dir_all(output.join("openmetrics")).expect("removed");
    let requests = twilio.requests();
    assert_eq!(backfill(&twilio, &output, &["--from=2h"]).code, Some(0));
    assert_eq!((files::contents(&output), twilio.requests()), (before, requests));
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_terminal_it_estimates_and_asks_for_yes() {
    let twilio = Twilio::serving(past(Mix::Demo, 4, 60)).await;
    let output = TempDir::new().expect("a directory");
    let (arguments, variables) = command(&twilio, output.path(), &["--from=3h"]);
    let arguments: Vec<&str> =
        arguments.iter().map(String::as_str).filter(|flag| *flag != "--yes").collect();
    let variables: Vec<(&str, &str)> =
        variables.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let ended = run(&arguments, &variables);
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    assert!(ended.stderr.contains("add --yes to start"), "{}", ended.stderr);
    for expected in ["calls     ", "requests  about ", "duration  about ", "disk      about "] {
        assert!(ended.stdout.contains(expected), "{}", ended.stdout);
    }
    // A few calls were read for the estimate, and aren't read again.
    let read = |twilio: &Twilio| {
        let traffic = twilio.traffic();
        traffic.iter().filter(|request| request.uri.contains("/Events.json")).count()
    };
    assert_eq!(read(&twilio), 20);
    assert_eq!(backfill(&twilio, output.path(), &["--from=3h"]).code, Some(0));
    let expected = format!("calls     {} found, 20 of them read", read(&twilio));
    assert!(ended.stdout.contains(&expected), "{expected}: {}", ended.stdout);
}

#[tokio::test(flavor = "multi_thread")]
async fn history_and_a_running_exporter_count_each_call_once() {
    let twilio = Twilio::serving(past(Mix::Demo, 6, 120)).await;
    // It counts the calls of the last two hours.
    let variables = [("TWILIO_EXPORTER_POLL__INITIAL_LOOKBACK", "2h")];
    let program = Program::polling_with(&twilio, &variables).await;
    let started_at = twilio_call_exporter::clock::Clock::start().now().as_second();
    let calls = metric("twilio_calls_total");
    let truth = |second| {
        total(&files::values_of(&twilio.truth_at(super::instant(second))), "twilio_calls_total")
    };
    let recent = truth(started_at) - truth(started_at - 2 * super::HOUR);
    let counted = eventually("the recent calls are counted", async || {
        let scrape = program.scrape().await;
        calls.value_in(&scrape).is_some_and(|calls| (calls - recent).abs() <= 2.0).then_some(scrape)
    })
    .await;
    let output = TempDir::new().expect("a directory");
    let (flags, mut environment) = command(&twilio, output.path(), &["--from=5h"]);
    let mut flags: Vec<String> =
        flags.into_iter().filter(|flag| !flag.starts_with("--storage.path")).collect();
    flags.push(format!("--storage.path={}", program.storage().display()));
    environment.extend(variables.map(|(name, value)| (name.to_owned(), value.to_owned())));
    let ended = run_with(&flags, &environment);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(!ended.stdout.contains("There is no store"), "{}", ended.stdout);
    let history = files::History::read(output.path());
    let (first, last) = history.ends();
    let imported = total(&history.at(last), "twilio_calls_total");
    let live = calls.value_in(&counted).expect("calls");
    let expected = truth(started_at) - truth(first);
    // A call may end in the second between the creation of the store and the first list.
    assert!((imported + live - expected).abs() <= 2.0, "{imported} + {live}, not {expected}");
    assert!(imported > 200.0, "{imported}");
    program.scrape().await.assert_not_below(&counted);
}

#[tokio::test(flavor = "multi_thread")]
async fn ends_when_the_store_began_to_count() {
    let twilio = Twilio::serving(past(Mix::Demo, 6, 60)).await;
    let directory = TempDir::new().expect("a directory");
    let old = directory.path().join("old");
    let began = rounded_now() - SignedDuration::from_hours(2);
    let limits = LedgerLimits { routes_per_account: 10, series: 1_000, hold_back: Duration::ZERO };
    let health = Health::register(&Registry::new()).expect("metrics");
    let (store, thread) = Store::open(&old, limits, health, move || began).expect("a store");
    drop(store);
    assert!(thread.join());
    for (flags, code) in
        [(&["--from=4h"][..], 0), (&["--from=4h", "--until=100m"], 64), (&["--from=110m"], 64)]
    {
        let output = TempDir::new().expect("a directory");
        let (mut flags, environment) = command(&twilio, output.path(), flags);
        flags.retain(|flag| !flag.starts_with("--storage.path"));
        flags.push(format!("--storage.path={}", old.display()));
        let ended = run_with(&flags, &environment);
        assert_eq!(ended.code, Some(code), "{flags:?}: {}", ended.stderr);
        if code == 0 {
            let history = files::History::read(output.path());
            assert_eq!(history.ends().1, began.as_second());
        } else {
            assert!(ended.stderr.contains("when the store began to count"), "{}", ended.stderr);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_permissions_it_stops_before_the_question() {
    for (behaviour, expected) in [
        (
            Behaviour { missing_permission: true, ..Behaviour::default() },
            "no Call Events can be read",
        ),
        (
            Behaviour {
                unauthorized: vec!["AC00000000000000000000000000000001".to_owned()],
                ..Behaviour::default()
            },
            "refuses the credentials",
        ),
    ] {
        let twilio = Twilio::serving(past(Mix::Demo, 3, 60)).await;
        twilio.set_behaviour(behaviour);
        let output = TempDir::new().expect("a directory");
        let ended = backfill(&twilio, output.path(), &["--from=2h"]);
        assert_eq!(ended.code, Some(1), "{}", ended.stderr);
        assert!(ended.stderr.contains(expected), "{}", ended.stderr);
        assert!(!ended.stdout.contains("calls"), "{}", ended.stdout);
        assert!(twilio.requests() < 60);
        twilio.set_behaviour(Behaviour::default());
        let ended = backfill(&twilio, output.path(), &["--from=2h"]);
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        super::assert_equals_truth(&twilio, &files::History::read(output.path()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn single_calls_that_cannot_be_read_are_reported_and_count_only_as_calls() {
    let answer = |uri: &str, _| {
        let number = uri.split("/Calls/CA0000").nth(1)?.get(..11)?;
        let number = u64::from_str_radix(number, 16).ok()?;
        let is_events = uri.contains("/Events.json");
        match number % 50 {
            7 if is_events => Some((404, "application/json", "{}")),
            17 if is_events => Some((403, "application/json", r#"{"code":20003}"#)),
            27 if is_events => Some((500, "application/json", "{}")),
            _ => None,
        }
    };
    let twilio = Twilio::answering(past(Mix::Demo, 4, 18), answer).await;
    let output = TempDir::new().expect("a directory");
    let ended = backfill(&twilio, output.path(), &["--from=3h"]);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(ended.stdout.contains("didn't return the Call Events of"), "{}", ended.stdout);
    let history = files::History::read(output.path());
    let (_, last) = history.ends();
    let truth = files::values_of(&twilio.truth_at(super::instant(last)));
    let before = files::values_of(&twilio.truth_at(super::instant(history.ends().0)));
    let missing =
        |family| total(&truth, family) - total(&before, family) - total(&history.at(last), family);
    assert_eq!(missing("twilio_calls_total"), 0.0);
    // Each of the few calls has at most five requests.
    let requests = missing("twilio_webhook_requests_total");
    assert!((1.0..=40.0).contains(&requests), "{requests}");
}

#[tokio::test(flavor = "multi_thread")]
async fn it_stops_if_twilio_cannot_be_reached_at_all() {
    let twilio = Twilio::serving(past(Mix::Demo, 3, 60)).await;
    let output = TempDir::new().expect("a directory");
    let (arguments, mut variables) = command(&twilio, output.path(), &["--from=2h"]);
    let url = format!("http://127.0.0.1:{}", crate::harness::free_port());
    variables.retain(|(name, _)| name != "TWILIO_API_BASE_URL");
    variables.push(("TWILIO_API_BASE_URL".to_owned(), url));
    let ended = run_with(&arguments, &variables);
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    assert!(ended.stderr.contains("cannot connect"), "{}", ended.stderr);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_any_readable_call_it_stops_and_continues_later() {
    let is_broken = Arc::new(AtomicBool::new(true));
    let broken = Arc::clone(&is_broken);
    let answer = move |uri: &str, _| {
        let is_missing = broken.load(Ordering::SeqCst) && uri.contains("/Events.json");
        is_missing.then_some((404, "application/json", "{}"))
    };
    let twilio = Twilio::answering(past(Mix::Demo, 4, 60), answer).await;
    let output = TempDir::new().expect("a directory");
    let ended = backfill(&twilio, output.path(), &["--from=3h"]);
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    assert!(ended.stderr.contains("no Call Events can be read"), "{}", ended.stderr);
    is_broken.store(false, Ordering::SeqCst);
    let ended = backfill(&twilio, output.path(), &["--from=3h"]);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    super::assert_equals_truth(&twilio, &files::History::read(output.path()));
}

#[tokio::test(flavor = "multi_thread")]
async fn many_unreadable_calls_in_a_row_do_not_stop_it() {
    // Of 60 calls an hour, those of half an hour.
    let answer = |uri: &str, _| {
        let number = uri.split("/Calls/CA0000").nth(1)?.get(..11)?;
        let number = u64::from_str_radix(number, 16).ok()?;
        let is_refused = (150..180).contains(&number) && uri.contains("/Events.json");
        is_refused.then_some((403, "application/json", r#"{"code":20003}"#))
    };
    let twilio = Twilio::answering(past(Mix::Demo, 5, 60), answer).await;
    let output = TempDir::new().expect("a directory");
    let ended = backfill(&twilio, output.path(), &["--from=4h"]);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(ended.stdout.contains("didn't return the Call Events of 3"), "{}", ended.stdout);
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_without_a_start_or_an_end_are_counted_where_they_can_be_placed() {
    let at = |minutes: i64| rounded_now() - SignedDuration::from_mins(minutes);
    let time = |minutes| at(minutes).strftime("\"%a, %d %b %Y %H:%M:%S +0000\"").to_string();
    let call = |digit: u32, status: &str, times: [Option<i64>; 4]| {
        let [created, updated, start, end] = times.map(|at| at.map_or("null".to_owned(), time));
        format!(
            r#"{{"sid":"CA{digit:032}","status":"{status}","direction":"inbound","date_created":{created},"date_updated":{updated},"start_time":{start},"end_time":{end}}}"#
        )
    };
    let calls = [
        call(1, "canceled", [Some(100), Some(99), None, Some(99)]),
        call(2, "failed", [Some(98), Some(97), Some(98), None]),
        call(3, "failed", [None, None, None, Some(96)]),
        call(4, "busy", [None, None, None, None]),
        call(5, "in-progress", [Some(95), Some(95), Some(95), None]),
    ];
    let list = format!(r#"{{"calls":[{}],"next_page_uri":null}}"#, calls.join(","));
    let answer = move |uri: &str, _| {
        let body = if uri.contains("/Events.json") {
            r#"{"events":[],"next_page_uri":null}"#.to_owned()
        } else {
            list.clone()
        };
        Some((200, "application/json", body))
    };
    let twilio = Twilio::answering(world_of(1), answer).await;
    let output = TempDir::new().expect("a directory");
    let ended = backfill(&twilio, output.path(), &["--from=2h"]);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let history = files::History::read(output.path());
    let (_, last) = history.ends();
    let values = history.at(last).into_iter().filter(|(_, value)| *value > 0.0);
    let statuses: Vec<(String, f64)> =
        values.map(|((_, labels), value)| (labels["status"].clone(), value)).collect();
    assert_eq!(statuses, [("canceled".to_owned(), 1.0), ("failed".to_owned(), 2.0)]);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the privilege to mount a file system"]
async fn on_a_full_disk_it_stops_and_continues_when_there_is_space() {
    let twilio = Twilio::serving(past(Mix::Demo, 6, 120)).await;
    let directory = TempDir::new().expect("a directory");
    let disk = SmallDisk::mount(&directory.path().join("small"));
    let output = directory.path().join("small").join("output");
    // There is space for the state, but not for the files.
    let ended = backfill(&twilio, &output, &["--from=5h", "--step=10s"]);
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    assert!(ended.stdout.contains("This may not fit"), "{}", ended.stdout);
    assert!(ended.stderr.contains("check that there is free space"), "{}", ended.stderr);
    for entry in fs::read_dir(output.join("openmetrics")).expect("a directory") {
        let path = entry.expect("an entry").path();
        let is_complete = fs::read(&path).expect("read").ends_with(b"# EOF\n");
        assert!(is_complete || path.ends_with("unfinished"), "{}", path.display());
    }
    drop(disk);
    let directory = TempDir::new().expect("a directory");
    let disk = SmallDisk::mount(&directory.path().join("small"));
    let ballast = disk.fill();
    let output = directory.path().join("small").join("output");
    let ended = backfill(&twilio, &output, &["--from=3h", "--step=5m"]);
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    assert!(ended.stderr.contains("cannot use the output directory"), "{}", ended.stderr);
    fs::remove_file(ballast).expect("removed");
    let ended = backfill(&twilio, &output, &["--from=3h", "--step=5m"]);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    super::assert_equals_truth(&twilio, &files::History::read(&output));
}

/// The total of a family.
fn total(values: &BTreeMap<Series, f64>, family: &str) -> f64 {
    values.iter().filter(|((name, _), _)| name == family).map(|(_, value)| value).sum()
}

/// Runs the program.
pub(super) fn run_with(arguments: &[String], variables: &[(String, String)]) -> Ended {
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let variables: Vec<(&str, &str)> =
        variables.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    run(&arguments, &variables)
}
