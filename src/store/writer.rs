//! The single writer: takes batches, commits them together and publishes them.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use rusqlite::config::DbConfig;
use rusqlite::params;

use crate::domain::engine::error_log::REMEMBERED;
use crate::domain::track::twilio_time::before;
use crate::metrics::health::Health;
use crate::metrics::ledger::{AccountId, Committed, Delta, Entry, LedgerLimits, Scope};

use super::accounts::{self, Subaccount};
use super::codec;
use super::compact;
use super::creation::{self, Creation};
use super::error::CommitError;
use super::error_log;
use super::failures::rows;
use super::files::FileLoss;
use super::record;
use super::retire;
use super::schema::Opened;
use super::{AccountKey, AttachedAccount, Batch, Command, CommitReport, Reply, reply_failed};

/// How often the writer checks for due releases while it receives no commands.
const TICK: Duration = Duration::from_millis(500);
/// How often free pages are returned to the file system: some at a time, so that no commit waits long.
const COMPACT_EVERY: Duration = Duration::from_secs(60);
/// How often a failed release is retried while nothing is committed.
const RETRY_RELEASE_EVERY: Duration = Duration::from_secs(30);
/// The maximum number of batches in one transaction: hundreds of accounts can share one fsync.
const MAX_BATCHES: usize = 256;

/// The writer's state.
pub(super) struct Writer {
    store: Opened,
    committed: Committed,
    limits: LedgerLimits,
    health: Health,
    now: Box<dyn Fn() -> Timestamp + Send>,
    knows_scraped: bool,
    cursors: retire::CursorHistory,
    creation: Creation,
    compacted_at: Option<Instant>,
    /// When a release failed, unless a commit has succeeded since.
    release_failed_at: Option<Instant>,
    /// What happened to the files while in use. Nothing is committed until they are back.
    loss: Option<FileLoss>,
}

type Pending = (AccountId, Arc<Batch>, Reply);

impl Writer {
    pub(super) fn new(
        store: Opened,
        committed: Committed,
        limits: LedgerLimits,
        health: Health,
        now: Box<dyn Fn() -> Timestamp + Send>,
    ) -> Self {
        let knows_scraped = committed.was_scraped();
        let creation = Creation::new(store.created_at, store.is_new);
        Self {
            store,
            committed,
            limits,
            health,
            now,
            knows_scraped,
            cursors: retire::CursorHistory::default(),
            creation,
            compacted_at: None,
            release_failed_at: None,
            loss: None,
        }
    }

    /// Runs until all handles are dropped.
    pub(super) fn run(mut self, inbox: &mpsc::Receiver<Command>) {
        self.note_size();
        loop {
            let first = match inbox.recv_timeout(TICK) {
                Ok(command) => Some(command),
                Err(mpsc::RecvTimeoutError::Timeout) => None,
                Err(mpsc::RecvTimeoutError::Disconnected) => return,
            };
            self.check_files();
            let mut pending: Vec<Pending> = Vec::new();
            for command in first.into_iter().chain(inbox.try_iter().take(MAX_BATCHES)) {
                // A new owner of an account must see the batches that were sent before.
                let is_takeover = matches!(
                    command,
                    Command::Attach { .. }
                        | Command::Detach { .. }
                        | Command::Show { .. }
                        | Command::Relabel { .. }
                );
                if is_takeover && !pending.is_empty() {
                    self.commit(std::mem::take(&mut pending));
                }
                match command {
                    Command::Commit { account, batch, reply } => {
                        pending.push((account, batch, reply));
                    }
                    Command::Attach { key, label, reply } => {
                        let attached = self.attach(&key, &label);
                        // There is no receiver if the account was removed.
                        let _gone = reply.send(attached);
                    }
                    Command::Recent(query) => {
                        if !query.reply.is_closed() {
                            let connection = self.store.database.read();
                            let found = rows::recent(connection, &self.committed, &query.filter);
                            let _gone = query.reply.send(found);
                        }
                    }
                    Command::Show { labels, reply } => {
                        let _gone = reply.send(self.show(labels));
                    }
                    Command::RememberSubaccounts { parent, found, reply } => {
                        let _gone = reply.send(self.remember(&parent, &found));
                    }
                    Command::Relabel { labels, reply } => {
                        let _gone = reply.send(self.relabel(labels));
                    }
                    Command::Limit(limits) => self.limits = limits,
                    Command::Detach { account } => {
                        self.committed.publish(|ledger| ledger.hide(account));
                    }
                }
            }
            if !pending.is_empty() {
                self.commit(pending);
            }
            if self.loss.is_some() {
                continue;
            }
            if has_passed(self.release_failed_at, RETRY_RELEASE_EVERY)
                && let Err(error) = self.release()
            {
                self.release_failed_at = Some(Instant::now());
                self.health.committed(Duration::ZERO, false);
                tracing::warn!(%error, "cannot write to the store");
            }
            if has_passed(self.compacted_at, COMPACT_EVERY) {
                self.compact();
            }
        }
    }

