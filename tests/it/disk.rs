//! P2 on a bad disk: a file system that is full, writes and syncs that fail, files that are removed.
//!
//! Nothing uncommitted is shown, polling pauses, `/metrics` serves and says so, and when the disk is
//! well again everything goes on by itself and is counted once.

use std::fs::{File, Permissions};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use crate::harness::{Program, Scrape, Twilio, eventually, metric, ongoing_calls};

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the right to mount a file system"]
async fn on_a_full_disk_it_pauses_serves_restarts_and_goes_on_when_there_is_room() {
    let twilio = Twilio::serving(ongoing_calls(2, 60)).await;
    let directory = TempDir::new().expect("a temporary directory");
    let disk = Mounted::on(&directory.path().join("data"));
    let mut program = Program::polling_in(directory, &twilio, &[]).await;
    counting(&program).await;
    let ballast = disk.fill();
    let before = paused(&program, &twilio).await;
    // Started on the full disk, it serves what it has.
    program = program.kill_and_restart().await;
    let after = eventually("the store is loaded", async || {
        let scrape = program.scrape().await;
        (scrape.durable().len() >= before.durable().len()).then_some(scrape)
    })
    .await;
    after.assert_not_below(&before);
    paused(&program, &twilio).await;
    std::fs::remove_file(ballast).expect("room again");
    went_on(&mut program, &twilio, &before).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Debian's package strace"]
async fn when_syncs_or_writes_fail_it_pauses_and_goes_on_when_they_succeed() {
    for fault in [
        "fdatasync,fsync:error=EIO",
        "pwrite64,write:error=EIO",
        "pwrite64,write:error=ENOSPC",
        "ftruncate,fallocate,pwrite64:error=EIO",
    ] {
        let twilio = Twilio::serving(ongoing_calls(2, 60)).await;
        let mut program = Program::polling(&twilio).await;
        counting(&program).await;
        let faulty = Faulty::begin(&program, fault).await;
        let before = paused(&program, &twilio).await;
        drop(faulty);
        went_on(&mut program, &twilio, &before).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Debian's package strace"]
async fn on_a_file_system_without_locks_it_says_so_and_creates_no_store() {
    for fault in
        ["flock:error=ENOLCK", "flock:error=ENOSYS", "fcntl:error=ENOLCK", "fcntl:error=EOPNOTSUPP"]
    {
        let directory = TempDir::new().expect("a temporary directory");
        let data = directory.path().join("data");
        std::fs::create_dir(&data).expect("created");
        let mut strace = Command::new("strace");
        strace.args(["--follow-forks", "-e", &format!("inject={fault}"), "--output=/dev/null"]);
        for file in ["lock", "exporter.db", "exporter.db.new"] {
            strace.arg("--trace-path").arg(data.join(file));
        }
        strace.arg(env!("CARGO_BIN_EXE_twilio-call-exporter"));
        strace.arg(format!("--storage.path={}", data.display()));
        strace.args(["--web.listen-address=127.0.0.1:0"]).env_clear();
        strace.envs([
            ("TWILIO_ACCOUNT_SID", format!("AC{:032}", 1)),
            ("TWILIO_AUTH_TOKEN", "0".repeat(32)),
        ]);
        let ended = strace.output().expect("strace runs");
        let said = String::from_utf8_lossy(&ended.stderr);
        assert_eq!(ended.status.code(), Some(1), "{fault}: {said}");
        assert!(
            said.contains("refuses file locks") && said.contains("local disk"),
            "{fault}: {said}"
        );
        assert!(!data.join("exporter.db").exists(), "{fault}");
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Debian's package strace"]
async fn killed_while_syncs_fail_it_has_lost_nothing_that_it_showed() {
    let twilio = Twilio::serving(ongoing_calls(2, 60)).await;
    let mut program = Program::polling(&twilio).await;
    counting(&program).await;
    let faulty = Faulty::begin(&program, "fdatasync,fsync:error=EIO").await;
    let before = paused(&program, &twilio).await;
    drop(faulty);
    program = program.kill_and_restart().await;
    went_on(&mut program, &twilio, &before).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_store_is_moved_away_it_pauses_and_says_so_and_goes_on_when_it_is_back() {
    let twilio = Twilio::serving(ongoing_calls(2, 60)).await;
    let mut program = Program::polling(&twilio).await;
    counting(&program).await;
    let (file, away) = (program.storage().join("exporter.db"), program.storage().join("away"));
    std::fs::rename(&file, &away).expect("moved");
    let before = lost(&program, &twilio).await;
    std::fs::rename(&away, &file).expect("moved back");
    went_on(&mut program, &twilio, &before).await;
    assert_eq!(program.get("/-/ready").await.0, 200);
    let says = |what: &str| program.log().lines().filter(|line| line.contains(what)).count();
    assert_eq!((says("nothing is counted until it is back"), says("files are back")), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_is_removed_is_not_begun_again_beside_its_log() {
    let twilio = Twilio::serving(ongoing_calls(2, 60)).await;
    let program = Program::polling(&twilio).await;
    counting(&program).await;
    let (directory, storage) = (program.directory(), program.storage());
    std::fs::remove_file(storage.join("exporter.db")).expect("removed");
    lost(&program, &twilio).await;
    let ended = program.kill_and_spawn().ends().await;
    assert_eq!(ended.code(), Some(1));
    let log = std::fs::read_to_string(directory.path().join("log")).expect("a log");
    assert!(log.contains("it is missing, and its log exporter.db-wal isn't empty"), "{log}");
    assert!(!storage.join("exporter.db").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_others_may_read_is_named_with_what_to_do() {
    let twilio = Twilio::serving(ongoing_calls(1, 5)).await;
    let program = Program::polling(&twilio).await;
    let storage = program.storage();
    let says = |program: &Program, path: &Path| {
        let text = format!("chmod go= {}", path.display());
        program.log().lines().any(|line| line.contains("WARN") && line.contains(&text))
    };
    assert!(!says(&program, &storage), "{}", program.log());
    for (path, mode) in [(storage.clone(), 0o750), (storage.join("exporter.db"), 0o604)] {
        std::fs::set_permissions(path, Permissions::from_mode(mode)).expect("set");
    }
    let program = program.kill_and_restart().await;
    for path in [storage.clone(), storage.join("exporter.db")] {
        assert!(says(&program, &path), "{}: {}", path.display(), program.log());
    }
    assert!(!says(&program, &storage.join("lock")));
}

/// Waits until the program has noticed that its store is gone, and asserts what must hold meanwhile.
async fn lost(program: &Program, twilio: &Twilio) -> Scrape {
    let writable = metric("twilio_exporter_store_writable");
    eventually("the loss is noticed", async || {
        (program.get("/-/ready").await.0 == 503).then_some(())
    })
    .await;
    let first = program.scrape().await;
    assert!(writable.is_in(&first, 0.0));
    let errors = metric("twilio_exporter_store_errors_total");
    let scrape = eventually("commits are tried again", async || {
        let scrape = program.scrape().await;
        errors.value_in(&scrape).is_some_and(|count| count >= 6.0).then_some(scrape)
    })
    .await;
    let asked = twilio.requests();
    let scrape = eventually("and again", async || {
        let now = program.scrape().await;
        (errors.value_in(&now) >= errors.value_in(&scrape).map(|count| count + 2.0)).then_some(now)
    })
    .await;
    let more = twilio.requests() - asked;
    assert!(more <= 2 * MAX_CONCURRENCY, "{more} requests while nothing could be counted");
    assert_eq!(scrape.durable(), first.durable(), "something uncommitted is shown");
    assert!(writable.is_in(&scrape, 0.0));
    scrape
}

/// Waits until something was counted.
async fn counting(program: &Program) {
    eventually("events are counted", async || {
        let scrape = program.scrape().await;
        metric("twilio_webhook_requests_total").value_in(&scrape).filter(|count| *count > 20.0)
    })
    .await;
}

/// Waits until commits fail again and again, and asserts what must hold meanwhile.
async fn paused(program: &Program, twilio: &Twilio) -> Scrape {
    let errors = metric("twilio_exporter_store_errors_total");
    eventually("a commit failed", async || {
        errors.value_in(&program.scrape().await).filter(|count| *count >= 2.0)
    })
    .await;
    // Both accounts stand still by now, or do so at their next commit.
    let (first, asked) = (program.scrape().await, twilio.requests());
    let now = errors.value_in(&first).expect("a count");
    let scrape = eventually("commits are tried again", async || {
        let scrape = program.scrape().await;
        errors.value_in(&scrape).is_some_and(|count| count >= now + 4.0).then_some(scrape)
    })
    .await;
    let more = twilio.requests() - asked;
    assert!(more <= 2 * MAX_CONCURRENCY, "{more} requests while nothing could be counted");
    assert!(metric("twilio_exporter_store_writable").is_in(&scrape, 0.0));
    assert_eq!(scrape.durable(), first.durable(), "something uncommitted is shown");
    let (status, page) = program.get("/").await;
    assert!(status == 200 && page.contains("The store can't be written"), "{page}");
    assert_eq!(program.get("/-/ready").await.0, 200, "a full disk is no reason to be restarted");
    assert!(program.log().contains("polling pauses until the store can be written"));
    scrape
}

/// Waits until everything is counted, and asserts that it went on by itself.
async fn went_on(program: &mut Program, twilio: &Twilio, before: &Scrape) {
    let scrape = twilio.wait_until_counted_by(program).await;
    scrape.assert_not_below(before);
    assert!(metric("twilio_exporter_store_writable").is_in(&scrape, 1.0));
    assert!(!program.get("/").await.1.contains("can't be written"));
}

/// Requests in flight per account, as the harness sets it.
const MAX_CONCURRENCY: u64 = 8;

/// A small file system of its own.
struct Mounted(PathBuf);

impl Mounted {
    fn on(path: &Path) -> Self {
        std::fs::create_dir(path).expect("a mount point");
        let mount = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=8m", "tmpfs"])
            .arg(path)
            .output()
            .expect("mount runs");
        assert!(mount.status.success(), "{mount:?}");
        Self(path.to_owned())
    }

    /// Fills it up to the last byte.
    fn fill(&self) -> PathBuf {
        let path = self.0.join("ballast");
        let mut file = File::create(&path).expect("a file");
        for size in [1 << 16, 1] {
            while file.write_all(&vec![0; size]).is_ok() {}
        }
        path
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // Lazily: the program may still have its files open.
        let _gone = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// A program whose system calls fail, on the files of its store alone.
struct Faulty(Child);

impl Faulty {
    async fn begin(program: &Program, fault: &str) -> Self {
        let log = program.directory().path().join("strace");
        let calls = fault.split(':').next().expect("system calls");
        let mut strace = Command::new("strace");
        strace.args(["--follow-forks", "--attach", &program.id().to_string()]);
        strace.args(["-e", &format!("trace={calls}"), "-e", &format!("inject={fault}")]);
        for file in ["exporter.db", "exporter.db-wal"] {
            strace.arg("--trace-path").arg(program.storage().join(file));
        }
        let child = strace
            .arg("--output")
            .arg(&log)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("strace starts");
        let faulty = Self(child);
        eventually("a system call fails", async || {
            let text = std::fs::read_to_string(&log).unwrap_or_default();
            text.contains("INJECTED").then_some(())
        })
        .await;
        faulty
    }
}

impl Drop for Faulty {
    fn drop(&mut self) {
        // Asked to end, it lets go of the program; killed, it would leave it stopped.
        crate::harness::signal(&self.0, "TERM");
        let _ended = self.0.wait();
    }
}
