//! Endpoints and series that are reserved for hosts without an endpoint.

use super::*;

const NOISY: &str = "noisy.example";

#[test]
fn the_routes_of_one_host_leave_room_for_other_hosts() {
    for (routes_per_account, noisy, others) in
        [(100, 80, 20), (150, 130, 20), (10, 8, 2), (5, 4, 1), (4, 4, 0), (1, 1, 0)]
    {
        let mut ledger = ledger();
        let limits = LedgerLimits { routes_per_account, ..limits() };
        // In one commit, then in many.
        count(&mut ledger, &noise(0..60), limits);
        (60..200).for_each(|at| count(&mut ledger, &noise(at..at + 1), limits));
        assert_eq!(hosts(&ledger), BTreeMap::from([(NOISY, noisy), ("other", 1)]));
        let facts: Vec<Fact> = (0..30).flat_map(other_host).collect();
        facts.chunks(7).for_each(|facts| count(&mut ledger, facts, limits));
        let counts = hosts(&ledger);
        assert_eq!(counts[NOISY], noisy, "{routes_per_account}");
        assert_eq!(counts.len(), others + 2, "{routes_per_account}: {counts:?}");
        assert_eq!(ledger.endpoints.len(), routes_per_account + 1);
    }
}

#[test]
fn the_series_of_one_host_leave_room_for_new_hosts() {
    let mut ledger = ledger();
    let limits = LedgerLimits { series: 3_000, ..limits() };
    count(&mut ledger, &noise(0..200), limits);
    let noisy = hosts(&ledger)[NOISY];
    assert!((20..80).contains(&noisy), "{noisy}");
    // The kinds and codes of its routes don't use the reserve either.
    let kinds = RequestKind::ALL.iter().flat_map(|kind| {
        (100..400).map(|code| {
            let mut fact = on(NOISY, "/a");
            if let Fact::Event { observation, .. } = &mut fact {
                observation.kind = *kind;
                observation.verdict.code = Code::from_status(code).expect("a code");
            }
            fact
        })
    });
    count(&mut ledger, &kinds.collect::<Vec<_>>(), limits);
    let facts: Vec<Fact> = (0..5).flat_map(other_host).collect();
    count(&mut ledger, &facts, limits);
    let counts = hosts(&ledger);
    assert!((0..5).all(|at| counts.contains_key(&*format!("host{at}.example"))), "{counts:?}");
    assert!(ledger.series() <= limits.series + ACCOUNT_SERIES + 419, "{}", ledger.series());
}

#[test]
fn a_new_host_gets_an_endpoint_after_the_limit_is_lowered() {
    let mut ledger = ledger();
    count(&mut ledger, &noise(0..80), limits());
    let lower = LedgerLimits { routes_per_account: 20, ..limits() };
    let facts: Vec<Fact> = (0..10).flat_map(other_host).chain(noise(80..90)).collect();
    count(&mut ledger, &facts, lower);
    let counts = hosts(&ledger);
    assert_eq!(counts[NOISY], 80, "known endpoints stay");
    // A fifth of the lower limit, including the noisy host, and the shared endpoint.
    assert_eq!(counts.len(), 4 + 1, "{counts:?}");
}

#[test]
fn a_host_whose_routes_were_retired_gets_an_endpoint_again() {
    let mut ledger = ledger();
    count(&mut ledger, &other_host(0), limits());
    count(&mut ledger, &noise(0..90), limits());
    let is_other_host = |(_, entry): &(&EndpointId, &EndpointEntry)| entry.endpoint.host != NOISY;
    let retired: Vec<EndpointId> =
        ledger.endpoints.iter().filter(is_other_host).map(|(id, _)| *id).collect();
    ledger.retire(&retired);
    count(&mut ledger, &noise(90..120), limits());
    assert_eq!(hosts(&ledger)[NOISY], 80);
    count(&mut ledger, &other_host(0), limits());
    assert_eq!(hosts(&ledger)["host0.example"], 1);
}

