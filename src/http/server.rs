//! The server: connections, their limits, and their end.
//!
//! A client may be slow, hostile or many. What it can hold is bounded: the time to send its request,
//! the size of its headers, and with all others together a number of connections and of bytes that wait
//! to be taken. Where a bound is reached, whoever should have moved on the longest ago is cut off, so that
//! a scraper always finds room.

mod answers;
mod crowd;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, HttpBody};
use axum::extract::State;
use axum::http::{Request, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use rustix::io::Errno;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::{Site, router};
pub use answers::Answers;
pub(super) use answers::Held;
pub(super) use crowd::Guest;
use crowd::Seat;
pub use crowd::{Crowd, MAX_CONNECTIONS};

/// How long a client may take to send its headers, or to stay silent between two requests: longer than
/// the usual scrape interval.
const HEADERS_WITHIN: Duration = Duration::from_secs(75);
/// How long it may take to agree on TLS.
const TLS_WITHIN: Duration = Duration::from_secs(10);
/// Most bytes of a request's head: Prometheus sends a few hundred, browsers with cookies some thousand.
const MAX_HEAD_BYTES: usize = 32 * 1024;
/// Most header fields of a request.
const MAX_HEADERS: usize = 64;
/// Smaller answers need not be held: all connections together are bounded.
const SMALL: u64 = 64 * 1024;
/// How soon to look for room again where everybody connected is spared.
const ROOM_AGAIN: Duration = Duration::from_millis(5);
/// What the system holds of answers that were not taken, for each connection, doubled by it: a megabyte a
/// second at a tenth of a second to a client and back.
const SEND_BUFFER: usize = 128 * 1024;
/// How long to wait when no connection can be taken: out of files, it takes others to end.
const PAUSE: Duration = Duration::from_millis(100);

/// Serves pages until `stop`; what is being answered then is finished by whoever waits for this.
///
/// # Errors
/// Never by a client.
pub async fn serve(
    listener: TcpListener,
    site: Site,
    stop: CancellationToken,
) -> std::io::Result<()> {
    let mut connections = JoinSet::new();
    let router = router(site.clone());
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = listener.accept() => accepted,
            Some(_ended) = connections.join_next() => continue,
        };
        match accepted {
            Ok((stream, peer)) => {
                let entered = tokio::select! {
                    () = stop.cancelled() => break,
                    entered = enter(&site.crowd, peer.ip()) => entered,
                };
                let (site, router, stop) = (site.clone(), router.clone(), stop.clone());
                connections.spawn(connection(stream, entered, site, router, stop));
            }
            Err(error) => {
                // A connection that was gone before it was taken, or too many open files: of these, some
                // are of clients that wait for nothing.
                if error.raw_os_error().is_some_and(is_out_of_files) {
                    site.crowd.make_room(Instant::now());
                }
                tracing::debug!(%error, "cannot take a connection");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
    while connections.join_next().await.is_some() {}
    Ok(())
}

/// Lets an answer that is large wait with its guest, to be taken at his pace.
pub(super) async fn answer_at_his_pace(
    State(site): State<Site>,
    request: Request<Body>,
    next: Next,
) -> Response {
    let Some(guest) = request.extensions().get::<Guest>().cloned() else {
        return next.run(request).await;
    };
    let mut response = next.run(request).await;
    let size = response.body().size_hint().exact();
    let held = response.extensions_mut().remove::<Arc<Held>>();
    if size.is_some_and(|bytes| bytes <= SMALL) {
        return response;
    }
    let (head, body) = response.into_parts();
    let held = match held {
        Some(held) => held,
        // In memory already: answers here are made before they are sent.
        None => match axum::body::to_bytes(body, usize::MAX).await {
            Ok(bytes) => site.answers.hold(bytes),
            Err(error) => {
                tracing::warn!(%error, "cannot send an answer");
                return StatusCode::INTERNAL_SERVER_ERROR.into_response();
            }
        },
    };
    Response::from_parts(head, held.taken_by(guest))
}

/// Waits until there is room for a connection; the next ones wait behind it.
async fn enter(crowd: &Crowd, peer: IpAddr) -> (Guest, Seat) {
    loop {
        match crowd.enter(peer, Instant::now()) {
            Some(entered) => return entered,
            None => tokio::time::sleep(ROOM_AGAIN).await,
        }
    }
}

/// Whether an error of the system says that this program, or the machine, has too many files open.
fn is_out_of_files(error: i32) -> bool {
    [Errno::MFILE, Errno::NFILE].map(Errno::raw_os_error).contains(&error)
}

async fn connection(
    stream: TcpStream,
    (guest, _seat): (Guest, Seat),
    site: Site,
    router: Router,
    stop: CancellationToken,
) {
    // Small answers go out at once; where the socket can't do that, they go out a little later.
    let _slower = stream.set_nodelay(true);
    let _larger = rustix::net::sockopt::set_socket_send_buffer_size(&stream, SEND_BUFFER);
    let cut = guest.cut().clone();
    let served = async {
        let serving = site.web.current();
        let over = async {
            tokio::select! {
                () = stop.cancelled() => {}
                () = serving.superseded.cancelled() => {}
            }
        };
        match &serving.tls {
            None => speak(stream, router, guest, over).await,
            Some(tls) => match tokio::time::timeout(TLS_WITHIN, tls.accept(stream)).await {
                Ok(Ok(stream)) => speak(stream, router, guest, over).await,
                Ok(Err(error)) => tracing::debug!(%error, "cannot agree on TLS"),
                Err(_) => tracing::debug!("a client took too long to agree on TLS"),
            },
        }
    };
    tokio::select! {
        () = cut.cancelled() => site.crowd.note_cut(),
        () = served => {}
    }
}

/// Answers a client, until it goes or it is `over`: then what is being answered is finished.
async fn speak(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    router: Router,
    guest: Guest,
    over: impl Future<Output = ()>,
) {
    let service = TowerToHyperService::new(router);
    let service = service_fn(move |mut request: Request<Incoming>| {
        guest.is_idle();
        request.extensions_mut().insert(guest.clone());
        service.call(request)
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADERS_WITHIN)
        .max_buf_size(MAX_HEAD_BYTES)
        .max_headers(MAX_HEADERS)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = over => {
            connection.as_mut().graceful_shutdown();
            connection.as_mut().await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended early");
    }
}
