//! `/metrics`: a snapshot, encoded, compressed if the scraper wants it.
//!
//! Invariant: what is held at 0 counts as shown only by an answer that went out to its end. A request for
//! the head alone, or a client that leaves before, has seen nothing.
//!
//! Whoever asks while one is being written gets the next one, together with all others who asked for the
//! same form: however many ask, one is written at a time, and nobody waits for more than one of each form.

use std::io::Write;
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll};

use axum::body::{Body, Bytes};
use axum::extract::{Extension, State};
use axum::http::{HeaderMap, Method, Request, StatusCode, header};
use axum::middleware::Next;
use axum::response::{AppendHeaders, IntoResponse, Response};
use flate2::Compression;
use flate2::write::GzEncoder;
use http_body::{Frame, SizeHint};
use tokio::sync::Semaphore;

use crate::metrics::exposition::{Exposition, Format};
use crate::metrics::ledger::Shown;
use crate::metrics::snapshot;

use super::scrapers::ClientKey;
use super::server::{Guest, Held};
use super::{Site, negotiate};

/// Who writes metrics.
#[derive(Clone, Debug)]
pub struct Scribe {
    turn: Arc<Semaphore>,
    desk: Arc<Mutex<Desk>>,
}

/// What was written last.
#[derive(Debug, Default)]
struct Desk {
    /// How many were begun.
    begun: u64,
    /// The newest of each form, and which it was, for as long as somebody takes it.
    written: Vec<(Form, u64, Weak<Held>, Arc<Shown>)>,
}

/// A snapshot as it was written, and what it shows of what is held at 0.
#[derive(Clone, Debug)]
struct Written {
    held: Arc<Held>,
    shown: Arc<Shown>,
}

/// What differs between two scrapers' bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Form {
    format: Format,
    is_gzip: bool,
}

impl Default for Scribe {
    fn default() -> Self {
        Self { turn: Arc::new(Semaphore::new(1)), desk: Arc::default() }
    }
}

impl Scribe {
    /// What was written after this was asked for; `None` if writing panicked.
    async fn write(
        &self,
        form: Form,
        write: impl FnOnce() -> Written + Send + 'static,
    ) -> Option<Written> {
        let asked = self.desk().begun;
        // Never closed. Who goes away leaves the work behind, and the turn with it.
        let turn = Arc::clone(&self.turn).acquire_owned().await;
        if let Some(written) = self.desk().newer(form, asked) {
            return Some(written);
        }
        let scribe = self.clone();
        let write = move || {
            let _turn = turn;
            let begun = {
                let mut desk = scribe.desk();
                desk.begun += 1;
                desk.begun
            };
            let written = write();
            let mut desk = scribe.desk();
            desk.written.retain(|(of, ..)| *of != form);
            let (held, shown) = (Arc::downgrade(&written.held), Arc::clone(&written.shown));
            desk.written.push((form, begun, held, shown));
            written
        };
        // Ten thousand series take milliseconds of a processor: on a thread of their own, they hold up
        // no poll loop.
        match tokio::task::spawn_blocking(write).await {
            Ok(written) => Some(written),
            Err(error) => {
                tracing::warn!(%error, "cannot write the metrics");
                None
            }
        }
    }

