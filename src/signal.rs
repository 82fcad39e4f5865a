//! The signals that end the program.

use tokio::signal::unix::{SignalKind, signal};

/// Waits for SIGTERM or SIGINT, and tells which.
///
/// # Errors
/// If the handlers can't be installed.
pub fn termination() -> std::io::Result<impl Future<Output = &'static str>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
        }
    })
}
