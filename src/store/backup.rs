//! Copies the store to one file, while the program runs or is stopped.
//!
//! A running program holds the database exclusively, so SQLite can't open it a second time. Its files can
//! still be read, and SQLite's log makes the copy consistent: pages that a checkpoint moves during the copy
//! are also in the log, unless the log was restarted in the meantime. A restarted log has another header, and
//! the copy is then repeated. The copy is opened like a store, with all the checks of `whole`, before it gets
//! its name. Nothing in the store's directory is written or locked.

use std::ffi::OsStr;
use std::fs::{self, DirBuilder, File};
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use jiff::Timestamp;
use rusqlite::{Connection, ErrorCode};

use super::error::OpenError;
use super::files::{ExistingFiles, Paths};
use super::schema;
use super::whole;

/// The number of attempts to copy: a log lasts for some thousand pages.
const ATTEMPTS: u32 = 20;
/// The pause before a further attempt, multiplied by the number of failed ones.
const PAUSE: Duration = Duration::from_millis(50);
/// The size in bytes of the log's header, whose sequence number and salts change at each restart of the log.
const LOG_HEADER: usize = 32;

/// Why the backup failed.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// Something exists at the backup's path.
    #[error("`{}` already exists: choose another file", path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// The backup would be mistaken for a part of the store.
    #[error("`{}` is a name of the store's own files: choose another file", path.display())]
    OwnFile {
        /// The file.
        path: PathBuf,
    },
    /// The path doesn't name a file.
    #[error("`{}` doesn't name a file: give the path of the file to create", path.display())]
    NoName {
        /// The path.
        path: PathBuf,
    },
    /// There is no store.
    #[error("there is no store in `{}`: set --storage.path to its directory", path.display())]
    NoStore {
        /// The directory.
        path: PathBuf,
    },
    /// The store can't be read.
    #[error("cannot read `{}`: run this as the exporter's user or as root", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The backup can't be written.
    #[error("cannot write the backup `{}`: check that its directory exists, is writable and has free space", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The log was restarted during each attempt.
    #[error(
        "the store changes faster than it can be copied: try again later, or stop the exporter first"
    )]
    Changing,
    /// The copy isn't an intact store.
    #[error("the store failed its checks, so no backup was made: {0}")]
    Store(OpenError),
}

/// Writes a backup of the store in a directory to a new file. Returns the file's size in bytes.
///
/// # Errors
/// [`BackupError`]. Existing files are unchanged, and no file is created unless only the final sync of its
/// directory fails.
pub fn backup(storage: &Path, target: &Path) -> Result<u64, BackupError> {
    let storage = storage.canonicalize().map_err(|source| unreadable(storage, source))?;
    let (parent, name) = split(target)?;
    let unwritable = |source| BackupError::Write { path: target.to_owned(), source };
    let parent = parent.canonicalize().map_err(unwritable)?;
    let file = parent.join(name);
    if parent == storage && Paths::is_own(Path::new(name)) {
        return Err(BackupError::OwnFile { path: target.to_owned() });
    }
    refuse_existing(&file, target)?;
    let partial = Partial::create(&parent, name).map_err(unwritable)?;
    let copied = Paths::in_directory(&partial.directory);
    copy(&Paths::in_directory(&storage), &copied, target, || ())?;
    merge(&copied).map_err(|error| {
        if let OpenError::Sqlite(error) = &error
            && error.sqlite_error_code() == Some(ErrorCode::DiskFull)
        {
            return unwritable(io::Error::other(error.to_string()));
        }
        BackupError::Store(error.about(&Paths::in_directory(&storage).database))
    })?;
    File::open(&copied.database).and_then(|file| file.sync_all()).map_err(unwritable)?;
    let size = fs::metadata(&copied.database).map_err(unwritable)?.len();
    refuse_existing(&file, target)?;
    publish(&copied.database, &file).map_err(|source| {
        if source.kind() == ErrorKind::AlreadyExists {
            return BackupError::Exists { path: target.to_owned() };
        }
        unwritable(source)
    })?;
    File::open(&parent).and_then(|parent| parent.sync_all()).map_err(unwritable)?;
    Ok(size)
}

/// Returns when the store in a directory began to count, from a temporary copy of it.
///
/// # Errors
/// [`BackupError`].
pub fn created_at(storage: &Path) -> Result<Timestamp, BackupError> {
    if !storage.try_exists().unwrap_or(true) {
        return Err(BackupError::NoStore { path: storage.to_owned() });
    }
    let directory = tempfile::tempdir();
    let path = std::env::temp_dir();
    let directory = directory.map_err(|source| BackupError::Write { path, source })?;
    let file = directory.path().join("copy.db");
    backup(storage, &file)?;
    let connection = Connection::open(&file).map_err(|error| BackupError::Store(error.into()))?;
    schema::read_meta(&connection).map(|(_, created_at)| created_at).map_err(BackupError::Store)
}

/// Removes the unfinished backup of this process.
pub fn remove_unfinished(target: &Path) {
    let Ok((parent, name)) = split(target) else { return };
    // Leftovers do no harm.
    let _gone = fs::remove_dir_all(Partial::path(parent, name));
}

