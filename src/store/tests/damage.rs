//! Tests of damage: a damaged store is refused with a remedy and left unchanged, or opens with the values that
//! it held. It never opens with other values.

mod log;

use std::fs;
use std::ops::Range;
use std::path::Path;

use fastrand::Rng;

use super::*;
use crate::domain::judge::route::Endpoint;
use crate::store::failures::rows;
use crate::store::{codec, schema};

/// The size of a page: SQLite's default.
const PAGE: usize = 4_096;
/// The number of runs of each kind of damage.
const RUNS: usize = 50;

/// A kind of damage to a file's bytes.
type Damage = fn(&mut Vec<u8>, &mut Rng);

/// Kinds of damage to the bytes of the database or its log.
const DAMAGES: [(&str, Damage); 7] = [
    ("a bit flips", |bytes, random| flip(bytes, random, usize::MAX)),
    ("a bit of the header flips", |bytes, random| flip(bytes, random, 100)),
    ("a page is zeroed", |bytes, random| {
        let page = page(bytes, random);
        bytes[page].fill(0);
    }),
    ("a page is filled with noise", |bytes, random| {
        let page = page(bytes, random);
        random.fill(&mut bytes[page]);
    }),
    ("two pages are swapped", |bytes, random| {
        let (one, other) = (page(bytes, random), page(bytes, random));
        let saved = bytes[one.clone()].to_owned();
        bytes.copy_within(other.clone(), one.start);
        bytes[other].copy_from_slice(&saved);
    }),
    ("it is cut short", |bytes, random| bytes.truncate(random.usize(0..bytes.len()))),
    ("a few bytes are overwritten", |bytes, random| {
        let at = random.usize(0..bytes.len() - 16);
        random.fill(&mut bytes[at..at + 16]);
    }),
];

#[tokio::test]
async fn a_damaged_file_is_refused_or_opens_with_its_values() {
    let image = Image::make().await;
    let mut random = Rng::with_seed(1);
    let (mut refused, mut right) = (0, 0);
    for (kind, damage) in DAMAGES {
        for (is_killed, name) in [(false, "exporter.db"), (true, "exporter.db"), (true, LOG)] {
            for number in 0..RUNS {
                let files = image.copy(is_killed);
                let path = files.path().join(name);
                let mut bytes = fs::read(&path).expect("read");
                damage(&mut bytes, &mut random);
                fs::write(&path, bytes).expect("written");
                let case = format!("{kind}: {name}, killed: {is_killed}, number {number}");
                match outcome(&files, &case) {
                    None => refused += 1,
                    Some(found) => {
                        right += 1;
                        image.assert_right(&found, is_killed, name == LOG, &case);
                    }
                }
            }
        }
    }
    assert!(refused + right > 1_000 && refused > 300 && right > 200, "{refused} {right}");
}

