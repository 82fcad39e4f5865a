//! Recorded failures: once, bounded, filtered, and read without holding anything up.

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
async fn a_failure_is_recorded_as_it_was_counted_and_survives_a_restart() {
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
async fn an_account_is_shown_under_its_present_label_and_only_while_it_is_attached() {
    let directory = directory();
    let (store, _thread) = open(&directory).expect("a new store");
    let id = attach(&store, "us1").await.id;
    commit(&store, id, vec![failing("/a", 1)]).await;
    let key = AccountKey { sid: sid(), region: "us1".to_owned() };
    store.attach(key, "renamed".to_owned()).await.expect("attached");
    assert_eq!(recent(&store).await.failures[0].account, "renamed");
    let under = |label: &str| FailureFilter { accounts: vec![label.to_owned()], ..all() };
    assert_eq!(ask(&store, under("renamed")).await.total, 1);
    assert_eq!(ask(&store, under("prod")).await.total, 0);
    store.detach(id);
    assert_eq!(recent(&store).await, RecentFailures::default());
}

#[tokio::test]
async fn a_commit_that_fails_records_nothing_and_its_repetition_records_once() {
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
async fn a_route_keeps_its_most_recent_failures_whether_they_come_at_once_or_one_by_one() {
    let directory = directory();
    let (store, _thread) = open(&directory).expect("a new store");
    let id = attach(&store, "us1").await.id;
    let kept = i64::try_from(MAX_PER_ENDPOINT).expect("few");
    // A storm of one batch, newest in the middle of it; and the quiet route beside it.
    let storm = (2_500..5_000).chain(0..2_500).map(|second| failing("/storm", second));
    commit(&store, id, storm.chain([failing("/quiet", 1)]).collect()).await;
    assert_eq!(seconds(&store, "/storm").await, ((5_000 - kept)..5_000).rev().collect::<Vec<_>>());
    assert_eq!(seconds(&store, "/quiet").await, [1]);
    // One more, older than all that are kept, then one newer.
    commit(&store, id, vec![failing("/storm", 1)]).await;
    commit(&store, id, vec![failing("/storm", 5_000)]).await;
    let expected: Vec<_> = ((5_001 - kept)..=5_000).rev().collect();
    assert_eq!(seconds(&store, "/storm").await, expected);
    assert_eq!(rows_in(&directory, "/storm"), kept);
}

#[test]
fn of_a_storm_only_what_can_be_kept_is_written() {
    let Fact::Event { observation, call_sid, at: first, .. } = failing("/a", 0) else {
        unreachable!("a failing request is an event")
    };
    let storm: Vec<FailedRequest> = (0..100_000_u32)
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
    let kept = rows::most_recent(&storm);
    assert_eq!(kept.len(), 2 * MAX_PER_ACCOUNT);
    let numbers: Vec<_> = kept.iter().filter_map(|failed| failed.duration_ms).collect();
    assert_eq!(numbers, (98_000..100_000).collect::<Vec<_>>(), "in the order of counting");
}

#[tokio::test]
async fn of_one_instant_the_last_counted_is_the_newest() {
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
async fn an_account_keeps_its_most_recent_failures_and_leaves_others_theirs() {
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
    assert_eq!(oldest.at, at(3_050), "six and two thirds of ten routes");
    // The same bound within one batch.
    let all_at_once = (0..10).flat_map(|part| {
        (0..150).map(move |second| failing(&format!("/{part}"), 20_000 + part * 1_000 + second))
    });
    commit(&store, id, all_at_once.collect()).await;
    assert_eq!(recent(&store).await.total, MAX_PER_ACCOUNT + 1);
}

#[tokio::test]
async fn the_answer_is_filtered_newest_first_and_cut() {
    let directory = directory();
    let (store, _thread) = open(&directory).expect("a new store");
    let id = attach(&store, "us1").await.id;
    let odd = "/a\"b'c\\d\u{1}e\nf";
    let gather = with(failing(odd, 5), |event| event.kind = RequestKind::GatherAction);
    let broken = with(failing("/b", 3), |event| event.verdict.failure = Some(Reason::Http5xx));
    let elsewhere = with(failing("/a", 4), |event| event.endpoint.host = "elsewhere".to_owned());
    commit(&store, id, vec![failing("/a", 1), gather, broken, failing("/a", 2), elsewhere]).await;
    let check = async |filter: FailureFilter, expected: &[i64]| {
        let found = ask(&store, filter.clone()).await;
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
    let cut = ask(&store, FailureFilter { limit: 2, ..all() }).await;
    assert_eq!(cut.total, 5, "what was cut is counted");
}

#[tokio::test]
async fn a_disk_that_hangs_is_told_and_lets_no_queue_grow() {
    let directory = directory();
    let (store, _thread, writer) = open_with_orders(&directory);
    let hanging = writer.hang();
    let reader = store.failures().with_patience(Duration::from_millis(20));
    for _ in 0..10 {
        let answer = reader.recent(all()).await;
        assert!(matches!(answer, Err(ReadError::Timeout)), "{answer:?}");
    }
    assert_eq!(reader.free_places(), 0, "questions wait at the writer");
    drop(hanging);
    // The disk is back: the places are free again, too.
    let patient = reader.with_patience(Duration::from_secs(60));
    patient.recent(all()).await.expect("an answer");
    assert!(patient.free_places() > 0);
}

#[tokio::test]
async fn a_reader_that_somebody_still_holds_does_not_keep_the_store_open() {
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

async fn ask(store: &Store, filter: FailureFilter) -> RecentFailures {
    store.failures().recent(filter).await.expect("an answer")
}

async fn recent(store: &Store) -> RecentFailures {
    let limit = 2 * MAX_PER_ACCOUNT;
    ask(store, FailureFilter { limit, ..all() }).await
}

async fn seconds(store: &Store, route: &str) -> Vec<i64> {
    let filter = FailureFilter { routes: vec![route.to_owned()], ..all() };
    ask(store, filter).await.failures.iter().map(|failure| second(failure.at)).collect()
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

/// Rows beside the open store: what is kept is bounded, not only what is shown.
fn rows_in(directory: &TempDir, route: &str) -> i64 {
    key_bytes(directory);
    let copy = Connection::open(directory.path().join("copy.db")).expect("a copy");
    let count =
        "SELECT count(*) FROM failure JOIN endpoint ON endpoint.id = endpoint_id WHERE route = ?1";
    copy.query_row(count, [route], |row| row.get(0)).expect("a count")
}
