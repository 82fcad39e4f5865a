//! Twilio's Call resource, reduced to the properties that decide whether and when its Call Events are read.
//!
//! Source: <https://www.twilio.com/docs/voice/api/call-resource>, where every property may be null.

use jiff::Timestamp;

use crate::domain::words::label::label_enum;
use crate::domain::words::sid::CallSid;

label_enum! {
    /// The `status` of a Call.
    pub enum CallStatus {
        /// Accepted, waiting to be dialled.
        Queued = "queued",
        /// Ringing at the other end.
        Ringing = "ringing",
        /// Answered and in progress.
        InProgress = "in-progress",
        /// Answered and ended normally.
        Completed = "completed",
        /// The other end was busy.
        Busy = "busy",
        /// Could not be completed as dialled.
        Failed = "failed",
        /// Not answered in time.
        NoAnswer = "no-answer",
        /// Cancelled before it was answered.
        Canceled = "canceled",
        /// An unknown status.
        Other = "other",
    }
}

impl CallStatus {
    /// Whether a call with this status hasn't ended yet.
    pub const fn is_active(self) -> bool {
        matches!(self, Self::Queued | Self::Ringing | Self::InProgress)
    }

    /// Whether a call with this status has ended. An unknown status is neither active nor final.
    pub const fn is_final(self) -> bool {
        matches!(
            self,
            Self::Completed | Self::Busy | Self::Failed | Self::NoAnswer | Self::Canceled
        )
    }

    /// Parses Twilio's status; unknown ones become [`CallStatus::Other`].
    pub fn from_word(word: &str) -> Self {
        Self::from_label(word).unwrap_or(Self::Other)
    }
}

label_enum! {
    /// The `direction` of a Call.
    pub enum Direction {
        /// A call to a Twilio number.
        Inbound = "inbound",
        /// A call started through the REST API.
        OutboundApi = "outbound-api",
        /// A leg started by `<Dial>`.
        OutboundDial = "outbound-dial",
        /// Elastic SIP Trunking, from the customer's side.
        TrunkingOriginating = "trunking-originating",
        /// Elastic SIP Trunking, to the customer's side.
        TrunkingTerminating = "trunking-terminating",
        /// Missing, or an unknown direction.
        Other = "other",
    }
}

impl Direction {
    /// Parses Twilio's direction; unknown ones become [`Direction::Other`].
    pub fn from_word(word: &str) -> Self {
        Self::from_label(word).unwrap_or(Self::Other)
    }
}

/// A Call from a list or a single fetch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// The call's SID.
    pub sid: CallSid,
    /// The status when it was read.
    pub status: CallStatus,
    /// The direction.
    pub direction: Direction,
    /// When the call was dialled; absent while it is queued.
    pub start_time: Option<Timestamp>,
    /// When the call ended; absent while it is in progress, and for some failed calls.
    pub end_time: Option<Timestamp>,
    /// When Twilio created the resource.
    pub date_created: Option<Timestamp>,
    /// When Twilio last changed the resource.
    pub date_updated: Option<Timestamp>,
}

impl Call {
    /// Returns when the call ended: its end time; for a final status, else the last update, start or creation;
    /// otherwise `None`.
    pub fn end(&self) -> Option<Timestamp> {
        match self.end_time {
            Some(end) => Some(end),
            None if self.status.is_final() => {
                self.date_updated.or(self.start_time).or(self.date_created)
            }
            None => None,
        }
    }

    /// Whether the call has ended, with or without an end time.
    pub fn has_ended(&self) -> bool {
        self.end_time.is_some() || self.status.is_final()
    }

    /// Returns the start time, else the creation time.
    pub fn began(&self) -> Option<Timestamp> {
        self.start_time.or(self.date_created)
    }
}
