//! Whether the poll loops still turn.
//!
//! Each loop promises when it will be back. A promise broken by more than the grace means that the
//! loop has stopped advancing: that is a fault of ours, and never Twilio's.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How late a loop may be: a slow disk or a busy machine is no fault.
const GRACE: Duration = Duration::from_secs(60);

/// All loops.
#[derive(Clone, Debug, Default)]
pub struct Heartbeats(Arc<Mutex<Vec<Deadline>>>);

/// When a loop will be back; `None` once it has ended as it was meant to.
type Deadline = Arc<Mutex<Option<Instant>>>;

/// One loop. A loop that ends by a panic leaves its promise behind, to be broken.
#[derive(Debug)]
pub struct Heartbeat(Deadline);

impl Heartbeats {
    /// Begins to watch a loop. It is watched until it ends.
    pub fn watch(&self) -> Heartbeat {
        let promise = Arc::new(Mutex::new(Some(Instant::now() + GRACE)));
        let mut loops = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        loops.retain(|promise| due(promise).is_some());
        loops.push(Arc::clone(&promise));
        Heartbeat(promise)
    }

    /// Lets go of loops that panicked: others do their work now.
    pub fn forget_panicked(&self) {
        let mut loops = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        loops.retain(|promise| Arc::strong_count(promise) > 1);
    }

    /// Whether every loop has kept its promise.
    pub fn all_beat(&self) -> bool {
        let now = Instant::now();
        let loops = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        loops.iter().filter_map(due).all(|due| now <= due)
    }
}

impl Heartbeat {
    /// Promises to be back within a time, plus the grace.
    pub fn promise(&self, within: Duration) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) =
            Some(Instant::now() + within + GRACE);
    }
}

impl Drop for Heartbeat {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
        }
    }
}

fn due(promise: &Deadline) -> Option<Instant> {
    *promise.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broken_promise_shows_until_the_loop_is_gone() {
        let heartbeats = Heartbeats::default();
        let heartbeat = heartbeats.watch();
        assert!(heartbeats.all_beat());
        *heartbeat.0.lock().expect("no panic") = Some(Instant::now() - GRACE);
        assert!(!heartbeats.all_beat());
        drop(heartbeat);
        assert!(heartbeats.all_beat());
    }

    #[test]
    fn a_loop_that_panics_leaves_its_promise_to_be_broken() {
        let heartbeats = Heartbeats::default();
        let heartbeat = heartbeats.watch();
        let panicked = std::thread::spawn(move || {
            *heartbeat.0.lock().expect("no panic yet") = Some(Instant::now() - GRACE);
            panic!("as meant");
        });
        assert!(panicked.join().is_err());
        let other = heartbeats.watch();
        assert!(!heartbeats.all_beat());
        heartbeats.forget_panicked();
        assert!(heartbeats.all_beat(), "others do its work");
        *other.0.lock().expect("no panic") = Some(Instant::now() - GRACE);
        assert!(!heartbeats.all_beat(), "those are watched on");
    }
}
