//! Whether the poll loops still turn.
//!
//! Each loop promises when it will be back. A promise broken by more than the grace means that the
//! loop has stopped advancing: that is a fault of ours, and never Twilio's.

use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

/// How late a loop may be: a slow disk or a busy machine is no fault.
const GRACE: Duration = Duration::from_secs(60);

/// All loops.
#[derive(Clone, Debug, Default)]
pub struct Heartbeats(Arc<Mutex<Vec<Weak<Mutex<Instant>>>>>);

/// One loop.
#[derive(Clone, Debug)]
pub struct Heartbeat(Arc<Mutex<Instant>>);

impl Heartbeats {
    /// Begins to watch a loop. It is watched until it ends.
    pub fn watch(&self) -> Heartbeat {
        let due = Arc::new(Mutex::new(Instant::now() + GRACE));
        let mut loops = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        loops.retain(|watched| watched.strong_count() > 0);
        loops.push(Arc::downgrade(&due));
        Heartbeat(due)
    }

    /// Whether every loop has kept its promise.
    pub fn all_beat(&self) -> bool {
        let now = Instant::now();
        let loops = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        loops
            .iter()
            .filter_map(Weak::upgrade)
            .all(|due| now <= *due.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Heartbeat {
    /// Promises to be back within a time, plus the grace.
    pub fn promise(&self, within: Duration) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now() + within + GRACE;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broken_promise_shows_until_the_loop_is_gone() {
        let heartbeats = Heartbeats::default();
        let heartbeat = heartbeats.watch();
        assert!(heartbeats.all_beat());
        *heartbeat.0.lock().expect("no panic") = Instant::now() - Duration::from_millis(1);
        assert!(!heartbeats.all_beat());
        drop(heartbeat);
        assert!(heartbeats.all_beat());
    }
}
