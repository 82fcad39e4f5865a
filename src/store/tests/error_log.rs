//! An entry of the error log is counted once, however often it is polled or pushed.

use super::*;
use crate::domain::judge::reported::Reported;
use crate::domain::judge::route::Endpoint;
use crate::domain::judge::verdict::Reason;
use crate::domain::track::listing::ErrorLogProgress;
use crate::domain::words::error_log::{ErrorCode, Level, Product};
use crate::domain::words::sid::ErrorLogSid;
use crate::store::failures::FailureFilter;

const DAY: i64 = 86_400;

#[tokio::test]
async fn an_entry_is_counted_once_across_batches_and_restarts() {
    let directory = directory();
    let (store, thread, writer) = open_with_fault_injector(&directory);
    let id = attach(&store, "us1").await.id;
    commit(&store, id, &[(1, 0), (2, 0), (1, 0)]).await;
    assert_eq!(counted(&store), 2);
    commit(&store, id, &[(2, 0), (3, 0)]).await;
    assert_eq!(counted(&store), 3);
    // The same entry from a poll and a push, in one transaction.
    let hanging = writer.hang();
    let ((), (), ()) =
        tokio::join!(commit(&store, id, &[(4, 0)]), commit(&store, id, &[(4, 0), (5, 0)]), async {
            drop(hanging)
        });
    assert_eq!(counted(&store), 5);
    drop_store_ok((store, thread));
    let (store, _thread) = open(&directory).expect("the same store");
    let attached = attach(&store, "us1").await;
    assert_eq!(counted(&store), 5);
    commit(&store, id, &[(5, 0), (6, 0)]).await;
    assert_eq!(counted(&store), 6);
    // The same SID in another account is another entry.
    let other = attach(&store, "ie1").await.id;
    commit(&store, other, &[(6, 0)]).await;
    assert_eq!(counted(&store), 7);
    let numbers: Vec<ErrorLogSid> = attached.reported.iter().map(|(sid, _)| *sid).collect();
    assert_eq!(numbers.len(), 5, "{numbers:?}");
}

#[tokio::test]
async fn an_entry_of_a_failed_batch_is_counted_by_the_next() {
    let directory = directory();
    let (store, _thread, fails) = open_with_failing_writes(&directory, health());
    let id = attach(&store, "us1").await.id;
    fails.store(true, Ordering::SeqCst);
    let batch = batch(&[(1, 0)]);
    store.commit(id, Arc::new(batch)).await.expect_err("a full disk");
    assert_eq!(counted(&store), 0);
    fails.store(false, Ordering::SeqCst);
    commit(&store, id, &[(1, 0)]).await;
    assert_eq!(counted(&store), 1);
}

#[tokio::test]
async fn entries_are_forgotten_after_31_days_but_outlive_their_endpoint() {
    let directory = directory();
    let (store, thread) = open(&directory).expect("a new store");
    let id = attach(&store, "us1").await.id;
    commit(&store, id, &[(1, 0), (2, 5)]).await;
    commit(&store, id, &[(3, 32)]).await;
    assert_eq!(sids(&directory), [2, 3]);
    // A forgotten entry that is pushed again is not counted again.
    commit(&store, id, &[(1, 0), (4, 32)]).await;
    assert_eq!((sids(&directory), counted(&store)), (vec![2, 3, 4], 4));
    // The endpoint retires after 35 days without events.
    for day in 0..80 {
        let cursor = Some(now() + jiff::SignedDuration::from_secs(day * DAY));
        let lists = ListProgress { cursor, ..ListProgress::default() };
        let batch = Batch { lists, ..Batch::default() };
        store.commit(id, Arc::new(batch)).await.expect("committed");
    }
    assert!(store.committed().read().endpoints.is_empty());
    assert_eq!(sids(&directory), [2, 3, 4]);
    drop_store_ok((store, thread));
}

