//! The state machine of one account: which requests to send next, and how their responses change the state.
//!
//! Only [`Engine::next`] chooses requests, and only [`Engine::on_answer`] applies responses. One request is one
//! step. Time and randomness are parameters; the poller sends, commits and waits, and decides nothing.

pub mod account;
mod answers;
pub mod backoff;
pub mod concurrency;
pub mod demand;
mod discovery;
pub mod effects;
pub mod error_log;
pub mod events_run;
pub mod failure;
pub mod lists;
pub mod pace;
pub mod page_size;
pub mod plan;
pub mod request;
pub mod trouble;
mod troubles;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use jiff::Timestamp;

use crate::domain::track::digest::{DigestKey, Digests};
use crate::domain::track::listing::{ListKind, ListProgress};
use crate::domain::track::progress::CallProgress;
use crate::domain::track::twilio_time::after;
use crate::domain::words::sid::{AccountSid, CallSid, ErrorLogSid};

use account::AccountProgress;
use discovery::Discovery;
use effects::{Effects, MetricUpdate};
use error_log::ErrorLog;
use events_run::EventsRun;
use lists::{ListPlan, ListRun, Lists};
use pace::Pace;
use page_size::PageSizes;
use plan::{ReadPlan, Step};
use request::{Request, RequestId, Target};
use troubles::Troubles;

/// The settings of an account's engine.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The account's SID.
    pub account: AccountSid,
    /// The schedule of its lists.
    pub lists: ListPlan,
    /// The schedule of reads of its calls.
    pub reads: ReadPlan,
    /// The maximum number of requests in flight.
    pub max_concurrency: usize,
    /// Whether to discover its subaccounts.
    pub discovers: bool,
    /// Whether its error log can be requested.
    pub has_error_log: bool,
    /// Whether Twilio pushes entries of its error log.
    pub accepts_pushes: bool,
    /// The key of the digests that identify Call Events.
    pub digest_key: DigestKey,
}

/// The stored state of an account, from which its engine starts.
#[derive(Clone, Debug, Default)]
pub struct InitialState {
    /// How far its lists have been read.
    pub lists: ListProgress,
    /// Its tracked calls.
    pub calls: Vec<CallProgress>,
    /// The latest entries of its error log, with their times.
    pub reported: Vec<(ErrorLogSid, Timestamp)>,
}

/// The external inputs of a step.
#[derive(Clone, Copy, Debug)]
pub struct Context {
    /// The local time.
    pub now: Timestamp,
    /// A random number, for jitter.
    pub random: u64,
    /// The number of new calls that may be tracked.
    pub room: usize,
}

/// The requests to send now, and when to check again if nothing happens earlier.
#[derive(Clone, Debug)]
pub struct Next {
    /// The requests to send now.
    pub requests: Vec<Request>,
    /// When the next request is due, in local time; `MAX` if that depends on a response or a permit.
    pub wake_at: Timestamp,
    /// Whether further requests could be sent now if there were more permits, which all accounts share.
    pub needs_permits: bool,
}

/// The state machine of one account.
#[derive(Debug)]
pub struct Engine {
    account: AccountSid,
    max_concurrency: usize,
    digest_key: DigestKey,
    progress: AccountProgress,
    pace: Pace,
    list_sizes: PageSizes<ListKind>,
    event_sizes: PageSizes<CallSid>,
    troubles: Troubles,
    discovery: Option<Discovery>,
    error_log: ErrorLog,
    in_flight: BTreeMap<RequestId, Sent>,
    last_id: RequestId,
    /// The list whose next page hasn't been requested yet.
    list: Option<ListRun>,
    is_listing: bool,
    list_began_at: Timestamp,
    /// The reads whose next pages haven't been requested yet: at most as many as the requests in flight.
    reads: VecDeque<EventsRun>,
    last_class: RequestClass,
    /// The list progress of the last batch.
    last_lists: ListProgress,
    has_no_room: bool,
}

/// A request in flight.
#[derive(Debug)]
struct Sent {
    requested_at: Timestamp,
    run: Run,
}

/// The purpose of a request.
#[derive(Debug)]
enum Run {
    List(Box<ListRun>),
    Events(Box<EventsRun>),
    Call(CallSid),
    Accounts,
    ErrorLog,
}

/// The classes of requests, which alternate while only one request may be in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum RequestClass {
    Accounts,
    ErrorLog,
    List,
    Read,
}

