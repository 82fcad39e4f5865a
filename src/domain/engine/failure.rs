//! Failures of requests, and their consequences for later requests.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::domain::words::label::label_enum;

use super::lists::Stop;

/// A failure of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The reason, as a label.
    pub reason: FailureReason,
    /// The reason and the remedy, as a message for the operator.
    pub text: String,
    /// The consequence for later requests.
    pub verdict: Verdict,
    /// Whether a smaller page may succeed.
    pub page_size: PageSizeVerdict,
}

/// The consequence of a failed request for later ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Twilio throttles: send fewer requests at once, and pause. The customer's live calls take precedence.
    Throttled {
        /// The time that Twilio asks to wait.
        retry_after: Option<Duration>,
    },
    /// These credentials have no access: this concerns only the call or list, until others are refused as well.
    Refused,
    /// Twilio failed or could not be reached: retry later. Several consecutive failures pause the account.
    Failed {
        /// The time that Twilio asks to wait.
        retry_after: Option<Duration>,
    },
    /// Twilio doesn't know the resource.
    NotFound,
    /// Twilio responds, but not with the requested content: the request itself is at fault.
    Unreadable,
}

/// Whether a smaller page may succeed after a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PageSizeVerdict {
    /// The failure is unrelated to the page size.
    Unrelated,
    /// The page size may be the cause: a second failure of the same kind reduces it.
    PossiblySize,
    /// The response exceeded the maximum size.
    TooLarge,
}

label_enum! {
    /// Why a request, or a read of several pages, failed, as a label.
    pub enum FailureReason {
        /// The credentials were rejected.
        Unauthorized = "unauthorized",
        /// The account is suspended or closed.
        NotActive = "account_not_active",
        /// A permission is missing.
        MissingPermission = "missing_permission",
        /// Not found.
        NotFound = "not_found",
        /// Status 429.
        Throttled = "throttled",
        /// Status 5xx.
        ServerError = "server_error",
        /// Any other status.
        UnexpectedStatus = "unexpected_status",
        /// No response in time.
        Timeout = "timeout",
        /// The connection broke before the response was complete.
        Interrupted = "interrupted",
        /// The name can't be resolved.
        Dns = "dns",
        /// Nothing listens at the address.
        ConnectionRefused = "connection_refused",
        /// No route to the address.
        Unreachable = "unreachable",
        /// No connection in time.
        ConnectTimeout = "connect_timeout",
        /// The connection was closed before it was ready.
        ConnectionClosed = "connection_closed",
        /// The issuer of the certificate isn't trusted.
        TlsUnknownIssuer = "tls_unknown_issuer",
        /// The certificate has expired.
        TlsExpired = "tls_expired",
        /// The certificate isn't valid yet.
        TlsNotYetValid = "tls_not_yet_valid",
        /// The certificate is for another name.
        TlsWrongName = "tls_wrong_name",
        /// The certificate is otherwise unusable.
        TlsCertificate = "tls_certificate",
        /// Any other TLS failure.
        Tls = "tls",
        /// The proxy's name can't be resolved.
        ProxyDns = "proxy_dns",
        /// The proxy can't be reached.
        ProxyUnreachable = "proxy_unreachable",
        /// TLS with the proxy failed.
        ProxyTls = "proxy_tls",
        /// The proxy requires credentials.
        ProxyCredentials = "proxy_credentials",
        /// The proxy refused to connect to Twilio.
        ProxyDenied = "proxy_denied",
        /// The proxy closed the connection.
        ProxyClosed = "proxy_closed",
        /// Any other failure to connect.
        Connection = "connection",
        /// The response is too large.
        TooLarge = "too_large",
        /// The response doesn't have the expected structure.
        Malformed = "malformed",
        /// The next page is on another host or of another list.
        ForeignNextPage = "foreign_next_page",
        /// The list has too many pages, or takes too long to read.
        Endless = "endless",
        /// The list changed while it was being read.
        Shifted = "shifted",
        /// The list stopped before its end.
        Incomplete = "incomplete",
    }
}

impl Failure {
    /// Creates the failure of a list whose pages could be read but are invalid together.
    pub(super) fn invalid_pages(reason: FailureReason, text: &str) -> Self {
        Self {
            reason,
            text: text.to_owned(),
            verdict: Verdict::Unreadable,
            page_size: PageSizeVerdict::Unrelated,
        }
    }
}

/// Returns all reasons for which a request or a list is retried.
pub fn retry_reasons() -> BTreeSet<&'static str> {
    let failures = FailureReason::ALL.iter().map(|reason| reason.as_str());
    // A list that stops for lack of room doesn't count as retried.
    let stops = Stop::ALL.iter().filter(|stop| **stop != Stop::NoRoom).map(|stop| stop.as_str());
    failures.chain(stops).collect()
}
