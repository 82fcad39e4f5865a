//! Why a request to Twilio failed.
//!
//! No error contains text from a response, except the name of a missing permission. The module `advice` says
//! what to do about an error.

use std::fmt;
use std::time::Duration;

use crate::domain::engine::failure::{Failure, FailureReason, PageSizeVerdict, Verdict};
use crate::domain::engine::request::Resource;

use super::advice::{AUTHENTICATE, TEST_CREDENTIALS};
use super::cause::ConnectFailure;

/// The HTTP status of a response, and Twilio's error code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status {
    /// The HTTP status code.
    pub http: u16,
    /// Twilio's error code (<https://www.twilio.com/docs/api/errors>), if the response has one.
    pub code: Option<u32>,
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HTTP {}", self.http)?;
        match self.code {
            Some(code) => write!(f, ", Twilio error {code}"),
            None => Ok(()),
        }
    }
}

/// Why a request failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Twilio refuses the credentials (401 or 403).
    #[error("Twilio refuses {what} ({0})", what = refused_text(*.0))]
    Unauthorized(Status),
    /// The account is suspended, or not active for another reason (error 20005).
    #[error("the account is not active ({0})")]
    NotActive(Status),
    /// The credentials lack a permission (error 70051).
    #[error("the API key lacks {} ({status})", permission_text(.permission.as_deref()))]
    MissingPermission {
        /// With a leading slash, such as `/twilio/voice/calls/list`, if the response names it.
        permission: Option<String>,
        /// The status.
        status: Status,
    },
    /// Twilio doesn't know the resource (404).
    #[error("not found ({0})")]
    NotFound(Status),
    /// The account has too many concurrent requests (429, error 20429).
    #[error("too many concurrent requests for this account ({})", Status { http: 429, code: *.code })]
    TooManyRequests {
        /// How long to wait, if Twilio says so.
        retry_after: Option<Duration>,
        /// Twilio's error code.
        code: Option<u32>,
    },
    /// Twilio failed (5xx).
    #[error("Twilio failed ({status})")]
    Server {
        /// The status.
        status: Status,
        /// How long to wait, if Twilio says so.
        retry_after: Option<Duration>,
    },
    /// A response with any other status, such as a redirect.
    #[error("unexpected response ({0})")]
    UnexpectedStatus(Status),
    /// The response wasn't complete within the timeout.
    #[error("the request timed out")]
    Timeout,
    /// The connection failed: DNS, TCP, TLS or the proxy.
    #[error("cannot connect: {}", .0.text())]
    Connect(ConnectFailure),
    /// The connection broke before the response was complete.
    #[error("the response was cut off")]
    Interrupted,
    /// The response exceeds the size limit.
    #[error("the response is larger than {limit} bytes")]
    TooLarge {
        /// The limit in bytes.
        limit: usize,
    },
    /// The response isn't JSON of the expected structure.
    #[error(
        "the response isn't JSON of the expected structure (HTTP 200, content type `{content_type}`)"
    )]
    Malformed {
        /// The kind of content type: `json`, `html`, `other` or `none`.
        content_type: &'static str,
    },
    /// The response isn't HTTP.
    #[error("the response is not HTTP")]
    NotHttp,
    /// The next page isn't in the same list; credentials aren't sent elsewhere.
    #[error("the next page is on another host or belongs to another list")]
    ForeignNextPage,
}

fn refused_text(status: Status) -> &'static str {
    match status.code {
        Some(AUTHENTICATE) | None => "the credentials",
        Some(TEST_CREDENTIALS) => "test credentials",
        Some(_) => "access",
    }
}

fn permission_text(permission: Option<&str>) -> String {
    match permission {
        Some(permission) => format!("the permission `{permission}`"),
        None => "a permission".to_owned(),
    }
}

impl Error {
    /// Converts the error to the engine's failure, with its consequences for further requests.
    pub fn failure(&self, resource: Resource) -> Failure {
        Failure {
            reason: self.reason(),
            text: self.explained(resource),
            verdict: self.verdict(),
            page_size: self.page_size_verdict(),
        }
    }

