//! The shell around an account: plan, fetch, observe, commit, wait.
//!
//! One task per account owns everything that is known of it. It asks the pure core what to do,
//! performs it, and reports back; it decides nothing itself.
//! Invariant: what a task learns becomes durable before the next thing is planned.

mod attempt;
mod commit;
mod decide;
pub mod discovery;
pub mod gate;
pub mod heartbeat;
pub mod loops;
mod read;
mod requests;
mod take;
pub mod tracked;
mod trouble;
mod unreadable;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio::sync::Semaphore;
use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::domain::engine::account::{AccountProgress, is_cursor_behind};
use crate::domain::engine::failure_log::FailureLog;
use crate::domain::engine::lists::{ListPlan, ListRun, Lists};
use crate::domain::engine::pace::Pace;
use crate::domain::engine::page_size::PageSizes;
use crate::domain::engine::plan::{ReadPlan, Stage};
use crate::domain::engine::retry::backoff;
use crate::domain::engine::unreadable::UnreadableCalls;
use crate::domain::judge::route::Routes;
use crate::domain::track::listing::{ListKind, ListProgress};
use crate::domain::track::reading::Reading;
use crate::domain::words::call::Call;
use crate::domain::words::sid::{AccountSid, CallSid};
use crate::metrics::health::{AccountHealth, Health};
use crate::metrics::ledger::AccountId;
use crate::store::{AccountKey, Attached, Batch, CommitError, Store};
use crate::twilio::client::CallPage;
use crate::twilio::{Answer, Client};

pub use attempt::retry_reasons;

use attempt::Attempts;
use commit::Notes;
use gate::Gate;
use heartbeat::Heartbeat;
use tracked::{Share, TrackedCalls};
use trouble::Troubles;

/// Longest time between two looks at the plan: the clock's offset may have changed meanwhile.
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// Shortest time between two looks at the plan when nothing happens.
const SHORTEST_WAIT: Duration = Duration::from_millis(20);
/// How long a commit waits for requests that are about to end: little beside what a request to
/// Twilio takes.
const GATHER: Duration = Duration::from_millis(2);
/// How often gauges are set and calls forgotten: both look at every call.
const HOUSEKEEPING_EVERY: Duration = Duration::from_secs(1);
/// It takes at most one part in this many of a processor: a hundred thousand calls need 30 ms.
const HOUSEKEEPING_SHARE: u32 = 100;
/// Longest wait before a failed commit is tried again.
const COMMIT_RETRY_CAP: Duration = Duration::from_secs(30);

/// What all accounts share.
#[derive(Clone, Debug)]
pub struct Shared {
    /// The local clock.
    pub clock: Clock,
    /// Requests that all accounts together may have in flight.
    pub budget: Arc<Semaphore>,
    /// The user's routes.
    pub routes: Arc<Routes>,
    /// How lists are read.
    pub lists: ListPlan,
    /// How calls are read.
    pub reads: ReadPlan,
    /// Most requests in flight for one account.
    pub max_concurrency: usize,
    /// Calls that all accounts together may track.
    pub tracked: Arc<TrackedCalls>,
    /// The instruments.
    pub health: Health,
    /// The store.
    pub store: Store,
}

/// An account to be polled.
#[derive(Clone, Debug)]
pub struct Account {
    /// What identifies it in the store.
    pub key: AccountKey,
    /// Its label.
    pub label: String,
    /// Its status, as far as Twilio told.
    pub status: &'static str,
    /// The connection to Twilio.
    pub client: Client,
    /// What bounds its requests.
    pub gate: Arc<Gate>,
}

impl Account {
    /// Its instruments, which are shown from here on, with how far its lists are known: no scrape may
    /// miss that what is counted first is the past.
    pub fn instruments(&self, shared: &Shared, known: &ListProgress) -> AccountHealth {
        let health = instruments(&shared.health, &self.label, self.key.sid, self.status);
        if is_cursor_behind(known.cursor, shared.clock.now()) {
            health.begins_behind();
        }
        health
    }
}

