//! Connections and their limits.
//!
//! Clients may be slow, hostile or numerous. The number of connections, the size of headers, and the time for headers
//! and for each response are limited. Connections beyond the limit are closed at once.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::{HttpState, router};

/// The maximum number of connections: enough for a few Prometheus servers and people, and for slow clients.
pub const MAX_CONNECTIONS: usize = 256;
/// How long a client may negotiate TLS, send headers, or be idle.
const CLIENT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a response may take until its last byte is written.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(30);
/// The maximum size of a request's headers. Prometheus sends a few hundred bytes, browsers with cookies a few
/// thousand.
const MAX_HEADER_BYTES: usize = 32 * 1024;
/// The maximum number of a request's header fields.
const MAX_HEADERS: usize = 64;
/// How long to wait after a connection couldn't be accepted, usually because too many files are open.
const PAUSE: Duration = Duration::from_millis(100);
/// How often to warn about that.
const WARN_EVERY: Duration = Duration::from_secs(60);

/// The address of the client that sent a request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Peer(pub(super) IpAddr);

/// Serves requests until `stop`, then finishes the responses in progress.
pub async fn serve(listener: TcpListener, state: HttpState, stop: CancellationToken) {
    let (router, connections) = (router(state.clone()), TaskTracker::new());
    let mut warned_at: Option<Instant> = None;
    while let Some(accepted) = stop.run_until_cancelled(listener.accept()).await {
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                if warned_at.is_none_or(|at| at.elapsed() >= WARN_EVERY) {
                    warned_at = Some(Instant::now());
                    tracing::warn!(%error, "cannot accept connections; retrying");
                }
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        let Ok(permit) = Arc::clone(&state.connections).try_acquire_owned() else {
            (state.note_refused)();
            continue;
        };
        let (router, state, stop) = (router.clone(), state.clone(), stop.clone());
        connections.spawn(async move {
            let _permit = permit;
            serve_connection(stream, peer.ip(), router, &state, &stop).await;
        });
    }
    connections.close();
    connections.wait().await;
}

async fn serve_connection(
    stream: TcpStream,
    peer: IpAddr,
    router: Router,
    state: &HttpState,
    stop: &CancellationToken,
) {
    // If this fails, small responses are only delayed a little.
    let _delayed = stream.set_nodelay(true);
    let settings = state.web.current();
    let end = async {
        tokio::select! {
            () = stop.cancelled() => {}
            () = settings.superseded.cancelled() => {}
        }
    };
    match &settings.tls {
        None => serve_http(stream, peer, router, end).await,
        Some(tls) => match tokio::time::timeout(CLIENT_TIMEOUT, tls.accept(stream)).await {
            Ok(Ok(stream)) => serve_http(stream, peer, router, end).await,
            Ok(Err(error)) => tracing::debug!(%error, "cannot negotiate TLS"),
            Err(_) => tracing::debug!("a client took too long to negotiate TLS"),
        },
    }
}

/// Serves a connection until the client closes it. After `end`, finishes the response in progress.
async fn serve_http(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    peer: IpAddr,
    router: Router,
    end: impl Future<Output = ()>,
) {
    let asked = Arc::new(Notify::new());
    let (service, notify) = (TowerToHyperService::new(router), Arc::clone(&asked));
    let service = service_fn(move |mut request: Request<Incoming>| {
        notify.notify_one();
        request.extensions_mut().insert(Peer(peer));
        service.call(request)
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(CLIENT_TIMEOUT)
        .max_buf_size(MAX_HEADER_BYTES)
        .max_headers(MAX_HEADERS)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    let mut end = std::pin::pin!(end);
    let mut deadline = std::pin::pin!(tokio::time::sleep(CLIENT_TIMEOUT + RESPONSE_TIMEOUT));
    let mut is_ending = false;
    loop {
        tokio::select! {
            ended = connection.as_mut() => {
                if let Err(error) = ended {
                    tracing::debug!(%error, "a connection ended early");
                }
                return;
            }
            () = asked.notified() => deadline.as_mut().reset(Instant::now() + RESPONSE_TIMEOUT),
            () = deadline.as_mut() => {
                tracing::debug!(%peer, "a client took too long to read a response");
                return;
            }
            () = end.as_mut(), if !is_ending => {
                connection.as_mut().graceful_shutdown();
                is_ending = true;
            }
        }
    }
}
