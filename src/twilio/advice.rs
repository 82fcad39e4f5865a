//! Advice on errors for the operator: one line each, chosen by Twilio's error code if there is one.

use crate::domain::engine::request::Resource;

use super::cause::ConnectFailure;
use super::error::{Error, Status};

/// Twilio's code for credentials that are wrong, or of a kind that this request doesn't accept.
pub(super) const AUTHENTICATE: u32 = 20_003;
/// Twilio's code for an account that isn't active.
pub(super) const NOT_ACTIVE: u32 = 20_005;
/// Twilio's code for test credentials.
pub(super) const TEST_CREDENTIALS: u32 = 20_008;
/// Twilio's code for a missing permission.
pub(super) const MISSING_PERMISSION: u32 = 70_051;

/// The advice on a response that may not be Twilio's.
const NOT_TWILIOS: &str = "the response has no Twilio error code, so it may come from a proxy or gateway: \
     check the base URL";

impl Error {
    /// Returns the error's text, followed by advice.
    pub fn explained(&self, resource: Resource) -> String {
        match self.advice(resource) {
            Some(advice) => format!("{self}: {advice}"),
            None => self.to_string(),
        }
    }

    fn advice(&self, resource: Resource) -> Option<String> {
        let advice = match self {
            Self::Unauthorized(status) => return Some(authorization_advice(*status, resource)),
            Self::NotActive(_) => {
                "it is suspended or closed, and the credentials are not the cause: see Twilio's console"
            }
            Self::MissingPermission { permission: Some(_), .. } => {
                "add it to the key, or use another key"
            }
            Self::MissingPermission { permission: None, .. } => {
                return Some(format!(
                    "{}: add it to the key, or use another key",
                    requirement(resource)
                ));
            }
            Self::NotFound(Status { code: None, .. })
            | Self::Server { status: Status { code: None, .. }, .. } => NOT_TWILIOS,
            Self::NotFound(_) => "check the Account SID and the region",
            Self::TooManyRequests { .. } => {
                "the exporter slows down; other programs share this limit"
            }
            Self::Server { .. } => "the request will be retried; see status.twilio.com",
            Self::UnexpectedStatus(Status { code: Some(code), .. }) => {
                return Some(format!("see https://www.twilio.com/docs/errors/{code}"));
            }
            Self::UnexpectedStatus(_) | Self::NotHttp => NOT_TWILIOS,
            Self::Malformed { .. } => {
                "a proxy, gateway or login page may have answered instead of Twilio: check the base URL and the proxy"
            }
            Self::Timeout => "Twilio or the network is slow; the limit is api.timeout",
            Self::Connect(cause) => cause.advice(),
            Self::Interrupted => "Twilio, a proxy or a firewall closed the connection",
            Self::ForeignNextPage => "check the base URL",
            Self::TooLarge { .. } => return None,
        };
        Some(advice.to_owned())
    }
}

/// Returns the advice on a 401 or 403.
fn authorization_advice(status: Status, resource: Resource) -> String {
    const CREDENTIALS: &str =
        "check the Account SID and the auth token or API key, and that they belong to this region";
    match (status.code, resource) {
        (Some(AUTHENTICATE), Resource::Accounts) => format!(
            "only an auth token or a Main API key can list subaccounts; if you use one, {CREDENTIALS}"
        ),
        (Some(TEST_CREDENTIALS), _) => "they can't read calls: use the live credentials".to_owned(),
        (Some(AUTHENTICATE), _) => CREDENTIALS.to_owned(),
        (Some(code), _) => {
            format!("see https://www.twilio.com/docs/errors/{code}")
        }
        // Twilio may also refuse test credentials without a code.
        (None, _) => format!("{CREDENTIALS}; {NOT_TWILIOS}"),
    }
}

/// Returns the permission or credentials that reading a resource requires.
///
/// Source: Twilio's list of permissions for restricted API keys.
fn requirement(resource: Resource) -> &'static str {
    match resource {
        Resource::Calls => "lists of calls need `/twilio/voice/calls/list`",
        Resource::Call => "individual calls need `/twilio/voice/calls/read`",
        Resource::CallEvents => "Call Events need `/twilio/voice/request-inspector/read`",
        Resource::Accounts => "subaccounts need an auth token or a Main API key",
        Resource::ErrorLog => "the error log needs `/twilio/monitor/alerts/list`",
    }
}