fn split(target: &Path) -> Result<(&Path, &OsStr), BackupError> {
    let no_name = || BackupError::NoName { path: target.to_owned() };
    let is_directory = target.as_os_str().as_encoded_bytes().ends_with(b"/");
    let name = target.file_name().filter(|_| !is_directory).ok_or_else(no_name)?;
    let parent = target.parent().filter(|parent| !parent.as_os_str().is_empty());
    Ok((parent.unwrap_or(Path::new(".")), name))
}

fn unreadable(path: &Path, source: io::Error) -> BackupError {
    let path = path.to_owned();
    if source.kind() == ErrorKind::NotFound {
        return BackupError::NoStore { path };
    }
    BackupError::Read { path, source }
}

fn refuse_existing(file: &Path, shown: &Path) -> Result<(), BackupError> {
    match fs::symlink_metadata(file) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Ok(_) => Err(BackupError::Exists { path: shown.to_owned() }),
        Err(source) => Err(BackupError::Write { path: shown.to_owned(), source }),
    }
}

/// A directory next to the backup, which holds it until it is complete. Removed on drop.
#[derive(Debug)]
struct Partial {
    directory: PathBuf,
}

impl Partial {
    fn path(parent: &Path, name: &OsStr) -> PathBuf {
        let mut partial = name.to_owned();
        partial.push(format!(".partial-{}", std::process::id()));
        parent.join(partial)
    }

    fn create(parent: &Path, name: &OsStr) -> io::Result<Self> {
        let directory = Self::path(parent, name);
        DirBuilder::new().mode(0o700).create(&directory)?;
        Ok(Self { directory })
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.directory) {
            tracing::warn!(path = %self.directory.display(), %error, "cannot remove the unfinished backup");
        }
    }
}

/// Copies the database and its log as of one moment. Each attempt calls `between` between the two files.
pub(super) fn copy(
    from: &Paths,
    to: &Paths,
    target: &Path,
    mut between: impl FnMut(),
) -> Result<(), BackupError> {
    for attempt in 0..ATTEMPTS {
        thread::sleep(PAUSE * attempt);
        let before = log_header(&from.log)?;
        if !copy_file(&from.database, &to.database, target)? {
            let directory = from.database.parent().unwrap_or(&from.database);
            return Err(BackupError::NoStore { path: directory.to_owned() });
        }
        between();
        let has_log = copy_file(&from.log, &to.log, target)?;
        if log_header(&from.log)? == before && has_log == before.is_some() {
            return Ok(());
        }
    }
    Err(BackupError::Changing)
}

/// Opens a file, if there is one. Only regular files are accepted: reading a FIFO may never end.
fn open(path: &Path) -> io::Result<Option<File>> {
    match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_file() => File::open(path).map(Some),
        Ok(_) => Err(io::Error::new(ErrorKind::InvalidInput, "not a regular file")),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Reads a log's header: `None` if there is no log, and no bytes if it is empty.
fn log_header(log: &Path) -> Result<Option<Vec<u8>>, BackupError> {
    let unreadable = |source| BackupError::Read { path: log.to_owned(), source };
    let Some(file) = open(log).map_err(unreadable)? else { return Ok(None) };
    let mut header = Vec::new();
    let limit = u64::try_from(LOG_HEADER).unwrap_or(u64::MAX);
    file.take(limit).read_to_end(&mut header).map_err(unreadable)?;
    Ok(Some(header))
}

/// Copies a file over another. If there is no such file, removes the other and returns `false`.
fn copy_file(from: &Path, to: &Path, target: &Path) -> Result<bool, BackupError> {
    let unwritable = |source| BackupError::Write { path: target.to_owned(), source };
    let unreadable = |source| BackupError::Read { path: from.to_owned(), source };
    let Some(mut source) = open(from).map_err(unreadable)? else {
        return match fs::remove_file(to) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(unwritable(error)),
            Ok(()) | Err(_) => Ok(false),
        };
    };
    let mut options = File::options();
    let options = options.write(true).create(true).truncate(true).mode(0o600);
    let mut copy = options.open(to).map_err(unwritable)?;
    io::copy(&mut source, &mut copy).map_err(unwritable)?;
    Ok(true)
}

/// Checks a copy and moves its log into the database, which leaves a single file that any SQLite can read.
pub(super) fn merge(copied: &Paths) -> Result<(), OpenError> {
    let found = copied.inspect()?;
    let connection = whole::open(copied, found, whole::Locking::Private)?;
    connection.pragma_update(None, "journal_mode", "DELETE")?;
    connection.close().map_err(|(_, error)| error)?;
    match copied.inspect()? {
        ExistingFiles::Database => Ok(()),
        ExistingFiles::Nothing | ExistingFiles::DatabaseAndLog => {
            Err(OpenError::Corrupt { what: "its log could not be moved into it".to_owned() })
        }
    }
}

/// Gives a backup its name, without replacing another file.
fn publish(partial: &Path, file: &Path) -> io::Result<()> {
    match fs::hard_link(partial, file) {
        // Some file systems have no hard links. A moment ago, no file had this name.
        Err(error) if error.kind() != ErrorKind::AlreadyExists => fs::rename(partial, file),
        linked => linked,
    }
}
