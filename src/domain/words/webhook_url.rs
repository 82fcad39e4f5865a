//! The parts of a webhook URL that are safe to keep: scheme, host and path.
//!
//! User info, query, fragment and path parameters are removed here, before any other code sees the URL.
//! Nothing is decoded or resolved, so different paths stay different.

use std::borrow::Cow;

/// A webhook URL without its secrets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebhookUrl<'a> {
    /// The scheme, in lower case.
    pub scheme: Cow<'a, str>,
    /// The host, in lower case, with the port unless it is the scheme's default.
    pub host: Cow<'a, str>,
    /// The path without path parameters; `/` if the URL has none.
    pub path: Cow<'a, str>,
}

impl<'a> WebhookUrl<'a> {
    /// Parses a URL (RFC 3986, section 3); returns `None` if it has no scheme or host.
    pub fn parse(url: &'a str) -> Option<Self> {
        let (scheme, rest) = url.trim().split_once("://")?;
        if !scheme.starts_with(|c: char| c.is_ascii_alphabetic())
            || !scheme.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.'))
        {
            return None;
        }
        let scheme = lower_case(scheme);
        let rest = &rest[..rest.find(['?', '#']).unwrap_or(rest.len())];
        let (authority, path) = rest.split_at(rest.find(['/', '\\']).unwrap_or(rest.len()));
        let address = authority.rsplit_once('@').map_or(authority, |(_, address)| address);
        let host = host(&scheme, address)?;
        Some(Self { scheme, host, path: path_without_parameters(path) })
    }
}

fn host<'a>(scheme: &str, address: &'a str) -> Option<Cow<'a, str>> {
    let (name, port) = match address.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => (name, port),
        Some(_) | None => (address, ""),
    };
    let is_bracketed = name.starts_with('[') && name.ends_with(']');
    if name.is_empty() || name.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return None;
    }
    if name.contains(':') && !is_bracketed {
        return None;
    }
    let is_default = matches!((scheme, port), (_, "") | ("http", "80") | ("https", "443"));
    Some(lower_case(if is_default { name } else { address }))
}

fn lower_case(text: &str) -> Cow<'_, str> {
    if text.bytes().all(|byte| byte.is_ascii() && !byte.is_ascii_uppercase()) {
        Cow::Borrowed(text)
    } else {
        Cow::Owned(text.to_lowercase())
    }
}

fn path_without_parameters(path: &str) -> Cow<'_, str> {
    if path.is_empty() {
        return Cow::Borrowed("/");
    }
    if !path.contains(';') {
        return Cow::Borrowed(path);
    }
    let segments: Vec<&str> =
        path.split('/').map(|segment| segment.split(';').next().unwrap_or_default()).collect();
    Cow::Owned(segments.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_scheme_host_and_path_are_kept() {
        check("https://example.com", "https example.com /");
        check("HTTPS://Example.COM:443/Voice", "https example.com /Voice");
        check("http://example.com:8080/a/b?x=1#y", "http example.com:8080 /a/b");
        check("https://user:p@ss@example.com/v#rc=2", "https example.com /v");
        check("https://[2001:DB8::1]:8443/v", "https [2001:db8::1]:8443 /v");
        check("https://example.com?token=secret", "https example.com /");
        check("https://example.com/a;jsessionid=1/b;c", "https example.com /a/b");
        check("https://example.com:/x", "https example.com /x");
        check("https://bücher.example/ä", "https bücher.example /ä");
    }

    #[test]
    fn a_url_without_a_valid_scheme_or_host_is_rejected() {
        for url in ["", "not a url", "/relative", "https://", "https:///path", "tel:+15005550006"] {
            assert_eq!(WebhookUrl::parse(url), None, "{url}");
        }
        for url in
            ["https://a b/", "https://user@/", "https://:80/", "1x://host/", "https://2001:db8::z/"]
        {
            assert_eq!(WebhookUrl::parse(url), None, "{url}");
        }
    }

    fn check(url: &str, expected: &str) {
        let parsed = WebhookUrl::parse(url).expect(url);
        assert_eq!(format!("{} {} {}", parsed.scheme, parsed.host, parsed.path), expected, "{url}");
    }
}