    fn verdict(&self) -> Verdict {
        match self {
            Self::TooManyRequests { retry_after, .. } => {
                Verdict::Throttled { retry_after: *retry_after }
            }
            Self::Unauthorized(_) | Self::NotActive(_) | Self::MissingPermission { .. } => {
                Verdict::Refused
            }
            Self::Server { retry_after, .. } => Verdict::Failed { retry_after: *retry_after },
            // Twilio responded, but the request itself is the problem.
            Self::UnexpectedStatus(Status { http: 400..=499, .. })
            | Self::TooLarge { .. }
            | Self::ForeignNextPage => Verdict::Unreadable,
            Self::NotFound(_) => Verdict::NotFound,
            // A retry may succeed, even after a truncated page or a proxy's error page.
            Self::Timeout
            | Self::Connect(_)
            | Self::Interrupted
            | Self::UnexpectedStatus(_)
            | Self::Malformed { .. }
            | Self::NotHttp => Verdict::Failed { retry_after: None },
        }
    }

    /// Returns whether a smaller page may succeed: if Twilio failed or took too long, or the response was too
    /// large or cut off.
    pub fn page_size_verdict(&self) -> PageSizeVerdict {
        match self {
            Self::TooLarge { .. } => PageSizeVerdict::TooLarge,
            Self::Server { .. }
            | Self::Timeout
            | Self::Interrupted
            | Self::Malformed { content_type: "json" } => PageSizeVerdict::PossiblySize,
            Self::Malformed { .. }
            | Self::Unauthorized(_)
            | Self::NotActive(_)
            | Self::MissingPermission { .. }
            | Self::NotFound(_)
            | Self::TooManyRequests { .. }
            | Self::UnexpectedStatus(_)
            | Self::Connect(_)
            | Self::NotHttp
            | Self::ForeignNextPage => PageSizeVerdict::Unrelated,
        }
    }

    /// Returns the error's label value.
    pub const fn reason(&self) -> FailureReason {
        match self {
            Self::Unauthorized(_) => FailureReason::Unauthorized,
            Self::NotActive(_) => FailureReason::NotActive,
            Self::MissingPermission { .. } => FailureReason::MissingPermission,
            Self::NotFound(_) => FailureReason::NotFound,
            Self::TooManyRequests { .. } => FailureReason::Throttled,
            Self::Server { .. } => FailureReason::ServerError,
            Self::UnexpectedStatus(_) => FailureReason::UnexpectedStatus,
            Self::Timeout => FailureReason::Timeout,
            Self::Connect(cause) => cause.reason(),
            Self::Interrupted => FailureReason::Interrupted,
            Self::TooLarge { .. } => FailureReason::TooLarge,
            Self::Malformed { .. } | Self::NotHttp => FailureReason::Malformed,
            Self::ForeignNextPage => FailureReason::ForeignNextPage,
        }
    }
}

impl ConnectFailure {
    const fn reason(self) -> FailureReason {
        match self {
            Self::Dns => FailureReason::Dns,
            Self::Refused => FailureReason::ConnectionRefused,
            Self::Unreachable => FailureReason::Unreachable,
            Self::Timeout => FailureReason::ConnectTimeout,
            Self::Closed => FailureReason::ConnectionClosed,
            Self::UnknownIssuer => FailureReason::TlsUnknownIssuer,
            Self::Expired => FailureReason::TlsExpired,
            Self::NotYetValid => FailureReason::TlsNotYetValid,
            Self::WrongName => FailureReason::TlsWrongName,
            Self::Certificate => FailureReason::TlsCertificate,
            Self::Tls => FailureReason::Tls,
            Self::ProxyDns => FailureReason::ProxyDns,
            Self::ProxyUnreachable => FailureReason::ProxyUnreachable,
            Self::ProxyTls => FailureReason::ProxyTls,
            Self::ProxyCredentials => FailureReason::ProxyCredentials,
            Self::ProxyDenied => FailureReason::ProxyDenied,
            Self::ProxyClosed => FailureReason::ProxyClosed,
            Self::Other => FailureReason::Connection,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classifies_errors_by_whether_a_retry_may_help() {
        let status = |http| Status { http, code: None };
        for (http, expected) in [
            (400, Verdict::Unreadable),
            (410, Verdict::Unreadable),
            (302, Verdict::Failed { retry_after: None }),
        ] {
            assert_eq!(Error::UnexpectedStatus(status(http)).verdict(), expected, "{http}");
        }
        assert_eq!(Error::Timeout.verdict(), Verdict::Failed { retry_after: None });
        assert_eq!(Error::Unauthorized(status(403)).verdict(), Verdict::Refused);
    }
}
