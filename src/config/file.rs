//! Reads files that may block: a FIFO without a writer, or a mount that hangs.
//!
//! Invariant: a read returns within a few seconds, and at most one thread hangs on each path. A FIFO is read
//! only while the caller waits, so that content written to it later is left for the next read.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::OFlags;

/// The timeout of a read: longer than any disk takes, and shorter than supervisors wait for a start.
const TIMEOUT: Duration = Duration::from_secs(5);
/// The timeout shortly after another read timed out: hundreds of files may be on the same mount.
const SHORT_TIMEOUT: Duration = Duration::from_millis(200);
/// For how long after a timeout the short timeout applies.
const SHORT_TIMEOUT_FOR: Duration = Duration::from_secs(5);

/// The paths that threads hang on, and the time of the last timeout.
static HANGING: Mutex<(BTreeSet<PathBuf>, Option<Instant>)> = Mutex::new((BTreeSet::new(), None));

/// Reads at most `limit` + 1 bytes of a file, so that the caller can see that it is too large.
///
/// # Errors
/// Returns the file system's errors, and [`io::ErrorKind::TimedOut`] for a file that doesn't respond.
pub(crate) fn read(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let hanging = || HANGING.lock().unwrap_or_else(PoisonError::into_inner);
    let timeout = match hanging().1 {
        Some(last) if last.elapsed() < SHORT_TIMEOUT_FOR => SHORT_TIMEOUT,
        Some(_) | None => TIMEOUT,
    };
    if !hanging().0.insert(path.to_owned()) {
        return Err(timed_out());
    }
    let (sender, answer) = mpsc::channel();
    let owned = path.to_owned();
    let deadline = Instant::now() + timeout;
    let read = move || {
        let read = read_until(&owned, limit, deadline);
        HANGING.lock().unwrap_or_else(PoisonError::into_inner).0.remove(&owned);
        // The caller may have stopped waiting.
        let _caller_gone = sender.send(read);
    };
    if let Err(error) = thread::Builder::new().name("file".to_owned()).spawn(read) {
        hanging().0.remove(path);
        return Err(error);
    }
    // For a FIFO, the thread itself stops at the timeout.
    let read = answer.recv_timeout(timeout + SHORT_TIMEOUT).unwrap_or_else(|_| Err(timed_out()));
    if matches!(&read, Err(error) if error.kind() == io::ErrorKind::TimedOut) {
        hanging().1 = Some(Instant::now());
    }
    read
}

fn read_until(path: &Path, limit: u64, deadline: Instant) -> io::Result<Vec<u8>> {
    // Without this flag, opening a FIFO waits for a writer.
    let flags = i32::try_from(OFlags::NONBLOCK.bits()).unwrap_or_default();
    let file = File::options().read(true).custom_flags(flags).open(path)?;
    let is_fifo = file.metadata()?.file_type().is_fifo();
    let (mut file, mut bytes) = (file.take(limit + 1), Vec::new());
    loop {
        if is_fifo {
            wait_for_content(file.get_ref(), deadline)?;
        }
        // Keep the bytes read so far when no more are available yet.
        match file.read_to_end(&mut bytes) {
            Ok(_) => return Ok(bytes),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && is_fifo => {}
            Err(error) => return Err(error),
        }
    }
}

/// Waits until a FIFO has content or its writer has closed it.
fn wait_for_content(fifo: &File, deadline: Instant) -> io::Result<()> {
    let left = deadline.saturating_duration_since(Instant::now());
    let left = Timespec::try_from(left).map_err(io::Error::other)?;
    let mut fifo = [PollFd::new(fifo, PollFlags::IN)];
    match poll(&mut fifo, Some(&left)) {
        Ok(0) => Err(timed_out()),
        Ok(_) => Ok(()),
        // A signal interrupted the wait: the caller tries again.
        Err(rustix::io::Errno::INTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn timed_out() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "reading it took too long")
}

/// The byte order marks of UTF-16; no UTF-8 text starts with them.
const UTF_16: [[u8; 2]; 2] = [[0xff, 0xfe], [0xfe, 0xff]];
/// The byte order mark that some editors put in front of UTF-8.
const UTF_8: &[u8] = &[0xef, 0xbb, 0xbf];

/// Decodes a file as UTF-8, without a byte order mark; the error says what is wrong with it.
pub(crate) fn text(bytes: Vec<u8>) -> Result<String, &'static str> {
    let is_utf_16 = UTF_16.iter().any(|mark| bytes.starts_with(mark));
    String::from_utf8(strip_byte_order_mark(bytes))
        .map_err(|_| if is_utf_16 { "is UTF-16: expected UTF-8" } else { "is not valid UTF-8" })
}