impl Engine {
    /// Starts from the stored state.
    pub fn new(settings: Settings, initial: InitialState) -> Self {
        let Settings { account, lists, reads, max_concurrency, digest_key, .. } = settings;
        let interval = lists.error_log_interval.filter(|_| settings.has_error_log);
        let InitialState { lists: last_lists, calls, reported } = initial;
        let pushes = settings.accepts_pushes;
        let error_log = ErrorLog::new(account, interval, pushes, last_lists.error_log, reported);
        let progress = AccountProgress::resume(reads, Lists::resume(lists, last_lists), calls);
        Self {
            account,
            max_concurrency,
            digest_key,
            pace: Pace::new(max_concurrency),
            discovery: settings.discovers.then(Discovery::new),
            error_log,
            progress,
            list_sizes: PageSizes::for_lists(),
            event_sizes: PageSizes::for_events(),
            troubles: Troubles::default(),
            in_flight: BTreeMap::new(),
            last_id: RequestId::FIRST,
            list: None,
            is_listing: false,
            list_began_at: Timestamp::MIN,
            reads: VecDeque::new(),
            last_class: RequestClass::Read,
            last_lists,
            has_no_room: false,
        }
    }

    /// Returns how many more requests may be sent now.
    pub fn free(&self, now: Timestamp) -> usize {
        let is_paused = now < self.pace.all_paused_until();
        if is_paused { 0 } else { self.pace.free(self.in_flight.len()) }
    }

    /// Returns the limit and the number of requests in flight.
    pub fn concurrency(&self) -> (usize, usize) {
        (self.pace.limit(), self.in_flight.len())
    }

    /// Returns the number of tracked calls.
    pub fn tracked_calls(&self) -> usize {
        self.progress.calls.len()
    }

    /// Chooses the requests to send now, at most as many as `permits`, which all accounts share.
    pub fn next(&mut self, permits: usize, now: Timestamp) -> Next {
        let mut requests = Vec::new();
        let free = self.free(now);
        while requests.len() < free.min(permits)
            && let Some((class, run)) = self.take_due(now)
        {
            self.last_class = class;
            requests.extend(self.send(run, now));
        }
        let needs_permits = permits < free && requests.len() == permits && self.find_due(now);
        let wake_at = if now < self.pace.all_paused_until() {
            self.pace.all_paused_until()
        } else if requests.len() == free || needs_permits {
            // No request can be sent before another ends.
            Timestamp::MAX
        } else {
            self.due_at(now)
        };
        Next { requests, wake_at, needs_permits }
    }

    /// Takes the next due run, and returns it with its class.
    fn take_due(&mut self, now: Timestamp) -> Option<(RequestClass, Run)> {
        let mut classes = [
            RequestClass::Accounts,
            RequestClass::ErrorLog,
            RequestClass::List,
            RequestClass::Read,
        ];
        if self.pace.limit() == 1 {
            // Alternate, so that no class waits for all pages of another.
            let last = classes.iter().position(|class| *class == self.last_class);
            classes.rotate_left(last.map_or(0, |last| last + 1));
        }
        classes.into_iter().find_map(|class| {
            let run = match class {
                RequestClass::Accounts => self.take_accounts(now),
                RequestClass::ErrorLog => (self.error_log_at() <= now).then_some(Run::ErrorLog),
                RequestClass::List => self.take_list(now),
                RequestClass::Read => self.take_read(now),
            };
            run.map(|run| (class, run))
        })
    }

    fn take_accounts(&mut self, now: Timestamp) -> Option<Run> {
        self.discovery.as_ref().filter(|discovery| discovery.due_at() <= now).map(|_| Run::Accounts)
    }

    /// Returns when the error log is due: not before Twilio's time is known.
    fn error_log_at(&self) -> Timestamp {
        if self.progress.lists.is_started() { self.error_log.due_at() } else { Timestamp::MAX }
    }

    fn take_list(&mut self, now: Timestamp) -> Option<Run> {
        if now < self.pace.paused_until() {
            return None;
        }
        if let Some(run) = self.list.take() {
            return Some(Run::List(Box::new(run)));
        }
        if self.is_listing {
            return None;
        }
        let mut run = self.progress.due_list(self.progress.now(now)).0?;
        run.page_size = self.list_sizes.size_for(&run.kind);
        self.list_began_at = now;
        Some(Run::List(Box::new(run)))
    }

    fn take_read(&mut self, now: Timestamp) -> Option<Run> {
        if now < self.pace.reads_paused_until() {
            return None;
        }
        if let Some(run) = self.reads.pop_front() {
            return Some(Run::Events(Box::new(run)));
        }
        let twilio_now = self.progress.now(now);
        Some(match self.progress.due_step(twilio_now)? {
            Step::Fetch(sid) => Run::Call(sid),
            Step::Read { read, version } => {
                let digests = Digests::new(self.digest_key, version);
                let size = self.event_sizes.size_for(&read.sid);
                let run = EventsRun::new(read, digests, self.account, size, now);
                Run::Events(Box::new(run))
            }
        })
    }

