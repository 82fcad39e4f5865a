//! Reading a file that may never answer: a FIFO that nothing is written to, a mount that hangs.
//!
//! Invariant: a read returns within some seconds, and at most one thread hangs on each path. A FIFO is
//! read only while the reader waits, so that what is written to it later is there for the next one.

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

/// How long a file may take: longer than any disk, and shorter than a start is waited for.
const WITHIN: Duration = Duration::from_secs(5);
/// How long a file may take after another one did not answer: hundreds may lie on the same mount.
const NEXT_WITHIN: Duration = Duration::from_millis(200);
/// For how long after that.
const AFTER: Duration = Duration::from_secs(5);

/// The paths that threads hang on, and when a file last did not answer.
static HANGING: Mutex<(BTreeSet<PathBuf>, Option<Instant>)> = Mutex::new((BTreeSet::new(), None));

/// Reads a file, and one byte more than `limit` at most, so that the caller sees that it is larger.
///
/// # Errors
/// Those of the file system, and [`io::ErrorKind::TimedOut`] for a file that does not answer.
pub(crate) fn read(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let hanging = || HANGING.lock().unwrap_or_else(PoisonError::into_inner);
    let within = match hanging().1 {
        Some(last) if last.elapsed() < AFTER => NEXT_WITHIN,
        Some(_) | None => WITHIN,
    };
    if !hanging().0.insert(path.to_owned()) {
        return Err(timed_out());
    }
    let (sender, answer) = mpsc::channel();
    let owned = path.to_owned();
    let until = Instant::now() + within;
    let read = move || {
        let read = read_until(&owned, limit, until);
        HANGING.lock().unwrap_or_else(PoisonError::into_inner).0.remove(&owned);
        // The reader may have lost patience.
        let _gone = sender.send(read);
    };
    if let Err(error) = thread::Builder::new().name("file".to_owned()).spawn(read) {
        hanging().0.remove(path);
        return Err(error);
    }
    // A FIFO is given up by the thread itself.
    let read = answer.recv_timeout(within + NEXT_WITHIN).unwrap_or_else(|_| Err(timed_out()));
    if matches!(&read, Err(error) if error.kind() == io::ErrorKind::TimedOut) {
        hanging().1 = Some(Instant::now());
    }
    read
}

fn read_until(path: &Path, limit: u64, until: Instant) -> io::Result<Vec<u8>> {
    // Opening a FIFO would wait for its writer.
    let flags = i32::try_from(OFlags::NONBLOCK.bits()).unwrap_or_default();
    let file = File::options().read(true).custom_flags(flags).open(path)?;
    let is_fifo = file.metadata()?.file_type().is_fifo();
    let (mut file, mut bytes) = (file.take(limit + 1), Vec::new());
    loop {
        if is_fifo {
            wait_for_content(file.get_ref(), until)?;
        }
        // Keeps what was read when the content ends for now.
        match file.read_to_end(&mut bytes) {
            Ok(_) => return Ok(bytes),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && is_fifo => {}
            Err(error) => return Err(error),
        }
    }
}

/// Waits until a FIFO has content, or its writer has closed it.
fn wait_for_content(fifo: &File, until: Instant) -> io::Result<()> {
    let left = until.saturating_duration_since(Instant::now());
    let left = Timespec::try_from(left).map_err(io::Error::other)?;
    let mut fifo = [PollFd::new(fifo, PollFlags::IN)];
    match poll(&mut fifo, Some(&left)) {
        Ok(0) => Err(timed_out()),
        Ok(_) => Ok(()),
        // By a signal: the caller looks again.
        Err(rustix::io::Errno::INTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn timed_out() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "it did not answer in time")
}

/// The marks of the byte order of UTF-16, which no UTF-8 begins with.
const UTF_16: [[u8; 2]; 2] = [[0xff, 0xfe], [0xfe, 0xff]];
/// The mark that some editors write before UTF-8.
const UTF_8: &[u8] = &[0xef, 0xbb, 0xbf];

/// What a file says, without a mark of the byte order; else what is wrong with it.
pub(crate) fn text(bytes: Vec<u8>) -> Result<String, &'static str> {
    let is_utf_16 = UTF_16.iter().any(|mark| bytes.starts_with(mark));
    String::from_utf8(without_mark(bytes))
        .map_err(|_| if is_utf_16 { "is UTF-16: expected UTF-8" } else { "is not valid UTF-8" })
}

/// What a file holds, without a mark of the byte order: certificates in PEM are found only where a line
/// begins with them.
pub(crate) fn without_mark(bytes: Vec<u8>) -> Vec<u8> {
    match bytes.strip_prefix(UTF_8) {
        Some(rest) => rest.to_vec(),
        None => bytes,
    }
}

/// Why a file can't be read, for a message: the reason, without the error's number.
pub(crate) fn why(error: &io::Error) -> String {
    let kind = error.kind();
    if kind == io::ErrorKind::TimedOut { error.to_string() } else { kind.to_string() }
}

#[cfg(test)]
mod tests {
    use std::process::Command;
    use std::time::Instant;

    use super::*;

    #[test]
    fn a_fifo_that_nothing_is_written_to_is_given_up_and_what_comes_later_is_the_next_readers() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("fifo");
        assert!(Command::new("mkfifo").arg(&path).status().expect("mkfifo").success());
        let began = Instant::now();
        let error = read(&path, 10).expect_err("nothing is written");
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!(began.elapsed() < 2 * WITHIN);
        // Others are not waited for as long: they may lie on the same mount.
        let began = Instant::now();
        assert!(read(&path, 10).is_err());
        assert!(began.elapsed() < WITHIN);
        for content in ["in", "time"] {
            let path = path.clone();
            let writer = thread::spawn({
                let path = path.clone();
                move || std::fs::write(path, content)
            });
            let until = Instant::now() + WITHIN;
            let mut found = read(&path, 10);
            while found.is_err() && Instant::now() < until {
                found = read(&path, 10);
            }
            assert_eq!(found.expect("read"), content.as_bytes());
            assert!(writer.join().expect("no panic").is_ok());
        }
    }

    #[test]
    fn content_that_comes_through_a_fifo_in_pieces_is_read_to_its_end() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("fifo");
        assert!(Command::new("mkfifo").arg(&path).status().expect("mkfifo").success());
        let script = "exec 3>\"$0\"; printf a >&3; sleep 0.05; printf b >&3";
        let mut writer = Command::new("sh").args(["-c", script]).arg(&path).spawn().expect("sh");
        let until = Instant::now() + WITHIN;
        let mut found = read(&path, 10);
        while found.is_err() && Instant::now() < until {
            found = read(&path, 10);
        }
        assert_eq!(found.expect("read"), b"ab");
        assert!(writer.wait().expect("ended").success());
    }

    #[test]
    fn a_mark_of_the_byte_order_is_no_content() {
        let pem = b"-----BEGIN CERTIFICATE-----".to_vec();
        assert_eq!(without_mark([UTF_8, &pem].concat()), pem);
        assert_eq!(without_mark(pem.clone()), pem);
        assert_eq!(text([UTF_8, b"a"].concat()).as_deref(), Ok("a"));
        assert_eq!(text(b"\xff\xfea\0".to_vec()), Err("is UTF-16: expected UTF-8"));
        assert_eq!(text(b"a\xff".to_vec()), Err("is not valid UTF-8"));
    }

    #[test]
    fn a_file_is_read_up_to_its_limit_and_one_byte() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), "0123456789").expect("written");
        assert_eq!(read(file.path(), 4).expect("read"), b"01234");
        assert!(read(Path::new("/nowhere/at/all"), 4).is_err());
    }
}
