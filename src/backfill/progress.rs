//! Shows the progress: a bar on a terminal, otherwise a log line from time to time.

use std::fmt;
use std::io::{self, IsTerminal};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::config::duration;
use crate::metrics::exposition::as_float;

/// How often progress is logged without a terminal.
const LOG_EVERY: Duration = Duration::from_secs(30);
/// How often the same trouble is logged.
const TROUBLE_EVERY: Duration = Duration::from_secs(60);

/// The progress of a backfill.
#[derive(Debug)]
pub(super) struct Progress {
    bar: ProgressBar,
    state: Mutex<ProgressState>,
}

#[derive(Debug)]
struct ProgressState {
    logged_at: Instant,
    pace: Pace,
    /// When trouble was last logged.
    trouble_at: Option<Instant>,
    /// Whether it continues.
    is_in_trouble: bool,
}

/// How fast a part of the work goes.
#[derive(Clone, Copy, Debug)]
struct Pace {
    /// How much was done before.
    done: u64,
    began: Instant,
}

impl Pace {
    /// Returns how much is done per second, and the time left in whole seconds; `None` at first.
    fn at(self, done: u64, all: u64) -> Option<(f64, Duration)> {
        let done_since = as_float(done.checked_sub(self.done).filter(|done| *done > 0)?);
        let rate = done_since / self.began.elapsed().as_secs_f64();
        let left = Duration::try_from_secs_f64(as_float(all.saturating_sub(done)) / rate).ok()?;
        Some((rate, Duration::from_secs(left.as_secs())))
    }
}

impl Progress {
    /// Shows a bar if standard error is a terminal.
    pub(super) fn new() -> Self {
        let target = if io::stderr().is_terminal() {
            ProgressDrawTarget::stderr()
        } else {
            ProgressDrawTarget::hidden()
        };
        let bar = ProgressBar::with_draw_target(None, target);
        let (logged_at, pace) = (Instant::now(), Pace { done: 0, began: Instant::now() });
        let state = ProgressState { logged_at, pace, trouble_at: None, is_in_trouble: false };
        Self { bar, state: Mutex::new(state) }
    }

    /// Starts a part of the work with a known number of `unit`s, some of which may be done.
    pub(super) fn start(&self, what: &'static str, unit: &str, done: u64, all: u64) {
        let template = format!(
            "{{prefix}} [{{bar:20}}] {{percent}}% {{human_pos}}/{{human_len}} {unit}{{pace}} {{msg}}"
        );
        let style = ProgressStyle::with_template(&template);
        let pace = Pace { done, began: Instant::now() };
        let shown = move |state: &indicatif::ProgressState, text: &mut dyn fmt::Write| {
            if let Some((rate, left)) = pace.at(state.pos(), state.len().unwrap_or(0)) {
                let left = duration::show(left);
                // Writing to a bar doesn't fail.
                let _written = write!(text, ", {rate:.0}/s, {left} left");
            }
        };
        self.bar.set_style(
            style
                .unwrap_or_else(|_| ProgressStyle::default_bar())
                .with_key("pace", shown)
                .progress_chars("=> "),
        );
        // It may have been finished before.
        self.bar.reset();
        self.bar.set_prefix(what);
        self.bar.set_message("");
        self.bar.set_length(all);
        self.bar.set_position(done);
        self.lock().pace = pace;
        if self.bar.is_hidden() {
            tracing::info!(done, all, unit, "{what}");
        }
    }

    /// Notes that more is done; `at` describes the position.
    pub(super) fn advance(&self, by: u64, at: impl FnOnce() -> String) {
        self.bar.inc(by);
        if !self.bar.is_hidden() {
            self.bar.set_message(at());
            return;
        }
        let mut state = self.lock();
        if state.logged_at.elapsed() >= LOG_EVERY {
            state.logged_at = Instant::now();
            let (done, all) = (self.bar.position(), self.bar.length().unwrap_or(0));
            let left = state.pace.at(done, all).map(|(_, left)| duration::show(left));
            tracing::info!(done, all, left, at = at(), "progress");
        }
    }

    /// Notes a failed request that will be repeated.
    pub(super) fn trouble(&self, account: &str, error: &str) {
        let mut state = self.lock();
        if state.trouble_at.is_some_and(|at| at.elapsed() < TROUBLE_EVERY) {
            return;
        }
        state.trouble_at = Some(Instant::now());
        state.is_in_trouble = true;
        self.bar.suspend(|| tracing::warn!(account, error, "a request failed and will be retried"));
    }

    /// Notes that a request succeeded.
    pub(super) fn recovered(&self) {
        let mut state = self.lock();
        if std::mem::take(&mut state.is_in_trouble) {
            self.bar.suspend(|| tracing::info!("requests succeed again"));
        }
    }

    /// Removes the bar.
    pub(super) fn finish(&self) {
        self.bar.finish_and_clear();
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, ProgressState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
