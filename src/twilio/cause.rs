//! Why there was no connection to Twilio, as a closed word.
//!
//! Follows the chain of sources of an error of reqwest. No text of it is passed on: it may hold names
//! and addresses.

use std::error::Error as StdError;
use std::io;

use rustls::CertificateError;

use super::error::Error;

/// Why there was no connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoConnection {
    /// The name can't be resolved.
    Dns,
    /// Nothing listens at the address.
    Refused,
    /// There is no way to the address.
    Unreachable,
    /// Nothing answered within the connect timeout.
    Timeout,
    /// The other side closed the connection before it was ready.
    Closed,
    /// The certificate comes from an authority that is not trusted.
    UnknownIssuer,
    /// The certificate has expired.
    Expired,
    /// The certificate is not valid yet.
    NotYetValid,
    /// The certificate belongs to another name.
    WrongName,
    /// The certificate is unusable for another reason.
    Certificate,
    /// There is no common version or cipher, or the other side does not speak TLS.
    Tls,
    /// The name of the proxy can't be resolved.
    ProxyDns,
    /// The proxy can't be reached.
    ProxyUnreachable,
    /// TLS with the proxy failed.
    ProxyTls,
    /// The proxy wants credentials (407).
    ProxyCredentials,
    /// The proxy does not open a connection to Twilio.
    ProxyDenied,
    /// The proxy closed the connection.
    ProxyClosed,
    /// Anything else.
    Other,
}

impl NoConnection {
    /// The same failure where it happened on the way to the proxy.
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

/// What a failed request means.
pub(super) fn transport(error: &reqwest::Error) -> Error {
    if error.is_connect() {
        Error::Connect(no_connection(error))
    } else if error.is_timeout() {
        Error::Timeout
    } else if let Some(cause) = chain(error).find_map(tls) {
        // Servers that ask for a certificate of ours say so after the handshake.
        Error::Connect(cause)
    } else if chain(error).any(is_no_http) {
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

/// Whether what came back is no HTTP.
fn is_no_http(error: &(dyn StdError + 'static)) -> bool {
    error.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_parse)
}

fn no_connection(error: &reqwest::Error) -> NoConnection {
    let is_dns = error.is_dns().then_some(NoConnection::Dns);
    let is_late = error.is_timeout().then_some(NoConnection::Timeout);
    let known = || chain(error).find_map(of_source);
    let cause = is_dns.or_else(known).or(is_late).unwrap_or(NoConnection::Other);
    // Only what happens before Twilio's own TLS begins is part of the tunnel.
    match chain(error).find_map(tunnel) {
        None => cause,
        Some(Tunnel::Answered(by_proxy)) => by_proxy,
        Some(Tunnel::Broken) => cause.at_proxy(),
    }
}

/// How the tunnel through a proxy failed.
enum Tunnel {
    /// By what the proxy said.
    Answered(NoConnection),
    /// For a reason that the sources tell.
    Broken,
}

/// The errors of hyper-util's tunnel are not public: only their text tells them apart.
fn tunnel(error: &(dyn StdError + 'static)) -> Option<Tunnel> {
    let text = error.to_string();
    Some(match text.strip_prefix("tunnel error: ")? {
        "proxy authorization required" => Tunnel::Answered(NoConnection::ProxyCredentials),
        "unexpected end of file" => Tunnel::Answered(NoConnection::ProxyClosed),
        "unsuccessful" | "proxy response headers too long" => {
            Tunnel::Answered(NoConnection::ProxyDenied)
        }
        _ => Tunnel::Broken,
    })
}

fn of_source(error: &(dyn StdError + 'static)) -> Option<NoConnection> {
    let by_kind = |error: &io::Error| of_kind(error.kind());
    tls(error)
        .or_else(|| inner(error).and_then(|inner| chain(inner).find_map(of_source)))
        .or_else(|| error.downcast_ref::<io::Error>().and_then(by_kind))
}

fn tls(error: &(dyn StdError + 'static)) -> Option<NoConnection> {
    let own = error.downcast_ref::<rustls::Error>().map(of_tls);
    own.or_else(|| inner(error).and_then(|inner| chain(inner).find_map(tls)))
}

/// What an I/O error carries, which it hides from its chain of sources.
fn inner<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a (dyn StdError + 'static)> {
    let inner = error.downcast_ref::<io::Error>()?.get_ref()?;
    Some(inner as &(dyn StdError + 'static))
}

#[expect(clippy::wildcard_enum_match_arm, reason = "the kinds of I/O errors are open")]
fn of_kind(kind: io::ErrorKind) -> Option<NoConnection> {
    match kind {
        io::ErrorKind::ConnectionRefused => Some(NoConnection::Refused),
        io::ErrorKind::NetworkUnreachable
        | io::ErrorKind::HostUnreachable
        | io::ErrorKind::NetworkDown
        | io::ErrorKind::AddrNotAvailable
        // A firewall of this machine.
        | io::ErrorKind::PermissionDenied => Some(NoConnection::Unreachable),
        io::ErrorKind::TimedOut => Some(NoConnection::Timeout),
        io::ErrorKind::ConnectionReset
        | io::ErrorKind::ConnectionAborted
        | io::ErrorKind::BrokenPipe
        | io::ErrorKind::NotConnected
        | io::ErrorKind::UnexpectedEof => Some(NoConnection::Closed),
        _ => None,
    }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "rustls may add errors")]
fn of_tls(error: &rustls::Error) -> NoConnection {
    match error {
        rustls::Error::InvalidCertificate(error) => of_certificate(error),
        _ => NoConnection::Tls,
    }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "rustls may add errors")]
fn of_certificate(error: &CertificateError) -> NoConnection {
    match error {
        CertificateError::UnknownIssuer => NoConnection::UnknownIssuer,
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            NoConnection::Expired
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            NoConnection::NotYetValid
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            NoConnection::WrongName
        }
        // A self-signed one, as openssl makes it. Only the text of the error tells it apart.
        CertificateError::Other(error) if error.to_string() == "CaUsedAsEndEntity" => {
            NoConnection::UnknownIssuer
        }
        _ => NoConnection::Certificate,
    }
}

#[cfg(test)]
mod tests;
