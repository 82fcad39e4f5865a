//! Checks that a database is an intact store of this program, before anything is written to it.
//!
//! The checks cover the header, the schema, the structure, the checksums, and whether the log belongs to the
//! file. A log that is cut short, or damaged in the middle, ends before the damage: SQLite goes back to the last
//! complete commit, which restores matching counters and progress, and the rest is read from Twilio again.
//! Everything else is refused and left unchanged.

use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, MAIN_DB, OpenFlags, OptionalExtension};

use super::database;
use super::error::OpenError;
use super::files::{ExistingFiles, Paths};
use super::schema::{APPLICATION_ID, MIGRATIONS, known_version, version};

/// How a database is protected from other processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Locking {
    /// With file locks.
    Files,
    /// Not at all: nothing else knows its path, and its file system may not support locks.
    Private,
}

/// Opens the database of a store. The error says why it isn't intact.
pub(super) fn open(
    paths: &Paths,
    found: ExistingFiles,
    locking: Locking,
) -> Result<Connection, OpenError> {
    let file = &paths.database;
    // Read before the database is opened, from the file alone.
    let alone = match found {
        ExistingFiles::DatabaseAndLog => Stamp::read_without_log(file).ok(),
        ExistingFiles::Nothing | ExistingFiles::Database => None,
    };
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_NO_MUTEX
        | OpenFlags::SQLITE_OPEN_NOFOLLOW;
    let connection = match locking {
        Locking::Files => Connection::open_with_flags(file, flags)?,
        Locking::Private => Connection::open_with_flags_and_vfs(file, flags, c"unix-none")?,
    };
    refuse_read_only(&connection, file)?;
    // If the database is refused, closing it must not write the log into the file.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    // Set before anything is read: the log's index is then kept in memory and needs no space on a disk that
    // may be full.
    connection.pragma_update(None, "locking_mode", "EXCLUSIVE")?;
    check_identity(&connection, file)?;
    check_schema(&connection)?;
    let has_checksums = database::has_checksums(&connection)?;
    if has_checksums && let Some(alone) = alone {
        alone.check_log(&Stamp::read(&connection)?, file)?;
    }
    check_structure(&connection)?;
    if has_checksums {
        database::verify(&connection)?;
    }
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, false)?;
    Ok(connection)
}

/// Refuses a file written by another program or by a newer version of this one.
fn check_identity(connection: &Connection, file: &Path) -> Result<(), OpenError> {
    let path = || file.to_owned();
    let application_id = connection.pragma_query_value(None, "application_id", |row| row.get(0));
    let application_id: i64 = match application_id {
        Ok(id) => id,
        Err(error) if error.sqlite_error_code() == Some(ErrorCode::NotADatabase) => {
            return Err(OpenError::Foreign { path: path() });
        }
        Err(error) => return Err(error.into()),
    };
    let version = version(connection)?;
    if application_id != APPLICATION_ID {
        return Err(OpenError::Foreign { path: path() });
    }
    if version > known_version() {
        return Err(OpenError::Newer { path: path(), found: version, known: known_version() });
    }
    Ok(())
}

/// Refuses a file that can't be written: SQLite opens it read-only and fails only much later.
pub(super) fn refuse_read_only(connection: &Connection, file: &Path) -> Result<(), OpenError> {
    if connection.is_readonly(MAIN_DB)? {
        return Err(OpenError::ReadOnly { path: file.to_owned() });
    }
    Ok(())
}

/// Refuses a schema that differs from the one that the migrations create.
fn check_schema(connection: &Connection) -> Result<(), OpenError> {
    let reference = Connection::open_in_memory()?;
    for (_, step) in (1..=version(connection)?).zip(MIGRATIONS) {
        reference.execute_batch(step)?;
    }
    let (expected, mut found) = (definitions(&reference)?, definitions(connection)?);
    for (name, definition) in expected {
        let what = match found.remove(&name) {
            Some(same) if same == definition => continue,
            Some(_) => format!("`{name}` is defined differently"),
            None => format!("`{name}` is missing"),
        };
        return Err(OpenError::Corrupt { what });
    }
    match found.into_iter().next() {
        None => Ok(()),
        Some((name, (kind, ..))) => {
            let what = format!("the {kind} `{name}` doesn't belong to this program");
            Err(OpenError::Corrupt { what })
        }
    }
}

/// The type, table and SQL of each object in a schema, by name.
type Definitions = BTreeMap<String, (String, String, Option<String>)>;

fn definitions(connection: &Connection) -> rusqlite::Result<Definitions> {
    let mut statement =
        connection.prepare("SELECT name, type, tbl_name, sql FROM main.sqlite_schema")?;
    let rows = statement
        .query_map([], |row| Ok((row.get(0)?, (row.get(1)?, row.get(2)?, row.get(3)?))))?;
    rows.collect()
}

/// Has SQLite check every page and compare the indexes with their tables.
fn check_structure(connection: &Connection) -> Result<(), OpenError> {
    let verdict: String =
        connection.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0))?;
    // Of several lines, the first says only where the damage is, and the last says what it is.
    let last = verdict.lines().last().unwrap_or_default();
    if last == "ok" { Ok(()) } else { Err(OpenError::Corrupt { what: last.to_owned() }) }
}

/// Identifies a store and how many commits it holds.
#[derive(Debug)]
struct Stamp {
    is_empty: bool,
    digest_key: Option<Vec<u8>>,
    commits: Option<i64>,
}

impl Stamp {
    fn read(connection: &Connection) -> rusqlite::Result<Self> {
        if !connection.table_exists(None, "meta")? {
            return Ok(Self { is_empty: true, digest_key: None, commits: None });
        }
        let read = "SELECT value FROM meta WHERE key = ?1";
        let digest_key = connection.query_row(read, ["digest_key"], |row| row.get(0)).optional()?;
        let commits = connection.query_row(read, ["commits"], |row| row.get(0)).optional()?;
        Ok(Self { is_empty: false, digest_key, commits })
    }

    /// Reads a database file as if it had no log. Errors can be ignored: a crash may leave the file half
    /// written, and its log completes it.
    fn read_without_log(file: &Path) -> rusqlite::Result<Self> {
        let mut uri = "file:".to_owned();
        for byte in file.as_os_str().as_bytes() {
            match byte {
                b'/' => uri.push('/'),
                byte => uri.push_str(&format!("%{byte:02x}")),
            }
        }
        uri.push_str("?immutable=1");
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY
            | OpenFlags::SQLITE_OPEN_URI
            | OpenFlags::SQLITE_OPEN_NO_MUTEX
            | OpenFlags::SQLITE_OPEN_NOFOLLOW;
        Self::read(&Connection::open_with_flags(uri, flags)?)
    }

    /// Refuses a log that would take the file, which `self` describes, back to an earlier state or to another
    /// store. A file is never ahead of its log, even after an interrupted checkpoint.
    fn check_log(&self, with_log: &Self, file: &Path) -> Result<(), OpenError> {
        let what = if self.is_empty {
            "it is empty, and its log exporter.db-wal isn't"
        } else if self.digest_key.is_some() && self.digest_key != with_log.digest_key {
            "its log exporter.db-wal belongs to another store"
        } else if self.commits > with_log.commits {
            "its log exporter.db-wal is older, or was cut short after it was written to the database"
        } else {
            return Ok(());
        };
        Err(OpenError::Incomplete { path: file.to_owned(), what })
    }
}
