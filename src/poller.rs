//! The shell around an account: plan, fetch, observe, commit, wait.
//!
//! One task per account owns everything that is known of it. It asks the pure core what to do,
//! performs it, and reports back; it decides nothing itself.
//! Invariant: what a task learns becomes durable before the next thing is planned.

mod attempt;
mod decide;
pub mod discovery;
pub mod heartbeat;
mod read;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::domain::account::{AccountProgress, CallChanges, ReadFailure};
use crate::domain::call::Call;
use crate::domain::listing::{AfterPage, ListPlan, ListRun};
use crate::domain::observe::Rejection;
use crate::domain::pace::Pace;
use crate::domain::plan::{ReadPlan, Stage, Step};
use crate::domain::reading::Reading;
use crate::domain::retry::backoff;
use crate::domain::route::Routes;
use crate::domain::sid::CallSid;
use crate::domain::twilio_time::{TwilioTime, seconds_between};
use crate::metrics::health::{AccountHealth, EventResult, Health, ReadResult};
use crate::metrics::ledger::{AccountId, Fact};
use crate::store::{AccountKey, Batch, CommitError, Store};
use crate::twilio::client::CallPage;
use crate::twilio::{Answer, Client};

use attempt::Attempts;
use decide::{Decision, decide};
use heartbeat::Heartbeat;

/// Longest time between two looks at the plan: the clock's offset may have changed meanwhile.
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// Shortest time between two looks at the plan when nothing happens.
const SHORTEST_WAIT: Duration = Duration::from_millis(20);
/// How often gauges are set and calls forgotten: both look at every call.
const HOUSEKEEPING_EVERY: Duration = Duration::from_secs(1);
/// Longest wait before a failed commit is tried again.
const COMMIT_RETRY_CAP: Duration = Duration::from_secs(30);

/// What all accounts share.
#[derive(Clone, Debug)]
pub struct Shared {
    /// The local clock.
    pub clock: Clock,
    /// Twilio's clock, as learnt from all answers.
    pub twilio_time: Arc<Mutex<TwilioTime>>,
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
    /// The instruments.
    pub health: Health,
    /// The store.
    pub store: Store,
}

impl Shared {
    /// Twilio's time now.
    pub fn now(&self) -> Timestamp {
        let time = self.twilio_time.lock().unwrap_or_else(PoisonError::into_inner);
        time.at(self.clock.now())
    }
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
}

/// Polls an account until `stop`. Returns early only when the store is closed.
pub async fn run(account: Account, shared: Shared, heartbeat: Heartbeat, stop: CancellationToken) {
    let health =
        shared.health.account(&account.label, &account.key.sid.to_string(), account.status);
    let Some(mut poller) = Poller::attach(account, shared, health, &heartbeat, &stop).await else {
        return;
    };
    poller.run(&heartbeat, &stop).await;
    poller.shared.store.detach(poller.id);
    poller.health.remove();
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
    list_began: Instant,
    housekeeping_at: Option<Instant>,
    kept: (Option<Timestamp>, Option<Timestamp>),
    is_refused: bool,
}

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
        attempts: Attempts,
        result: Result<Reading, crate::twilio::Error>,
    },
    Fetched {
        sid: CallSid,
        answer: Answer<Call>,
    },
}

/// What a batch will have counted, told only once it is committed.
#[derive(Default)]
struct Notes {
    lags: Vec<f64>,
    counted: u64,
    duplicates: u64,
    unjudged: u64,
    rejected: Vec<Rejection>,
    reads: Vec<(Stage, ReadResult, u64)>,
    audits: Vec<u64>,
}

impl Poller {
    async fn attach(
        account: Account,
        shared: Shared,
        health: AccountHealth,
        heartbeat: &Heartbeat,
        stop: &CancellationToken,
    ) -> Option<Self> {
        let mut failures = 0;
        let attached = loop {
            heartbeat.promise(COMMIT_RETRY_CAP);
            match shared.store.attach(account.key.clone(), account.label.clone()).await {
                Ok(attached) => break attached,
                Err(CommitError::Closed) => return None,
                Err(error @ CommitError::Failed(_)) => {
                    failures += 1;
                    tracing::warn!(account = account.label, %error, "cannot load the account");
                    wait(backoff(failures, COMMIT_RETRY_CAP, random()), stop).await?;
                }
            }
        };
        let mut progress = AccountProgress::resume(attached.calls, attached.lists);
        let skipped = progress.lists.start(&shared.lists, shared.now());
        if !skipped.is_zero() {
            health.skipped(skipped);
            tracing::warn!(
                account = account.label,
                skipped_seconds = skipped.as_secs(),
                "was away for longer than poll.catch_up: older calls are not read"
            );
        }
        let pace = Pace::new(shared.max_concurrency);
        let kept = (progress.lists.cursor, progress.lists.forget_before);
        Some(Self {
            account,
            shared,
            id: attached.id,
            health,
            progress,
            pace,
            requests: JoinSet::new(),
            list: None,
            is_listing: false,
            list_began: Instant::now(),
            housekeeping_at: None,
            kept,
            is_refused: false,
        })
    }

