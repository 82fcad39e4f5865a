//! Polling Twilio's error log: each entry is counted once and triggers a read of its call; failures to read
//! the log affect nothing else.

use std::collections::BTreeMap;
use std::time::Duration;

use fastrand::Rng;
use jiff::Timestamp;
use twilio_call_exporter::simulator::{Behaviour, WorldConfig};

use crate::harness::{
    Program, Scrape, Series, Twilio, eventually, everything, metric, ongoing_calls,
};

pub(crate) const ENTRIES: &str = "twilio_error_log_entries_total";
/// Polls the error log every second and exposes new series immediately.
const FAST_POLLING: [(&str, &str); 2] = [
    ("TWILIO_EXPORTER_POLL__ERROR_LOG_INTERVAL", "1s"),
    ("TWILIO_EXPORTER_LIMITS__HOLD_BACK", "0s"),
];

#[tokio::test(flavor = "multi_thread")]
async fn each_entry_is_counted_once_despite_delays_repeats_and_kills() {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse().expect("a number"));
    let (kills, seed) = (number("KILLS").unwrap_or(4), number("KILL_SEED").unwrap_or(1));
    let mut random = Rng::with_seed(seed);
    // Each scenario at least twice, because entries from before the program's first start don't count.
    let world = WorldConfig { calls_per_minute: 1_200.0, ..everything(1, 2 + kills / 15) };
    let twilio = Twilio::serving(WorldConfig { backlog: Duration::ZERO, ..world }).await;
    let behaviour = |random: &mut Rng| Behaviour {
        error_log_after: random.u64(0..3),
        error_log_late: random.u64(0..10),
        error_log_repeats: random.bool(),
        error_rate: random.u16(0..200),
        ..Behaviour::default()
    };
    twilio.set_behaviour(behaviour(&mut random));
    let mut program = Program::polling_with(&twilio, &FAST_POLLING).await;
    let mut highest: BTreeMap<Series, f64> = BTreeMap::new();
    let mut watch = |scrape: &Scrape| {
        for (series, value) in scrape.family(ENTRIES) {
            let highest = highest.entry(series.clone()).or_default();
            assert!(value >= *highest, "{series:?} fell from {highest} to {value}");
            *highest = value;
        }
    };
    let mut is_logged = false;
    for _ in 0..kills {
        let before = counted(&program.scrape().await);
        eventually("more entries are counted", async || {
            let scrape = program.scrape().await;
            watch(&scrape);
            (counted(&scrape) > before || twilio.truth().complete).then_some(())
        })
        .await;
        is_logged |= program.log().contains("reported by Twilio's error log");
        twilio.set_behaviour(behaviour(&mut random));
        program = program.kill_and_restart().await;
    }
    twilio.set_behaviour(Behaviour::default());
    let found = eventually("all entries are counted", async || {
        let scrape = program.scrape().await;
        watch(&scrape);
        let truth = truth(&twilio);
        let found: BTreeMap<_, _> =
            scrape.family(ENTRIES).into_iter().filter(|(_, value)| *value > 0.0).collect();
        (twilio.truth().complete && found == truth).then_some(found)
    })
    .await;
    let codes =
        |code: &str| found.keys().filter(|(_, labels)| labels["error_code"] == code).count();
    assert!(codes("11200") > 0 && codes("12100") > 0 && codes("15003") > 0 && codes("30007") > 0);
    assert!(is_logged, "no entry was logged");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entry_triggers_a_read_of_its_call() {
    let twilio = Twilio::serving(ongoing_calls(1, 400)).await;
    let rare_reads = [
        ("TWILIO_EXPORTER_POLL__LIVE_INTERVAL", "1h"),
        ("TWILIO_EXPORTER_POLL__AFTER_END", "[]"),
        ("TWILIO_EXPORTER_POLL__SETTLE_DELAY", "1h"),
    ];
    let variables: Vec<_> = FAST_POLLING.into_iter().chain(rare_reads).collect();
    let program = Program::polling_with(&twilio, &variables).await;
    eventually("a failing webhook is counted long before its call is settled", async || {
        let scrape = program.scrape().await;
        let reads = metric("twilio_exporter_call_reads_total").label("stage", "reported");
        let failures = metric("twilio_webhook_failures_total").value_in(&scrape)?;
        let reads = reads.label("result", "found").value_in(&scrape)?;
        (failures > 0.0 && reads > 0.0).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_lag_histogram_starts_at_0_after_a_restart() {
    let twilio = Twilio::serving(ongoing_calls(1, 20)).await;
    let program = Program::polling_with(&twilio, &FAST_POLLING).await;
    let lag = metric("twilio_exporter_error_log_lag_seconds_count");
    eventually("the error log is read", async || lag.value_in(&program.scrape().await)).await;
    twilio.set_behaviour(Behaviour { error_log_outage: true, ..Behaviour::default() });
    let program = program.kill_and_restart().await;
    assert!(lag.is_in(&program.scrape().await, 0.0), "{}", program.scrape().await.text);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_permission_is_logged_once_and_affects_nothing_else() {
    let twilio = Twilio::serving(everything(1, 1)).await;
    twilio.set_behaviour(Behaviour { error_log_refused: true, ..Behaviour::default() });
    let mut program = Program::polling_with(&twilio, &FAST_POLLING).await;
    let scrape = twilio.wait_until_counted_by(&mut program).await;
    assert_eq!(scrape.family(ENTRIES).len(), 0, "{}", scrape.text);
    assert!(!scrape.text.contains("twilio_exporter_error_log_"), "{}", scrape.text);
    let log = program.log();
    let lines = log.lines().filter(|line| line.contains("/twilio/monitor/alerts/list"));
    assert_eq!(lines.count(), 1, "{log}");
    assert!(metric("twilio_exporter_up").is_in(&scrape, 1.0));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_log_outage_loses_nothing_and_does_not_affect_call_events() {
    let twilio = Twilio::serving(ongoing_calls(1, 60)).await;
    let mut program = Program::polling_with(&twilio, &FAST_POLLING).await;
    eventually("the error log is read", async || {
        metric("twilio_exporter_error_log_last_success_timestamp_seconds")
            .value_in(&program.scrape().await)
    })
    .await;
    twilio.set_behaviour(Behaviour { error_log_outage: true, ..Behaviour::default() });
    let before = metric("twilio_calls_total").value_in(&program.scrape().await).unwrap_or_default();
    eventually("calls are counted during the outage", async || {
        let scrape = program.scrape().await;
        assert!(metric("twilio_exporter_up").is_in(&scrape, 1.0));
        let calls = metric("twilio_calls_total").value_in(&scrape)?;
        (calls >= before + 10.0).then_some(())
    })
    .await;
    twilio.set_behaviour(Behaviour::default());
    twilio.wait_until_counted_by(&mut program).await;
    eventually("entries from the outage are counted", async || {
        let found = program.scrape().await.family(ENTRIES);
        let found: BTreeMap<_, _> = found.into_iter().filter(|(_, value)| *value > 0.0).collect();
        (!found.is_empty() && found == truth(&twilio)).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn known_routes_expose_common_codes_at_0_before_the_first_entry() {
    let healthy = WorldConfig { failing_after: None, ..ongoing_calls(1, 40) };
    let twilio = Twilio::serving(healthy).await;
    let mut program = Program::polling_with(&twilio, &FAST_POLLING).await;
    let scrape = twilio.wait_until_counted_by(&mut program).await;
    let routes = scrape.family("twilio_twiml_responses_total");
    let mut routes: Vec<_> = routes.keys().map(|(_, labels)| labels["route"].clone()).collect();
    routes.dedup();
    assert!(!routes.is_empty());
    for route in routes {
        for code in ["11200", "11205", "11210", "11220", "12100", "12300"] {
            let entries = metric(ENTRIES).label("route", &route).label("error_code", code);
            assert!(entries.is_in(&scrape, 0.0), "{route} {code}: {}", scrape.text);
        }
    }
}

/// The entries that must be counted: all since the start date of the first request.
fn truth(twilio: &Twilio) -> BTreeMap<Series, f64> {
    let traffic = twilio.traffic();
    let start_date = traffic.iter().rev().find_map(|exchange| {
        let query = exchange.uri.strip_prefix("/v1/Alerts?")?;
        form_urlencoded::parse(query.as_bytes()).find(|(name, _)| name == "StartDate")
    });
    // All requests have the same start date, because a test is shorter than the overlap of passes.
    let Some((_, since)) = start_date else { return BTreeMap::new() };
    truth_since(twilio, since.parse().expect("a time"))
}

/// The entries that must be counted since an instant.
pub(crate) fn truth_since(twilio: &Twilio, since: Timestamp) -> BTreeMap<Series, f64> {
    let names = ["account", "product", "host", "route", "error_code", "level"];
    let series = |(values, count): ([String; 6], u64)| {
        let labels = names.map(str::to_owned).into_iter().zip(values).collect();
        ((ENTRIES.to_owned(), labels), f64::from(u32::try_from(count).expect("few")))
    };
    twilio.error_log(since).into_iter().map(series).collect()
}

/// The number of entries counted.
pub(crate) fn counted(scrape: &Scrape) -> f64 {
    metric(ENTRIES).value_in(scrape).unwrap_or(0.0)
}
