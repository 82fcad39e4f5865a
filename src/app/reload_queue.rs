//! Limits how often the configuration is reloaded. The first reload is immediate; requests in the next few seconds
//! are combined into one.
//!
//! Each reload reads files and may restart poll loops, so a client that keeps requesting reloads would keep the
//! program busy.

use std::time::Duration;

use tokio::time::Instant;

use crate::http::reload::ReloadReply;

/// The minimum time between two reloads.
const MIN_INTERVAL: Duration = Duration::from_secs(5);

/// The pending reload requests.
#[derive(Default)]
pub(super) struct ReloadQueue {
    is_requested: bool,
    replies: Vec<ReloadReply>,
    last: Option<Instant>,
}

impl ReloadQueue {
    /// Requests a reload. `reply` receives its result. The number of connections limits the number of replies.
    pub(super) fn request(&mut self, reply: Option<ReloadReply>) {
        self.is_requested = true;
        self.replies.extend(reply);
    }

    /// Waits until a reload has been requested and the minimum interval has passed.
    pub(super) async fn ready(&self) {
        match self.last {
            _ if !self.is_requested => std::future::pending().await,
            Some(last) => tokio::time::sleep_until(last + MIN_INTERVAL).await,
            None => {}
        }
    }

    /// Begins a reload. Returns the channels that wait for its result.
    pub(super) fn begin(&mut self) -> Vec<ReloadReply> {
        self.is_requested = false;
        self.last = Some(Instant::now());
        std::mem::take(&mut self.replies)
    }
}
