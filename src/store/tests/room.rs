//! The number of series stays within its limit, and sums stay right, for any facts in any order.

use super::*;
use crate::domain::judge::content_type::ContentType;
use crate::domain::judge::kind::RequestKind;
use crate::domain::judge::route::Endpoint;
use crate::domain::judge::verdict::{Code, Reason, Warning};
use crate::domain::track::listing::ErrorLogProgress;
use crate::domain::track::outcome::Outcome;
use crate::domain::words::error_log::{ErrorCode, Level, Product};
use crate::metrics::exposition::{Exposition, Format};
use crate::metrics::ledger::{ACCOUNT_SERIES, MAX_VALUE, Scope};
use crate::metrics::snapshot;

/// The number of series that each account may have beyond the limit: its own, and those of the endpoint
/// `other` with one code for each kind.
const BEYOND: usize = ACCOUNT_SERIES + 461;

#[tokio::test]
async fn series_stay_within_the_limit_and_no_request_is_lost() {
    for seed in 0..40 {
        let mut random = fastrand::Rng::with_seed(seed);
        let series = [0, 100, 600, 2_000, 5_000][random.usize(..5)];
        let limits = LedgerLimits { series, routes_per_account: 12, ..limits() };
        let directory = directory();
        let (store, thread) = open_limited(&directory, limits);
        let regions = ["us1", "ie1", "au1"];
        let mut counted = [Sums::default(); 3];
        for _ in 0..random.usize(1..40) {
            let at = random.usize(..3);
            let id = attach_as_region(&store, regions[at]).await.id;
            let facts: Vec<Fact> = (0..random.usize(..40)).map(|_| fact(&mut random)).collect();
            facts.iter().for_each(|fact| counted[at].add(fact));
            let cursor = Some(day(random.i64(0..60)));
            let retires = random.u8(..10) == 0;
            let error_log = ErrorLogProgress { since: day(0), known_to: day(60) };
            let lists = ListProgress {
                cursor: cursor.filter(|_| retires),
                error_log: Some(error_log),
                ..ListProgress::default()
            };
            let batch = Batch { facts, lists, ..Batch::default() };
            let report = store.commit(id, Arc::new(batch)).await.expect("committed");
            if report.retired > 0 {
                // The counts of retired endpoints are gone.
                counted[at] = sums(&store, id);
            }
            let shown = durable(&store).lines().count();
            let accounts = store.committed().read().accounts().len();
            assert!(shown <= store.committed().read().series(), "seed {seed}: {shown}");
            assert!(shown <= series + accounts * BEYOND, "seed {seed}: {shown}");
            assert_eq!(sums(&store, id), counted[at], "seed {seed}");
        }
        let (before, series) = (durable(&store), store.committed().read().series());
        let attached: Vec<String> = store.committed().read().accounts().values().cloned().collect();
        drop(store);
        assert!(thread.join());
        let (store, _thread) = open_limited(&directory, limits);
        for region in attached {
            attach_as_region(&store, &region).await;
        }
        assert_eq!(store.committed().read().series(), series, "seed {seed}");
        assert_eq!(durable(&store), before, "seed {seed}");
    }
}

#[tokio::test]
async fn codes_without_room_are_counted_as_other_on_their_route() {
    let directory = directory();
    let (store, _thread) = open_limited(&directory, LedgerLimits { series: 120, ..limits() });
    let id = attach(&store, "us1").await.id;
    let facts = (200..600).map(|code| event_of("/a", RequestKind::VoiceUrl, code)).collect();
    let batch = Batch { facts, ..Batch::default() };
    let report = store.commit(id, Arc::new(batch)).await.expect("committed");
    let text = durable(&store);
    assert!(text.lines().count() <= 120, "{text}");
    assert!(!text.contains("route=\"other\""), "{text}");
    let codes = text.lines().filter(|line| line.starts_with("twilio_webhook_requests_total"));
    let other = format!("code=\"other\"}} {}", report.overflowed);
    assert!(text.contains(&other) && report.overflowed > 300, "{other} in {text}");
    let values = codes.filter_map(|line| line.rsplit_once(' ')?.1.parse::<u64>().ok());
    assert_eq!(values.sum::<u64>(), 400);
}

#[tokio::test]
async fn values_saturate_in_memory_and_in_the_store() {
    let directory = directory();
    let (store, thread) = open(&directory).expect("a new store");
    let id = attach(&store, "us1").await.id;
    for duration in [Some(u64::MAX), Some(MAX_VALUE), Some(1)] {
        let Fact::Event { mut observation, call_sid, at, is_history } = event() else {
            unreachable!("an event")
        };
        observation.duration_ms = duration;
        let facts = vec![Fact::Event { observation, call_sid, at, is_history }];
        let batch = Batch { facts, ..Batch::default() };
        store.commit(id, Arc::new(batch)).await.expect("committed");
        assert_eq!(duration_sum(&store), MAX_VALUE);
    }
    drop(store);
    assert!(thread.join());
    let (store, _thread) = open(&directory).expect("the same store");
    assert_eq!(duration_sum(&store), MAX_VALUE);
}

async fn attach_as_region(store: &Store, region: &str) -> AttachedAccount {
    let key = AccountKey { sid: sid(), region: region.to_owned() };
    store.attach(key, region.to_owned()).await.expect("attached")
}

/// The sums of an account's values.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Sums {
    requests: u64,
    api_requests: u64,
    failures: u64,
    duration_ms: u64,
    content_types: u64,
    outcomes: u64,
    reports: u64,
}

