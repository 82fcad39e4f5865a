//! Detects poll loops that hang.
//!
//! Each loop sets a deadline for its next heartbeat. A loop that misses it by more than the grace period hangs, which
//! is a bug of the exporter and never caused by Twilio.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The grace period: a slow disk or a busy machine isn't a bug.
const GRACE: Duration = Duration::from_secs(60);

/// The heartbeats of all loops.
#[derive(Clone, Debug, Default)]
pub struct Heartbeats(Arc<Mutex<Vec<Deadline>>>);

/// A loop's deadline; `None` once the loop has ended without a panic.
type Deadline = Arc<Mutex<Option<Instant>>>;

/// The heartbeat of one loop. If a loop panics, its deadline stays set and is missed.
#[derive(Debug)]
pub struct Heartbeat(Deadline);

impl Heartbeats {
    /// Starts to watch a loop, until it ends.
    pub fn watch(&self) -> Heartbeat {
        let deadline = Arc::new(Mutex::new(Some(Instant::now() + GRACE)));
        let mut loops = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        loops.retain(|deadline| due(deadline).is_some());
        loops.push(Arc::clone(&deadline));
        Heartbeat(deadline)
    }

    /// Removes loops that panicked. To be called once others have replaced them.
    pub fn forget_panicked(&self) {
        let mut loops = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        loops.retain(|deadline| Arc::strong_count(deadline) > 1);
    }

    /// Whether every loop has met its deadline.
    pub fn all_on_time(&self) -> bool {
        let now = Instant::now();
        let loops = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        loops.iter().filter_map(due).all(|due| now <= due)
    }
}

impl Heartbeat {
    /// Sets the deadline to `within` from now, plus the grace period.
    pub fn set_deadline(&self, within: Duration) {
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

fn due(deadline: &Deadline) -> Option<Instant> {
    *deadline.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missed_deadline_is_reported_until_the_loop_ends() {
        let heartbeats = Heartbeats::default();
        let heartbeat = heartbeats.watch();
        assert!(heartbeats.all_on_time());
        *heartbeat.0.lock().expect("no panic") = Some(Instant::now() - GRACE);
        assert!(!heartbeats.all_on_time());
        drop(heartbeat);
        assert!(heartbeats.all_on_time());
    }

    #[test]
    fn a_loop_that_panics_misses_its_deadline() {
        let heartbeats = Heartbeats::default();
        let heartbeat = heartbeats.watch();
        let panicked = std::thread::spawn(move || {
            *heartbeat.0.lock().expect("no panic yet") = Some(Instant::now() - GRACE);
            panic!("expected by the test");
        });
        assert!(panicked.join().is_err());
        let other = heartbeats.watch();
        assert!(!heartbeats.all_on_time());
        heartbeats.forget_panicked();
        assert!(heartbeats.all_on_time(), "it was replaced");
        *other.0.lock().expect("no panic") = Some(Instant::now() - GRACE);
        assert!(!heartbeats.all_on_time(), "the others are still watched");
    }
}
