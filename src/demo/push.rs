//! Sends the pushes of the simulated Twilio, and repeats each until it is accepted, as Twilio does.

use std::collections::VecDeque;
use std::time::Duration;

use axum::http::header::CONTENT_TYPE;
use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::simulator::{Push, PushForm, Simulator};
use crate::twilio::client::install_crypto;

/// How often to look for new entries and to retry pushes that weren't accepted.
const INTERVAL: Duration = Duration::from_secs(1);
/// The request timeout, the same as Twilio's.
const TIMEOUT: Duration = Duration::from_secs(5);
/// The maximum number of pushes waiting to be sent; the oldest are dropped first.
const MAX_WAITING: usize = 10_000;

/// Pushes to a URL and signs with its public URL.
#[derive(Debug)]
pub(super) struct Pusher {
    pub(super) simulator: Simulator,
    /// The public URL, which is signed.
    pub(super) url: String,
    /// The URL to which requests are sent, as if a proxy forwarded them from the public URL.
    pub(super) target: String,
}

impl Pusher {
    /// Pushes entries that appear from now on, until `stop` is cancelled.
    pub(super) async fn run(self, stop: CancellationToken) {
        install_crypto();
        let Ok(client) = reqwest::Client::builder().no_proxy().timeout(TIMEOUT).build() else {
            tracing::warn!("cannot push: cannot set up TLS");
            return;
        };
        let clock = Clock::start();
        let (mut until, mut waiting, mut has_warned) = (clock.now(), VecDeque::new(), false);
        while stop.run_until_cancelled(tokio::time::sleep(INTERVAL)).await.is_some() {
            let (after, now): (Timestamp, Timestamp) = (until, clock.now());
            waiting.extend(self.simulator.pushes(PushForm::Events, &self.url, after, now));
            until = now;
            while waiting.len() > MAX_WAITING {
                waiting.pop_front();
            }
            while let Some(push) = waiting.front() {
                match self.send(&client, push).await {
                    Ok(()) => {
                        waiting.pop_front();
                        has_warned = false;
                    }
                    Err(error) => {
                        if !std::mem::replace(&mut has_warned, true) {
                            tracing::warn!(error, "cannot push: will retry");
                        }
                        break;
                    }
                }
            }
        }
    }

    async fn send(&self, client: &reqwest::Client, push: &Push) -> Result<(), String> {
        let url = format!("{}{}", self.target, push.query);
        let request = client
            .post(url)
            .header(CONTENT_TYPE, push.content_type)
            .header("x-twilio-signature", &push.signature)
            .body(push.body.clone());
        let answer = request.send().await.and_then(reqwest::Response::error_for_status);
        answer.map(drop).map_err(|error| error.without_url().to_string())
    }
}
