//! What Twilio pushes: who may sign it, and where it goes.

use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use crate::config::Config;
use crate::http::push::{Push, PushFuture, Pushes};
use crate::metrics::health::{Health, PushResult};
use crate::poller::inbox::{Inboxes, NotCommitted};
use crate::twilio::push::{PublicUrl, PushRequest, Refusal, Signer, open};

/// How often a line tells of requests that are refused: anyone who reaches the port can send some.
const TOLD_EVERY: Duration = Duration::from_secs(10 * 60);

/// The settings for pushes of the current configuration, replaced by a reload; `None` while they are off.
#[derive(Clone, Debug, Default)]
pub(super) struct PushState(Arc<RwLock<Option<Arc<PushSettings>>>>);

/// Who may push.
#[derive(Debug)]
struct PushSettings {
    url: PublicUrl,
    signers: Vec<Signer>,
    inboxes: Inboxes,
    /// When a refusal was told last.
    told_at: Mutex<Option<Instant>>,
}

impl PushState {
    /// Takes pushes as a configuration says.
    pub(super) fn follow(&self, config: &Config, inboxes: &Inboxes, health: &Health) {
        let terms = config.push_url.as_ref().map(|url| {
            health.takes_pushes();
            let signers = config.accounts.iter().filter_map(|account| {
                Some(Signer::new(account.account_sid, &account.push_secret.as_ref()?.0))
            });
            Arc::new(PushSettings {
                url: url.clone(),
                signers: signers.collect(),
                inboxes: inboxes.clone(),
                told_at: Mutex::default(),
            })
        });
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = terms;
    }

    /// What the pages take in of pushes.
    pub(super) fn pushes(&self, health: Health) -> Pushes {
        let current = self.clone();
        let count = move |push| {
            let terms = current.0.read().unwrap_or_else(PoisonError::into_inner).clone();
            Box::pin(async move { Some(count(terms?, push).await) }) as PushFuture
        };
        Pushes::new(count, health)
    }
}

async fn count(terms: Arc<PushSettings>, push: Push) -> PushResult {
    let header = |name: &str| push.headers.get(name).and_then(|value| value.to_str().ok());
    let request = PushRequest {
        query: &push.query,
        signature: header("x-twilio-signature"),
        settings: header("x-twilio-webhooks-signature-settings"),
        body: &push.body,
    };
    let pushed = match open(request, &terms.url, &terms.signers) {
        Ok(pushed) => pushed,
        Err(refusal) => {
            terms.tell(refusal);
            return PushResult::Refused;
        }
    };
    // It holds a caller's data: for as short a time as can be.
    drop(push);
    match terms.inboxes.deliver(pushed).await {
        Ok(()) => PushResult::Counted,
        Err(NotCommitted) => PushResult::Deferred,
    }
}

impl PushSettings {
    fn tell(&self, refusal: Refusal) {
        let mut told_at = self.told_at.lock().unwrap_or_else(PoisonError::into_inner);
        if told_at.is_some_and(|at| at.elapsed() < TOLD_EVERY) {
            return;
        }
        *told_at = Some(Instant::now());
        let reason = refusal.as_str();
        tracing::warn!(
            reason,
            public_url = %self.url,
            "refused a push; if Twilio sent it, check that push.public_url is exactly the URL that Twilio was given, and that the auth token is the account's primary one"
        );
    }
}
