//! The shell around an account's engine: send what it wants, gather answers, commit what they change, wait.
//!
//! One task per account. It decides nothing: what is asked is `Engine::next`, and what an answer changes
//! `Engine::on_answer`.
//! Invariant: what a task learns becomes durable before the next thing is asked.

mod account;
pub mod heartbeat;
pub mod inbox;
mod log;
pub mod loops;
mod sender;
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

use heartbeat::Heartbeat;
use inbox::{Delivery, Inbox};
use log::Log;
use sender::{CompletedRequest, RequestSender};
use subaccounts::Subaccounts;
use tracked::Share;

/// Longest time between two looks at what is due: the clock's offset may have changed.
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// Shortest time between two looks when nothing happens.
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
/// When a failed commit is tried again.
const COMMIT_RETRY: Backoff = Backoff::new(Duration::from_millis(500), COMMIT_RETRY_CAP);

struct Poller {
    label: String,
    asker: RequestSender,
    shared: Shared,
    subaccounts: Option<Subaccounts>,
    id: AccountId,
    health: AccountHealth,
    log: Log,
    engine: Engine,
    /// What Twilio pushes.
    inbox: Inbox,
    requests: JoinSet<CompletedRequest>,
    /// A place for a request that was waited for.
    place: Option<OwnedSemaphorePermit>,
    /// The wait for one, which keeps its turn among the accounts.
    waiting: Option<PermitFuture>,
    housekeeping_at: Instant,
    tracked: Share,
}

