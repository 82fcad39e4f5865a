//! The cost of committing counted Call Events, and of starting with many calls.
//!
//! `cargo bench --bench store`. The store is in memory if the machine has `/dev/shm`, to leave out the
//! fsync, whose time depends on the disk. The rest of a commit is included: the ledger's delta, SQL, the
//! log and publishing to scrapes.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use divan::Bencher;
use divan::counter::ItemsCount;
use jiff::Timestamp;
use prometheus::Registry;
use tempfile::TempDir;
use tokio::runtime::Runtime;
use twilio_call_exporter::domain::engine::effects::Batch;
use twilio_call_exporter::domain::engine::effects::Fact;
use twilio_call_exporter::domain::judge::content_type::ContentType;
use twilio_call_exporter::domain::judge::kind::RequestKind;
use twilio_call_exporter::domain::judge::observe::Observation;
use twilio_call_exporter::domain::judge::route::{Endpoint, Routes};
use twilio_call_exporter::domain::judge::verdict::{Code, Reason, Verdict};
use twilio_call_exporter::domain::track::digest::{Digest, DigestVersion, Digests};
use twilio_call_exporter::domain::track::listing::ListProgress;
use twilio_call_exporter::domain::track::progress::{CallProgress, Multiset};
use twilio_call_exporter::domain::track::reading::{Item, Reading};
use twilio_call_exporter::domain::words::call::{Call, CallStatus, Direction};
use twilio_call_exporter::domain::words::sid::{AccountSid, CallSid};
use twilio_call_exporter::metrics::health::Health;
use twilio_call_exporter::metrics::ledger::{AccountId, LedgerLimits};
use twilio_call_exporter::store::{AccountKey, Store, StoreThread};
use twilio_call_exporter::twilio::wire::{Page, RawItem, decode_call_event};

/// Call Events per call.
const EVENTS_PER_CALL: u64 = 10;
/// Calls per batch: 1,000 events.
const CALLS_PER_BATCH: u64 = 100;

fn main() {
    divan::main();
}

/// Commits 1,000 events of 100 calls in one transaction; the item rate is per event.
#[divan::bench(sample_count = 200)]
fn commit_of_1000_events(bencher: Bencher<'_, '_>) {
    let directory = directory();
    let world = World::open(directory.path());
    let mut batches = 0;
    bencher
        .counter(ItemsCount::new(CALLS_PER_BATCH * EVENTS_PER_CALL))
        .with_inputs(|| {
            batches += 1;
            Arc::new(batch(batches * CALLS_PER_BATCH))
        })
        .bench_local_values(|batch| world.commit(batch));
}

/// Everything except the network, sequentially on one thread: 100 pages of 10 Call Events are split,
/// decoded, judged, identified, counted and committed together.
#[divan::bench(sample_count = 100)]
fn decode_observe_commit_of_1000_events(bencher: Bencher<'_, '_>) {
    let directory = directory();
    let world = World::open(directory.path());
    let (digests, routes) = (digests(&world.store), Routes::new(Vec::new()));
    let pages: Vec<String> = (0..CALLS_PER_BATCH).map(page).collect();
    let mut batches = 0;
    bencher.counter(ItemsCount::new(CALLS_PER_BATCH * EVENTS_PER_CALL)).bench_local(|| {
        batches += 1;
        let mut batch = Batch { lists: lists(), ..Batch::default() };
        for (number, page) in (batches * CALLS_PER_BATCH..).zip(&pages) {
            let page = Page::split(page).expect("a page");
            let judge = |item: &RawItem<'_>| {
                let event = decode_call_event(item).expect("a Call Event");
                Item::judge(&event, sid(number), digests, &routes)
            };
            let items = page.items.iter().map(judge).collect();
            let reading = Reading { items, read_at: now(), is_complete: true };
            let mut call = CallProgress::begin(&call(number), now()).0;
            for (observation, at) in call.count(&reading, true).events {
                let (call_sid, at) = (call.sid, at.unwrap_or(now()));
                batch.facts.push(Fact::Event { observation, call_sid, at, is_history: true });
            }
            batch.calls.push(call);
        }
        assert_eq!(batch.facts.len(), 1_000);
        world.commit(Arc::new(batch));
    });
}

