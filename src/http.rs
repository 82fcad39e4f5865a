//! The HTTP server: `/metrics`, the pages, probes, reloads and pushes.
//!
//! Responses come from memory and never wait for Twilio. Only `/failures` and pushes wait for the disk, for a
//! limited time. Of the store, this module knows only the recorded failures.

mod failures;
mod negotiate;
mod pages;
pub mod push;
pub mod reload;
mod scrape;
mod scrapers;
mod server;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::{Next, from_fn_with_state, map_response_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use jiff::Timestamp;
use prometheus::proto::MetricFamily;
use tokio::sync::Semaphore;

use crate::metrics::health::Troubles;
use crate::metrics::ledger::Committed;
use crate::store::failures::FailureReader;
use crate::web::WebSettings;

use push::Pushes;
use reload::Reloads;
pub use scrape::{MAX_RENDERS, MAX_SCRAPES};
pub use scrapers::Scrapers;
pub use server::{MAX_CONNECTIONS, serve};

/// What the handlers share.
#[derive(Clone)]
pub struct HttpState {
    /// Gathers the instruments; the durable families are in the ledger.
    pub gather: Arc<dyn Fn() -> Vec<MetricFamily> + Send + Sync>,
    /// The committed ledger, which records what scrapes have shown.
    pub committed: Committed,
    /// The recorded failures.
    pub failures: FailureReader,
    /// The resources that can't be read from Twilio.
    pub troubles: Troubles,
    /// Whether exemplars are exposed.
    pub exemplars: Arc<AtomicBool>,
    /// How often each client scrapes.
    pub scrapers: Scrapers,
    /// The permits for scrapes that are being rendered or wait for that.
    pub scrapes: Arc<Semaphore>,
    /// The permits for those that are being rendered.
    pub renders: Arc<Semaphore>,
    /// Whether all poll loops advance and the store's files exist.
    pub is_ready: Arc<dyn Fn() -> bool + Send + Sync>,
    /// The monotonic local time, for intervals.
    pub now: Arc<dyn Fn() -> Timestamp + Send + Sync>,
    /// The time of day, for ages: Twilio's, or the wall clock's until that is known.
    pub time: Arc<dyn Fn() -> Timestamp + Send + Sync>,
    /// Reloads the configuration, if enabled over HTTP.
    pub reloads: Option<Reloads>,
    /// Verifies and counts pushes.
    pub pushes: Pushes,
    /// TLS, users and headers.
    pub web: WebSettings,
    /// Connections that may be open.
    pub connections: Arc<Semaphore>,
    /// Counts a refused connection.
    pub note_refused: Arc<dyn Fn() + Send + Sync>,
}

impl fmt::Debug for HttpState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpState").finish_non_exhaustive()
    }
}

/// Security headers of all responses: the pages need no scripts, frames or other origins.
const HEADERS: [(HeaderName, &str); 3] = [
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'",
    ),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::REFERRER_POLICY, "no-referrer"),
];

/// All routes.
fn router(state: HttpState) -> Router {
    Router::new()
        .route("/", get(pages::landing::landing))
        .route("/failures", get(failures::page_or_json))
        .route("/failures.json", get(failures::json))
        .route("/metrics", get(scrape::metrics))
        .route("/push/error-log", post(push::push))
        .route("/-/healthy", get(|| async { "Healthy.\n" }))
        .route("/-/ready", get(ready))
        .route("/-/reload", post(reload::reload).put(reload::reload))
        .fallback(|| async { (StatusCode::NOT_FOUND, "Not found. See / for links.\n") })
        .layer(from_fn_with_state(state.clone(), check_user))
        .layer(map_response_with_state(state.clone(), add_headers))
        .with_state(state)
}

async fn ready(State(state): State<HttpState>) -> Response {
    if (state.is_ready)() {
        "Ready.\n".into_response()
    } else {
        let why =
            "A poll loop has stopped advancing, or the store's files were removed; see the log.\n";
        (StatusCode::SERVICE_UNAVAILABLE, why).into_response()
    }
}

/// The paths that need no credentials: orchestrators have none for their probes.
const PROBES: [&str; 2] = ["/-/healthy", "/-/ready"];

/// Refuses requests without valid credentials if users are configured.
async fn check_user(State(state): State<HttpState>, request: Request, next: Next) -> Response {
    let is_probe = PROBES.contains(&request.uri().path());
    if is_probe || state.web.current().allows(request.headers()).await {
        return next.run(request).await;
    }
    let challenge = HeaderValue::from_static("Basic");
    (StatusCode::UNAUTHORIZED, [(header::WWW_AUTHENTICATE, challenge)], "Unauthorized\n")
        .into_response()
}

async fn add_headers(State(state): State<HttpState>, mut response: Response) -> Response {
    let headers = response.headers_mut();
    for (name, value) in HEADERS {
        headers.insert(name, HeaderValue::from_static(value));
    }
    state.web.current().add_headers(headers);
    response
}
