//! Classifies why a connection to Twilio failed.
//!
//! Follows the chain of sources of a reqwest error. None of its text is passed on, because it may contain
//! names and addresses.

use std::error::Error as StdError;
use std::io;

use rustls::CertificateError;

use super::error::Error;

/// Why a connection failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectFailure {
    /// The host name can't be resolved.
    Dns,
    /// Nothing listens at the address.
    Refused,
    /// There is no route to the address.
    Unreachable,
    /// Nothing answered within the connect timeout.
    Timeout,
    /// The server closed the connection before it was established.
    Closed,
    /// The certificate was issued by an authority that isn't trusted.
    UnknownIssuer,
    /// The certificate has expired.
    Expired,
    /// The certificate is not valid yet.
    NotYetValid,
    /// The certificate is for another host name.
    WrongName,
    /// The certificate is unusable for another reason.
    Certificate,
    /// There is no common TLS version or cipher, or the server doesn't speak TLS.
    Tls,
    /// The proxy's host name can't be resolved.
    ProxyDns,
    /// The proxy can't be reached.
    ProxyUnreachable,
    /// TLS with the proxy failed.
    ProxyTls,
    /// The proxy requires credentials (407).
    ProxyCredentials,
    /// The proxy refuses to connect to Twilio.
    ProxyDenied,
    /// The proxy closed the connection.
    ProxyClosed,
    /// Anything else.
    Other,
}

impl ConnectFailure {
    /// Returns the variant for the same failure on the connection to the proxy.
    const fn at_proxy(self) -> Self {
        match self {
            Self::Dns => Self::ProxyDns,
            Self::Refused | Self::Unreachable | Self::Timeout | Self::Other => {
                Self::ProxyUnreachable
            }
            Self::Closed => Self::ProxyClosed,
            Self::UnknownIssuer
            | Self::Expired
            | Self::NotYetValid
            | Self::WrongName
            | Self::Certificate
            | Self::Tls => Self::ProxyTls,
            Self::ProxyDns
            | Self::ProxyUnreachable
            | Self::ProxyTls
            | Self::ProxyCredentials
            | Self::ProxyDenied
            | Self::ProxyClosed => self,
        }
    }
}

/// Classifies the error of a failed request.
pub(super) fn transport(error: &reqwest::Error) -> Error {
    if error.is_connect() {
        Error::Connect(no_connection(error))
    } else if error.is_timeout() {
        Error::Timeout
    } else if let Some(cause) = chain(error).find_map(tls) {
        // Servers that require a client certificate report it after the handshake.
        Error::Connect(cause)
    } else if chain(error).any(is_not_http) {
        Error::NotHttp
    } else {
        Error::Interrupted
    }
}

fn chain<'a>(
    error: &'a (dyn StdError + 'static),
) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    std::iter::successors(Some(error), |&error: &&'a (dyn StdError + 'static)| error.source())
}

/// Whether the response isn't HTTP.
fn is_not_http(error: &(dyn StdError + 'static)) -> bool {
    error.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_parse)
}

fn no_connection(error: &reqwest::Error) -> ConnectFailure {
    let dns = error.is_dns().then_some(ConnectFailure::Dns);
    let timeout = error.is_timeout().then_some(ConnectFailure::Timeout);
    let from_sources = || chain(error).find_map(cause_of_source);
    let cause = dns.or_else(from_sources).or(timeout).unwrap_or(ConnectFailure::Other);
    // A tunnel error occurs only before the TLS handshake with Twilio starts.
    match chain(error).find_map(tunnel) {
        None => cause,
        Some(Tunnel::Refused(by_proxy)) => by_proxy,
        Some(Tunnel::Broken) => cause.at_proxy(),
    }
}

/// How the tunnel through a proxy failed.
enum Tunnel {
    /// The proxy's response shows the cause.
    Refused(ConnectFailure),
    /// The error's sources show the cause.
    Broken,
}

/// Returns how the tunnel failed. Matches the text, because hyper-util's tunnel errors aren't public.
fn tunnel(error: &(dyn StdError + 'static)) -> Option<Tunnel> {
    let text = error.to_string();
    Some(match text.strip_prefix("tunnel error: ")? {
        "proxy authorization required" => Tunnel::Refused(ConnectFailure::ProxyCredentials),
        "unexpected end of file" => Tunnel::Refused(ConnectFailure::ProxyClosed),
        "unsuccessful" | "proxy response headers too long" => {
            Tunnel::Refused(ConnectFailure::ProxyDenied)
        }
        _ => Tunnel::Broken,
    })
}

fn cause_of_source(error: &(dyn StdError + 'static)) -> Option<ConnectFailure> {
    let by_kind = |error: &io::Error| cause_of_io(error.kind());
    tls(error)
        .or_else(|| inner(error).and_then(|inner| chain(inner).find_map(cause_of_source)))
        .or_else(|| error.downcast_ref::<io::Error>().and_then(by_kind))
}

fn tls(error: &(dyn StdError + 'static)) -> Option<ConnectFailure> {
    let own = error.downcast_ref::<rustls::Error>().map(cause_of_tls);
    own.or_else(|| inner(error).and_then(|inner| chain(inner).find_map(tls)))
}

/// Returns the error wrapped in an I/O error, which `source` skips.
fn inner<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a (dyn StdError + 'static)> {
    let inner = error.downcast_ref::<io::Error>()?.get_ref()?;
    Some(inner as &(dyn StdError + 'static))
}

#[expect(clippy::wildcard_enum_match_arm, reason = "`ErrorKind` is non-exhaustive")]
fn cause_of_io(kind: io::ErrorKind) -> Option<ConnectFailure> {
    match kind {
        io::ErrorKind::ConnectionRefused => Some(ConnectFailure::Refused),
        io::ErrorKind::NetworkUnreachable
        | io::ErrorKind::HostUnreachable
        | io::ErrorKind::NetworkDown
        | io::ErrorKind::AddrNotAvailable
        // This machine's firewall.
        | io::ErrorKind::PermissionDenied => Some(ConnectFailure::Unreachable),
        io::ErrorKind::TimedOut => Some(ConnectFailure::Timeout),
        io::ErrorKind::ConnectionReset
        | io::ErrorKind::ConnectionAborted
        | io::ErrorKind::BrokenPipe
        | io::ErrorKind::NotConnected
        | io::ErrorKind::UnexpectedEof => Some(ConnectFailure::Closed),
        _ => None,
    }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "rustls may add errors")]
fn cause_of_tls(error: &rustls::Error) -> ConnectFailure {
    match error {
        rustls::Error::InvalidCertificate(error) => cause_of_certificate(error),
        _ => ConnectFailure::Tls,
    }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "rustls may add errors")]
fn cause_of_certificate(error: &CertificateError) -> ConnectFailure {
    match error {
        CertificateError::UnknownIssuer => ConnectFailure::UnknownIssuer,
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            ConnectFailure::Expired
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            ConnectFailure::NotYetValid
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            ConnectFailure::WrongName
        }
        // A self-signed certificate as openssl creates it. The error's type isn't public, so match its text.
        CertificateError::Other(error) if error.to_string() == "CaUsedAsEndEntity" => {
            ConnectFailure::UnknownIssuer
        }
        _ => ConnectFailure::Certificate,
    }
}

#[cfg(test)]
mod tests;
