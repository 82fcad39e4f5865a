//! Why the store can't be opened, and why a commit failed.

use std::io;
use std::path::PathBuf;

/// What to do about a store that can't be used, and what that costs.
const WAY_OUT: &str = "restore the storage directory from a backup (Call Events that Twilio still shows are counted \
                       again), or move it away and start again (all counters start at 0, and recorded failures are lost)";

/// Why the store can't be opened. The program stops: without its store it would count wrongly.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The directory can't be created or written.
    #[error("cannot use the storage directory `{}`: make it writable for this user, or choose another with --storage.path", path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Another process has it.
    #[error("the storage directory `{}` is in use by {holder}: stop that process, or choose another directory with --storage.path", path.display())]
    Locked {
        /// The directory.
        path: PathBuf,
        /// Who has it.
        holder: String,
    },
    /// The file is a database of another program, or no database.
    #[error("`{}` is not a store of twilio-call-exporter, or its header is damaged: choose another directory with --storage.path, or {}", path.display(), WAY_OUT)]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// The file was written by a newer version.
    #[error("`{}` has schema version {found}, this program knows up to {known}: run the version that wrote it, choose another directory with --storage.path, or {}", path.display(), WAY_OUT)]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u32,
        /// The newest known.
        known: u32,
    },
    /// The file may only be read.
    #[error("`{}` can't be written: make it writable for this user, or choose another directory with --storage.path", path.display())]
    ReadOnly {
        /// The file.
        path: PathBuf,
    },
    /// The path is a symbolic link, which leads to a file that SQLite's log doesn't lie beside.
    #[error("`{}` is a symbolic link: put the file itself there, or choose its directory with --storage.path", path.display())]
    Symlink {
        /// The link.
        path: PathBuf,
    },
    /// Files that belong together aren't there together.
    #[error("the store `{}` is incomplete ({what}): put the files back that belong together, {}", path.display(), WAY_OUT)]
    Incomplete {
        /// The database.
        path: PathBuf,
        /// What is wrong.
        what: &'static str,
    },
    /// The file is damaged.
    #[error("the store is damaged ({what}): {}", WAY_OUT)]
    Corrupt {
        /// What was found.
        what: String,
    },
    /// Another program has the database open, such as `sqlite3`.
    #[error("another program has the store's database open: close it, and start again")]
    Busy(#[source] rusqlite::Error),
    /// SQLite failed for another reason.
    #[error(
        "cannot open the store: check the disk, and that this user may read and write its files, or {}",
        WAY_OUT
    )]
    Sqlite(#[source] rusqlite::Error),
    /// The operating system gave no randomness.
    #[error("cannot make a key for the store: no randomness from the operating system")]
    Random,
    /// The operating system gave no thread.
    #[error("cannot start the store's thread")]
    Thread(#[source] io::Error),
}

impl From<rusqlite::Error> for OpenError {
    fn from(error: rusqlite::Error) -> Self {
        use rusqlite::ErrorCode;
        match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
                Self::Corrupt { what: error.to_string() }
            }
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Self::Busy(error),
            Some(_) => Self::Sqlite(error),
            // Not SQLite's: a row is missing, or holds another type than was written.
            None => Self::Corrupt { what: error.to_string() },
        }
    }
}

/// Why a commit failed. Nothing of it is counted or shown.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// The disk is full, failed, or SQLite found something wrong.
    #[error("cannot write to the store: {0}")]
    Failed(String),
    /// The program is stopping.
    #[error("the store is closed")]
    Closed,
}

impl From<rusqlite::Error> for CommitError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Failed(error.to_string())
    }
}

impl From<OpenError> for CommitError {
    fn from(error: OpenError) -> Self {
        match error {
            OpenError::Sqlite(error) | OpenError::Busy(error) => error.into(),
            OpenError::Directory { .. }
            | OpenError::Locked { .. }
            | OpenError::Foreign { .. }
            | OpenError::Newer { .. }
            | OpenError::ReadOnly { .. }
            | OpenError::Symlink { .. }
            | OpenError::Incomplete { .. }
            | OpenError::Corrupt { .. }
            | OpenError::Random
            | OpenError::Thread(_) => Self::Failed(error.to_string()),
        }
    }
}
