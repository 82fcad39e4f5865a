//! Tests of a file that was large once and shrinks.

use super::*;
use crate::store::schema::Opened;
use crate::store::{compact, schema};

/// The number of calls of a busy day: some 8 MiB.
const CALLS: usize = 30_000;

#[test]
fn the_file_shrinks_to_twice_its_content_after_a_busy_day() {
    let directory = directory();
    let mut store = schema::open(directory.path(), now()).expect("a new store");
    fill(&mut store, CALLS);
    let full = size(store.database.read());
    assert_eq!(compact::compact(store.database.read()).expect("looked"), 0, "nothing is free");
    write(&mut store, "DELETE FROM call WHERE sid > 'CA000010'");
    let mut freed = 0;
    for _ in 0..100 {
        freed += compact::compact(store.database.read()).expect("compacted");
    }
    assert!(freed > 0);
    let (pages, free) = (
        number(store.database.read(), "page_count"),
        number(store.database.read(), "freelist_count"),
    );
    assert!(free < 1_024 || free <= pages / 2, "{free} of {pages} pages are free");
    assert!(
        size(store.database.read()) < full / 3,
        "{} of {full} bytes",
        size(store.database.read())
    );
    let left: i64 = store
        .database
        .read()
        .query_row("SELECT count(*) FROM call", [], |row| row.get(0))
        .expect("a count");
    assert_eq!(left, 11, "other calls were lost");
}

#[tokio::test]
async fn the_writer_returns_free_pages() {
    let directory = directory();
    let mut store = schema::open(directory.path(), now()).expect("a new store");
    fill(&mut store, CALLS);
    write(&mut store, "DELETE FROM call");
    let full = size(store.database.read());
    drop(store);
    let (store, thread) = open(&directory).expect("the same store");
    attach(&store, "us1").await;
    drop(store);
    assert!(thread.join());
    let now = i64::try_from(std::fs::metadata(file(&directory)).expect("a file").len());
    assert!(now.expect("small") <= full - 4 * 1024 * 1024, "{now:?} of {full} bytes");
}

#[test]
fn the_log_is_truncated_after_a_large_transaction() {
    let directory = directory();
    let mut store = schema::open(directory.path(), now()).expect("a new store");
    let log = || std::fs::metadata(file(&directory).with_extension("db-wal")).expect("a log").len();
    fill(&mut store, CALLS);
    assert!(log() > 4 * 1024 * 1024);
    // The log restarts with the first commit after a complete checkpoint.
    write(&mut store, "INSERT INTO meta VALUES ('a', 1)");
    assert!(log() <= 4 * 1024 * 1024, "{} bytes", log());
}

fn fill(store: &mut Opened, calls: usize) {
    let call = format!(
        "WITH RECURSIVE number (n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM number WHERE n < {calls} - 1)
         INSERT INTO call SELECT 1, printf('CA%06d', n), 'inbound', 'completed', 0, 0, 1, NULL, 0,
            NULL, 0, 1, zeroblob(120), x'' FROM number"
    );
    write(store, &call);
}

fn write(store: &mut Opened, sql: &str) {
    store.database.write(|transaction| transaction.execute_batch(sql)).expect("written");
}

/// Returns the size of the file after a checkpoint.
fn size(connection: &Connection) -> i64 {
    number(connection, "page_count") * number(connection, "page_size")
}

fn number(connection: &Connection, pragma: &str) -> i64 {
    connection.pragma_query_value(None, pragma, |row| row.get(0)).expect("a number")
}
