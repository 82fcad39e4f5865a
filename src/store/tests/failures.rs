//! Tests of recorded failures: recorded once, limited, filtered, and read without blocking anything.

use super::*;
use crate::domain::judge::kind::RequestKind;
use crate::domain::judge::observe::Observation;
use crate::domain::judge::route::Endpoint;
use crate::domain::judge::verdict::{Code, Reason, Verdict};
use crate::metrics::ledger::{EndpointId, FailedRequest};
use crate::store::failures::{
    FailureFilter, MAX_PER_ACCOUNT, MAX_PER_ENDPOINT, MAX_RESULTS, ReadError, RecentFailure,
    RecentFailures, rows,
};

#[tokio::test]
async fn a_recorded_failure_survives_a_restart() {
    let directory = directory();
    let before = {
        let (store, thread) = open(&directory).expect("a new store");
        let id = attach(&store, "ie1").await.id;
        let healthy = with(failing("/a", 1), |event| event.verdict.failure = None);
        let own = with(failing("/api", 1), |event| {
            event.kind = RequestKind::ApiRequest;
            event.verdict.failure = None;
        });
        commit(&store, id, vec![failing("/a", 1), healthy, own]).await;
        let found = recent(&store).await;
        drop(store);
        assert!(thread.join());
        found
    };
    let expected = RecentFailure {
        at: at(1),
        account: "prod".to_owned(),
        region: "ie1".to_owned(),
        endpoint: Endpoint { host: "h".to_owned(), route: "/a".to_owned() },
        kind: RequestKind::VoiceUrl,
        code: Code::NONE,
        reason: Reason::Timeout,
        malformation: None,
        duration_ms: Some(15_000),
        call_sid: call_sid(),
    };
    assert_eq!(before, RecentFailures { failures: vec![expected], total: 1, reported: Vec::new() });
    let (store, _thread) = open(&directory).expect("the same store");
    assert_eq!(recent(&store).await, RecentFailures::default(), "no account is shown yet");
    attach(&store, "ie1").await;
    assert_eq!(recent(&store).await, before);
}

#[tokio::test]
async fn failures_have_the_current_label_and_are_hidden_with_their_account() {
    let directory = directory();
    let (store, _thread) = open(&directory).expect("a new store");
    let id = attach(&store, "us1").await.id;
    commit(&store, id, vec![failing("/a", 1)]).await;
    let key = AccountKey { sid: sid(), region: "us1".to_owned() };
    store.attach(key, "renamed".to_owned()).await.expect("attached");
    assert_eq!(recent(&store).await.failures[0].account, "renamed");
    let under = |label: &str| FailureFilter { accounts: vec![label.to_owned()], ..all() };
    assert_eq!(query(&store, under("renamed")).await.total, 1);
    assert_eq!(query(&store, under("prod")).await.total, 0);
    store.detach(id);
    assert_eq!(recent(&store).await, RecentFailures::default());
}

#[tokio::test]
async fn a_failed_commit_records_nothing_and_its_retry_records_once() {
    let directory = directory();
    let (store, _thread, writes_fail) = open_with_failing_writes(&directory, health());
    let id = attach(&store, "us1").await.id;
    let batch = Arc::new(Batch { facts: vec![failing("/a", 1)], ..Batch::default() });
    writes_fail.store(true, Ordering::Relaxed);
    assert!(store.commit(id, Arc::clone(&batch)).await.is_err());
    assert_eq!(recent(&store).await.total, 0);
    writes_fail.store(false, Ordering::Relaxed);
    store.commit(id, batch).await.expect("committed");
    assert_eq!(recent(&store).await.total, 1);
}

#[tokio::test]
async fn a_route_keeps_its_most_recent_failures() {
    let directory = directory();
    let (store, _thread) = open(&directory).expect("a new store");
    let id = attach(&store, "us1").await.id;
    let kept = i64::try_from(MAX_PER_ENDPOINT).expect("few");
    // A burst in one batch, with the newest in its middle; and a quiet route.
    let burst = (2_500..5_000).chain(0..2_500).map(|second| failing("/burst", second));
    commit(&store, id, burst.chain([failing("/quiet", 1)]).collect()).await;
    assert_eq!(seconds(&store, "/burst").await, ((5_000 - kept)..5_000).rev().collect::<Vec<_>>());
    assert_eq!(seconds(&store, "/quiet").await, [1]);
    // One that is older than all that are kept, then a newer one.
    commit(&store, id, vec![failing("/burst", 1)]).await;
    commit(&store, id, vec![failing("/burst", 5_000)]).await;
    let expected: Vec<_> = ((5_001 - kept)..=5_000).rev().collect();
    assert_eq!(seconds(&store, "/burst").await, expected);
    assert_eq!(rows_in(&directory, "/burst"), kept);
}

