//! The counters equal what happened, through restarts, kills and faults.

use std::time::Duration;

use jiff::SignedDuration;
use twilio_call_exporter::simulator::{Behaviour, Stall, WorldConfig};

use crate::harness::{Program, Twilio, eventually, everything, metric, ongoing_calls, world_of};

#[tokio::test(flavor = "multi_thread")]
async fn the_counters_match_a_mixed_world() {
    let twilio = Twilio::serving(everything(3, 1)).await;
    let mut program = Program::polling(&twilio).await;
    let scrape = twilio.wait_until_counted_by(&mut program).await;
    for (reason, expected) in [("malformed", 3.0), ("invalid_url", 1.0), ("invalid_code", 2.0)] {
        let truth = twilio.truth();
        let labels = [("reason", reason)];
        let rejected = truth.value("twilio_exporter_call_events_rejected_total", &labels);
        assert!(rejected >= expected, "the world has too few {reason}: {rejected}");
        let metric = metric("twilio_exporter_call_events_rejected_total").label("reason", reason);
        assert!(metric.is_in(&scrape, rejected), "{reason}: {:?}", metric.value_in(&scrape));
    }
    // Settling and audit reads count nothing twice.
    eventually("calls are audited", async || {
        let audited = metric("twilio_exporter_audited_calls_total");
        audited.value_in(&program.scrape().await).filter(|calls| *calls >= 100.0)
    })
    .await;
    twilio.wait_until_counted_by(&mut program).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_program_loses_nothing_and_counts_nothing_twice() {
    let twilio = Twilio::serving(everything(2, 1)).await;
    let mut program = Program::polling(&twilio).await;
    let total = twilio.truth().value("twilio_webhook_requests_total", &[]);
    let mut last = None;
    for part in [0.1, 0.3, 0.6] {
        let scrape = eventually("some events are counted", async || {
            let scrape = program.scrape().await;
            let counted = metric("twilio_webhook_requests_total").value_in(&scrape);
            counted.is_some_and(|counted| counted >= total * part).then_some(scrape)
        })
        .await;
        program = program.kill_and_restart().await;
        let after = program.scrape().await;
        after.assert_not_below(&scrape);
        last = Some(scrape);
    }
    let scrape = twilio.wait_until_counted_by(&mut program).await;
    scrape.assert_not_below(&last.expect("a scrape"));
    assert!(program.stop().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_in_progress_when_it_is_killed_are_counted_once() {
    let twilio = Twilio::serving(ongoing_calls(2, 40)).await;
    let mut program = Program::polling(&twilio).await;
    for calls in [10.0, 20.0, 40.0] {
        eventually("calls are counted", async || {
            metric("twilio_calls_total").value_in(&program.scrape().await).filter(|n| *n >= calls)
        })
        .await;
        program = program.kill_and_restart().await;
    }
    twilio.wait_until_counted_by(&mut program).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn frequent_errors_from_twilio_change_no_count() {
    let twilio = Twilio::serving(WorldConfig { accounts: 2, ..world_of(60) }).await;
    twilio.set_behaviour(Behaviour {
        error_rate: 100,
        truncate_body: 50,
        html_instead: 50,
        max_concurrent: Some(2),
        stall: Stall { permille: 20, seconds: 1 },
        ..Behaviour::default()
    });
    let mut program = Program::polling(&twilio).await;
    twilio.wait_until_counted_by(&mut program).await;
    let scrape = program.scrape().await;
    let retries = metric("twilio_exporter_api_retries_total").value_in(&scrape);
    assert!(retries.is_some_and(|retries| retries > 0.0), "no request failed");
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_that_shift_during_a_read_count_nothing_twice() {
    let twilio = Twilio::serving(everything(1, 1)).await;
    twilio.set_behaviour(Behaviour { shift_pages: true, ..Behaviour::default() });
    let mut program = Program::polling(&twilio).await;
    eventually("shifted pages are detected", async || {
        let shifted = metric("twilio_exporter_api_retries_total").label("reason", "shifted");
        shifted.value_in(&program.scrape().await).filter(|shifted| *shifted > 0.0)
    })
    .await;
    let truth = twilio.truth();
    for series in &truth.families {
        let mut selector = metric(&series.name);
        for (name, value) in &series.labels {
            selector = selector.label(name, value);
        }
        let counted = selector.value_in(&program.scrape().await).unwrap_or(0.0);
        assert!(counted <= series.value + 1e-6, "{series:?}: counted {counted}");
    }
    twilio.set_behaviour(Behaviour::default());
    twilio.wait_until_counted_by(&mut program).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn events_that_appear_after_a_delay_are_counted() {
    let twilio =
        Twilio::serving(WorldConfig { backlog: Duration::from_secs(306), ..world_of(30) }).await;
    twilio.set_behaviour(Behaviour { events_after: 3, ..Behaviour::default() });
    let mut program = Program::polling(&twilio).await;
    twilio.wait_until_counted_by(&mut program).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_local_clock_hours_ahead_loses_nothing() {
    assert_nothing_lost_with_twilio_ahead_by(SignedDuration::from_hours(-3)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_local_clock_hours_behind_loses_nothing() {
    assert_nothing_lost_with_twilio_ahead_by(SignedDuration::from_hours(3)).await;
}

async fn assert_nothing_lost_with_twilio_ahead_by(offset: SignedDuration) {
    let twilio = Twilio::ahead_by(world_of(30), offset).await;
    let mut program = Program::polling(&twilio).await;
    let scrape = twilio.wait_until_counted_by(&mut program).await;
    let measured = metric("twilio_exporter_clock_offset_seconds").value_in(&scrape);
    assert!(
        measured.is_some_and(|seconds| (seconds - offset.as_secs_f64()).abs() < 2.0),
        "{measured:?}"
    );
}
