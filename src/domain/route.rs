//! Host and route: where a webhook went, as a bounded set of labels.
//!
//! The user's patterns win; else a path becomes a template by replacing what looks like data.
//! The cap on how many pairs an account may have is the ledger's.

use std::borrow::Cow;

use super::label;
use super::sid;
use super::webhook_url::WebhookUrl;

/// What stands in a route for a segment that is data.
const PLACEHOLDER: &str = ":id";
/// Shortest run of digits that is taken for a phone number or a key: local numbers have 7.
const MIN_DIGIT_RUN: usize = 7;
/// Shortest segment of nothing but hexadecimal digits that is taken for a key.
const MIN_HEX: usize = 16;
/// Shortest segment of mixed case and digits that is taken for a token.
const MIN_TOKEN: usize = 20;
/// Twilio's own hosts, where the SIDs of flows and TwiML Bins are configuration, not data.
const TWILIO_HOSTS: [&str; 2] = ["webhooks.twilio.com", "handler.twilio.com"];

/// Where a webhook went.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Endpoint {
    /// Host label.
    pub host: String,
    /// Route label: the path as a template.
    pub route: String,
}

impl Endpoint {
    /// The endpoint that stands for all over a cap.
    pub fn overflow() -> Self {
        Self { host: "other".to_owned(), route: "other".to_owned() }
    }
}

/// The user's route patterns, in order.
#[derive(Clone, Debug, Default)]
pub struct Routes {
    patterns: Vec<RoutePattern>,
}

impl Routes {
    /// Takes the patterns in the order in which they are tried.
    pub fn new(patterns: Vec<RoutePattern>) -> Self {
        Self { patterns }
    }

    /// The endpoint of a URL: the first pattern that matches, else the automatic template.
    pub fn endpoint(&self, url: &WebhookUrl<'_>) -> Endpoint {
        let pattern = self.patterns.iter().find(|pattern| pattern.matches(&url.host, &url.path));
        let (host, route) = match pattern {
            Some(pattern) => {
                (pattern.host.as_deref().unwrap_or(&url.host), Cow::Borrowed(&*pattern.path))
            }
            None => (&*url.host, Cow::Owned(template(&url.host, &url.path))),
        };
        Endpoint { host: label::cut(host).to_owned(), route: label::cut(&route).to_owned() }
    }
}

/// One of the user's patterns: `/ivr/:tenant/menu`, or with a host `*.example.com/ivr/:tenant`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoutePattern {
    host: Option<String>,
    path: String,
}

/// Why a text is no route pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPattern {
    /// There is no path.
    #[error("a pattern has a path, such as `/ivr/:tenant/menu`, optionally after a host")]
    NoPath,
    /// A scheme, which a pattern has not: it would never match.
    #[error("a pattern begins with a host or a path, not with a scheme such as `https://`")]
    Scheme,
    /// A query or fragment, which no path has.
    #[error("a pattern has no query and no fragment")]
    QueryOrFragment,
    /// White space or a control character.
    #[error("a pattern has no white space and no control characters")]
    Blank,
    /// A `:` without a name.
    #[error("a placeholder needs a name after its `:`")]
    UnnamedPlaceholder,
    /// A `*` that isn't the first label of the host.
    #[error("`*` may only stand for the first labels of a host, as in `*.example.com/ivr`")]
    Wildcard,
}

impl std::fmt::Display for RoutePattern {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}{}", self.host.as_deref().unwrap_or_default(), self.path)
    }
}

impl RoutePattern {
    /// Parses a pattern.
    pub fn parse(text: &str) -> Result<Self, InvalidPattern> {
        let slash = text.find('/').ok_or(InvalidPattern::NoPath)?;
        let (host, path) = text.split_at(slash);
        if text.contains("://") {
            return Err(InvalidPattern::Scheme);
        }
        if text.contains(['?', '#']) {
            return Err(InvalidPattern::QueryOrFragment);
        }
        if text.contains(|c: char| c.is_whitespace() || c.is_control()) {
            return Err(InvalidPattern::Blank);
        }
        if path.split('/').any(|segment| segment == ":") {
            return Err(InvalidPattern::UnnamedPlaceholder);
        }
        if host.strip_prefix("*.").unwrap_or(host).contains('*') || path.contains('*') {
            return Err(InvalidPattern::Wildcard);
        }
        let host = (!host.is_empty()).then(|| host.to_lowercase());
        Ok(Self { host, path: path.to_owned() })
    }

