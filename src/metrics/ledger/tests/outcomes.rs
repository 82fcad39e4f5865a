//! Calls with failures, by the endpoint of the request that decided the outcome.

use super::*;

#[test]
fn caller_facing_endpoints_start_with_every_outcome_at_zero_and_callbacks_with_none() {
    for kind in RequestKind::ALL.iter().filter(|kind| **kind != RequestKind::ApiRequest) {
        let mut ledger = ledger();
        ledger.publish(apply(&ledger, &[of_kind(*kind, event("/a", None))]));
        let callback = kind.as_str().ends_with("_callback");
        let expected: &[u64] = if callback { &[] } else { &[0, 0] };
        assert_eq!(outcomes(&ledger, "/a"), expected, "{kind}");
    }
}

#[test]
fn the_first_cut_off_of_a_new_endpoint_is_held_back() {
    let mut ledger = scraped();
    ledger.publish(apply(&ledger, &[event("/a", Some(Reason::Timeout)), cut_off("/a")]));
    assert_eq!(outcomes(&ledger, "/a"), [0, 0]);
    ledger.release(&ledger.shown().held);
    assert_eq!(outcomes(&ledger, "/a"), [1, 0]);
}

#[test]
fn outcomes_of_a_known_endpoint_start_at_zero() {
    let mut ledger = ledger();
    ledger.publish(apply(&ledger, &[of_kind(RequestKind::StatusCallback, event("/a", None))]));
    ledger.mark_shown(&ledger.shown(), now());
    let media = of_kind(RequestKind::Media, event("/a", Some(Reason::Timeout)));
    let cut_off = of_kind(RequestKind::Media, cut_off("/a"));
    ledger.publish(apply(&ledger, &[media, cut_off]));
    assert_eq!(outcomes(&ledger, "/a"), [0, 0]);
    ledger.release(&ledger.shown().held);
    assert_eq!(outcomes(&ledger, "/a"), [1, 0]);
}

#[test]
fn an_outcome_recreates_a_retired_or_renamed_endpoint_at_zero() {
    let mut ledger = scraped();
    ledger.publish(apply(&ledger, &[event("/a", Some(Reason::Timeout))]));
    ledger.release(&ledger.shown().held);
    // The endpoint has been retired, or the configuration now has a pattern for it.
    let all: Vec<EndpointId> = ledger.endpoints.keys().copied().collect();
    ledger.retire(&all);
    let later = after(now(), TWO_YEARS);
    let facts = [cut_off("/a"), cut_off("/:named")];
    let entry = Entry { account: ACCOUNT, facts: &facts, received_at: Some(later) };
    ledger.publish(ledger.apply([entry], limits(), now()));
    for route in ["/a", "/:named"] {
        assert_eq!(outcomes(&ledger, route), [0, 0]);
    }
    ledger.release(&ledger.shown().held);
    for route in ["/a", "/:named"] {
        assert_eq!(outcomes(&ledger, route), [1, 0]);
    }
    assert_eq!(
        ledger.idle_endpoints(ACCOUNT, later),
        [],
        "the outcome counts as an event of the endpoint"
    );
    assert!(
        exposition(&ledger)
            .contains("count{account=\"prod\",host=\"h\",route=\"/a\",kind=\"voice_url\"} 0\n")
    );
}

#[test]
fn a_past_outcome_that_creates_its_endpoint_is_shown_at_once() {
    let mut ledger = scraped();
    let Fact::Outcome { outcome, decided_by, at, .. } = cut_off("/a") else {
        unreachable!("cut_off() returns an outcome")
    };
    let fact = Fact::Outcome { outcome, decided_by, at, is_history: true };
    ledger.publish(apply(&ledger, &[fact]));
    assert_eq!(outcomes(&ledger, "/a"), [1, 0]);
    assert!(ledger.shown().held.is_empty());
}

