//! Where Twilio's API is: a URL that is safe to send credentials to.

use std::fmt;
use std::net::IpAddr;

use reqwest::Url;

/// Twilio's API in its default region.
const DEFAULT: &str = "https://api.twilio.com";

/// The base URL of Twilio's API, or of a proxy in its place: https, or http to this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BaseUrl {
    url: Url,
    text: String,
}

/// Why a text is no base URL. Carries no text: what came may hold a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidBaseUrl {
    /// No URL at all.
    #[error("expected a URL such as `https://proxy.example.com`")]
    Syntax,
    /// A URL with credentials of its own.
    #[error("expected a URL without user and password")]
    Credentials,
    /// A URL of something in particular.
    #[error("expected a URL without query and fragment")]
    Query,
    /// Everyone on the way could read the credentials.
    #[error("expected https, or http to a loopback address: credentials go there")]
    Insecure,
}

impl BaseUrl {
    /// Parses a base URL.
    ///
    /// # Errors
    /// [`InvalidBaseUrl`] for one that credentials must not go to, or that has more than a place.
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

    /// It as a URL.
    pub(super) fn url(&self) -> &Url {
        &self.url
    }

    /// Where the error log is: on a host of its own beside Twilio's, and here on any other.
    pub(super) fn monitor(&self) -> Url {
        let mut url = self.url.clone();
        if self.region().is_some() || self.host() == "api.twilio.com" {
            let host = self.host().replacen("api.", "monitor.", 1);
            // It differs in its first label only.
            let _is_host = url.set_host(Some(&host));
        }
        url
    }

    /// Its host.
    pub fn host(&self) -> &str {
        self.url.host_str().unwrap_or_default()
    }

    /// The region of a host such as `api.dublin.ie1.twilio.com`.
    pub fn region(&self) -> Option<&str> {
        let labels = self.host().strip_prefix("api.")?.strip_suffix(".twilio.com")?;
        labels.split('.').next_back()
    }

    /// Whether it is this machine's own.
    pub(super) fn is_loopback(&self) -> bool {
        let host = self.host();
        let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
        host == "localhost" || address.is_ok_and(|address| address.is_loopback())
    }
}

impl Default for BaseUrl {
    fn default() -> Self {
        Self::parse(DEFAULT).expect("an https URL of a host")
    }
}

impl fmt::Display for BaseUrl {
    /// As it came.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_error_log_has_a_host_of_its_own_in_the_same_region() {
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
    fn credentials_go_over_tls_or_to_loopback_only() {
        for text in ["http://api.twilio.com", "ftp://x", "nonsense", "http://10.0.0.1"] {
            assert!(BaseUrl::parse(text).is_err(), "{text}");
        }
        for text in ["http://127.0.0.1:8080", "http://[::1]:1", "http://localhost:2", "https://x"] {
            assert!(BaseUrl::parse(text).is_ok(), "{text}");
        }
    }
}
