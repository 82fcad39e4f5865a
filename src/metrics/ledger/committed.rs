//! The committed ledger, shared.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard};

use jiff::Timestamp;

use super::{Ledger, ShownZeros};

/// The committed ledger, published by the store and read by scrapes.
#[derive(Clone, Debug, Default)]
pub struct Committed(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    ledger: RwLock<Ledger>,
    /// What scrapes have noted since the ledger was last written. Scrapes take no write lock.
    was_scraped: AtomicBool,
    shown: Mutex<Vec<(ShownZeros, Timestamp)>>,
}

impl Committed {
    /// Shares a ledger.
    pub fn new(ledger: Ledger) -> Self {
        let was_scraped = AtomicBool::new(ledger.was_scraped);
        let ledger = RwLock::new(ledger);
        Self(Arc::new(Inner { ledger, was_scraped, shown: Mutex::default() }))
    }

    /// Reads the ledger. Writers wait, so do only work in memory.
    pub fn read(&self) -> RwLockReadGuard<'_, Ledger> {
        self.0.ledger.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the ledger, after the store has committed the change.
    pub fn publish(&self, change: impl FnOnce(&mut Ledger)) {
        let mut ledger = self.0.ledger.write().unwrap_or_else(PoisonError::into_inner);
        ledger.was_scraped |= self.was_scraped();
        for (shown, at) in self.noted().drain(..) {
            ledger.mark_shown(&shown, at);
        }
        change(&mut ledger);
    }

    /// Whether the store was ever scraped.
    pub fn was_scraped(&self) -> bool {
        self.0.was_scraped.load(Ordering::SeqCst)
    }

    /// Notes that a scrape starts: it may miss anything published from now on.
    pub fn note_scrape(&self) {
        self.0.was_scraped.store(true, Ordering::SeqCst);
    }

    /// Notes what a scrape has shown of what is held at 0; [`Self::apply_shown`] applies it.
    pub fn note_shown(&self, shown: ShownZeros, now: Timestamp) {
        if !shown.held.is_empty() {
            self.noted().push((shown, now));
        }
    }

    /// Applies what scrapes have noted.
    pub fn apply_shown(&self) {
        if !self.noted().is_empty() {
            self.publish(|_| ());
        }
    }

    fn noted(&self) -> std::sync::MutexGuard<'_, Vec<(ShownZeros, Timestamp)>> {
        self.0.shown.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
