//! The building blocks of the tests: a program, a Twilio, a scrape.
//!
//! `Program` is the real binary on a free port with its own store; `Twilio` is the simulator or a
//! server with canned answers; `Scrape` is a parsed response of `/metrics`. Nothing here sleeps for a
//! fixed time: everything waits for a condition, for at most [`PATIENCE`].

mod alertmanager;
mod browser;
mod fleet;
pub(crate) mod history;
mod html;
mod program;
mod prometheus;
mod scrape;
mod shorten;
mod twilio;

use std::time::{Duration, Instant};

pub(crate) use alertmanager::{Alertmanager, Notification, lines};
pub(crate) use browser::Browser;
pub(crate) use fleet::{Fleet, Hosts, Shape, World};
pub(crate) use html::{Tag, tags};
pub(crate) use program::{Ended, Program, STARTED_BY, run, signal};
pub(crate) use prometheus::{Prometheus, Setup, free_port};
pub(crate) use scrape::{Scrape, Series, metric, parse_series};
pub(crate) use shorten::shortened;
pub(crate) use twilio::{Exchange, Twilio, everything, ongoing_calls, world_of};

/// How long to wait for a condition: long, because machines may be slow and shared.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Polls `check` until it returns `Some`; `what` describes the condition in the failure message.
pub(crate) async fn eventually<T>(what: &str, mut check: impl AsyncFnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(found) = check().await {
            return found;
        }
        let elapsed = began.elapsed();
        assert!(elapsed < PATIENCE, "timed out after {PATIENCE:?}: {what}");
        // Less and less often, because dozens of tests wait at the same time on few cores.
        let pause = (elapsed / 20).clamp(Duration::from_millis(20), Duration::from_millis(500));
        tokio::time::sleep(pause).await;
    }
}

/// Prints measurements; they show when a test fails or runs with `--nocapture`.
#[expect(clippy::print_stderr, reason = "figures are for people")]
pub(crate) fn print_figures(figures: &str) {
    eprintln!("{figures}");
}
