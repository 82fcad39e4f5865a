//! Tests of migrating the stores of every earlier version.

use super::*;
use crate::domain::judge::route::Endpoint;
use crate::domain::judge::verdict::Reason;
use crate::domain::track::outcome::Outcome;
use crate::metrics::exposition::{Exposition, Format};
use crate::metrics::ledger::GroupId;
use crate::metrics::snapshot;
use crate::store::database;
use crate::store::schema::{APPLICATION_ID, MIGRATIONS};

/// The first version with checksums. From here on, the database file of a new store is complete without its log.
const FIRST_WITH_CHECKSUMS: u32 = 5;

#[tokio::test]
async fn every_earlier_version_is_migrated_and_keeps_its_counts() {
    let known = u32::try_from(MIGRATIONS.len()).expect("a few versions");
    for version in 1..known {
        let directory = directory();
        write_old(&directory, version);
        let (store, thread) = open(&directory).expect("an old store");
        assert!(!store.is_new(), "version {version}");
        assert_eq!(store.created_at().as_second(), 1_600_000_000, "version {version}");
        check(&store, version, 41).await;
        let attached = attach(&store, "us1").await;
        assert_eq!(attached.lists.cursor, Some(now()), "version {version}");
        assert_eq!(attached.calls.len(), 1, "version {version}");
        assert!(attached.calls[0].counted.pairs().eq([(Digest(7), 2)]), "version {version}");
        let batch = Batch { facts: vec![event()], ..Batch::default() };
        store.commit(attached.id, Arc::new(batch)).await.expect("committed");
        drop(store);
        assert!(thread.join());
        let copy = copy_of(&directory);
        let number = |pragma| copy.pragma_query_value(None, pragma, |row| row.get::<_, u32>(0));
        assert_eq!(number("user_version").expect("a version"), known);
        assert_eq!(number("auto_vacuum").expect("a mode"), 2, "version {version}");
        let (store, _thread) = open(&directory).expect("the same store");
        check(&store, version, 41).await;
    }
}

#[tokio::test]
async fn an_earlier_version_is_checked_before_it_is_migrated() {
    for version in 1..u32::try_from(MIGRATIONS.len()).expect("a few versions") {
        let directory = directory();
        write_old(&directory, version);
        let other = Connection::open(file(&directory)).expect("a database");
        let trigger = "CREATE TRIGGER t AFTER UPDATE ON account BEGIN DELETE FROM series; END";
        other.execute_batch(trigger).expect("made");
        drop(other);
        let before = std::fs::read(file(&directory)).expect("read");
        let message = refusal(&directory);
        assert!(message.contains("the trigger `t` doesn't belong to this program"), "{message}");
        assert_eq!(std::fs::read(file(&directory)).expect("read"), before, "version {version}");
    }
}

#[tokio::test]
async fn an_earlier_version_is_recovered_from_its_log_after_a_crash() {
    for version in 1..FIRST_WITH_CHECKSUMS {
        let (old, directory) = (directory(), directory());
        // Earlier versions start like this: the file has no tables yet, and the log has all of them.
        let running = Connection::open(file(&old)).expect("a database");
        running.pragma_update(None, "journal_mode", "WAL").expect("set");
        write_rows(&running, version);
        for name in ["exporter.db", "exporter.db-wal"] {
            std::fs::copy(old.path().join(name), directory.path().join(name)).expect("copied");
        }
        for _ in 0..2 {
            let (store, thread) = open(&directory).expect("an old store");
            check(&store, version, 41).await;
            drop_store_ok((store, thread));
        }
    }
}

