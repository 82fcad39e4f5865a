//! Determines why the application didn't respond if Twilio's proxy responded in its place.
//!
//! The proxy describes the cause in a line of English from the software it is built with. URLs, hosts and
//! addresses are removed before the line is searched for words, so that a host such as `ssl.example.com`
//! has no effect.

use std::borrow::Cow;

use super::{Code, Reason};
use crate::domain::words::call_event::Body;

/// The start of the body that Twilio's proxy generates if the application doesn't respond.
const MARKER: &str = "Twilio was unable to fetch content from";
/// The status of that response.
const BAD_GATEWAY: u16 = 502;
/// The start of the line that describes the cause.
const CAUSE: &str = "error:";
/// The maximum number of bytes of that line to examine; recorded lines have about a hundred.
const MAX_CAUSE: usize = 2_048;
/// Terms with a hyphen. Other words with a hyphen may be host names.
const HYPHENATED: [&str; 12] = [
    "content-type",
    "time-out",
    "timed-out",
    "self-signed",
    "ssl-handshake",
    "tls-handshake",
    "connect-timeout",
    "connection-timeout",
    "read-timeout",
    "host-name",
    "end-of-stream",
    "half-closed",
];
/// Words for something that is missing.
const ABSENCE: [&str; 9] =
    ["no", "not", "missing", "without", "absent", "lacks", "empty", "null", "none"];
/// Phrases for TLS errors, including Java's and OpenSSL's.
const TLS: [&str; 23] = [
    "tls",
    "ssl",
    "openssl",
    "subject alternative",
    "fatal alert",
    "unknown ca",
    "not verified",
    "certificate",
    "certificates",
    "cert",
    "certs",
    "handshake",
    "pkix",
    "certpath",
    "certification path",
    "trust anchor",
    "trust anchors",
    "self signed",
    "x509",
    "x 509",
    "cipher",
    "ciphers",
    "sni",
];
/// Phrases for names that can't be resolved.
const DNS: [&str; 25] = [
    "dns",
    "nxdomain",
    "servfail",
    "enotfound",
    "eai",
    "getaddrinfo",
    "unknown host",
    "unknown hostname",
    "bad host",
    "bad hostname",
    "invalid host",
    "invalid hostname",
    "host not found",
    "hostname not found",
    "no such host",
    "no address",
    "unresolved",
    "unresolvable",
    "resolve",
    "resolved",
    "resolving",
    "resolver",
    "name resolution",
    "service not known",
    "servname",
];
/// Phrases for a timeout on an established connection.
const LATE_ANSWER: [&str; 4] =
    ["read timed out", "read timeout", "response timeout", "response timed out"];
/// Phrases for connections that couldn't be established.
const CONNECT: [&str; 3] = ["connect", "connecting", "econnrefused"];
/// Phrases for connections that couldn't be established or were lost.
const CONNECTION: [&str; 38] = [
    "connect",
    "connecting",
    "connection",
    "connections",
    "disconnect",
    "disconnected",
    "econnrefused",
    "econnreset",
    "econnaborted",
    "ehostunreach",
    "enetunreach",
    "epipe",
    "etimedout",
    "eof",
    "end of file",
    "end of stream",
    "end of input",
    "refused",
    "reset",
    "closed",
    "aborted",
    "hang up",
    "hung up",
    "broken pipe",
    "failed to respond",
    "no route",
    "unreachable",
    "network is down",
    "host is down",
    "no healthy upstream",
    "blacklisted",
    "blocked",
    "private ip",
    "not allowed",
    "forbidden",
    "denied",
    "premature close",
    "premature end",
];
/// Words for redirects.
const REDIRECTS: [&str; 5] = ["redirect", "redirects", "redirected", "redirection", "redirections"];
/// Words for too many redirects, together with [`REDIRECTS`].
const ENDLESS: [&str; 11] = [
    "many", "maximum", "max", "limit", "exceeded", "exceeds", "stopped", "loop", "circular",
    "cycle", "count",
];
/// Phrases for timeouts.
const TIMEOUT: [&str; 6] =
    ["timeout", "timeouts", "timed out", "time out", "deadline exceeded", "max stream duration"];

/// Returns the reason if Twilio's proxy responded in the application's place: with a 502 whose body begins with
/// [`MARKER`]. A genuine 502 has a different body.
pub(super) fn reason(code: Code, body: &Body) -> Option<Reason> {
    let Body::Text(text) = body else { return None };
    if code.status() != BAD_GATEWAY || !text.trim_start().starts_with(MARKER) {
        return None;
    }
    let cause = text.lines().find_map(|line| {
        let line = line.trim_start();
        let (start, rest) = line.split_at_checked(CAUSE.len())?;
        start.eq_ignore_ascii_case(CAUSE).then_some(rest)
    });
    Some(cause.map_or(Reason::NoResponse, classify_cause))
}

