//! The poll loop of an account: sends the engine's requests, collects responses, commits their effects, and waits.
//!
//! There is one task per account. It decides nothing: `Engine::next` chooses requests, and `Engine::on_answer`
//! applies responses.
//! Invariant: the effects of responses are durable before the next request is sent.

mod account;
pub mod heartbeat;
pub mod inbox;
mod log;
pub mod loops;
pub(crate) mod sender;
pub mod subaccounts;
pub mod tracked;

use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{AcquireError, OwnedSemaphorePermit};
use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

use crate::domain::engine::backoff::Backoff;
use crate::domain::engine::effects::Effects;
use crate::domain::engine::request::Resource;
use crate::domain::engine::{Context, Engine, InitialState, Settings};
use crate::domain::judge::reported::Reported;
use crate::metrics::health::AccountHealth;
use crate::metrics::ledger::AccountId;
use crate::store::{AttachedAccount, CommitError};

pub use account::{Account, Poll, Shared, instruments};
pub(crate) use subaccounts::subaccount;

use heartbeat::Heartbeat;
use inbox::{Delivery, Inbox};
use log::Log;
use sender::{CompletedRequest, RequestSender};
use subaccounts::Subaccounts;
use tracked::Share;

/// The longest wait between two iterations, because the clock's offset may change.
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// The shortest wait between two iterations when nothing happens.
const SHORTEST_WAIT: Duration = Duration::from_millis(20);
/// How long a commit waits for more requests to end: short compared with a request to Twilio.
const GATHER_TIME: Duration = Duration::from_millis(2);
/// The shortest time between two runs of housekeeping, which visits every call.
const HOUSEKEEPING_EVERY: Duration = Duration::from_secs(1);
/// Housekeeping uses at most `1 / HOUSEKEEPING_DIVISOR` of a CPU: 100,000 calls take 30 ms.
const HOUSEKEEPING_DIVISOR: u32 = 100;
/// The longest wait before a failed commit is retried.
const COMMIT_RETRY_CAP: Duration = Duration::from_secs(30);
/// The wait before a failed commit is retried.
const COMMIT_RETRY: Backoff = Backoff::new(Duration::from_millis(500), COMMIT_RETRY_CAP);

struct Poller {
    label: String,
    sender: RequestSender,
    shared: Shared,
    subaccounts: Option<Subaccounts>,
    id: AccountId,
    health: AccountHealth,
    log: Log,
    engine: Engine,
    /// The entries that Twilio pushes.
    inbox: Inbox,
    requests: JoinSet<CompletedRequest>,
    /// A permit for a request, acquired by waiting.
    permit: Option<OwnedSemaphorePermit>,
    /// The wait for a permit, kept across iterations so that the account keeps its place in the queue.
    permit_wait: Option<PermitFuture>,
    housekeeping_at: Instant,
    tracked: Share,
}

impl Poller {
    fn new(poll: Poll, attached: AttachedAccount, inbox: Inbox) -> Self {
        let Poll { account, subaccounts, shared, .. } = poll;
        let health = account.instruments(&shared, &attached.lists);
        // Clear the trouble reported by a previous loop.
        for resource in Resource::ALL {
            health.trouble(*resource, None);
        }
        let tracked = shared.tracked.share(attached.calls.len());
        let settings = Settings {
            account: account.key.sid,
            lists: shared.lists,
            reads: shared.reads.clone(),
            max_concurrency: shared.max_concurrency,
            discovers: subaccounts.is_some(),
            // Twilio returns only the error log of the account that signs in.
            has_error_log: account.parent.is_none(),
            accepts_pushes: account.accepts_pushes,
            digest_key: shared.store.digest_key(),
        };
        let AttachedAccount { id, lists, calls, reported, .. } = attached;
        let initial = InitialState { lists, calls, reported };
        let sender = RequestSender {
            client: account.client,
            account: account.key.sid,
            routes: Arc::clone(&shared.routes),
            clock: shared.clock,
        };
        Self {
            log: Log::new(&account.label),
            label: account.label,
            sender,
            shared,
            subaccounts,
            id,
            health,
            engine: Engine::new(settings, initial),
            inbox,
            requests: JoinSet::new(),
            permit: None,
            permit_wait: None,
            housekeeping_at: Instant::now(),
            tracked,
        }
    }

