//! Verifies pushes from Twilio and passes them on.

use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use crate::config::Config;
use crate::http::push::{Push, PushFuture, Pushes};
use crate::metrics::health::{Health, PushResult};
use crate::poller::inbox::{Inboxes, NotCommitted};
use crate::twilio::push::{PublicUrl, PushRequest, Refusal, Signer, open};

/// How often to log refused requests: any client that reaches the port can send some.
const LOG_EVERY: Duration = Duration::from_secs(10 * 60);

/// The current settings for pushes, replaced by a reload, or `None` while pushes are off.
#[derive(Clone, Debug, Default)]
pub(super) struct PushState(Arc<RwLock<Option<Arc<PushSettings>>>>);

/// The public URL and the accounts that may sign.
#[derive(Debug)]
struct PushSettings {
    url: PublicUrl,
    signers: Vec<Signer>,
    inboxes: Inboxes,
    /// When a refusal was last logged.
    logged_at: Mutex<Option<Instant>>,
}

impl PushState {
    /// Applies a configuration.
    pub(super) fn follow(&self, config: &Config, inboxes: &Inboxes, health: &Health) {
        let terms = config.push_url.as_ref().map(|url| {
            health.init_push_series();
            let signers = config.accounts.iter().filter_map(|account| {
                Some(Signer::new(account.account_sid, &account.push_secret.as_ref()?.0))
            });
            Arc::new(PushSettings {
                url: url.clone(),
                signers: signers.collect(),
                inboxes: inboxes.clone(),
                logged_at: Mutex::default(),
            })
        });
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = terms;
    }

    /// Returns the handler of pushes for the HTTP server.
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
    // The body contains a caller's data: drop it as soon as possible.
    drop(push);
    match terms.inboxes.deliver(pushed).await {
        Ok(()) => PushResult::Counted,
        Err(NotCommitted) => PushResult::Deferred,
    }
}

impl PushSettings {
    fn tell(&self, refusal: Refusal) {
        let mut logged_at = self.logged_at.lock().unwrap_or_else(PoisonError::into_inner);
        if logged_at.is_some_and(|at| at.elapsed() < LOG_EVERY) {
            return;
        }
        *logged_at = Some(Instant::now());
        let reason = refusal.as_str();
        tracing::warn!(
            reason,
            public_url = %self.url,
            "refused a push; if Twilio sent it, check that push.public_url is exactly the URL that Twilio was given, and that the auth token is the account's primary one"
        );
    }
}
