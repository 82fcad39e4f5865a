//! What it costs to make counted Call Events durable, and to start with many calls.
//!
//! `cargo bench --bench store`. The store lies in memory where the machine has such a file system
//! (`/dev/shm`), so that the disk's fsync is left out: its time is the disk's, not ours. Everything
//! else of a commit is in: the ledger's delta, SQL, the log, publishing to scrapes.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use divan::Bencher;
use divan::counter::ItemsCount;
use jiff::Timestamp;
use prometheus::Registry;
use tempfile::TempDir;
use tokio::runtime::Runtime;
use twilio_call_exporter::domain::call::{Call, CallStatus, Direction};
use twilio_call_exporter::domain::content_type::ContentType;
use twilio_call_exporter::domain::digest::Digest;
use twilio_call_exporter::domain::kind::RequestKind;
use twilio_call_exporter::domain::observe::Observation;
use twilio_call_exporter::domain::progress::{CallProgress, Multiset};
use twilio_call_exporter::domain::route::Endpoint;
use twilio_call_exporter::domain::sid::{AccountSid, CallSid};
use twilio_call_exporter::domain::verdict::{Code, Reason, Verdict};
use twilio_call_exporter::metrics::health::Health;
use twilio_call_exporter::metrics::ledger::{AccountId, Fact, LedgerLimits};
use twilio_call_exporter::store::{AccountKey, Batch, Store, StoreThread};

/// Call Events of a call.
const EVENTS: u64 = 10;
/// Calls of a batch: 1,000 events.
const CALLS_OF_BATCH: u64 = 100;

fn main() {
    divan::main();
}

/// 1,000 events of 100 calls in one transaction; per event in the column of items.
#[divan::bench(sample_count = 200)]
fn commit_of_1000_events(bencher: Bencher<'_, '_>) {
    let directory = directory();
    let world = World::open(directory.path());
    let mut batches = 0;
    bencher
        .counter(ItemsCount::new(CALLS_OF_BATCH * EVENTS))
        .with_inputs(|| {
            batches += 1;
            Arc::new(batch(batches * CALLS_OF_BATCH))
        })
        .bench_local_values(|batch| world.commit(batch));
}

/// Opening a store, and loading an account with so many tracked calls.
#[divan::bench(args = [1_000, 10_000, 100_000], sample_count = 10)]
fn open_with_calls(bencher: Bencher<'_, '_>, calls: u64) {
    let directory = directory();
    let world = World::open(directory.path());
    for first in (0..calls).step_by(usize::try_from(CALLS_OF_BATCH).expect("small")) {
        world.commit(Arc::new(batch(first)));
    }
    world.close();
    bencher.bench_local(|| {
        let world = World::open(directory.path());
        assert_eq!(u64::try_from(world.calls).expect("small"), calls);
        world.close();
    });
}

/// An open store with an account.
struct World {
    store: Store,
    thread: StoreThread,
    runtime: Runtime,
    account: AccountId,
    calls: usize,
}

impl World {
    fn open(directory: &Path) -> Self {
        let limits = LedgerLimits {
            routes_per_account: 100,
            series: 100_000,
            hold_back: Duration::from_secs(65),
        };
        let health = Health::register(&Registry::new()).expect("instruments");
        let (store, thread) = Store::open(directory, limits, health, now).expect("a store");
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        let sid = AccountSid::parse("AC00000000000000000000000000000001").expect("a SID");
        let key = AccountKey { sid, region: "us1".to_owned() };
        let attached = runtime.block_on(store.attach(key, "bench".to_owned())).expect("attached");
        Self { store, thread, runtime, account: attached.id, calls: attached.calls.len() }
    }

    fn commit(&self, batch: Arc<Batch>) {
        self.runtime.block_on(self.store.commit(self.account, batch)).expect("committed");
    }

    fn close(self) {
        drop(self.store);
        self.thread.join();
    }
}

fn directory() -> TempDir {
    let memory = PathBuf::from("/dev/shm");
    let parent = if memory.is_dir() { memory } else { std::env::temp_dir() };
    TempDir::new_in(parent).expect("a temporary directory")
}

/// So many calls, from a number on, with their events on twenty routes.
fn batch(first: u64) -> Batch {
    let calls = first..first + CALLS_OF_BATCH;
    let facts = calls.clone().flat_map(|call| (0..EVENTS).map(move |event| fact(call, event)));
    Batch {
        facts: facts.collect(),
        calls: calls.map(progress).collect(),
        cursor: Some(now()),
        ..Batch::default()
    }
}

fn fact(call: u64, event: u64) -> Fact {
    let fails = (call + event).is_multiple_of(100);
    let code = if fails { 503 } else { 200 };
    Fact::Event {
        observation: Observation {
            endpoint: Endpoint {
                host: "ivr.example.com".to_owned(),
                route: format!("/menu/{}", (call + event) % 20),
            },
            kind: RequestKind::GatherAction,
            duration_ms: Some(100 + event * 37),
            verdict: Verdict {
                code: Code::of(code).expect("a code"),
                failure: fails.then_some(Reason::Http5xx),
                content_type: Some(ContentType::TextXml),
                warning: None,
                is_unjudged: false,
            },
        },
        call_sid: sid(call),
        at: now(),
        is_history: true,
    }
}

fn progress(number: u64) -> CallProgress {
    let call = Call {
        sid: sid(number),
        status: CallStatus::Completed,
        direction: Direction::Inbound,
        start_time: Some(now()),
        end_time: Some(now()),
        date_created: None,
        date_updated: None,
    };
    let digests = (0..EVENTS).map(|event| (Digest(number * EVENTS + event), 1)).collect();
    CallProgress { counted: Multiset::new(digests), ..CallProgress::begin(&call, now()).0 }
}

fn sid(number: u64) -> CallSid {
    CallSid::parse(&format!("CA{number:032x}")).expect("a SID")
}

fn now() -> Timestamp {
    Timestamp::from_second(1_700_000_000).expect("an instant")
}
