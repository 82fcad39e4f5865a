//! Opening and creating the store: lock, schema version, settings.

use std::fs::{self, File, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use jiff::Timestamp;
use rusqlite::{Connection, params};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use crate::domain::track::digest::DigestKey;

use super::compact;
use super::database::{self, Database};
use super::error::OpenError;
use super::files::{ExistingFiles, OpenFiles, Paths};
use super::whole;

/// Marks the file as this program's (SQLite's `application_id`): the letters `TCEv`.
pub(super) const APPLICATION_ID: i64 = 0x5443_4576;
/// The name of a store that is being created.
const UNFINISHED_NAME: &str = "exporter.db.new";
/// The lock file next to the store, which contains the process ID of its holder.
pub(super) const LOCK_NAME: &str = "lock";

/// The largest size of the log's file after a checkpoint, in bytes: the 1,000 pages after which SQLite runs one.
const MAX_IDLE_LOG: i64 = 4 * 1024 * 1024;

/// One step per schema version, starting with an empty database. A released step is never changed.
pub(super) const MIGRATIONS: [&str; 7] = [
    "
    CREATE TABLE meta (key TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
    CREATE TABLE account (
        id INTEGER PRIMARY KEY,
        sid TEXT NOT NULL,
        region TEXT NOT NULL,
        cursor_ms INTEGER,
        forget_before_ms INTEGER,
        UNIQUE (sid, region)
    );
    CREATE TABLE endpoint (
        id INTEGER PRIMARY KEY,
        account_id INTEGER NOT NULL,
        host TEXT NOT NULL,
        route TEXT NOT NULL,
        created_ms INTEGER NOT NULL,
        released INTEGER NOT NULL,
        UNIQUE (account_id, host, route)
    );
    CREATE TABLE request_group (
        id INTEGER PRIMARY KEY,
        endpoint_id INTEGER NOT NULL,
        kind TEXT NOT NULL,
        created_ms INTEGER NOT NULL,
        released INTEGER NOT NULL,
        UNIQUE (endpoint_id, kind)
    );
    CREATE TABLE series (
        scope TEXT NOT NULL,
        scope_id INTEGER NOT NULL,
        cell TEXT NOT NULL,
        value INTEGER NOT NULL,
        PRIMARY KEY (scope, scope_id, cell)
    ) WITHOUT ROWID;
    CREATE TABLE call (
        account_id INTEGER NOT NULL,
        sid TEXT NOT NULL,
        direction TEXT NOT NULL,
        status TEXT NOT NULL,
        began_ms INTEGER NOT NULL,
        ended_ms INTEGER,
        has_end_time INTEGER NOT NULL,
        last_live_read_ms INTEGER,
        after_end_reads INTEGER NOT NULL,
        settled_ms INTEGER,
        awaits_audit INTEGER NOT NULL,
        digest_version INTEGER NOT NULL,
        counted BLOB NOT NULL,
        credits BLOB NOT NULL,
        PRIMARY KEY (account_id, sid)
    ) WITHOUT ROWID;
",
    "
    CREATE TABLE failure (
        id INTEGER PRIMARY KEY,
        account_id INTEGER NOT NULL,
        endpoint_id INTEGER NOT NULL,
        kind TEXT NOT NULL,
        at_ms INTEGER NOT NULL,
        code TEXT NOT NULL,
        reason TEXT NOT NULL,
        duration_ms INTEGER,
        call_sid TEXT NOT NULL
    );
    CREATE INDEX failure_of_account ON failure (account_id, at_ms);
    CREATE INDEX failure_of_endpoint ON failure (endpoint_id, at_ms);
",
    "
    ALTER TABLE endpoint ADD COLUMN last_event_ms INTEGER NOT NULL DEFAULT 0;
    -- When the last event was isn't known: as long as the lists are known to, none is overdue.
    UPDATE endpoint SET last_event_ms = coalesce(
        (SELECT cursor_ms FROM account WHERE account.id = account_id), created_ms);
",
    "
    ALTER TABLE account ADD COLUMN ended_to_ms INTEGER;
    ALTER TABLE account ADD COLUMN deep_to_ms INTEGER;
    -- The account that has it as a subaccount, as its subaccounts were last listed, and the status then.
    ALTER TABLE account ADD COLUMN parent_sid TEXT;
    ALTER TABLE account ADD COLUMN status TEXT;
",
    CHECKSUMS,
    "
    -- Which rule of XML a document broke, where that is why its request failed.
    ALTER TABLE failure ADD COLUMN detail TEXT;
",
    "
    -- When the error log was first read, and how far it is known.
    ALTER TABLE account ADD COLUMN error_log_since_ms INTEGER;
    ALTER TABLE account ADD COLUMN error_log_to_ms INTEGER;
    -- Up to when entries may have been counted that are forgotten.
    ALTER TABLE account ADD COLUMN error_log_forgotten_ms INTEGER;
    CREATE TABLE error_log_entry (
        account_id INTEGER NOT NULL,
        sid TEXT NOT NULL,
        at_ms INTEGER NOT NULL,
        endpoint_id INTEGER,
        code TEXT NOT NULL,
        level TEXT NOT NULL,
        call_sid TEXT,
        PRIMARY KEY (account_id, sid)
    ) WITHOUT ROWID;
    CREATE INDEX error_log_entry_by_time ON error_log_entry (account_id, at_ms);
    CREATE INDEX error_log_entry_of_endpoint ON error_log_entry (endpoint_id)
        WHERE endpoint_id IS NOT NULL;
    -- By which an entry finds the Call Event that confirms it.
    CREATE INDEX failure_of_call ON failure (call_sid);
",
];

/// Detects damage: a checksum of each table, which `migrate` computes, and the number of commits, which
/// distinguishes an old log from a new one.
const CHECKSUMS: &str = "
    CREATE TABLE checksum (
        name TEXT PRIMARY KEY,
        count INTEGER NOT NULL,
        sum INTEGER NOT NULL
    ) WITHOUT ROWID;
    INSERT INTO meta VALUES ('commits', 0);
";

/// An open store, not yet loaded.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) database: Database,
    pub(super) digest_key: DigestKey,
    pub(super) created_at: Timestamp,
    pub(super) is_new: bool,
    pub(super) files: OpenFiles,
    pub(super) paths: Paths,
    /// Held for as long as the store is open.
    pub(super) _lock: File,
}

impl Opened {
    /// Changes rows in one transaction.
    pub(super) fn write<T>(
        &mut self,
        change: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> rusqlite::Result<T> {
        let written = self.database.write(change);
        // Immediately: if the size changes later, another program did that.
        self.files.note_sizes();
        written
    }
}

/// Opens the store in a directory, and creates both if they don't exist. An existing store is written only
/// after it has passed all checks.
pub(super) fn open(given: &Path, now: Timestamp) -> Result<Opened, OpenError> {
    let unusable = |source| OpenError::Directory { path: given.to_owned(), source };
    create_private_directory(given).map_err(unusable)?;
    // Symbolic links on the way to the directory are followed, those in it aren't.
    let directory = given.canonicalize().map_err(unusable)?;
    let lock_path = directory.join(LOCK_NAME);
    let lock = lock(given, &lock_path)?;
    let paths = Paths::in_directory(&directory);
    paths.warn_of_readers(&directory, &lock_path);
    let found = paths.inspect()?;
    if found == ExistingFiles::Nothing {
        let unfinished = directory.join(UNFINISHED_NAME);
        create(&directory, &paths, now).map_err(|error| error.or_no_locks(&unfinished, given))?;
    }
    let opened = whole::open(&paths, found, whole::Locking::Files);
    let mut connection = opened.map_err(|error| error.or_no_locks(&paths.database, given))?;
    let needs_rewrite = compact::prepare(&connection)?;
    // WAL with synchronous=FULL: a commit is on disk when it returns, at the cost of one fsync of the log.
    //
    // It is safe to continue after a failed fsync, although on some systems the next fsync then succeeds without
    // having written those pages. Data that wasn't synced is written again before the next fsync: the next commit
    // starts at the frame where the failed one started, and a failed checkpoint starts over. If the failed
    // commit did reach the disk and the program dies, its counts are there together with the progress that
    // prevents counting them again.
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    // Truncates the log after a large transaction.
    connection.pragma_update(None, "journal_size_limit", MAX_IDLE_LOG)?;
    connection.set_prepared_statement_cache_capacity(64);
    migrate(&mut connection)?;
    if needs_rewrite && let Err(error) = compact::rewrite(&connection) {
        tracing::warn!(%error, "cannot rewrite the store: its file will not shrink until the next start");
    }
    let (digest_key, created_at) = read_meta(&connection)?;
    let database = Database::new(connection)?;
    let files = OpenFiles::new(given).map_err(unusable)?;
    let is_new = found == ExistingFiles::Nothing;
    Ok(Opened { database, digest_key, created_at, is_new, files, paths, _lock: lock })
}

/// Creates a store under another name and renames it when it is complete: if the program is killed before
/// that, it leaves no store rather than a part of one.
fn create(directory: &Path, paths: &Paths, now: Timestamp) -> Result<(), OpenError> {
    let unusable = |source| OpenError::Directory { path: directory.to_owned(), source };
    let unfinished = directory.join(UNFINISHED_NAME);
    for leftover in ["", "-wal", "-journal"] {
        match fs::remove_file(directory.join(format!("{UNFINISHED_NAME}{leftover}"))) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(unusable(error)),
            Ok(()) | Err(_) => {}
        }
    }
    let mut connection = Connection::open(&unfinished)?;
    connection.pragma_update(None, "locking_mode", "EXCLUSIVE")?;
    compact::prepare(&connection)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    migrate(&mut connection)?;
    let mut key = [0; 16];
    getrandom::fill(&mut key).map_err(|_| OpenError::Random)?;
    Database::new(connection)?.write(|transaction| {
        let insert = "INSERT INTO meta VALUES ('digest_key', ?1), ('created_ms', ?2)";
        transaction.execute(insert, params![key.as_slice(), now.as_millisecond()])
    })?;
    // The database is closed now, so that everything is in the one file.
    fs::rename(&unfinished, &paths.database).map_err(unusable)?;
    File::open(directory).and_then(|directory| directory.sync_all()).map_err(unusable)
}

fn create_private_directory(directory: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)
}

