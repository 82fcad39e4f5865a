//! Tests of the writer: commits and their failures, restarts, labels, and releases of held series.

mod backup;
mod compact;
mod creation;
mod damage;
mod error_log;
mod failures;
mod faults;
mod files;
mod first_failure;
mod migration;
mod opening;
mod retire;
mod room;
mod subaccounts;

use std::path::PathBuf;
use std::time::Duration;

use prometheus::Registry;
use rusqlite::Connection;
use tempfile::TempDir;

use super::*;
use crate::domain::engine::effects::Fact;
use crate::domain::track::digest::{Digest, DigestVersion};
use crate::domain::track::progress::Multiset;
use crate::domain::words::call::{Call, CallStatus, Direction};
use crate::domain::words::sid::CallSid;
use crate::metrics::ledger::{Cell, Scope};

use error_log::reported;
use faults::{open_with_failing_writes, open_with_fault_injector};

#[tokio::test]
async fn committed_data_survives_a_restart() {
    let directory = directory();
    let mut call = progress();
    call.counted = Multiset::new(vec![(Digest(7), 2)]);
    call.digest_version = DigestVersion::from_number(0).expect("a known version");
    call.credits = Multiset::new(vec![(Digest(9), 1)]);
    let (key, cursor) = {
        let (store, thread) = open(&directory).expect("a new store");
        assert!(store.is_new());
        let attached = attach(&store, "us1").await;
        let batch = Batch {
            facts: vec![Fact::Finished(Direction::Inbound, CallStatus::Completed)],
            calls: vec![call.clone()],
            lists: ListProgress { cursor: Some(now()), ..ListProgress::default() },
            ..Batch::default()
        };
        store.commit(attached.id, Arc::new(batch)).await.expect("committed");
        let key = format!("{:?}", key_bytes(&directory));
        drop(store);
        assert!(thread.join());
        (key, now())
    };
    let (store, _thread) = open(&directory).expect("the same store");
    assert!(!store.is_new());
    assert_eq!(format!("{:?}", key_bytes(&directory)), key);
    let attached = attach(&store, "us1").await;
    assert_eq!(attached.calls, [call]);
    assert_eq!(attached.lists.cursor, Some(cursor));
    assert_eq!(finished(&store, attached.id), 1);
}

#[tokio::test]
async fn an_account_is_identified_by_sid_and_region() {
    let directory = directory();
    let (store, _thread) = open(&directory).expect("a new store");
    let first = attach(&store, "us1").await.id;
    assert_ne!(attach(&store, "ie1").await.id, first);
    let key = AccountKey { sid: sid(), region: "us1".to_owned() };
    let renamed = store.attach(key, "renamed".to_owned()).await.expect("attached");
    assert_eq!(renamed.id, first);
    assert_eq!(store.committed().read().accounts()[&first], "renamed");
}

#[tokio::test]
async fn labels_are_swapped_at_once_and_hidden_accounts_stay_hidden() {
    let directory = directory();
    let (store, _thread) = open(&directory).expect("a new store");
    let key = |region: &str| AccountKey { sid: sid(), region: region.to_owned() };
    let mut ids = Vec::new();
    for region in ["us1", "ie1", "au1"] {
        ids.push(store.attach(key(region), region.to_owned()).await.expect("attached").id);
    }
    // One is hidden until its polling starts, and one isn't known yet.
    store.detach(ids[2]);
    let named = [("us1", "ie1"), ("ie1", "us1"), ("au1", "au1"), ("jp1", "jp1")];
    let named = named.map(|(region, name)| (key(region), Some(name.to_owned())));
    store.relabel(BTreeMap::from(named)).await.expect("shown");
    let expected = [(ids[0], "ie1".to_owned()), (ids[1], "us1".to_owned())];
    assert_eq!(store.committed().read().accounts(), &BTreeMap::from(expected));
    // An account without a label is hidden, and one that isn't named stays.
    store.relabel(BTreeMap::from([(key("us1"), None)])).await.expect("hidden");
    let expected = [(ids[1], "us1".to_owned())];
    assert_eq!(store.committed().read().accounts(), &BTreeMap::from(expected));
}

#[tokio::test]
async fn a_new_owner_sees_earlier_batches() {
    let directory = directory();
    let (store, _thread, writer) = open_with_fault_injector(&directory);
    let id = attach(&store, "us1").await.id;
    let hanging = writer.hang();
    let batch = Arc::new(Batch { calls: vec![progress()], ..Batch::default() });
    let (committed, attached) = tokio::join!(store.commit(id, batch), async {
        let attached = attach(&store, "us1");
        // Both commands are queued when the disk works again.
        tokio::join!(attached, async { drop(hanging) }).0
    });
    committed.expect("committed");
    assert_eq!(attached.calls, [progress()]);
}

