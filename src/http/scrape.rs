//! `/metrics`: a snapshot, encoded, compressed if the scraper wants it.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{AppendHeaders, IntoResponse, Response};
use flate2::Compression;
use flate2::write::GzEncoder;

use crate::metrics::exposition::{Exposition, Format};
use crate::metrics::snapshot;

use super::{Site, negotiate};

/// Answers a scrape. Ten thousand series take milliseconds of a processor: on a thread of their own,
/// they hold up no poll loop, and wait for none.
pub(super) async fn metrics(State(site): State<Site>, headers: HeaderMap) -> Response {
    // Never closed. Sending takes no turn, so that a slow scraper holds up none; and who goes away
    // leaves the work behind, and the turn with it.
    let turn = Arc::clone(&site.turns.0).acquire_owned().await;
    let write = move || {
        let _turn = turn;
        answer(&site, &headers)
    };
    match tokio::task::spawn_blocking(write).await {
        Ok(response) => response,
        Err(error) => {
            tracing::warn!(%error, "cannot write the metrics");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

fn answer(site: &Site, headers: &HeaderMap) -> Response {
    let (format, escaping) = match negotiate::format(headers) {
        negotiate::Format::Text => (Format::Text, None),
        negotiate::Format::OpenMetrics { escaping } => (Format::OpenMetrics, escaping),
    };
    let mut exposition = Exposition::new(format);
    let held = {
        let ledger = site.committed.read();
        let shows_exemplars =
            site.exemplars.load(Ordering::Relaxed) && format == Format::OpenMetrics;
        snapshot::write(&ledger, shows_exemplars, &mut exposition);
        ledger.held()
    };
    exposition.gathered(&site.registry.gather());
    let families = exposition.finish();
    let escaping = escaping.map(|escaping| format!("; escaping={escaping}"));
    let content_type = format.content_type().to_owned() + &escaping.unwrap_or_default();
    let compressed = if accepts_gzip(headers) { compress(&families).ok() } else { None };
    let encoding = compressed.is_some().then_some((header::CONTENT_ENCODING, "gzip"));
    let body = compressed.unwrap_or_else(|| families.concat().into_bytes());
    site.committed.publish(|ledger| ledger.mark_shown(&held, (site.now)()));
    let headers =
        [(header::CONTENT_TYPE, content_type.as_str()), (header::VARY, "accept, accept-encoding")];
    (headers, AppendHeaders(encoding), body).into_response()
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
fn compress(families: &[String]) -> std::io::Result<Vec<u8>> {
    let bytes: usize = families.iter().map(String::len).sum();
    let mut encoder = GzEncoder::new(Vec::with_capacity(bytes / 8), Compression::fast());
    for family in families {
        encoder.write_all(family.as_bytes())?;
    }
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