/// Locks a directory. The error names the process that holds the lock.
fn lock(directory: &Path, path: &Path) -> Result<File, OpenError> {
    let unusable = |source| OpenError::Directory { path: directory.to_owned(), source };
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut file = match rustix::fs::open(path, flags, Mode::RUSR | Mode::WUSR) {
        Ok(file) => File::from(file),
        Err(Errno::LOOP) => return Err(OpenError::Symlink { path: path.to_owned() }),
        Err(error) => return Err(unusable(error.into())),
    };
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut holder = String::new();
            // If the process ID can't be read, the message is less specific.
            let _unknown = file.take(64).read_to_string(&mut holder);
            let holder = holder.trim().parse::<u32>().map_or_else(
                |_| "another process".to_owned(),
                |process| format!("process {process}"),
            );
            return Err(OpenError::Locked { path: directory.to_owned(), holder });
        }
        Err(TryLockError::Error(source)) => {
            return Err(OpenError::NoLocks { path: directory.to_owned(), source });
        }
    }
    // On a full disk, the lock works without the process ID, and the counters can be served.
    let _nameless = file
        .set_len(0)
        .and_then(|()| file.rewind())
        .and_then(|()| writeln!(file, "{}", std::process::id()));
    Ok(file)
}

/// Returns the newest schema version.
pub(super) fn known_version() -> u32 {
    u32::try_from(MIGRATIONS.len()).unwrap_or(u32::MAX)
}