    async fn run(&mut self, heartbeat: &Heartbeat, stop: &CancellationToken) {
        loop {
            let wake_at = self.start_requests();
            let wait = self.time_until(wake_at);
            heartbeat.promise(wait);
            let done = tokio::select! {
                () = stop.cancelled() => return,
                done = self.requests.join_next(), if !self.requests.is_empty() => done,
                () = tokio::time::sleep(wait) => None,
            };
            let mut batch =
                Batch { is_first_pass: self.progress.lists.is_first_pass(), ..Batch::default() };
            let mut notes = Notes::default();
            let mut finished: Vec<Done> = Vec::new();
            for joined in
                done.into_iter().chain(std::iter::from_fn(|| self.requests.try_join_next()))
            {
                match joined {
                    Ok(done) => finished.push(done),
                    // Only a panic ends a request; everything it could have told is asked again.
                    Err(error) => {
                        tracing::error!(account = self.account.label, %error, "a request ended early")
                    }
                }
            }
            for done in finished {
                self.take(done, &mut batch, &mut notes);
            }
            self.keep_house(&mut batch);
            heartbeat.promise(COMMIT_RETRY_CAP);
            if self.commit(batch, notes, heartbeat, stop).await.is_none() {
                return;
            }
        }
    }

    /// Starts what is due, and tells when to look again.
    fn start_requests(&mut self) -> Timestamp {
        let now = self.shared.now();
        let limit = self.pace.limit();
        self.health.api_concurrency(limit, self.requests.len());
        if now < self.pace.paused_until() {
            return self.pace.paused_until();
        }
        let mut free = limit.saturating_sub(self.requests.len());
        if free > 0
            && let Some(run) = self.list.take()
        {
            self.start_list(run);
            free -= 1;
        }
        let may_list = !self.is_listing && self.list.is_none();
        let may_read = now >= self.pace.reads_paused_until();
        let plan = self.progress.plan(
            &self.shared.lists,
            &self.shared.reads,
            now,
            free,
            may_list,
            may_read,
        );
        if let Some(run) = plan.list {
            self.list_began = Instant::now();
            self.start_list(run);
        }
        for step in plan.steps {
            self.start_step(step);
        }
        self.health.api_concurrency(limit, self.requests.len());
        if may_read { plan.wake_at } else { plan.wake_at.min(self.pace.reads_paused_until()) }
    }

    fn start_list(&mut self, run: ListRun) {
        self.is_listing = true;
        let (client, sid) = (self.account.client.clone(), self.account.key.sid);
        let budget = Arc::clone(&self.shared.budget);
        self.requests.spawn(async move {
            let _permit = budget.acquire().await;
            let answer = client.list_calls(sid, run.filter, run.next_page.as_deref()).await;
            Done::List { run: Box::new(run), answer }
        });
    }

    fn start_step(&mut self, step: Step) {
        let (client, account) = (self.account.client.clone(), self.account.key.sid);
        let budget = Arc::clone(&self.shared.budget);
        match step {
            Step::Fetch(sid) => {
                self.requests.spawn(async move {
                    let _permit = budget.acquire().await;
                    Done::Fetched { sid, answer: client.fetch_call(account, sid).await }
                });
            }
            Step::Read { sid, stage, skips } => {
                let reader = read::Reader {
                    client,
                    account,
                    call: sid,
                    digest_key: self.shared.store.digest_key(),
                    routes: Arc::clone(&self.shared.routes),
                    fallback_now: self.shared.now(),
                };
                self.requests.spawn(async move {
                    let _permit = budget.acquire().await;
                    let (attempts, result) = reader.read().await;
                    Done::Read { sid, stage, skips, attempts, result }
                });
            }
        }
    }

    fn take(&mut self, done: Done, batch: &mut Batch, notes: &mut Notes) {
        match done {
            Done::List { run, answer } => self.take_list(*run, answer, batch),
            Done::Fetched { sid, answer } => self.take_fetched(sid, answer, batch),
            Done::Read { sid, stage, skips, attempts, result } => {
                attempts.note(&self.health, &self.shared);
                match result {
                    Ok(reading) => self.take_reading(sid, stage, skips, &reading, batch, notes),
                    Err(error) => self.read_failed(sid, stage, &error, batch, notes),
                }
            }
        }
    }

