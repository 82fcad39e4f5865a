//! When the store was created: by Twilio's clock, as soon as a batch tells it.
//!
//! A store may be created before the machine's clock is set. What was written then is put right in the
//! run that created it, by the first batch that was learnt at a known time.

use jiff::{SignedDuration, Timestamp};
use rusqlite::Connection;

/// A smaller error stays: it means nothing to an age in hours, and each change looks like a new store.
const TOLERANCE: SignedDuration = SignedDuration::from_mins(1);

/// The creation of a store that this run created, until its time is known to be right.
#[derive(Clone, Copy, Debug)]
pub(super) struct Creation {
    /// By the local clock.
    created_at: Timestamp,
    is_checked: bool,
}

impl Creation {
    pub(super) fn new(created_at: Timestamp, is_new: bool) -> Self {
        Self { created_at, is_checked: !is_new }
    }

    /// The time to write in place of the one that was written, if that was wrong. `learnt_at` is Twilio's
    /// time at the local time `now`.
    pub(super) fn corrected(
        &self,
        learnt_at: Option<Timestamp>,
        now: Timestamp,
    ) -> Option<Timestamp> {
        let offset = learnt_at.filter(|_| !self.is_checked)?.duration_since(now);
        let at = self.created_at.checked_add(offset).ok()?;
        (offset.abs() > TOLERANCE).then_some(at)
    }

    /// Notes that a batch with a time was committed.
    pub(super) fn note_committed(&mut self, learnt_at: Option<Timestamp>) {
        self.is_checked |= learnt_at.is_some();
    }
}

/// Writes when the store was created.
pub(super) fn write(connection: &Connection, at: Timestamp) -> rusqlite::Result<()> {
    let update = "UPDATE meta SET value = ?1 WHERE key = 'created_ms'";
    connection.execute(update, [at.as_millisecond()]).map(drop)
}
