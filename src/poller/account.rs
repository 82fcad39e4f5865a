//! An account that is to be polled, and what it needs before its loop begins.

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

/// What all accounts share.
#[derive(Clone, Debug)]
pub struct Shared {
    /// The local clock.
    pub clock: Clock,
    /// Requests that all accounts together may have in flight.
    pub budget: Arc<Semaphore>,
    /// The user's routes.
    pub routes: Arc<Routes>,
    /// How lists are read.
    pub lists: ListPlan,
    /// How calls are read.
    pub reads: ReadPlan,
    /// Most requests in flight for one account.
    pub max_concurrency: usize,
    /// Calls that all accounts together may track.
    pub tracked: Arc<TrackedCalls>,
    /// Where what Twilio pushes is taken in.
    pub inboxes: Inboxes,
    /// The instruments.
    pub health: Health,
    /// The store.
    pub store: Store,
}

/// An account to be polled.
#[derive(Clone, Debug)]
pub struct Account {
    /// What identifies it in the store.
    pub key: AccountKey,
    /// Its label.
    pub label: String,
    /// Its status, as far as Twilio told.
    pub status: &'static str,
    /// The connection to Twilio.
    pub client: Client,
    /// The account that it is a subaccount of, and signs in as.
    pub parent: Option<AccountSid>,
    /// Whether what Twilio pushes for it can be verified: it, or its parent, signs that.
    pub is_pushed: bool,
}

impl Account {
    /// Its instruments, which are shown from here on, with how far its lists are known: no scrape may
    /// miss that what is counted first is the past.
    pub fn instruments(&self, shared: &Shared, known: &ListProgress) -> AccountHealth {
        let health = instruments(&shared.health, &self.label, self.key.sid, self.status);
        if is_cursor_behind(known.cursor, shared.clock.now()) {
            health.begins_behind();
        }
        if known.error_log.is_some() {
            health.has_error_log();
        }
        health
    }
}

/// The instruments of an account that is polled, or is about to be.
pub fn instruments(
    health: &Health,
    label: &str,
    sid: AccountSid,
    status: &'static str,
) -> AccountHealth {
    health.account(label, &sid.to_string(), status)
}

/// An account's poll loop, before it begins.
#[derive(Debug)]
pub struct Poll {
    /// The account.
    pub account: Account,
    /// What the store knows of it, if it was loaded.
    pub attached: Option<AttachedAccount>,
    /// Its subaccounts, if they are looked for.
    pub subaccounts: Option<Subaccounts>,
    /// What all accounts share.
    pub shared: Shared,
}

impl Poll {
    /// Polls an account until `stop`, and loads it first if it isn't attached yet. Returns early only
    /// when the store is closed; tells the account's id if it was ever polled. What is pushed for it, and for
    /// the subaccounts that are known, finds its way from here on.
    pub fn run(
        mut self,
        heartbeat: Heartbeat,
        stop: CancellationToken,
    ) -> impl Future<Output = Option<AccountId>> + Send {
        if let Some(subaccounts) = &mut self.subaccounts {
            subaccounts.begin();
        }
        // After those of its subaccounts: while this one is open, they are.
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

    /// Loads an account that came while the program runs, however long the store takes; `None` when
    /// there is no point in going on.
    async fn attach(
        &self,
        heartbeat: &Heartbeat,
        stop: &CancellationToken,
    ) -> Option<AttachedAccount> {
        let Self { account, shared, .. } = self;
        let mut failures = 0;
        loop {
            heartbeat.promise(COMMIT_RETRY_CAP);
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
