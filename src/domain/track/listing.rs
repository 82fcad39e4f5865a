//! Lists of calls: what each asks for, and how far the lists of an account are known.

use jiff::Timestamp;

use crate::domain::words::call::CallStatus;
use crate::domain::words::label::label_enum;

label_enum! {
    /// Why a list is read.
    pub enum ListKind {
        /// Calls that started since the cursor.
        Recent = "recent",
        /// Calls that ended lately.
        Ended = "ended",
        /// The first page of all calls.
        Unfiltered = "unfiltered",
        /// Calls of one active status.
        Active = "active",
        /// Recent calls with an hour's overlap.
        Deep = "deep",
    }
}

/// What a list asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filter {
    /// Calls that started at or after an instant.
    StartedFrom(Timestamp),
    /// Calls that ended at or after an instant.
    EndedFrom(Timestamp),
    /// Calls of one status.
    Status(CallStatus),
    /// All calls.
    Everything,
}

/// How far the lists of an account are known, as it is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ListProgress {
    /// All calls that started before this, and that lists show, are known.
    pub cursor: Option<Timestamp>,
    /// Calls that ended at or before this are forgotten once settled, and never taken up again.
    pub forget_before: Option<Timestamp>,
    /// Twilio's time at the last complete list of calls by their end.
    pub ended_to: Option<Timestamp>,
    /// Twilio's time at the last complete deep list.
    pub deep_to: Option<Timestamp>,
    /// How far the error log is known, once it was asked for.
    pub error_log: Option<ErrorLogProgress>,
}

/// How far the error log of an account is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ErrorLogProgress {
    /// When it was first asked for: what happened before isn't counted.
    pub since: Timestamp,
    /// When the newest entry happened that is known.
    pub known_to: Timestamp,
}
