//! Reads environment variables, and skips those that have this program's prefix but were set by Kubernetes
//! for a Service.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::net::{IpAddr, SocketAddr};

/// The prefix of the variables of a Service whose name starts with `twilio-exporter`.
const SERVICE: &str = "TWILIO_EXPORTER";
/// The protocols that a Service can use.
const PROTOCOLS: [&str; 3] = ["tcp", "udp", "sctp"];

/// The environment variables: those with a UTF-8 value, and the names of the others.
#[derive(Clone, Default)]
pub struct Environment(pub(super) BTreeMap<String, String>, Vec<String>);

impl Environment {
    /// Returns the variables of this process.
    pub fn from_process() -> Self {
        Self::from_os(std::env::vars_os())
    }

    pub(super) fn from_os(variables: impl Iterator<Item = (OsString, OsString)>) -> Self {
        let (mut readable, mut unreadable) = (BTreeMap::new(), Vec::new());
        for (name, value) in variables {
            match (name.into_string(), value.into_string()) {
                (Ok(name), Ok(value)) => {
                    readable.insert(name, value);
                }
                (Ok(name), Err(_)) => unreadable.push(name),
                // All names that this program reads are ASCII.
                (Err(_), _) => {}
            }
        }
        Self(readable, unreadable)
    }

    /// Creates an environment from the given variables.
    pub fn from_pairs<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let owned = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
        Self(pairs.into_iter().map(owned).collect(), Vec::new())
    }

    /// The names of the variables whose value isn't valid UTF-8.
    pub(super) fn unreadable(&self) -> impl Iterator<Item = &String> {
        self.1.iter()
    }

    /// The unchanged value of a variable.
    pub(super) fn raw(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// Whether a variable is set, even to a value that isn't valid UTF-8.
    pub(super) fn is_set(&self, name: &str) -> bool {
        self.0.contains_key(name) || self.is_unreadable(name)
    }

    /// Whether a variable is set to a value that isn't valid UTF-8.
    pub(super) fn is_unreadable(&self, name: &str) -> bool {
        self.1.iter().any(|unreadable| unreadable == name)
    }

    /// The value of a variable without invisible characters at its ends.
    pub(super) fn trimmed(&self, name: &str) -> Option<&str> {
        self.raw(name).map(|value| value.trim_matches(is_blank))
    }

    /// The value of a variable, trimmed by [`bare`]; `None` if nothing is left.
    pub(super) fn get(&self, name: &str) -> Option<String> {
        self.raw(name).map(bare).filter(|value| !value.is_empty()).map(str::to_owned)
    }

    /// The variables with a prefix: the rest of each name, and the value trimmed by [`bare`]. Leaves out
    /// those that Kubernetes sets for a Service.
    pub(super) fn with_prefix(&self, prefix: &str) -> impl Iterator<Item = (&str, &str)> {
        let ours = self.0.iter().filter(|(name, value)| !is_service_link(name, value));
        ours.filter_map(move |(name, value)| Some((name.strip_prefix(prefix)?, bare(value))))
    }
}

impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// Strips white space, invisible characters and quotes from both ends: `docker --env-file` keeps quotes, and
/// files end in a newline. No value that this program reads starts or ends with any of them.
pub(super) fn bare(text: &str) -> &str {
    let mut bare = text;
    loop {
        bare = bare.trim_matches(is_blank);
        let unquoted = ['"', '\''].iter().find_map(|quote| {
            let rest = bare.strip_prefix(*quote)?;
            rest.strip_suffix(*quote)
        });
        match unquoted {
            Some(inner) => bare = inner,
            None => return bare,
        }
    }
}

/// Whether a character is invisible: white space, control characters, byte order and direction marks, and
/// zero-width spaces.
fn is_blank(c: char) -> bool {
    let is_invisible = matches!(c, '\u{feff}' | '\u{200b}'..='\u{200f}' | '\u{2060}');
    c.is_whitespace() || c.is_control() || is_invisible
}

