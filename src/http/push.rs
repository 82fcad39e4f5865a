//! `POST /push/error-log`: receives pushes from Twilio.
//!
//! Requests are authenticated by their signature, and also by username and password if the web configuration has
//! users. The number of concurrent requests, their size and their duration are limited.

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

/// The maximum size of a body. Event Streams sends a few events at a time, each a few kilobytes long.
const MAX_BODY_BYTES: usize = 1 << 20;
/// The maximum number of concurrent requests, which bounds their memory to a few megabytes.
const MAX_CONCURRENT: usize = 8;
/// The maximum duration of a request: Twilio retries after five seconds.
const TIMEOUT: Duration = Duration::from_millis(4_500);

/// A received push.
#[derive(Clone)]
pub struct Push {
    /// The URL's query.
    pub query: String,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
}

impl fmt::Debug for Push {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Push").field("bytes", &self.body.len()).finish_non_exhaustive()
    }
}

/// Resolves to the result of a push, or to `None` if pushes are disabled.
pub type PushFuture = Pin<Box<dyn Future<Output = Option<PushResult>> + Send>>;

/// Reads pushes and passes them on to be verified and counted.
#[derive(Clone)]
pub struct Pushes {
    count: Arc<dyn Fn(Push) -> PushFuture + Send + Sync>,
    permits: Arc<Semaphore>,
    health: Health,
}

impl Pushes {
    /// Passes pushes to `count`.
    pub fn new(count: impl Fn(Push) -> PushFuture + Send + Sync + 'static, health: Health) -> Self {
        let permits = Arc::new(Semaphore::new(MAX_CONCURRENT));
        Self { count: Arc::new(count), permits, health }
    }

    async fn handle(&self, request: Request) -> Option<PushResult> {
        let Ok(_permit) = self.permits.try_acquire() else { return Some(PushResult::Deferred) };
        let (parts, body) = request.into_parts();
        let query = parts.uri.query().unwrap_or_default().to_owned();
        let handled = async {
            // The signature covers the whole body.
            match to_bytes(body, MAX_BODY_BYTES).await {
                Ok(body) => (self.count)(Push { query, headers: parts.headers, body }).await,
                Err(_) => Some(PushResult::Refused),
            }
        };
        tokio::time::timeout(TIMEOUT, handled).await.unwrap_or(Some(PushResult::Deferred))
    }
}

impl fmt::Debug for Pushes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pushes").finish_non_exhaustive()
    }
}

/// `POST /push/error-log`.
pub(super) async fn push(State(state): State<HttpState>, request: Request) -> Response {
    let Some(result) = state.pushes.handle(request).await else {
        return (
            StatusCode::NOT_FOUND,
            "Pushes are disabled; set push.public_url to enable them.\n",
        )
            .into_response();
    };
    state.pushes.health.pushed(result);
    match result {
        PushResult::Counted => StatusCode::NO_CONTENT.into_response(),
        PushResult::Refused => (StatusCode::FORBIDDEN, "Forbidden\n").into_response(),
        PushResult::Deferred => {
            (StatusCode::SERVICE_UNAVAILABLE, "Temporarily unavailable; retry later.\n")
                .into_response()
        }
    }
}