/// The floor: the same pages, only parsed.
#[divan::bench(sample_count = 100)]
fn parse_of_1000_events(bencher: Bencher<'_, '_>) {
    let pages: Vec<String> = (0..CALLS_PER_BATCH).map(page).collect();
    bencher.counter(ItemsCount::new(CALLS_PER_BATCH * EVENTS_PER_CALL)).bench_local(|| {
        let parse = |page: &String| serde_json::from_str::<serde_json::Value>(page).expect("JSON");
        pages.iter().map(parse).filter(|page| page["events"].is_array()).count()
    });
}

/// Opens a store and loads an account with this many tracked calls.
#[divan::bench(args = [1_000, 10_000, 100_000], sample_count = 10)]
fn open_with_calls(bencher: Bencher<'_, '_>, calls: u64) {
    let directory = directory();
    let world = World::open(directory.path());
    for first in (0..calls).step_by(usize::try_from(CALLS_PER_BATCH).expect("small")) {
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

/// A batch of consecutive calls with their events on twenty routes.
fn batch(first: u64) -> Batch {
    let calls = first..first + CALLS_PER_BATCH;
    let facts =
        calls.clone().flat_map(|call| (0..EVENTS_PER_CALL).map(move |event| fact(call, event)));
    Batch {
        facts: facts.collect(),
        calls: calls.map(progress).collect(),
        lists: lists(),
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
            is_configured: false,
            kind: RequestKind::GatherAction,
            duration_ms: Some(100 + event * 37),
            has_invalid_duration: false,
            verdict: Verdict {
                code: Code::from_status(code).expect("a code"),
                failure: fails.then_some(Reason::Http5xx),
                malformation: None,
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

fn digests(store: &Store) -> Digests {
    Digests::new(store.digest_key(), DigestVersion::CURRENT)
}

/// A page of a call's events as Twilio sends it: each has 22 parameters and 1 kB of TwiML.
fn page(call: u64) -> String {
    let parameters: Vec<String> = [
        "AccountSid",
        "ApiVersion",
        "CallSid",
        "CallStatus",
        "Called",
        "CalledCity",
        "CalledState",
        "CalledZip",
        "Caller",
        "CallerCity",
        "CallerCountry",
        "CallerState",
        "CallerZip",
        "Digits",
        "Direction",
        "From",
        "FromCity",
        "FromState",
        "To",
        "ToCity",
        "ToCountry",
        "ToState",
    ]
    .map(|name| format!("\"{name}\":\"of {name}\""))
    .into();
    let prompt = "<Say voice=\\\"Polly.Amy\\\">For opening hours, press one. To hear about an order, press \
                  two. To speak to a person, stay on the line.</Say>";
    let twiml =
        format!("<Response><Gather numDigits=\\\"1\\\">{}</Gather></Response>", prompt.repeat(8));
    let events: Vec<String> = (0..EVENTS_PER_CALL)
        .map(|event| {
            format!(
                "{{\"request\":{{\"method\":\"POST\",\"url\":\"https://ivr.example.com/menu/step-{}?lang=en\",\
                 \"parameters\":{{{}}}}},\"response\":{{\"response_code\":200,\"request_duration\":{},\
                 \"content_type\":\"text/xml; charset=utf-8\",\"response_body\":\"{twiml}\",\
                 \"date_created\":\"Tue, 14 Nov 2023 22:13:{:02} +0000\"}}}}",
                (call + event) % 20,
                parameters.join(","),
                40 + (call * 7 + event) % 900,
                event * 5,
            )
        })
        .collect();
    format!("{{\"events\":[{}],\"next_page_uri\":null}}", events.join(","))
}

fn progress(number: u64) -> CallProgress {
    let digests =
        (0..EVENTS_PER_CALL).map(|event| (Digest(number * EVENTS_PER_CALL + event), 1)).collect();
    let begun = CallProgress::begin(&call(number), now()).0;
    CallProgress { counted: Multiset::new(digests), ..begun }
}

fn call(number: u64) -> Call {
    Call {
        sid: sid(number),
        status: CallStatus::Completed,
        direction: Direction::Inbound,
        start_time: Some(now()),
        end_time: Some(now()),
        date_created: None,
        date_updated: None,
    }
}

fn sid(number: u64) -> CallSid {
    CallSid::parse(&format!("CA{number:032x}")).expect("a SID")
}

fn lists() -> ListProgress {
    ListProgress { cursor: Some(now()), ..ListProgress::default() }
}

fn now() -> Timestamp {
    Timestamp::from_second(1_700_000_000).expect("an instant")
}
