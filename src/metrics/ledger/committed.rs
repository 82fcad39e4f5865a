//! The committed ledger, shared.

use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use super::Ledger;

/// The committed ledger, shared by the store that publishes and the scrapes that read.
#[derive(Clone, Debug, Default)]
pub struct Committed(Arc<RwLock<Ledger>>);

impl Committed {
    /// Shares a ledger.
    pub fn new(ledger: Ledger) -> Self {
        Self(Arc::new(RwLock::new(ledger)))
    }

    /// Looks at the ledger. Writers wait meanwhile: only for work in memory.
    pub fn read(&self) -> RwLockReadGuard<'_, Ledger> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the ledger, after the store has committed the change.
    pub fn publish(&self, change: impl FnOnce(&mut Ledger)) {
        change(&mut self.0.write().unwrap_or_else(PoisonError::into_inner));
    }
}
