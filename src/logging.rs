//! Logs to standard error, for terminals and for journald.

use std::io::IsTerminal;

use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::fmt;
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};

use crate::cli::{LogFormat, LogLevel};

/// Starts logging. Of libraries, logs only warnings and errors: their details don't concern users, and may
/// contain what must not be logged.
///
/// # Errors
/// Fails if logging has already been started.
pub fn init(level: LogLevel, format: LogFormat) -> Result<(), TryInitError> {
    let level = match level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
    };
    let is_relevant = filter_fn(|metadata| {
        metadata.target().starts_with(env!("CARGO_CRATE_NAME"))
            || *metadata.level() <= tracing::Level::WARN
    });
    let is_journal = std::env::var_os("JOURNAL_STREAM").is_some();
    let colours = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let base = fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(colours)
        .with_target(false)
        // Reporting that standard error is closed, on standard error, would panic.
        .log_internal_errors(false);
    let layer = match (format, is_journal) {
        (LogFormat::Json, _) => base.json().flatten_event(true).with_current_span(false).boxed(),
        // The journal adds the time.
        (LogFormat::Text, true) => base.without_time().boxed(),
        (LogFormat::Text, false) => base.boxed(),
    };
    tracing_subscriber::registry()
        .with(layer.with_filter(is_relevant).with_filter(level))
        .try_init()
}
