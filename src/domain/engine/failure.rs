//! Why a request showed nothing, and what that says of the next ones.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::domain::words::label::label_enum;

use super::lists::Stop;

/// Why a request showed nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Why, as a label.
    pub reason: FailureReason,
    /// Why, and what to do about it, for a person.
    pub text: String,
    /// What it says of the next requests.
    pub verdict: Verdict,
    /// Whether a smaller page may succeed.
    pub page_size: PageSizeVerdict,
}

/// What a failed request says of the next ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Fewer requests at once, and a pause: the customer's live calls come first.
    Throttled {
        /// How long Twilio asks to wait.
        retry_after: Option<Duration>,
    },
    /// Not shown to these credentials: the call's own matter, or the list's, until others are
    /// refused as well.
    Refused,
    /// Twilio failed, or could not be reached: this one is tried again later, and several in a row
    /// pause the account.
    Failed {
        /// How long Twilio asks to wait.
        retry_after: Option<Duration>,
    },
    /// Twilio doesn't know what was asked for.
    NotFound,
    /// Twilio answers, but not with what was asked for: the request itself is at fault.
    Unreadable,
}

/// Whether a smaller page may succeed where one failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PageSizeVerdict {
    /// The failure has nothing to do with the size.
    Unrelated,
    /// It may have: a second one of the same kind asks for smaller pages.
    MayBeForSize,
    /// The answer was larger than is read.
    TooLarge,
}

label_enum! {
    /// Why a request showed nothing, or a read of several pages no reading, as a label.
    pub enum FailureReason {
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

impl Failure {
    /// A read whose pages could all be read, and show no reading.
    pub(super) fn of_pages(reason: FailureReason, text: &str) -> Self {
        Self {
            reason,
            text: text.to_owned(),
            verdict: Verdict::Unreadable,
            page_size: PageSizeVerdict::Unrelated,
        }
    }
}

/// Every reason that a request, or a list, is asked for again.
pub fn retry_reasons() -> BTreeSet<&'static str> {
    let failures = FailureReason::ALL.iter().map(|reason| reason.as_str());
    // For want of room a list is not tried again: it ends where it is known to.
    let stops = Stop::ALL.iter().filter(|stop| **stop != Stop::NoRoom).map(|stop| stop.as_str());
    failures.chain(stops).collect()
}