/// Whether Kubernetes has set a variable for a Service whose name starts with `twilio-exporter`, judging by
/// its name and value.
///
/// Source: <https://kubernetes.io/docs/concepts/services-networking/service/#environment-variables>.
fn is_service_link(name: &str, value: &str) -> bool {
    let Some(rest) = name.strip_prefix(SERVICE) else { return false };
    let is_address = || value.parse::<IpAddr>().is_ok();
    let is_port = |text: &str| text.parse::<u16>().is_ok();
    let is_link = || {
        value.split_once("://").is_some_and(|(protocol, address)| {
            PROTOCOLS.contains(&protocol) && address.parse::<SocketAddr>().is_ok()
        })
    };
    let is_port_variable = |tail: &str| {
        let mut parts = tail.splitn(3, '_');
        let number = parts.next().unwrap_or_default();
        let protocol = parts.next().unwrap_or_default().to_ascii_lowercase();
        is_port(number)
            && PROTOCOLS.contains(&protocol.as_str())
            && match parts.next() {
                None => is_link(),
                Some("PROTO") => value == protocol,
                Some("PORT") => value == number,
                Some("ADDR") => is_address(),
                Some(_) => false,
            }
    };
    (rest.ends_with("_SERVICE_HOST") && is_address())
        || ((rest.ends_with("_SERVICE_PORT") || rest.contains("_SERVICE_PORT_")) && is_port(value))
        || (rest.ends_with("_PORT") && is_link())
        || rest.match_indices("PORT_").any(|(at, found)| {
            rest[..at].ends_with('_') && is_port_variable(&rest[at + found.len()..])
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recognises_service_links_by_name_and_value() {
        for service in ["", "_METRICS", "_2", "_METRICS_SERVICE", "_PORT", "_SERVICE_PORT"] {
            for (suffix, value) in [
                ("_SERVICE_HOST", "10.0.0.1"),
                ("_SERVICE_HOST", "fd00::1"),
                ("_SERVICE_PORT", "80"),
                ("_SERVICE_PORT_HTTP", "80"),
                ("_SERVICE_PORT_HTTP_METRICS_1", "65535"),
                ("_PORT", "tcp://10.0.0.1:80"),
                ("_PORT", "udp://[fd00::1]:53"),
                ("_PORT_80_TCP", "tcp://10.0.0.1:80"),
                ("_PORT_80_TCP_PROTO", "tcp"),
                ("_PORT_80_TCP_PORT", "80"),
                ("_PORT_80_TCP_ADDR", "10.0.0.1"),
                ("_PORT_53_UDP_ADDR", "fd00::1"),
                ("_PORT_9_SCTP", "sctp://10.0.0.1:9"),
            ] {
                let name = format!("TWILIO_EXPORTER{service}{suffix}");
                assert!(is_service_link(&name, value), "{name}={value}");
            }
        }
        for (name, value) in [
            ("TWILIO_EXPORTER_PORT", "9090"),
            ("TWILIO_EXPORTER_PORT", "http://10.0.0.1:80"),
            ("TWILIO_EXPORTER_PORT", "tcp://host:80"),
            ("TWILIO_EXPORTER_WEB_PORT", ":9090"),
            ("TWILIO_EXPORTER_SERVICE_HOST", "localhost"),
            ("TWILIO_EXPORTER_SERVICE_PORT", "http"),
            ("TWILIO_EXPORTER_PORT_80_TCP_ADDRESS", "10.0.0.1"),
            ("TWILIO_EXPORTER_PORT_HTTP_TCP_ADDR", "10.0.0.1"),
            ("TWILIO_EXPORTER_PORT_80_HTTP_ADDR", "10.0.0.1"),
            ("TWILIO_EXPORTER_POLL__INTERVAL", "10.0.0.1"),
            ("TWILIO_SERVICE_HOST", "10.0.0.1"),
        ] {
            assert!(!is_service_link(name, value), "{name}={value}");
        }
    }

    #[test]
    fn strips_white_space_invisible_characters_and_quotes() {
        for text in [
            "a b",
            " a b\r\n",
            "\"a b\"",
            "'a b'\n",
            "\u{feff}a b",
            " \"'a b' \" ",
            "a b\0",
            "\u{a0}a b\u{200b}",
        ] {
            assert_eq!(bare(text), "a b", "{text:?}");
        }
        for text in ["\"a", "a'", "'a\"", "\"", "a\"b"] {
            assert_eq!(bare(text), text);
        }
        for text in ["", " \n", "\"\"", "\u{feff}", "''"] {
            assert_eq!(bare(text), "", "{text:?}");
        }
    }
}