    fn take_list(&mut self, mut run: ListRun, answer: Answer<CallPage>, batch: &mut Batch) {
        self.is_listing = false;
        attempt::note(&answer.attempt, &self.health, &self.shared);
        let now = self.shared.now();
        match answer.result {
            Ok(page) => {
                self.pace.succeeded();
                self.recovered();
                self.health.calls_rejected(page.rejected);
                let date = answer.attempt.date.unwrap_or(now);
                let (changes, after) =
                    self.progress.take_page(&mut run, &page.calls, page.next_page, date);
                self.add_changes(changes, batch);
                match after {
                    AfterPage::Continue => self.list = Some(run),
                    AfterPage::Complete | AfterPage::Capped => {
                        let is_complete = after == AfterPage::Complete;
                        self.progress.lists.finish(&run, is_complete);
                        let seconds = seconds_between(Timestamp::UNIX_EPOCH, now);
                        self.health.list_read(run.kind, self.list_began.elapsed(), seconds);
                        tracing::debug!(
                            account = self.account.label,
                            list = run.kind.as_str(),
                            is_complete,
                            "list read"
                        );
                    }
                }
            }
            Err(error) => {
                self.health.up(false);
                self.health.api_retry(error.reason().as_str());
                match decide(&error) {
                    Decision::Throttled { retry_after } => {
                        self.pace.throttled(retry_after, now, random())
                    }
                    Decision::Refused => {
                        self.pace.refused(false, now);
                        self.say_refused("calls", &error);
                    }
                    Decision::StopList => {
                        // What was read so far is kept; nothing beyond is Twilio's.
                        self.progress.lists.finish(&run, true);
                    }
                    Decision::Failed { retry_after } => {
                        self.pace.failed(None, retry_after, now, random())
                    }
                    Decision::SkipCall => self.pace.failed(None, None, now, random()),
                }
                tracing::debug!(account = self.account.label, list = run.kind.as_str(), %error, "list failed");
            }
        }
    }

    fn take_fetched(&mut self, sid: CallSid, answer: Answer<Call>, batch: &mut Batch) {
        attempt::note(&answer.attempt, &self.health, &self.shared);
        let now = self.shared.now();
        let changes = match answer.result {
            Ok(call) => {
                self.pace.succeeded();
                self.progress.take_fetched(sid, Some(&call), now)
            }
            Err(crate::twilio::Error::NotFound) => self.progress.take_fetched(sid, None, now),
            Err(error) => {
                self.health.api_retry(error.reason().as_str());
                self.back_off(sid, &error, now);
                self.progress.fetch_failed(sid, now);
                CallChanges::default()
            }
        };
        self.add_changes(changes, batch);
    }

    fn take_reading(
        &mut self,
        sid: CallSid,
        stage: Stage,
        skips: u8,
        reading: &Reading,
        batch: &mut Batch,
        notes: &mut Notes,
    ) {
        self.pace.read_succeeded();
        let reads = &self.shared.reads;
        let Some(changes) = self.progress.take_reading(sid, stage, skips, reading, reads) else {
            return;
        };
        let now = self.shared.now();
        let result = if reading.items.is_empty() { ReadResult::Empty } else { ReadResult::Found };
        notes.reads.push((stage, result, 1));
        notes.reads.push((Stage::AfterEnd, ReadResult::Skipped, u64::from(skips)));
        notes.duplicates += changes.counted.duplicates;
        notes.rejected.extend(changes.counted.rejected);
        if stage == Stage::Audit {
            notes.audits.push(u64::try_from(changes.counted.events.len()).unwrap_or(u64::MAX));
        }
        for (observation, created_at) in changes.counted.events {
            notes.counted += 1;
            notes.unjudged += u64::from(observation.verdict.is_unjudged);
            notes.lags.extend(created_at.map(|at| seconds_between(at, now)));
            batch.facts.push(Fact::Event(observation));
        }
        batch.facts.extend(changes.outcome.map(Fact::Felt));
        self.keep_call(sid, batch);
    }

    fn read_failed(
        &mut self,
        sid: CallSid,
        stage: Stage,
        error: &crate::twilio::Error,
        batch: &mut Batch,
        notes: &mut Notes,
    ) {
        let now = self.shared.now();
        self.health.api_retry(error.reason().as_str());
        let failure = match decide(error) {
            Decision::Refused => {
                self.pace.refused(true, now);
                self.say_refused("call events", error);
                self.progress.abandon(sid);
                return;
            }
            Decision::Throttled { .. } => {
                self.back_off(sid, error, now);
                self.progress.abandon(sid);
                return;
            }
            Decision::SkipCall | Decision::StopList => ReadFailure::Refused,
            Decision::Failed { .. } => {
                self.back_off(sid, error, now);
                ReadFailure::Failed
            }
        };
        let reads = &self.shared.reads;
        if self.progress.read_failed(sid, stage, failure, reads, now, random()) {
            notes.reads.push((stage, ReadResult::Failed, 1));
            self.keep_call(sid, batch);
            tracing::warn!(account = self.account.label, call_sid = %sid, stage = stage.as_str(), %error, "gave up reading a call's events");
        }
    }

