//! How facts change the ledger, and how a scrape shows it.

mod exposure;
mod outcomes;
mod places;

use std::collections::BTreeSet;

use super::super::exposition::{Exposition, Format};
use super::super::snapshot;
use super::apply::duration_bound;
use super::*;
use crate::domain::judge::observe::Observation;
use crate::domain::judge::verdict::Verdict;
use crate::domain::track::twilio_time::after;
use crate::domain::words::sid::CallSid;

const ACCOUNT: AccountId = AccountId(1);
const TWO_YEARS: Duration = Duration::from_secs(2 * 365 * 86_400);

#[test]
fn a_delta_changes_nothing_until_it_is_published() {
    let mut ledger = ledger();
    let delta = apply(&ledger, &[event("/a", Some(Reason::Timeout))]);
    assert!(ledger.groups.is_empty() && ledger.cells.is_empty());
    ledger.publish(delta);
    assert_eq!(ledger.groups.len(), 1);
    let group = Scope::Group(GroupId(1));
    assert_eq!(ledger.value(group, Cell::Failures(Reason::Timeout)), 1);
    assert_eq!(ledger.value(group, Cell::DurationBucket(Some(250))), 1);
    assert_eq!(ledger.value(group, Cell::DurationSum), 143);
}

#[test]
fn a_duration_equal_to_a_bound_falls_into_its_bucket() {
    for (duration, expected) in
        [(0, Some(50)), (50, Some(50)), (51, Some(100)), (15_000, Some(15_000)), (15_001, None)]
    {
        assert_eq!(duration_bound(duration), expected, "{duration}");
    }
}

#[test]
fn a_new_group_shows_every_reason_at_zero() {
    let mut ledger = ledger();
    ledger.publish(apply(&ledger, &[event("/a", None)]));
    let text = exposition(&ledger);
    for reason in Reason::ALL {
        let line = format!(
            "twilio_webhook_failures_total{{account=\"prod\",host=\"h\",route=\"/a\",kind=\"voice_url\",reason=\"{reason}\"}} 0\n"
        );
        assert!(text.contains(&line), "{line} in {text}");
    }
    assert!(text.contains("route=\"/a\",content_type=\"application/json\"} 0\n"), "{text}");
    assert!(text.contains("le=\"15.0\"} 1\n") && text.contains("le=\"0.1\"} 0\n"), "{text}");
    assert!(text.contains(
        "duration_seconds_sum{account=\"prod\",host=\"h\",route=\"/a\",kind=\"voice_url\"} 0.143\n"
    ));
}

#[test]
fn routes_over_the_limit_share_one_and_are_counted() {
    let mut ledger = ledger();
    let limits = LedgerLimits { routes_per_account: 2, ..limits() };
    let facts: Vec<Fact> = ["/a", "/b", "/c", "/d", "/a"].map(|route| event(route, None)).into();
    let entry = Entry { account: ACCOUNT, facts: &facts, received_at: None };
    let delta = ledger.apply([entry], limits, now());
    assert_eq!(delta.overflowed[&ACCOUNT], 2);
    ledger.publish(delta);
    let routes: BTreeSet<&str> =
        ledger.endpoints.values().map(|entry| entry.endpoint.route.as_str()).collect();
    assert_eq!(routes, BTreeSet::from(["/a", "/b", "other"]));
    let again =
        ledger.apply([Entry { account: ACCOUNT, facts: &facts, received_at: None }], limits, now());
    assert_eq!(again.overflowed[&ACCOUNT], 2);
    assert!(again.endpoints.is_empty());
}

#[test]
fn failed_requests_carry_the_endpoint_they_were_counted_under() {
    let mut ledger = ledger();
    let limits = LedgerLimits { routes_per_account: 1, ..limits() };
    let failed = |route| event(route, Some(Reason::Timeout));
    let facts = [failed("/a"), event("/a", None), failed("/b"), cut_off("/b")];
    let delta =
        ledger.apply([Entry { account: ACCOUNT, facts: &facts, received_at: None }], limits, now());
    let failures = delta.failures.clone();
    ledger.publish(delta);
    let routes: Vec<&str> = failures
        .iter()
        .map(|failed| ledger.endpoints[&failed.endpoint].endpoint.route.as_str())
        .collect();
    assert_eq!(routes, ["/a", "other"]);
    let expected = FailedRequest {
        account: ACCOUNT,
        endpoint: failures[0].endpoint,
        kind: RequestKind::VoiceUrl,
        at: now(),
        code: Code::from_status(200).expect("a code"),
        reason: Reason::Timeout,
        malformation: None,
        duration_ms: Some(143),
        call_sid: call_sid(),
    };
    assert_eq!(failures[0], expected);
}

