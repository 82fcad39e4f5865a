//! Whether a database is a whole store of this program, before anything is written to it.
//!
//! Looked at are the header, the schema, the structure, the checksums, and whether the log belongs to
//! the file. A log that is cut short, or damaged in the middle, ends before the damage: SQLite finds
//! the last commit that is whole, counters and progress go back to it together, and what it doesn't
//! hold is read again. Everything else is refused, and left as it was.

use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, MAIN_DB, OpenFlags, OptionalExtension};

use super::database;
use super::error::OpenError;
use super::files::{ExistingFiles, Paths};
use super::schema::{APPLICATION_ID, MIGRATIONS, known_version, version};

/// How a database is kept from others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Locking {
    /// By locks of the file system.
    Files,
    /// Not at all: it lies where nothing else looks for it, and its file system may have no locks.
    Private,
}

/// Opens the database of a store, or says why it isn't whole.
pub(super) fn open(
    paths: &Paths,
    found: ExistingFiles,
    locking: Locking,
) -> Result<Connection, OpenError> {
    let file = &paths.database;
    // Before the database is opened: it reads nothing but the file, whatever lies beside it.
    let alone = match found {
        ExistingFiles::DatabaseAndLog => Stamp::of_file_alone(file).ok(),
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
    // Refused, it is closed without writing the log into the file.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    // Before anything is read: the log's index is kept in memory then, and needs no room on a disk
    // that may be full.
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

/// Refuses a file that another program, or a newer version of this one, has written.
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

/// SQLite opens a file that it may not write for reading alone, and complains much later.
pub(super) fn refuse_read_only(connection: &Connection, file: &Path) -> Result<(), OpenError> {
    if connection.is_readonly(MAIN_DB)? {
        return Err(OpenError::ReadOnly { path: file.to_owned() });
    }
    Ok(())
}

/// Compares tables and indexes with what the migrations make; anything else is not of this program.
fn check_schema(connection: &Connection) -> Result<(), OpenError> {
    let made = Connection::open_in_memory()?;
    for (_, step) in (1..=version(connection)?).zip(MIGRATIONS) {
        made.execute_batch(step)?;
    }
    let (expected, mut found) = (definitions(&made)?, definitions(connection)?);
    for (name, definition) in expected {
        let what = match found.remove(&name) {
            Some(same) if same == definition => continue,
            Some(_) => format!("`{name}` is defined in another way"),
            None => format!("`{name}` is missing"),
        };
        return Err(OpenError::Corrupt { what });
    }
    match found.into_iter().next() {
        None => Ok(()),
        Some((name, (kind, ..))) => {
            let what = format!("the {kind} `{name}` is not of this program");
            Err(OpenError::Corrupt { what })
        }
    }
}

/// Kind, table and text of all that a schema defines, by name.
type Definitions = BTreeMap<String, (String, String, Option<String>)>;

fn definitions(connection: &Connection) -> rusqlite::Result<Definitions> {
    let mut statement =
        connection.prepare("SELECT name, type, tbl_name, sql FROM main.sqlite_schema")?;
    let rows = statement
        .query_map([], |row| Ok((row.get(0)?, (row.get(1)?, row.get(2)?, row.get(3)?))))?;
    rows.collect()
}

/// Has SQLite look at each page, and compare the indexes with their tables.
fn check_structure(connection: &Connection) -> Result<(), OpenError> {
    let verdict: String =
        connection.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0))?;
    // Of several lines the last says what, and the first only where.
    let last = verdict.lines().last().unwrap_or_default();
    if last == "ok" { Ok(()) } else { Err(OpenError::Corrupt { what: last.to_owned() }) }
}

/// What tells which store a file is of, and how far it has come.
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

    /// Reads a database file as if it had no log. A kill may have left it half written, which its
    /// log makes good: an error tells nothing.
    fn of_file_alone(file: &Path) -> rusqlite::Result<Self> {
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

    /// Refuses a log that takes the file, which this is, back or to another store. A file whose
    /// checkpoint was interrupted is never ahead of its log.
    fn check_log(&self, with_log: &Self, file: &Path) -> Result<(), OpenError> {
        let what = if self.is_empty {
            "it is empty, and its log exporter.db-wal isn't"
        } else if self.digest_key.is_some() && self.digest_key != with_log.digest_key {
            "its log exporter.db-wal belongs to another store"
        } else if self.commits > with_log.commits {
            "its log exporter.db-wal is older, or was cut short after it had been written to it"
        } else {
            return Ok(());
        };
        Err(OpenError::Incomplete { path: file.to_owned(), what })
    }
}
