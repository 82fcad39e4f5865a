//! Host and route: where a webhook went, as a bounded set of labels.
//!
//! The user's patterns win; else a path becomes a template by replacing what looks like data.
//! The cap on how many pairs an account may have is the ledger's.

mod host;
mod pattern;
mod plain;
mod segment;
mod token;

use std::borrow::Cow;

use super::label;
use super::sid;
use super::webhook_url::WebhookUrl;

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

    /// Each segment stands in the middle of a path, where what is around it must stay.
    #[test]
    fn the_corpus_of_segments_is_data_or_stays() {
        let corpus = include_str!("../../tests/fixtures/segments.tsv");
        let lines = corpus.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
        let (mut wrong, mut data, mut words) = (Vec::new(), 0, 0);
        for line in lines {
            let (segment, expected) = line.split_once('\t').expect("two fields");
            let url = format!("https://a.example/ivr/{segment}/menu");
            let url = WebhookUrl::parse(&url).expect("a URL");
            let route = Routes::default().endpoint(&url).route;
            if route != format!("/ivr/{expected}/menu") {
                wrong.push(format!("{segment}: {route}"));
            }
            *if segment == expected { &mut words } else { &mut data } += 1;
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
        assert!(data >= 100 && words >= 100, "{data} of data, {words} words");
    }

    #[test]
    fn an_absurdly_long_url_is_cut() {
        let url = format!("https://{}.example/{}", "h".repeat(10_000), "ä".repeat(10_000));
        let endpoint = Routes::default().endpoint(&WebhookUrl::parse(&url).expect("a URL"));
        assert!(endpoint.host.len() <= 256 && endpoint.route.len() <= 256);
    }

    #[test]
    fn a_label_is_safe_on_a_terminal() {
        for (url, expected) in [
            ("https://a.example/a\u{1b}[31m/b\u{202e}c", "a.example /a%1B[31m/b%E2%80%AEc"),
            ("https://a\u{202e}b.example/x", "a%E2%80%AEb.example /x"),
            ("https://a.example/line\u{2028}break\nx", "a.example /line%E2%80%A8break%0Ax"),
        ] {
            check(&[], url, expected);
        }
        check(&["/ivr/:tenant"], "https://15005550006.example/ivr/x", ":id.example /ivr/:tenant");
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

    fn check(patterns: &[&str], url: &str, expected: &str) {
        let routes = Routes::new(
            patterns.iter().map(|text| RoutePattern::parse(text).expect("a pattern")).collect(),
        );
        let endpoint = routes.endpoint(&WebhookUrl::parse(url).expect("a URL"));
        assert_eq!(format!("{} {}", endpoint.host, endpoint.route), expected, "{url}");
    }
}
