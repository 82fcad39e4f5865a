//! Verifies pushes from Twilio and delivers them to the accounts' inboxes.

use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use crate::config::Config;
use crate::http::push::{Push, PushFuture, Pushes};
use crate::metrics::health::{Health, PushResult};
use crate::poller::inbox::{Inboxes, NotCommitted};
use crate::twilio::push::{PublicUrl, PushRequest, Refusal, Signer, verify};

/// The minimum time between two logged refusals: any client that reaches the port can cause them.
const LOG_INTERVAL: Duration = Duration::from_secs(10 * 60);

/// The current settings for pushes, which a reload replaces; `None` while pushes are off.
#[derive(Clone, Debug, Default)]
pub(super) struct PushState(Arc<RwLock<Option<Arc<PushSettings>>>>);

/// The public URL and the accounts that may sign pushes.
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
    pub(super) fn configure(&self, config: &Config, inboxes: &Inboxes, health: &Health) {
        let settings = config.push_url.as_ref().map(|url| {
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
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = settings;
    }

    /// Returns the handler of pushes for the HTTP server.
    pub(super) fn pushes(&self, health: Health) -> Pushes {
        let current = self.clone();
        let count = move |push| {
            let settings = current.0.read().unwrap_or_else(PoisonError::into_inner).clone();
            Box::pin(async move { Some(count(settings?, push).await) }) as PushFuture
        };
        Pushes::new(count, health)
    }
}

async fn count(settings: Arc<PushSettings>, push: Push) -> PushResult {
    let header = |name: &str| push.headers.get(name).and_then(|value| value.to_str().ok());
    let request = PushRequest {
        query: &push.query,
        signature: header("x-twilio-signature"),
        settings: header("x-twilio-webhooks-signature-settings"),
        body: &push.body,
    };
    let pushed = match verify(request, &settings.url, &settings.signers) {
        Ok(pushed) => pushed,
        Err(refusal) => {
            settings.log_refusal(refusal);
            return PushResult::Refused;
        }
    };
    // The body contains callers' data: drop it as soon as possible.
    drop(push);
    match settings.inboxes.deliver(pushed).await {
        Ok(()) => PushResult::Counted,
        Err(NotCommitted) => PushResult::Deferred,
    }
}

impl PushSettings {
    /// Logs a refusal, unless one was logged recently.
    fn log_refusal(&self, refusal: Refusal) {
        let mut logged_at = self.logged_at.lock().unwrap_or_else(PoisonError::into_inner);
        if logged_at.is_some_and(|at| at.elapsed() < LOG_INTERVAL) {
            return;
        }
        *logged_at = Some(Instant::now());
        let reason = refusal.as_str();
        tracing::warn!(
            reason,
            public_url = %self.url,
            "refused a push; if Twilio sent it, check that push.public_url is exactly the URL configured at Twilio, and that the auth token is the account's primary one"
        );
    }
}