#[test]
fn a_configured_route_gets_an_endpoint_even_at_the_limit() {
    let mut ledger = ledger();
    count(&mut ledger, &noise(0..200), limits());
    let facts: Vec<Fact> = (0..30).flat_map(other_host).collect();
    count(&mut ledger, &facts, limits());
    assert_eq!(ledger.endpoints_of(ACCOUNT).count(), 100);
    let configured = (0..50).map(|number| {
        let mut configured = on(NOISY, &format!("/:name/{number}"));
        if let Fact::Event { observation, .. } = &mut configured {
            observation.is_configured = true;
        }
        configured
    });
    count(&mut ledger, &configured.collect::<Vec<_>>(), limits());
    let is_configured_route = |endpoint: &&Endpoint| endpoint.route.starts_with("/:name");
    assert_eq!(ledger.endpoints_of(ACCOUNT).filter(is_configured_route).count(), 20);
}

#[test]
fn retired_endpoints_leave_no_series() {
    let mut ledger = ledger();
    count(&mut ledger, &noise(0..200), limits());
    assert!(ledger.shared_series > 0 && ledger.shared_series < ledger.series);
    let all: Vec<EndpointId> = ledger.endpoints.keys().copied().collect();
    ledger.retire(&all);
    assert_eq!((ledger.series, ledger.shared_series), (0, 0));
}

#[test]
fn reports_the_first_request_over_each_limit() {
    let few = LedgerLimits { routes_per_account: 2, ..limits() };
    let full = LedgerLimits { series: 0, ..limits() };
    let mut code = on(NOISY, "/a");
    if let Fact::Event { observation, .. } = &mut code {
        observation.verdict.code = Code::from_status(404).expect("a code");
    }
    for (facts, limits, route, exceeded) in [
        (noise(0..4), few, "/aac", Exceeded::Endpoints),
        (noise(1..4), full, "/aab", Exceeded::Series),
        (vec![code], full, "/a", Exceeded::CodeSeries),
    ] {
        let mut ledger = ledger();
        if exceeded == Exceeded::CodeSeries {
            count(&mut ledger, &[on(NOISY, "/a")], super::limits());
        }
        let entry = Entry { account: ACCOUNT, facts: &facts, received_at: None };
        let delta = ledger.apply([entry], limits, now());
        let endpoint = Endpoint { host: NOISY.to_owned(), route: route.to_owned() };
        assert_eq!(delta.first_overflows[&ACCOUNT], Overflow { endpoint, exceeded });
    }
}

fn on(host: &str, route: &str) -> Fact {
    let mut fact = event(route, None);
    if let Fact::Event { observation, .. } = &mut fact {
        observation.endpoint.host = host.to_owned();
    }
    fact
}

/// Returns requests to one host, each on its own route.
fn noise(numbers: std::ops::Range<u32>) -> Vec<Fact> {
    let letter = |number| char::from_digit(10 + number % 26, 36).expect("a letter");
    let route = |at: u32| format!("/a{}{}", letter(at / 26), letter(at));
    numbers.map(|at| on(NOISY, &route(at))).collect()
}

/// Returns requests on two routes of another host.
fn other_host(number: u32) -> Vec<Fact> {
    let host = format!("host{number}.example");
    vec![on(&host, "/voice"), on(&host, "/status")]
}

fn count(ledger: &mut Ledger, facts: &[Fact], limits: LedgerLimits) {
    let entry = Entry { account: ACCOUNT, facts, received_at: None };
    let delta = ledger.apply([entry], limits, now());
    ledger.publish(delta);
}

/// Returns the number of endpoints of each host.
fn hosts(ledger: &Ledger) -> BTreeMap<&str, usize> {
    let mut hosts = BTreeMap::new();
    for entry in ledger.endpoints.values() {
        *hosts.entry(&*entry.endpoint.host).or_default() += 1;
    }
    hosts
}
