//! Why a request to Twilio gave nothing.
//!
//! No error carries text from an answer, except the name of a missing permission. What to do about an
//! error is in `advice`.

use std::fmt;
use std::time::Duration;

use crate::domain::words::label::label_enum;

use super::advice::{AUTHENTICATE, TEST_CREDENTIALS};
use super::cause::NoConnection;

/// The status of an answer, and the number that Twilio gives to the error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status {
    /// HTTP's.
    pub http: u16,
    /// Twilio's (<https://www.twilio.com/docs/api/errors>), unless the answer has none.
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

/// Why a request gave nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Twilio refuses the credentials (401 or 403).
    #[error("Twilio refuses {what} ({0})", what = what_is_refused(*.0))]
    Unauthorized(Status),
    /// The account is suspended, or not active for another reason (error 20005).
    #[error("the account is not active ({0})")]
    NotActive(Status),
    /// The credentials lack a permission (error 70051).
    #[error("the API key lacks {} ({status})", named(.permission.as_deref()))]
    MissingPermission {
        /// With a leading slash, such as `/twilio/voice/calls/list`, if the answer names it.
        permission: Option<String>,
        /// What Twilio answered.
        status: Status,
    },
    /// Twilio doesn't know the resource (404).
    #[error("not found ({0})")]
    NotFound(Status),
    /// Too many concurrent requests of the account (429, error 20429).
    #[error("too many concurrent requests of this account ({})", Status { http: 429, code: *.code })]
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
    /// An answer that no rule covers, redirects included.
    #[error("unexpected answer ({0})")]
    UnexpectedStatus(Status),
    /// No answer in time.
    #[error("no answer in time")]
    Timeout,
    /// The connection failed: name, TCP, TLS or proxy.
    #[error("cannot connect: {}", .0.text())]
    Connect(NoConnection),
    /// The connection broke before the answer was complete.
    #[error("the answer broke off")]
    Interrupted,
    /// The answer is larger than is read.
    #[error("the answer is larger than {limit} bytes")]
    TooLarge {
        /// The limit.
        limit: usize,
    },
    /// The answer is no JSON document of the expected shape.
    #[error(
        "the answer is no page of the expected shape (HTTP 200, content type `{content_type}`)"
    )]
    Malformed {
        /// The class of content type: `json`, `html`, `other`, `none`.
        content_type: &'static str,
    },
    /// The answer is no HTTP.
    #[error("the answer is not HTTP")]
    NotHttp,
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

fn what_is_refused(status: Status) -> &'static str {
    match status.code {
        Some(AUTHENTICATE) | None => "the credentials",
        Some(TEST_CREDENTIALS) => "test credentials",
        Some(_) => "access",
    }
}

fn named(permission: Option<&str>) -> String {
    match permission {
        Some(permission) => format!("the permission `{permission}`"),
        None => "a permission".to_owned(),
    }
}

