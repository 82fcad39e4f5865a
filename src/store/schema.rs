//! Opening the file: lock, identity, schema version, settings.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use rusqlite::{Connection, MAIN_DB, OptionalExtension, params};

use crate::domain::digest::DigestKey;

use super::compact;
use super::error::OpenError;

/// Marks the file as ours (SQLite's `application_id`): the letters `TCEv`.
pub(super) const APPLICATION_ID: i64 = 0x5443_4576;
/// The file in the storage directory.
const FILE_NAME: &str = "exporter.db";
/// The lock file beside it, which names its holder.
const LOCK_NAME: &str = "lock";

/// Size of the log's file in bytes while it holds nothing: the 1,000 pages after which SQLite empties it.
const MAX_IDLE_LOG: i64 = 4 * 1024 * 1024;

/// One step per schema version, from empty on. A step is never changed once released.
pub(super) const MIGRATIONS: [&str; 4] = [
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
];

/// An open store, not yet loaded.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) connection: Connection,
    pub(super) digest_key: DigestKey,
    pub(super) created_at: Timestamp,
    pub(super) is_new: bool,
    pub(super) file: PathBuf,
    /// Held for as long as the store is open.
    pub(super) _lock: File,
}

/// Opens the store of a directory, creating both where they don't exist.
pub(super) fn open(directory: &Path, now: Timestamp) -> Result<Opened, OpenError> {
    let unusable = |source| OpenError::Directory { path: directory.to_owned(), source };
    create_private_directory(directory).map_err(unusable)?;
    let lock = lock(directory)?;
    let file = directory.join(FILE_NAME);
    let mut connection = Connection::open(&file)?;
    refuse_read_only(&connection, &file)?;
    // Before anything is read: the log's index is kept in memory then, and needs no room on a disk
    // that may be full.
    connection.pragma_update(None, "locking_mode", "EXCLUSIVE")?;
    check_identity(&connection, &file)?;
    let is_of_old = compact::prepare(&connection)?;
    // WAL with synchronous=FULL: a commit is on disk when it returns, for one fsync of the log.
    //
    // Why is it safe to go on after a failed fsync, which some systems forget the next time? What
    // was not synced is written anew before it is synced again: the next commit begins at the frame
    // where the failed one began, and a checkpoint that failed starts over. Should the failed commit
    // have reached the disk all the same and the program die, its counts are there with the
    // progress that keeps them from being counted again.
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    // What a large transaction leaves of the log is cut off again.
    connection.pragma_update(None, "journal_size_limit", MAX_IDLE_LOG)?;
    connection.set_prepared_statement_cache_capacity(32);
    check_integrity(&connection)?;
    migrate(&mut connection)?;
    if is_of_old && let Err(error) = compact::rewrite(&connection) {
        tracing::warn!(%error, "cannot write the store anew: its file will not shrink until the next start");
    }
    let is_new = initialise(&mut connection, now)?;
    let (digest_key, created_at) = read_meta(&connection)?;
    Ok(Opened { connection, digest_key, created_at, is_new, file, _lock: lock })
}

fn create_private_directory(directory: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::DirBuilderExt;
        builder.mode(0o700);
    }
    builder.create(directory)
}

/// Takes the lock of a directory, or tells who has it.
fn lock(directory: &Path) -> Result<File, OpenError> {
    let unusable = |source| OpenError::Directory { path: directory.to_owned(), source };
    let path = directory.join(LOCK_NAME);
    let mut options = OpenOptions::new();
    let mut file =
        options.read(true).write(true).create(true).truncate(false).open(path).map_err(unusable)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut holder = String::new();
            // The holder is a kindness: without it the message still says what is wrong.
            let _unknown = file.take(64).read_to_string(&mut holder);
            let holder = holder.trim().parse::<u32>().map_or_else(
                |_| "another process".to_owned(),
                |process| format!("process {process}"),
            );
            return Err(OpenError::Locked { path: directory.to_owned(), holder });
        }
        Err(TryLockError::Error(source)) => return Err(unusable(source)),
    }
    // On a full disk the lock holds all the same, and what was counted can be served.
    let _nameless = file
        .set_len(0)
        .and_then(|()| file.rewind())
        .and_then(|()| writeln!(file, "{}", std::process::id()));
    Ok(file)
}

