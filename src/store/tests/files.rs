//! Tests of files that are removed or replaced while in use, of links, and of half-created stores.

use std::fs;
use std::os::unix::fs::symlink;

use super::*;

#[tokio::test]
async fn nothing_is_counted_while_the_store_is_removed() {
    for name in ["exporter.db", "exporter.db-wal", ""] {
        let directory = directory();
        let data = directory.path().join("data");
        let registry = Registry::new();
        let health = Health::register(&registry).expect("instruments");
        health.store_opened(Timestamp::UNIX_EPOCH);
        let (store, thread) = Store::open(&data, limits(), health, now).expect("a new store");
        let id = attach(&store, "us1").await.id;
        commit(&store, id).await.expect("committed");
        let (is_lost, writable) = (store.is_lost(), "twilio_exporter_store_writable");
        assert!(!is_lost() && value(&registry, writable) > 0.0);
        let (file, away) = (data.join(name), directory.path().join("away"));
        fs::rename(&file, &away).expect("moved");
        until(&is_lost).await;
        assert_eq!(value(&registry, writable), 0.0, "{name}");
        let refused = commit(&store, id).await.expect_err("refused").to_string();
        assert!(refused.contains("removed while in use"), "{refused}");
        let key = AccountKey { sid: sid(), region: "ie1".to_owned() };
        store.attach(key, "other".to_owned()).await.expect_err("not written either");
        assert_eq!(finished(&store, id), 1, "the counts are still served");
        fs::rename(&away, &file).expect("moved back");
        until(|| !is_lost()).await;
        assert_eq!(value(&registry, writable), 1.0, "{name}");
        commit(&store, id).await.expect("committed");
        drop_store_ok((store, thread));
        let (store, _thread) = open_at(&data).expect("the same store");
        assert_eq!(finished(&store, id), 2, "{name}");
    }
}

#[tokio::test]
async fn a_file_that_replaces_the_store_is_never_written() {
    let directory = directory();
    let backup = {
        let (store, thread) = open(&directory).expect("a new store");
        let id = attach(&store, "us1").await.id;
        store.commit(id, Arc::new(calls(0..1_000))).await.expect("committed");
        drop_store_ok((store, thread));
        fs::read(file(&directory)).expect("read")
    };
    // Renamed over the file, as good tools do; copied into it; and truncated.
    let replaced: [(&str, Replace); 3] = [
        ("replaced", |directory, backup| {
            let other = directory.path().join("other");
            fs::write(&other, backup).expect("written");
            fs::rename(other, file(directory)).expect("moved");
        }),
        ("overwritten", |directory, backup| fs::write(file(directory), backup).expect("written")),
        ("overwritten", |directory, _| fs::write(file(directory), b"").expect("truncated")),
    ];
    for (what, replace) in replaced {
        let (store, thread) = open(&directory).expect("the store");
        let id = attach(&store, "us1").await.id;
        // Enough for the file to be longer than the backup, and too little for SQLite to detect.
        store.commit(id, Arc::new(calls(1_000..1_100))).await.expect("committed");
        drop_store_ok((store, thread));
        let (store, thread) = open(&directory).expect("the store");
        let id = attach(&store, "us1").await.id;
        commit(&store, id).await.expect("committed");
        replace(&directory, &backup);
        let is_lost = store.is_lost();
        until(&is_lost).await;
        let after = fs::read(file(&directory)).expect("read");
        let refused = commit(&store, id).await.expect_err("refused").to_string();
        assert!(refused.contains(what), "{refused}");
        drop_store_ok((store, thread));
        assert_eq!(
            fs::read(file(&directory)).expect("read"),
            after,
            "{what}: the file was written"
        );
        let message = refusal(&directory);
        assert!(message.contains("backup"), "{what}: {message}");
        let _log = fs::remove_file(directory.path().join("exporter.db-wal"));
        fs::write(file(&directory), &backup).expect("restored");
    }
}

