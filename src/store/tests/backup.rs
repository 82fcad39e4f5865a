//! Tests of backups taken while the store is written.

use super::*;
use crate::store::backup::backup;
use crate::store::files::Paths;

#[tokio::test(flavor = "multi_thread")]
async fn backups_of_a_busy_store_are_intact_and_current() {
    let directory = directory();
    let (store, _thread) = open(&directory).expect("a store");
    let id = attach(&store, "us1").await.id;
    let is_over = Arc::new(AtomicBool::new(false));
    let busy = tokio::spawn({
        let (store, is_over) = (store.clone(), Arc::clone(&is_over));
        async move {
            while !is_over.load(Ordering::SeqCst) {
                let finished = Fact::Finished(Direction::Inbound, CallStatus::Completed);
                // Each writes some pages, so that the log restarts now and then.
                let calls = (0..200).map(numbered).collect();
                let batch = Batch { facts: vec![finished], calls, ..Batch::default() };
                store.commit(id, Arc::new(batch)).await.expect("committed");
            }
        }
    });
    for number in 0..5 {
        let copy = TempDir::new().expect("a temporary directory");
        let before = finished(&store, id);
        let (from, to) = (directory.path().to_owned(), copy.path().join("exporter.db"));
        let copied = tokio::task::spawn_blocking(move || backup(&from, &to)).await;
        copied.expect("no panic").unwrap_or_else(|error| panic!("backup {number}: {error}"));
        let after = finished(&store, id);
        let (restored, _thread) = open(&copy).expect("an intact store");
        let id = attach(&restored, "us1").await.id;
        let found = finished(&restored, id);
        assert!((before..=after + 1).contains(&found), "{before} {found} {after}");
        until(|| finished(&store, id) > after).await;
    }
    is_over.store(true, Ordering::SeqCst);
    busy.await.expect("no panic");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_copy_is_repeated_if_the_log_restarts() {
    let (directory, copy) = (directory(), directory());
    let (store, _thread) = open(&directory).expect("a store");
    let id = attach(&store, "us1").await.id;
    fill(&store, id).await;
    let [from, to] = [&directory, &copy].map(|directory| Paths::in_directory(directory.path()));
    let header = |log: &Path| std::fs::read(log).expect("a log")[..32].to_owned();
    let (runtime, writing) = (tokio::runtime::Handle::current(), store.clone());
    let attempts = tokio::task::spawn_blocking(move || {
        let mut attempts = 0;
        copy_during(&from, &to, || {
            attempts += 1;
            let before = header(&from.log);
            while attempts == 1 && header(&from.log) == before {
                runtime.block_on(fill(&writing, id));
            }
        });
        attempts
    });
    assert_eq!(attempts.await.expect("no panic"), 2);
    let (restored, _thread) = open(&copy).expect("an intact store");
    let id = attach(&restored, "us1").await.id;
    assert_eq!(finished(&restored, id), finished(&store, id));
}

/// Commits some thousand rows, and counts one call.
async fn fill(store: &Store, id: AccountId) {
    let facts = vec![Fact::Finished(Direction::Inbound, CallStatus::Completed)];
    let calls = (0..2_000).map(numbered).collect();
    let batch = Batch { facts, calls, ..Batch::default() };
    store.commit(id, Arc::new(batch)).await.expect("committed");
}

fn copy_during(from: &Paths, to: &Paths, between: impl FnMut()) {
    crate::store::backup::copy(from, to, &to.database, between).expect("copied");
    crate::store::backup::merge(to).expect("an intact store");
}

fn numbered(number: u32) -> CallProgress {
    let mut call = progress();
    call.sid = CallSid::parse(&format!("CA{number:032x}")).expect("a SID");
    call
}