    fn matches(&self, host: &str, path: &str) -> bool {
        let host_matches = match &self.host {
            None => true,
            Some(pattern) => match pattern.strip_prefix('*') {
                Some(suffix) => host.len() > suffix.len() && host.ends_with(suffix),
                None => host == pattern,
            },
        };
        let mut wanted = self.path.split('/');
        let mut found = path.split('/');
        host_matches
            && loop {
                match (wanted.next(), found.next()) {
                    (None, None) => break true,
                    (Some(want), Some(have)) if want == have => {}
                    (Some(want), Some(have)) if want.starts_with(':') && !have.is_empty() => {}
                    (Some(_), Some(_)) | (None, Some(_)) | (Some(_), None) => break false,
                }
            }
    }
}

/// The path with every segment that looks like data replaced.
fn template(host: &str, path: &str) -> String {
    let mut route = String::with_capacity(path.len());
    for (index, segment) in path.split('/').enumerate() {
        if index > 0 {
            route.push('/');
        }
        let is_configuration = TWILIO_HOSTS.contains(&host)
            && (segment.starts_with("FW") || segment.starts_with("EH"))
            && sid::looks_like_sid(segment);
        route.push_str(if !is_configuration && is_data(segment) { PLACEHOLDER } else { segment });
    }
    route
}

/// Whether a path segment is data rather than a name.
fn is_data(segment: &str) -> bool {
    let bytes = segment.as_bytes();
    let digits = bytes.iter().filter(|b| b.is_ascii_digit()).count();
    if digits == 0 {
        return is_email(segment) || is_uuid(bytes);
    }
    digits == bytes.len()
        || longest_digit_run(bytes) >= MIN_DIGIT_RUN
        || sid::looks_like_sid(segment)
        || is_uuid(bytes)
        || (bytes.len() >= MIN_HEX && bytes.iter().all(u8::is_ascii_hexdigit))
        || is_phone_number(segment)
        || is_email(segment)
        || (bytes.len() >= MIN_TOKEN
            && bytes.iter().any(u8::is_ascii_lowercase)
            && bytes.iter().any(u8::is_ascii_uppercase))
}

fn longest_digit_run(bytes: &[u8]) -> usize {
    let mut run = 0;
    let runs = bytes.iter().map(|byte| {
        run = if byte.is_ascii_digit() { run + 1 } else { 0 };
        run
    });
    runs.max().unwrap_or(0)
}

/// A UUID (RFC 9562, section 4), with or without braces.
fn is_uuid(bytes: &[u8]) -> bool {
    let bytes = bytes.strip_prefix(b"{").and_then(|b| b.strip_suffix(b"}")).unwrap_or(bytes);
    bytes.len() == 36
        && bytes.iter().enumerate().all(|(index, byte)| match index {
            8 | 13 | 18 | 23 => *byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        })
}

/// A phone number written with separators, raw or percent-encoded: digits and separators only.
fn is_phone_number(segment: &str) -> bool {
    let mut digits = 0;
    let mut rest = segment.as_bytes();
    while let [byte, tail @ ..] = rest {
        rest = tail;
        match byte {
            b'0'..=b'9' => digits += 1,
            b'+' | b'-' | b'.' | b'(' | b')' | b' ' => {}
            b'%' => {
                let [high, low, tail @ ..] = rest else { return false };
                if !matches!(
                    (high, low.to_ascii_lowercase()),
                    (b'2', b'b' | b'0' | b'8' | b'9' | b'd' | b'e')
                ) {
                    return false;
                }
                rest = tail;
            }
            _ => return false,
        }
    }
    digits >= MIN_DIGIT_RUN
}