#[test]
fn a_full_ledger_counts_new_routes_under_the_shared_one() {
    let mut ledger = ledger();
    let limits = LedgerLimits { series: 0, ..limits() };
    let facts = [event("/a", None)];
    let entry = Entry { account: ACCOUNT, facts: &facts, received_at: None };
    let delta = ledger.apply([entry], limits, now());
    assert_eq!(delta.overflowed[&ACCOUNT], 1);
    ledger.publish(delta);
    assert!(
        exposition(&ledger)
            .contains("host=\"other\",route=\"other\",kind=\"voice_url\",code=\"200\"} 1\n")
    );
}

#[test]
fn a_full_ledger_counts_new_kinds_of_a_known_route_under_the_shared_one() {
    let mut ledger = ledger();
    ledger.publish(apply(&ledger, &[event("/a", None)]));
    let Fact::Event { mut observation, call_sid, at, is_history } = event("/a", None) else {
        unreachable!("event() returns an event")
    };
    observation.kind = RequestKind::GatherAction;
    let facts = [Fact::Event { observation, call_sid, at, is_history }, event("/a", None)];
    let limits = LedgerLimits { series: 40, ..limits() };
    let delta =
        ledger.apply([Entry { account: ACCOUNT, facts: &facts, received_at: None }], limits, now());
    assert_eq!(delta.overflowed[&ACCOUNT], 1);
    ledger.publish(delta);
    let text = exposition(&ledger);
    assert!(text.contains("route=\"other\",kind=\"gather_action\",code=\"200\"} 1\n"), "{text}");
    assert!(text.contains("route=\"/a\",kind=\"voice_url\",code=\"200\"} 2\n"));
}

#[test]
fn before_the_first_scrape_a_group_shows_its_values_at_once() {
    let mut ledger = ledger();
    ledger.publish(apply(&ledger, &[event("/a", None)]));
    assert!(ledger.shown().held.is_empty());
    ledger.mark_shown(&ledger.shown(), now());
    ledger.publish(apply(&ledger, &[event("/b", None)]));
    assert_eq!(ledger.shown().held.len(), 2, "endpoint and group of /b");
    assert!(exposition(&ledger).contains("route=\"/b\",kind=\"voice_url\",code=\"200\"} 0\n"));
}

#[test]
fn a_held_group_is_released_after_a_scrape_has_shown_it() {
    let mut ledger = ledger();
    ledger.mark_shown(&ledger.shown(), now());
    ledger.publish(apply(&ledger, &[event("/b", None)]));
    let hold = limits().hold_back;
    assert_eq!(ledger.due_releases(hold, after(now(), Duration::from_secs(299))), []);
    let unseen = ledger.due_releases(hold, after(now(), Duration::from_secs(300)));
    assert_eq!(unseen.len(), 2, "without scrapes, released after five minutes");
    let shown = ledger.shown();
    ledger.mark_shown(&shown, after(now(), Duration::from_secs(10)));
    ledger.mark_shown(&shown, after(now(), Duration::from_secs(40)));
    assert_eq!(ledger.due_releases(hold, after(now(), Duration::from_secs(74))), []);
    let due = ledger.due_releases(hold, after(now(), Duration::from_secs(75)));
    assert_eq!(due, shown.held);
    ledger.release(&due);
    assert!(ledger.shown().held.is_empty());
    assert!(exposition(&ledger).contains("route=\"/b\",kind=\"voice_url\",code=\"200\"} 1\n"));
}

#[test]
fn content_types_of_a_known_endpoint_start_at_zero() {
    let mut ledger = ledger();
    let Fact::Event { mut observation, call_sid, at, is_history } = event("/a", None) else {
        unreachable!("event() returns an event")
    };
    observation.kind = RequestKind::StatusCallback;
    observation.verdict.content_type = None;
    ledger.publish(apply(&ledger, &[Fact::Event { observation, call_sid, at, is_history }]));
    ledger.mark_shown(&ledger.shown(), now());
    let line = "route=\"/a\",content_type=\"text/xml\"}";
    assert!(!exposition(&ledger).contains(line), "no TwiML has been requested");
    ledger.publish(apply(&ledger, &[event("/a", None)]));
    assert!(exposition(&ledger).contains(&format!("{line} 0\n")));
    ledger.release(&ledger.shown().held);
    assert!(exposition(&ledger).contains(&format!("{line} 1\n")));
}

