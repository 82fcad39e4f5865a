//! The proxy through which Twilio is reached.
//!
//! Settings are parsed strictly, and this module decides which requests use the proxy. The HTTP client is
//! given either this proxy or none, and never reads the environment: it would ignore a setting that it can't
//! use, and connect directly.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

use hyper_util::client::proxy::matcher::Matcher;
use reqwest::Url;

use super::base_url::BaseUrl;

/// Quotes that may surround a value by mistake.
const QUOTES: [char; 3] = ['"', '\'', '`'];

/// Why a string isn't a valid proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidProxy {
    /// The value is in quotes, which would become part of it.
    #[error("it is in quotes")]
    Quotes,
    /// It contains white space or control characters.
    #[error("it contains white space")]
    WhiteSpace,
    /// A SOCKS proxy.
    #[error("SOCKS proxies are not supported")]
    Socks,
    /// Any other scheme.
    #[error("its scheme is neither `http` nor `https`")]
    Scheme,
    /// There is something after host and port: often a part of a password.
    #[error(
        "it has more than a host and a port (percent-encode special characters in its user name and password)"
    )]
    Rest,
    /// The host is missing or invalid.
    #[error("it has no valid host")]
    Host,
    /// A single word: `none`, `true`, or a misplaced secret.
    #[error("it is a single word")]
    Word,
    /// The port after a colon is missing or invalid.
    #[error("its port is not a number from 1 to 65535")]
    Port,
}

/// How requests reach a base URL.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Path {
    /// Through the proxy.
    Proxy,
    /// Directly: the host is this machine, which the proxy can't reach.
    Loopback,
    /// Directly: the host is one of the exceptions.
    Exception,
}

/// A proxy, and the hosts that are reached without it.
#[derive(Clone, PartialEq, Eq)]
pub struct Proxy {
    /// Includes the user name and password, if there are any.
    url: Url,
    address: String,
    exceptions: String,
    source: &'static str,
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Proxy").field(&self.address).finish()
    }
}

impl Proxy {
    /// Parses a proxy such as `http://user:password@proxy.example.com:3128`, and exceptions such as
    /// `localhost,.example.com,10.0.0.0/8`. `source` names the setting.
    ///
    /// # Errors
    /// Returns [`InvalidProxy`] for a string that the HTTP client would ignore or could never connect with.
    pub fn parse(text: &str, exceptions: &str, source: &'static str) -> Result<Self, InvalidProxy> {
        if text.starts_with(QUOTES) || text.ends_with(QUOTES) {
            return Err(InvalidProxy::Quotes);
        }
        if text.contains(|c: char| c.is_whitespace() || c.is_control()) {
            return Err(InvalidProxy::WhiteSpace);
        }
        if text.chars().all(|c| c.is_ascii_alphanumeric()) {
            return Err(InvalidProxy::Word);
        }
        let (scheme, rest) = text.split_once("://").unwrap_or(("http", text));
        let scheme = scheme.to_ascii_lowercase();
        match scheme.as_str() {
            "http" | "https" => {}
            "socks" | "socks4" | "socks4a" | "socks5" | "socks5h" => {
                return Err(InvalidProxy::Socks);
            }
            _ => return Err(InvalidProxy::Scheme),
        }
        let authority = rest.strip_suffix('/').unwrap_or(rest);
        if authority.contains(['/', '\\', '?', '#']) {
            return Err(InvalidProxy::Rest);
        }
        let (userinfo, address) = match authority.rsplit_once('@') {
            Some((userinfo, address)) => (Some(userinfo), address),
            None => (None, authority),
        };
        let (host, port) = host_and_port(address)?;
        let port = match port {
            Some(port) => port,
            None if scheme == "https" => 443,
            None => 80,
        };
        let address = format!("{host}:{port}");
        let mut url =
            Url::parse(&format!("{scheme}://{address}")).map_err(|_| InvalidProxy::Host)?;
        if let Some(userinfo) = userinfo {
            let (name, password) = match userinfo.split_once(':') {
                Some((name, password)) => (name, Some(password)),
                None => (userinfo, None),
            };
            let result = url.set_username(name).and_then(|()| url.set_password(password));
            result.map_err(|()| InvalidProxy::Rest)?;
        }
        let exceptions: Vec<String> = exceptions
            .split(|c: char| c == ',' || c.is_whitespace())
            .map(exception)
            .filter(|exception| !exception.is_empty())
            .collect();
        let proxy = Self { url, address, exceptions: exceptions.join(","), source };
        // Check that the client accepts it.
        let is_usable = proxy.is_used_for("https://twilio.example", "");
        if is_usable { Ok(proxy) } else { Err(InvalidProxy::Rest) }
    }

