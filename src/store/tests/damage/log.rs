//! Tests of logs that are cut short, belong to another file, or were partly written to the database.

use super::*;

/// The size of a page in the log, including its header.
const FRAME: usize = PAGE + 24;

#[tokio::test]
async fn a_log_that_is_cut_short_loses_only_its_last_commits() {
    let image = Image::make().await;
    let whole = fs::read(image.copy(true).path().join(LOG)).expect("read");
    let mut last = 0;
    for length in (0..whole.len()).step_by(FRAME / 2).chain([whole.len()]) {
        let files = image.copy(true);
        fs::write(files.path().join(LOG), &whole[..length]).expect("written");
        let found = outcome(&files, "cut short").expect("a store that opens");
        let at = image.states.iter().position(|state| *state == found).expect("an earlier state");
        assert!(at >= last, "a longer log lost more commits");
        last = at;
    }
    assert_eq!(last, image.states.len() - 1, "the whole log holds all commits");
}

#[tokio::test]
async fn an_interrupted_checkpoint_loses_nothing() {
    let image = Image::make().await;
    let files = image.copy(true);
    let before = fs::read(file(&files)).expect("read");
    // Closing the store moves all of the log to the file.
    state(&files).expect("a store");
    let after = fs::read(file(&files)).expect("read");
    let mut random = Rng::with_seed(2);
    for number in 0..100 {
        let files = image.copy(true);
        let mut bytes = before.clone();
        bytes.resize(after.len(), 0);
        let from_start = random.usize(0..after.len() / PAGE);
        for page in 0..after.len() / PAGE {
            // Pages are written one after another; after a power failure, any of them may be missing.
            if if number < 50 { page < from_start } else { random.bool() } {
                bytes[page * PAGE..][..PAGE].copy_from_slice(&after[page * PAGE..][..PAGE]);
            }
        }
        fs::write(file(&files), bytes).expect("written");
        let found = outcome(&files, "interrupted").expect("a store that opens");
        image.assert_right(&found, true, false, "interrupted");
    }
}

#[test]
fn files_of_different_moments_are_refused_or_open_with_valid_values() {
    let directory = in_memory();
    let mut random = Rng::with_seed(3);
    let mut moments = Vec::new();
    let mut opened = schema::open(directory.path(), now()).expect("a new store");
    for number in 0..24_usize {
        let changed = opened.database.write(|transaction| {
            transaction.execute(
                "INSERT OR IGNORE INTO account (sid, region) VALUES (?1, 'us1'), (?1, 'ie1')",
                [sid().to_string()],
            )?;
            for call in 0..random.usize(1..20) {
                let sid = CallSid::parse(&format!("CA{:032x}", call * 7)).expect("a SID");
                let began_at = now() + Duration::from_secs(number.try_into().expect("small"));
                let call = CallProgress { sid, began_at, ..progress() };
                codec::store_call(transaction, AccountId(1), &call)?;
            }
            Ok(())
        });
        changed.expect("written");
        if random.u8(0..4) == 0 {
            let checkpoint = "PRAGMA wal_checkpoint(PASSIVE)";
            opened.database.read().query_row(checkpoint, [], |_| Ok(())).expect("done");
        }
        let files = copy(directory.path());
        let state = state(&copy(files.path())).expect("a store");
        moments.push((files, state));
    }
    let mut refused = 0;
    for (database, _) in &moments {
        for (log, of_log) in &moments {
            let files = in_memory();
            fs::copy(file(database), file(&files)).expect("copied");
            fs::copy(log.path().join(LOG), files.path().join(LOG)).expect("copied");
            let is_same = database.path() == log.path();
            match outcome(&files, "files of two moments") {
                None => {
                    assert!(!is_same);
                    refused += 1;
                }
                Some(found) if is_same => assert!(found == *of_log, "files of the same moment"),
                Some(found) => {
                    assert!(
                        moments.iter().any(|(_, state)| *state == found),
                        "the store never had this state"
                    );
                }
            }
        }
    }
    assert!(refused > 50, "{refused}");
}

#[tokio::test]
async fn files_that_do_not_belong_together_are_refused() {
    let image = Image::make().await;
    let other = Image::make().await;
    let of = |image: &Image, name: &str| fs::read(image.killed.path().join(name)).expect("read");
    let (database, log) = (of(&image, "exporter.db"), of(&image, LOG));
    // All commits of the log are in this file, and one more.
    let newer = {
        let files = image.copy(true);
        let mut store = schema::open(files.path(), now()).expect("a store");
        let delete = "DELETE FROM call WHERE sid = (SELECT min(sid) FROM call)";
        store.database.write(|transaction| transaction.execute(delete, [])).expect("deleted");
        drop(store);
        fs::read(file(&files)).expect("read")
    };
    // The file that `PRAGMA journal_mode = WAL` creates.
    let empty = {
        let directory = directory();
        let connection = Connection::open(file(&directory)).expect("a database");
        connection.pragma_update(None, "journal_mode", "WAL").expect("set");
        drop(connection);
        fs::read(file(&directory)).expect("read")
    };
    let (none, some) = (Vec::new(), Some(log.as_slice()));
    let cases = [
        ("it is missing", None, some, None),
        ("it is missing", None, None, Some(b"journal".as_slice())),
        ("it is empty", Some(&none), some, None),
        ("it is empty", Some(&none), None, None),
        ("it is empty", Some(&none), None, Some(b"journal")),
        ("it is empty, and its log", Some(&empty), some, None),
        ("journal of another program", Some(&database), some, Some(b"journal")),
        ("is older", Some(&newer), some, None),
    ];
    for (what, database, log, journal) in cases {
        let files = directory();
        for (name, bytes) in
            [("exporter.db", database.map(Vec::as_slice)), (LOG, log), (JOURNAL, journal)]
        {
            if let Some(bytes) = bytes {
                fs::write(files.path().join(name), bytes).expect("written");
            }
        }
        let before = contents(files.path());
        let message = refusal(&files);
        assert!(message.contains("incomplete") && message.contains("backup"), "{message}");
        let is_journal = journal.is_some() && message.contains("journal");
        assert!(message.contains(what) || is_journal, "{what}: {message}");
        assert_eq!(contents(files.path()), before, "{what}");
    }
    let files = directory();
    fs::write(file(&files), of(&other, "exporter.db")).expect("written");
    fs::write(files.path().join(LOG), &log).expect("written");
    let before = contents(files.path());
    let message = refusal(&files);
    assert!(
        message.contains("belongs to another store") || message.contains("damaged"),
        "{message}"
    );
    assert_eq!(contents(files.path()), before);
}