    fn attach(&mut self, key: &AccountKey, label: &str) -> Result<AttachedAccount, CommitError> {
        let sid = key.sid.to_string();
        self.ensure_not_lost().map_err(CommitError::Failed)?;
        self.store.write(|transaction| {
            transaction.execute(
                "INSERT INTO account (sid, region) VALUES (?1, ?2) ON CONFLICT DO NOTHING",
                params![sid, key.region],
            )
        })?;
        let connection = self.store.database.read();
        let (id, lists) = record::load_progress(connection, key)?;
        let calls = codec::load_calls(connection, id, (self.now)())?;
        let reported = match lists.error_log {
            Some(log) => error_log::latest(connection, id, before(log.known_to, REMEMBERED))?,
            None => Vec::new(),
        };
        let subaccounts = accounts::subaccounts(connection, key)?;
        let now = (self.now)();
        self.cursors.begin(id, lists.cursor);
        self.committed.publish(|ledger| {
            ledger.show(id, label.to_owned(), now);
            if lists.error_log.is_some() {
                ledger.show_error_log(id);
            }
        });
        Ok(AttachedAccount { id, lists, calls, reported, subaccounts })
    }

    fn show(&self, labels: BTreeMap<AccountKey, String>) -> Result<(), CommitError> {
        let (named, now) = (accounts::by_id(self.store.database.read(), labels)?, (self.now)());
        self.committed.publish(|ledger| {
            for (id, label) in named {
                ledger.show(id, label, now);
            }
        });
        Ok(())
    }

    fn remember(&mut self, parent: &AccountKey, found: &[Subaccount]) -> Result<(), CommitError> {
        self.ensure_not_lost().map_err(CommitError::Failed)?;
        Ok(self.store.write(|transaction| accounts::remember(transaction, parent, found))?)
    }

    fn relabel(&self, labels: BTreeMap<AccountKey, Option<String>>) -> Result<(), CommitError> {
        let (named, now) = (accounts::by_id(self.store.database.read(), labels)?, (self.now)());
        self.committed.publish(|ledger| ledger.relabel(named, now));
        Ok(())
    }

    fn commit(&mut self, pending: Vec<Pending>) {
        let began = Instant::now();
        let delta = match self.delta(&pending) {
            Ok(delta) => delta,
            Err(error) => {
                self.health.committed(began.elapsed(), false);
                return reply_failed(
                    pending.into_iter().map(|(.., reply)| reply),
                    &error.to_string(),
                );
            }
        };
        let cursors = pending.iter().map(|(account, batch, _)| (*account, batch.lists.cursor));
        let jumps = self.cursors.jumps(cursors);
        let written = self.write(&pending, &delta, &jumps);
        self.health.committed(began.elapsed(), written.is_ok());
        match written {
            Ok(()) => {
                self.release_failed_at = None;
                let mut overflowed = delta.overflowed.clone();
                let mut first_overflows = delta.first_overflows.clone();
                self.committed.publish(|ledger| {
                    ledger.publish(delta);
                    for (account, batch, _) in &pending {
                        if batch.lists.error_log.is_some() {
                            ledger.show_error_log(*account);
                        }
                    }
                    for (account, by) in jumps {
                        ledger.postpone(account, by);
                    }
                });
                self.note_size();
                for (account, batch, reply) in pending {
                    let overflowed = overflowed.remove(&account).unwrap_or(0);
                    let first_overflow = first_overflows.remove(&account);
                    let retired =
                        batch.lists.cursor.map_or(0, |cursor| self.retire(account, cursor));
                    // A poller that has stopped finds the changes in the store when it restarts.
                    let _gone =
                        reply.send(Ok(CommitReport { overflowed, first_overflow, retired }));
                }
            }
            Err(error) => reply_failed(pending.into_iter().map(|(.., reply)| reply), &error),
        }
    }

    /// Computes the changes made by those facts that aren't counted yet.
    fn delta(&self, pending: &[Pending]) -> rusqlite::Result<Delta> {
        let batches = pending.iter().map(|(account, batch, _)| (*account, &**batch));
        let uncounted = error_log::uncounted(self.store.database.read(), batches)?;
        let entries = uncounted.iter().map(|(account, facts, received_at)| Entry {
            account: *account,
            facts,
            received_at: *received_at,
        });
        Ok(self.committed.read().apply(entries, self.limits, (self.now)()))
    }