/// Returns the schema version of a database.
pub(super) fn version(connection: &Connection) -> rusqlite::Result<u32> {
    let version: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    Ok(u32::try_from(version).unwrap_or(u32::MAX))
}

/// Brings the schema up to date in one transaction, which also recomputes the checksums.
fn migrate(connection: &mut Connection) -> Result<(), OpenError> {
    let done = version(connection)?;
    if done == known_version() {
        return Ok(());
    }
    // This completes the database file, so that `whole` can later check, from the file alone, whether a log
    // belongs to it.
    connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
    let transaction = connection.transaction()?;
    for (_, step) in (1_u32..).zip(MIGRATIONS).filter(|(version, _)| *version > done) {
        transaction.execute_batch(step)?;
    }
    transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
    transaction.pragma_update(None, "user_version", known_version())?;
    database::recompute(&transaction)?;
    transaction.commit()?;
    Ok(())
}

/// Returns the digest key and the creation time.
pub(super) fn read_meta(connection: &Connection) -> Result<(DigestKey, Timestamp), OpenError> {
    let corrupt = |what: &str| OpenError::Corrupt { what: what.to_owned() };
    let read = "SELECT value FROM meta WHERE key = ?1";
    let key: Vec<u8> = connection.query_row(read, ["digest_key"], |row| row.get(0))?;
    let key =
        <[u8; 16]>::try_from(key).map_err(|_| corrupt("its digest key has the wrong length"))?;
    let created: i64 = connection.query_row(read, ["created_ms"], |row| row.get(0))?;
    let created = Timestamp::from_millisecond(created)
        .map_err(|_| corrupt("its creation time isn't a valid time"))?;
    Ok((DigestKey::new(key), created))
}
