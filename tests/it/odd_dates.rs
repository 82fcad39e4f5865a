//! Responses with a wrong `Date` don't affect the counters or the stored state.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use jiff::SignedDuration;

use crate::harness::{Program, Twilio, eventually, everything, metric, world_of};

/// Forty days: longer than routes without events are kept.
const FAR: SignedDuration = SignedDuration::from_hours(40 * 24);

#[tokio::test(flavor = "multi_thread")]
async fn error_pages_dated_far_ahead_at_startup_leave_the_store_unchanged() {
    let gateway_from = Arc::new(AtomicU64::new(u64::MAX));
    let from = Arc::clone(&gateway_from);
    let misdated = move |before: u64| {
        let since = before.checked_sub(from.load(Ordering::SeqCst))?;
        (since < 3).then_some((Some(503), FAR))
    };
    let twilio = Twilio::misdated(everything(1, 1), misdated).await;
    let mut program = Program::polling(&twilio).await;
    let before = twilio.wait_until_counted_by(&mut program).await;
    gateway_from.store(twilio.requests(), Ordering::SeqCst);
    let (_, mut program) = program.stop_and_restart().await;
    eventually("a list has been read", async || {
        metric("twilio_exporter_last_success_timestamp_seconds").value_in(&program.scrape().await)
    })
    .await;
    let after = twilio.wait_until_counted_by(&mut program).await;
    after.assert_not_below(&before);
    assert!(metric("twilio_exporter_skipped_seconds_total").is_in(&after, 0.0));
    let offset = metric("twilio_exporter_clock_offset_seconds").value_in(&after);
    assert!(offset.is_some_and(|offset| offset.abs() < 2.0), "{offset:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_store_counts_everything_despite_wrong_dates_on_the_first_responses() {
    for status in [Some(503), None] {
        let misdated = move |before| (before < 2).then_some((status, FAR));
        let twilio = Twilio::misdated(world_of(58), misdated).await;
        let mut program = Program::polling(&twilio).await;
        twilio.wait_until_counted_by(&mut program).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn occasional_wrong_dates_have_no_effect() {
    let odd = [FAR, -FAR, SignedDuration::from_mins(30), SignedDuration::from_mins(-30)];
    let misdated = move |before: u64| {
        let index = usize::try_from(before / 7).expect("few");
        (before % 7 == 6).then_some((None, odd[index % odd.len()]))
    };
    let twilio = Twilio::misdated(world_of(60), misdated).await;
    let mut program = Program::polling(&twilio).await;
    twilio.wait_until_counted_by(&mut program).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_whose_events_are_refused_do_not_delay_others() {
    const REFUSED: usize = 2;
    let refused = std::sync::Mutex::new(std::collections::BTreeSet::new());
    let answer = move |uri: &str, _| {
        let call = uri.split("/Calls/").nth(1)?.strip_suffix("/Events.json?PageSize=1000")?;
        let mut refused = refused.lock().expect("no panic");
        if refused.len() < REFUSED {
            refused.insert(call.to_owned());
        }
        refused.contains(call).then_some((403, "application/json", r#"{"code":20003}"#))
    };
    let twilio = Twilio::answering(world_of(200), answer).await;
    let program = Program::polling(&twilio).await;
    let read = eventually("all other calls are settled", async || {
        let reads = metric("twilio_exporter_call_reads_total").label("stage", "settling");
        let scrape = program.scrape().await;
        let of = |result| reads.clone().label("result", result).value_in(&scrape);
        let read = of("found").unwrap_or(0.0) + of("empty").unwrap_or(0.0);
        let calls = metric("twilio_calls_total").value_in(&scrape)?;
        (calls >= 200.0 && read >= calls - 2.0).then_some(read - calls)
    })
    .await;
    assert!((read + 2.0).abs() < 0.5, "two calls can't be read: {read}");
    let log = program.log();
    assert!(log.matches("cannot read from Twilio").count() <= 1, "{log}");
}