/// The schema version is unchanged: an earlier version that opens the store counts by account again, shows the
/// series that it knows, and keeps the others.
#[tokio::test]
async fn outcomes_counted_by_account_stay_and_new_ones_have_an_endpoint() {
    let directory = directory();
    let known = u32::try_from(MIGRATIONS.len()).expect("a few versions");
    write_old(&directory, known);
    let old = Connection::open(file(&directory)).expect("a database");
    old.execute("INSERT INTO series VALUES ('account', 1, 'outcomes:cut_off', 5)", [])
        .expect("counted");
    database::recompute(&old).expect("checksums");
    drop(old);
    let before = [
        "host=\"\",route=\"\",outcome=\"cut_off\"} 5",
        "host=\"old.example.com\",route=\"/a\",outcome=\"cut_off\"} 0",
        "host=\"old.example.com\",route=\"/a\",outcome=\"recovered\"} 0",
    ];
    let after =
        [before[0], "host=\"old.example.com\",route=\"/a\",outcome=\"cut_off\"} 1", before[2]];
    {
        let (store, thread) = open(&directory).expect("an old store");
        let id = attach(&store, "us1").await.id;
        assert_eq!(outcomes(&store), before);
        let Fact::Event { mut observation, at, is_history, .. } = event() else {
            unreachable!("an event")
        };
        observation.endpoint =
            Endpoint { host: "old.example.com".to_owned(), route: "/a".to_owned() };
        let (outcome, decided_by) = (Outcome::CutOff, observation);
        let fact = Fact::Outcome { outcome, decided_by, at, is_history };
        let batch = Batch { facts: vec![fact], ..Batch::default() };
        store.commit(id, Arc::new(batch)).await.expect("committed");
        assert_eq!(outcomes(&store), after);
        drop_store_ok((store, thread));
    }
    let (store, _thread) = open(&directory).expect("the same store");
    attach(&store, "us1").await;
    assert_eq!(outcomes(&store), after);
}

/// Returns the series of outcomes, without their common prefix.
fn outcomes(store: &Store) -> Vec<String> {
    let mut exposition = Exposition::new(Format::Text);
    snapshot::write(&store.committed().read(), false, &mut exposition);
    let (text, common) = (
        exposition.finish().concat(),
        "twilio_calls_with_webhook_failures_total{account=\"prod\",",
    );
    text.lines().filter_map(|line| line.strip_prefix(common)).map(str::to_owned).collect()
}

/// Checks that the account has the values that every version stores.
async fn check(store: &Store, version: u32, failures: u64) {
    let id = attach(store, "us1").await.id;
    assert_eq!((id, finished(store, id)), (AccountId(1), 7), "version {version}");
    let group = Scope::Group(GroupId(1));
    let value = store.committed().read().value(group, Cell::Failures(Reason::Timeout));
    assert_eq!(value, failures, "version {version}");
}

/// Writes a store as an earlier version leaves it: created by the first version, then migrated step by step.
fn write_old(directory: &TempDir, version: u32) {
    write_rows(&Connection::open(file(directory)).expect("a database"), version);
}

fn write_rows(old: &Connection, version: u32) {
    for (done, step) in (1..=version).zip(MIGRATIONS) {
        old.execute_batch(step).expect("a step");
        old.execute_batch(&rows_of(done)).expect("rows");
    }
    if version >= FIRST_WITH_CHECKSUMS {
        database::recompute(old).expect("checksums");
    }
    old.pragma_update(None, "application_id", APPLICATION_ID).expect("set");
    old.pragma_update(None, "user_version", version).expect("set");
}

/// Returns the rows that a version can write and its predecessor couldn't.
fn rows_of(version: u32) -> String {
    match version {
        1 => format!(
            "INSERT INTO meta VALUES ('digest_key', zeroblob(16)), ('created_ms', 1600000000000);
             INSERT INTO account VALUES (1, '{}', 'us1', 1700000000000, NULL);
             INSERT INTO endpoint VALUES (1, 1, 'old.example.com', '/a', 1700000000000, 1);
             INSERT INTO request_group VALUES (1, 1, 'voice_url', 1700000000000, 1);
             INSERT INTO series VALUES ('group', 1, 'failures:timeout', 41);
             INSERT INTO series VALUES ('account', 1, 'calls:inbound:completed', 7);
             INSERT INTO call VALUES (1, '{}', 'inbound', 'completed', 1700000000000,
                1700000000000, 1, NULL, 0, NULL, 0, 1, x'070000000000000002000000', x'');",
            sid(),
            call_sid()
        ),
        2 => format!(
            "INSERT INTO failure VALUES
                (1, 1, 1, 'voice_url', 1700000000000, 'none', 'timeout', NULL, '{}')",
            call_sid()
        ),
        _ => String::new(),
    }
}
