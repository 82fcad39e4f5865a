//! `/-/reload`: reloads the configuration.
//!
//! Disabled without `--web.enable-lifecycle`. Other sites' pages can make a browser send the request, so requests
//! that a browser marks as cross-site are refused.

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use tokio::sync::{mpsc, oneshot};

use super::HttpState;

/// Sends the result of a reload to its requester. An error lists the problems of the configuration.
pub type ReloadReply = oneshot::Sender<Result<(), String>>;
/// Receives reload requests, one at a time.
pub type ReloadRequests = mpsc::Receiver<ReloadReply>;

/// Sends reload requests.
#[derive(Clone, Debug)]
pub struct Reloads(mpsc::Sender<ReloadReply>);

/// Creates a channel that holds one request; senders of further ones wait.
pub fn channel() -> (Reloads, ReloadRequests) {
    let (sender, receiver) = mpsc::channel(1);
    (Reloads(sender), receiver)
}

/// Whether a browser marks the request as sent by another site's page (Fetch Metadata; RFC 6454, section 7). Clients
/// other than browsers send neither header.
fn is_cross_site(headers: &HeaderMap) -> bool {
    let fetch_site = headers.get("sec-fetch-site").map(|site| site.as_bytes());
    let is_elsewhere = fetch_site.is_some_and(|site| site != b"same-origin" && site != b"none");
    let host = headers.get(header::HOST).map(|host| host.as_bytes());
    let is_own = |origin: &[u8]| {
        let origin = origin.to_ascii_lowercase();
        let authority =
            origin.strip_prefix(b"http://").or_else(|| origin.strip_prefix(b"https://"));
        authority
            .is_some_and(|authority| host.is_some_and(|host| host.eq_ignore_ascii_case(authority)))
    };
    is_elsewhere || headers.get_all(header::ORIGIN).iter().any(|origin| !is_own(origin.as_bytes()))
}

/// `POST` or `PUT /-/reload`, as in Prometheus.
pub(super) async fn reload(State(state): State<HttpState>, headers: HeaderMap) -> Response {
    let Some(Reloads(requests)) = &state.reloads else {
        return (
            StatusCode::FORBIDDEN,
            "Lifecycle API is not enabled; start with --web.enable-lifecycle.\n",
        )
            .into_response();
    };
    if is_cross_site(&headers) {
        return (StatusCode::FORBIDDEN, "Other sites' pages can't reload the configuration.\n")
            .into_response();
    }
    let (reply, answer) = oneshot::channel();
    let answered = match requests.send(reply).await {
        Ok(()) => answer.await.ok(),
        Err(_) => None,
    };
    match answered {
        Some(Ok(())) => "Reloaded.\n".into_response(),
        Some(Err(problems)) => (
            StatusCode::INTERNAL_SERVER_ERROR,
            format!("The configuration is invalid; the previous one stays active:\n{problems}\n"),
        )
            .into_response(),
        None => (StatusCode::SERVICE_UNAVAILABLE, "The exporter is stopping.\n").into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_requests_that_a_browser_marks_as_cross_site() {
        for (headers, expected) in [
            (&[][..], false),
            (&[("host", "h:1")], false),
            (&[("host", "h:1"), ("origin", "http://h:1")], false),
            (
                &[("host", "H:1"), ("origin", "https://h:1"), ("sec-fetch-site", "same-origin")],
                false,
            ),
            (&[("host", "h:1"), ("sec-fetch-site", "none")], false),
            (&[("host", "h:1"), ("sec-fetch-site", "cross-site")], true),
            (&[("host", "h:1"), ("sec-fetch-site", "same-site")], true),
            (&[("host", "h:1"), ("origin", "http://evil.example")], true),
            (&[("host", "h:1"), ("origin", "http://h:2")], true),
            (&[("host", "h:1"), ("origin", "http://h")], true),
            (&[("host", "h:1"), ("origin", "null")], true),
            (&[("host", "h:1"), ("origin", "http://h:1.evil.example")], true),
            (&[("host", "h:1"), ("origin", "http://h:1"), ("origin", "http://evil.example")], true),
            (&[("origin", "http://h:1")], true),
        ] {
            let mut map = HeaderMap::new();
            for (name, value) in headers {
                map.append(*name, value.parse().expect("a value"));
            }
            assert_eq!(is_cross_site(&map), expected, "{headers:?}");
        }
    }
}
