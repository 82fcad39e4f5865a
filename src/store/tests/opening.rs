//! Tests of opening a store: its settings, and what is refused.

use rusqlite::OpenFlags;

use super::*;

#[test]
fn the_error_names_the_process_that_holds_the_store() {
    let directory = directory();
    let (_store, _thread) = open(&directory).expect("a new store");
    let message = refusal(&directory);
    assert!(message.contains(&format!("in use by process {}", std::process::id())), "{message}");
}

#[test]
fn a_foreign_file_is_refused_and_left_unchanged() {
    let directory = directory();
    std::fs::write(file(&directory), b"not a database, and long enough to be looked at")
        .expect("written");
    assert!(refusal(&directory).contains("not a store of twilio-call-exporter"));
    assert!(std::fs::read(file(&directory)).expect("read").starts_with(b"not a database"));
    std::fs::remove_file(file(&directory)).expect("removed");
    let other = Connection::open(file(&directory)).expect("a database");
    other.execute_batch("CREATE TABLE theirs (a)").expect("created");
    drop(other);
    assert!(refusal(&directory).contains("not a store of twilio-call-exporter"));
}

#[test]
fn a_newer_schema_version_is_refused() {
    let directory = directory();
    drop_store(open(&directory));
    let connection = Connection::open(file(&directory)).expect("a database");
    connection.pragma_update(None, "user_version", 99).expect("updated");
    drop(connection);
    let message = refusal(&directory);
    assert!(
        message.contains("schema version 99") && message.contains("supports only up to"),
        "{message}"
    );
}

#[test]
fn a_damaged_store_is_refused_with_a_remedy() {
    let directory = directory();
    drop_store(open(&directory));
    let mut bytes = std::fs::read(file(&directory)).expect("read");
    for byte in bytes.iter_mut().skip(4_096).take(2_000) {
        *byte = 0xAA;
    }
    std::fs::write(file(&directory), bytes).expect("written");
    let message = refusal(&directory);
    assert!(message.contains("damaged") && message.contains("backup"), "{message}");
}

#[test]
fn a_read_only_file_is_refused_with_a_remedy() {
    let directory = directory();
    drop_store(open(&directory));
    // For root, permissions have no effect. A connection opened read-only is the same to SQLite.
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY;
    let connection = Connection::open_with_flags(file(&directory), flags).expect("readable");
    let error = whole::refuse_read_only(&connection, &file(&directory)).expect_err("refused");
    assert!(error.to_string().contains("make it writable"), "{error}");
    let connection = Connection::open(file(&directory)).expect("writable");
    whole::refuse_read_only(&connection, &file(&directory)).expect("writable");
}

#[test]
fn the_error_for_an_unusable_directory_names_the_flag() {
    let directory = directory();
    let blocked = directory.path().join("file");
    std::fs::write(&blocked, b"").expect("written");
    let message =
        open_at(&blocked.join("data")).map(drop_store_ok).expect_err("refused").to_string();
    assert!(message.contains("--storage.path"), "{message}");
}

#[test]
fn a_commit_waits_for_the_disk() {
    let directory = directory();
    let store = schema::open(directory.path(), now()).expect("a new store");
    let connection = store.database.read();
    let full: u8 =
        connection.pragma_query_value(None, "synchronous", |row| row.get(0)).expect("set");
    assert_eq!(full, 2, "FULL");
    let mode = |row: &rusqlite::Row<'_>| row.get::<_, String>(0);
    let mode = connection.pragma_query_value(None, "journal_mode", mode).expect("a mode");
    assert_eq!(mode, "wal");
}
