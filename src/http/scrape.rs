//! `/metrics`: a snapshot, encoded, compressed if the scraper wants it.
//!
//! Whoever asks while one is being written gets the next one, together with all others who asked for the
//! same form: however many ask, one is written at a time, and nobody waits for more than one of each form.

use std::io::Write;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use axum::body::Body;
use axum::extract::{Extension, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{AppendHeaders, IntoResponse, Response};
use flate2::Compression;
use flate2::write::GzEncoder;
use tokio::sync::Semaphore;

use crate::metrics::exposition::{Exposition, Format};
use crate::metrics::snapshot;

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
    written: Vec<(Form, u64, Weak<Held>)>,
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
        write: impl FnOnce() -> Arc<Held> + Send + 'static,
    ) -> Option<Arc<Held>> {
        let asked = self.desk().begun;
        // Never closed. Who goes away leaves the work behind, and the turn with it.
        let turn = Arc::clone(&self.turn).acquire_owned().await;
        if let Some(held) = self.desk().newer(form, asked) {
            return Some(held);
        }
        let scribe = self.clone();
        let write = move || {
            let _turn = turn;
            let begun = {
                let mut desk = scribe.desk();
                desk.begun += 1;
                desk.begun
            };
            let held = write();
            let mut desk = scribe.desk();
            desk.written.retain(|(of, _, _)| *of != form);
            desk.written.push((form, begun, Arc::downgrade(&held)));
            held
        };
        // Ten thousand series take milliseconds of a processor: on a thread of their own, they hold up
        // no poll loop.
        match tokio::task::spawn_blocking(write).await {
            Ok(held) => Some(held),
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
    fn newer(&self, form: Form, than: u64) -> Option<Arc<Held>> {
        let mut written = self.written.iter();
        let (_, _, held) = written.find(|(of, begun, _)| *of == form && *begun > than)?;
        held.upgrade()
    }
}

/// Answers a scrape.
pub(super) async fn metrics(
    State(site): State<Site>,
    guest: Option<Extension<Guest>>,
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
    let Some(held) = site.scribe.write(form, move || write(&writer, form)).await else {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    };
    let escaping = escaping.map(|escaping| format!("; escaping={escaping}"));
    let content_type = format.content_type().to_owned() + &escaping.unwrap_or_default();
    let headers =
        [(header::CONTENT_TYPE, content_type.as_str()), (header::VARY, "accept, accept-encoding")];
    let encoding = form.is_gzip.then_some((header::CONTENT_ENCODING, "gzip"));
    let mut response = (headers, AppendHeaders(encoding), Body::from(held.bytes())).into_response();
    response.extensions_mut().insert(held);
    response
}

fn write(site: &Site, form: Form) -> Arc<Held> {
    let mut exposition = Exposition::new(form.format);
    let held_back = {
        let ledger = site.committed.read();
        let shows_exemplars =
            site.exemplars.load(Ordering::Relaxed) && form.format == Format::OpenMetrics;
        snapshot::write(&ledger, shows_exemplars, &mut exposition);
        ledger.held()
    };
    exposition.gathered(&site.registry.gather());
    let families = exposition.finish();
    let body = if form.is_gzip { compress(&families) } else { families.concat().into_bytes() };
    drop(families);
    site.committed.publish(|ledger| ledger.mark_shown(&held_back, (site.now)()));
    site.answers.hold(body.into())
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

    use super::super::server::Answers;
    use super::super::until;
    use super::*;

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
                answers.hold(number.into())
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
        let texts: Vec<_> = got.iter().map(|held| held.bytes()).collect();
        assert_eq!(texts, ["0", "1", "2", "1", "1", "2"]);
        let is_in_memory =
            || scribe.desk().written.iter().any(|(_, _, held)| held.strong_count() > 0);
        assert!(is_in_memory());
        drop(got);
        assert!(!is_in_memory(), "nobody takes it");
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
