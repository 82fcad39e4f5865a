//! Notifies systemd: ready, reloading, stopping, alive.
//!
//! Does nothing without systemd (no `NOTIFY_SOCKET`). The watchdog is fed only while every poll loop meets
//! its deadlines, so that systemd restarts a program that has stopped polling, but not one that waits for
//! Twilio. Source: sd_notify(3).

use std::time::Duration;

use sd_notify::NotifyState;

/// Notifies systemd that HTTP is served and calls are polled.
pub fn ready(status: &str) {
    notify(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// Notifies systemd that the configuration is being reloaded; [`ready`] must follow.
pub fn reloading() {
    notify(&[NotifyState::Reloading]);
}

/// Notifies systemd that the program is stopping.
pub fn stopping() {
    notify(&[NotifyState::Stopping]);
}

/// Feeds the watchdog, if enabled, while `is_alive` returns true.
pub async fn feed_watchdog(is_alive: impl Fn() -> bool) {
    let Some(timeout) = sd_notify::watchdog_enabled() else { return std::future::pending().await };
    // Notify twice per timeout, as the manual recommends.
    let interval = (timeout / 2).max(Duration::from_millis(10));
    let mut was_alive = true;
    loop {
        let is_alive = is_alive();
        if is_alive {
            notify(&[NotifyState::Watchdog]);
        } else if was_alive {
            tracing::error!("a poll loop has stopped advancing: no longer feeding the watchdog");
        }
        was_alive = is_alive;
        tokio::time::sleep(interval).await;
    }
}

fn notify(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!(%error, "cannot notify systemd");
    }
}
