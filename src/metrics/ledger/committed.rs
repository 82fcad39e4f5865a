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
    /// Whether a scrape has begun. Scrapes record this and `shown` without the ledger's write lock;
    /// [`Committed::publish`] applies both.
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

    /// Locks the ledger for reading. This blocks writers, so use it only for work in memory.
    pub fn read(&self) -> RwLockReadGuard<'_, Ledger> {
        self.0.ledger.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the ledger, after the store has committed the change.
    pub fn publish(&self, change: impl FnOnce(&mut Ledger)) {
        let mut ledger = self.0.ledger.write().unwrap_or_else(PoisonError::into_inner);
        ledger.was_scraped |= self.was_scraped();
        for (shown, at) in self.lock_shown().drain(..) {
            ledger.mark_shown(&shown, at);
        }
        change(&mut ledger);
    }

    /// Whether the store has ever been scraped.
    pub fn was_scraped(&self) -> bool {
        self.0.was_scraped.load(Ordering::SeqCst)
    }

    /// Records that a scrape begins: its response may lack anything published from now on.
    pub fn note_scrape(&self) {
        self.0.was_scraped.store(true, Ordering::SeqCst);
    }

    /// Records which held endpoints and groups a scrape has shown at 0, for [`Self::apply_shown`].
    pub fn note_shown(&self, shown: ShownZeros, now: Timestamp) {
        if !shown.held.is_empty() {
            self.lock_shown().push((shown, now));
        }
    }

    /// Applies what [`Self::note_shown`] has recorded.
    pub fn apply_shown(&self) {
        if !self.lock_shown().is_empty() {
            self.publish(|_| ());
        }
    }

    fn lock_shown(&self) -> std::sync::MutexGuard<'_, Vec<(ShownZeros, Timestamp)>> {
        self.0.shown.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
