//! Checks the store's files: which must not be opened, whether other users may access them, and whether they
//! are still the ones that are open.
//!
//! A file that is removed or replaced stays open: writes to it succeed and are lost when the program ends. So
//! before it commits anything, the writer compares the files at the paths with those that it opened. Only
//! names and attributes are read here; SQLite alone opens the files.

use std::fs::{self, Metadata};
use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::Access;

use super::error::OpenError;

/// The database in the storage directory.
const DATABASE: &str = "exporter.db";
/// SQLite's log of what isn't in the database file yet.
const LOG: &str = "exporter.db-wal";
/// SQLite's rollback journal, which an intact store never has.
const JOURNAL: &str = "exporter.db-journal";
/// The permission bits of everyone but the owner.
const GROUP_AND_OTHERS: u32 = 0o077;

/// The paths of the store's files.
#[derive(Clone, Debug)]
pub(super) struct Paths {
    pub(super) database: PathBuf,
    pub(super) log: PathBuf,
    journal: PathBuf,
}

/// The files in a directory before the database is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ExistingFiles {
    /// None: a store is created.
    Nothing,
    /// A database without a log, or with an empty one.
    Database,
    /// A database and a log with content, as after a crash.
    DatabaseAndLog,
}

impl Paths {
    pub(super) fn in_directory(directory: &Path) -> Self {
        Self {
            database: directory.join(DATABASE),
            log: directory.join(LOG),
            journal: directory.join(JOURNAL),
        }
    }

    /// Returns whether a name is that of a store's file, or of a store that is being created.
    pub(super) fn is_own(name: &Path) -> bool {
        let name = name.as_os_str().as_encoded_bytes();
        name == super::schema::LOCK_NAME.as_bytes()
            || name.strip_prefix(DATABASE.as_bytes()).is_some_and(|rest| {
                rest.is_empty() || rest.starts_with(b"-") || rest.starts_with(b".new")
            })
    }

    /// Returns which files exist. Refuses those that can't be an intact store.
    pub(super) fn inspect(&self) -> Result<ExistingFiles, OpenError> {
        let [database, log, journal] =
            [&self.database, &self.log, &self.journal].map(|path| size_of(path));
        let (database, log, journal) = (database?, log?, journal?);
        let has = |size: Option<u64>| size.is_some_and(|size| size > 0);
        let incomplete = |what| Err(OpenError::Incomplete { path: self.database.clone(), what });
        if database.is_some() && rustix::fs::access(&self.database, Access::WRITE_OK).is_err() {
            return Err(OpenError::ReadOnly { path: self.database.clone() });
        }
        match database {
            _ if has(journal) => incomplete("there is a journal of another program next to it"),
            None if has(log) => {
                incomplete("it is missing, and its log exporter.db-wal isn't empty")
            }
            Some(0) if has(log) => incomplete("it is empty, and its log exporter.db-wal isn't"),
            Some(0) => incomplete("it is empty"),
            None => Ok(ExistingFiles::Nothing),
            Some(_) if has(log) => Ok(ExistingFiles::DatabaseAndLog),
            Some(_) => Ok(ExistingFiles::Database),
        }
    }

    /// Warns about each file, and the directory, that other users may access.
    pub(super) fn warn_of_readers(&self, directory: &Path, lock: &Path) {
        for path in [directory, lock, &self.database, &self.log] {
            let Ok(metadata) = fs::symlink_metadata(path) else { continue };
            if metadata.mode() & GROUP_AND_OTHERS != 0 {
                tracing::warn!(
                    path = %path.display(),
                    mode = format!("{:04o}", metadata.mode() & 0o7777),
                    "other users may access the store: run `chmod go= {}`", path.display()
                );
            }
        }
    }
}

/// Returns a file's size, or `None` if there is no file. Refuses anything but a regular file: a symbolic link
/// leads elsewhere, and a FIFO blocks.
fn size_of(path: &Path) -> Result<Option<u64>, OpenError> {
    match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_symlink() => Err(OpenError::Symlink { path: path.to_owned() }),
        Ok(metadata) if metadata.is_file() => Ok(Some(metadata.len())),
        Ok(_) => Err(OpenError::Foreign { path: path.to_owned() }),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(source) => Err(OpenError::Directory { path: path.to_owned(), source }),
    }
}

/// The open files, to be compared with those at their paths.
#[derive(Debug)]
pub(super) struct OpenFiles {
    files: Vec<(PathBuf, Identity)>,
    are_lost: Arc<AtomicBool>,
}

/// The identity and the size of the file at a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Identity {
    device: u64,
    inode: u64,
    size: u64,
}

impl Identity {
    fn from_metadata(metadata: &Metadata) -> Self {
        Self { device: metadata.dev(), inode: metadata.ino(), size: metadata.len() }
    }

    fn is_same_file(self, other: Self) -> bool {
        (self.device, self.inode) == (other.device, other.inode)
    }
}

/// What happened to an open file.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{}` was {what} while in use", path.display())]
pub(super) struct FileLoss {
    pub(super) path: PathBuf,
    what: &'static str,
    /// Whether the database is intact, so that the log's content can still be written to it.
    pub(super) can_be_saved: bool,
}

impl OpenFiles {
    /// Records the files that were just opened. `directory` is the path that the program was given, so that a
    /// changed symbolic link on the way is detected.
    pub(super) fn new(directory: &Path) -> io::Result<Self> {
        let paths = Paths::in_directory(&std::path::absolute(directory)?);
        let files = [paths.database, paths.log].map(|path| {
            let identity =
                fs::symlink_metadata(&path).map(|metadata| Identity::from_metadata(&metadata));
            identity.map(|identity| (path, identity))
        });
        let files = files.into_iter().collect::<io::Result<Vec<_>>>()?;
        Ok(Self { files, are_lost: Arc::new(AtomicBool::new(false)) })
    }

    /// Returns a flag that is set while the last check found a file removed or replaced.
    pub(super) fn are_lost(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.are_lost)
    }

    /// Compares the open files with those at their paths. Attributes that can't be read are ignored.
    pub(super) fn check(&self) -> Result<(), FileLoss> {
        let losses = self.files.iter().filter_map(|(path, opened)| {
            let (what, is_intact) = match fs::symlink_metadata(path)
                .map(|metadata| Identity::from_metadata(&metadata))
            {
                Ok(found) if !found.is_same_file(*opened) => ("replaced by another file", true),
                Ok(found) if found.size != opened.size => ("overwritten or truncated", false),
                Ok(_) => return None,
                Err(error) if is_gone(&error) => ("removed", true),
                Err(_) => return None,
            };
            let can_be_saved = is_intact && path.ends_with(LOG);
            Some(FileLoss { path: path.clone(), what, can_be_saved })
        });
        // The database comes first: the log can be saved only if the database is intact.
        let checked = { losses }.next().map_or(Ok(()), Err);
        self.are_lost.store(checked.is_err(), Ordering::Relaxed);
        checked
    }

    /// Records the sizes of the files after a write by this program.
    pub(super) fn note_sizes(&mut self) {
        for (path, opened) in &mut self.files {
            if let Ok(metadata) = fs::symlink_metadata(path)
                && opened.is_same_file(Identity::from_metadata(&metadata))
            {
                opened.size = metadata.len();
            }
        }
    }
}

fn is_gone(error: &io::Error) -> bool {
    // Of all kinds of errors, only these mean that the file doesn't exist.
    [ErrorKind::NotFound, ErrorKind::NotADirectory, ErrorKind::StaleNetworkFileHandle]
        .contains(&error.kind())
}