    fn back_off(&mut self, sid: CallSid, error: &crate::twilio::Error, now: Timestamp) {
        match decide(error) {
            Decision::Throttled { retry_after } => self.pace.throttled(retry_after, now, random()),
            Decision::Failed { retry_after } => {
                self.pace.failed(Some(sid), retry_after, now, random());
            }
            Decision::Refused => self.pace.refused(true, now),
            Decision::SkipCall | Decision::StopList => {}
        }
    }

    fn add_changes(&self, changes: CallChanges, batch: &mut Batch) {
        for (direction, status) in changes.finished {
            batch.facts.push(Fact::Finished(direction, status));
        }
        for sid in changes.changed {
            self.keep_call(sid, batch);
        }
    }

    /// Adds a call to the batch, once, as it is now.
    fn keep_call(&self, sid: CallSid, batch: &mut Batch) {
        batch.calls.retain(|call| call.sid != sid);
        batch.calls.extend(self.progress.calls.get(&sid).cloned());
    }

    /// Sets the gauges that look at every call, and forgets what can be forgotten.
    fn keep_house(&mut self, batch: &mut Batch) {
        if self.housekeeping_at.is_some_and(|at| at.elapsed() < HOUSEKEEPING_EVERY) {
            return;
        }
        self.housekeeping_at = Some(Instant::now());
        let now = self.shared.now();
        self.health.lateness(&self.progress.lateness(&self.shared.reads, now));
        self.health.poll_interval(self.progress.lists.interval(&self.shared.lists, now));
        batch.forgotten = self.progress.forget(now);
    }

    /// Commits a batch, however long it takes; `None` when there is no point in going on.
    async fn commit(
        &mut self,
        mut batch: Batch,
        notes: Notes,
        heartbeat: &Heartbeat,
        stop: &CancellationToken,
    ) -> Option<()> {
        let lists = &self.progress.lists;
        let known = (lists.cursor, lists.forget_before);
        let has_changes = !batch.facts.is_empty()
            || !batch.calls.is_empty()
            || !batch.forgotten.is_empty()
            || known != self.kept;
        if has_changes {
            (batch.cursor, batch.forget_before) = known;
            let batch = Arc::new(batch);
            let mut failures = 0;
            let report = loop {
                heartbeat.promise(COMMIT_RETRY_CAP);
                match self.shared.store.commit(self.id, Arc::clone(&batch)).await {
                    Ok(report) => break report,
                    Err(CommitError::Closed) => return None,
                    Err(error @ CommitError::Failed(_)) => {
                        failures += 1;
                        tracing::warn!(account = self.account.label, %error, "polling pauses until the store can be written");
                        wait(backoff(failures, COMMIT_RETRY_CAP, random()), stop).await?;
                    }
                }
            };
            if failures > 0 {
                tracing::info!(account = self.account.label, "the store can be written again");
            }
            self.kept = known;
            self.health.route_overflow(report.overflowed);
        }
        self.tell(notes);
        Some(())
    }

    fn tell(&self, notes: Notes) {
        self.health.call_events(EventResult::Counted, notes.counted);
        self.health.call_events(EventResult::Duplicate, notes.duplicates);
        let rejected = u64::try_from(notes.rejected.len()).unwrap_or(u64::MAX);
        self.health.call_events(EventResult::Rejected, rejected);
        self.health.call_events_unjudged(notes.unjudged);
        for rejection in notes.rejected {
            self.health.call_event_rejected(rejection);
        }
        for (stage, result, count) in notes.reads {
            self.health.call_read(stage, result, count);
        }
        for lag in notes.lags {
            self.health.event_lag(lag);
        }
        for late in notes.audits {
            self.health.audited(late);
        }
    }

    fn say_refused(&mut self, what: &str, error: &crate::twilio::Error) {
        if !self.is_refused {
            tracing::warn!(account = self.account.label, resource = what, %error, "cannot read from Twilio");
        }
        self.is_refused = true;
    }

    fn recovered(&mut self) {
        self.health.up(true);
        if self.is_refused && self.shared.now() >= self.pace.reads_paused_until() {
            self.is_refused = false;
            tracing::info!(account = self.account.label, "can read from Twilio again");
        }
    }

    fn time_until(&self, at: Timestamp) -> Duration {
        let wait = Duration::try_from(at.duration_since(self.shared.now())).unwrap_or_default();
        let wait = match self.housekeeping_at {
            Some(at) => wait.min(HOUSEKEEPING_EVERY.saturating_sub(at.elapsed())),
            None => Duration::ZERO,
        };
        wait.clamp(SHORTEST_WAIT, LONGEST_WAIT)
    }
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
