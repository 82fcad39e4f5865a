//! Disk faults: a full file system, failing writes and syncs, missing file locks, and removed files.
//!
//! While the store can't be written, polling pauses, `/metrics` reports the fault and shows nothing
//! uncommitted. Once the disk works again, polling resumes and everything is counted exactly once.

use std::fs::{File, Permissions};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use crate::harness::{Program, Scrape, Twilio, eventually, metric, ongoing_calls};

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the privilege to mount a file system"]
async fn on_a_full_disk_polling_pauses_and_resumes_when_space_is_available() {
    let twilio = Twilio::serving(ongoing_calls(2, 60)).await;
    let directory = TempDir::new().expect("a temporary directory");
    let disk = SmallDisk::mount(&directory.path().join("data"));
    let mut program = Program::polling_in(directory, &twilio, &[]).await;
    wait_for_requests(&program).await;
    let ballast = disk.fill();
    let before = assert_paused(&program, &twilio).await;
    // Restarted on the full disk, it serves the stored values.
    program = program.kill_and_restart().await;
    let after = eventually("the store is loaded", async || {
        let scrape = program.scrape().await;
        (scrape.durable().len() >= before.durable().len()).then_some(scrape)
    })
    .await;
    after.assert_not_below(&before);
    assert_paused(&program, &twilio).await;
    std::fs::remove_file(ballast).expect("removed");
    assert_recovered(&mut program, &twilio, &before).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Debian's package strace"]
async fn failing_writes_or_syncs_pause_polling_until_they_succeed() {
    for fault in [
        "fdatasync,fsync:error=EIO",
        "pwrite64,write:error=EIO",
        "pwrite64,write:error=ENOSPC",
        "ftruncate,fallocate,pwrite64:error=EIO",
    ] {
        let twilio = Twilio::serving(ongoing_calls(2, 60)).await;
        let mut program = Program::polling(&twilio).await;
        wait_for_requests(&program).await;
        let faulty = FaultInjection::start(&program, fault).await;
        let before = assert_paused(&program, &twilio).await;
        drop(faulty);
        assert_recovered(&mut program, &twilio, &before).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Debian's package strace"]
async fn without_file_locks_startup_fails_and_no_store_is_created() {
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
        let stderr = String::from_utf8_lossy(&ended.stderr);
        assert_eq!(ended.status.code(), Some(1), "{fault}: {stderr}");
        assert!(
            stderr.contains("refuses file locks") && stderr.contains("local disk"),
            "{fault}: {stderr}"
        );
        assert!(!data.join("exporter.db").exists(), "{fault}");
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Debian's package strace"]
async fn a_kill_while_syncs_fail_loses_no_exposed_value() {
    let twilio = Twilio::serving(ongoing_calls(2, 60)).await;
    let mut program = Program::polling(&twilio).await;
    wait_for_requests(&program).await;
    let faulty = FaultInjection::start(&program, "fdatasync,fsync:error=EIO").await;
    let before = assert_paused(&program, &twilio).await;
    drop(faulty);
    program = program.kill_and_restart().await;
    assert_recovered(&mut program, &twilio, &before).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn polling_pauses_while_the_store_is_moved_away_and_resumes_when_it_is_back() {
    let twilio = Twilio::serving(ongoing_calls(2, 60)).await;
    let mut program = Program::polling(&twilio).await;
    wait_for_requests(&program).await;
    let (file, away) = (program.storage().join("exporter.db"), program.storage().join("away"));
    std::fs::rename(&file, &away).expect("moved");
    let before = assert_store_missing(&program, &twilio).await;
    std::fs::rename(&away, &file).expect("moved back");
    assert_recovered(&mut program, &twilio, &before).await;
    assert_eq!(program.get("/-/ready").await.0, 200);
    let lines = |text: &str| program.log().lines().filter(|line| line.contains(text)).count();
    assert_eq!((lines("nothing is counted until it is back"), lines("files are back")), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removed_store_is_not_recreated_next_to_its_log() {
    let twilio = Twilio::serving(ongoing_calls(2, 60)).await;
    let program = Program::polling(&twilio).await;
    wait_for_requests(&program).await;
    let (directory, storage) = (program.directory(), program.storage());
    std::fs::remove_file(storage.join("exporter.db")).expect("removed");
    assert_store_missing(&program, &twilio).await;
    let ended = program.kill_and_spawn().ends().await;
    assert_eq!(ended.code(), Some(1));
    let log = std::fs::read_to_string(directory.path().join("log")).expect("a log");
    assert!(log.contains("it is missing, and its log exporter.db-wal isn't empty"), "{log}");
    assert!(!storage.join("exporter.db").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_others_can_read_is_logged_with_the_chmod_command() {
    let twilio = Twilio::serving(ongoing_calls(1, 5)).await;
    let program = Program::polling(&twilio).await;
    let storage = program.storage();
    let warns = |program: &Program, path: &Path| {
        let text = format!("chmod go= {}", path.display());
        program.log().lines().any(|line| line.contains("WARN") && line.contains(&text))
    };
    assert!(!warns(&program, &storage), "{}", program.log());
    for (path, mode) in [(storage.clone(), 0o750), (storage.join("exporter.db"), 0o604)] {
        std::fs::set_permissions(path, Permissions::from_mode(mode)).expect("set");
    }
    let program = program.kill_and_restart().await;
    for path in [storage.clone(), storage.join("exporter.db")] {
        assert!(warns(&program, &path), "{}: {}", path.display(), program.log());
    }
    assert!(!warns(&program, &storage.join("lock")));
}

/// Waits until the program detects that its store is missing, and checks that it pauses.
async fn assert_store_missing(program: &Program, twilio: &Twilio) -> Scrape {
    let writable = metric("twilio_exporter_store_writable");
    eventually("the missing store is detected", async || {
        (program.get("/-/ready").await.0 == 503).then_some(())
    })
    .await;
    let first = program.scrape().await;
    assert!(writable.is_in(&first, 0.0));
    let errors = metric("twilio_exporter_store_errors_total");
    let scrape = eventually("commits are retried", async || {
        let scrape = program.scrape().await;
        errors.value_in(&scrape).is_some_and(|count| count >= 6.0).then_some(scrape)
    })
    .await;
    let requests_before = twilio.requests();
    let scrape = eventually("commits are retried further", async || {
        let now = program.scrape().await;
        (errors.value_in(&now) >= errors.value_in(&scrape).map(|count| count + 2.0)).then_some(now)
    })
    .await;
    let more = twilio.requests() - requests_before;
    assert!(more <= 2 * MAX_CONCURRENCY, "{more} requests during the pause");
    assert_eq!(scrape.durable(), first.durable(), "uncommitted values are exposed");
    assert!(writable.is_in(&scrape, 0.0));
    scrape
}

/// Waits until requests are counted.
async fn wait_for_requests(program: &Program) {
    eventually("requests are counted", async || {
        let scrape = program.scrape().await;
        metric("twilio_webhook_requests_total").value_in(&scrape).filter(|count| *count > 20.0)
    })
    .await;
}

/// Waits until several commits have failed, and checks that polling pauses and that it is reported.
async fn assert_paused(program: &Program, twilio: &Twilio) -> Scrape {
    let errors = metric("twilio_exporter_store_errors_total");
    eventually("commits fail", async || {
        errors.value_in(&program.scrape().await).filter(|count| *count >= 2.0)
    })
    .await;
    // Both accounts are paused by now, or pause at their next commit.
    let (first, requests_before) = (program.scrape().await, twilio.requests());
    let now = errors.value_in(&first).expect("a count");
    let scrape = eventually("commits are retried", async || {
        let scrape = program.scrape().await;
        errors.value_in(&scrape).is_some_and(|count| count >= now + 4.0).then_some(scrape)
    })
    .await;
    let more = twilio.requests() - requests_before;
    assert!(more <= 2 * MAX_CONCURRENCY, "{more} requests during the pause");
    assert!(metric("twilio_exporter_store_writable").is_in(&scrape, 0.0));
    assert_eq!(scrape.durable(), first.durable(), "uncommitted values are exposed");
    let (status, page) = program.get("/").await;
    assert!(status == 200 && page.contains("The store can't be written"), "{page}");
    assert_eq!(program.get("/-/ready").await.0, 200, "a full disk doesn't call for a restart");
    assert!(program.log().contains("polling pauses until the store can be written"));
    scrape
}

/// Waits until everything is counted, and checks that the fault is no longer reported.
async fn assert_recovered(program: &mut Program, twilio: &Twilio, before: &Scrape) {
    let scrape = twilio.wait_until_counted_by(program).await;
    scrape.assert_not_below(before);
    assert!(metric("twilio_exporter_store_writable").is_in(&scrape, 1.0));
    assert!(!program.get("/").await.1.contains("can't be written"));
}

/// The limit on concurrent requests per account that the harness configures.
const MAX_CONCURRENCY: u64 = 8;

/// A small tmpfs.
pub(crate) struct SmallDisk(PathBuf);

impl SmallDisk {
    pub(crate) fn mount(path: &Path) -> Self {
        std::fs::create_dir(path).expect("a mount point");
        let mount = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=8m", "tmpfs"])
            .arg(path)
            .output()
            .expect("mount runs");
        assert!(mount.status.success(), "{mount:?}");
        Self(path.to_owned())
    }

    /// Fills the disk to the last byte; returns the file to remove.
    pub(crate) fn fill(&self) -> PathBuf {
        let path = self.0.join("ballast");
        let mut file = File::create(&path).expect("a file");
        for size in [1 << 16, 1] {
            while file.write_all(&vec![0; size]).is_ok() {}
        }
        path
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazy: the program may still have files open.
        let _unmounted = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// An attached strace that makes system calls fail on the store's files only.
struct FaultInjection(Child);

impl FaultInjection {
    async fn start(program: &Program, fault: &str) -> Self {
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
        let injection = Self(child);
        eventually("a system call fails", async || {
            let text = std::fs::read_to_string(&log).unwrap_or_default();
            text.contains("INJECTED").then_some(())
        })
        .await;
        injection
    }
}

impl Drop for FaultInjection {
    fn drop(&mut self) {
        // On SIGTERM, strace detaches from the program; on SIGKILL, it would leave the program stopped.
        crate::harness::signal(&self.0, "TERM");
        let _ended = self.0.wait();
    }
}
