//! Tests of what is deleted after 35 days without events, and what stays.

use super::*;
use crate::domain::judge::route::Endpoint;
use crate::metrics::exposition::{Exposition, Format};
use crate::metrics::ledger::Ledger;
use crate::metrics::snapshot;

/// A day in seconds.
const DAY: i64 = 86_400;

#[tokio::test]
async fn a_route_is_retired_after_35_days_and_restarts_at_zero() {
    let directory = directory();
    let (store, thread) = open(&directory).expect("a new store");
    store.committed().note_scrape();
    let id = attach(&store, "us1").await.id;
    commit(&store, id, 0, &[("/old", 0), ("/busy", 0), ("/late", 0)]).await;
    assert_eq!(advance(&store, id, 1..34).await, 0);
    assert_eq!(commit(&store, id, 34, &[("/busy", 34)]).await.retired, 0);
    assert_eq!(advance(&store, id, 35..36).await, 0);
    // A route with an event in the same batch is no longer idle.
    assert_eq!(commit(&store, id, 36, &[("/late", 36)]).await.retired, 1);
    assert_eq!(routes(&store), ["/busy", "/late"]);
    assert_eq!(rows(&directory, "endpoint"), 2);
    assert_eq!(rows(&directory, "request_group"), 2);
    assert_eq!(rows(&directory, "failure"), 4);
    let mut exposition = Exposition::new(Format::Text);
    snapshot::write(&store.committed().read(), false, &mut exposition);
    let shown = exposition.finish().concat();
    assert!(shown.contains("/late") && !shown.contains("/old"), "{shown}");
    commit(&store, id, 37, &[("/old", 37)]).await;
    let committed = store.committed();
    assert_eq!(requests(&committed.read(), "/old"), 1, "its counter restarts");
    assert_eq!(requests(&committed.read(), "/busy"), 2);
    assert!(!committed.read().shown().held.is_empty(), "and is held at 0 like a new one");
    let before = format!("{:?}", committed.read().cells);
    drop((store, committed));
    assert!(thread.join());
    let (store, _thread) = open(&directory).expect("the same store");
    assert_eq!(format!("{:?}", store.committed().read().cells), before);
}

#[tokio::test]
async fn events_dated_decades_ago_age_from_when_they_were_learnt() {
    let directory = directory();
    let (store, _thread) = open(&directory).expect("a new store");
    let id = attach(&store, "us1").await.id;
    for received_at in 0..=72 {
        let expected = usize::from(received_at <= 71);
        let counts = if [0, 34, 36].contains(&received_at) {
            vec![fact("/old", -15_000)]
        } else {
            Vec::new()
        };
        let batch = Batch {
            facts: counts,
            received_at: Some(day(received_at)),
            lists: known_to(received_at),
            ..Batch::default()
        };
        store.commit(id, Arc::new(batch)).await.expect("committed");
        assert_eq!(routes(&store).len(), expected, "day {received_at}");
    }
}

#[tokio::test]
async fn nothing_ages_while_the_lists_stand_still() {
    let directory = directory();
    let (store, _thread) = open(&directory).expect("a new store");
    let id = attach(&store, "us1").await.id;
    commit(&store, id, 0, &[("/old", 0)]).await;
    // The lists stand still: a long outage, or a local clock that is years ahead.
    for _ in 0..3 {
        assert_eq!(commit(&store, id, 0, &[("/new", 36)]).await.retired, 0);
    }
    assert_eq!(routes(&store), ["/old", "/new"]);
}

#[tokio::test]
async fn a_removed_account_is_kept_for_35_days_and_a_failing_one_forever() {
    let directory = directory();
    {
        let (store, thread) = open(&directory).expect("a new store");
        for region in ["removed", "failing", "polled"] {
            let id = attach(&store, region).await.id;
            commit(&store, id, 0, &[("/r", 0)]).await;
        }
        drop(store);
        assert!(thread.join());
    }
    let (store, _thread) = open(&directory).expect("the same store");
    let failing = attach(&store, "failing").await.id;
    let polled = attach(&store, "polled").await.id;
    advance(&store, polled, 1..34).await;
    commit(&store, polled, 34, &[("/r", 34)]).await;
    assert_eq!((rows(&directory, "account"), rows(&directory, "endpoint")), (3, 3));
    advance(&store, polled, 35..37).await;
    assert_eq!((rows(&directory, "account"), rows(&directory, "endpoint")), (2, 2));
    assert_eq!(rows(&directory, "failure"), 3);
    let committed = store.committed();
    let kept: Vec<AccountId> =
        committed.read().endpoints.values().map(|endpoint| endpoint.account).collect();
    assert_eq!(kept, [failing, polled]);
}