/// Removes a UTF-8 byte order mark: PEM certificates are only found at the start of a line.
pub(crate) fn strip_byte_order_mark(bytes: Vec<u8>) -> Vec<u8> {
    match bytes.strip_prefix(UTF_8) {
        Some(rest) => rest.to_vec(),
        None => bytes,
    }
}

/// The reason that a file can't be read, for a message, without the error number.
pub(crate) fn why(error: &io::Error) -> String {
    let kind = error.kind();
    if kind == io::ErrorKind::TimedOut {
        error.to_string()
    } else if kind == io::ErrorKind::NotFound {
        "no such file or directory".to_owned()
    } else {
        kind.to_string()
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;
    use std::time::Instant;

    use super::*;

    #[test]
    fn times_out_on_a_fifo_without_a_writer_and_leaves_later_content_to_the_next_read() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("fifo");
        assert!(Command::new("mkfifo").arg(&path).status().expect("mkfifo").success());
        let began = Instant::now();
        let error = read(&path, 10).expect_err("no writer");
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!(began.elapsed() < 2 * TIMEOUT);
        // Later reads get a shorter timeout: the files may be on the same mount.
        let began = Instant::now();
        assert!(read(&path, 10).is_err());
        assert!(began.elapsed() < TIMEOUT);
        for content in ["in", "time"] {
            let path = path.clone();
            let writer = thread::spawn({
                let path = path.clone();
                move || std::fs::write(path, content)
            });
            let deadline = Instant::now() + TIMEOUT;
            let mut found = read(&path, 10);
            while found.is_err() && Instant::now() < deadline {
                found = read(&path, 10);
            }
            assert_eq!(found.expect("read"), content.as_bytes());
            assert!(writer.join().expect("no panic").is_ok());
        }
    }

    #[test]
    fn reads_a_fifo_written_in_pieces_to_its_end() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("fifo");
        assert!(Command::new("mkfifo").arg(&path).status().expect("mkfifo").success());
        let script = "exec 3>\"$0\"; printf a >&3; sleep 0.05; printf b >&3";
        let mut writer = Command::new("sh").args(["-c", script]).arg(&path).spawn().expect("sh");
        let deadline = Instant::now() + TIMEOUT;
        let mut found = read(&path, 10);
        while found.is_err() && Instant::now() < deadline {
            found = read(&path, 10);
        }
        assert_eq!(found.expect("read"), b"ab");
        assert!(writer.wait().expect("ended").success());
    }

    #[test]
    fn strips_byte_order_marks() {
        let pem = b"-----BEGIN CERTIFICATE-----".to_vec();
        assert_eq!(strip_byte_order_mark([UTF_8, &pem].concat()), pem);
        assert_eq!(strip_byte_order_mark(pem.clone()), pem);
        assert_eq!(text([UTF_8, b"a"].concat()).as_deref(), Ok("a"));
        assert_eq!(text(b"\xff\xfea\0".to_vec()), Err("is UTF-16: expected UTF-8"));
        assert_eq!(text(b"a\xff".to_vec()), Err("is not valid UTF-8"));
    }

    #[test]
    fn reads_one_byte_more_than_the_limit() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), "0123456789").expect("written");
        assert_eq!(read(file.path(), 4).expect("read"), b"01234");
        assert!(read(Path::new("/nowhere/at/all"), 4).is_err());
    }
}
