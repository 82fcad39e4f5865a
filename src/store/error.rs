//! Errors of opening the store and of committing to it.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use rusqlite::ffi::{SQLITE_IOERR_LOCK, SQLITE_IOERR_RDLOCK, SQLITE_IOERR_UNLOCK};
use rustix::fs::FlockOperation;
use rustix::io::Errno;

/// SQLite's codes for locks that the operating system refused.
const LOCK_ERRORS: [i32; 3] = [SQLITE_IOERR_LOCK, SQLITE_IOERR_RDLOCK, SQLITE_IOERR_UNLOCK];

/// The remedies for a store that can't be used, and their consequences.
const REMEDY: &str = "restore the storage directory from a backup (Call Events since the backup are counted again \
                      if Twilio still shows them), or move it away and start again (all counters start at 0, and \
                      recorded failures are lost)";

/// Why the store can't be opened. The program stops: it would count wrongly without its store.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The directory can't be created or written.
    #[error("cannot use the storage directory `{}`: make it writable for this user, or choose another with --storage.path", path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// Another process uses it.
    #[error("the storage directory `{}` is in use by {holder}: stop that process, or choose another directory with --storage.path", path.display())]
    Locked {
        /// The directory.
        path: PathBuf,
        /// The process that uses it.
        holder: String,
    },
    /// Its file system has no locks, such as NFS without a lock service, and some of FUSE, SMB and 9p.
    #[error("the file system of the storage directory `{}` refuses file locks, which prevent two processes from using one store: use a local disk or block volume instead of a network or shared file system, and set --storage.path to it", path.display())]
    NoLocks {
        /// The directory.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The file is a database of another program, or isn't a database.
    #[error("`{}` is not a store of twilio-call-exporter, or its header is damaged: choose another directory with --storage.path, or {}", path.display(), REMEDY)]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// The file was written by a newer version.
    #[error("`{}` has schema version {found}, but this program supports only up to {known}: run the version that wrote it, choose another directory with --storage.path, or {}", path.display(), REMEDY)]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u32,
        /// The newest supported version.
        known: u32,
    },
    /// The file is read-only.
    #[error("`{}` can't be written: make it writable for this user, or choose another directory with --storage.path", path.display())]
    ReadOnly {
        /// The file.
        path: PathBuf,
    },
    /// The path is a symbolic link: SQLite's log wouldn't be next to the file.
    #[error("`{}` is a symbolic link: replace it with the file itself, or set --storage.path to the file's directory", path.display())]
    Symlink {
        /// The link.
        path: PathBuf,
    },
    /// Some files are missing, or the files don't belong together.
    #[error("the store `{}` is incomplete ({what}): put back the files that belong together, {}", path.display(), REMEDY)]
    Incomplete {
        /// The database.
        path: PathBuf,
        /// What is wrong.
        what: &'static str,
    },
    /// The file is damaged.
    #[error("the store is damaged ({what}): {}", REMEDY)]
    Corrupt {
        /// The damage.
        what: String,
    },
    /// Another program has the database open, such as `sqlite3`.
    #[error("another program has the store's database open: close that program and start again")]
    Busy(#[source] rusqlite::Error),
    /// SQLite failed for another reason.
    #[error(
        "cannot open the store: check the disk, and that this user may read and write its files, or {}",
        REMEDY
    )]
    Sqlite(#[source] rusqlite::Error),
    /// The operating system provided no random bytes.
    #[error("cannot create a key for the store: the operating system provided no random bytes")]
    Random,
    /// The operating system couldn't start a thread.
    #[error("cannot start the store's thread")]
    Thread(#[source] io::Error),
}

impl OpenError {
    /// Replaces the error with [`Self::NoLocks`] if the file system has no locks: SQLite reports the database as
    /// busy then, as it does when another process has locked it.
    pub(super) fn or_no_locks(self, database: &Path, directory: &Path) -> Self {
        let is_lock_error = match &self {
            Self::Busy(_) => true,
            Self::Sqlite(error) => {
                error.sqlite_error().is_some_and(|error| LOCK_ERRORS.contains(&error.extended_code))
            }
            Self::Directory { .. }
            | Self::Locked { .. }
            | Self::NoLocks { .. }
            | Self::Foreign { .. }
            | Self::Newer { .. }
            | Self::ReadOnly { .. }
            | Self::Symlink { .. }
            | Self::Incomplete { .. }
            | Self::Corrupt { .. }
            | Self::Random
            | Self::Thread(_) => false,
        };
        match try_lock(database) {
            Err(source) if is_lock_error && source.kind() != io::ErrorKind::WouldBlock => {
                Self::NoLocks { path: directory.to_owned(), source }
            }
            Ok(()) | Err(_) => self,
        }
    }

    /// Replaces the file in the error with the original that it was copied from.
    pub(super) fn about(mut self, file: &Path) -> Self {
        match &mut self {
            Self::Directory { path, .. }
            | Self::Locked { path, .. }
            | Self::NoLocks { path, .. }
            | Self::Foreign { path }
            | Self::Newer { path, .. }
            | Self::ReadOnly { path }
            | Self::Symlink { path }
            | Self::Incomplete { path, .. } => *path = file.to_owned(),
            Self::Corrupt { .. }
            | Self::Busy(_)
            | Self::Sqlite(_)
            | Self::Random
            | Self::Thread(_) => {}
        }
        self
    }
}

/// Locks a file as SQLite does, and releases the lock.
fn try_lock(file: &Path) -> io::Result<()> {
    let file = match File::options().read(true).write(true).open(file) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    match rustix::fs::fcntl_lock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(()),
        // POSIX allows either error if another process has the lock.
        Err(Errno::ACCESS | Errno::AGAIN) => Err(io::ErrorKind::WouldBlock.into()),
        Err(error) => Err(error.into()),
    }
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
            // Not SQLite's own: a row is missing, or a value has the wrong type.
            None => Self::Corrupt { what: error.to_string() },
        }
    }
}

/// Why a commit failed. No part of it is counted or shown.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// The disk is full or failed, or SQLite found an error.
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
            | OpenError::NoLocks { .. }
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