#[tokio::test]
async fn a_forgotten_call_is_deleted() {
    let directory = directory();
    let (store, _thread) = open(&directory).expect("a new store");
    let id = attach(&store, "us1").await.id;
    let call = progress();
    let batch = Batch { calls: vec![call.clone()], ..Batch::default() };
    store.commit(id, Arc::new(batch)).await.expect("committed");
    assert_eq!(attach(&store, "us1").await.calls.len(), 1);
    let batch = Batch { forgotten: vec![call.sid], ..Batch::default() };
    store.commit(id, Arc::new(batch)).await.expect("committed");
    assert_eq!(attach(&store, "us1").await.calls.len(), 0);
}

#[tokio::test]
async fn a_failed_commit_shows_nothing_and_can_be_retried() {
    let directory = directory();
    let (store, _thread, writes_fail) = open_with_failing_writes(&directory, health());
    let id = attach(&store, "us1").await.id;
    writes_fail.store(true, Ordering::Relaxed);
    let batch = Arc::new(Batch {
        facts: vec![Fact::Finished(Direction::Inbound, CallStatus::Completed)],
        ..Batch::default()
    });
    assert!(store.commit(id, Arc::clone(&batch)).await.is_err());
    assert_eq!(finished(&store, id), 0);
    writes_fail.store(false, Ordering::Relaxed);
    store.commit(id, batch).await.expect("committed");
    assert_eq!(finished(&store, id), 1);
}

#[tokio::test]
async fn a_released_group_stays_released_after_a_restart() {
    let directory = directory();
    let (store, thread) = open(&directory).expect("a new store");
    let id = attach(&store, "us1").await.id;
    store.committed().note_scrape();
    let batch = Batch { facts: vec![event()], ..Batch::default() };
    store.commit(id, Arc::new(batch)).await.expect("committed");
    let shown = store.committed().read().shown();
    assert_eq!(shown.held.len(), 2);
    store.committed().note_shown(shown, Timestamp::MIN);
    until(|| store.committed().read().shown().held.is_empty()).await;
    drop(store);
    assert!(thread.join());
    let (store, _thread) = open(&directory).expect("the same store");
    let committed = store.committed();
    assert!(committed.read().shown().held.is_empty() && committed.was_scraped());
}

#[tokio::test]
async fn a_release_is_shown_only_when_it_is_durable() {
    let directory = directory();
    let registry = Registry::new();
    let health = Health::register(&registry).expect("instruments");
    let (store, _thread, writes_fail) = open_with_failing_writes(&directory, health);
    let id = attach(&store, "us1").await.id;
    store.committed().note_scrape();
    until(|| rows_of_meta(&directory, "scraped") == 1).await;
    let batch = Batch { facts: vec![event()], ..Batch::default() };
    store.commit(id, Arc::new(batch)).await.expect("committed");
    let held = store.committed().read().shown();
    writes_fail.store(true, Ordering::Relaxed);
    store.committed().note_shown(held.clone(), Timestamp::MIN);
    until(|| value(&registry, "twilio_exporter_store_errors_total") > 0.0).await;
    assert_eq!(store.committed().read().shown(), held, "after a crash, they would be held again");
    writes_fail.store(false, Ordering::Relaxed);
    store.commit(id, Arc::new(Batch::default())).await.expect("committed");
    until(|| store.committed().read().shown().held.is_empty()).await;
}

#[tokio::test]
async fn a_failed_release_is_retried_rarely_and_after_a_commit() {
    let directory = directory();
    let registry = Registry::new();
    let health = Health::register(&registry).expect("instruments");
    let (store, _thread, writes_fail) = open_with_failing_writes(&directory, health);
    let errors = || value(&registry, "twilio_exporter_store_errors_total");
    let id = attach(&store, "us1").await.id;
    writes_fail.store(true, Ordering::Relaxed);
    store.committed().note_scrape();
    until(|| errors() > 0.0).await;
    // The writer checks for releases after each commit: it has done so after all of these but the last.
    for _ in 0..5 {
        store.commit(id, Arc::new(Batch::default())).await.expect_err("nothing can be written");
    }
    assert_eq!(errors(), 1.0 + 5.0);
    writes_fail.store(false, Ordering::Relaxed);
    store.commit(id, Arc::new(Batch::default())).await.expect("committed");
    until(|| rows_of_meta(&directory, "scraped") == 1).await;
    assert_eq!(errors(), 6.0);
}

