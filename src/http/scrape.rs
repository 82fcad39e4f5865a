//! `/metrics`: a snapshot, encoded, compressed if the scraper wants it.
//!
//! Whoever asks while one is being written gets the next one, together with all others who asked for the
//! same form: however many ask, one is written at a time, and nobody waits for more than one of each form.

use std::io::Write;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{AppendHeaders, IntoResponse, Response};
use flate2::Compression;
use flate2::write::GzEncoder;
use tokio::sync::Semaphore;

use crate::metrics::exposition::{Exposition, Format};
use crate::metrics::snapshot;

use super::server::Held;
use super::{Site, negotiate};

/// Who writes metrics.
#[derive(Clone, Debug)]
pub struct Scribe {
    turn: Arc<Semaphore>,
    desk: Arc<Mutex<Desk>>,
}

/// What was written for those who wait.
#[derive(Debug, Default)]
struct Desk {
    waiting: usize,
    /// How many were begun.
    begun: u64,
    /// The newest of each form, and which it was; none once nobody waits.
    written: Vec<(Form, u64, Written)>,
}

/// What may differ between two scrapers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Form {
    format: negotiate::Format,
    is_gzip: bool,
}

/// Metrics, written in a form.
#[derive(Clone, Debug)]
struct Written {
    content_type: String,
    is_gzip: bool,
    held: Arc<Held>,
}

/// One who waits.
struct Waiting<'a>(&'a Scribe);

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
        let asked = {
            let mut desk = self.desk();
            desk.waiting += 1;
            desk.begun
        };
        let _waiting = Waiting(self);
        // Never closed. Who goes away leaves the work behind, and the turn with it.
        let turn = Arc::clone(&self.turn).acquire_owned().await;
        let newest = self
            .desk()
            .written
            .iter()
            .find(|(of, begun, _)| *of == form && *begun > asked)
            .cloned();
        if let Some((_, _, written)) = newest {
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
            desk.written.retain(|(of, _, _)| *of != form);
            if desk.waiting > 1 {
                desk.written.push((form, begun, written.clone()));
            }
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

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut desk = self.0.desk();
        desk.waiting -= 1;
        if desk.waiting == 0 {
            desk.written.clear();
        }
    }
}

/// Answers a scrape.
pub(super) async fn metrics(State(site): State<Site>, headers: HeaderMap) -> Response {
    let form = Form { format: negotiate::format(&headers), is_gzip: accepts_gzip(&headers) };
    let writer = site.clone();
    let Some(written) = site.scribe.write(form, move || write(&writer, form)).await else {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    };
    let headers = [
        (header::CONTENT_TYPE, written.content_type.as_str()),
        (header::VARY, "accept, accept-encoding"),
    ];
    let encoding = written.is_gzip.then_some((header::CONTENT_ENCODING, "gzip"));
    let body = Body::from(written.held.bytes());
    let mut response = (headers, AppendHeaders(encoding), body).into_response();
    response.extensions_mut().insert(written.held);
    response
}

fn write(site: &Site, form: Form) -> Written {
    let (format, escaping) = match form.format {
        negotiate::Format::Text => (Format::Text, None),
        negotiate::Format::OpenMetrics { escaping } => (Format::OpenMetrics, escaping),
    };
    let mut exposition = Exposition::new(format);
    let held_back = {
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
    let compressed = if form.is_gzip { compress(&families).ok() } else { None };
    let is_gzip = compressed.is_some();
    let body = compressed.unwrap_or_else(|| families.concat().into_bytes());
    drop(families);
    site.committed.publish(|ledger| ledger.mark_shown(&held_back, (site.now)()));
    Written { content_type, is_gzip, held: site.answers.hold(body.into()) }
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
    use std::sync::atomic::AtomicUsize;
    use std::sync::mpsc;

    use super::super::server::Answers;
    use super::super::until;
    use super::*;

    #[tokio::test]
    async fn all_who_wait_get_what_is_written_after_they_asked_and_it_is_written_once() {
        let scribe = Scribe::default();
        let text = Form { format: negotiate::Format::Text, is_gzip: false };
        let gzip = Form { is_gzip: true, ..text };
        let written = Arc::new(AtomicUsize::new(0));
        let write = |before: Option<mpsc::Receiver<()>>| {
            let (written, answers) = (Arc::clone(&written), Answers::default());
            move || {
                // Until its sender is gone.
                let _over = before.map(|before| before.recv());
                let number = written.fetch_add(1, Ordering::SeqCst).to_string();
                let content_type = String::new();
                Written { content_type, is_gzip: false, held: answers.hold(number.into()) }
            }
        };
        let (hold, held) = mpsc::channel();
        let first = tokio::spawn({
            let (scribe, write) = (scribe.clone(), write(Some(held)));
            async move { scribe.write(text, write).await }
        });
        until(|| scribe.desk().begun > 0).await;
        let others: Vec<_> = [text, gzip, text, text, gzip]
            .into_iter()
            .map(|form| {
                let (scribe, write) = (scribe.clone(), write(None));
                tokio::spawn(async move { scribe.write(form, write).await })
            })
            .collect();
        until(|| scribe.desk().waiting == 6).await;
        drop(hold);
        let mut got = vec![first.await];
        for other in others {
            got.push(other.await);
        }
        let got: Vec<_> = got
            .into_iter()
            .map(|written| written.expect("no panic").expect("written").held.bytes())
            .collect();
        assert_eq!(got, ["0", "1", "2", "1", "1", "2"]);
        assert!(scribe.desk().written.is_empty(), "nobody waits for it");
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
