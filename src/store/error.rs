//! Why the store can't be opened, and why a commit failed.

use std::io;
use std::path::PathBuf;

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
    /// The file is a database of another program.
    #[error("`{}` is not a store of twilio-call-exporter: choose another directory with --storage.path", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// The file was written by a newer version.
    #[error("`{}` has schema version {found}, this program knows up to {known}: run the version that wrote it, or choose another directory with --storage.path", path.display())]
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
    /// The file is damaged.
    #[error(
        "the store is damaged ({what}): restore it from a backup, or move the storage directory away and start anew (all counters start at 0)"
    )]
    Corrupt {
        /// What was found.
        what: String,
    },
    /// SQLite failed for another reason.
    #[error("cannot open the store")]
    Sqlite(#[from] rusqlite::Error),
    /// The operating system gave no randomness.
    #[error("cannot make a key for the store: no randomness from the operating system")]
    Random,
    /// The operating system gave no thread.
    #[error("cannot start the store's thread")]
    Thread(#[source] io::Error),
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