    async fn run(&mut self, heartbeat: &Heartbeat, stop: &CancellationToken) {
        loop {
            let wait = self.send();
            heartbeat.set_deadline(wait);
            let mut pushed = Vec::new();
            let first = tokio::select! {
                // A stopping loop ignores completed requests: they are repeated after the restart or reload.
                biased;
                () = stop.cancelled() => return,
                completed = self.requests.join_next(), if !self.requests.is_empty() => completed,
                deliveries = self.inbox.next() => {
                    pushed = deliveries;
                    None
                }
                permit = wait_for_permit(&mut self.permit_wait), if self.permit_wait.is_some() => {
                    // The budget is never closed.
                    self.permit = permit.ok();
                    self.permit_wait = None;
                    None
                }
                () = tokio::time::sleep(wait) => None,
            };
            let mut effects = Effects::default();
            for completed in self.gather(first).await {
                effects.merge(self.on_completed(completed).await);
            }
            // Deliveries must not starve while the account is busy.
            pushed.extend(self.inbox.pending());
            pushed.retain_mut(|delivery| self.apply_pushed(delivery, &mut effects));
            self.run_housekeeping(&mut effects);
            if self.commit(effects, heartbeat, stop).await.is_none() {
                return;
            }
            pushed.into_iter().for_each(Delivery::confirm);
        }
    }

    /// Sends the due requests, and returns how long to wait for the next event.
    fn send(&mut self) -> Duration {
        let now = self.shared.clock.now();
        let mut permits: Vec<OwnedSemaphorePermit> = self.permit.take().into_iter().collect();
        while permits.len() < self.engine.free(now)
            && let Ok(permit) = Arc::clone(&self.shared.budget).try_acquire_owned()
        {
            permits.push(permit);
        }
        let next = self.engine.next(permits.len(), now);
        for (request, permit) in next.requests.into_iter().zip(permits) {
            let sender = self.sender.clone();
            self.requests.spawn(async move {
                let _held_until_completed = permit;
                sender.send(request).await
            });
        }
        let (limit, in_flight) = self.engine.concurrency();
        self.health.api_concurrency(limit, in_flight);
        let wait = Duration::try_from(next.wake_at.duration_since(now)).unwrap_or_default();
        let housekeeping = self.housekeeping_at.saturating_duration_since(Instant::now());
        if next.needs_permits {
            let budget = Arc::clone(&self.shared.budget);
            self.permit_wait.get_or_insert_with(|| Box::pin(budget.acquire_owned()));
        } else {
            self.permit_wait = None;
        }
        wait.min(housekeeping).clamp(SHORTEST_WAIT, LONGEST_WAIT)
    }

    /// Collects requests that end shortly after the first, to share one commit, which flushes the disk.
    async fn gather(&mut self, first: Option<JoinedRequest>) -> Vec<JoinedRequest> {
        let mut joined: Vec<JoinedRequest> = first.into_iter().collect();
        if !joined.is_empty() {
            let all = async {
                while let Some(completed) = self.requests.join_next().await {
                    joined.push(completed);
                }
            };
            // Requests that take longer are part of the next commit.
            let _timed_out = tokio::time::timeout(GATHER_TIME, all).await;
        }
        joined
    }

    async fn on_completed(&mut self, completed: JoinedRequest) -> Effects {
        let CompletedRequest { id, attempt, answer } = match completed {
            Ok(completed) => completed,
            // Only a panic ends a request early. All requests in flight are sent again.
            Err(error) => {
                tracing::warn!(account = self.label, %error, "a request panicked");
                self.requests.shutdown().await;
                self.engine.abandon_all();
                return Effects::default();
            }
        };
        if let Some(attempt) = attempt {
            self.health.api_request(attempt.resource, attempt.code, attempt.took);
            if let Some(requests) = attempt.concurrent_requests {
                self.health.account_concurrency(requests);
            }
        }
        let room = self.shared.tracked.room(self.engine.tracked_calls());
        let context = Context { now: self.shared.clock.now(), random: random(), room };
        let effects = self.engine.on_answer(id, answer, context);
        self.note_tracked();
        effects
    }

