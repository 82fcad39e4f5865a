//! What the rules cost: three hundred accounts of twenty routes, in a Prometheus that holds what they
//! read, hours and days back.
//!
//! Machines differ, and Prometheus reads a series in microseconds at best: so the cost is held against
//! that of reading the one family that has most series, `twilio_webhook_failures_total`, once. The seconds
//! are printed.

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::{Duration, Instant};

use serde_json::Value;
use twilio_call_exporter::clock::Clock;
use twilio_call_exporter::domain::judge::verdict::Reason;

use crate::harness::history::{self, Labels};
use crate::harness::{Fleet, Hosts, Prometheus, Setup, Shape, World, eventually, say};
use crate::{promql, rules};

const SHAPE: Shape = Shape { accounts: 300, routes: 20, hosts: Hosts::Shared };
/// How many times as long as one reading of all failures all rules together may take.
const LIMIT: f64 = 12.0;
/// One account in so many has failing webhooks.
const FAILING: usize = 100;
/// Seconds between scrapes, and between evaluations.
const INTERVAL: i64 = 15;
/// Seconds back until which there is each scrape: the longest window over what isn't summed before.
const FINE: i64 = 65 * 60;
/// Seconds between the samples that are further back: a sample is seen for five minutes.
const COARSE_STEP: i64 = 240;
/// Seconds that are written at once, of which all must be within an hour of the newest.
const SLICE: i64 = 1_800;
/// Seconds that a test may take, by which what is read moves on.
const AHEAD: i64 = 900;
/// Evaluations that are left out, because the first find what they build on missing, and Prometheus sorts
/// what was written to it; and those that are looked at.
const BEFORE: usize = 8;
const LOOKS: usize = 5;

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs prometheus, from Debian's package of that name"]
async fn all_rules_of_300_accounts_with_20_routes_cost_a_few_readings_of_all_failures() {
    let files: Vec<_> =
        rules::files().into_iter().map(|(name, text)| (name, often(&text))).collect();
    let recorded = recorded_series(&files).await;
    let fleet = Fleet::serve(SHAPE).await;
    move_on(&mut fleet.world(), 500);
    let prometheus = Prometheus::start(&Setup::default());
    eventually("Prometheus answers", async || prometheus.query("vector(1)").await).await;
    fill(&prometheus, &fleet, recorded).await;
    let interval = format!("{INTERVAL}s");
    let setup = Setup {
        jobs: &[("twilio", fleet.address())],
        rules: &files,
        scrape_interval: &interval,
        evaluation_interval: &interval,
        ..Setup::default()
    };
    prometheus.reload(&setup).await;

    let (mut sums, mut slowest) = (Vec::new(), BTreeMap::new());
    let mut before = BTreeMap::new();
    for look in 0..BEFORE + LOOKS {
        let groups = eventually("all groups are evaluated again", async || {
            let groups = prometheus.groups().await;
            let is_new = |group: &Value| {
                let last = group["lastEvaluation"].as_str().unwrap_or_default();
                !last.starts_with("0001")
                    && before.get(&group["name"].to_string()) != Some(&group["lastEvaluation"])
            };
            (!groups.is_empty() && groups.iter().all(is_new)).then_some(groups)
        })
        .await;
        move_on(&mut fleet.world(), 1);
        for group in &groups {
            before.insert(group["name"].to_string(), group["lastEvaluation"].clone());
        }
        if look < BEFORE {
            continue;
        }
        for group in &groups {
            for rule in group["rules"].as_array().expect("rules") {
                assert_eq!(rule["health"], "ok", "{rule}");
                let name = rule["name"].as_str().expect("a name").to_owned();
                let took = rule["evaluationTime"].as_f64().expect("seconds");
                slowest.entry(name).or_insert_with(Vec::new).push(took);
            }
        }
        sums.push(groups.iter().filter_map(|group| group["evaluationTime"].as_f64()).sum::<f64>());
    }
    sums.sort_by(f64::total_cmp);
    let median = |mut all: Vec<f64>| {
        all.sort_by(f64::total_cmp);
        all[all.len() / 2]
    };
    let mut slowest: Vec<_> = slowest.into_iter().map(|(name, all)| (name, median(all))).collect();
    slowest.sort_by(|(_, a), (_, b)| b.total_cmp(a));
    slowest.truncate(15);
    say(&format!("seconds in all {sums:.3?}; the slowest rules {slowest:.3?}"));
    let mut readings = Vec::new();
    for _ in 0..LOOKS {
        let began = Instant::now();
        let count = prometheus.query("count(twilio_webhook_failures_total)").await;
        readings.push(began.elapsed().as_secs_f64());
        assert!(count > Some(90_000.0), "{count:?} series");
    }
    readings.sort_by(f64::total_cmp);
    say(&format!("one reading of all failures {readings:.3?}"));
    // Others use this machine, too: the half that was disturbed least counts.
    let times = sums[LOOKS / 2] / readings[LOOKS / 2];
    assert!(times < LIMIT, "{times:.1} readings: {sums:.3?} of {readings:.3?}; {slowest:.3?}");
}

/// Rules of which all groups are evaluated at each interval: one evaluation costs the same.
fn often(rules: &str) -> String {
    rules
        .lines()
        .filter(|line| !line.starts_with("    interval:"))
        .flat_map(|line| [line, "\n"])
        .collect()
}