    fn write(
        &mut self,
        pending: &[Pending],
        delta: &Delta,
        jumps: &[(AccountId, Duration)],
    ) -> Result<(), String> {
        self.ensure_not_lost()?;
        let received_at = pending.iter().find_map(|(_, batch, _)| batch.received_at);
        let created_at = self.creation.corrected(received_at, (self.now)());
        let written = self.store.write(|transaction| {
            record::store_delta(transaction, &self.committed, delta)?;
            rows::record(transaction, &delta.failures)?;
            error_log::record(transaction, &delta.reports)?;
            for &(account, by) in jumps {
                retire::postpone(transaction, account, by)?;
            }
            for (account, batch, _) in pending {
                record::store_progress(transaction, *account, batch)?;
            }
            created_at.map_or(Ok(()), |at| creation::write(transaction, at))
        });
        written.map_err(|error| error.to_string())?;
        self.creation.note_committed(received_at);
        if let Some(at) = created_at {
            self.health.store_created(at);
        }
        Ok(())
    }

    /// Detects when the files are removed or replaced, and when they are back.
    fn check_files(&mut self) {
        let loss = self.store.files.check().err();
        if loss == self.loss {
            return;
        }
        let connection = self.store.database.read();
        // SQLite must not write its log into a file that replaced the database.
        let may_close = loss.as_ref().is_none_or(|loss| loss.can_be_saved);
        let no_checkpoint = DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE;
        if let Err(error) = connection.set_db_config(no_checkpoint, !may_close) {
            tracing::debug!(%error, "cannot configure how SQLite closes the store");
        }
        self.health.store_writable(loss.is_none());
        match &loss {
            Some(loss) => tracing::warn!(
                "{loss}: nothing is counted until it is back. {}",
                if loss.can_be_saved {
                    "Restart this process: it saves the file's content when it stops"
                } else {
                    "Move it back, and counting resumes. Until this process ends, root can copy a \
                     deleted file from /proc/<pid>/fd. If that is impossible, stop the process, restore the \
                     storage directory from a backup, and start it again"
                }
            ),
            None => tracing::info!("the store's files are back: counting resumes"),
        }
        self.loss = loss;
    }

    fn ensure_not_lost(&self) -> Result<(), String> {
        self.loss.as_ref().map_or(Ok(()), |loss| Err(loss.to_string()))
    }

    /// Makes due releases durable, then shows their values.
    fn release(&mut self) -> rusqlite::Result<()> {
        self.committed.apply_shown();
        let was_scraped = self.committed.was_scraped();
        let due = self.committed.read().due_releases(self.limits.hold_back, (self.now)());
        if due.is_empty() && was_scraped == self.knows_scraped {
            return Ok(());
        }
        self.store.write(|transaction| {
            for scope in &due {
                let statement = match scope {
                    Scope::Endpoint(_) => "UPDATE endpoint SET released = 1 WHERE id = ?1",
                    Scope::Group(_) => "UPDATE request_group SET released = 1 WHERE id = ?1",
                    Scope::Account(_) => continue,
                };
                let (_, id) = codec::encode_scope(*scope);
                transaction.prepare_cached(statement)?.execute([id])?;
            }
            if was_scraped {
                transaction.execute("INSERT OR IGNORE INTO meta VALUES ('scraped', 1)", [])?;
            }
            Ok(())
        })?;
        self.release_failed_at = None;
        self.knows_scraped = was_scraped;
        self.committed.publish(|ledger| ledger.release(&due));
        Ok(())
    }

    /// Deletes an account's endpoints without events, and accounts that were removed. Returns the number of
    /// deleted endpoints. After an error, a later batch retries.
    fn retire(&mut self, account: AccountId, cursor: Timestamp) -> u64 {
        let Some(may_delete_accounts) = self.cursors.advance(account, cursor) else { return 0 };
        let (store, committed) = (&mut self.store, &self.committed);
        match retire::retire(store, committed, account, cursor, may_delete_accounts) {
            Ok(retired) => {
                self.cursors.mark_searched(account, cursor);
                retired
            }
            Err(error) => {
                tracing::warn!(%error, "cannot retire routes without events");
                0
            }
        }
    }

    /// Returns free pages to the file system. Errors are retried; commits report a full disk.
    fn compact(&mut self) {
        self.compacted_at = Some(Instant::now());
        match compact::compact(self.store.database.read()) {
            // Nothing was written: if the size has changed, another program did that, and the check finds it.
            Ok(0) => return,
            Ok(pages) => {
                tracing::debug!(pages, "shrank the store's file");
                self.note_size();
            }
            Err(error) => tracing::warn!(%error, "cannot shrink the store's file"),
        }
        self.store.files.note_sizes();
    }

    fn note_size(&self) {
        let size = |path: &Path| std::fs::metadata(path).map_or(0, |file| file.len());
        let paths = &self.store.paths;
        self.health.store_size(size(&paths.database) + size(&paths.log));
    }
}

/// Returns whether `time` has passed since an instant, or there is no instant.
fn has_passed(since: Option<Instant>, time: Duration) -> bool {
    since.is_none_or(|at| at.elapsed() >= time)
}