impl Sums {
    fn add(&mut self, fact: &Fact) {
        self.outcomes += u64::from(matches!(fact, Fact::Outcome { .. }));
        self.reports += u64::from(matches!(fact, Fact::Reported { .. }));
        let Fact::Event { observation, .. } = fact else { return };
        if observation.kind == RequestKind::ApiRequest {
            self.api_requests += 1;
            return;
        }
        self.requests += 1;
        self.failures += u64::from(observation.verdict.failure.is_some());
        self.duration_ms += observation.duration_ms.unwrap_or(0);
        self.content_types += u64::from(observation.verdict.content_type.is_some());
    }
}

fn sums(store: &Store, account: AccountId) -> Sums {
    let committed = store.committed();
    let ledger = committed.read();
    let endpoint_of = |scope: &Scope| match scope {
        Scope::Account(_) => None,
        Scope::Endpoint(id) => Some(*id),
        Scope::Group(id) => ledger.groups.get(id).map(|group| group.endpoint),
    };
    let is_of = |scope: &Scope| {
        let endpoint = endpoint_of(scope).and_then(|id| ledger.endpoints.get(&id));
        endpoint.is_some_and(|endpoint| endpoint.account == account)
            || *scope == Scope::Account(account)
    };
    let mut sums = Sums::default();
    for (cell, value) in ledger.cells.iter().filter(|(of, _)| is_of(of)).flat_map(|(_, c)| c) {
        match cell {
            Cell::Requests(_) | Cell::OtherRequests => sums.requests += value,
            Cell::ApiRequests(_) | Cell::OtherApiRequests => sums.api_requests += value,
            Cell::Failures(_) => sums.failures += value,
            Cell::DurationSum => sums.duration_ms += value,
            Cell::ContentTypes(_) => sums.content_types += value,
            Cell::Outcomes(_) => sums.outcomes += value,
            Cell::ErrorLog(..) | Cell::OtherErrors(..) => sums.reports += value,
            Cell::DurationBucket(_) | Cell::Warnings(_) | Cell::Calls(..) => {}
        }
    }
    sums
}

/// Returns a random fact.
fn fact(random: &mut fastrand::Rng) -> Fact {
    match random.u8(..10) {
        0 => Fact::Finished(pick(random, Direction::ALL), pick(random, CallStatus::ALL)),
        1 => {
            let caller_facing: Vec<RequestKind> =
                RequestKind::ALL.iter().copied().filter(|kind| kind.is_caller_facing()).collect();
            let route = format!("/{}", random.u8(..20));
            let of = event_of(&route, pick(random, &caller_facing), random.u16(100..600));
            let Fact::Event { observation, is_history, .. } = of else { return of };
            let (outcome, at) = (pick(random, Outcome::ALL), day(random.i64(0..60)));
            Fact::Outcome { outcome, decided_by: observation, at, is_history }
        }
        2 => {
            let route = random.bool().then(|| format!("/{}", random.u8(..20)));
            let mut reported = reported(random.u64(..), route.as_deref());
            reported.code = ErrorCode::Number(random.u32(11_000..11_200));
            reported.product = pick(random, Product::ALL);
            reported.level = pick(random, Level::ALL);
            // Older entries are forgotten and not counted.
            let at = day(random.i64(30..60));
            Fact::Reported { reported, at, is_history: random.bool() }
        }
        _ => {
            let route = format!("/{}", random.u8(..20));
            let kind = pick(random, RequestKind::ALL);
            let mut fact = event_of(&route, kind, random.u16(100..600));
            let Fact::Event { observation, at, is_history, .. } = &mut fact else { return fact };
            if random.u8(..10) == 0 {
                observation.endpoint = Endpoint::overflow();
            }
            let reasons: Vec<Reason> = Reason::possible_for(kind).collect();
            let has_failed = random.bool() && !reasons.is_empty();
            observation.verdict.failure = has_failed.then(|| pick(random, &reasons));
            let has_type = kind.expects_twiml() && random.bool();
            observation.verdict.content_type = has_type.then(|| pick(random, ContentType::ALL));
            observation.verdict.warning = random.bool().then(|| pick(random, Warning::ALL));
            observation.duration_ms = random.bool().then(|| random.u64(..20_000));
            *at = day(random.i64(0..60));
            *is_history = random.bool();
            fact
        }
    }
}

fn pick<T: Copy>(random: &mut fastrand::Rng, from: &[T]) -> T {
    from[random.usize(..from.len())]
}

fn event_of(route: &str, kind: RequestKind, code: u16) -> Fact {
    let Fact::Event { mut observation, call_sid, at, is_history } = event() else {
        unreachable!("an event")
    };
    observation.endpoint = Endpoint { host: "h".to_owned(), route: route.to_owned() };
    observation.kind = kind;
    observation.verdict.code = Code::from_status(code).unwrap_or(Code::NONE);
    Fact::Event { observation, call_sid, at, is_history }
}

/// Returns the samples of the durable metric families.
fn durable(store: &Store) -> String {
    let mut exposition = Exposition::new(Format::Text);
    snapshot::write(&store.committed().read(), false, &mut exposition);
    let text = exposition.finish().concat();
    text.lines()
        .filter(|line| !line.starts_with('#'))
        .fold(String::new(), |all, line| all + line + "\n")
}

fn duration_sum(store: &Store) -> u64 {
    let committed = store.committed();
    let ledger = committed.read();
    ledger.cells.values().filter_map(|cells| cells.get(&Cell::DurationSum)).sum()
}

fn open_limited(directory: &TempDir, limits: LedgerLimits) -> (Store, StoreThread) {
    let health = Health::register(&Registry::new()).expect("instruments");
    Store::open(directory.path(), limits, health, now).expect("a store")
}

fn day(day: i64) -> Timestamp {
    Timestamp::from_second(now().as_second() + day * 86_400).expect("an instant")
}