#[tokio::test]
async fn an_entry_is_shown_until_a_call_event_confirms_it() {
    let directory = directory();
    let (store, _thread) = open(&directory).expect("a new store");
    let id = attach(&store, "us1").await.id;
    commit(&store, id, &[(1, 0), (2, 1)]).await;
    let nowhere = Fact::Reported { reported: reported(3, None), at: now(), is_history: false };
    let batch = Batch { facts: vec![nowhere], ..Batch::default() };
    store.commit(id, Arc::new(batch)).await.expect("committed");
    let filter = |change: fn(&mut FailureFilter)| {
        let mut filter = FailureFilter { limit: 100, ..FailureFilter::default() };
        change(&mut filter);
        filter
    };
    let recent = async |filter| store.failures().recent(filter).await.expect("read").reported;
    let shown = recent(filter(|_| {})).await;
    assert_eq!(shown.len(), 2, "{shown:?}");
    assert!(shown[0].at > shown[1].at && shown[0].account == "prod");
    assert_eq!(
        (shown[0].code, shown[0].endpoint.route.as_str()),
        (ErrorCode::Number(11_200), "/voice")
    );
    for (change, expected) in [
        ((|filter| filter.limit = 1) as fn(&mut FailureFilter), 1),
        (|filter| filter.from = Some(now() + jiff::SignedDuration::from_secs(1)), 1),
        (|filter| filter.to = Some(now() - jiff::SignedDuration::from_secs(1)), 0),
        (|filter| filter.hosts = vec!["h".to_owned()], 2),
        (|filter| filter.routes = vec!["/other".to_owned()], 0),
        (|filter| filter.accounts = vec!["other".to_owned()], 0),
        (|filter| filter.reasons = vec![Reason::Timeout], 0),
    ] {
        assert_eq!(recent(filter(change)).await.len(), expected);
    }
    // Events of another call, of another route, and of the entry's own call and route.
    for (route, call, expected) in [("/voice", 1, 2), ("/", 9, 2), ("/voice", 9, 0)] {
        let Fact::Event { mut observation, at, is_history, .. } = event() else {
            unreachable!("an event")
        };
        observation.endpoint.route = route.to_owned();
        let call_sid = CallSid::parse(&format!("CA{call:032}")).expect("a SID");
        let facts = vec![Fact::Event { observation, call_sid, at, is_history }];
        let batch = Batch { facts, ..Batch::default() };
        store.commit(id, Arc::new(batch)).await.expect("committed");
        assert_eq!(recent(filter(|_| {})).await.len(), expected, "{route} {call}");
    }
}

#[tokio::test]
async fn a_burst_of_entries_stays_small_on_disk_and_its_newest_are_loaded() {
    let directory = directory();
    let (store, thread) = open(&directory).expect("a new store");
    let id = attach(&store, "us1").await.id;
    let mut number = 0;
    for _ in 0..100 {
        let facts: Vec<(u64, i64)> = (number..number + 1_000).map(|number| (number, 0)).collect();
        number += 1_000;
        commit(&store, id, &facts).await;
    }
    assert_eq!(counted(&store), 100_000);
    drop_store_ok((store, thread));
    let size = std::fs::metadata(file(&directory)).expect("a file").len();
    assert!(size <= 40 * 1024 * 1024, "{size} bytes");
    let (store, _thread) = open(&directory).expect("the same store");
    let reported = attach(&store, "us1").await.reported;
    assert_eq!(reported.len(), 20_000, "the entries of one instant");
}

async fn commit(store: &Store, id: AccountId, entries: &[(u64, i64)]) {
    store.commit(id, Arc::new(batch(entries))).await.expect("committed");
}

/// Returns a batch of entries with these numbers, from these days.
fn batch(entries: &[(u64, i64)]) -> Batch {
    let at = |day: i64| now() + jiff::SignedDuration::from_secs(day * DAY);
    let facts = entries.iter().map(|&(number, day)| Fact::Reported {
        reported: reported(number, Some("/voice")),
        at: at(day),
        is_history: false,
    });
    let known_to = at(entries.iter().map(|(_, day)| *day).max().unwrap_or(0));
    let error_log = Some(ErrorLogProgress { since: now(), known_to });
    let lists = ListProgress { error_log, ..ListProgress::default() };
    Batch { facts: facts.collect(), lists, received_at: Some(known_to), ..Batch::default() }
}

pub(super) fn reported(number: u64, route: Option<&str>) -> Reported {
    Reported {
        sid: ErrorLogSid::parse(&format!("NO{number:032x}")).expect("a SID"),
        account: Some(sid()),
        generated_at: None,
        product: Product::Voice,
        code: ErrorCode::Number(11_200),
        level: Level::Error,
        endpoint: route.map(|route| Endpoint { host: "h".to_owned(), route: route.to_owned() }),
        is_configured: false,
        call_sid: Some(call_sid()),
    }
}

/// Returns the number of counted entries.
fn counted(store: &Store) -> u64 {
    let committed = store.committed();
    let ledger = committed.read();
    let cells = ledger.cells.values().flatten();
    cells.filter(|(cell, _)| matches!(cell, Cell::ErrorLog(..))).map(|(_, value)| value).sum()
}

/// Returns the numbers of the remembered entries.
fn sids(directory: &TempDir) -> Vec<u64> {
    let copy = copy_of(directory);
    let mut statement =
        copy.prepare("SELECT sid FROM error_log_entry ORDER BY sid").expect("a table");
    let sids = statement.query_map([], |row| row.get::<_, String>(0)).expect("rows");
    sids.map(|sid| u64::from_str_radix(&sid.expect("a text")[2..], 16).expect("a number")).collect()
}
