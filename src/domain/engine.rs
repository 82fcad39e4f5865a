//! What is asked of Twilio next, and what its answers change: one account as one machine.
//!
//! [`Engine::next`] is the one place where it is decided what is asked, [`Engine::on_answer`] the one
//! where an answer changes anything. One request is one step. Time and randomness are handed in; the
//! shell around it sends, commits and waits, and decides nothing.

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
use request::{Ask, Request, RequestId};
use troubles::Troubles;

/// How an account is polled.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The account.
    pub account: AccountSid,
    /// How lists are read.
    pub lists: ListPlan,
    /// How calls are read.
    pub reads: ReadPlan,
    /// Most requests in flight.
    pub max_concurrency: usize,
    /// Whether its subaccounts are looked for.
    pub discovers: bool,
    /// Whether its error log can be asked for.
    pub has_error_log: bool,
    /// Whether entries of its error log are pushed.
    pub is_pushed: bool,
    /// What Call Events are told apart with.
    pub digest_key: DigestKey,
}

/// What is known of an account when its engine begins.
#[derive(Clone, Debug, Default)]
pub struct InitialState {
    /// How far its lists are known.
    pub lists: ListProgress,
    /// Its calls.
    pub calls: Vec<CallProgress>,
    /// The latest entries of its error log, each with when it happened.
    pub reported: Vec<(ErrorLogSid, Timestamp)>,
}

/// What the engine can't know by itself.
#[derive(Clone, Copy, Debug)]
pub struct Context {
    /// Local time.
    pub now: Timestamp,
    /// A random number, for jitter.
    pub random: u64,
    /// How many new calls may be taken up.
    pub room: usize,
}

/// What is to be sent, and when to ask again if nothing happens before.
#[derive(Clone, Debug)]
pub struct Next {
    /// The requests to be sent now.
    pub requests: Vec<Request>,
    /// When something will be due, in local time; `MAX` where only an answer can change that.
    pub wake_at: Timestamp,
    /// Whether more would be asked if more of the places were free that all accounts share.
    pub lacks_places: bool,
}

/// One account: all that is known of it, and all that is decided about it.
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
    /// The list whose next page is not asked for yet.
    list: Option<ListRun>,
    is_listing: bool,
    list_began_at: Timestamp,
    /// The reads whose next pages are not asked for yet: at most as many as there were requests in flight.
    reads: VecDeque<EventsRun>,
    last_turn: RequestClass,
    kept: ListProgress,
    has_no_room: bool,
}

/// A request in flight.
#[derive(Debug)]
struct Sent {
    asked_at: Timestamp,
    run: Run,
}

/// What a request is made for.
#[derive(Debug)]
enum Run {
    List(Box<ListRun>),
    Events(Box<EventsRun>),
    Call(CallSid),
    Accounts,
    ErrorLog,
}

/// What is asked for. With one request at a time, these take turns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum RequestClass {
    Accounts,
    ErrorLog,
    List,
    Read,
}

impl Engine {
    /// Begins with what is known.
    pub fn new(settings: Settings, known: InitialState) -> Self {
        let Settings { account, lists, reads, max_concurrency, digest_key, .. } = settings;
        let every = lists.error_log_interval.filter(|_| settings.has_error_log);
        let pushed = settings.is_pushed;
        let error_log =
            ErrorLog::new(account, every, pushed, known.lists.error_log, known.reported);
        let kept = known.lists;
        let progress = AccountProgress::resume(reads, Lists::resume(lists, kept), known.calls);
        Self {
            account,
            max_concurrency,
            digest_key,
            pace: Pace::new(max_concurrency),
            discovery: settings.discovers.then(Discovery::new),
            error_log,
            progress,
            list_sizes: PageSizes::of_lists(),
            event_sizes: PageSizes::of_events(),
            troubles: Troubles::default(),
            in_flight: BTreeMap::new(),
            last_id: RequestId::FIRST,
            list: None,
            is_listing: false,
            list_began_at: Timestamp::MIN,
            reads: VecDeque::new(),
            last_turn: RequestClass::Read,
            kept,
            has_no_room: false,
        }
    }

    /// How many requests may be made now, if there is anything to ask.
    pub fn free(&self, now: Timestamp) -> usize {
        let is_paused = now < self.pace.all_paused_until();
        if is_paused { 0 } else { self.pace.free(self.in_flight.len()) }
    }

    /// How many requests may be in flight, and how many are.
    pub fn concurrency(&self) -> (usize, usize) {
        (self.pace.limit(), self.in_flight.len())
    }

    /// How many calls are tracked.
    pub fn tracked_calls(&self) -> usize {
        self.progress.calls.len()
    }