#[test]
fn history_is_shown_at_once_and_so_is_everything_without_hold_back() {
    let mut ledger = ledger();
    ledger.mark_shown(&ledger.shown(), now());
    let Fact::Event { observation, call_sid, at, .. } = event("/a", None) else {
        unreachable!("event() returns an event")
    };
    let facts = [Fact::Event { observation, call_sid, at, is_history: true }];
    let first = Entry { account: ACCOUNT, facts: &facts, received_at: None };
    ledger.publish(ledger.apply([first], limits(), now()));
    let facts = [event("/b", None)];
    let entry = Entry { account: ACCOUNT, facts: &facts, received_at: None };
    let limits = LedgerLimits { hold_back: Duration::ZERO, ..limits() };
    ledger.publish(ledger.apply([entry], limits, now()));
    assert!(ledger.shown().held.is_empty());
}

#[test]
fn an_exemplar_has_twilios_time_of_counting() {
    let mut ledger = ledger();
    let (facts, received_at) = ([event("/a", Some(Reason::Timeout))], after(now(), TWO_YEARS));
    let entry = Entry { account: ACCOUNT, facts: &facts, received_at: Some(received_at) };
    ledger.publish(ledger.apply([entry], limits(), now()));
    let exemplars: Vec<_> = ledger.exemplars.values().flat_map(BTreeMap::values).collect();
    assert!(!exemplars.is_empty());
    assert!(exemplars.iter().all(|exemplar| exemplar.at == received_at), "{exemplars:?}");
}

#[test]
fn a_hidden_account_shows_nothing_and_keeps_its_values() {
    let mut ledger = ledger();
    ledger.publish(apply(&ledger, &[event("/a", None), cut_off("/a")]));
    ledger.hide(ACCOUNT);
    assert_eq!(exposition(&ledger), "");
    ledger.show(ACCOUNT, "renamed".to_owned(), now());
    let text = exposition(&ledger);
    let line = "{account=\"renamed\",host=\"h\",route=\"/a\",outcome=\"cut_off\"} 1\n";
    assert!(text.contains(line), "{text}");
}

fn ledger() -> Ledger {
    let mut ledger = Ledger::default();
    ledger.show(ACCOUNT, "prod".to_owned(), now());
    ledger.show_error_log(ACCOUNT);
    ledger
}

fn limits() -> LedgerLimits {
    LedgerLimits { routes_per_account: 100, series: 100_000, hold_back: Duration::from_secs(65) }
}

fn apply(ledger: &Ledger, facts: &[Fact]) -> Delta {
    ledger.apply([Entry { account: ACCOUNT, facts, received_at: None }], limits(), now())
}

fn event(route: &str, failure: Option<Reason>) -> Fact {
    Fact::Event {
        observation: Observation {
            endpoint: Endpoint { host: "h".to_owned(), route: route.to_owned() },
            is_configured: false,
            kind: RequestKind::VoiceUrl,
            duration_ms: Some(143),
            has_invalid_duration: false,
            verdict: Verdict {
                code: Code::from_status(200).expect("a code"),
                failure,
                malformation: None,
                content_type: Some(ContentType::TextXml),
                warning: None,
                is_unjudged: false,
            },
        },
        call_sid: call_sid(),
        at: now(),
        is_history: false,
    }
}

/// Returns the outcome of a call cut off by a failure on a route.
fn cut_off(route: &str) -> Fact {
    let Fact::Event { observation, at, is_history, .. } = event(route, Some(Reason::Timeout))
    else {
        unreachable!("event() returns an event")
    };
    Fact::Outcome { outcome: Outcome::CutOff, decided_by: observation, at, is_history }
}

fn exposition(ledger: &Ledger) -> String {
    let mut exposition = Exposition::new(Format::Text);
    snapshot::write(ledger, false, &mut exposition);
    exposition.finish().concat()
}

fn now() -> Timestamp {
    Timestamp::from_second(1_700_000_000).expect("an instant")
}

fn call_sid() -> CallSid {
    CallSid::parse("CA00000000000000000000000000000009").expect("a SID")
}
