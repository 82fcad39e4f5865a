//! Exemplars: the call behind a failure or a slow bucket, one step from the graph.
//!
//! In memory only: nothing about them is promised over a restart.

use jiff::Timestamp;

use crate::domain::words::sid::CallSid;

/// The call behind a count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exemplar {
    /// The call.
    pub call_sid: CallSid,
    /// The duration that fell into the bucket; `None` for a plain count.
    pub duration_ms: Option<u64>,
    /// When it was counted.
    pub at: Timestamp,
}
