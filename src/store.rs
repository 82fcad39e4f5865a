//! Persistence: one SQLite file with a single writer, which commits each batch in one transaction.
//!
//! Counts and the record of what has been counted are committed together, and only then published to the
//! ledger that scrapes read. The rest of the program uses the store only through the handle in this module,
//! so that another database could replace SQLite. The store knows nothing of Twilio's API.

mod accounts;
pub mod backup;
pub(crate) mod codec;
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

/// Identifies an account in the store. Its name and its URL may change and aren't part of the key.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct AccountKey {
    /// The account's SID.
    pub sid: AccountSid,
    /// The region that processes and stores its calls, such as `us1`.
    pub region: String,
}

/// An account's stored state.
#[derive(Debug)]
pub struct AttachedAccount {
    /// Its id.
    pub id: AccountId,
    /// The progress of its lists.
    pub lists: ListProgress,
    /// Its calls.
    pub calls: Vec<CallProgress>,
    /// The latest counted entries of its error log, each with its time.
    pub reported: Vec<(ErrorLogSid, Timestamp)>,
    /// Its subaccounts as of their last listing.
    pub subaccounts: Vec<Subaccount>,
}

/// The side effects of a commit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CommitReport {
    /// The number of events counted under the overflow endpoint.
    pub overflowed: u64,
    /// The first overflow.
    pub first_overflow: Option<Overflow>,
    /// The number of endpoints retired after a long time without events.
    pub retired: u64,
}

/// A command to the writer. The senders bound the queue: an account waits for the reply before it sends
/// again, and a query needs one of a few permits.
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
    Recent(failures::Query),
}

type Reply = oneshot::Sender<Result<CommitReport, CommitError>>;

/// Replies that a commit failed.
fn reply_failed(replies: impl Iterator<Item = Reply>, error: &str) {
    for reply in replies {
        // A poller that has stopped requests the same data again when it restarts.
        let _gone = reply.send(Err(CommitError::Failed(error.to_owned())));
    }
}

/// A handle to the store. The writer stops when the last one is dropped.
#[derive(Clone, Debug)]
pub struct Store {
    commands: Arc<mpsc::Sender<Command>>,
    committed: Committed,
    digest_key: DigestKey,
    created_at: Timestamp,
    is_new: bool,
    is_lost: Arc<AtomicBool>,
}

/// The writer's thread. It ends and closes the file when the last [`Store`] is dropped.
#[derive(Debug)]
pub struct StoreThread {
    thread: thread::JoinHandle<()>,
    ended: oneshot::Receiver<()>,
}

impl StoreThread {
    /// Waits until the thread has ended. It ends early only because of a bug.
    pub async fn ended(&mut self) {
        // Nothing is ever sent: the thread drops its sender when it ends.
        let _gone = (&mut self.ended).await;
    }

    /// Waits until everything is on disk and the file is closed. Returns `false` if the thread panicked.
    pub fn join(self) -> bool {
        self.thread.join().is_ok()
    }
}

impl Store {
    /// Opens or creates the store in a directory, and starts its writer.
    ///
    /// # Errors
    /// [`OpenError`] if the directory can't be used, another process holds it, or the file isn't an intact
    /// store of this program. Nothing is overwritten.
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

    /// Returns the committed ledger.
    pub fn committed(&self) -> Committed {
        self.committed.clone()
    }

    /// Returns a handle that reads the recorded failures and doesn't keep the store open.
    pub fn failures(&self) -> FailureReader {
        FailureReader::new(&self.commands)
    }

    /// Returns the key of this store's digests.
    pub fn digest_key(&self) -> DigestKey {
        self.digest_key
    }

    /// Returns when the store was created.
    pub fn created_at(&self) -> Timestamp {
        self.created_at
    }

    /// Returns whether this run created the store.
    pub fn is_new(&self) -> bool {
        self.is_new
    }

    /// Returns a function that reports whether the files were removed or replaced while in use. Nothing is
    /// committed until they are back. The function doesn't keep the store open.
    pub fn is_lost(&self) -> impl Fn() -> bool + Send + Sync + 'static {
        let is_lost = Arc::clone(&self.is_lost);
        move || is_lost.load(Ordering::Relaxed)
    }

    /// Shows an account's series under a label, and loads the account's state.
    pub async fn attach(
        &self,
        key: AccountKey,
        label: String,
    ) -> Result<AttachedAccount, CommitError> {
        self.request(|reply| Command::Attach { key, label, reply }).await
    }

    /// Makes a batch durable and visible. If this fails, no part of it is durable or visible.
    pub async fn commit(
        &self,
        account: AccountId,
        batch: Arc<Batch>,
    ) -> Result<CommitReport, CommitError> {
        self.request(|reply| Command::Commit { account, batch, reply }).await
    }

    /// Hides an account's series; their values are kept.
    pub fn detach(&self, account: AccountId) {
        // If the writer has ended, the program is stopping.
        let _gone = self.commands.send(Command::Detach { account });
    }

    /// Shows the series of known accounts under these labels, before their calls are loaded.
    pub async fn show(&self, labels: BTreeMap<AccountKey, String>) -> Result<(), CommitError> {
        self.request(|reply| Command::Show { labels, reply }).await
    }

    /// Replaces the stored subaccounts of an account.
    pub async fn remember_subaccounts(
        &self,
        parent: AccountKey,
        found: Vec<Subaccount>,
    ) -> Result<(), CommitError> {
        self.request(|reply| Command::RememberSubaccounts { parent, found, reply }).await
    }

    /// Relabels shown accounts, all at once because two may have swapped their labels. Hides those whose label
    /// is `None`. Other accounts stay as they are, and all values are kept.
    pub async fn relabel(
        &self,
        labels: BTreeMap<AccountKey, Option<String>>,
    ) -> Result<(), CommitError> {
        self.request(|reply| Command::Relabel { labels, reply }).await
    }

    /// Sets the limits for what is added from now on. Existing series stay.
    pub fn limit(&self, limits: LedgerLimits) {
        // If the writer has ended, nothing more is added.
        let _gone = self.commands.send(Command::Limit(limits));
    }

    async fn request<T>(
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
