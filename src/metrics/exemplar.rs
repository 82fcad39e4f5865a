//! Exemplars link a failure or a duration bucket to a call.
//!
//! They are kept in memory only and lost on restart.

use jiff::Timestamp;

use crate::domain::words::sid::CallSid;

/// The call behind a count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exemplar {
    /// The call.
    pub call_sid: CallSid,
    /// The duration counted in the bucket; `None` for a plain count.
    pub duration_ms: Option<u64>,
    /// When it was counted.
    pub at: Timestamp,
}
