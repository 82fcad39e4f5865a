//! A file that was large once and needn't stay so.

use super::*;
use crate::store::schema::Opened;
use crate::store::{compact, schema};

/// Calls of a busy day: some 8 MiB.
const CALLS: usize = 30_000;

#[test]
fn after_a_busy_day_the_file_shrinks_to_twice_what_it_holds() {
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
    assert_eq!(left, 11, "and loses nothing");
}

#[tokio::test]
async fn the_writer_gives_free_pages_back_by_itself() {
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
fn what_a_large_transaction_leaves_of_the_log_is_cut_off() {
    let directory = directory();
    let mut store = schema::open(directory.path(), now()).expect("a new store");
    let log = || std::fs::metadata(file(&directory).with_extension("db-wal")).expect("a log").len();
    fill(&mut store, CALLS);
    assert!(log() > 4 * 1024 * 1024);
    // The log begins anew with the first commit after all of it is in the file.
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

/// The file as it is after everything in the log went into it.
fn size(connection: &Connection) -> i64 {
    number(connection, "page_count") * number(connection, "page_size")
}

fn number(connection: &Connection, pragma: &str) -> i64 {
    connection.pragma_query_value(None, pragma, |row| row.get(0)).expect("a number")
}
