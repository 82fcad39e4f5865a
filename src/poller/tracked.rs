//! Limits the number of calls that all accounts together track, to bound memory.
//!
//! Invariant: an account above its share leaves room for the others.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// One part in this many of the limit is reserved for accounts below their share.
const RESERVED_ONE_IN: usize = 10;

/// The number of calls tracked by all accounts.
#[derive(Debug)]
pub struct TrackedCalls {
    limit: AtomicUsize,
    total: AtomicUsize,
    accounts: AtomicUsize,
}

/// The calls that one account adds to the total until this is dropped.
#[derive(Debug)]
pub(super) struct Share {
    calls: usize,
    total: Arc<TrackedCalls>,
}

impl TrackedCalls {
    /// Creates an empty total with a limit.
    pub fn new(limit: usize) -> Arc<Self> {
        let (total, accounts) = (AtomicUsize::new(0), AtomicUsize::new(0));
        Arc::new(Self { limit: AtomicUsize::new(limit), total, accounts })
    }

    /// Changes the limit. Calls that are already tracked stay.
    pub fn set_limit(&self, limit: usize) {
        self.limit.store(limit, Ordering::Relaxed);
    }

    /// Returns the limit.
    pub(super) fn limit(&self) -> usize {
        self.limit.load(Ordering::Relaxed)
    }

    /// Adds an account with its known calls.
    pub(super) fn share(self: &Arc<Self>, calls: usize) -> Share {
        self.accounts.fetch_add(1, Ordering::Relaxed);
        self.total.fetch_add(calls, Ordering::Relaxed);
        Share { calls, total: Arc::clone(self) }
    }

    /// Sets the number of calls that an account tracks.
    pub(super) fn set(&self, share: &mut Share, calls: usize) {
        self.total.fetch_add(calls, Ordering::Relaxed);
        self.total.fetch_sub(std::mem::replace(&mut share.calls, calls), Ordering::Relaxed);
    }

    /// Returns how many more calls an account that tracks `own` may track.
    pub(super) fn room(&self, own: usize) -> usize {
        let limit = self.limit();
        let accounts = self.accounts.load(Ordering::Relaxed).max(1);
        let is_below_share = accounts == 1 || own < limit / accounts;
        let reserved = if is_below_share { 0 } else { limit / RESERVED_ONE_IN };
        (limit - reserved).saturating_sub(self.total.load(Ordering::Relaxed))
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.total.accounts.fetch_sub(1, Ordering::Relaxed);
        self.total.total.fetch_sub(self.calls, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_single_account_may_use_the_whole_limit_but_several_leave_room() {
        let tracked = TrackedCalls::new(100);
        let mut first = tracked.share(40);
        assert_eq!(tracked.room(40), 60);
        let second = tracked.share(0);
        assert_eq!((tracked.room(40), tracked.room(0)), (60, 60));
        tracked.set(&mut first, 90);
        assert_eq!((tracked.room(90), tracked.room(0)), (0, 10));
        drop(second);
        assert_eq!(tracked.room(90), 10);
        drop(first);
        assert_eq!(tracked.room(0), 100);
    }
}
