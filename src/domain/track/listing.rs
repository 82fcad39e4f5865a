//! Lists of calls: the filter of each, and how far an account's lists have been read.

use jiff::Timestamp;

use crate::domain::words::call::CallStatus;
use crate::domain::words::label::label_enum;

label_enum! {
    /// The purpose of a list.
    pub enum ListKind {
        /// Calls that have started since the cursor.
        Recent = "recent",
        /// Calls that ended recently.
        Ended = "ended",
        /// The first page of all calls.
        Unfiltered = "unfiltered",
        /// Calls with one of the active statuses.
        Active = "active",
        /// Recent calls with an hour's overlap.
        Deep = "deep",
    }
}

/// The filter of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filter {
    /// Calls that started at or after an instant.
    StartedFrom(Timestamp),
    /// Calls that ended at or after an instant.
    EndedFrom(Timestamp),
    /// Calls that started on a day (UTC), given by an instant of it.
    StartedOn(Timestamp),
    /// Calls that ended on a day.
    EndedOn(Timestamp),
    /// Calls with one status.
    Status(CallStatus),
    /// All calls.
    Everything,
}

/// The stored progress of an account's lists.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ListProgress {
    /// All listed calls that started before this time are known.
    pub cursor: Option<Timestamp>,
    /// Calls that ended at or before this time are forgotten once settled, and never tracked again.
    pub forget_before: Option<Timestamp>,
    /// Twilio's time at the last complete list of ended calls.
    pub ended_to: Option<Timestamp>,
    /// Twilio's time at the last complete deep list.
    pub deep_to: Option<Timestamp>,
    /// The progress of the error log, once it has been requested.
    pub error_log: Option<ErrorLogProgress>,
}

/// The progress of an account's error log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ErrorLogProgress {
    /// When the log was first requested: earlier entries aren't counted.
    pub since: Timestamp,
    /// The time of the newest known entry.
    pub known_to: Timestamp,
}