#[test]
fn over_the_limits_an_outcome_is_counted_with_its_event() {
    for (limits, over) in [
        (LedgerLimits { routes_per_account: 1, ..limits() }, 1),
        (LedgerLimits { series: 60, ..limits() }, 2),
    ] {
        let mut ledger = ledger();
        let events = [event("/a", None), event("/b", Some(Reason::Timeout)), cut_off("/b")];
        let kind = |fact| of_kind(RequestKind::GatherAction, fact);
        // A new kind of a known endpoint may be over the limit too.
        let kinds = [kind(event("/a", Some(Reason::Timeout))), kind(cut_off("/a"))];
        let facts = [events.as_slice(), kinds.as_slice()].concat();
        let entry = Entry { account: ACCOUNT, facts: &facts, received_at: None };
        let delta = ledger.apply([entry], limits, now());
        assert_eq!(delta.overflowed[&ACCOUNT], over, "only requests overflow: {limits:?}");
        ledger.publish(delta);
        let places = [outcomes(&ledger, "/a"), outcomes(&ledger, "other")];
        assert_eq!(places, [vec![2 - over, 0], vec![over, 0]], "{limits:?}");
    }
}

#[test]
fn outcomes_counted_by_account_are_shown_without_an_endpoint_if_above_zero() {
    let mut ledger = ledger();
    ledger.publish(apply(&ledger, &[event("/a", None)]));
    assert_eq!(outcomes(&ledger, ""), [0; 0], "none starts at 0");
    ledger.add(Scope::Account(ACCOUNT), Cell::Outcomes(Outcome::CutOff), 5);
    ledger.publish(apply(&ledger, &[cut_off("/a")]));
    assert_eq!(outcomes(&ledger, ""), [5]);
    assert_eq!(outcomes(&ledger, "/a"), [1, 0]);
}

#[test]
fn series_are_counted_whichever_kind_comes_first() {
    use RequestKind::{GatherAction, Media, StatusCallback, VoiceUrl};
    for kinds in [
        vec![StatusCallback],
        vec![Media],
        vec![VoiceUrl],
        vec![Media, VoiceUrl, GatherAction],
        vec![VoiceUrl, Media, StatusCallback],
        vec![StatusCallback, Media],
    ] {
        let facts: Vec<Fact> = kinds.iter().map(|kind| of_kind(*kind, event("/a", None))).collect();
        let mut at_once = ledger();
        at_once.publish(apply(&at_once, &facts));
        let mut one_by_one = ledger();
        for fact in facts {
            one_by_one.publish(apply(&one_by_one, &[fact]));
        }
        let shown = exposition(&at_once).lines().filter(|line| line.contains("host=\"h\"")).count();
        // Each group has another series for codes over the limit.
        assert_eq!(at_once.series, shown + kinds.len(), "{kinds:?}");
        assert_eq!(one_by_one.series, at_once.series, "{kinds:?}");
    }
}

/// Returns the counts of outcomes that a route shows.
fn outcomes(ledger: &Ledger, route: &str) -> Vec<u64> {
    let (family, label) =
        ("twilio_calls_with_webhook_failures_total{", format!("route=\"{route}\","));
    let text = exposition(ledger);
    let lines = text.lines().filter(|line| line.starts_with(family) && line.contains(&label));
    lines.map(|line| line.rsplit_once(' ').expect("a value").1.parse().expect("a count")).collect()
}

fn of_kind(kind: RequestKind, mut fact: Fact) -> Fact {
    match &mut fact {
        Fact::Event { observation, .. } | Fact::Outcome { decided_by: observation, .. } => {
            observation.kind = kind;
        }
        Fact::Finished(..) | Fact::Reported { .. } => unreachable!("the fact has no kind"),
    }
    fact
}

/// Returns a ledger that has been scraped.
fn scraped() -> Ledger {
    let mut ledger = ledger();
    ledger.mark_shown(&ledger.shown(), now());
    ledger
}