label_enum! {
    /// An error as a label.
    pub enum ErrorReason {
        /// The credentials are refused.
        Unauthorized = "unauthorized",
        /// The account is suspended or closed.
        NotActive = "account_not_active",
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
        /// A connection that broke before the answer was complete.
        Interrupted = "interrupted",
        /// The name can't be resolved.
        Dns = "dns",
        /// Nothing listens at the address.
        ConnectionRefused = "connection_refused",
        /// There is no way to the address.
        Unreachable = "unreachable",
        /// No connection in time.
        ConnectTimeout = "connect_timeout",
        /// Closed before the connection was ready.
        ConnectionClosed = "connection_closed",
        /// An authority that is not trusted.
        TlsUnknownIssuer = "tls_unknown_issuer",
        /// An expired certificate.
        TlsExpired = "tls_expired",
        /// A certificate that is not valid yet.
        TlsNotYetValid = "tls_not_yet_valid",
        /// A certificate for another name.
        TlsWrongName = "tls_wrong_name",
        /// Another unusable certificate.
        TlsCertificate = "tls_certificate",
        /// Any other failure of TLS.
        Tls = "tls",
        /// The proxy's name can't be resolved.
        ProxyDns = "proxy_dns",
        /// The proxy can't be reached.
        ProxyUnreachable = "proxy_unreachable",
        /// TLS with the proxy failed.
        ProxyTls = "proxy_tls",
        /// The proxy wants credentials.
        ProxyCredentials = "proxy_credentials",
        /// The proxy opens no connection to Twilio.
        ProxyDenied = "proxy_denied",
        /// The proxy closed the connection.
        ProxyClosed = "proxy_closed",
        /// Any other failure to connect.
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
    /// Whether a smaller page may succeed where this one failed: Twilio failed over it or took too
    /// long, or its answer broke off.
    pub fn may_be_for_size(&self) -> bool {
        match self {
            Self::Server { .. }
            | Self::Timeout
            | Self::Interrupted
            | Self::TooLarge { .. }
            | Self::Malformed { content_type: "json" } => true,
            Self::Malformed { .. }
            | Self::Unauthorized(_)
            | Self::NotActive(_)
            | Self::MissingPermission { .. }
            | Self::NotFound(_)
            | Self::TooManyRequests { .. }
            | Self::UnexpectedStatus(_)
            | Self::Connect(_)
            | Self::NotHttp
            | Self::ForeignNextPage
            | Self::Endless
            | Self::Shifted
            | Self::Incomplete => false,
        }
    }

    /// The error as a label.
    pub const fn reason(&self) -> ErrorReason {
        match self {
            Self::Unauthorized(_) => ErrorReason::Unauthorized,
            Self::NotActive(_) => ErrorReason::NotActive,
            Self::MissingPermission { .. } => ErrorReason::MissingPermission,
            Self::NotFound(_) => ErrorReason::NotFound,
            Self::TooManyRequests { .. } => ErrorReason::Throttled,
            Self::Server { .. } => ErrorReason::ServerError,
            Self::UnexpectedStatus(_) => ErrorReason::UnexpectedStatus,
            Self::Timeout => ErrorReason::Timeout,
            Self::Connect(cause) => cause.reason(),
            Self::Interrupted => ErrorReason::Interrupted,
            Self::TooLarge { .. } => ErrorReason::TooLarge,
            Self::Malformed { .. } | Self::NotHttp => ErrorReason::Malformed,
            Self::ForeignNextPage => ErrorReason::ForeignNextPage,
            Self::Endless => ErrorReason::Endless,
            Self::Shifted => ErrorReason::Shifted,
            Self::Incomplete => ErrorReason::Incomplete,
        }
    }
}

impl NoConnection {
    const fn reason(self) -> ErrorReason {
        match self {
            Self::Dns => ErrorReason::Dns,
            Self::Refused => ErrorReason::ConnectionRefused,
            Self::Unreachable => ErrorReason::Unreachable,
            Self::Timeout => ErrorReason::ConnectTimeout,
            Self::Closed => ErrorReason::ConnectionClosed,
            Self::UnknownIssuer => ErrorReason::TlsUnknownIssuer,
            Self::Expired => ErrorReason::TlsExpired,
            Self::NotYetValid => ErrorReason::TlsNotYetValid,
            Self::WrongName => ErrorReason::TlsWrongName,
            Self::Certificate => ErrorReason::TlsCertificate,
            Self::Tls => ErrorReason::Tls,
            Self::ProxyDns => ErrorReason::ProxyDns,
            Self::ProxyUnreachable => ErrorReason::ProxyUnreachable,
            Self::ProxyTls => ErrorReason::ProxyTls,
            Self::ProxyCredentials => ErrorReason::ProxyCredentials,
            Self::ProxyDenied => ErrorReason::ProxyDenied,
            Self::ProxyClosed => ErrorReason::ProxyClosed,
            Self::Other => ErrorReason::Connection,
        }
    }
}