#[tokio::test]
async fn changes_by_another_program_are_refused() {
    let image = Image::make().await;
    let mut changes: Vec<String> = [
        "CREATE TRIGGER t AFTER UPDATE ON series BEGIN UPDATE series SET value = 0; END",
        "CREATE VIEW v AS SELECT 1",
        "CREATE TABLE t (a)",
        "CREATE INDEX i ON series (value)",
        "DROP INDEX failure_of_account",
        "DROP TABLE failure",
        "ALTER TABLE call ADD COLUMN a",
        "ALTER TABLE call RENAME COLUMN credits TO a",
        "DELETE FROM checksum",
        "DELETE FROM checksum WHERE name = 'call'",
        "INSERT INTO checksum VALUES ('a', 0, 0)",
        "UPDATE checksum SET sum = 0 WHERE name = 'call'",
        "DELETE FROM meta WHERE key = 'digest_key'",
        "UPDATE meta SET value = randomblob(16) WHERE key = 'digest_key'",
        "UPDATE meta SET value = value + 1 WHERE key = 'created_ms'",
        "DELETE FROM meta WHERE key = 'commits'",
        "DELETE FROM meta WHERE key = 'scraped'",
        "INSERT INTO meta VALUES ('a', 1)",
        "UPDATE series SET value = value + 1 WHERE cell = (SELECT max(cell) FROM series)",
        "UPDATE series SET value = value + 0.5",
        "UPDATE call SET counted = x'' WHERE sid = (SELECT min(sid) FROM call)",
        "UPDATE call SET credits = NULLIF(counted, x'') WHERE sid = (SELECT min(sid) FROM call)",
        "UPDATE call SET sid = 'CA000000000000000000000000000000ff' WHERE sid = (SELECT min(sid) FROM call)",
        "UPDATE account SET cursor_ms = cursor_ms + 1 WHERE id = 1",
        "UPDATE account SET forget_before_ms = 1",
        "UPDATE account SET id = CASE id WHEN 1 THEN 77 ELSE id END",
        "UPDATE endpoint SET route = route || 'x' WHERE id = 1",
        "UPDATE endpoint SET released = 1 - released WHERE id = 1",
        "UPDATE request_group SET released = 1 - released WHERE id = 1",
        "UPDATE request_group SET endpoint_id = 900 WHERE id = 1",
        "UPDATE failure SET at_ms = at_ms + 1 WHERE id = 1",
        "UPDATE series SET value = CASE cell WHEN 'requests:none' THEN 1 ELSE 2 END",
        "PRAGMA application_id = 7",
        "PRAGMA user_version = 1",
        "PRAGMA user_version = 0",
        "PRAGMA user_version = 99",
    ]
    .map(str::to_owned)
    .into();
    for table in ["account", "endpoint", "request_group", "series", "call", "failure"] {
        changes.push(format!("DELETE FROM {table}"));
        let first = "SELECT * FROM {table} LIMIT 1".replace("{table}", table);
        changes.push(format!("CREATE TEMP TABLE one AS {first}; DELETE FROM {table}; INSERT INTO {table} SELECT * FROM one"));
    }
    for change in changes {
        for is_killed in [false, true] {
            let files = image.copy(is_killed);
            let other = Connection::open(file(&files)).expect("a database");
            other.execute_batch(&change).unwrap_or_else(|error| panic!("{change}: {error}"));
            drop(other);
            assert!(outcome(&files, &change).is_none(), "{change}");
        }
    }
}

const LOG: &str = "exporter.db-wal";
const JOURNAL: &str = "exporter.db-journal";

/// Two sets of files with many rows in the tables, and the states that they may open with.
struct Image {
    /// A database without a log, as a stopped program leaves it.
    stopped: TempDir,
    /// A database with a log of further commits, as a killed program leaves it.
    killed: TempDir,
    /// The states of the store: when it was stopped, and after each commit in the log.
    states: Vec<String>,
}

impl Image {
    async fn make() -> Self {
        let directory = in_memory();
        let (store, thread) = open(&directory).expect("a new store");
        store.committed().note_scrape();
        for number in 0..30 {
            commit(&store, number).await;
        }
        drop_store_ok((store, thread));
        let stopped = copy(directory.path());
        let (store, thread) = open(&directory).expect("the same store");
        let mut states = vec![state(&stopped).expect("a store")];
        for number in 30..50 {
            commit(&store, number).await;
            let now = state(&copy(directory.path())).expect("a store");
            // Attaching the account is a separate commit, before the batch.
            states.push(now);
        }
        let killed = copy(directory.path());
        drop_store_ok((store, thread));
        states.dedup();
        assert_eq!(states.len(), 21);
        assert!(fs::metadata(killed.path().join(LOG)).expect("a log").len() > 50_000);
        Self { stopped, killed, states }
    }

    fn copy(&self, is_killed: bool) -> TempDir {
        copy(if is_killed { self.killed.path() } else { self.stopped.path() })
    }

    fn assert_right(&self, found: &str, is_killed: bool, is_log: bool, case: &str) {
        let is_right = match (is_killed, is_log) {
            (false, _) => found == self.states[0],
            (true, false) => Some(found) == self.states.last().map(String::as_str),
            (true, true) => self.states.iter().any(|state| state == found),
        };
        assert!(is_right, "{case}: it opened with other values");
    }
}