    fn desk(&self) -> MutexGuard<'_, Desk> {
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Desk {
    /// What was begun after another and is taken by somebody.
    fn newer(&self, form: Form, than: u64) -> Option<Written> {
        let mut written = self.written.iter();
        let (.., held, shown) = written.find(|(of, begun, ..)| *of == form && *begun > than)?;
        Some(Written { held: held.upgrade()?, shown: Arc::clone(shown) })
    }
}

/// Answers a scrape.
pub(super) async fn metrics(
    State(site): State<Site>,
    guest: Option<Extension<Guest>>,
    method: Method,
    headers: HeaderMap,
) -> Response {
    let (format, escaping) = match negotiate::format(&headers) {
        negotiate::Format::Text => (Format::Text, None),
        negotiate::Format::OpenMetrics { escaping } => (Format::OpenMetrics, escaping),
    };
    let form = Form { format, is_gzip: accepts_gzip(&headers) };
    if let Some(Extension(guest)) = guest {
        guest.is_asking();
    }
    let writer = site.clone();
    let write = move || {
        if method != Method::HEAD {
            note_scrape(&writer);
        }
        write(&writer, form)
    };
    let Some(written) = site.scribe.write(form, write).await else {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    };
    let Written { held, shown } = written;
    let escaping = escaping.map(|escaping| format!("; escaping={escaping}"));
    let content_type = format.content_type().to_owned() + &escaping.unwrap_or_default();
    let headers =
        [(header::CONTENT_TYPE, content_type.as_str()), (header::VARY, "accept, accept-encoding")];
    let encoding = form.is_gzip.then_some((header::CONTENT_ENCODING, "gzip"));
    let mut response = (headers, AppendHeaders(encoding), Body::from(held.bytes())).into_response();
    response.extensions_mut().insert(held);
    response.extensions_mut().insert(shown);
    response
}

/// Notes what an answer has shown, once all of it went out. For a request of the head alone no body goes
/// out, so nothing is noted.
pub(super) async fn note_shown(
    State(site): State<Site>,
    request: Request<Body>,
    next: Next,
) -> Response {
    let guest = request.extensions().get::<Guest>();
    let client = guest.and_then(|guest| ClientKey::of(guest.peer(), request.headers()));
    let mut response = next.run(request).await;
    match response.extensions_mut().remove::<Arc<Shown>>() {
        Some(shown) => {
            let note = move || {
                let now = (site.now)();
                site.committed.publish(|ledger| ledger.mark_shown(&shown, now));
                if let Some(client) = client {
                    site.scrapers.note(client, now);
                }
            };
            response.map(|body| Body::new(Showing { body, note: Some(note) }))
        }
        None => response,
    }
}

/// An answer on its way, and what to note when all of it went out.
struct Showing<F> {
    body: Body,
    note: Option<F>,
}

impl<F: FnOnce() + Send + Unpin + 'static> http_body::Body for Showing<F> {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        let is_over = match &polled {
            Poll::Ready(Some(Ok(_))) => self.body.is_end_stream(),
            Poll::Ready(None) => true,
            Poll::Ready(Some(Err(_))) | Poll::Pending => false,
        };
        if is_over && let Some(note) = self.note.take() {
            // A scrape that is being written holds the ledger for milliseconds: no task waits for that.
            tokio::task::spawn_blocking(note);
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Notes that an answer is being written: whatever comes from now on is not in it, and begins at 0.
fn note_scrape(site: &Site) {
    if !site.committed.read().was_scraped {
        site.committed.publish(|ledger| ledger.was_scraped = true);
    }
}

fn write(site: &Site, form: Form) -> Written {
    let mut exposition = Exposition::new(form.format);
    let shown = {
        let ledger = site.committed.read();
        let shows_exemplars =
            site.exemplars.load(Ordering::Relaxed) && form.format == Format::OpenMetrics;
        snapshot::write(&ledger, shows_exemplars, &mut exposition);
        ledger.shown()
    };
    exposition.gathered(&(site.gather)());
    let families = exposition.finish();
    let body = if form.is_gzip { compress(&families) } else { families.concat().into_bytes() };
    drop(families);
    Written { held: site.answers.hold(body.into()), shown: Arc::new(shown) }
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
fn compress(families: &[String]) -> Vec<u8> {
    let bytes: usize = families.iter().map(String::len).sum();
    let mut encoder = GzEncoder::new(Vec::with_capacity(bytes / 8), Compression::fast());
    let written = families.iter().try_for_each(|family| encoder.write_all(family.as_bytes()));
    written.and_then(|()| encoder.finish()).expect("memory takes whatever is written to it")
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;
    use std::sync::mpsc;

    use http_body_util::BodyExt;

    use super::super::server::Answers;
    use super::super::until;
    use super::*;
    use crate::metrics::ledger::Ledger;

    #[tokio::test]
    async fn all_who_wait_get_what_is_written_after_they_asked_and_it_is_written_once() {
        let scribe = Scribe::default();
        let text = Form { format: Format::Text, is_gzip: false };
        let gzip = Form { is_gzip: true, ..text };
        let written = Arc::new(AtomicUsize::new(0));
        let write = |before: Option<mpsc::Receiver<()>>| {
            let (written, answers) = (Arc::clone(&written), Answers::default());
            move || {
                // Until its sender is gone.
                let _over = before.map(|before| before.recv());
                let number = written.fetch_add(1, Ordering::SeqCst).to_string();
                let shown = Arc::new(Ledger::default().shown());
                Written { held: answers.hold(number.into()), shown }
            }
        };
        let (hold, held) = mpsc::channel();
        let first = tokio::spawn({
            let (scribe, write) = (scribe.clone(), write(Some(held)));
            async move { scribe.write(text, write).await }
        });
        until(|| scribe.desk().begun > 0).await;
        let asking = Arc::new(AtomicUsize::new(0));
        let others: Vec<_> = [text, gzip, text, text, gzip]
            .into_iter()
            .map(|form| {
                let (scribe, write) = (scribe.clone(), write(None));
                let asking = Arc::clone(&asking);
                tokio::spawn(async move {
                    asking.fetch_add(1, Ordering::SeqCst);
                    scribe.write(form, write).await
                })
            })
            .collect();
        until(|| asking.load(Ordering::SeqCst) == 5).await;
        drop(hold);
        let mut got = vec![first.await];
        for other in others {
            got.push(other.await);
        }
        let got: Vec<_> =
            got.into_iter().map(|written| written.expect("no panic").expect("written")).collect();
        let texts: Vec<_> = got.iter().map(|written| written.held.bytes()).collect();
        assert_eq!(texts, ["0", "1", "2", "1", "1", "2"]);
        let is_in_memory =
            || scribe.desk().written.iter().any(|(.., held, _)| held.strong_count() > 0);
        assert!(is_in_memory());
        drop(got);
        assert!(!is_in_memory(), "nobody takes it");
    }

    #[tokio::test]
    async fn an_answer_is_noted_once_all_of_it_went_out_and_not_before() {
        let noted = Arc::new(AtomicUsize::new(0));
        let showing = |pieces: usize| {
            let noted = Arc::clone(&noted);
            let note = move || {
                noted.fetch_add(1, Ordering::SeqCst);
            };
            Body::new(Showing { body: Body::new(Pieces(pieces)), note: Some(note) })
        };
        drop(showing(1));
        let mut large = showing(3);
        let _piece = large.frame().await.expect("a piece");
        drop(large);
        let taken = showing(3).collect().await.expect("no error");
        assert_eq!(taken.to_bytes(), "xxx");
        until(|| noted.load(Ordering::SeqCst) > 0).await;
        assert_eq!(
            noted.load(Ordering::SeqCst),
            1,
            "an answer that is dropped, whole or in part, has shown nothing"
        );
    }

    /// An answer of so many pieces.
    struct Pieces(usize);

    impl http_body::Body for Pieces {
        type Data = Bytes;
        type Error = std::convert::Infallible;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
            let Some(rest) = self.0.checked_sub(1) else { return Poll::Ready(None) };
            self.0 = rest;
            Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(b"x")))))
        }

        fn is_end_stream(&self) -> bool {
            self.0 == 0
        }
    }

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