fn move_on(world: &mut World, requests: u32) {
    for account in world.accounts() {
        world.succeed(account, requests);
        if account % FAILING == 0 {
            world.fail(account, Reason::Connection, requests.div_ceil(10));
            world.settle(account, requests.div_ceil(10));
        }
    }
    world.polled();
}

/// What the rules record for an account that is well and for one that fails, as a small fleet shows it,
/// for each account of the large one.
async fn recorded_series(files: &[(&str, String)]) -> Vec<(Labels, f64)> {
    let fleet = Fleet::serve(Shape { accounts: 2, ..SHAPE }).await;
    let prometheus = Prometheus::start(&Setup {
        jobs: &[("twilio", fleet.address())],
        rules: files,
        ..Setup::default()
    });
    prometheus.has_scraped("twilio").await;
    for _ in 0..10 {
        {
            let mut world = fleet.world();
            world.succeed(0, 5);
            world.fail(1, Reason::Connection, 5);
            world.settle(1, 5);
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    let mut found = Vec::new();
    for series in prometheus.instant("{__name__=~\".+:.+\",__name__!~\".+:threshold\"}").await {
        let labels: Labels = serde_json::from_value(series["metric"].clone()).expect("labels");
        let value = series["value"][1].as_str().and_then(|value| value.parse().ok());
        let value: f64 = value.expect("a value");
        let Some(account) = labels.get("account") else {
            found.push((labels, value));
            continue;
        };
        let is_failing = account.ends_with('1');
        for account in (0..SHAPE.accounts).filter(|one| (one % FAILING == 0) == is_failing) {
            let mut labels = labels.clone();
            labels.insert("account".to_owned(), Fleet::account(account));
            found.push((labels, value));
        }
    }
    assert!(found.len() > SHAPE.accounts * SHAPE.routes, "{} series are recorded", found.len());
    found
}

/// Writes what rules read over a time, oldest first.
async fn fill(prometheus: &Prometheus, fleet: &Fleet, recorded: Vec<(Labels, f64)>) {
    let spans = spans();
    let target = |mut labels: Labels| {
        labels.insert("job".to_owned(), "twilio".to_owned());
        labels.insert("instance".to_owned(), fleet.address().to_owned());
        labels
    };
    let of_fleet = |counters| {
        let wanted = |name: &str| spans.contains_key(name);
        let all = fleet.world().series(wanted, counters).into_iter().map(
            |((name, mut labels), value)| {
                labels.insert("__name__".to_owned(), name);
                (target(labels), value)
            },
        );
        all.collect::<Vec<_>>()
    };
    let (counters, gauges) = (of_fleet(true), of_fleet(false));
    let (mut sums, mut others) = (Vec::new(), Vec::new());
    let is_read = |(labels, _): &(Labels, f64)| spans.contains_key(&labels["__name__"]);
    for (mut labels, value) in recorded.into_iter().filter(is_read) {
        if labels.contains_key("instance") {
            labels = target(labels);
        }
        let name = &labels["__name__"];
        let to = if name.ends_with(":sum") { &mut sums } else { &mut others };
        to.push((labels, value));
    }
    let now = Clock::start().now().as_second();
    #[expect(clippy::cast_precision_loss, reason = "days in seconds fit")]
    let grows = |value: f64, time: i64| (value * (1.0 - (now - time) as f64 / 2e6)).floor();
    let stays = |value: f64, _| value;
    let oldest = spans.values().flatten().map(|span| span.end).max().expect("a span");
    for slice in (0..=oldest / SLICE).rev().map(|slices| now - slices * SLICE) {
        let until = (slice + SLICE).min(now);
        let is_fine = slice + SLICE > now - FINE;
        let step = if is_fine { INTERVAL } else { COARSE_STEP };
        let times: Vec<i64> =
            (slice..until).step_by(usize::try_from(step).expect("positive")).collect();
        let is_in = |span: &Range<i64>| now - until <= span.end && span.start <= now - slice;
        let in_reach = |labels: &Labels| is_fine || spans[&labels["__name__"]].iter().any(is_in);
        let of = |all: &[(Labels, f64)]| -> Vec<_> {
            all.iter().filter(|(labels, _)| in_reach(labels)).cloned().collect()
        };
        history::write(prometheus, &of(&sums), &times, grows).await;
        history::write(prometheus, &of(&others), &times, stays).await;
        if is_fine {
            history::write(prometheus, &counters, &times, grows).await;
            history::write(prometheus, &gauges, &times, stays).await;
        }
    }
}

/// Of each series that rules read in the past: between how many seconds back.
fn spans() -> BTreeMap<String, Vec<Range<i64>>> {
    let mut spans: BTreeMap<String, Vec<Range<i64>>> = BTreeMap::new();
    for selector in rules::expressions().iter().flat_map(|expr| promql::read(expr).selectors) {
        if selector.range.is_none() && selector.offset.is_none() {
            continue;
        }
        let range = selector.range.as_deref().map_or(COARSE_STEP, seconds);
        let offset = selector.offset.as_deref().map_or(0, seconds);
        spans.entry(selector.name).or_default().push(offset - AHEAD..offset + range);
    }
    assert!(spans.len() > 10, "{spans:?}");
    spans
}

/// A duration of PromQL, or the window of a subquery.
fn seconds(duration: &str) -> i64 {
    let window = duration.split(':').next().unwrap_or_default();
    let (number, unit) = window.split_at(window.len() - 1);
    let unit = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        "d" => 86_400,
        "w" => 7 * 86_400,
        other => panic!("{other} of {duration}"),
    };
    number.parse::<i64>().expect("a number") * unit
}
