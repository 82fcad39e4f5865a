//! The committed ledger, shared.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard};

use jiff::Timestamp;

use super::{Ledger, ShownZeros};

/// How many scrapes are noted between two writes. While the disk hangs, later ones are dropped: what they showed
/// is noted by a scrape after the next write.
const MAX_NOTED: usize = 64;

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
        let mut noted = self.lock_shown();
        if !shown.held.is_empty() && noted.len() < MAX_NOTED {
            noted.push((shown, now));
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::ledger::{AccountId, EndpointId, Scope};

    #[test]
    fn notes_of_scrapes_are_bounded_while_nothing_is_written() {
        let committed = Committed::new(Ledger::default());
        let mut shown = committed.read().shown();
        shown.held = vec![Scope::Account(AccountId(1)), Scope::Endpoint(EndpointId(1))];
        for _ in 0..10 * MAX_NOTED {
            committed.note_shown(shown.clone(), Timestamp::UNIX_EPOCH);
        }
        assert_eq!(committed.lock_shown().len(), MAX_NOTED);
        committed.apply_shown();
        assert!(committed.lock_shown().is_empty());
    }
}
