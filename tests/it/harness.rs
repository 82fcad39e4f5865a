//! The language of the tests: a program, a Twilio, a scrape.
//!
//! `Program` is the real binary on a free port with a store of its own; `Twilio` is the simulator,
//! or any answers at all; `Scrape` is what `/metrics` said. Nothing here sleeps for a fixed time:
//! everything waits for a condition, for at most [`PATIENCE`].

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
pub(crate) use scrape::{Scrape, Series, metric};
pub(crate) use shorten::shortened;
pub(crate) use twilio::{Exchange, Twilio, everything, going_on, world_of};

/// How long a condition may take to come true: long, because machines are slow and shared.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until `check` gives something.
pub(crate) async fn eventually<T>(what: &str, mut check: impl AsyncFnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(found) = check().await {
            return found;
        }
        assert!(began.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Says what was measured, where tests run with `--nocapture` or fail.
#[expect(clippy::print_stderr, reason = "figures are for people")]
pub(crate) fn say(figures: &str) {
    eprintln!("{figures}");
}
