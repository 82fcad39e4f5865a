//! The edge to the disk: one SQLite file, one writer, one transaction per batch.
//!
//! What was counted and that it was counted are committed together; only then is it published to
//! the ledger that scrapes read. Everything else reaches the store through the handle here, so that
//! another database can stand in its place. Does not know that Twilio exists.

mod accounts;
pub mod backup;
mod codec;
mod compact;
mod creation;
mod database;
mod error;
mod error_log;
pub mod failures;
mod files;
mod record;
mod retire;
mod schema;
mod whole;
mod writer;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;

use jiff::Timestamp;
use tokio::sync::oneshot;

use crate::domain::engine::effects::Batch;
use crate::domain::track::digest::DigestKey;
use crate::domain::track::listing::ListProgress;
use crate::domain::track::progress::CallProgress;
use crate::domain::words::sid::{AccountSid, ErrorLogSid};
use crate::metrics::health::Health;
use crate::metrics::ledger::{AccountId, Committed, LedgerLimits, Overflow};

pub use accounts::Subaccount;
pub use error::{CommitError, OpenError};
use failures::FailureReader;

/// What identifies an account in the store: never its name or its URL, which may change.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct AccountKey {
    /// The account's SID.
    pub sid: AccountSid,
    /// The region that processes and keeps its calls, such as `us1`.
    pub region: String,
}

/// An account as the store knows it.
#[derive(Debug)]
pub struct AttachedAccount {
    /// Its id.
    pub id: AccountId,
    /// How far its lists are known.
    pub lists: ListProgress,
    /// Its calls.
    pub calls: Vec<CallProgress>,
    /// The latest entries of its error log that were counted, each with when it happened.
    pub reported: Vec<(ErrorLogSid, Timestamp)>,
    /// Its subaccounts, as they were last remembered.
    pub subaccounts: Vec<Subaccount>,
}

/// What a commit did besides counting.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CommitReport {
    /// Events that were counted under the overflow endpoint.
    pub overflowed: u64,
    /// What first found no room.
    pub first_overflow: Option<Overflow>,
    /// Endpoints that were let go because they had no event for long.
    pub retired: u64,
}

/// A command to the writer. Bounded by its senders: each account waits for its answer before it
/// sends again, and questions have a few places.
#[derive(Debug)]
enum Command {
    Attach {
        key: AccountKey,
        label: String,
        reply: oneshot::Sender<Result<AttachedAccount, CommitError>>,
    },
    Commit {
        account: AccountId,
        batch: Arc<Batch>,
        reply: Reply,
    },
    Detach {
        account: AccountId,
    },
    Show {
        labels: BTreeMap<AccountKey, String>,
        reply: oneshot::Sender<Result<(), CommitError>>,
    },
    RememberSubaccounts {
        parent: AccountKey,
        found: Vec<Subaccount>,
        reply: oneshot::Sender<Result<(), CommitError>>,
    },
    Relabel {
        labels: BTreeMap<AccountKey, Option<String>>,
        reply: oneshot::Sender<Result<(), CommitError>>,
    },
    Limit(LedgerLimits),
    Recent(failures::Question),
}

type Reply = oneshot::Sender<Result<CommitReport, CommitError>>;

/// Tells that a commit failed.
fn refuse(replies: impl Iterator<Item = Reply>, error: &str) {
    for reply in replies {
        // A poller that stopped meanwhile asks for it again when it starts.
        let _gone = reply.send(Err(CommitError::Failed(error.to_owned())));
    }
}

/// A handle to the store.
#[derive(Clone, Debug)]
pub struct Store {
    commands: Arc<mpsc::Sender<Command>>,
    committed: Committed,
    digest_key: DigestKey,
    created_at: Timestamp,
    is_new: bool,
    is_lost: Arc<AtomicBool>,
}

/// The writer's thread. It ends, and closes the file, when the last [`Store`] is gone.
#[derive(Debug)]
pub struct StoreThread {
    thread: thread::JoinHandle<()>,
    ended: oneshot::Receiver<()>,
}

impl StoreThread {
    /// Waits until the thread has ended, which it does early only by a fault of ours.
    pub async fn ended(&mut self) {
        // Nothing is ever sent: its end of the channel goes with the thread.
        let _gone = (&mut self.ended).await;
    }

    /// Waits until everything is on disk and the file is closed; tells whether the thread ended as it
    /// was meant to.
    pub fn join(self) -> bool {
        self.thread.join().is_ok()
    }
}