    fn send(&mut self, run: Run, now: Timestamp) -> Option<Request> {
        let target = match &run {
            Run::List(run) => {
                self.is_listing = true;
                Target::Calls { filter: run.filter, page: run.page() }
            }
            Run::Events(run) => {
                Target::CallEvents { call: run.read.sid, digests: run.digests, page: run.page() }
            }
            Run::Call(sid) => Target::Call(*sid),
            Run::Accounts => Target::Accounts(self.discovery.as_mut()?.start_request()),
            Run::ErrorLog => {
                let (from, page) = self.error_log.start_request(now, self.progress.now(now));
                Target::ErrorLog { from, page }
            }
        };
        self.last_id = self.last_id.next();
        self.in_flight.insert(self.last_id, Sent { requested_at: now, run });
        Some(Request { id: self.last_id, target })
    }

    /// Requeues calls if necessary, and returns whether a request is due that could be sent with another permit.
    fn find_due(&mut self, now: Timestamp) -> bool {
        let twilio_now = self.progress.now(now);
        let may_read = self.pace.reads_paused_until() <= now;
        let has_read =
            may_read && (!self.reads.is_empty() || self.progress.find_due_step(twilio_now));
        has_read || self.due_at(now) <= now
    }

    /// Returns when the next list, list of accounts, error log or step of a call is due, in local time. Assumes
    /// that due steps of calls have been requested.
    fn due_at(&self, now: Timestamp) -> Timestamp {
        let twilio_now = self.progress.now(now);
        let local = |at: Timestamp| {
            after(now, Duration::try_from(at.duration_since(twilio_now)).unwrap_or_default())
        };
        let list_at = match (&self.list, self.is_listing) {
            (Some(_), _) => now,
            (None, true) => Timestamp::MAX,
            (None, false) => local(self.progress.due_list(twilio_now).1),
        };
        let list_at = list_at.max(self.pace.paused_until());
        let accounts_at = self.discovery.as_ref().map_or(Timestamp::MAX, Discovery::due_at);
        let step_at = match self.pace.reads_paused_until() {
            paused_until if now < paused_until => paused_until,
            _ => self.progress.step_at().map_or(Timestamp::MAX, local),
        };
        list_at.min(accounts_at).min(self.error_log_at()).min(step_at)
    }

    /// Abandons all requests in flight, because it isn't known which of them were lost. The same data is requested
    /// again.
    pub fn abandon_all(&mut self) {
        self.in_flight.clear();
        self.reads.clear();
        self.list = None;
        self.is_listing = false;
        self.discovery.iter_mut().for_each(Discovery::abandon);
        self.error_log.abandon();
        self.progress.abandon_all();
    }

    /// Drops state that is no longer needed, and computes the account's lag. Visits every call, so the poller
    /// spaces these runs by their cost.
    pub fn run_housekeeping(&mut self, now: Timestamp) -> Effects {
        let mut effects = Effects::default();
        let twilio_now = self.progress.now(now);
        let changes = self.progress.run_housekeeping(self.max_concurrency, twilio_now);
        self.event_sizes.retain(|sid| self.progress.calls.contains_key(sid));
        effects.metric_updates.extend([
            MetricUpdate::AccountLag(self.progress.lag(twilio_now)),
            MetricUpdate::PollInterval(self.progress.lists.interval(twilio_now)),
            MetricUpdate::RequiredConcurrency(self.progress.required_concurrency()),
        ]);
        self.start_push(twilio_now, &mut effects);
        self.troubles.check(now, &mut effects);
        let changed = answers::add_changes(changes, &mut effects);
        self.finish(effects, changed, now)
    }

    /// Completes the batch with the changed calls and the list progress.
    fn finish(
        &mut self,
        mut effects: Effects,
        changed: impl IntoIterator<Item = CallSid>,
        now: Timestamp,
    ) -> Effects {
        let changed = changed.into_iter().filter_map(|sid| self.progress.calls.get(&sid));
        let batch = &mut effects.batch;
        batch.calls.extend(changed.map(|call| CallProgress::clone(call)));
        let error_log = self.error_log.progress();
        batch.lists = ListProgress { error_log, ..self.progress.lists.progress() };
        batch.received_at = Some(self.progress.now(now));
        effects.needs_commit = !batch.facts.is_empty()
            || !batch.calls.is_empty()
            || !batch.forgotten.is_empty()
            || batch.lists != self.last_lists;
        self.last_lists = batch.lists;
        effects
    }
}

#[cfg(test)]
mod tests;
