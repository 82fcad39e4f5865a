//! Host and route: the endpoint of a webhook as label values.
//!
//! Configured patterns take precedence; otherwise, segments that look like data are replaced with a
//! placeholder. The ledger limits how many host and route pairs an account may have.

mod advice;
mod host;
mod letters;
mod pattern;
mod plain;
mod segment;
mod token;

use std::borrow::Cow;

use crate::domain::words::label;
use crate::domain::words::sid;
use crate::domain::words::webhook_url::WebhookUrl;

pub use advice::pattern_for;
pub use pattern::{InvalidPattern, RoutePattern};

/// Replaces data in a label.
const PLACEHOLDER: &str = ":id";
/// Twilio's own hosts, where the SIDs of flows and TwiML Bins are configuration, not data.
const TWILIO_HOSTS: [&str; 2] = ["webhooks.twilio.com", "handler.twilio.com"];

/// The endpoint of a webhook.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Endpoint {
    /// The host label.
    pub host: String,
    /// The route label: the path with data replaced.
    pub route: String,
}

impl Endpoint {
    /// Returns the endpoint that stands for all those over the limit.
    pub fn overflow() -> Self {
        Self { host: "other".to_owned(), route: "other".to_owned() }
    }
}

/// The configured route patterns, in order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Routes {
    patterns: Vec<RoutePattern>,
}

impl Routes {
    /// Creates the routes from patterns in the order in which to try them.
    pub fn new(patterns: Vec<RoutePattern>) -> Self {
        Self { patterns }
    }

    /// Whether a pattern matches a URL.
    pub fn has_pattern_for(&self, url: &WebhookUrl<'_>) -> bool {
        self.pattern(url).is_some()
    }

    fn pattern(&self, url: &WebhookUrl<'_>) -> Option<&RoutePattern> {
        self.patterns.iter().find(|pattern| pattern.matches(&url.host, &url.path))
    }

    /// Returns the endpoint of a URL: from the first matching pattern, else with data replaced.
    pub fn endpoint(&self, url: &WebhookUrl<'_>) -> Endpoint {
        let pattern = self.pattern(url);
        let (host, route) = match pattern {
            Some(pattern) => {
                let host = pattern.host.as_deref().map(Cow::Borrowed);
                (host.unwrap_or_else(|| host::template(&url.host)), Cow::Borrowed(&*pattern.path))
            }
            None => (host::template(&url.host), Cow::Owned(template(&url.host, &url.path))),
        };
        Endpoint { host: label::printable(host), route: label::printable(route) }
    }
}

/// Returns the path with every data segment replaced.
fn template(host: &str, path: &str) -> String {
    let mut route = String::with_capacity(path.len().min(label::MAX_LABEL_BYTES));
    for (index, segment) in path.split('/').enumerate() {
        if index > 0 {
            route.push('/');
        }
        // The rest would be truncated.
        if route.len() > label::MAX_LABEL_BYTES {
            break;
        }
        let is_configuration = TWILIO_HOSTS.contains(&host)
            && (segment.starts_with("FW") || segment.starts_with("EH"))
            && sid::looks_like_sid(segment);
        if is_configuration || !segment::is_data(segment) {
            route.push_str(segment);
        } else {
            route.push_str(PLACEHOLDER);
            // Omitted if it may be the end of an e-mail address.
            if !segment.contains(['@', '%']) {
                route.push_str(segment::extension(segment));
            }
        }
    }
    route
}

#[cfg(test)]
mod tests;