    /// Returns the host and port.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Returns the name of the setting that the proxy comes from.
    pub fn source(&self) -> &'static str {
        self.source
    }

    /// Returns how requests reach a base URL.
    pub fn path_to(&self, base: &BaseUrl) -> Path {
        if base.is_loopback() {
            Path::Loopback
        } else if self.exceptions.split(',').any(|exception| exception == "*")
            || !self.is_used_for(base.url().as_str(), &self.exceptions)
        {
            Path::Exception
        } else {
            Path::Proxy
        }
    }

    fn is_used_for(&self, url: &str, exceptions: &str) -> bool {
        let matcher = Matcher::builder().all(self.url.as_str()).no(exceptions).build();
        url.parse().is_ok_and(|uri| matcher.intercept(&uri).is_some())
    }

    /// Converts the proxy for an HTTP client that sends every request through it.
    pub(super) fn for_client(&self) -> reqwest::Result<reqwest::Proxy> {
        reqwest::Proxy::all(self.url.clone())
    }
}

/// Splits a string into a host and an optional port.
fn host_and_port(text: &str) -> Result<(&str, Option<u16>), InvalidProxy> {
    let (host, port) = match text.rsplit_once(':') {
        // The colon is within an IPv6 address.
        Some((_, tail)) if tail.ends_with(']') => (text, None),
        Some((host, port)) => (host, Some(port)),
        None => (text, None),
    };
    let ipv6 = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let is_host = match ipv6 {
        Some(address) => address.parse::<Ipv6Addr>().is_ok(),
        None => is_name(host) || host.parse::<Ipv4Addr>().is_ok(),
    };
    if !is_host {
        return Err(InvalidProxy::Host);
    }
    let is_number = |port: &&str| port.bytes().all(|byte| byte.is_ascii_digit());
    let port = port.map(|port| {
        let number = Some(port).filter(is_number).and_then(|port| port.parse().ok());
        number.filter(|port| *port > 0).ok_or(InvalidProxy::Port)
    });
    Ok((host, port.transpose()?))
}

/// Whether a string can be a DNS name. The last label must not start with a digit: it could be read as an
/// address.
fn is_name(text: &str) -> bool {
    let is_label = |label: &str| {
        let is_inner = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        !label.is_empty() && label.bytes().all(is_inner)
    };
    let name = text.strip_suffix('.').unwrap_or(text);
    let last = name.rsplit('.').next().unwrap_or_default();
    name.split('.').all(is_label) && last.starts_with(|c: char| !c.is_ascii_digit())
}

