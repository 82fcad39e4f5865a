//! How many calls all accounts together may track, so that memory stays bounded.
//!
//! Invariant: an account that has more than its share leaves room for the others.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The part of the limit that only accounts below their share may use: one in this many.
const RESERVED_ONE_IN: usize = 10;

/// The calls that all accounts track.
#[derive(Debug)]
pub struct TrackedCalls {
    limit: AtomicUsize,
    total: AtomicUsize,
    accounts: AtomicUsize,
}

/// What one account adds to the total, until it is dropped.
#[derive(Debug)]
pub(super) struct Share {
    calls: usize,
    of: Arc<TrackedCalls>,
}

impl TrackedCalls {
    /// None yet, and at most so many.
    pub fn new(limit: usize) -> Arc<Self> {
        let (total, accounts) = (AtomicUsize::new(0), AtomicUsize::new(0));
        Arc::new(Self { limit: AtomicUsize::new(limit), total, accounts })
    }

    /// Changes the limit. Calls that are tracked already stay.
    pub fn set_limit(&self, limit: usize) {
        self.limit.store(limit, Ordering::Relaxed);
    }

    /// The limit.
    pub(super) fn limit(&self) -> usize {
        self.limit.load(Ordering::Relaxed)
    }

    /// An account's share of the total, which begins with its known calls.
    pub(super) fn share(self: &Arc<Self>, calls: usize) -> Share {
        self.accounts.fetch_add(1, Ordering::Relaxed);
        self.total.fetch_add(calls, Ordering::Relaxed);
        Share { calls, of: Arc::clone(self) }
    }

    /// Notes how many calls an account tracks now.
    pub(super) fn set(&self, share: &mut Share, calls: usize) {
        self.total.fetch_add(calls, Ordering::Relaxed);
        self.total.fetch_sub(std::mem::replace(&mut share.calls, calls), Ordering::Relaxed);
    }

    /// How many new calls an account may take up that tracks `own`.
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
        self.of.accounts.fetch_sub(1, Ordering::Relaxed);
        self.of.total.fetch_sub(self.calls, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_account_may_fill_the_limit_and_several_leave_each_other_room() {
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