    /// What is asked now, with so many places for requests free among all accounts.
    pub fn next(&mut self, places: usize, now: Timestamp) -> Next {
        let mut requests = Vec::new();
        let most = self.free(now);
        while requests.len() < most.min(places)
            && let Some((turn, run)) = self.take_turn(now)
        {
            self.last_turn = turn;
            requests.extend(self.send(run, now));
        }
        let lacks_places = places < most && requests.len() == places && self.has_due(now);
        let wake_at = if now < self.pace.all_paused_until() {
            self.pace.all_paused_until()
        } else if requests.len() == most || lacks_places {
            // Nothing can be asked before something ends.
            Timestamp::MAX
        } else {
            self.due_at(now)
        };
        Next { requests, wake_at, lacks_places }
    }

    /// The next that is due, and whose turn it is.
    fn take_turn(&mut self, now: Timestamp) -> Option<(RequestClass, Run)> {
        let mut turns = [
            RequestClass::Accounts,
            RequestClass::ErrorLog,
            RequestClass::List,
            RequestClass::Read,
        ];
        if self.pace.limit() == 1 {
            // None waits for all pages of another.
            let last = turns.iter().position(|turn| *turn == self.last_turn);
            turns.rotate_left(last.map_or(0, |last| last + 1));
        }
        turns.into_iter().find_map(|turn| {
            let run = match turn {
                RequestClass::Accounts => self.take_accounts(now),
                RequestClass::ErrorLog => (self.error_log_at() <= now).then_some(Run::ErrorLog),
                RequestClass::List => self.take_list(now),
                RequestClass::Read => self.take_read(now),
            };
            run.map(|run| (turn, run))
        })
    }

    fn take_accounts(&mut self, now: Timestamp) -> Option<Run> {
        self.discovery.as_ref().filter(|discovery| discovery.due_at() <= now).map(|_| Run::Accounts)
    }

    /// When the error log is to be asked for: before Twilio's time is known, it isn't.
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
        let ask = match &run {
            Run::List(run) => {
                self.is_listing = true;
                Ask::Calls { filter: run.filter, page: run.page() }
            }
            Run::Events(run) => {
                Ask::CallEvents { call: run.read.sid, digests: run.digests, page: run.page() }
            }
            Run::Call(sid) => Ask::Call(*sid),
            Run::Accounts => Ask::Accounts(self.discovery.as_mut()?.ask()),
            Run::ErrorLog => {
                let (from, page) = self.error_log.ask(now, self.progress.now(now));
                Ask::ErrorLog { from, page }
            }
        };
        self.last_id = self.last_id.next();
        self.in_flight.insert(self.last_id, Sent { asked_at: now, run });
        Some(Request { id: self.last_id, ask })
    }

    /// Whether something would be asked if there were a place for it.
    fn has_due(&mut self, now: Timestamp) -> bool {
        let twilio_now = self.progress.now(now);
        let may_read = self.pace.reads_paused_until() <= now;
        let has_read =
            may_read && (!self.reads.is_empty() || self.progress.find_due_step(twilio_now));
        has_read || self.due_at(now) <= now
    }

    /// When a list, the list of accounts, or something for a single call will be due, in local time. Of
    /// calls, what is due already has been asked.
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

    /// Forgets all requests in flight, because it isn't known which of them were lost: all that they
    /// could have told is asked again.
    pub fn abandon_all(&mut self) {
        self.in_flight.clear();
        self.reads.clear();
        self.list = None;
        self.is_listing = false;
        self.discovery.iter_mut().for_each(Discovery::abandon);
        self.error_log.abandon();
        self.progress.abandon_all();
    }

    /// Forgets what can be forgotten, and measures how late the account is. Looks at every call, so the
    /// shell spaces it by what it costs.
    pub fn run_housekeeping(&mut self, now: Timestamp) -> Effects {
        let mut effects = Effects::default();
        let twilio_now = self.progress.now(now);
        let found = self.progress.run_housekeeping(self.max_concurrency, twilio_now);
        self.event_sizes.retain(|sid| self.progress.calls.contains_key(sid));
        effects.metric_updates.extend([
            MetricUpdate::AccountLag(self.progress.lag(twilio_now)),
            MetricUpdate::PollInterval(self.progress.lists.interval(twilio_now)),
            MetricUpdate::RequiredConcurrency(self.progress.required_concurrency()),
        ]);
        self.begin_pushed(twilio_now, &mut effects);
        self.troubles.look(now, &mut effects);
        let changed = answers::add_changes(found, &mut effects);
        self.finish(effects, changed, now)
    }

    /// Adds the calls that changed, and how far the lists are known.
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
        batch.learnt_at = Some(self.progress.now(now));
        effects.needs_commit = !batch.facts.is_empty()
            || !batch.calls.is_empty()
            || !batch.forgotten.is_empty()
            || batch.lists != self.kept;
        self.kept = batch.lists;
        effects
    }
}

#[cfg(test)]
mod tests;
