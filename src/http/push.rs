//! `POST /push/error-log`: takes what Twilio pushes.
//!
//! Requests are authenticated by their signature, and also by user and password if the web configuration has
//! users. What can be held up is bounded: a few requests at a time, their size, and their time.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Bytes, to_bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use tokio::sync::Semaphore;

use crate::metrics::health::{Health, PushResult};

use super::HttpState;

/// Most bytes of a body: Event Streams sends a few events at a time, each of some kilobytes.
const MAX_BODY_BYTES: usize = 1 << 20;
/// Requests that are taken in at a time: together they hold a few megabytes.
const MAX_AT_ONCE: usize = 8;
/// How long a request may take: Twilio waits for five seconds, and then pushes again.
const WITHIN: Duration = Duration::from_millis(4_500);

/// A request, as it came.
#[derive(Clone)]
pub struct Push {
    /// The query of its URL.
    pub query: String,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Bytes,
}

impl fmt::Debug for Push {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Push").field("bytes", &self.body.len()).finish_non_exhaustive()
    }
}

/// What becomes of a request; `None` where nothing is to be pushed here.
pub type PushFuture = Pin<Box<dyn Future<Output = Option<PushResult>> + Send>>;

/// Reads the requests, and hands them on to be verified and counted.
#[derive(Clone)]
pub struct Pushes {
    count: Arc<dyn Fn(Push) -> PushFuture + Send + Sync>,
    places: Arc<Semaphore>,
    health: Health,
}

impl Pushes {
    /// Hands them to `count`.
    pub fn new(count: impl Fn(Push) -> PushFuture + Send + Sync + 'static, health: Health) -> Self {
        let places = Arc::new(Semaphore::new(MAX_AT_ONCE));
        Self { count: Arc::new(count), places, health }
    }

    async fn take(&self, request: Request) -> Option<PushResult> {
        let Ok(_place) = self.places.try_acquire() else { return Some(PushResult::Deferred) };
        let (parts, body) = request.into_parts();
        let query = parts.uri.query().unwrap_or_default().to_owned();
        let taken = async {
            // Read to its end before it is known whose it is: the signature covers all of it.
            match to_bytes(body, MAX_BODY_BYTES).await {
                Ok(body) => (self.count)(Push { query, headers: parts.headers, body }).await,
                Err(_) => Some(PushResult::Refused),
            }
        };
        tokio::time::timeout(WITHIN, taken).await.unwrap_or(Some(PushResult::Deferred))
    }
}

impl fmt::Debug for Pushes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pushes").finish_non_exhaustive()
    }
}

/// `POST /push/error-log`.
pub(super) async fn push(State(state): State<HttpState>, request: Request) -> Response {
    let Some(result) = state.pushes.take(request).await else {
        return (StatusCode::NOT_FOUND, "Not found; set push.public_url.\n").into_response();
    };
    state.pushes.health.pushed(result);
    match result {
        PushResult::Counted => StatusCode::NO_CONTENT.into_response(),
        PushResult::Refused => (StatusCode::FORBIDDEN, "Forbidden\n").into_response(),
        PushResult::Deferred => {
            (StatusCode::SERVICE_UNAVAILABLE, "Not now; push it again.\n").into_response()
        }
    }
}
