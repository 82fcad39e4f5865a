//! `/-/reload`: asks whoever runs the program to read its configuration again.
//!
//! Off unless `--web.enable-lifecycle`: who reaches the port could make the program poll anew as often
//! as he likes.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use tokio::sync::{mpsc, oneshot};

use super::Site;

/// Where the answer goes: an error tells what is wrong with the configuration.
pub type ReloadReply = oneshot::Sender<Result<(), String>>;
/// Whoever reloads takes requests from here, one at a time.
pub type ReloadRequests = mpsc::Receiver<ReloadReply>;

/// Asks for a reload.
#[derive(Clone, Debug)]
pub struct Reloads(mpsc::Sender<ReloadReply>);

/// A channel with room for one request: further ones wait.
pub fn channel() -> (Reloads, ReloadRequests) {
    let (sender, receiver) = mpsc::channel(1);
    (Reloads(sender), receiver)
}

/// `POST` or `PUT /-/reload`, as Prometheus has it.
pub(super) async fn reload(State(site): State<Site>) -> Response {
    let Some(Reloads(requests)) = &site.reloads else {
        return (
            StatusCode::FORBIDDEN,
            "Lifecycle API is not enabled; start with --web.enable-lifecycle.\n",
        )
            .into_response();
    };
    let (reply, answer) = oneshot::channel();
    let answered = match requests.send(reply).await {
        Ok(()) => answer.await.ok(),
        Err(_) => None,
    };
    match answered {
        Some(Ok(())) => "Reloaded.\n".into_response(),
        Some(Err(problems)) => (
            StatusCode::INTERNAL_SERVER_ERROR,
            format!("The configuration is wrong, the former one stays in force:\n{problems}\n"),
        )
            .into_response(),
        None => (StatusCode::SERVICE_UNAVAILABLE, "The exporter is stopping.\n").into_response(),
    }
}
