//! `/metrics`.
//!
//! Invariant: a series that is held at 0 counts as shown only after a response that included it was sent
//! completely. A HEAD request, or a client that disconnects early, has seen nothing.
//!
//! Responses are kept compressed until they are sent, so that slow clients take little memory.

use std::io::{Read, Write};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};

use axum::body::{Body, Bytes};
use axum::extract::{Extension, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::{AppendHeaders, IntoResponse, Response};
use flate2::Compression;
use flate2::bufread::GzDecoder;
use flate2::write::GzEncoder;
use http_body::{Frame, SizeHint};

use crate::metrics::exposition::{Exposition, Format};
use crate::metrics::ledger::ShownZeros;
use crate::metrics::snapshot;

use super::server::Peer;
use super::{HttpState, negotiate, scrapers};

/// The maximum number of scrapes that are being rendered or wait for that, as in node_exporter.
pub const MAX_SCRAPES: usize = 40;
/// The maximum number being rendered: more would only take memory, several megabytes each.
pub const MAX_RENDERS: usize = 4;
/// Responses are sent in chunks of this size, so that the last one is taken only when nearly all of the response
/// has been sent.
const CHUNK_BYTES: usize = 16 * 1024;

pub(super) async fn metrics(
    State(state): State<HttpState>,
    peer: Option<Extension<Peer>>,
    method: Method,
    request: HeaderMap,
) -> Response {
    let Ok(_permit) = Arc::clone(&state.scrapes).try_acquire_owned() else {
        return (StatusCode::SERVICE_UNAVAILABLE, "Too many scrapes at once.\n").into_response();
    };
    let (format, escaping) = negotiate::format(&request);
    if method != Method::HEAD {
        // Anything counted from now on may be missing from the response, and starts at 0.
        state.committed.note_scrape();
    }
    let Ok(render_permit) = Arc::clone(&state.renders).acquire_owned().await else {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    };
    // Rendering 10,000 series takes milliseconds, too long for a thread that runs other tasks.
    let renderer = state.clone();
    let rendered = tokio::task::spawn_blocking(move || {
        let _permit = render_permit;
        render(&renderer, format)
    });
    let rendered = rendered.await;
    let Ok(Rendered { gzip, length, shown }) = rendered else {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    };
    let client = peer.and_then(|Extension(Peer(peer))| scrapers::client_key(peer, &request));
    let note = move || {
        let now = (state.now)();
        state.committed.note_shown(shown, now);
        if let Some(client) = client {
            state.scrapers.record(client, now);
        }
    };
    let content_type = format.content_type().to_owned() + &escaping;
    let vary = "accept, accept-encoding";
    let headers = [(header::CONTENT_TYPE, content_type.as_str()), (header::VARY, vary)];
    if accepts_gzip(&request) {
        let encoding = AppendHeaders([(header::CONTENT_ENCODING, "gzip")]);
        let length = gzip.len();
        let body = ScrapeBody { rest: std::io::Cursor::new(gzip), length, note: Some(note) };
        (headers, encoding, Body::new(body)).into_response()
    } else {
        let body = ScrapeBody {
            rest: GzDecoder::new(std::io::Cursor::new(gzip)),
            length,
            note: Some(note),
        };
        (headers, Body::new(body)).into_response()
    }
}

/// A response body that calls `note` when its last chunk is taken.
struct ScrapeBody<R, F> {
    rest: R,
    /// How many bytes are left.
    length: usize,
    note: Option<F>,
}

impl<R: Read + Unpin, F: FnOnce() + Unpin> http_body::Body for ScrapeBody<R, F> {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<std::io::Result<Frame<Bytes>>>> {
        if self.length == 0 {
            return Poll::Ready(None);
        }
        let mut chunk = vec![0; self.length.min(CHUNK_BYTES)];
        self.rest.read_exact(&mut chunk)?;
        self.length -= chunk.len();
        if self.length == 0
            && let Some(note) = self.note.take()
        {
            note();
        }
        Poll::Ready(Some(Ok(Frame::data(chunk.into()))))
    }

    fn is_end_stream(&self) -> bool {
        self.length == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(u64::try_from(self.length).unwrap_or(u64::MAX))
    }
}

/// A rendered response.
struct Rendered {
    gzip: Vec<u8>,
    /// The number of bytes before compression.
    length: usize,
    shown: ShownZeros,
}

fn render(state: &HttpState, format: Format) -> Rendered {
    let mut exposition = Exposition::new(format);
    let shown = {
        let ledger = state.committed.read();
        let shows_exemplars =
            state.exemplars.load(Ordering::Relaxed) && format == Format::OpenMetrics;
        snapshot::write(&ledger, shows_exemplars, &mut exposition);
        ledger.shown()
    };
    exposition.gathered(&(state.gather)());
    let families = exposition.finish();
    Rendered { length: families.iter().map(String::len).sum(), gzip: compress(&families), shown }
}

/// Compresses fast: scrapes are local, and polling needs the time.
fn compress(families: &[String]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    let written = families.iter().try_for_each(|family| encoder.write_all(family.as_bytes()));
    let mut gzip = written.and_then(|()| encoder.finish()).expect("writing to memory succeeds");
    gzip.shrink_to_fit();
    gzip
}

/// Whether a client accepts gzip (RFC 9110, section 12.5.3).
fn accepts_gzip(request: &HeaderMap) -> bool {
    let values = request.get_all(header::ACCEPT_ENCODING).iter().filter_map(|v| v.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|coding| {
        let mut parts = coding.split(';').map(str::trim);
        let is_gzip = parts.next().is_some_and(|name| name.eq_ignore_ascii_case("gzip"));
        let weight = parts.find_map(|part| part.strip_prefix("q="));
        is_gzip && weight.is_none_or(|q| q.parse::<f32>().is_ok_and(|q| q > 0.0))
    })
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use http_body_util::BodyExt;

    use super::*;

    #[tokio::test]
    async fn notes_a_response_only_when_all_of_it_was_sent() {
        let noted = Arc::new(AtomicUsize::new(0));
        let answer = |bytes: usize| {
            let noted = Arc::clone(&noted);
            let note = move || {
                noted.fetch_add(1, Ordering::SeqCst);
            };
            let gzip = compress(&["x".repeat(bytes)]);
            let rest = GzDecoder::new(std::io::Cursor::new(gzip));
            Body::new(ScrapeBody { rest, length: bytes, note: Some(note) })
        };
        drop(answer(1));
        let mut large = answer(3 * CHUNK_BYTES);
        let _piece = large.frame().await.expect("a chunk");
        drop(large);
        assert_eq!(noted.load(Ordering::SeqCst), 0);
        let sent = answer(3 * CHUNK_BYTES + 7).collect().await.expect("no error").to_bytes();
        assert_eq!(
            (sent, noted.load(Ordering::SeqCst)),
            ("x".repeat(3 * CHUNK_BYTES + 7).into(), 1)
        );
    }

    #[test]
    fn uses_gzip_where_it_is_accepted() {
        for (accept, expected) in
            [("gzip", true), ("deflate, GZIP;q=0.5", true), ("gzip;q=0", false), ("", false)]
        {
            let value = accept.parse().expect("a header");
            let request = HeaderMap::from_iter([(header::ACCEPT_ENCODING, value)]);
            assert_eq!(accepts_gzip(&request), expected, "{accept}");
        }
    }
}