#[tokio::test]
async fn nothing_is_deleted_because_a_cursor_jumps() {
    let directory = directory();
    let (store, thread) = open(&directory).expect("a new store");
    let away = attach(&store, "away").await.id;
    commit(&store, away, 0, &[("/r", 0)]).await;
    let id = attach(&store, "us1").await.id;
    commit(&store, id, 0, &[("/old", 0)]).await;
    assert_eq!(advance(&store, id, 1..21).await, 0);
    drop(store);
    assert!(thread.join());
    // After 40 days of downtime, the lists continue from where the catch-up starts.
    let (store, thread) = open(&directory).expect("the same store");
    let id = attach(&store, "us1").await.id;
    assert_eq!(advance(&store, id, 60..61).await, 0);
    assert_eq!(commit(&store, id, 100, &[]).await.retired, 0, "another jump");
    assert_eq!(rows(&directory, "account"), 2, "an account that isn't attached yet stays");
    drop(store);
    assert!(thread.join());
    let (store, _thread) = open(&directory).expect("the same store");
    let id = attach(&store, "us1").await.id;
    // It was polled for 20 days before the first jump.
    assert_eq!(advance(&store, id, 101..116).await, 0);
    assert_eq!(advance(&store, id, 116..117).await, 1);
}

/// Commits only the lists of some days. Returns the number of retired routes.
async fn advance(store: &Store, id: AccountId, days: std::ops::Range<i64>) -> u64 {
    let mut retired = 0;
    for day in days {
        retired += commit(store, id, day, &[]).await.retired;
    }
    retired
}

/// Commits one failing event per route, each on its day, with the lists known up to `known_to`.
async fn commit(
    store: &Store,
    id: AccountId,
    known_to: i64,
    events: &[(&str, i64)],
) -> CommitReport {
    let facts = events.iter().map(|(route, at)| fact(route, *at)).collect();
    let batch = Batch { facts, lists: self::known_to(known_to), ..Batch::default() };
    store.commit(id, Arc::new(batch)).await.expect("committed")
}

fn fact(route: &str, at: i64) -> Fact {
    let Fact::Event { mut observation, call_sid, is_history, .. } = event() else {
        unreachable!("an event")
    };
    observation.endpoint = Endpoint { host: "h".to_owned(), route: route.to_owned() };
    Fact::Event { observation, call_sid, at: day(at), is_history }
}

/// Returns lists that are known up to a day.
fn known_to(to: i64) -> ListProgress {
    ListProgress { cursor: Some(day(to)), ..ListProgress::default() }
}

fn routes(store: &Store) -> Vec<String> {
    let committed = store.committed();
    let ledger = committed.read();
    ledger.endpoints.values().map(|entry| entry.endpoint.route.clone()).collect()
}

fn requests(ledger: &Ledger, route: &str) -> u64 {
    let groups = ledger.groups.iter().filter(|(_, group)| {
        ledger.endpoints.get(&group.endpoint).is_some_and(|entry| entry.endpoint.route == route)
    });
    let code = crate::domain::judge::verdict::Code::NONE;
    groups.map(|(id, _)| ledger.value(Scope::Group(*id), Cell::Requests(code))).sum()
}

fn rows(directory: &TempDir, table: &str) -> i64 {
    let sql = format!("SELECT count(*) FROM {table}");
    copy_of(directory).query_row(&sql, [], |row| row.get(0)).expect("rows")
}

fn day(day: i64) -> Timestamp {
    Timestamp::from_second(now().as_second() + day * DAY).expect("an instant")
}
