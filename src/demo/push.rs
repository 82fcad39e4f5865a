//! Sends what the simulated Twilio pushes, and sends it again until it is taken, as Twilio does.

use std::collections::VecDeque;
use std::time::Duration;

use axum::http::header::CONTENT_TYPE;
use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::simulator::{Push, PushForm, Simulator};
use crate::twilio::client::install_crypto;

/// How often it is looked for new entries, and what was not taken is sent again.
const EVERY: Duration = Duration::from_secs(1);
/// How long an answer may take, as with Twilio.
const WITHIN: Duration = Duration::from_secs(5);
/// Most requests that wait to be sent again; the oldest go first.
const MAX_WAITING: usize = 10_000;

/// Pushes to a place, by the URL that it is known by.
#[derive(Debug)]
pub(super) struct Pusher {
    pub(super) simulator: Simulator,
    /// The URL that is signed.
    pub(super) url: String,
    /// The URL that is asked: as if a proxy stood before it.
    pub(super) target: String,
}

impl Pusher {
    /// Pushes what happens from now on, until `stop`.
    pub(super) async fn run(self, stop: CancellationToken) {
        install_crypto();
        let Ok(client) = reqwest::Client::builder().no_proxy().timeout(WITHIN).build() else {
            tracing::warn!("cannot push: TLS can't be set up");
            return;
        };
        let clock = Clock::start();
        let (mut until, mut waiting, mut is_told) = (clock.now(), VecDeque::new(), false);
        while stop.run_until_cancelled(tokio::time::sleep(EVERY)).await.is_some() {
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
                        is_told = false;
                    }
                    Err(error) => {
                        if !std::mem::replace(&mut is_told, true) {
                            tracing::warn!(error, "cannot push: it is tried again");
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