#[tokio::test]
async fn an_early_end_of_the_writer_is_detected() {
    let directory = directory();
    let (store, mut thread, writer) = open_with_fault_injector(&directory);
    let id = attach(&store, "us1").await.id;
    let early = tokio::time::timeout(Duration::from_millis(100), thread.ended()).await;
    assert!(early.is_err(), "the writer ended early");
    writer.run(|| panic!("the test ends the writer"));
    tokio::time::timeout(Duration::from_secs(30), thread.ended())
        .await
        .expect("the writer has ended");
    let refused = store.commit(id, Arc::new(Batch::default())).await;
    assert!(matches!(refused, Err(CommitError::Closed)), "{refused:?}");
    assert!(!thread.join());
}

/// Waits for a condition, for at most half a minute: the machine may be busy.
async fn until(holds: impl Fn() -> bool) {
    for _ in 0..600 {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("the condition didn't hold within half a minute");
}

fn rows_of_meta(directory: &TempDir, key: &str) -> i64 {
    let count = "SELECT count(*) FROM meta WHERE key = ?1";
    copy_of(directory).query_row(count, [key], |row| row.get(0)).expect("a count")
}

fn value(registry: &Registry, name: &str) -> f64 {
    let families = registry.gather();
    let family = families.iter().find(|family| family.name() == name);
    family.map_or(0.0, |family| {
        let metric = &family.get_metric()[0];
        metric.get_counter().get_value() + metric.get_gauge().get_value()
    })
}

fn event() -> Fact {
    use crate::domain::judge::{
        kind::{Expected, RequestKind},
        observe::Observation,
        route::Endpoint,
        verdict,
    };
    Fact::Event {
        observation: Observation {
            endpoint: Endpoint { host: "h".to_owned(), route: "/".to_owned() },
            is_configured: false,
            kind: RequestKind::VoiceUrl,
            duration_ms: None,
            has_invalid_duration: false,
            verdict: verdict::judge(Expected::Twiml, None).expect("a verdict"),
        },
        call_sid: call_sid(),
        at: now(),
        is_history: false,
    }
}

async fn attach(store: &Store, region: &str) -> AttachedAccount {
    let key = AccountKey { sid: sid(), region: region.to_owned() };
    store.attach(key, "prod".to_owned()).await.expect("attached")
}

fn finished(store: &Store, account: AccountId) -> u64 {
    let cell = Cell::Calls(Direction::Inbound, CallStatus::Completed);
    store.committed().read().value(Scope::Account(account), cell)
}

fn directory() -> TempDir {
    TempDir::new().expect("a temporary directory")
}

fn file(directory: &TempDir) -> PathBuf {
    directory.path().join("exporter.db")
}

fn key_bytes(directory: &TempDir) -> Vec<u8> {
    copy_of(directory)
        .query_row("SELECT value FROM meta WHERE key = 'digest_key'", [], |row| row.get(0))
        .expect("a key")
}

/// Opens a copy of the store's file: the open store holds its own exclusively.
fn copy_of(directory: &TempDir) -> Connection {
    let copy = directory.path().join("copy.db");
    let _none = std::fs::remove_file(copy.with_extension("db-shm"));
    std::fs::copy(file(directory), &copy).expect("copied");
    let wal = file(directory).with_extension("db-wal");
    if wal.exists() {
        std::fs::copy(wal, copy.with_extension("db-wal")).expect("copied");
    }
    Connection::open(&copy).expect("a copy")
}

fn open(directory: &TempDir) -> Result<(Store, StoreThread), OpenError> {
    open_at(directory.path())
}

fn open_at(path: &Path) -> Result<(Store, StoreThread), OpenError> {
    Store::open(path, limits(), health(), now)
}

fn health() -> Health {
    Health::register(&Registry::new()).expect("instruments")
}

fn limits() -> LedgerLimits {
    let hold_back = Duration::from_secs(65);
    LedgerLimits { routes_per_account: 100, series: 100_000, hold_back }
}

fn refusal(directory: &TempDir) -> String {
    open(directory).map(drop_store_ok).expect_err("refused").to_string()
}

fn drop_store(opened: Result<(Store, StoreThread), OpenError>) {
    drop_store_ok(opened.expect("a store"));
}

fn drop_store_ok((store, thread): (Store, StoreThread)) {
    drop(store);
    assert!(thread.join());
}

fn progress() -> CallProgress {
    let call = Call {
        sid: CallSid::parse("CA00000000000000000000000000000001").expect("a SID"),
        status: CallStatus::Completed,
        direction: Direction::Inbound,
        start_time: Some(now()),
        end_time: Some(now()),
        date_created: None,
        date_updated: None,
    };
    CallProgress::begin(&call, now()).0
}

fn sid() -> AccountSid {
    AccountSid::parse("AC00000000000000000000000000000001").expect("a SID")
}

fn now() -> Timestamp {
    Timestamp::from_second(1_700_000_000).expect("an instant")
}

fn call_sid() -> CallSid {
    CallSid::parse("CA00000000000000000000000000000009").expect("a SID")
}
