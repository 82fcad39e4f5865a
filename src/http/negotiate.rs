//! Content negotiation: `/metrics` as Prometheus 2 and 3 do it, `/failures` for people and programs.

use axum::http::{HeaderMap, header};

/// The formats that are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    /// Text 0.0.4: whoever asks for nothing in particular.
    Text,
    /// OpenMetrics 1.0.
    OpenMetrics {
        /// The escaping of names that was asked for, to be echoed: all our names are plain, so that
        /// any is right.
        escaping: Option<&'static str>,
    },
}

/// The escapings of names that Prometheus knows.
const ESCAPINGS: [&str; 4] = ["allow-utf-8", "underscores", "dots", "values"];

/// The format that an `Accept` header (RFC 9110, section 12.5.1) prefers.
pub(super) fn format(headers: &HeaderMap) -> Format {
    best(headers, offer).unwrap_or(Format::Text)
}

/// Whether an `Accept` header prefers JSON to a page.
pub(super) fn prefers_json(headers: &HeaderMap) -> bool {
    let offer = |range: &str| {
        let mut parts = range.split(';').map(str::trim);
        let media_type = parts.next()?.to_ascii_lowercase();
        let weight = parts.find_map(|part| part.strip_prefix("q="));
        let quality = weight.map_or(Some(1.0), parse_quality)?;
        match media_type.as_str() {
            "application/json" => Some((quality, true)),
            "text/html" | "text/*" | "*/*" => Some((quality, false)),
            _ => None,
        }
    };
    best(headers, offer).unwrap_or(false)
}

/// The offer of the highest quality; of equals the first, as the client wrote it first.
fn best<T>(headers: &HeaderMap, offer: impl Fn(&str) -> Option<(f32, T)>) -> Option<T> {
    let values = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let mut best = (0.0, None);
    for (quality, offered) in values.flat_map(|value| value.split(',')).filter_map(offer) {
        if quality > best.0 {
            best = (quality, Some(offered));
        }
    }
    best.1
}

fn parse_quality(text: &str) -> Option<f32> {
    text.parse().ok().filter(|quality: &f32| quality.is_finite())
}

/// One media range that can be answered, with its quality.
fn offer(range: &str) -> Option<(f32, Format)> {
    let mut parts = range.split(';').map(str::trim);
    let media_type = parts.next()?.to_ascii_lowercase();
    let (mut version, mut quality, mut escaping) = (None, 1.0_f32, None);
    for (name, value) in parts.filter_map(|part| part.split_once('=')) {
        let value = value.trim().trim_matches('"');
        match name.trim() {
            "version" => version = Some(value),
            "q" => quality = parse_quality(value)?,
            "escaping" => escaping = ESCAPINGS.into_iter().find(|known| *known == value),
            _ => {}
        }
    }
    match (media_type.as_str(), version) {
        ("application/openmetrics-text", None | Some("1.0.0")) => {
            Some((quality, Format::OpenMetrics { escaping }))
        }
        ("text/plain", None | Some("0.0.4")) | ("text/*" | "*/*", _) => {
            Some((quality, Format::Text))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prometheus_gets_openmetrics_and_everybody_else_text() {
        let open = |escaping| Format::OpenMetrics { escaping };
        for (accept, expected) in [
            // Prometheus 2.42.
            (
                "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
                open(None),
            ),
            // Prometheus 3.5.
            (
                "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2",
                open(Some("allow-utf-8")),
            ),
            // Prometheus 3 with native histograms: protobuf first, which isn't written here.
            (
                "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;q=0.6,application/openmetrics-text;version=1.0.0;q=0.5,*/*;q=0.2",
                open(None),
            ),
            // A browser, curl, nothing.
            ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", Format::Text),
            ("*/*", Format::Text),
            ("", Format::Text),
            ("text/plain;q=0.9, application/openmetrics-text;q=0.8", Format::Text),
            ("application/openmetrics-text;q=0, text/plain;q=0.1", Format::Text),
            ("application/openmetrics-text;version=2.0.0", Format::Text),
            ("application/openmetrics-text;q=x", Format::Text),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT, accept.parse().expect("a header"));
            assert_eq!(format(&headers), expected, "{accept}");
        }
        assert_eq!(format(&HeaderMap::new()), Format::Text);
    }

    #[test]
    fn programs_that_ask_for_json_get_it_and_browsers_a_page() {
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
