//! Content negotiation (RFC 9110, section 12.5.1) for `/metrics` and `/failures`.

use axum::http::{HeaderMap, header};

use crate::metrics::exposition::Format;

/// The escaping schemes for metric names that Prometheus knows.
const ESCAPINGS: [&str; 4] = ["allow-utf-8", "underscores", "dots", "values"];

/// One media range of an `Accept` header.
#[derive(Default)]
struct Range<'a> {
    media_type: String,
    version: Option<&'a str>,
    escaping: Option<&'a str>,
}

/// The format that a scraper prefers, and the parameter of the content type that echoes the requested escaping:
/// any scheme is valid, because none of them changes our metric names. Clients without a preference get the
/// text format.
pub(super) fn format(headers: &HeaderMap) -> (Format, String) {
    let offer = |range: &Range<'_>| match (range.media_type.as_str(), range.version) {
        ("application/openmetrics-text", None | Some("1.0.0")) => {
            let escaping = ESCAPINGS.into_iter().find(|known| range.escaping == Some(known));
            let escaping = escaping.map(|escaping| format!("; escaping={escaping}"));
            Some((Format::OpenMetrics, escaping.unwrap_or_default()))
        }
        ("text/plain", None | Some("0.0.4")) | ("text/*" | "*/*", _) => {
            Some((Format::Text, String::new()))
        }
        _ => None,
    };
    best(headers, offer).unwrap_or((Format::Text, String::new()))
}

/// Whether a client prefers JSON to HTML.
pub(super) fn prefers_json(headers: &HeaderMap) -> bool {
    let offer = |range: &Range<'_>| match range.media_type.as_str() {
        "application/json" => Some(true),
        "text/html" | "text/*" | "*/*" => Some(false),
        _ => None,
    };
    best(headers, offer).unwrap_or(false)
}

/// The offer with the highest quality, or the first of several.
fn best<T>(headers: &HeaderMap, offer: impl Fn(&Range<'_>) -> Option<T>) -> Option<T> {
    let values = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let mut best = (0.0, None);
    for (range, quality) in values.flat_map(|value| value.split(',')).filter_map(parse) {
        if quality > best.0
            && let Some(offered) = offer(&range)
        {
            best = (quality, Some(offered));
        }
    }
    best.1
}

fn parse(text: &str) -> Option<(Range<'_>, f32)> {
    let mut parts = text.split(';').map(str::trim);
    let media_type = parts.next()?.to_ascii_lowercase();
    let (mut range, mut quality) = (Range { media_type, ..Range::default() }, 1.0);
    for (name, value) in parts.filter_map(|part| part.split_once('=')) {
        let value = value.trim().trim_matches('"');
        match name.trim() {
            "version" => range.version = Some(value),
            "escaping" => range.escaping = Some(value),
            "q" => quality = value.parse().ok()?,
            _ => {}
        }
    }
    Some((range, quality))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prometheus_gets_openmetrics_and_other_clients_get_text() {
        let open = |escaping: &'static str| (Format::OpenMetrics, escaping.to_owned());
        let text = || (Format::Text, String::new());
        for (accept, expected) in [
            // Prometheus 2.42.
            (
                "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
                open(""),
            ),
            // Prometheus 3.5.
            (
                "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2",
                open("; escaping=allow-utf-8"),
            ),
            // Prometheus 3 with native histograms: protobuf first, which isn't supported.
            (
                "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;q=0.6,application/openmetrics-text;version=1.0.0;q=0.5,*/*;q=0.2",
                open(""),
            ),
            // A browser, curl, nothing.
            ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", text()),
            ("*/*", text()),
            ("", text()),
            ("text/plain;q=0.9, application/openmetrics-text;q=0.8", text()),
            ("application/openmetrics-text;q=0, text/plain;q=0.1", text()),
            ("application/openmetrics-text;version=2.0.0", text()),
            ("application/openmetrics-text;q=x", text()),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT, accept.parse().expect("a header"));
            assert_eq!(format(&headers), expected, "{accept}");
        }
        assert_eq!(format(&HeaderMap::new()), text());
    }

    #[test]
    fn programs_that_ask_for_json_get_it_and_browsers_get_a_page() {
        for (accept, expected) in [
            ("application/json", true),
            ("application/json, text/plain, */*", true),
            ("text/html;q=0.5, application/json;q=0.9", true),
            ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", false),
            ("text/html, application/json", false),
            ("application/json;q=0", false),
            ("application/json;q=x", false),
            ("*/*", false),
            ("image/png", false),
            ("", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT, accept.parse().expect("a header"));
            assert_eq!(prefers_json(&headers), expected, "{accept}");
        }
        assert!(!prefers_json(&HeaderMap::new()));
    }
}