/// Refuses a file that another program, or a newer version of this one, has written.
fn check_identity(connection: &Connection, file: &Path) -> Result<(), OpenError> {
    let path = || file.to_owned();
    let read = |pragma| connection.pragma_query_value(None, pragma, |row| row.get::<_, i64>(0));
    let application_id = match read("application_id") {
        Ok(id) => id,
        Err(error) if error.sqlite_error_code() == Some(rusqlite::ErrorCode::NotADatabase) => {
            return Err(OpenError::Foreign { path: path() });
        }
        Err(error) => return Err(corrupt_or(error)),
    };
    let tables: i64 = connection
        .query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))
        .map_err(corrupt_or)?;
    let version = u32::try_from(read("user_version")?).unwrap_or(u32::MAX);
    if application_id != APPLICATION_ID && (application_id != 0 || tables > 0 || version > 0) {
        return Err(OpenError::Foreign { path: path() });
    }
    if version > known_version() {
        return Err(OpenError::Newer { path: path(), found: version, known: known_version() });
    }
    Ok(())
}

/// SQLite opens a file that it may not write for reading alone, and complains much later.
pub(super) fn refuse_read_only(connection: &Connection, file: &Path) -> Result<(), OpenError> {
    if connection.is_readonly(MAIN_DB)? {
        return Err(OpenError::ReadOnly { path: file.to_owned() });
    }
    Ok(())
}

fn check_integrity(connection: &Connection) -> Result<(), OpenError> {
    let verdict: String =
        connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0)).map_err(corrupt_or)?;
    if verdict == "ok" { Ok(()) } else { Err(OpenError::Corrupt { what: verdict }) }
}

fn corrupt_or(error: rusqlite::Error) -> OpenError {
    match error.sqlite_error_code() {
        Some(rusqlite::ErrorCode::DatabaseCorrupt | rusqlite::ErrorCode::NotADatabase) => {
            OpenError::Corrupt { what: error.to_string() }
        }
        _ => OpenError::Sqlite(error),
    }
}

fn known_version() -> u32 {
    u32::try_from(MIGRATIONS.len()).unwrap_or(u32::MAX)
}

/// Brings the schema up to date, each version in a transaction of its own.
fn migrate(connection: &mut Connection) -> Result<(), OpenError> {
    let done: u32 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    for (version, step) in (1_u32..).zip(MIGRATIONS) {
        if version <= done {
            continue;
        }
        let transaction = connection.transaction()?;
        transaction.execute_batch(step)?;
        transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
        transaction.pragma_update(None, "user_version", version)?;
        transaction.commit()?;
    }
    Ok(())
}

/// Writes what a new store needs. Returns whether it was new.
fn initialise(connection: &mut Connection, now: Timestamp) -> Result<bool, OpenError> {
    let transaction = connection.transaction()?;
    let known: Option<Vec<u8>> = transaction
        .query_row("SELECT value FROM meta WHERE key = 'digest_key'", [], |row| row.get(0))
        .optional()?;
    if known.is_some() {
        return Ok(false);
    }
    let mut key = [0; 16];
    getrandom::fill(&mut key).map_err(|_| OpenError::Random)?;
    transaction.execute("INSERT INTO meta VALUES ('digest_key', ?1)", params![key.as_slice()])?;
    transaction
        .execute("INSERT INTO meta VALUES ('created_ms', ?1)", params![now.as_millisecond()])?;
    transaction.commit()?;
    Ok(true)
}

fn read_meta(connection: &Connection) -> Result<(DigestKey, Timestamp), OpenError> {
    let corrupt = |what: &str| OpenError::Corrupt { what: what.to_owned() };
    let key: Vec<u8> =
        connection
            .query_row("SELECT value FROM meta WHERE key = 'digest_key'", [], |row| row.get(0))?;
    let key =
        <[u8; 16]>::try_from(key).map_err(|_| corrupt("its digest key has the wrong length"))?;
    let created: i64 =
        connection
            .query_row("SELECT value FROM meta WHERE key = 'created_ms'", [], |row| row.get(0))?;
    let created = Timestamp::from_millisecond(created)
        .map_err(|_| corrupt("its creation time is no time"))?;
    Ok((DigestKey::new(key), created))
}
