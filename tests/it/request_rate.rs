//! How much the program requests, and when: it shares Twilio's rate limits with the customer's live calls.

use std::time::{Duration, Instant};

use twilio_call_exporter::simulator::{Behaviour, Stall, WorldConfig};

use crate::harness::{Exchange, Program, Twilio, eventually, metric, ongoing_calls, world_of};

/// How long a response may take to reach the program on a busy machine.
const IN_TRANSIT: Duration = Duration::from_millis(250);

#[tokio::test(flavor = "multi_thread")]
async fn after_a_429_only_one_request_at_a_time_is_sent_until_one_succeeds() {
    let twilio = Twilio::serving(ongoing_calls(1, 70)).await;
    let variables = [("TWILIO_EXPORTER_API__MAX_CONCURRENCY", "6")];
    let mut program = Program::polling_with(&twilio, &variables).await;
    eventually("several requests may be in flight", async || {
        let limit = metric("twilio_exporter_api_concurrency_limit");
        limit.value_in(&program.scrape().await).filter(|limit| *limit >= 5.0)
    })
    .await;
    // With slow responses, requests sent too early overlap.
    let stall = Stall { permille: 1_000, seconds: 1 };
    twilio.set_behaviour(Behaviour { max_concurrent: Some(2), stall, ..Behaviour::default() });
    eventually("requests are throttled", async || {
        let throttled =
            twilio.traffic().iter().filter(|exchange| has_status(exchange, 429)).count();
        (throttled >= 2).then_some(())
    })
    .await;
    eventually("a request succeeds despite throttling", async || {
        let traffic = twilio.traffic();
        let last = traffic.iter().rfind(|exchange| has_status(exchange, 429))?.answered?.0;
        traffic
            .iter()
            .find(|exchange| exchange.requested_at > last && has_status(exchange, 200))
            .map(|_| ())
    })
    .await;
    twilio.set_behaviour(Behaviour::default());
    twilio.wait_until_counted_by(&mut program).await;
    let traffic = twilio.traffic();
    for throttled in traffic.iter().filter(|exchange| has_status(exchange, 429)) {
        let Some((from, _)) = throttled.answered else { continue };
        let until = traffic
            .iter()
            .filter(|exchange| exchange.requested_at > from && has_status(exchange, 200))
            .filter_map(|exchange| Some(exchange.answered?.0))
            .min();
        let most = max_in_flight(&traffic, from + IN_TRANSIT, until);
        assert!(most <= 1, "{most} requests at once after a 429 and before a success");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrency_stays_within_the_limits() {
    let twilio = Twilio::serving(WorldConfig { accounts: 3, ..world_of(150) }).await;
    let variables = [
        ("TWILIO_EXPORTER_API__MAX_CONCURRENCY", "3"),
        ("TWILIO_EXPORTER_API__MAX_TOTAL_CONCURRENCY", "5"),
    ];
    let mut program = Program::polling_with(&twilio, &variables).await;
    twilio.wait_until_counted_by(&mut program).await;
    let traffic = twilio.traffic();
    let (begin, end) = (traffic[0].requested_at, Some(Instant::now()));
    let of = |sid: &str| -> Vec<Exchange> {
        traffic.iter().filter(|exchange| exchange.uri.contains(sid)).cloned().collect()
    };
    let accounts = twilio.accounts();
    let most = accounts.iter().map(|account| {
        let most = max_in_flight(&of(&account.account_sid), begin, end);
        assert!(most <= 3, "{most} requests at once for an account");
        most
    });
    assert!(most.max() > Some(1), "no requests overlapped, so the test proves nothing");
    let most = max_in_flight(&traffic, begin, end);
    assert!((2..=5).contains(&most), "{most} requests at once");
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_during_a_brownout() {
    let twilio = Twilio::serving(WorldConfig { accounts: 2, ..world_of(40) }).await;
    let stall = Stall { permille: 300, seconds: 1 };
    twilio.set_behaviour(Behaviour { error_rate: 500, stall, ..Behaviour::default() });
    let variables = [("TWILIO_EXPORTER_API__TIMEOUT", "700ms")];
    let mut program = Program::polling_with(&twilio, &variables).await;
    eventually("errors and timeouts are counted", async || {
        let scrape = program.scrape().await;
        let retries = |reason| metric("twilio_exporter_api_retries_total").label("reason", reason);
        let counted = |reason| retries(reason).value_in(&scrape).filter(|count| *count > 0.0);
        counted("server_error").and(counted("timeout"))
    })
    .await;
    twilio.set_behaviour(Behaviour::default());
    twilio.wait_until_counted_by(&mut program).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_permanently_throttled_account_does_not_delay_others() {
    let world = WorldConfig { accounts: 2, ..world_of(40) };
    let throttled = Twilio::serving(world.clone()).await.accounts()[0].account_sid.clone();
    let path = throttled.clone();
    let twilio = Twilio::answering(world, move |uri: &str, _| {
        uri.contains(&path).then(|| (429, "application/json", r#"{"code":20429}"#.to_owned()))
    })
    .await;
    let program = Program::polling(&twilio).await;
    let other = twilio.accounts()[1].account_sid.clone();
    let up = |account: &str| metric("twilio_exporter_up").label("account", account);
    let scrape = eventually("the other account is counted", async || {
        let scrape = program.scrape().await;
        let truth = twilio.truth();
        let all = truth.families.iter().filter(|series| {
            series.name == "twilio_calls_total" && series.labels.get("account") == Some(&other)
        });
        let all: f64 = all.map(|series| series.value).sum();
        let calls = metric("twilio_calls_total").label("account", &other).value_in(&scrape);
        let is_up = up(&throttled).is_in(&scrape, 0.0) && up(&other).is_in(&scrape, 1.0);
        (is_up && all > 0.0 && calls == Some(all)).then_some(scrape)
    })
    .await;
    let retries = metric("twilio_exporter_api_retries_total").label("account", &throttled);
    let throttled = retries.label("reason", "throttled").value_in(&scrape);
    assert!(throttled.is_some_and(|throttled| throttled > 0.0));
}

fn has_status(exchange: &Exchange, status: u16) -> bool {
    exchange.answered.is_some_and(|(_, answered)| answered == status)
}

/// The maximum number of requests in flight at once, of those sent in a period.
fn max_in_flight(traffic: &[Exchange], from: Instant, until: Option<Instant>) -> usize {
    let sent = traffic.iter().filter(|exchange| {
        from <= exchange.requested_at && until.is_none_or(|until| exchange.requested_at < until)
    });
    let mut steps: Vec<(Instant, bool)> = Vec::new();
    for exchange in sent {
        steps.push((exchange.requested_at, true));
        steps.extend(exchange.answered.map(|(at, _)| (at, false)));
    }
    // At the same instant, ends come before starts.
    steps.sort_unstable();
    let (mut now, mut most) = (0_usize, 0);
    for (_, begins) in steps {
        now = if begins { now + 1 } else { now - 1 };
        most = most.max(now);
    }
    most
}
