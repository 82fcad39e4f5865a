//! Calls with failures, under the endpoint of the request that decided.

use super::*;

#[test]
fn an_endpoint_that_callers_hear_has_every_outcome_at_zero_and_one_of_callbacks_has_none() {
    for kind in RequestKind::ALL.iter().filter(|kind| **kind != RequestKind::ApiRequest) {
        let mut ledger = ledger();
        ledger.publish(apply(&ledger, &[of_kind(*kind, event("/a", None))]));
        let callback = kind.as_str().ends_with("_callback");
        let expected: &[u64] = if callback { &[] } else { &[0, 0] };
        assert_eq!(outcomes(&ledger, "/a"), expected, "{kind}");
    }
}

#[test]
fn the_first_cut_off_of_a_new_endpoint_is_held_back_with_the_rest_of_it() {
    let mut ledger = scraped();
    ledger.publish(apply(&ledger, &[event("/a", Some(Reason::Timeout)), cut_off("/a")]));
    assert_eq!(outcomes(&ledger, "/a"), [0, 0]);
    ledger.release(&ledger.shown().held);
    assert_eq!(outcomes(&ledger, "/a"), [1, 0]);
}

#[test]
fn an_endpoint_of_callbacks_that_is_asked_for_a_sound_begins_its_outcomes_at_zero() {
    let mut ledger = ledger();
    ledger.publish(apply(&ledger, &[of_kind(RequestKind::StatusCallback, event("/a", None))]));
    ledger.mark_shown(&ledger.shown(), now());
    let sound = of_kind(RequestKind::Media, event("/a", Some(Reason::Timeout)));
    let cut_off = of_kind(RequestKind::Media, cut_off("/a"));
    ledger.publish(apply(&ledger, &[sound, cut_off]));
    assert_eq!(outcomes(&ledger, "/a"), [0, 0]);
    ledger.release(&ledger.shown().held);
    assert_eq!(outcomes(&ledger, "/a"), [1, 0]);
}

#[test]
fn an_outcome_whose_endpoint_is_gone_or_is_named_otherwise_brings_it_back_at_zero() {
    let mut ledger = scraped();
    ledger.publish(apply(&ledger, &[event("/a", Some(Reason::Timeout))]));
    ledger.release(&ledger.shown().held);
    // It has retired, or the configuration has a pattern for it since.
    let all: Vec<EndpointId> = ledger.endpoints.keys().copied().collect();
    ledger.retire(&all);
    let later = after(now(), TWO_YEARS);
    let facts = [cut_off("/a"), cut_off("/:named")];
    let entry = Entry { account: ACCOUNT, facts: &facts, learnt_at: Some(later) };
    ledger.publish(ledger.apply([entry], limits(), now()));
    for route in ["/a", "/:named"] {
        assert_eq!(outcomes(&ledger, route), [0, 0]);
    }
    ledger.release(&ledger.shown().held);
    for route in ["/a", "/:named"] {
        assert_eq!(outcomes(&ledger, route), [1, 0]);
    }
    assert_eq!(ledger.idle_endpoints(ACCOUNT, later), [], "it is as young as its outcome");
    assert!(
        exposition(&ledger)
            .contains("count{account=\"prod\",host=\"h\",route=\"/a\",kind=\"voice_url\"} 0\n")
    );
}

#[test]
fn an_outcome_of_old_news_that_brings_its_endpoint_is_shown_at_once() {
    let mut ledger = scraped();
    let Fact::Outcome { outcome, decided_by, at, .. } = cut_off("/a") else {
        unreachable!("an outcome is an outcome")
    };
    let fact = Fact::Outcome { outcome, decided_by, at, is_history: true };
    ledger.publish(apply(&ledger, &[fact]));
    assert_eq!(outcomes(&ledger, "/a"), [1, 0]);
    assert!(ledger.shown().held.is_empty());
}

#[test]
fn over_the_caps_an_outcome_is_counted_where_its_event_is() {
    for (limits, over) in [
        (LedgerLimits { routes_per_account: 1, ..limits() }, 1),
        (LedgerLimits { series: 60, ..limits() }, 2),
    ] {
        let mut ledger = ledger();
        let events = [event("/a", None), event("/b", Some(Reason::Timeout)), cut_off("/b")];
        let kind = |fact| of_kind(RequestKind::GatherAction, fact);
        // A new kind of a known endpoint may find no room either.
        let kinds = [kind(event("/a", Some(Reason::Timeout))), kind(cut_off("/a"))];
        let facts = [events.as_slice(), kinds.as_slice()].concat();
        let entry = Entry { account: ACCOUNT, facts: &facts, learnt_at: None };
        let delta = ledger.apply([entry], limits, now());
        assert_eq!(delta.overflowed[&ACCOUNT], over, "only requests overflow: {limits:?}");
        ledger.publish(delta);
        let places = [outcomes(&ledger, "/a"), outcomes(&ledger, "other")];
        assert_eq!(places, [vec![2 - over, 0], vec![over, 0]], "{limits:?}");
    }
}

#[test]
fn what_was_counted_by_account_alone_is_shown_without_an_endpoint_where_it_is_above_zero() {
    let mut ledger = ledger();
    ledger.publish(apply(&ledger, &[event("/a", None)]));
    assert_eq!(outcomes(&ledger, ""), [0; 0], "none is begun");
    ledger.add(Scope::Account(ACCOUNT), Cell::Outcomes(Outcome::CutOff), 5);
    ledger.publish(apply(&ledger, &[cut_off("/a")]));
    assert_eq!(outcomes(&ledger, ""), [5]);
    assert_eq!(outcomes(&ledger, "/a"), [1, 0]);
}

#[test]
fn each_series_of_an_endpoint_is_counted_whichever_kind_comes_first() {
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
        // Each group has one more for codes that find no room.
        assert_eq!(at_once.series, shown + kinds.len(), "{kinds:?}");
        assert_eq!(one_by_one.series, at_once.series, "{kinds:?}");
    }
}

/// The outcomes that a route shows.
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
        Fact::Finished(..) | Fact::Reported { .. } => unreachable!("of no kind"),
    }
    fact
}

/// A ledger that an answer has shown.
fn scraped() -> Ledger {
    let mut ledger = ledger();
    ledger.mark_shown(&ledger.shown(), now());
    ledger
}
