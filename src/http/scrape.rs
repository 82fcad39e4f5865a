//! `/metrics`: a snapshot, encoded, compressed if the scraper wants it.

use std::io::Write;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use flate2::Compression;
use flate2::write::GzEncoder;
use prometheus::Encoder;

use crate::metrics::exemplar::ExemplarTable;
use crate::metrics::exposition::{OpenMetricsEncoder, TextEncoder};

use super::Site;
use super::negotiate::{self, Format};

pub(super) async fn metrics(State(site): State<Site>, headers: HeaderMap) -> Response {
    // Taken before the snapshot: what is held now is shown at 0 in it, or already released; and an
    // exemplar's event is counted in it.
    let (held, exemplars) = {
        let ledger = site.committed.read();
        let shown =
            if site.exemplars { ExemplarTable::of(&ledger) } else { ExemplarTable::default() };
        (ledger.held(), shown)
    };
    let families = site.registry.gather();
    let mut text = Vec::new();
    let (written, content_type) = match negotiate::format(&headers) {
        Format::Text => {
            (TextEncoder.encode(&families, &mut text), TextEncoder.format_type().to_owned())
        }
        Format::OpenMetrics { escaping } => {
            let encoder = OpenMetricsEncoder { exemplars };
            let escaping = escaping.map(|escaping| format!("; escaping={escaping}"));
            let content_type = encoder.format_type().to_owned() + &escaping.unwrap_or_default();
            (encoder.encode(&families, &mut text), content_type)
        }
    };
    if let Err(error) = written {
        tracing::warn!(%error, "cannot encode the metrics");
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    }
    let (encoding, body) = if accepts_gzip(&headers) {
        match compress(&text) {
            Ok(body) => (Some("gzip"), body),
            Err(_) => (None, text),
        }
    } else {
        (None, text)
    };
    site.committed.publish(|ledger| ledger.mark_shown(&held, (site.now)()));
    let mut response = ([(header::CONTENT_TYPE, content_type)], body).into_response();
    if let Some(encoding) = encoding {
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_ENCODING, header::HeaderValue::from_static(encoding));
    }
    let vary = header::HeaderValue::from_static("accept, accept-encoding");
    response.headers_mut().insert(header::VARY, vary);
    response
}

/// Whether `Accept-Encoding` (RFC 9110, section 12.5.3) takes gzip.
fn accepts_gzip(headers: &HeaderMap) -> bool {
    let values = headers.get_all(header::ACCEPT_ENCODING).iter().filter_map(|v| v.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|coding| {
        let mut parts = coding.split(';').map(str::trim);
        let is_gzip = parts.next().is_some_and(|name| name.eq_ignore_ascii_case("gzip"));
        let weight = parts.find_map(|part| part.strip_prefix("q="));
        is_gzip && weight.is_none_or(|q| q.parse::<f32>().is_ok_and(|q| q > 0.0))
    })
}

/// Compresses fast: scrapes are local, and the time is taken from the poller.
fn compress(text: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::with_capacity(text.len() / 8), Compression::fast());
    encoder.write_all(text)?;
    encoder.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gzip_is_used_where_it_is_accepted() {
        for (accept, expected) in [
            ("gzip", true),
            ("deflate, GZIP;q=0.5", true),
            ("gzip;q=0", false),
            ("identity", false),
            ("", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT_ENCODING, accept.parse().expect("a header"));
            assert_eq!(accepts_gzip(&headers), expected, "{accept}");
        }
        assert!(!accepts_gzip(&HeaderMap::new()));
    }
}
