//! Reading a file that may never answer: a FIFO that nothing is written to, a mount that hangs.
//!
//! Invariant: a read returns within some seconds, and at most one thread hangs on each path.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError, mpsc};
use std::thread;
use std::time::Duration;

/// How long a file may take: longer than any disk, and shorter than a start is waited for.
const WITHIN: Duration = Duration::from_secs(5);

/// The paths that threads hang on.
static HANGING: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());

/// Reads a file, and one byte more than `limit` at most, so that the caller sees that it is larger.
///
/// # Errors
/// Those of the file system, and [`io::ErrorKind::TimedOut`] for a file that does not answer.
pub(super) fn read(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let hanging = || HANGING.lock().unwrap_or_else(PoisonError::into_inner);
    if !hanging().insert(path.to_owned()) {
        return Err(timed_out());
    }
    let (sender, answer) = mpsc::channel();
    let owned = path.to_owned();
    let read = move || {
        let mut bytes = Vec::new();
        let read = File::open(&owned).and_then(|file| file.take(limit + 1).read_to_end(&mut bytes));
        HANGING.lock().unwrap_or_else(PoisonError::into_inner).remove(&owned);
        // The reader may have lost patience.
        let _gone = sender.send(read.map(|_| bytes));
    };
    if let Err(error) = thread::Builder::new().name("file".to_owned()).spawn(read) {
        hanging().remove(path);
        return Err(error);
    }
    answer.recv_timeout(WITHIN).unwrap_or_else(|_| Err(timed_out()))
}

fn timed_out() -> io::Error {
    let text = format!("no answer within {} s", WITHIN.as_secs());
    io::Error::new(io::ErrorKind::TimedOut, text)
}

/// Why a file can't be read, for a message: the reason, without the error's number.
pub(super) fn why(error: &io::Error) -> String {
    let kind = error.kind();
    if kind == io::ErrorKind::TimedOut { error.to_string() } else { kind.to_string() }
}

#[cfg(test)]
mod tests {
    use std::process::Command;
    use std::time::Instant;

    use super::*;

    #[test]
    fn a_fifo_that_nothing_is_written_to_is_given_up_and_one_that_is_written_to_is_read() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("fifo");
        assert!(Command::new("mkfifo").arg(&path).status().expect("mkfifo").success());
        let began = Instant::now();
        let error = read(&path, 10).expect_err("nothing is written");
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!((WITHIN..2 * WITHIN).contains(&began.elapsed()));
        // The thread still hangs on it: no other one does.
        let began = Instant::now();
        assert!(read(&path, 10).is_err());
        assert!(began.elapsed() < WITHIN);
        std::fs::write(&path, "late").expect("written");
        let gone = || !HANGING.lock().expect("no panic").contains(&path);
        let until = Instant::now() + WITHIN;
        while !gone() && Instant::now() < until {
            thread::yield_now();
        }
        let writer = thread::spawn({
            let path = path.clone();
            move || std::fs::write(path, "in time")
        });
        assert_eq!(read(&path, 10).expect("read"), b"in time");
        assert!(writer.join().expect("no panic").is_ok());
    }

    #[test]
    fn a_file_is_read_up_to_its_limit_and_one_byte() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), "0123456789").expect("written");
        assert_eq!(read(file.path(), 4).expect("read"), b"01234");
        assert!(read(Path::new("/nowhere/at/all"), 4).is_err());
    }
}
