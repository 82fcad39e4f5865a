//! An account to poll, and the setup of its poll loop.

use std::sync::Arc;

use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::domain::engine::account::is_cursor_behind;
use crate::domain::engine::lists::ListPlan;
use crate::domain::engine::plan::ReadPlan;
use crate::domain::judge::route::Routes;
use crate::domain::track::listing::ListProgress;
use crate::domain::words::sid::AccountSid;
use crate::metrics::health::{AccountHealth, Health};
use crate::metrics::ledger::AccountId;
use crate::store::{AccountKey, AttachedAccount, CommitError, Store};
use crate::twilio::Client;

use super::heartbeat::Heartbeat;
use super::inbox::Inboxes;
use super::subaccounts::Subaccounts;
use super::tracked::TrackedCalls;
use super::{COMMIT_RETRY, COMMIT_RETRY_CAP, Poller, random, wait};

/// The parts that all accounts share.
#[derive(Clone, Debug)]
pub struct Shared {
    /// The local clock.
    pub clock: Clock,
    /// The permits for requests in flight of all accounts together.
    pub budget: Arc<Semaphore>,
    /// The configured routes.
    pub routes: Arc<Routes>,
    /// The schedule of lists.
    pub lists: ListPlan,
    /// The schedule of reads of calls.
    pub reads: ReadPlan,
    /// The maximum number of requests in flight of one account.
    pub max_concurrency: usize,
    /// The limit on the calls that all accounts together track.
    pub tracked: Arc<TrackedCalls>,
    /// The inboxes for entries that Twilio pushes.
    pub inboxes: Inboxes,
    /// The exporter's own metrics.
    pub health: Health,
    /// The store.
    pub store: Store,
}

/// An account to poll.
#[derive(Clone, Debug)]
pub struct Account {
    /// Its key in the store.
    pub key: AccountKey,
    /// Its label.
    pub label: String,
    /// Its last status reported by Twilio.
    pub status: &'static str,
    /// The client for Twilio's API.
    pub client: Client,
    /// The parent account, whose credentials are used, if this is a subaccount.
    pub parent: Option<AccountSid>,
    /// Whether pushes for it can be verified: they are signed by the account or its parent.
    pub accepts_pushes: bool,
}

impl Account {
    /// Creates its metrics, which are exposed from now on, and sets those that depend on the stored progress: every
    /// scrape has to show that the first counts are from the past.
    pub fn instruments(&self, shared: &Shared, known: &ListProgress) -> AccountHealth {
        let health = instruments(&shared.health, &self.label, self.key.sid, self.status);
        if is_cursor_behind(known.cursor, shared.clock.now()) {
            health.mark_catching_up();
        }
        if known.error_log.is_some() {
            health.has_error_log();
        }
        health
    }
}

/// Creates the metrics of an account that is polled or is about to be.
pub fn instruments(
    health: &Health,
    label: &str,
    sid: AccountSid,
    status: &'static str,
) -> AccountHealth {
    health.account(label, &sid.to_string(), status)
}

/// An account's poll loop before it starts.
#[derive(Debug)]
pub struct Poll {
    /// The account.
    pub account: Account,
    /// Its state in the store, if it was loaded.
    pub attached: Option<AttachedAccount>,
    /// Its subaccounts, if they are discovered.
    pub subaccounts: Option<Subaccounts>,
    /// The parts that all accounts share.
    pub shared: Shared,
}

impl Poll {
    /// Polls the account until `stop` is cancelled, after loading it if it isn't attached yet. Returns early only
    /// if the store is closed. Returns the account's id if it was ever polled. Pushes for the account and its known
    /// subaccounts are accepted as soon as this is called.
    pub fn run(
        mut self,
        heartbeat: Heartbeat,
        stop: CancellationToken,
    ) -> impl Future<Output = Option<AccountId>> + Send {
        if let Some(subaccounts) = &mut self.subaccounts {
            subaccounts.start();
        }
        // Opened after those of its subaccounts: while this one is open, they are, too.
        let Account { key, parent, .. } = &self.account;
        let signer = parent.unwrap_or(key.sid);
        let inbox = self.shared.inboxes.open(key.clone(), signer, stop.clone());
        async move {
            let attached = match self.attached.take() {
                Some(attached) => attached,
                None => self.attach(&heartbeat, &stop).await?,
            };
            let id = attached.id;
            Poller::new(self, attached, inbox).run(&heartbeat, &stop).await;
            Some(id)
        }
    }

    /// Loads an account that was added while the program runs, however long the store takes. Returns `None` if the
    /// store is closed or `stop` is cancelled.
    async fn attach(
        &self,
        heartbeat: &Heartbeat,
        stop: &CancellationToken,
    ) -> Option<AttachedAccount> {
        let Self { account, shared, .. } = self;
        let mut failures = 0;
        loop {
            heartbeat.set_deadline(COMMIT_RETRY_CAP);
            match shared.store.attach(account.key.clone(), account.label.clone()).await {
                Ok(attached) => return Some(attached),
                Err(CommitError::Closed) => return None,
                Err(error @ CommitError::Failed(_)) => {
                    failures += 1;
                    tracing::warn!(account = account.label, %error, "cannot load the account");
                    wait(COMMIT_RETRY.wait(failures, random()), stop).await?;
                }
            }
        }
    }
}
