//! A Call as Twilio's list shows it: only what says whether and when its Call Events are read.
//!
//! Source: <https://www.twilio.com/docs/voice/api/call-resource>. Every property may be null there.

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
        /// Answered and under way.
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
        /// A status that Twilio added later.
        Other = "other",
    }
}

impl CallStatus {
    /// Whether a call with this status has not ended yet.
    pub const fn is_active(self) -> bool {
        matches!(self, Self::Queued | Self::Ringing | Self::InProgress)
    }

    /// Whether a call with this status is known to have ended. An unknown status says neither.
    pub const fn is_final(self) -> bool {
        matches!(
            self,
            Self::Completed | Self::Busy | Self::Failed | Self::NoAnswer | Self::Canceled
        )
    }

    /// The status for Twilio's word, [`CallStatus::Other`] for a word not known here.
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
        /// Missing, or a direction that Twilio added later.
        Other = "other",
    }
}

impl Direction {
    /// The direction for Twilio's word, [`Direction::Other`] for a word not known here.
    pub fn from_word(word: &str) -> Self {
        Self::from_label(word).unwrap_or(Self::Other)
    }
}

/// One Call of a list, or fetched singly.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// The call's SID.
    pub sid: CallSid,
    /// The status when the list was read.
    pub status: CallStatus,
    /// Who called whom.
    pub direction: Direction,
    /// When it was dialled; absent for a call that still waits.
    pub start_time: Option<Timestamp>,
    /// When it ended; absent while under way, and for some calls that failed.
    pub end_time: Option<Timestamp>,
    /// When Twilio created the resource.
    pub date_created: Option<Timestamp>,
    /// When Twilio last changed the resource.
    pub date_updated: Option<Timestamp>,
}

impl Call {
    /// When the call ended, as far as the resource tells: its end time, else the last change of a
    /// call in a final status, else `None`.
    pub fn end(&self) -> Option<Timestamp> {
        match self.end_time {
            Some(end) => Some(end),
            None if self.status.is_final() => {
                self.date_updated.or(self.start_time).or(self.date_created)
            }
            None => None,
        }
    }

    /// Whether the resource says that the call has ended, with or without saying when.
    pub fn has_ended(&self) -> bool {
        self.end_time.is_some() || self.status.is_final()
    }

    /// When the call began, as far as the resource tells.
    pub fn began(&self) -> Option<Timestamp> {
        self.start_time.or(self.date_created)
    }
}