fn classify_cause(cause: &str) -> Reason {
    let end = (0..=cause.len().min(MAX_CAUSE)).rev().find(|at| cause.is_char_boundary(*at));
    let words = words(&cause[..end.unwrap_or(0)]);
    let says =
        |phrases: &[&str]| phrases.iter().any(|phrase| words.contains(&format!(" {phrase} ")));
    if says(&["content type", "contenttype"]) && says(&ABSENCE) {
        Reason::MissingContentType
    } else if says(&TLS) {
        Reason::Tls
    } else if says(&DNS) {
        Reason::Dns
    } else if says(&LATE_ANSWER) && !says(&CONNECT) {
        Reason::Timeout
    } else if says(&CONNECTION) {
        Reason::Connection
    } else if says(&REDIRECTS) && says(&ENDLESS) {
        Reason::Redirects
    } else if says(&TIMEOUT) {
        Reason::Timeout
    } else {
        Reason::NoResponse
    }
}

/// Returns the words of a line in lower case, with spaces around each, without hosts, addresses and paths.
fn words(line: &str) -> String {
    let mut words = String::from(" ");
    for token in line.split(|c: char| c.is_whitespace() || "=,()[]{}<>\"'`|".contains(c)) {
        let token = token.trim_matches(|c: char| ".:;!?-".contains(c));
        for word in plain_words(token).split(|c: char| !c.is_ascii_alphanumeric()) {
            if !word.is_empty() {
                words.push_str(&version_free(word.to_ascii_lowercase()));
                words.push(' ');
            }
        }
    }
    words
}

/// Returns the words of a token: none if it is a URL, host, address or path.
fn plain_words(token: &str) -> Cow<'_, str> {
    if token.contains("://") || token.starts_with('/') {
        return Cow::Borrowed("");
    }
    if let Some(exception) = exception(token) {
        return Cow::Owned(camel_words(exception));
    }
    let is_hyphenated_term = || HYPHENATED.iter().any(|term| token.eq_ignore_ascii_case(term));
    if is_location(token) || (token.contains('-') && !is_hyphenated_term()) {
        return Cow::Borrowed("");
    }
    Cow::Borrowed(token)
}

/// Returns the name of a Java exception such as `java.net.UnknownHostException`, without its package.
fn exception(token: &str) -> Option<&str> {
    let name = token.rsplit(['.', '$']).next().unwrap_or(token);
    let is_exception = ["Exception", "Error"].iter().any(|end| name.ends_with(end));
    (is_exception && name.bytes().all(|byte| byte.is_ascii_alphanumeric())).then_some(name)
}

/// Splits a name in camel case into words: `SSLHandshakeException` has three.
fn camel_words(name: &str) -> String {
    let bytes = name.as_bytes();
    let mut words = String::with_capacity(name.len() + 4);
    for (at, c) in name.char_indices() {
        let after_lower = at > 0 && bytes[at - 1].is_ascii_lowercase();
        let before_lower = bytes.get(at + 1).is_some_and(u8::is_ascii_lowercase);
        if at > 0 && c.is_ascii_uppercase() && (after_lower || before_lower) {
            words.push(' ');
        }
        words.push(c);
    }
    words
}

/// Whether a token contains a host or an address, with or without a port, path or user.
fn is_location(token: &str) -> bool {
    token.split(['/', ':', '@']).any(|part| is_host(part) || is_v4(part)) || is_v6(token)
}

/// Whether a name contains a dot and its last label is a word.
fn is_host(name: &str) -> bool {
    let name = name.trim_end_matches('.');
    let last = name.rsplit('.').next().unwrap_or_default();
    let is_word = |byte: u8| byte.is_ascii_alphabetic() || byte == b'-';
    name.contains('.') && last.len() > 1 && last.bytes().all(is_word)
}

fn is_v4(name: &str) -> bool {
    name.split('.').count() == 4 && name.split('.').all(|part| part.parse::<u8>().is_ok())
}

fn is_v6(token: &str) -> bool {
    let is_hexadecimal = |part: &str| part.bytes().all(|byte| byte.is_ascii_hexdigit());
    token.matches(':').count() > 1 && token.split([':', '%', '/', '.']).all(is_hexadecimal)
}

/// Strips the version from TLS and SSL: `tlsv1` becomes `tls`.
fn version_free(word: String) -> String {
    let name = ["tls", "ssl"].into_iter().find(|name| {
        word.strip_prefix(name).is_some_and(|rest| {
            rest.strip_prefix('v').unwrap_or(rest).starts_with(|c: char| c.is_ascii_digit())
        })
    });
    name.map_or(word, str::to_owned)
}

#[cfg(test)]
mod tests;