/// The instruments of an account that is polled, or is about to be.
pub fn instruments(
    health: &Health,
    label: &str,
    sid: AccountSid,
    status: &'static str,
) -> AccountHealth {
    health.account(label, &sid.to_string(), status, retry_reasons())
}

/// Polls an account until `stop`, and loads it first if it isn't attached yet. Returns early only
/// when the store is closed; tells the account's id if it was ever polled.
pub async fn run(
    account: Account,
    attached: Option<Attached>,
    shared: Shared,
    heartbeat: Heartbeat,
    stop: CancellationToken,
) -> Option<AccountId> {
    let attached = match attached {
        Some(attached) => attached,
        None => attach(&account, &shared, &heartbeat, &stop).await?,
    };
    let id = attached.id;
    Poller::new(account, attached, shared).run(&heartbeat, &stop).await;
    Some(id)
}

/// Loads an account that came while the program runs, however long the store takes; `None` when
/// there is no point in going on.
async fn attach(
    account: &Account,
    shared: &Shared,
    heartbeat: &Heartbeat,
    stop: &CancellationToken,
) -> Option<Attached> {
    let mut failures = 0;
    loop {
        heartbeat.promise(COMMIT_RETRY_CAP);
        match shared.store.attach(account.key.clone(), account.label.clone()).await {
            Ok(attached) => return Some(attached),
            Err(CommitError::Closed) => return None,
            Err(error @ CommitError::Failed(_)) => {
                failures += 1;
                tracing::warn!(account = account.label, %error, "cannot load the account");
                wait(backoff(failures, COMMIT_RETRY_CAP, random()), stop).await?;
            }
        }
    }
}

struct Poller {
    account: Account,
    shared: Shared,
    id: AccountId,
    health: AccountHealth,
    progress: AccountProgress,
    pace: Pace,
    requests: JoinSet<Done>,
    /// The list that is being read, while its next page is not asked for yet.
    list: Option<ListRun>,
    is_listing: bool,
    list_had_turn: bool,
    list_began: Instant,
    housekeeping_at: Instant,
    kept: ListProgress,
    tracked: Share,
    /// Whether a route has found no room since the program started, which is said once.
    has_overflowed: bool,
    failure_log: FailureLog,
    /// How many items the pages of lists and of Call Events are asked for.
    list_sizes: PageSizes<ListKind>,
    event_sizes: PageSizes<CallSid>,
    /// Conditions that hold at present and were logged when they began: each is said once.
    said: BTreeSet<&'static str>,
    troubles: Troubles,
    unreadable: UnreadableCalls,
}

/// A request that has come back.
type Joined = Result<Done, JoinError>;

/// A finished request, or several that make one read.
enum Done {
    List {
        run: Box<ListRun>,
        answer: Answer<CallPage>,
    },
    Read {
        sid: CallSid,
        stage: Stage,
        skips: u8,
        /// How many items a page was asked for, and how many of them were small enough together.
        page_sizes: [u16; 2],
        attempts: Attempts,
        result: Result<Reading, crate::twilio::Error>,
    },
    Fetched {
        sid: CallSid,
        answer: Answer<Call>,
    },
}

impl Poller {
    fn new(account: Account, attached: Attached, shared: Shared) -> Self {
        let health = account.instruments(&shared, &attached.lists);
        let progress = AccountProgress::resume(attached.calls, Lists::resume(attached.lists));
        let pace = Pace::new(shared.max_concurrency);
        let tracked = shared.tracked.share(progress.calls.len());
        Self {
            account,
            shared,
            id: attached.id,
            health,
            progress,
            pace,
            requests: JoinSet::new(),
            list: None,
            is_listing: false,
            list_had_turn: false,
            list_began: Instant::now(),
            housekeeping_at: Instant::now(),
            kept: attached.lists,
            tracked,
            has_overflowed: false,
            failure_log: FailureLog::default(),
            said: BTreeSet::new(),
            troubles: Troubles::default(),
            unreadable: UnreadableCalls::default(),
            list_sizes: PageSizes::of_lists(),
            event_sizes: PageSizes::of_events(),
        }
    }

