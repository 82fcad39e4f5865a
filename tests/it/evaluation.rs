//! The cost of evaluating the rules for 300 accounts with 20 routes each, in a Prometheus that holds the hours
//! and days of data that they read.
//!
//! Machines differ in speed, so the cost is measured relative to one query of the family with the most series,
//! `twilio_webhook_failures_total`. The seconds are printed.

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::{Duration, Instant};

use serde_json::Value;
use twilio_call_exporter::clock::Clock;
use twilio_call_exporter::domain::judge::verdict::Reason;

use crate::harness::history::{self, Labels};
use crate::harness::{Fleet, Hosts, Prometheus, Setup, Shape, World, eventually, print_figures};
use crate::{promql, rules};

const SHAPE: Shape = Shape { accounts: 300, routes: 20, hosts: Hosts::Shared };
/// The longest that all rules together may take, in multiples of one query of all failures.
const LIMIT: f64 = 12.0;
/// One in this many accounts has failing webhooks.
const ONE_FAILING_IN: usize = 100;
/// Seconds between scrapes, and between evaluations.
const INTERVAL: i64 = 15;
/// Seconds back from now with a sample per scrape: the longest range that rules read of series that aren't
/// aggregated first.
const FULL_RESOLUTION: i64 = 65 * 60;
/// Seconds between older samples: Prometheus looks back five minutes for a sample.
const COARSE_STEP: i64 = 240;
/// Seconds of data per write: all must lie within an hour of the newest sample.
const SLICE: i64 = 1_800;
/// The longest duration of the test in seconds: the time ranges that rules read move by as much.
const TEST_SECONDS: i64 = 900;
/// Evaluations that aren't measured: the first lack the recorded series that they build on, and Prometheus is
/// still sorting the backfilled data.
const WARM_UP: usize = 8;
/// Evaluations that are measured.
const MEASURED: usize = 5;

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs prometheus, from Debian's package of that name"]
async fn all_rules_for_300_accounts_with_20_routes_cost_a_few_queries_of_all_failures() {
    let files: Vec<_> = rules::files()
        .into_iter()
        .map(|(name, text)| (name, without_group_intervals(&text)))
        .collect();
    let recorded = recorded_series(&files).await;
    let fleet = Fleet::serve(SHAPE).await;
    advance(&mut fleet.world(), 500);
    let prometheus = Prometheus::start(&Setup::default());
    eventually("Prometheus answers", async || prometheus.query("vector(1)").await).await;
    backfill(&prometheus, &fleet, recorded).await;
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
    for round in 0..WARM_UP + MEASURED {
        let groups = eventually("all groups have been evaluated again", async || {
            let groups = prometheus.groups().await;
            let is_new = |group: &Value| {
                let last = group["lastEvaluation"].as_str().unwrap_or_default();
                !last.starts_with("0001")
                    && before.get(&group["name"].to_string()) != Some(&group["lastEvaluation"])
            };
            (!groups.is_empty() && groups.iter().all(is_new)).then_some(groups)
        })
        .await;
        advance(&mut fleet.world(), 1);
        for group in &groups {
            before.insert(group["name"].to_string(), group["lastEvaluation"].clone());
        }
        if round < WARM_UP {
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
    print_figures(&format!("seconds for all rules: {sums:.3?}; slowest rules: {slowest:.3?}"));
    let mut queries = Vec::new();
    for _ in 0..MEASURED {
        let began = Instant::now();
        let count = prometheus.query("count(twilio_webhook_failures_total)").await;
        queries.push(began.elapsed().as_secs_f64());
        assert!(count > Some(90_000.0), "{count:?} series");
    }
    queries.sort_by(f64::total_cmp);
    print_figures(&format!("seconds for one query of all failures: {queries:.3?}"));
    // Use the medians, because other processes use this machine too.
    let ratio = sums[MEASURED / 2] / queries[MEASURED / 2];
    assert!(
        ratio < LIMIT,
        "{ratio:.1} queries: {sums:.3?}, one query: {queries:.3?}; {slowest:.3?}"
    );
}

/// Removes the groups' own intervals, so that all are evaluated at each interval. The cost of one evaluation
/// is the same.
fn without_group_intervals(rules: &str) -> String {
    rules
        .lines()
        .filter(|line| !line.starts_with("    interval:"))
        .flat_map(|line| [line, "\n"])
        .collect()
}

/// Adds requests, and failures of the failing accounts.
fn advance(world: &mut World, requests: u32) {
    for account in world.accounts() {
        world.succeed(account, requests);
        if account % ONE_FAILING_IN == 0 {
            world.fail(account, Reason::Connection, requests.div_ceil(10));
            world.settle(account, requests.div_ceil(10));
        }
    }
    world.polled();
}

/// The series that the rules record for the large fleet: those of a healthy and a failing account, recorded
/// from a small fleet, are copied to each account.
async fn recorded_series(files: &[(&str, String)]) -> Vec<(Labels, f64)> {
    let fleet = Fleet::serve(Shape { accounts: 2, ..SHAPE }).await;
    let prometheus = Prometheus::start(&Setup {
        jobs: &[("twilio", fleet.address())],
        rules: files,
        ..Setup::default()
    });
    prometheus.wait_until_scraped("twilio").await;
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
        for account in (0..SHAPE.accounts).filter(|one| (one % ONE_FAILING_IN == 0) == is_failing) {
            let mut labels = labels.clone();
            labels.insert("account".to_owned(), Fleet::account(account));
            found.push((labels, value));
        }
    }
    assert!(found.len() > SHAPE.accounts * SHAPE.routes, "{} series recorded", found.len());
    found
}

/// Writes the series that rules read over a range of time, oldest samples first.
async fn backfill(prometheus: &Prometheus, fleet: &Fleet, recorded: Vec<(Labels, f64)>) {
    let spans = spans();
    let target = |mut labels: Labels| {
        labels.insert("job".to_owned(), "twilio".to_owned());
        labels.insert("instance".to_owned(), fleet.address().to_owned());
        labels
    };
    let fleet_series = |counters| {
        let is_read = |name: &str| spans.contains_key(name);
        let all = fleet.world().series(is_read, counters).into_iter().map(
            |((name, mut labels), value)| {
                labels.insert("__name__".to_owned(), name);
                (target(labels), value)
            },
        );
        all.collect::<Vec<_>>()
    };
    let (counters, gauges) = (fleet_series(true), fleet_series(false));
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
    let growing = |value: f64, time: i64| (value * (1.0 - (now - time) as f64 / 2e6)).floor();
    let constant = |value: f64, _| value;
    let oldest = spans.values().flatten().map(|span| span.end).max().expect("a span");
    for slice in (0..=oldest / SLICE).rev().map(|slices| now - slices * SLICE) {
        let until = (slice + SLICE).min(now);
        let is_recent = slice + SLICE > now - FULL_RESOLUTION;
        let step = if is_recent { INTERVAL } else { COARSE_STEP };
        let times: Vec<i64> =
            (slice..until).step_by(usize::try_from(step).expect("positive")).collect();
        let is_in = |span: &Range<i64>| now - until <= span.end && span.start <= now - slice;
        let is_needed = |labels: &Labels| is_recent || spans[&labels["__name__"]].iter().any(is_in);
        let needed = |all: &[(Labels, f64)]| -> Vec<_> {
            all.iter().filter(|(labels, _)| is_needed(labels)).cloned().collect()
        };
        history::write(prometheus, &needed(&sums), &times, growing).await;
        history::write(prometheus, &needed(&others), &times, constant).await;
        if is_recent {
            history::write(prometheus, &counters, &times, growing).await;
            history::write(prometheus, &gauges, &times, constant).await;
        }
    }
}

/// For each series that rules read in the past, the ranges of time in seconds before now.
fn spans() -> BTreeMap<String, Vec<Range<i64>>> {
    let mut spans: BTreeMap<String, Vec<Range<i64>>> = BTreeMap::new();
    for selector in rules::expressions().iter().flat_map(|expr| promql::read(expr).selectors) {
        if selector.range.is_none() && selector.offset.is_none() {
            continue;
        }
        let range = selector.range.as_deref().map_or(COARSE_STEP, seconds);
        let offset = selector.offset.as_deref().map_or(0, seconds);
        spans.entry(selector.name).or_default().push(offset - TEST_SECONDS..offset + range);
    }
    assert!(spans.len() > 10, "{spans:?}");
    spans
}

/// Parses a PromQL duration, or the range of a subquery.
fn seconds(duration: &str) -> i64 {
    let window = duration.split(':').next().unwrap_or_default();
    let (number, unit) = window.split_at(window.len() - 1);
    let unit = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        "d" => 86_400,
        "w" => 7 * 86_400,
        other => panic!("unknown unit {other} in {duration}"),
    };
    number.parse::<i64>().expect("a number") * unit
}
