//! Places and series that are kept for hosts without an endpoint.

use super::*;

const NOISY: &str = "noisy.example";

#[test]
fn the_routes_of_one_host_leave_room_for_other_hosts() {
    for (routes_per_account, noisy, others) in
        [(100, 80, 20), (150, 130, 20), (10, 8, 2), (5, 4, 1), (4, 4, 0), (1, 1, 0)]
    {
        let mut ledger = ledger();
        let limits = LedgerLimits { routes_per_account, ..limits() };
        // In one commit, and in many.
        count(&mut ledger, &noise(0..60), limits);
        (60..200).for_each(|at| count(&mut ledger, &noise(at..at + 1), limits));
        assert_eq!(hosts(&ledger), BTreeMap::from([(NOISY, noisy), ("other", 1)]));
        let facts: Vec<Fact> = (0..30).flat_map(other_host).collect();
        facts.chunks(7).for_each(|facts| count(&mut ledger, facts, limits));
        let places = hosts(&ledger);
        assert_eq!(places[NOISY], noisy, "{routes_per_account}");
        assert_eq!(places.len(), others + 2, "{routes_per_account}: {places:?}");
        assert_eq!(ledger.endpoints.len(), routes_per_account + 1);
    }
}

#[test]
fn the_series_of_one_host_leave_room_for_hosts_without_any() {
    let mut ledger = ledger();
    let limits = LedgerLimits { series: 3_000, ..limits() };
    count(&mut ledger, &noise(0..200), limits);
    let noisy = hosts(&ledger)[NOISY];
    assert!((20..80).contains(&noisy), "{noisy}");
    // Nor do the kinds and codes of its routes take what is kept.
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
    let places = hosts(&ledger);
    assert!((0..5).all(|at| places.contains_key(&*format!("host{at}.example"))), "{places:?}");
    assert!(ledger.series() <= limits.series + ACCOUNT_SERIES + 419, "{}", ledger.series());
}

#[test]
fn a_host_without_a_place_finds_one_where_the_limit_was_lowered() {
    let mut ledger = ledger();
    count(&mut ledger, &noise(0..80), limits());
    let lower = LedgerLimits { routes_per_account: 20, ..limits() };
    let facts: Vec<Fact> = (0..10).flat_map(other_host).chain(noise(80..90)).collect();
    count(&mut ledger, &facts, lower);
    let places = hosts(&ledger);
    assert_eq!(places[NOISY], 80, "what is known stays");
    // A fifth of the lower limit, the noisy host among them.
    assert_eq!(places.len(), 4 + 1, "{places:?}");
}

#[test]
fn a_host_whose_routes_have_retired_finds_a_place_again() {
    let mut ledger = ledger();
    count(&mut ledger, &other_host(0), limits());
    count(&mut ledger, &noise(0..90), limits());
    let of_host = |(_, entry): &(&EndpointId, &EndpointEntry)| entry.endpoint.host != NOISY;
    let retired: Vec<EndpointId> =
        ledger.endpoints.iter().filter(of_host).map(|(id, _)| *id).collect();
    ledger.retire(&retired);
    count(&mut ledger, &noise(90..120), limits());
    assert_eq!(hosts(&ledger)[NOISY], 80);
    count(&mut ledger, &other_host(0), limits());
    assert_eq!(hosts(&ledger)["host0.example"], 1);
}

#[test]
fn an_endpoint_that_the_user_names_finds_a_place_where_all_are_taken() {
    let mut ledger = ledger();
    count(&mut ledger, &noise(0..200), limits());
    let facts: Vec<Fact> = (0..30).flat_map(other_host).collect();
    count(&mut ledger, &facts, limits());
    assert_eq!(ledger.endpoints_of(ACCOUNT).count(), 100);
    let named = (0..50).map(|number| {
        let mut named = on(NOISY, &format!("/:name/{number}"));
        if let Fact::Event { observation, .. } = &mut named {
            observation.is_configured = true;
        }
        named
    });
    count(&mut ledger, &named.collect::<Vec<_>>(), limits());
    let is_named = |endpoint: &&Endpoint| endpoint.route.starts_with("/:name");
    assert_eq!(ledger.endpoints_of(ACCOUNT).filter(is_named).count(), 20);
}

#[test]
fn what_retires_leaves_no_series() {
    let mut ledger = ledger();
    count(&mut ledger, &noise(0..200), limits());
    assert!(ledger.shared_series > 0 && ledger.shared_series < ledger.series);
    let all: Vec<EndpointId> = ledger.endpoints.keys().copied().collect();
    ledger.retire(&all);
    assert_eq!((ledger.series, ledger.shared_series), (0, 0));
}

#[test]
fn what_there_is_no_room_for_is_told_with_the_first_request() {
    let few = LedgerLimits { routes_per_account: 2, ..limits() };
    let full = LedgerLimits { series: 0, ..limits() };
    let mut code = on(NOISY, "/a");
    if let Fact::Event { observation, .. } = &mut code {
        observation.verdict.code = Code::from_status(404).expect("a code");
    }
    for (facts, limits, route, missing) in [
        (noise(0..4), few, "/aac", Exceeded::Endpoints),
        (noise(1..4), full, "/aab", Exceeded::Series),
        (vec![code], full, "/a", Exceeded::CodeSeries),
    ] {
        let mut ledger = ledger();
        if missing == Exceeded::CodeSeries {
            count(&mut ledger, &[on(NOISY, "/a")], super::limits());
        }
        let entry = Entry { account: ACCOUNT, facts: &facts, learnt_at: None };
        let delta = ledger.apply([entry], limits, now());
        let endpoint = Endpoint { host: NOISY.to_owned(), route: route.to_owned() };
        assert_eq!(delta.first_overflows[&ACCOUNT], Overflow { endpoint, missing });
    }
}

fn on(host: &str, route: &str) -> Fact {
    let mut fact = event(route, None);
    if let Fact::Event { observation, .. } = &mut fact {
        observation.endpoint.host = host.to_owned();
    }
    fact
}

/// Requests of one host, each on a route of its own.
fn noise(numbers: std::ops::Range<u32>) -> Vec<Fact> {
    let letter = |number| char::from_digit(10 + number % 26, 36).expect("a letter");
    let route = |at: u32| format!("/a{}{}", letter(at / 26), letter(at));
    numbers.map(|at| on(NOISY, &route(at))).collect()
}

/// Two routes of another host.
fn other_host(number: u32) -> Vec<Fact> {
    let host = format!("host{number}.example");
    vec![on(&host, "/voice"), on(&host, "/status")]
}

fn count(ledger: &mut Ledger, facts: &[Fact], limits: LedgerLimits) {
    let entry = Entry { account: ACCOUNT, facts, learnt_at: None };
    let delta = ledger.apply([entry], limits, now());
    ledger.publish(delta);
}

/// The endpoints of each host.
fn hosts(ledger: &Ledger) -> BTreeMap<&str, usize> {
    let mut hosts = BTreeMap::new();
    for entry in ledger.endpoints.values() {
        *hosts.entry(&*entry.endpoint.host).or_default() += 1;
    }
    hosts
}
