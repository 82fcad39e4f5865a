//! Host and route: where a webhook went, as a bounded set of labels.
//!
//! The user's patterns win; else a path becomes a template by replacing what looks like data.
//! The cap on how many pairs an account may have is the ledger's.

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

/// What stands in a label for what is data.
const PLACEHOLDER: &str = ":id";
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
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Routes {
    patterns: Vec<RoutePattern>,
}

impl Routes {
    /// Takes the patterns in the order in which they are tried.
    pub fn new(patterns: Vec<RoutePattern>) -> Self {
        Self { patterns }
    }

    /// Whether a pattern names the endpoint of a URL.
    pub fn names(&self, url: &WebhookUrl<'_>) -> bool {
        self.pattern(url).is_some()
    }

    fn pattern(&self, url: &WebhookUrl<'_>) -> Option<&RoutePattern> {
        self.patterns.iter().find(|pattern| pattern.matches(&url.host, &url.path))
    }

    /// The endpoint of a URL: the first pattern that matches, else the automatic template.
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

/// The path with every segment that is data replaced.
fn template(host: &str, path: &str) -> String {
    let mut route = String::with_capacity(path.len().min(label::MAX_LABEL_BYTES));
    for (index, segment) in path.split('/').enumerate() {
        if index > 0 {
            route.push('/');
        }
        // What follows is cut off.
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
            // Not behind what may be the end of an e-mail address.
            if !segment.contains(['@', '%']) {
                route.push_str(segment::extension(segment));
            }
        }
    }
    route
}

#[cfg(test)]
mod tests;