impl Poller {
    fn new(poll: Poll, attached: AttachedAccount, inbox: Inbox) -> Self {
        let Poll { account, subaccounts, shared, .. } = poll;
        let health = account.instruments(&shared, &attached.lists);
        // What a loop before this one has told ended with it.
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
            // Twilio shows that of the account that signs in, and no other's.
            has_error_log: account.parent.is_none(),
            is_pushed: account.is_pushed,
            digest_key: shared.store.digest_key(),
        };
        let AttachedAccount { id, lists, calls, reported, .. } = attached;
        let known = InitialState { lists, calls, reported };
        let asker = RequestSender {
            client: account.client,
            account: account.key.sid,
            routes: Arc::clone(&shared.routes),
            clock: shared.clock,
        };
        Self {
            log: Log::new(&account.label),
            label: account.label,
            asker,
            shared,
            subaccounts,
            id,
            health,
            engine: Engine::new(settings, known),
            inbox,
            requests: JoinSet::new(),
            place: None,
            waiting: None,
            housekeeping_at: Instant::now(),
            tracked,
        }
    }

    async fn run(&mut self, heartbeat: &Heartbeat, stop: &CancellationToken) {
        loop {
            let wait = self.send();
            heartbeat.promise(wait);
            let mut pushed = Vec::new();
            let first = tokio::select! {
                // CompletedRequest to end, it begins nothing more: what came back is asked again.
                biased;
                () = stop.cancelled() => return,
                asked = self.requests.join_next(), if !self.requests.is_empty() => asked,
                deliveries = self.inbox.next() => {
                    pushed = deliveries;
                    None
                }
                place = granted(&mut self.waiting), if self.waiting.is_some() => {
                    // The budget is never closed.
                    self.place = place.ok();
                    self.waiting = None;
                    None
                }
                () = tokio::time::sleep(wait) => None,
            };
            let mut effects = Effects::default();
            for asked in self.gather(first).await {
                effects.merge(self.take(asked).await);
            }
            // However busy the account is, so that none waits in vain.
            pushed.extend(self.inbox.waiting());
            pushed.retain_mut(|delivery| self.take_pushed(delivery, &mut effects));
            self.run_housekeeping(&mut effects);
            if self.commit(effects, heartbeat, stop).await.is_none() {
                return;
            }
            pushed.into_iter().for_each(Delivery::committed);
        }
    }

    /// Sends what the engine wants now, and tells how long to wait for anything else.
    fn send(&mut self) -> Duration {
        let now = self.shared.clock.now();
        let mut places: Vec<OwnedSemaphorePermit> = self.place.take().into_iter().collect();
        while places.len() < self.engine.free(now)
            && let Ok(place) = Arc::clone(&self.shared.budget).try_acquire_owned()
        {
            places.push(place);
        }
        let next = self.engine.next(places.len(), now);
        for (request, place) in next.requests.into_iter().zip(places) {
            let asker = self.asker.clone();
            self.requests.spawn(async move {
                let _until_answered = place;
                asker.ask(request).await
            });
        }
        let (limit, in_flight) = self.engine.concurrency();
        self.health.api_concurrency(limit, in_flight);
        let wait = Duration::try_from(next.wake_at.duration_since(now)).unwrap_or_default();
        let housekeeping = self.housekeeping_at.saturating_duration_since(Instant::now());
        if next.lacks_places {
            let budget = Arc::clone(&self.shared.budget);
            self.waiting.get_or_insert_with(|| Box::pin(budget.acquire_owned()));
        } else {
            self.waiting = None;
        }
        wait.min(housekeeping).clamp(SHORTEST_WAIT, LONGEST_WAIT)
    }

    /// What ends together with a request, to be committed with it: each commit is a flush of the
    /// disk.
    async fn gather(&mut self, first: Option<JoinedRequest>) -> Vec<JoinedRequest> {
        let mut joined: Vec<JoinedRequest> = first.into_iter().collect();
        if !joined.is_empty() {
            let all = async {
                while let Some(asked) = self.requests.join_next().await {
                    joined.push(asked);
                }
            };
            // What takes longer comes with the next commit.
            let _some_go_on = tokio::time::timeout(GATHER, all).await;
        }
        joined
    }

    async fn take(&mut self, asked: JoinedRequest) -> Effects {
        let CompletedRequest { id, attempt, answer } = match asked {
            Ok(asked) => asked,
            // Only a panic ends a request; everything it could have told is asked again.
            Err(error) => {
                tracing::warn!(account = self.label, %error, "a request ended early");
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
        let moment = Context { now: self.shared.clock.now(), random: random(), room };
        let effects = self.engine.on_answer(id, answer, moment);
        self.note_tracked();
        effects
    }

    /// Takes what Twilio pushed; tells whether it could be taken, so that it counts as delivered once it is
    /// committed.
    fn take_pushed(&mut self, delivery: &mut Delivery, effects: &mut Effects) -> bool {
        let entries = std::mem::take(&mut delivery.entries);
        let judge = |entry| Reported::judge(entry, &self.shared.routes);
        let entries = entries.iter().map(judge).collect();
        let now = self.shared.clock.now();
        let taken = self.engine.on_push(entries, delivery.rejected, now);
        let could_be = taken.is_some();
        effects.merge(taken.unwrap_or_default());
        could_be
    }

    /// Sets the gauges that look at every call, and forgets what can be forgotten.
    fn run_housekeeping(&mut self, effects: &mut Effects) {
        let began = Instant::now();
        if began < self.housekeeping_at {
            return;
        }
        effects.merge(self.engine.run_housekeeping(self.shared.clock.now()));
        self.note_tracked();
        let pause = HOUSEKEEPING_EVERY.max(began.elapsed() * HOUSEKEEPING_SHARE);
        self.housekeeping_at = began + pause;
    }

    fn note_tracked(&mut self) {
        let count = self.engine.tracked_calls();
        self.shared.tracked.set(&mut self.tracked, count);
        self.health.tracked_calls(count);
    }

    /// Commits what was learnt, however long it takes, and tells it then; `None` when there is no point
    /// in going on.
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
                heartbeat.promise(COMMIT_RETRY_CAP);
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
                tracing::info!(account = self.label, "the store can be written again");
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
            subaccounts.found(found, heartbeat).await;
        }
        Some(())
    }
}

/// A place for a request.
type Permit = Result<OwnedSemaphorePermit, AcquireError>;

/// The wait for a place.
type PermitFuture = Pin<Box<dyn Future<Output = Permit> + Send>>;

/// Waits until a place is granted, if one is waited for.
async fn granted(waiting: &mut Option<PermitFuture>) -> Permit {
    match waiting {
        Some(waiting) => waiting.await,
        None => std::future::pending().await,
    }
}

/// A request that has come back, or was lost.
type JoinedRequest = Result<CompletedRequest, JoinError>;

/// Waits; `None` if the program stops first.
async fn wait(time: Duration, stop: &CancellationToken) -> Option<()> {
    tokio::select! {
        () = stop.cancelled() => None,
        () = tokio::time::sleep(time) => Some(()),
    }
}

/// Randomness for jitter; without any, all wait alike.
fn random() -> u64 {
    getrandom::u64().unwrap_or(0)
}