#[test]
fn a_burst_writes_only_failures_within_the_limits() {
    let Fact::Event { observation, call_sid, at: first, .. } = failing("/a", 0) else {
        unreachable!("a failing request is an event")
    };
    let burst: Vec<FailedRequest> = (0..100_000_u32)
        .map(|number| FailedRequest {
            account: AccountId(1 + number % 2),
            endpoint: EndpointId(number % 40),
            kind: observation.kind,
            at: first,
            code: observation.verdict.code,
            reason: Reason::Timeout,
            malformation: None,
            duration_ms: Some(u64::from(number)),
            call_sid,
        })
        .collect();
    let kept = rows::most_recent(&burst);
    assert_eq!(kept.len(), 2 * MAX_PER_ACCOUNT);
    let numbers: Vec<_> = kept.iter().filter_map(|failed| failed.duration_ms).collect();
    assert_eq!(numbers, (98_000..100_000).collect::<Vec<_>>(), "in the order of counting");
}

#[tokio::test]
async fn at_equal_times_the_last_counted_is_the_newest() {
    let directory = directory();
    let (store, _thread) = open(&directory).expect("a new store");
    let id = attach(&store, "us1").await.id;
    let numbered = |number| with(failing("/a", 1), |event| event.duration_ms = Some(number));
    commit(&store, id, (0..300).map(numbered).collect()).await;
    commit(&store, id, vec![numbered(300)]).await;
    let found = recent(&store).await.failures;
    let numbers: Vec<_> = found.iter().filter_map(|failure| failure.duration_ms).collect();
    assert_eq!(numbers, (101..=300).rev().collect::<Vec<_>>());
}

#[tokio::test]
async fn an_account_keeps_its_most_recent_failures_and_those_of_others_stay() {
    let directory = directory();
    let (store, _thread) = open(&directory).expect("a new store");
    let other = attach(&store, "ie1").await.id;
    commit(&store, other, vec![failing("/a", 0)]).await;
    let id = attach(&store, "us1").await.id;
    for part in 0..10 {
        let facts = (0..150).map(|second| failing(&format!("/{part}"), part * 1_000 + second));
        commit(&store, id, facts.collect()).await;
    }
    let found = recent(&store).await;
    assert_eq!(found.total, MAX_PER_ACCOUNT + 1);
    let mut of_account = found.failures.iter().filter(|failure| failure.region == "us1");
    let oldest = of_account.next_back().expect("failures");
    assert_eq!(oldest.at, at(3_050), "the failures of six and two thirds of ten routes are kept");
    // The same limit within one batch.
    let all_at_once = (0..10).flat_map(|part| {
        (0..150).map(move |second| failing(&format!("/{part}"), 20_000 + part * 1_000 + second))
    });
    commit(&store, id, all_at_once.collect()).await;
    assert_eq!(recent(&store).await.total, MAX_PER_ACCOUNT + 1);
}

#[tokio::test]
async fn the_answer_is_filtered_sorted_and_limited() {
    let directory = directory();
    let (store, _thread) = open(&directory).expect("a new store");
    let id = attach(&store, "us1").await.id;
    let odd = "/a\"b'c\\d\u{1}e\nf";
    let gather = with(failing(odd, 5), |event| event.kind = RequestKind::GatherAction);
    let broken = with(failing("/b", 3), |event| event.verdict.failure = Some(Reason::Http5xx));
    let elsewhere = with(failing("/a", 4), |event| event.endpoint.host = "elsewhere".to_owned());
    commit(&store, id, vec![failing("/a", 1), gather, broken, failing("/a", 2), elsewhere]).await;
    let check = async |filter: FailureFilter, expected: &[i64]| {
        let found = query(&store, filter.clone()).await;
        let seconds: Vec<_> = found.failures.iter().map(|failure| second(failure.at)).collect();
        assert_eq!(seconds, expected, "{filter:?}");
    };
    let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
    check(all(), &[5, 4, 3, 2, 1]).await;
    check(FailureFilter { routes: texts(&["/a"]), ..all() }, &[4, 2, 1]).await;
    check(FailureFilter { routes: texts(&["/b", odd]), ..all() }, &[5, 3]).await;
    check(FailureFilter { hosts: texts(&["elsewhere"]), ..all() }, &[4]).await;
    let both = FailureFilter { hosts: texts(&["h"]), routes: texts(&["/a"]), ..all() };
    check(both, &[2, 1]).await;
    check(FailureFilter { kinds: vec![RequestKind::GatherAction], ..all() }, &[5]).await;
    check(FailureFilter { reasons: vec![Reason::Http5xx, Reason::Dns], ..all() }, &[3]).await;
    check(FailureFilter { from: Some(at(2)), to: Some(at(4)), ..all() }, &[4, 3, 2]).await;
    check(FailureFilter { limit: 2, ..all() }, &[5, 4]).await;
    let cut = query(&store, FailureFilter { limit: 2, ..all() }).await;
    assert_eq!(cut.total, 5, "the total includes those beyond the limit");
}

