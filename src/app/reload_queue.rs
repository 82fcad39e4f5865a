//! Limits how often the configuration is reloaded: at once, then not for some seconds.
//!
//! Each reload reads files and may restart loops, so a client that requests reloads in a loop would keep the program
//! busy. Requests within the interval become one reload.

use std::time::Duration;

use tokio::time::Instant;

use crate::http::reload::ReloadReply;

/// The minimum time between two reloads.
const EVERY: Duration = Duration::from_secs(5);

/// The requested reloads.
#[derive(Default)]
pub(super) struct ReloadQueue {
    is_asked: bool,
    replies: Vec<ReloadReply>,
    last: Option<Instant>,
}

impl ReloadQueue {
    /// Asks for a reload; the reply waits for it. As many replies wait as there are connections.
    pub(super) fn ask(&mut self, reply: Option<ReloadReply>) {
        self.is_asked = true;
        self.replies.extend(reply);
    }

    /// Waits until a reload is asked for, and its time has come.
    pub(super) async fn turn(&self) {
        match self.last {
            _ if !self.is_asked => std::future::pending().await,
            Some(last) => tokio::time::sleep_until(last + EVERY).await,
            None => {}
        }
    }

    /// Begins a reload. Returns the replies that wait for it.
    pub(super) fn take(&mut self) -> Vec<ReloadReply> {
        self.is_asked = false;
        self.last = Some(Instant::now());
        std::mem::take(&mut self.replies)
    }
}