    async fn run(&mut self, heartbeat: &Heartbeat, stop: &CancellationToken) {
        loop {
            let wait = self.start_requests();
            let wait = self.at_most_until_housekeeping(wait);
            heartbeat.promise(wait);
            let done = tokio::select! {
                // Asked to end, it begins nothing more: whatever came back meanwhile is asked again.
                biased;
                () = stop.cancelled() => return,
                done = self.requests.join_next(), if !self.requests.is_empty() => done,
                () = tokio::time::sleep(wait) => None,
            };
            let mut batch = Batch::default();
            let mut notes = Notes::default();
            let mut finished: Vec<Done> = Vec::new();
            for joined in self.gather(done).await {
                match joined {
                    Ok(done) => finished.push(done),
                    // Only a panic ends a request; everything it could have told is asked again.
                    Err(error) => {
                        self.is_listing = false;
                        self.progress.abandon_all();
                        tracing::warn!(account = self.account.label, %error, "a request ended early")
                    }
                }
            }
            for done in finished {
                self.take(done, &mut batch, &mut notes);
            }
            self.keep_house(&mut batch, &mut notes);
            heartbeat.promise(COMMIT_RETRY_CAP);
            if self.commit(batch, notes, heartbeat, stop).await.is_none() {
                return;
            }
        }
    }

    /// What ends together with a request, to be committed with it: each commit is a flush of the
    /// disk.
    async fn gather(&mut self, first: Option<Joined>) -> Vec<Joined> {
        let mut joined: Vec<Joined> = first.into_iter().collect();
        if !joined.is_empty() {
            let all = async {
                while let Some(done) = self.requests.join_next().await {
                    joined.push(done);
                }
            };
            // Whoever takes longer comes with the next commit.
            let _some_go_on = tokio::time::timeout(GATHER, all).await;
        }
        joined
    }

    /// Sets the gauges that look at every call, and forgets what can be forgotten.
    fn keep_house(&mut self, batch: &mut Batch, notes: &mut Notes) {
        let began = Instant::now();
        if began < self.housekeeping_at {
            return;
        }
        let (now, reads) = (self.now(), &self.shared.reads);
        let found = self.progress.keep_house(reads, self.shared.max_concurrency, now);
        batch.forgotten = found.forgotten;
        self.event_sizes.keep(|sid| self.progress.calls.contains_key(sid));
        take::add_changes(found.changes, batch, notes);
        self.health.lateness(&self.progress.lateness(reads, now));
        self.health.poll_interval(self.progress.lists.interval(&self.shared.lists, now));
        self.health.required_concurrency(self.progress.required_concurrency(reads));
        let count = self.progress.calls.len();
        self.shared.tracked.set(&mut self.tracked, count);
        self.health.tracked_calls(count);
        self.look_at_troubles();
        let pause = HOUSEKEEPING_EVERY.max(began.elapsed() * HOUSEKEEPING_SHARE);
        self.housekeeping_at = began + pause;
    }

    /// Twilio's time now.
    fn now(&self) -> Timestamp {
        self.progress.now(self.shared.clock.now())
    }

    fn at_most_until_housekeeping(&self, wait: Duration) -> Duration {
        let housekeeping = self.housekeeping_at.saturating_duration_since(Instant::now());
        wait.min(housekeeping).clamp(SHORTEST_WAIT, LONGEST_WAIT)
    }
}

/// The time from one instant to another, zero if that has passed.
fn until(now: Timestamp, at: Timestamp) -> Duration {
    Duration::try_from(at.duration_since(now)).unwrap_or_default()
}

/// Waits; `None` if the program stops meanwhile.
async fn wait(time: Duration, stop: &CancellationToken) -> Option<()> {
    tokio::select! {
        () = stop.cancelled() => None,
        () = tokio::time::sleep(time) => Some(()),
    }
}

/// Randomness for jitter; without any, everybody waits alike.
fn random() -> u64 {
    getrandom::u64().unwrap_or(0)
}