/// Commits a batch with its own routes, failures and calls, for one of two accounts.
async fn commit(store: &Store, number: usize) {
    let region = if number.is_multiple_of(2) { "us1" } else { "ie1" };
    let id = attach(store, region).await.id;
    let facts = (0..4).map(|fact| {
        let Fact::Event { mut observation, call_sid, at, is_history } = event() else {
            unreachable!("an event")
        };
        let route = format!("/menu/{}/{}", number % 9, fact);
        observation.endpoint = Endpoint { host: "ivr.example.com".to_owned(), route };
        observation.duration_ms = Some(100 * u64::try_from(fact + number).expect("small"));
        Fact::Event { observation, call_sid, at, is_history }
    });
    let calls = (0..4).map(|call| {
        let mut progress = progress();
        let sid = format!("CA{:032x}", number * 10 + call);
        progress.sid = CallSid::parse(&sid).expect("a SID");
        let digest = |n: usize| (Digest(u64::try_from(number * 1_000 + n).expect("small")), 1);
        progress.counted = Multiset::new((0..10).map(digest).collect());
        progress
    });
    let cursor = Timestamp::from_second(1_700_000_000 + i64::try_from(number).expect("small"));
    let batch = Batch {
        facts: facts.collect(),
        calls: calls.collect(),
        lists: ListProgress {
            cursor: Some(cursor.expect("an instant")),
            ..ListProgress::default()
        },
        ..Batch::default()
    };
    store.commit(id, Arc::new(batch)).await.expect("committed");
}

/// Opens a store. Returns its state, or `None` if it was refused with a remedy and left unchanged.
fn outcome(files: &TempDir, case: &str) -> Option<String> {
    let before = contents(files.path());
    match state(files) {
        Ok(state) => Some(state),
        Err(error) => {
            let message = error.to_string();
            assert!(message.contains("backup"), "{case}: no remedy: {message}");
            assert_eq!(contents(files.path()), before, "{case}: the files were changed: {message}");
            None
        }
    }
}

/// Returns everything that the program reads from a store.
fn state(files: &TempDir) -> Result<String, OpenError> {
    let opened = schema::open(files.path(), now())?;
    let connection = opened.database.read();
    let mut ledger = codec::load_ledger(connection, now())?;
    let mut state = format!("{:?} {:?}", opened.digest_key, opened.created_at);
    state += &format!("{:?} {:?} {:?}", ledger.endpoints, ledger.groups, ledger.cells);
    state += &format!("{}", ledger.was_scraped);
    for region in ["us1", "ie1"] {
        let id: u32 = connection.query_row(
            "SELECT id FROM account WHERE sid = ?1 AND region = ?2",
            [sid().to_string().as_str(), region],
            |row| row.get(0),
        )?;
        ledger.show(AccountId(id), region.to_owned(), now());
        let lists = "SELECT format('%s %s %s %s %s %s', cursor_ms, forget_before_ms, ended_to_ms,
            deep_to_ms, parent_sid, status) FROM account WHERE id = ?1";
        state += &connection.query_row(lists, [id], |row| row.get::<_, String>(0))?;
        state += &format!("{:?}", codec::load_calls(connection, AccountId(id), now())?);
    }
    let filter = crate::store::failures::FailureFilter { limit: 1_000, ..Default::default() };
    let committed = crate::metrics::ledger::Committed::new(ledger);
    state += &format!("{:?}", rows::recent(connection, &committed, &filter).expect("read"));
    Ok(state)
}

/// Returns the contents of the database, its log and its journal. An empty file counts as missing.
fn contents(directory: &Path) -> Vec<Option<Vec<u8>>> {
    let of = |name: &str| fs::read(directory.join(name)).ok().filter(|bytes| !bytes.is_empty());
    ["exporter.db", LOG, JOURNAL].map(of).into()
}

fn copy(from: &Path) -> TempDir {
    let to = in_memory();
    for name in ["exporter.db", LOG] {
        if from.join(name).exists() {
            fs::copy(from.join(name), to.path().join(name)).expect("copied");
        }
    }
    to
}

/// Returns a directory in memory if possible: thousands of stores are opened.
fn in_memory() -> TempDir {
    let memory = Path::new("/dev/shm");
    let parent = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
    TempDir::new_in(parent).expect("a temporary directory")
}

fn flip(bytes: &mut [u8], random: &mut Rng, before: usize) {
    bytes[random.usize(0..before.min(bytes.len()))] ^= 1 << random.u8(0..8);
}

/// Returns the range of a random page, which in a log is only roughly one page.
fn page(bytes: &[u8], random: &mut Rng) -> Range<usize> {
    let at = random.usize(0..bytes.len() / PAGE) * PAGE;
    at..at + PAGE
}
