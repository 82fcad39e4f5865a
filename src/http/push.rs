//! `POST /push/error-log`: receives pushes from Twilio.
//!
//! Requests are authenticated by their signature, and also by user and password if the web configuration has users.
//! The number of concurrent requests, their size and their time are limited.

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

/// The maximum size of a body: Event Streams sends a few events at a time, each of a few kilobytes.
const MAX_BODY_BYTES: usize = 1 << 20;
/// The maximum number of concurrent requests; together they hold a few megabytes.
const MAX_AT_ONCE: usize = 8;
/// How long a request may take: Twilio retries after five seconds.
const WITHIN: Duration = Duration::from_millis(4_500);

/// A received request.
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

/// The result of a request, or `None` if pushes are off.
pub type PushFuture = Pin<Box<dyn Future<Output = Option<PushResult>> + Send>>;

/// Reads requests and passes them on for verification and counting.
#[derive(Clone)]
pub struct Pushes {
    count: Arc<dyn Fn(Push) -> PushFuture + Send + Sync>,
    permits: Arc<Semaphore>,
    health: Health,
}

impl Pushes {
    /// Passes requests to `count`.
    pub fn new(count: impl Fn(Push) -> PushFuture + Send + Sync + 'static, health: Health) -> Self {
        let permits = Arc::new(Semaphore::new(MAX_AT_ONCE));
        Self { count: Arc::new(count), permits, health }
    }

    async fn take(&self, request: Request) -> Option<PushResult> {
        let Ok(_permit) = self.permits.try_acquire() else { return Some(PushResult::Deferred) };
        let (parts, body) = request.into_parts();
        let query = parts.uri.query().unwrap_or_default().to_owned();
        let taken = async {
            // The signature covers the whole body.
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
