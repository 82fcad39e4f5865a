//! `backup`: copying a store while it is in use, and restoring it.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

use crate::harness::{Ended, Program, Twilio, eventually, metric, ongoing_calls, run, world_of};

#[tokio::test(flavor = "multi_thread")]
async fn a_restored_backup_of_a_running_program_counts_everything_since() {
    let twilio = Twilio::serving(ongoing_calls(2, 40)).await;
    let program = Program::polling(&twilio).await;
    let counted = metric("twilio_webhook_requests_total");
    let before = eventually("requests are counted", async || {
        let scrape = program.scrape().await;
        counted.value_in(&scrape).is_some_and(|count| count > 5.0).then_some(scrape)
    })
    .await;
    let elsewhere = TempDir::new().expect("a temporary directory");
    let copy = elsewhere.path().join("backup.db");
    let taken = back_up(&program.storage(), &copy);
    assert_eq!(taken.code, Some(0), "{}", taken.stderr);
    assert!(taken.stdout.contains("backup.db"), "{}", taken.stdout);
    let mode = fs::metadata(&copy).expect("a file").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(names(elsewhere.path()), ["backup.db"]);
    let at_backup = program.scrape().await;
    let later = eventually("counting continues", async || {
        let scrape = program.scrape().await;
        (counted.value_in(&scrape) > counted.value_in(&at_backup)).then_some(scrape)
    })
    .await;
    later.assert_not_below(&at_backup);
    // Replace everything in the storage directory with the backup.
    let mut program = program
        .stop_and(|storage| {
            for name in names(storage) {
                fs::remove_file(storage.join(name)).expect("removed");
            }
            fs::copy(&copy, storage.join("exporter.db")).expect("copied");
        })
        .await;
    program.scrape().await.assert_not_below(&before);
    twilio.wait_until_counted_by(&mut program).await;
    assert!(!program.log().contains("created a new store"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_after_a_kill_leaves_the_store_unchanged() {
    let twilio = Twilio::serving(world_of(5)).await;
    let mut program = Program::polling(&twilio).await;
    let before = twilio.wait_until_counted_by(&mut program).await;
    let elsewhere = TempDir::new().expect("a temporary directory");
    let directory = program.directory();
    let storage = program.storage();
    program.signal("KILL");
    program.ends().await;
    let killed = contents(&storage);
    assert!(killed.iter().any(|(name, bytes)| name == "exporter.db-wal" && !bytes.is_empty()));
    let copy = elsewhere.path().join("killed.db");
    assert_eq!(back_up(&storage, &copy).code, Some(0));
    assert_eq!(contents(&storage), killed);
    let restored = Program::polling_in(directory_with_store(&copy), &twilio, &[]).await;
    restored.scrape().await.assert_not_below(&before);
    assert_eq!(restored.stop().await.code(), Some(0));
    drop(directory);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_backup_overwrites_nothing_and_leaves_no_files() {
    let twilio = Twilio::serving(world_of(1)).await;
    let program = Program::polling(&twilio).await;
    let (directory, storage) = (program.directory(), program.storage());
    assert_eq!(program.stop().await.code(), Some(0));
    let outside = directory.path().join("outside");
    fs::create_dir(&outside).expect("created");
    fs::write(outside.join("kept"), "kept").expect("written");
    std::os::unix::fs::symlink("nowhere", outside.join("link")).expect("linked");
    let before = (contents(&storage), names(&outside));
    for (target, expected) in [
        (outside.join("kept"), "already exists"),
        (outside.join("link"), "already exists"),
        (outside.clone(), "already exists"),
        (outside.join("new/"), "doesn't name a file"),
        (outside.join(".."), "doesn't name a file"),
        (outside.join("no/where.db"), "cannot write the backup"),
        (storage.join("exporter.db"), "store's own files"),
        (storage.join("exporter.db-wal"), "store's own files"),
        (storage.join("exporter.db-journal"), "store's own files"),
        (storage.join("exporter.db.new"), "store's own files"),
        (storage.join("lock"), "store's own files"),
        (outside.join("../data/exporter.db-shm"), "store's own files"),
    ] {
        let refused = back_up(&storage, &target);
        assert_eq!(refused.code, Some(1), "{}: {}", target.display(), refused.stdout);
        assert!(refused.stderr.contains(expected), "{}: {}", target.display(), refused.stderr);
    }
    for empty in [outside.clone(), outside.join("missing")] {
        let refused = back_up(&empty, &directory.path().join("copy.db"));
        assert_eq!(refused.code, Some(1));
        assert!(refused.stderr.contains("there is no store"), "{}", refused.stderr);
    }
    let fifo = directory.path().join("fifo");
    fs::create_dir(&fifo).expect("created");
    let made = Command::new("mkfifo").arg(fifo.join("exporter.db")).status();
    assert!(made.expect("mkfifo runs").success());
    let refused = back_up(&fifo, &directory.path().join("copy.db"));
    assert_eq!(refused.code, Some(1));
    assert!(refused.stderr.contains("not a regular file"), "{}", refused.stderr);
    // The backup of a damaged store would be damaged too.
    let damaged = directory.path().join("damaged");
    fs::create_dir(&damaged).expect("created");
    let mut bytes = fs::read(storage.join("exporter.db")).expect("read");
    for byte in bytes.iter_mut().skip(8_192).step_by(100) {
        *byte ^= 0x55;
    }
    fs::write(damaged.join("exporter.db"), bytes).expect("written");
    let refused = back_up(&damaged, &directory.path().join("copy.db"));
    assert_eq!(refused.code, Some(1), "{}", refused.stdout);
    assert!(refused.stderr.contains("failed its checks"), "{}", refused.stderr);
    assert_eq!((contents(&storage), names(&outside)), before);
    assert_eq!(fs::read_to_string(outside.join("kept")).expect("read"), "kept");
    assert!(!directory.path().join("copy.db").exists());
    assert_eq!(run(&["backup"], &[]).code, Some(64));
}

fn back_up(storage: &Path, target: &Path) -> Ended {
    let storage = format!("--storage.path={}", storage.display());
    run(&["backup", target.to_str().expect("UTF-8"), &storage], &[])
}

/// Returns a program directory with `copy` as its store.
fn directory_with_store(copy: &Path) -> TempDir {
    let directory = TempDir::new().expect("a temporary directory");
    let storage = directory.path().join("data");
    fs::create_dir(&storage).expect("created");
    fs::copy(copy, storage.join("exporter.db")).expect("copied");
    directory
}

fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).expect("a directory");
    let names = entries.map(|entry| entry.expect("an entry").file_name().into_string());
    let names: BTreeSet<String> = names.map(|name| name.expect("UTF-8")).collect();
    names.into_iter().collect()
}

fn contents(directory: &Path) -> Vec<(String, Vec<u8>)> {
    let read = |name: String| (name.clone(), fs::read(directory.join(name)).expect("read"));
    names(directory).into_iter().map(read).collect()
}
