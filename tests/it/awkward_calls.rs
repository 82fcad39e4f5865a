//! Exact counts despite Twilio's quirks: events that appear one by one, responses that are filled in later,
//! redaction, and call lists that show a call late or twice or filter by day only.

use twilio_call_exporter::simulator::{Behaviour, WorldConfig};

use crate::harness::{
    Program, Scrape, Twilio, eventually, everything, metric, ongoing_calls, world_of,
};

#[tokio::test(flavor = "multi_thread")]
async fn events_that_appear_one_by_one_after_the_call_are_counted_once() {
    let behaviour = Behaviour { events_apart: 1, ..Behaviour::default() };
    assert_counted(ongoing_calls(1, 50), behaviour, &[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn responses_filled_in_before_settling_are_counted_once() {
    let behaviour = Behaviour { answers_after: 3, ..Behaviour::default() };
    assert_counted(ongoing_calls(1, 50), behaviour, &[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn events_redacted_between_settling_and_audit_are_not_counted_again() {
    let behaviour = Behaviour { redact_after: 11, ..Behaviour::default() };
    let delays = [("TWILIO_EXPORTER_POLL__AUDIT_AFTER", "6s")];
    let (twilio, mut program, _) = assert_counted(ongoing_calls(1, 50), behaviour, &delays).await;
    let scrape = eventually("calls are audited", async || {
        let scrape = program.scrape().await;
        let audited = metric("twilio_exporter_audited_calls_total").value_in(&scrape);
        audited.is_some_and(|calls| calls >= 40.0).then_some(scrape)
    })
    .await;
    assert!(metric("twilio_exporter_late_call_events_total").is_in(&scrape, 0.0));
    twilio.wait_until_counted_by(&mut program).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_events_list_that_shrinks_temporarily_loses_nothing() {
    let behaviour = Behaviour { shrink_events: 300, ..Behaviour::default() };
    let twilio = Twilio::serving(ongoing_calls(1, 50)).await;
    twilio.set_behaviour(behaviour);
    // Settle only after Twilio shows everything again: the settling read can't detect a missing event.
    let delays = [("TWILIO_EXPORTER_POLL__SETTLE_DELAY", "12s")];
    let mut program = Program::polling_with(&twilio, &delays).await;
    eventually("calls have ended", async || {
        let ended = metric("twilio_calls_total").value_in(&program.scrape().await);
        ended.filter(|calls| *calls >= 40.0)
    })
    .await;
    twilio.set_behaviour(Behaviour::default());
    twilio.wait_until_counted_by(&mut program).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_listed_late_or_twice_with_day_filters_are_counted_once() {
    // More calls than fit on one page of the maximum size.
    let world = WorldConfig { call_seconds: 1..=2, ..world_of(1_100) };
    let behaviour =
        Behaviour { calls_after: 2, day_filters: true, repeat_calls: true, ..Behaviour::default() };
    // Each call is read once: this test is about finding them.
    let variables = [
        ("TWILIO_EXPORTER_POLL__AFTER_END", "[]"),
        ("TWILIO_EXPORTER_POLL__AUDIT_AFTER", "1h"),
        ("TWILIO_EXPORTER_API__MAX_CONCURRENCY", "16"),
    ];
    assert_counted(world, behaviour, &variables).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_of_call_is_counted_despite_several_quirks_at_once() {
    let behaviour = Behaviour {
        answers_after: 2,
        calls_after: 3,
        day_filters: true,
        strict_start_time: true,
        ..Behaviour::default()
    };
    assert_counted(everything(2, 1), behaviour, &[]).await;
}

/// Starts a program and waits until it has counted the world, which Twilio serves with `behaviour`.
async fn assert_counted(
    world: WorldConfig,
    behaviour: Behaviour,
    variables: &[(&str, &str)],
) -> (Twilio, Program, Scrape) {
    let twilio = Twilio::serving(world).await;
    twilio.set_behaviour(behaviour);
    let mut program = Program::polling_with(&twilio, variables).await;
    let scrape = twilio.wait_until_counted_by(&mut program).await;
    (twilio, program, scrape)
}
