//! If 300 accounts fail at once, the pager gets only a few notifications: the shipped rules and
//! Alertmanager configuration, sped up, with a simulated fleet of accounts.
//!
//! Failures appear in Twilio's error log at once and in Call Events 16 minutes later. With
//! `STORM_ERROR_LOG=off` there is no error log, and Call Events appear at once. `STORM_ROUTES=20` gives
//! each account more routes, which only a fast machine can scrape every 2.5 s.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use twilio_call_exporter::domain::judge::verdict::Reason;
use twilio_call_exporter::metrics::catalog;

use crate::harness::{
    Alertmanager, Fleet, Hosts, Notification, Prometheus, Scrape, Setup, Shape, lines,
    print_figures, shortened,
};
use crate::rules;

const ACCOUNTS: usize = 300;
const ROUTES: usize = 6;
/// The speed-up: a minute takes five seconds.
const FACTOR: u64 = 12;
/// 30 s in the configuration we ship.
const INTERVAL: &str = "2500ms";
/// The time between two updates of the counters: 12 s before the speed-up.
const TICK: Duration = Duration::from_secs(1);
/// Ticks before the outage, in which all accounts are healthy.
const HEALTHY: usize = 25;
/// Ticks until all accounts fail: one minute, in which all are polled.
const UNTIL_ALL_FAIL: usize = 5;
/// Ticks of the outage: eight minutes.
const OUTAGE: usize = 40;
/// Ticks until a cut-off call is counted: calls are settled 16 minutes after their end.
const SETTLED_AFTER: usize = 80;
/// Ticks after the outage within which the last page must end: 20 minutes after the last cut-off call is
/// counted.
const AFTERWARDS: usize = SETTLED_AFTER + 100;
/// The maximum number of notifications for an outage, including its end.
const MOST: usize = 3;

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs prometheus and prometheus-alertmanager, from Debian's packages"]
async fn an_outage_of_a_host_that_300_accounts_share_pages_at_most_three_times() {
    outage(Hosts::Shared).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs prometheus and prometheus-alertmanager, from Debian's packages"]
async fn an_outage_of_300_hosts_at_once_pages_at_most_three_times() {
    outage(Hosts::OnePerAccount).await;
}

async fn outage(hosts: Hosts) {
    let routes = std::env::var("STORM_ROUTES").ok();
    let routes = routes.map_or(ROUTES, |routes| routes.parse().expect("a number"));
    let has_error_log = std::env::var_os("STORM_ERROR_LOG").is_none_or(|text| text != "off");
    let fleet = Fleet::serve(Shape { accounts: ACCOUNTS, routes, hosts }).await;
    let alertmanager = Alertmanager::start_accelerated(FACTOR).await;
    let rules: Vec<_> =
        rules::files().into_iter().map(|(name, text)| (name, shortened(&text, FACTOR))).collect();
    let prometheus = Prometheus::start(&Setup {
        jobs: &[("twilio", fleet.address())],
        rules: &rules,
        scrape_interval: INTERVAL,
        evaluation_interval: INTERVAL,
        alertmanager: Some(alertmanager.address()),
        lookback: "25s",
        ..Setup::default()
    });
    // The number of accounts that fail and cut off callers at each tick.
    let mut failing = vec![0; HEALTHY];
    failing.extend((1..=OUTAGE).map(|tick| (tick * ACCOUNTS / UNTIL_ALL_FAIL).min(ACCOUNTS)));
    failing.resize(HEALTHY + OUTAGE + AFTERWARDS, 0);
    let is_over =
        || alertmanager.notifications("pager").last().is_some_and(|last| last.is_resolved);
    for now in 0..failing.len() {
        let settled = now.checked_sub(SETTLED_AFTER).map_or(0, |before| failing[before]);
        let (reported, counted) =
            if has_error_log { (failing[now], settled) } else { (0, failing[now]) };
        tick(&fleet, Failing { reported, counted, settled }).await;
        if now == HEALTHY + OUTAGE {
            let pages = alertmanager.notifications("pager");
            let text = lines(&pages);
            assert!(pages.iter().any(is_of_webhooks), "no page during the outage:\n{text}");
        }
        if now == HEALTHY {
            let pages = alertmanager.notifications("pager");
            assert!(pages.is_empty(), "a page before the outage: {}", lines(&pages));
        }
        // All cut-off calls are counted, and nothing fires.
        if now > HEALTHY + OUTAGE + SETTLED_AFTER
            && is_over()
            && prometheus.alerts().await.is_empty()
        {
            break;
        }
    }
    let pages = alertmanager.notifications("pager");
    let text = lines(&pages);
    let of = async |query: &str| prometheus.query(query).await.unwrap_or_default();
    print_figures(&format!(
        "{hosts:?}: pager\n{text}\ntickets\n{}\nscrapes take {:.1} s, {} of {} failed",
        lines(&alertmanager.notifications("tickets")),
        of("max_over_time(scrape_duration_seconds[1h])").await,
        of("count_over_time((up == 0)[1h:2s])").await,
        of("count_over_time(up[1h:2s])").await,
    ));
    assert!(
        of("min_over_time(up[1h])").await > 0.0,
        "scrapes time out: this machine is too slow for the test"
    );
    assert!(pages.len() <= MOST, "{} notifications:\n{text}", pages.len());
    assert!(is_over(), "the page doesn't end:\n{text}");
}

fn is_of_webhooks(page: &Notification) -> bool {
    let of_webhooks = |component: &String| component == "webhooks";
    page.firing.iter().any(|labels| labels.get("component").is_some_and(of_webhooks))
}

/// The number of failing accounts, by source; these are always the first ones.
struct Failing {
    /// According to the error log.
    reported: usize,
    /// According to Call Events.
    counted: usize,
    /// According to settled calls that were cut off.
    settled: usize,
}

/// Simulates 12 s in which these accounts fail and the others succeed.
async fn tick(fleet: &Fleet, Failing { reported, counted, settled }: Failing) {
    let began = Instant::now();
    {
        let mut world = fleet.world();
        for account in world.accounts() {
            if account < reported {
                world.report(account);
            }
            if account < counted {
                world.fail(account, Reason::Connection, 1);
            } else {
                world.succeed(account, 1);
            }
            if account < settled {
                world.settle(account, 1);
            }
        }
        world.polled();
    }
    tokio::time::sleep(TICK.saturating_sub(began.elapsed())).await;
}

/// The fleet has all the data that rules read; otherwise the other tests could pass without any data.
#[tokio::test]
async fn a_fleet_serves_every_family_of_the_catalogue() {
    let fleet = Fleet::serve(Shape { accounts: 2, routes: 2, hosts: Hosts::Shared }).await;
    let url = format!("http://{}/metrics", fleet.address());
    twilio_call_exporter::twilio::client::install_crypto();
    let http = reqwest::Client::builder().no_proxy().build().expect("a client");
    let text = http.get(url).send().await.expect("an answer").text().await.expect("a text");
    let scrape = Scrape::parse(&text);
    let served: BTreeSet<&str> = scrape.names().into_iter().collect();
    for family in catalog::ALL {
        let count = format!("{}_count", family.name);
        assert!(served.contains(family.name) || served.contains(count.as_str()), "{}", family.name);
    }
}