/// Converts an exception to a form the client supports: a domain with its subdomains, an address or a
/// network. Other programs also accept `*.example.com`, and hosts with a scheme or port.
fn exception(text: &str) -> String {
    let host = text.split_once("://").map_or(text, |(_, host)| host);
    let host = host.strip_suffix('/').unwrap_or(host);
    let host = match host.rsplit_once(':') {
        Some((name, port)) if !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()) => {
            // With colons and no brackets, it is a bare IPv6 address.
            if name.contains(':') && !name.ends_with(']') { host } else { name }
        }
        Some(_) | None => host,
    };
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    host.strip_prefix("*.").unwrap_or(host).trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_a_proxys_host_and_port() {
        for (text, address, url) in [
            (
                "http://proxy.example.com:3128",
                "proxy.example.com:3128",
                "http://proxy.example.com:3128/",
            ),
            (
                "http://proxy.example.com:3128/",
                "proxy.example.com:3128",
                "http://proxy.example.com:3128/",
            ),
            ("HTTP://Proxy:3128", "Proxy:3128", "http://proxy:3128/"),
            ("proxy:3128", "proxy:3128", "http://proxy:3128/"),
            ("proxy.local", "proxy.local:80", "http://proxy.local/"),
            ("http://proxy", "proxy:80", "http://proxy/"),
            ("https://proxy", "proxy:443", "https://proxy/"),
            ("https://proxy:3128", "proxy:3128", "https://proxy:3128/"),
            ("10.0.0.1:3128", "10.0.0.1:3128", "http://10.0.0.1:3128/"),
            ("http://[fd00::1]:3128", "[fd00::1]:3128", "http://[fd00::1]:3128/"),
            ("http://[fd00::1]", "[fd00::1]:80", "http://[fd00::1]/"),
            ("http://squid_1.local.:3128", "squid_1.local.:3128", "http://squid_1.local.:3128/"),
            ("http://user:word@proxy:3128", "proxy:3128", "http://user:word@proxy:3128/"),
            ("user:word@proxy:3128", "proxy:3128", "http://user:word@proxy:3128/"),
            ("http://user@proxy:3128", "proxy:3128", "http://user@proxy:3128/"),
            ("http://D%5Cu:p%40s%3As@proxy:1", "proxy:1", "http://D%5Cu:p%40s%3As@proxy:1/"),
            ("http://u:p@s:s@proxy:1", "proxy:1", "http://u:p%40s%3As@proxy:1/"),
            ("http://u:$p'!&*()=+;,~@proxy:1", "proxy:1", "http://u:$p'!&*()%3D+%3B,~@proxy:1/"),
        ] {
            let proxy = Proxy::parse(text, "", "HTTPS_PROXY").expect(text);
            assert_eq!((proxy.address(), proxy.url.as_str()), (address, url), "{text}");
            assert!(!format!("{proxy:?}").contains('@'), "{proxy:?}");
        }
    }

    #[test]
    fn rejects_a_proxy_that_the_client_would_ignore_or_never_reach() {
        for (text, expected) in [
            ("\"http://proxy:3128\"", InvalidProxy::Quotes),
            ("'http://proxy:3128'", InvalidProxy::Quotes),
            ("http://proxy:3128\"", InvalidProxy::Quotes),
            ("http://pro xy:3128", InvalidProxy::WhiteSpace),
            ("http://proxy:3128\nhttp://other", InvalidProxy::WhiteSpace),
            ("htp://proxy:3128", InvalidProxy::Scheme),
            ("ftp://proxy:3128", InvalidProxy::Scheme),
            ("://proxy:3128", InvalidProxy::Scheme),
            ("socks5://proxy:1080", InvalidProxy::Socks),
            ("socks5h://proxy:1080", InvalidProxy::Socks),
            ("SOCKS4://proxy:1080", InvalidProxy::Socks),
            ("socks4a://proxy", InvalidProxy::Socks),
            ("socks://proxy", InvalidProxy::Socks),
            ("http:/proxy:3128", InvalidProxy::Rest),
            ("http//proxy:3128", InvalidProxy::Rest),
            ("http:\\\\proxy:3128", InvalidProxy::Rest),
            ("http:///proxy:3128", InvalidProxy::Rest),
            ("http://proxy:3128/wpad.dat", InvalidProxy::Rest),
            ("http://proxy:3128?x", InvalidProxy::Rest),
            ("http://user:pa#ss@proxy:3128", InvalidProxy::Rest),
            ("http://user:pa/ss@proxy:3128", InvalidProxy::Rest),
            ("http://", InvalidProxy::Host),
            ("http://:3128", InvalidProxy::Host),
            (":3128", InvalidProxy::Host),
            ("3128", InvalidProxy::Word),
            ("none", InvalidProxy::Word),
            ("abcdef0123456789abcdef0123456789", InvalidProxy::Word),
            ("http://3128", InvalidProxy::Host),
            ("http://user:word@", InvalidProxy::Host),
            ("http:proxy:3128", InvalidProxy::Host),
            ("http://fd00::1:3128", InvalidProxy::Host),
            ("http://\"proxy\":3128", InvalidProxy::Host),
            ("http://[proxy]:3128", InvalidProxy::Host),
            ("http://${PROXY}:3128", InvalidProxy::Host),
            ("http://pro,xy:3128", InvalidProxy::Host),
            ("http://300.0.0.1:3128", InvalidProxy::Host),
            ("http://proxy..example:3128", InvalidProxy::Host),
            ("http://proxy:", InvalidProxy::Port),
            ("http://proxy:port", InvalidProxy::Port),
            ("http://proxy:0", InvalidProxy::Port),
            ("http://proxy:-1", InvalidProxy::Port),
            ("http://proxy:+80", InvalidProxy::Port),
            ("http://proxy:65536", InvalidProxy::Port),
        ] {
            assert_eq!(Proxy::parse(text, "", "HTTPS_PROXY").err(), Some(expected), "{text}");
        }
    }

    #[test]
    fn exceptions_and_this_machine_are_reached_directly() {
        let twilio = "https://api.twilio.com";
        for (exceptions, base, expected) in [
            ("", twilio, Path::Proxy),
            ("", "http://127.0.0.1:1", Path::Loopback),
            ("", "https://localhost", Path::Loopback),
            ("", "https://[::1]:1", Path::Loopback),
            ("twilio.com", twilio, Path::Exception),
            ("API.Twilio.com", twilio, Path::Exception),
            (".twilio.com", twilio, Path::Exception),
            ("*.twilio.com", twilio, Path::Exception),
            ("api.twilio.com:443", twilio, Path::Exception),
            ("https://api.twilio.com/", twilio, Path::Exception),
            ("*", twilio, Path::Exception),
            ("localhost,*", "https://10.1.2.3", Path::Exception),
            ("localhost, .svc ,twilio.com", twilio, Path::Exception),
            ("localhost twilio.com", twilio, Path::Exception),
            ("localhost,,10.0.0.0/8,", twilio, Path::Proxy),
            ("notwilio.com,wilio.com,api.twilio.com.example", twilio, Path::Proxy),
            ("10.0.0.0/8", "https://10.1.2.3", Path::Exception),
            ("10.0.0.0/8", "https://11.1.2.3", Path::Proxy),
            ("fd00::/8", "https://[fd00::1]", Path::Exception),
            ("fd00::1", "https://[fd00::1]", Path::Exception),
            ("[fd00::1]:443", "https://[fd00::1]", Path::Exception),
        ] {
            let proxy = Proxy::parse("proxy:3128", exceptions, "HTTPS_PROXY").expect("a proxy");
            let base = BaseUrl::parse(base).expect("a base URL");
            assert_eq!(proxy.path_to(&base), expected, "{exceptions} {base}");
        }
    }
}
