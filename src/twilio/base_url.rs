//! The base URL of Twilio's API, checked to be safe to send credentials to.

use std::fmt;
use std::net::IpAddr;

use reqwest::Url;

/// Twilio's API in the default region.
const DEFAULT: &str = "https://api.twilio.com";

/// The base URL of Twilio's API, or of a reverse proxy in front of it: https, or http to a loopback address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BaseUrl {
    url: Url,
    text: String,
}

/// Why a string isn't a valid base URL. Doesn't contain the string, which may hold a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidBaseUrl {
    /// Not a URL.
    #[error("expected a URL such as `https://proxy.example.com`")]
    Syntax,
    /// A URL with a user name or password.
    #[error("expected a URL without a user name and password")]
    Credentials,
    /// A URL with a query or fragment.
    #[error("expected a URL without a query or fragment")]
    Query,
    /// A URL to which credentials would be sent unencrypted.
    #[error("expected https, or http to a loopback address, because credentials are sent there")]
    Insecure,
}

impl BaseUrl {
    /// Parses a base URL.
    ///
    /// # Errors
    /// Returns [`InvalidBaseUrl`] if credentials must not be sent to the URL, or if it contains more than
    /// scheme, host, port and path.
    pub fn parse(text: &str) -> Result<Self, InvalidBaseUrl> {
        let url = Url::parse(text).map_err(|_| InvalidBaseUrl::Syntax)?;
        let base = Self { url, text: text.to_owned() };
        let url = &base.url;
        if !url.username().is_empty() || url.password().is_some() {
            Err(InvalidBaseUrl::Credentials)
        } else if url.query().is_some() || url.fragment().is_some() {
            Err(InvalidBaseUrl::Query)
        } else if url.scheme() == "https" || (url.scheme() == "http" && base.is_loopback()) {
            Ok(base)
        } else {
            Err(InvalidBaseUrl::Insecure)
        }
    }

    /// Returns the parsed URL.
    pub(super) fn url(&self) -> &Url {
        &self.url
    }

    /// Returns the base URL of the error log: on Twilio's hosts, the matching `monitor.` host; otherwise this
    /// base URL.
    pub(super) fn monitor(&self) -> Url {
        let mut url = self.url.clone();
        if self.region().is_some() || self.host() == "api.twilio.com" {
            let host = self.host().replacen("api.", "monitor.", 1);
            // Can't fail: only the first label changes.
            let _result = url.set_host(Some(&host));
        }
        url
    }

    /// Returns the host.
    pub fn host(&self) -> &str {
        self.url.host_str().unwrap_or_default()
    }

    /// Returns the region in a host such as `api.dublin.ie1.twilio.com`: here, `ie1`.
    pub fn region(&self) -> Option<&str> {
        let labels = self.host().strip_prefix("api.")?.strip_suffix(".twilio.com")?;
        labels.split('.').next_back()
    }

    /// Whether the host is `localhost` or a loopback address.
    pub(super) fn is_loopback(&self) -> bool {
        let host = self.host();
        let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
        host == "localhost" || address.is_ok_and(|address| address.is_loopback())
    }
}

impl Default for BaseUrl {
    fn default() -> Self {
        Self::parse(DEFAULT).expect("the default base URL is valid")
    }
}

impl fmt::Display for BaseUrl {
    /// Writes the URL as it was configured.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_error_log_is_on_the_monitor_host_of_the_same_region() {
        for (base, expected) in [
            ("https://api.twilio.com", "https://monitor.twilio.com/"),
            ("https://api.dublin.ie1.twilio.com", "https://monitor.dublin.ie1.twilio.com/"),
            ("https://proxy.example.com/twilio", "https://proxy.example.com/twilio"),
            ("http://127.0.0.1:8080", "http://127.0.0.1:8080/"),
        ] {
            let base = BaseUrl::parse(base).expect("a base URL");
            assert_eq!(base.monitor().as_str(), expected);
        }
    }

    #[test]
    fn a_base_url_is_https_or_loopback() {
        for text in ["http://api.twilio.com", "ftp://x", "nonsense", "http://10.0.0.1"] {
            assert!(BaseUrl::parse(text).is_err(), "{text}");
        }
        for text in ["http://127.0.0.1:8080", "http://[::1]:1", "http://localhost:2", "https://x"] {
            assert!(BaseUrl::parse(text).is_ok(), "{text}");
        }
    }
}