impl Store {
    /// Opens or creates the store in a directory, and starts its writer.
    ///
    /// # Errors
    /// [`OpenError`] where the directory can't be used, another process has it, or the file is not
    /// a store of this program. Nothing is overwritten.
    pub fn open(
        directory: &Path,
        limits: LedgerLimits,
        health: Health,
        now: impl Fn() -> Timestamp + Send + 'static,
    ) -> Result<(Self, StoreThread), OpenError> {
        Self::start(schema::open(directory, now())?, limits, health, now)
    }

    fn start(
        opened: schema::Opened,
        limits: LedgerLimits,
        health: Health,
        now: impl Fn() -> Timestamp + Send + 'static,
    ) -> Result<(Self, StoreThread), OpenError> {
        let committed = Committed::new(codec::load_ledger(opened.database.read(), now())?);
        let (digest_key, created_at) = (opened.digest_key, opened.created_at);
        let (is_new, is_lost) = (opened.is_new, opened.files.are_lost());
        let (commands, inbox) = mpsc::channel();
        let writer = writer::Writer::new(opened, committed.clone(), limits, health, Box::new(now));
        let (alive, ended) = oneshot::channel();
        let run = move || {
            let _alive: oneshot::Sender<()> = alive;
            writer.run(&inbox);
        };
        let name = "store".to_owned();
        let thread = thread::Builder::new().name(name).spawn(run).map_err(OpenError::Thread)?;
        let commands = Arc::new(commands);
        let store = Self { commands, committed, digest_key, created_at, is_new, is_lost };
        Ok((store, StoreThread { thread, ended }))
    }

    /// The committed ledger.
    pub fn committed(&self) -> Committed {
        self.committed.clone()
    }

    /// A handle that reads the recorded failures, and doesn't keep the store open.
    pub fn failures(&self) -> FailureReader {
        FailureReader::new(&self.commands)
    }

    /// The key of this store's digests.
    pub fn digest_key(&self) -> DigestKey {
        self.digest_key
    }

    /// When the store was created.
    pub fn created_at(&self) -> Timestamp {
        self.created_at
    }

    /// Whether the store was created just now.
    pub fn is_new(&self) -> bool {
        self.is_new
    }

    /// Whether the files were removed or replaced while in use: nothing is committed until they are
    /// back. Apart from the handle, so that it doesn't keep the store open.
    pub fn is_lost(&self) -> impl Fn() -> bool + Send + Sync + 'static {
        let is_lost = Arc::clone(&self.is_lost);
        move || is_lost.load(Ordering::Relaxed)
    }

    /// Shows an account's series under a label, and loads what is known of it.
    pub async fn attach(
        &self,
        key: AccountKey,
        label: String,
    ) -> Result<AttachedAccount, CommitError> {
        self.ask(|reply| Command::Attach { key, label, reply }).await
    }

    /// Makes a batch durable and visible. If it fails, nothing of it is either.
    pub async fn commit(
        &self,
        account: AccountId,
        batch: Arc<Batch>,
    ) -> Result<CommitReport, CommitError> {
        self.ask(|reply| Command::Commit { account, batch, reply }).await
    }

    /// Hides an account's series; their values stay.
    pub fn detach(&self, account: AccountId) {
        // A writer that is gone shows nothing either.
        let _gone = self.commands.send(Command::Detach { account });
    }

    /// Shows the series of accounts under their labels, before their calls are loaded.
    pub async fn show(&self, labels: BTreeMap<AccountKey, String>) -> Result<(), CommitError> {
        self.ask(|reply| Command::Show { labels, reply }).await
    }

    /// Remembers which subaccounts an account has, in place of those that it had.
    pub async fn remember_subaccounts(
        &self,
        parent: AccountKey,
        found: Vec<Subaccount>,
    ) -> Result<(), CommitError> {
        self.ask(|reply| Command::RememberSubaccounts { parent, found, reply }).await
    }

    /// Shows accounts under other labels, all at once, since two may have exchanged theirs; hides those
    /// that have none. Accounts that are not named stay as they are, and so do all values.
    pub async fn relabel(
        &self,
        labels: BTreeMap<AccountKey, Option<String>>,
    ) -> Result<(), CommitError> {
        self.ask(|reply| Command::Relabel { labels, reply }).await
    }

    /// Bounds what comes from now on. What is there already stays.
    pub fn limit(&self, limits: LedgerLimits) {
        // A writer that is gone lets nothing in either.
        let _gone = self.commands.send(Command::Limit(limits));
    }

    async fn ask<T>(
        &self,
        command: impl FnOnce(oneshot::Sender<Result<T, CommitError>>) -> Command,
    ) -> Result<T, CommitError> {
        let (reply, answer) = oneshot::channel();
        self.commands.send(command(reply)).map_err(|_| CommitError::Closed)?;
        answer.await.map_err(|_| CommitError::Closed)?
    }
}

#[cfg(test)]
mod tests;
