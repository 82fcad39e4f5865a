//! Why a request to Twilio gave nothing.
//!
//! No error carries text from an answer, except the name of a missing permission.

use std::time::Duration;

use crate::domain::label::label_enum;

/// Why a request gave nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Twilio refuses the credentials (401 or 403).
    #[error(
        "Twilio refuses the credentials (HTTP {status}): check account SID and auth token or API key, and that they belong to this region"
    )]
    Unauthorized {
        /// 401 or 403.
        status: u16,
    },
    /// The credentials lack a permission (error 70051).
    #[error("the API key lacks the permission `{permission}`: add it to the key, or use another")]
    MissingPermission {
        /// As Twilio names it, such as `/twilio/voice/calls/list`.
        permission: String,
    },
    /// Twilio doesn't know the resource (404).
    #[error("not found (HTTP 404)")]
    NotFound,
    /// Too many concurrent requests of the account (429, error 20429).
    #[error("too many concurrent requests of this account (HTTP 429)")]
    TooManyRequests {
        /// How long to wait, if Twilio says so.
        retry_after: Option<Duration>,
    },
    /// Twilio failed (5xx).
    #[error("Twilio failed (HTTP {status})")]
    Server {
        /// The status.
        status: u16,
        /// How long to wait, if Twilio says so.
        retry_after: Option<Duration>,
    },
    /// An answer that no rule covers, redirects included.
    #[error("unexpected answer (HTTP {status})")]
    UnexpectedStatus {
        /// The status.
        status: u16,
    },
    /// No answer in time.
    #[error("no answer in time")]
    Timeout,
    /// The connection failed: name, TCP or TLS.
    #[error("cannot connect")]
    Connect,
    /// The connection broke within the answer.
    #[error("the answer broke off")]
    Interrupted,
    /// The answer is larger than is read.
    #[error("the answer is larger than {limit} bytes")]
    TooLarge {
        /// The limit.
        limit: usize,
    },
    /// The answer is no JSON document of the expected shape.
    #[error("the answer is no page of the expected shape (content type `{content_type}`)")]
    Malformed {
        /// The class of content type: `json`, `html`, `other`, `none`.
        content_type: &'static str,
    },
    /// The next page is elsewhere: credentials go nowhere else.
    #[error("the next page is on another host")]
    ForeignNextPage,
    /// A list has more pages than are read, or takes longer.
    #[error("the list has too many pages, or they take too long")]
    Endless,
    /// The pages of a list changed while they were read.
    #[error("the list changed while it was read")]
    Shifted,
    /// A list stopped at a page that names a next one.
    #[error("the list stopped before its end")]
    Incomplete,
}

label_enum! {
    /// An error as a label.
    pub enum ErrorReason {
        /// The credentials are refused.
        Unauthorized = "unauthorized",
        /// A permission is missing.
        MissingPermission = "missing_permission",
        /// Not found.
        NotFound = "not_found",
        /// 429.
        Throttled = "throttled",
        /// 5xx.
        ServerError = "server_error",
        /// Any other status.
        UnexpectedStatus = "unexpected_status",
        /// No answer in time.
        Timeout = "timeout",
        /// No connection, or a broken one.
        Connection = "connection",
        /// Too large.
        TooLarge = "too_large",
        /// No page of the expected shape.
        Malformed = "malformed",
        /// The next page is elsewhere.
        ForeignNextPage = "foreign_next_page",
        /// More pages than are read, or pages that take too long.
        Endless = "endless",
        /// Changed while being read.
        Shifted = "shifted",
        /// Stopped before its end.
        Incomplete = "incomplete",
    }
}

impl Error {
    /// The error as a label.
    pub const fn reason(&self) -> ErrorReason {
        match self {
            Self::Unauthorized { .. } => ErrorReason::Unauthorized,
            Self::MissingPermission { .. } => ErrorReason::MissingPermission,
            Self::NotFound => ErrorReason::NotFound,
            Self::TooManyRequests { .. } => ErrorReason::Throttled,
            Self::Server { .. } => ErrorReason::ServerError,
            Self::UnexpectedStatus { .. } => ErrorReason::UnexpectedStatus,
            Self::Timeout => ErrorReason::Timeout,
            Self::Connect | Self::Interrupted => ErrorReason::Connection,
            Self::TooLarge { .. } => ErrorReason::TooLarge,
            Self::Malformed { .. } => ErrorReason::Malformed,
            Self::ForeignNextPage => ErrorReason::ForeignNextPage,
            Self::Endless => ErrorReason::Endless,
            Self::Shifted => ErrorReason::Shifted,
            Self::Incomplete => ErrorReason::Incomplete,
        }
    }
}