#[tokio::test]
async fn queries_time_out_on_a_hanging_disk_and_the_queue_stays_bounded() {
    let directory = directory();
    let (store, _thread, writer) = open_with_fault_injector(&directory);
    let hanging = writer.hang();
    let reader = store.failures().with_timeout(Duration::from_millis(20));
    for _ in 0..10 {
        let answer = reader.recent(all()).await;
        assert!(matches!(answer, Err(ReadError::Timeout)), "{answer:?}");
    }
    assert_eq!(reader.free_permits(), 0, "the queries wait at the writer");
    drop(hanging);
    // The disk works again, and the permits are free again.
    let patient = reader.with_timeout(Duration::from_secs(60));
    patient.recent(all()).await.expect("an answer");
    assert!(patient.free_permits() > 0);
}

#[tokio::test]
async fn a_reader_does_not_keep_the_store_open() {
    let directory = directory();
    let (store, thread) = open(&directory).expect("a new store");
    let reader = store.failures();
    drop(store);
    assert!(thread.join());
    assert!(matches!(reader.recent(all()).await, Err(ReadError::Closed)));
}

async fn commit(store: &Store, account: AccountId, facts: Vec<Fact>) {
    let batch = Batch { facts, ..Batch::default() };
    store.commit(account, Arc::new(batch)).await.expect("committed");
}

async fn query(store: &Store, filter: FailureFilter) -> RecentFailures {
    store.failures().recent(filter).await.expect("an answer")
}

async fn recent(store: &Store) -> RecentFailures {
    let limit = 2 * MAX_PER_ACCOUNT;
    query(store, FailureFilter { limit, ..all() }).await
}

async fn seconds(store: &Store, route: &str) -> Vec<i64> {
    let filter = FailureFilter { routes: vec![route.to_owned()], ..all() };
    query(store, filter).await.failures.iter().map(|failure| second(failure.at)).collect()
}

fn all() -> FailureFilter {
    FailureFilter { limit: MAX_RESULTS, ..FailureFilter::default() }
}

fn failing(route: &str, second: i64) -> Fact {
    Fact::Event {
        observation: Observation {
            endpoint: Endpoint { host: "h".to_owned(), route: route.to_owned() },
            is_configured: false,
            kind: RequestKind::VoiceUrl,
            duration_ms: Some(15_000),
            has_invalid_duration: false,
            verdict: Verdict {
                code: Code::NONE,
                failure: Some(Reason::Timeout),
                malformation: None,
                content_type: None,
                warning: None,
                is_unjudged: false,
            },
        },
        call_sid: call_sid(),
        at: at(second),
        is_history: false,
    }
}

fn with(fact: Fact, change: impl FnOnce(&mut Observation)) -> Fact {
    let Fact::Event { mut observation, call_sid, at, is_history } = fact else {
        unreachable!("a failing request is an event")
    };
    change(&mut observation);
    Fact::Event { observation, call_sid, at, is_history }
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_700_000_000 + second).expect("an instant")
}

fn second(at: Timestamp) -> i64 {
    at.as_second() - 1_700_000_000
}

/// Counts the rows in a copy of the store: the number of stored rows is limited, not only of those shown.
fn rows_in(directory: &TempDir, route: &str) -> i64 {
    key_bytes(directory);
    let copy = Connection::open(directory.path().join("copy.db")).expect("a copy");
    let count =
        "SELECT count(*) FROM failure JOIN endpoint ON endpoint.id = endpoint_id WHERE route = ?1";
    copy.query_row(count, [route], |row| row.get(0)).expect("a count")
}