#[tokio::test]
async fn a_removed_log_is_saved_when_the_program_stops() {
    let directory = directory();
    let (store, thread) = open(&directory).expect("a new store");
    let id = attach(&store, "us1").await.id;
    commit(&store, id).await.expect("committed");
    fs::remove_file(directory.path().join("exporter.db-wal")).expect("removed");
    let is_lost = store.is_lost();
    until(&is_lost).await;
    drop_store_ok((store, thread));
    let (store, _thread) = open(&directory).expect("the same store");
    assert_eq!(finished(&store, id), 1);
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn deleted_files_can_be_copied_while_the_program_runs() {
    let directory = directory();
    let (store, thread) = open(&directory).expect("a new store");
    let id = attach(&store, "us1").await.id;
    commit(&store, id).await.expect("committed");
    for name in ["exporter.db", "exporter.db-wal"] {
        fs::remove_file(directory.path().join(name)).expect("removed");
    }
    let is_lost = store.is_lost();
    until(&is_lost).await;
    for open in fs::read_dir("/proc/self/fd").expect("proc") {
        let open = open.expect("an entry").path();
        let Ok(target) = fs::read_link(&open) else { continue };
        let target = target.to_str().expect("UTF-8");
        if let Some(deleted) = target.strip_suffix(" (deleted)")
            && deleted.starts_with(directory.path().to_str().expect("UTF-8"))
        {
            fs::copy(&open, format!("{deleted}.copy")).expect("copied");
        }
    }
    drop_store_ok((store, thread));
    for name in ["exporter.db", "exporter.db-wal"] {
        let path = directory.path().join(name);
        fs::rename(format!("{}.copy", path.display()), path).expect("moved");
    }
    let (store, _thread) = open(&directory).expect("the same store");
    assert_eq!(finished(&store, id), 1);
}

#[test]
fn a_store_without_its_lock_file_is_not_opened_twice() {
    let directory = directory();
    let (_store, _thread) = open(&directory).expect("a new store");
    fs::remove_file(directory.path().join("lock")).expect("removed");
    let message = refusal(&directory);
    assert!(message.contains("another program has"), "{message}");
}

#[test]
fn links_to_the_directory_are_followed_but_not_those_in_it() {
    let elsewhere = directory();
    let theirs = elsewhere.path().join("theirs");
    for name in ["lock", "exporter.db", "exporter.db-wal", "exporter.db-journal"] {
        let directory = directory();
        drop_store(open(&directory));
        fs::write(&theirs, b"theirs").expect("written");
        let link = directory.path().join(name);
        let _none = fs::remove_file(&link);
        symlink(&theirs, link).expect("linked");
        let message = refusal(&directory);
        assert!(message.contains("symbolic link"), "{name}: {message}");
        assert_eq!(fs::read(&theirs).expect("read"), b"theirs", "{name}");
    }
    let directory = directory();
    let link = elsewhere.path().join("data");
    symlink(directory.path(), &link).expect("linked");
    drop_store(open_at(&link));
    drop_store(open(&directory));
}

#[test]
fn a_fifo_in_place_of_the_database_is_refused_at_once() {
    let directory = directory();
    let made = std::process::Command::new("mkfifo").arg(file(&directory)).status();
    assert!(made.expect("mkfifo").success());
    assert!(refusal(&directory).contains("is not a store"));
}

#[test]
fn a_half_created_store_is_created_again() {
    let directory = directory();
    for leftover in ["exporter.db.new", "exporter.db.new-wal", "exporter.db.new-journal"] {
        fs::write(directory.path().join(leftover), b"half of it").expect("written");
    }
    let (store, thread) = open(&directory).expect("a new store");
    assert!(store.is_new());
    drop_store_ok((store, thread));
    let names = fs::read_dir(directory.path()).expect("a directory");
    let mut names: Vec<_> =
        names.map(|entry| entry.expect("an entry").file_name().into_string()).collect();
    names.sort();
    assert_eq!(names, [Ok("exporter.db".to_owned()), Ok("lock".to_owned())]);
}

/// Replaces the database, given a backup.
type Replace = fn(&TempDir, &[u8]);

async fn commit(store: &Store, id: AccountId) -> Result<CommitReport, CommitError> {
    let facts = vec![Fact::Finished(Direction::Inbound, CallStatus::Completed)];
    store.commit(id, Arc::new(Batch { facts, ..Batch::default() })).await
}

fn calls(numbers: std::ops::Range<usize>) -> Batch {
    let call = |number: usize| {
        let sid = CallSid::parse(&format!("CA{number:032x}")).expect("a SID");
        CallProgress { sid, ..progress() }
    };
    Batch { calls: numbers.map(call).collect(), ..Batch::default() }
}
