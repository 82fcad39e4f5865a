//! What systemd is told: ready, reloading, stopping, alive.
//!
//! Without systemd (no `NOTIFY_SOCKET`) nobody is told anything. The watchdog is fed only while every
//! poll loop keeps its promises, so that a program that has stopped polling is started anew, and one
//! that waits for Twilio isn't. Source: sd_notify(3).

use std::time::Duration;

use sd_notify::NotifyState;

/// Says that pages are served and calls are polled.
pub fn ready(status: &str) {
    tell(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// Says that the configuration is being reloaded; [`ready`] follows.
pub fn reloading() {
    tell(&[NotifyState::Reloading]);
}

/// Says that the program is about to end.
pub fn stopping() {
    tell(&[NotifyState::Stopping]);
}

/// Feeds the watchdog, if there is one, for as long as `is_alive`.
pub async fn feed_watchdog(is_alive: impl Fn() -> bool) {
    let Some(within) = sd_notify::watchdog_enabled() else { return std::future::pending().await };
    // Twice in time, as the manual has it.
    let every = (within / 2).max(Duration::from_millis(10));
    let mut was_alive = true;
    loop {
        let is_alive = is_alive();
        if is_alive {
            tell(&[NotifyState::Watchdog]);
        } else if was_alive {
            tracing::error!("a poll loop has stopped advancing: the watchdog is fed no more");
        }
        was_alive = is_alive;
        tokio::time::sleep(every).await;
    }
}

fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!(%error, "cannot tell systemd");
    }
}