impl ConnectFailure {
    /// Returns the cause as text.
    pub(super) const fn text(self) -> &'static str {
        match self {
            Self::Dns => "the host name can't be resolved",
            Self::Refused => "connection refused",
            Self::Unreachable => "network or host unreachable",
            Self::Timeout => "the connection attempt timed out",
            Self::Closed => "the connection was closed immediately",
            Self::UnknownIssuer => "the certificate's issuer is unknown",
            Self::Expired => "the certificate has expired",
            Self::NotYetValid => "the certificate is not valid yet",
            Self::WrongName => "the certificate is for another host name",
            Self::Certificate => "the certificate can't be used",
            Self::Tls => "the TLS handshake failed",
            Self::ProxyDns => "the proxy's host name can't be resolved",
            Self::ProxyUnreachable => "the proxy can't be reached",
            Self::ProxyTls => "TLS with the proxy failed",
            Self::ProxyCredentials => "the proxy asks for credentials (HTTP 407)",
            Self::ProxyDenied => "the proxy refuses to connect to Twilio",
            Self::ProxyClosed => "the proxy closed the connection",
            Self::Other => "the connection failed",
        }
    }

    const fn advice(self) -> &'static str {
        match self {
            Self::Dns => "check the base URL or region and edge, and this machine's DNS",
            Self::Refused => "check the base URL; nothing listens there, or a firewall rejects it",
            Self::Unreachable => {
                "check routes and firewalls; if the network requires a proxy, set HTTPS_PROXY"
            }
            Self::Timeout => {
                "a firewall may be dropping it: allow HTTPS to Twilio, or to the proxy if HTTPS_PROXY is set"
            }
            Self::Closed => {
                "a firewall may be closing it, or the base URL doesn't point to an HTTPS server"
            }
            Self::UnknownIssuer => {
                "if a proxy inspects TLS, set api.ca_file to the CA that signs its certificates; otherwise install ca-certificates"
            }
            Self::Expired | Self::NotYetValid => {
                "check this machine's clock, and the certificate of the host in the base URL"
            }
            Self::WrongName => {
                "check the base URL, and whether another server responds in Twilio's place"
            }
            Self::Certificate => {
                "the server needs its own certificate, signed by a certificate authority"
            }
            Self::Tls => {
                "the server must support TLS 1.2 or 1.3 and must not require a client certificate: check the base URL"
            }
            Self::ProxyDns | Self::ProxyUnreachable => {
                "check HTTPS_PROXY, and that the proxy is running and reachable from this machine"
            }
            Self::ProxyTls => {
                "check the proxy's certificate, and whether HTTPS_PROXY should start with http://"
            }
            Self::ProxyCredentials => "set the correct user name and password in HTTPS_PROXY",
            Self::ProxyDenied => {
                "allow CONNECT to Twilio's host on port 443 in the proxy; its log says why"
            }
            Self::ProxyClosed => "check that HTTPS_PROXY names an HTTP proxy; its log may say why",
            Self::Other => "check the network and the base URL",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_advice_depends_on_twilios_error_code() {
        let refused = |code| Error::Unauthorized(Status { http: 401, code });
        let lacks = Error::MissingPermission {
            permission: None,
            status: Status { http: 401, code: Some(MISSING_PERMISSION) },
        };
        for (error, resource, expected) in [
            (
                refused(Some(20_003)),
                Resource::Calls,
                "(HTTP 401, Twilio error 20003): check the Account SID",
            ),
            (refused(Some(20_003)), Resource::Accounts, "only an auth token or a Main API key"),
            (refused(Some(20_008)), Resource::Calls, "refuses test credentials"),
            (
                refused(Some(20_006)),
                Resource::Calls,
                "access (HTTP 401, Twilio error 20006): see https",
            ),
            (refused(None), Resource::Calls, "may come from a proxy or gateway"),
            (lacks.clone(), Resource::Calls, "`/twilio/voice/calls/list`"),
            (lacks.clone(), Resource::Call, "`/twilio/voice/calls/read`"),
            (lacks.clone(), Resource::CallEvents, "`/twilio/voice/request-inspector/read`"),
            (lacks.clone(), Resource::Accounts, "a Main API key"),
            (lacks, Resource::ErrorLog, "`/twilio/monitor/alerts/list`"),
            (
                Error::NotActive(Status { http: 403, code: Some(NOT_ACTIVE) }),
                Resource::Calls,
                "not active (HTTP 403, Twilio error 20005): it is suspended",
            ),
            (
                Error::TooManyRequests { retry_after: None, code: Some(20_429) },
                Resource::Calls,
                "(HTTP 429, Twilio error 20429)",
            ),
        ] {
            let text = error.explained(resource);
            assert!(text.contains(expected), "{expected}: {text}");
        }
    }
}
