//! The edge to people and Prometheus: `/metrics`, the pages, health and readiness.
//!
//! Answers come from memory: nothing waits for Twilio, and only `/failures`, and Twilio itself when it pushes,
//! wait for the disk, for a bounded time. Knows neither Twilio nor the store, but for what it recorded of failures.

mod access;
mod failures;
mod negotiate;
mod pages;
pub mod push;
pub mod reload;
mod scrape;
mod scrapers;
mod server;
pub mod web;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::{from_fn_with_state, map_response_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use jiff::Timestamp;
use prometheus::proto::MetricFamily;

use crate::metrics::health::Troubles;
use crate::metrics::ledger::Committed;
use crate::store::failures::FailureReader;

use push::Pushes;
use reload::Reloads;
pub use scrape::Scribe;
pub use scrapers::Scrapers;
pub use server::{Answers, Crowd, MAX_CONNECTIONS, serve};
use web::Web;

/// What the pages show.
#[derive(Clone)]
pub struct Site {
    /// Reads the instruments; the durable families are in the ledger.
    pub gather: Arc<dyn Fn() -> Vec<MetricFamily> + Send + Sync>,
    /// The committed ledger, which learns what scrapes have shown.
    pub committed: Committed,
    /// The recorded failures.
    pub failures: FailureReader,
    /// What can't be read from Twilio.
    pub troubles: Troubles,
    /// Whether exemplars are shown.
    pub exemplars: Arc<AtomicBool>,
    /// Who writes metrics.
    pub scribe: Scribe,
    /// How often which client scrapes.
    pub scrapers: Scrapers,
    /// What waits to be taken.
    pub answers: Answers,
    /// Whether every poll loop advances, and the store's files are there.
    pub is_ready: Arc<dyn Fn() -> bool + Send + Sync>,
    /// The local time, for schedules: a step of the wall clock doesn't move it.
    pub now: Arc<dyn Fn() -> Timestamp + Send + Sync>,
    /// The time of day, to show how old something is: Twilio's, or the wall clock's until that is known.
    pub time: Arc<dyn Fn() -> Timestamp + Send + Sync>,
    /// Who reloads the configuration, if it may be asked over HTTP.
    pub reloads: Option<Reloads>,
    /// Who counts what Twilio pushes.
    pub pushes: Pushes,
    /// TLS, who may ask, and headers.
    pub web: Web,
    /// Who is connected.
    pub crowd: Crowd,
}

impl fmt::Debug for Site {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Site").finish_non_exhaustive()
    }
}

/// What no page of ours needs is forbidden: no scripts, no frames, nothing from or to elsewhere.
const HEADERS: [(HeaderName, &str); 3] = [
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'",
    ),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::REFERRER_POLICY, "no-referrer"),
];

/// All routes.
fn router(site: Site) -> Router {
    Router::new()
        .route("/", get(pages::landing::landing))
        .route("/failures", get(failures::page_or_json))
        .route("/failures.json", get(failures::json))
        .route("/metrics", get(scrape::metrics))
        .route("/push/error-log", post(push::push))
        .route("/-/healthy", get(|| async { "Healthy.\n" }))
        .route("/-/ready", get(ready))
        .route("/-/reload", post(reload::reload).put(reload::reload))
        .fallback(|| async { (StatusCode::NOT_FOUND, "Not found; / has links.\n") })
        .layer(from_fn_with_state(site.clone(), server::answer_at_his_pace))
        .layer(from_fn_with_state(site.clone(), scrape::note_shown))
        .layer(from_fn_with_state(site.clone(), access::check))
        .layer(map_response_with_state(site.clone(), add_headers))
        .with_state(site)
}

async fn ready(State(site): State<Site>) -> Response {
    if (site.is_ready)() {
        "Ready.\n".into_response()
    } else {
        let why =
            "A poll loop has stopped advancing, or the store's files were removed; see the log.\n";
        (StatusCode::SERVICE_UNAVAILABLE, why).into_response()
    }
}

async fn add_headers(State(site): State<Site>, mut response: Response) -> Response {
    let headers = response.headers_mut();
    for (name, value) in HEADERS {
        headers.insert(name, HeaderValue::from_static(value));
    }
    for (name, value) in &site.web.current().headers {
        headers.insert(name.clone(), value.clone());
    }
    response
}

/// Waits for what other tasks do, ten seconds at most.
#[cfg(test)]
async fn until(holds: impl Fn() -> bool) {
    for _ in 0..10_000 {
        if holds() {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    }
    panic!("not within ten seconds");
}