fn is_email(segment: &str) -> bool {
    if !segment.bytes().any(|byte| matches!(byte, b'@' | b'%')) {
        return false;
    }
    let at = segment.find('@').map(|at| (at, at + 1));
    let encoded = segment.find("%40").map(|at| (at, at + 3));
    at.or(encoded).is_some_and(|(before, after)| before > 0 && after < segment.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_looks_like_data_is_replaced() {
        for (url, expected) in [
            ("https://a.example/voice", "a.example /voice"),
            ("https://a.example/users/42/calls", "a.example /users/:id/calls"),
            ("https://a.example/v1/voice", "a.example /v1/voice"),
            ("https://a.example/+15005550006/x", "a.example /:id/x"),
            ("https://a.example/%2B15005550006", "a.example /:id"),
            ("https://a.example/%2B1%20500%20555%200006", "a.example /:id"),
            ("https://a.example/AC0123456789abcdef0123456789abcdef", "a.example /:id"),
            ("https://a.example/0b3c9c1e-7a3b-4c1e-9f6a-0123456789ab/x", "a.example /:id/x"),
            ("https://a.example/jane%40example.com", "a.example /:id"),
            ("https://a.example/deadbeefdeadbeef", "a.example /deadbeefdeadbeef"),
            ("https://a.example/deadbeefdeadbee1", "a.example /:id"),
            ("https://a.example/Zx81kLmNoPqRsTuVwXyZ", "a.example /:id"),
            (
                "https://webhooks.twilio.com/v1/Accounts/AC0123456789abcdef0123456789abcdef/Flows/FW0123456789abcdef0123456789abcdef",
                "webhooks.twilio.com /v1/Accounts/:id/Flows/FW0123456789abcdef0123456789abcdef",
            ),
        ] {
            check(&[], url, expected);
        }
    }

    /// The corpus of the field: host and route, or `-` for a URL that is none.
    #[test]
    fn the_corpus_of_urls_becomes_the_routes_beside_it() {
        let corpus = include_str!("../../tests/fixtures/routes.tsv");
        let lines = corpus.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
        let mut wrong = Vec::new();
        let mut count = 0;
        for line in lines {
            let mut fields = line.split('\t');
            let mut field = || fields.next().expect("three fields");
            let (url, expected) = (field(), (field(), field()));
            let found = WebhookUrl::parse(url).map(|url| Routes::default().endpoint(&url));
            let found = found.unwrap_or(Endpoint { host: "-".to_owned(), route: "-".to_owned() });
            if (found.host.as_str(), found.route.as_str()) != expected {
                wrong.push(format!("{url}: {} {}", found.host, found.route));
            }
            count += 1;
        }
        assert!(count >= 120, "{count} URLs");
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }

    #[test]
    fn an_absurdly_long_url_is_cut() {
        let url = format!("https://{}.example/{}", "h".repeat(10_000), "ä".repeat(10_000));
        let endpoint = Routes::default().endpoint(&WebhookUrl::parse(&url).expect("a URL"));
        assert!(endpoint.host.len() <= 256 && endpoint.route.len() <= 256);
    }

    #[test]
    fn the_users_patterns_win_and_may_name_a_host() {
        let patterns = ["/ivr/:tenant/menu", "*.preview.example.com/ivr/:tenant"];
        check(&patterns, "https://a.example/ivr/acme/menu", "a.example /ivr/:tenant/menu");
        check(
            &patterns,
            "https://pr-1.preview.example.com/ivr/x",
            "*.preview.example.com /ivr/:tenant",
        );
        check(&patterns, "https://a.example/ivr//menu", "a.example /ivr//menu");
        check(&patterns, "https://a.example/ivr/acme/menu/x", "a.example /ivr/acme/menu/x");
    }

    #[test]
    fn a_broken_pattern_is_refused_with_its_reason() {
        use InvalidPattern::*;
        for (text, reason) in [
            ("", NoPath),
            ("ivr", NoPath),
            ("https://a.example/ivr", Scheme),
            ("/a?b", QueryOrFragment),
            ("/a b", Blank),
            ("/a/:/b", UnnamedPlaceholder),
            ("/a/*", Wildcard),
            ("a.*.com/", Wildcard),
        ] {
            assert_eq!(RoutePattern::parse(text), Err(reason), "{text}");
        }
    }

    fn check(patterns: &[&str], url: &str, expected: &str) {
        let routes = Routes::new(
            patterns.iter().map(|text| RoutePattern::parse(text).expect("a pattern")).collect(),
        );
        let endpoint = routes.endpoint(&WebhookUrl::parse(url).expect("a URL"));
        assert_eq!(format!("{} {}", endpoint.host, endpoint.route), expected, "{url}");
    }
}