    /// Applies pushed entries. Returns whether they were accepted, and so are delivered once committed.
    fn apply_pushed(&mut self, delivery: &mut Delivery, effects: &mut Effects) -> bool {
        let entries = std::mem::take(&mut delivery.entries);
        let judge = |entry| Reported::judge(entry, &self.shared.routes);
        let entries = entries.iter().map(judge).collect();
        let now = self.shared.clock.now();
        let accepted = self.engine.on_push(entries, delivery.rejected, now);
        let is_accepted = accepted.is_some();
        effects.merge(accepted.unwrap_or_default());
        is_accepted
    }

    /// Runs the engine's housekeeping if it is due, and schedules the next run.
    fn run_housekeeping(&mut self, effects: &mut Effects) {
        let began = Instant::now();
        if began < self.housekeeping_at {
            return;
        }
        effects.merge(self.engine.run_housekeeping(self.shared.clock.now()));
        self.note_tracked();
        let pause = HOUSEKEEPING_EVERY.max(began.elapsed() * HOUSEKEEPING_DIVISOR);
        self.housekeeping_at = began + pause;
    }

    fn note_tracked(&mut self) {
        let count = self.engine.tracked_calls();
        self.shared.tracked.set(&mut self.tracked, count);
        self.health.tracked_calls(count);
    }

    /// Commits the batch, however long it takes, then applies the other effects. Returns `None` if the loop has to
    /// end: the store is closed, or `stop` was cancelled.
    async fn commit(
        &mut self,
        effects: Effects,
        heartbeat: &Heartbeat,
        stop: &CancellationToken,
    ) -> Option<()> {
        let Effects { batch, needs_commit, metric_updates, lines, accounts } = effects;
        if needs_commit {
            let batch = Arc::new(batch);
            let mut failures = 0;
            let report = loop {
                heartbeat.set_deadline(COMMIT_RETRY_CAP);
                match self.shared.store.commit(self.id, Arc::clone(&batch)).await {
                    Ok(report) => break report,
                    Err(CommitError::Closed) => return None,
                    Err(error @ CommitError::Failed(_)) => {
                        failures += 1;
                        tracing::warn!(account = self.label, %error, "polling pauses until the store can be written");
                        wait(COMMIT_RETRY.wait(failures, random()), stop).await?;
                    }
                }
            };
            if failures > 0 {
                tracing::info!(account = self.label, "the store is writable again");
            }
            self.health.route_overflow(report.overflowed);
            if let Some(overflow) = &report.first_overflow {
                self.log.overflowed(overflow, self.id, &self.shared.store.committed());
            }
            self.health.routes_retired(report.retired);
        }
        for update in &metric_updates {
            self.health.note(update);
        }
        let (limit, now) = (self.shared.tracked.limit(), self.shared.clock.now());
        for line in lines {
            self.log.write(line, limit, now);
        }
        if let (Some(found), Some(subaccounts)) = (accounts, &mut self.subaccounts) {
            subaccounts.on_discovered(found, heartbeat).await;
        }
        Some(())
    }
}

/// The result of waiting for a permit for a request.
type PermitResult = Result<OwnedSemaphorePermit, AcquireError>;

/// The wait for a permit.
type PermitFuture = Pin<Box<dyn Future<Output = PermitResult> + Send>>;

/// Continues the wait for a permit; without one, waits forever.
async fn wait_for_permit(permit_wait: &mut Option<PermitFuture>) -> PermitResult {
    match permit_wait {
        Some(wait) => wait.await,
        None => std::future::pending().await,
    }
}

/// A completed request, or the panic that ended it.
type JoinedRequest = Result<CompletedRequest, JoinError>;

/// Waits, or returns `None` if `stop` is cancelled first.
async fn wait(time: Duration, stop: &CancellationToken) -> Option<()> {
    tokio::select! {
        () = stop.cancelled() => None,
        () = tokio::time::sleep(time) => Some(()),
    }
}

/// Returns a random number for jitter, or 0 if the system provides none.
pub(crate) fn random() -> u64 {
    getrandom::u64().unwrap_or(0)
}
