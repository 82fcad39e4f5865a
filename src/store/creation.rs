//! The store's creation time, by Twilio's clock.
//!
//! A store may be created before the machine's clock is set. The run that created it corrects the time with
//! the first batch that was learnt at a known time.

use jiff::{SignedDuration, Timestamp};
use rusqlite::Connection;

/// Smaller errors stay: they don't matter to an age in hours, and each change looks like a new store.
const TOLERANCE: SignedDuration = SignedDuration::from_mins(1);

/// The creation time of the open store, and whether it is known to be right.
#[derive(Clone, Copy, Debug)]
pub(super) struct Creation {
    /// The creation time by the local clock.
    created_at: Timestamp,
    is_checked: bool,
}

impl Creation {
    pub(super) fn new(created_at: Timestamp, is_new: bool) -> Self {
        Self { created_at, is_checked: !is_new }
    }

    /// Returns the corrected creation time if the stored one is wrong. `received_at` is Twilio's time at the
    /// local time `now`.
    pub(super) fn corrected(
        &self,
        received_at: Option<Timestamp>,
        now: Timestamp,
    ) -> Option<Timestamp> {
        let offset = received_at.filter(|_| !self.is_checked)?.duration_since(now);
        let at = self.created_at.checked_add(offset).ok()?;
        (offset.abs() > TOLERANCE).then_some(at)
    }

    /// Marks the time as checked if a committed batch had a time.
    pub(super) fn note_committed(&mut self, received_at: Option<Timestamp>) {
        self.is_checked |= received_at.is_some();
    }
}

/// Writes the creation time.
pub(super) fn write(connection: &Connection, at: Timestamp) -> rusqlite::Result<()> {
    let update = "UPDATE meta SET value = ?1 WHERE key = 'created_ms'";
    connection.execute(update, [at.as_millisecond()]).map(drop)
}
