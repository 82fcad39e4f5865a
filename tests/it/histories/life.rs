//! The program in a history: the real engine sends requests, receives answers and commits their effects. After
//! a kill, the program restarts with another configuration on the files left on disk.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use jiff::Timestamp;
use prometheus::Registry;
use tempfile::TempDir;
use twilio_call_exporter::domain::engine::effects::Effects;
use twilio_call_exporter::domain::engine::lists::ListPlan;
use twilio_call_exporter::domain::engine::plan::ReadPlan;
use twilio_call_exporter::domain::engine::{Context, Engine, InitialState, Settings};
use twilio_call_exporter::domain::judge::reported::Reported;
use twilio_call_exporter::domain::judge::route::Routes;
use twilio_call_exporter::domain::words::sid::{AccountSid, CallSid};
use twilio_call_exporter::metrics::health::Health;
use twilio_call_exporter::metrics::ledger::{AccountId, Cell, Ledger, LedgerLimits, Scope};
use twilio_call_exporter::store::{AccountKey, AttachedAccount, Store, StoreThread};

use super::Totals;
use super::twilio::{self, PendingAnswer, RequestRules};
use super::world::{Key, World, instant, key, outcomes, reported};

/// The store's database and its write-ahead log.
const FILES: [&str; 2] = ["exporter.db", "exporter.db-wal"];

/// A running program: the real engine and store, and the rate limits that Twilio has imposed.
struct Program {
    store: Store,
    thread: StoreThread,
    id: AccountId,
    engine: Engine,
    max_concurrency: usize,
    /// How far the machine's clock is ahead, in seconds.
    skew: i64,
    rules: RequestRules,
    in_flight: Vec<PendingAnswer>,
}

/// The simulation of a history, over all runs of the program.
pub(super) struct Simulation {
    random: Rng,
    now: i64,
    directory: TempDir,
    program: Option<Program>,
    runtime: tokio::runtime::Runtime,
    /// All calls that the program has learned of.
    known: BTreeSet<CallSid>,
    /// The values of all counters at the last check.
    seen: BTreeMap<(Scope, Cell), u64>,
    totals: Totals,
    has_begun: bool,
    started_at: i64,
    /// The start of the period for which the error log is read.
    error_log_since: Option<Timestamp>,
}

impl Simulation {
    pub(super) fn begin(world: &World, seed: u64) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        let mut simulation = Self {
            random: Rng::with_seed(seed ^ 0x5eed),
            now: world.begins_at(),
            directory: directory(),
            program: None,
            runtime,
            known: BTreeSet::new(),
            seen: BTreeMap::new(),
            totals: Totals { calls: world.calls(), events: world.events(), ..Totals::default() },
            has_begun: false,
            started_at: world.begins_at(),
            error_log_since: None,
        };
        simulation.start(world);
        simulation
    }

    /// Whether all calls are settled and audited, with a margin for failures and restarts.
    pub(super) fn is_over(&self, world: &World) -> bool {
        self.now > world.reliable_from().max(self.started_at) + 100 * 60
    }

    pub(super) fn totals(&self) -> Totals {
        self.totals
    }

    /// The start of the period for which the error log is read. Earlier entries aren't counted.
    pub(super) fn error_log_since(&self) -> Option<Timestamp> {
        self.error_log_since
    }

    /// Returns the counts of events by route and code, of calls by status, of calls with an outcome, and of entries
    /// of the error log.
    pub(super) fn counted(&self) -> BTreeMap<Key, u64> {
        let program = self.program.as_ref().expect("a running program");
        let committed = program.store.committed();
        let ledger = committed.read();
        let mut counted = BTreeMap::new();
        for (scope, cells) in &ledger.cells {
            for (cell, &value) in cells {
                let key = match (scope, cell) {
                    (Scope::Group(id), Cell::Requests(code)) => {
                        let endpoint = &ledger.endpoints[&ledger.groups[id].endpoint].endpoint;
                        key(&endpoint.route, &code.to_string())
                    }
                    (Scope::Endpoint(_), Cell::Outcomes(_)) => outcomes(),
                    (Scope::Endpoint(id), Cell::ErrorLog(_, code, _)) => {
                        reported(&ledger.endpoints[id].endpoint.route, &code.to_string())
                    }
                    (Scope::Account(_), Cell::ErrorLog(product, code, _)) => {
                        reported(product.as_str(), &code.to_string())
                    }
                    (Scope::Account(_), Cell::Calls(_, status)) => {
                        ("calls".to_owned(), status.to_string())
                    }
                    _ => continue,
                };
                *counted.entry(key).or_default() += value;
            }
        }
        counted
    }

    /// Runs the poll loop once, sometimes with a kill or a reload.
    pub(super) fn step(&mut self, world: &World) -> Result<(), String> {
        let is_reliable = self.now >= world.reliable_from();
        // A program killed before its first commit leaves nothing to check: the next one starts from scratch.
        let can_kill = !is_reliable && self.has_begun;
        if can_kill && self.random.f64() < world.kill_rate / 4.0 {
            self.kill(world, None)?;
        }
        if can_kill && self.random.f64() < world.kill_rate / 8.0 {
            self.reload(world);
        }
        let wake_at = self.send_requests(world)?;
        let program = self.program.as_mut().expect("a running program");
        let next_answer = program.in_flight.iter().map(|answer| answer.arrives_at).min();
        self.now =
            next_answer.map_or(wake_at, |at| at.min(wake_at)).clamp(self.now, self.now + 120);
        let effects = self.process_answers(world);
        self.known.extend(effects.batch.calls.iter().map(|call| call.sid));
        let missed = world.missed(&self.known, self.now);
        if !missed.is_empty() {
            return Err(format!("calls {missed:?} are still unknown at {}", self.now));
        }
        if let Some(found) = &effects.accounts
            && found.is_complete
        {
            self.totals.discoveries += 1;
        }
        let kills = can_kill && self.random.f64() < world.kill_rate;
        if kills && self.random.u8(..3) == 0 {
            // The kill precedes the commit, so everything is read again.
            return self.kill(world, None);
        }
        let before = kills.then(|| copy_of(self.directory.path()));
        if !effects.needs_commit {
            return Ok(());
        }
        self.error_log_since = effects.batch.lists.error_log.map(|log| log.since);
        self.has_begun |= effects.batch.lists.forget_before.is_some();
        let program = self.program.as_ref().expect("a running program");
        let commit = program.store.commit(program.id, Arc::new(effects.batch));
        self.runtime.block_on(commit).map_err(|error| error.to_string())?;
        self.totals.commits += 1;
        match before {
            Some(before) => self.kill(world, Some(before)),
            None => self.check(),
        }
    }

    /// Sends the engine's requests. Returns when the engine wants to be called again.
    fn send_requests(&mut self, world: &World) -> Result<i64, String> {
        let program = self.program.as_mut().expect("a running program");
        let local = instant(self.now + world.skew());
        // Sometimes other accounts use all shared request permits, or all but one.
        let permits = if self.random.u8(..10) == 0 { self.random.usize(..2) } else { usize::MAX };
        let next = program.engine.next(permits, local);
        self.totals.steps += 1;
        for request in next.requests {
            let others = program.in_flight.len();
            if others >= program.max_concurrency {
                return Err(format!("{} requests in flight at {}", others + 1, self.now));
            }
            program.rules.check_request(request.id, others, self.now)?;
            let state = (&mut self.random, &mut self.totals);
            program.in_flight.push(twilio::answer(world, request, others, self.now, state));
        }
        if next.needs_permits {
            return Ok(self.now + self.random.i64(1..5));
        }
        if next.wake_at == Timestamp::MAX {
            return Ok(i64::MAX);
        }
        Ok(self.now + next.wake_at.duration_since(local).as_secs().max(0) + 1)
    }

    /// Passes the answers that have arrived to the engine and runs its housekeeping. Sometimes pushes entries of
    /// the error log.
    fn process_answers(&mut self, world: &World) -> Effects {
        let program = self.program.as_mut().expect("a running program");
        let (now, local) = (self.now, instant(self.now + program.skew));
        let (arrived, waiting): (Vec<_>, _) =
            program.in_flight.drain(..).partition(|answer| answer.arrives_at <= now);
        program.in_flight = waiting;
        let mut effects = Effects::default();
        for answer in arrived {
            program.rules.record_answer(&answer, now);
            // Sometimes only one more call can be tracked.
            let is_nearly_full = !world.is_calm && program.engine.tracked_calls() % 5 == 4;
            let room = if is_nearly_full { 1 } else { usize::MAX };
            let context = Context { now: local, random: self.random.u64(..), room };
            effects.merge(program.engine.on_answer(answer.id, answer.answer(local), context));
            self.totals.steps += 1;
        }
        effects.merge(program.engine.run_housekeeping(local));
        self.totals.steps += 1;
        if self.random.u8(..20) == 0 {
            let pushed = world.pushed(now, &mut self.random).into_iter();
            let pushed = pushed.map(|entry| Reported::judge(&entry, &Routes::default())).collect();
            let accepted = program.engine.on_push(pushed, 0, local);
            self.totals.pushes += u64::from(accepted.is_some());
            effects.merge(accepted.unwrap_or_default());
        }
        effects
    }

    /// Replaces the poll loop by one with another configuration. Sometimes the account isn't polled for a while
    /// in between.
    fn reload(&mut self, world: &World) {
        self.totals.reloads += 1;
        let program = self.program.take().expect("a running program");
        if self.random.bool() {
            program.store.detach(program.id);
            self.now += self.random.i64(0..1800);
        }
        self.started_at = self.now;
        self.program = Some(self.begin_polling(world, program.store, program.thread));
    }

    /// Kills the program and restarts it on the files on disk. If `before` holds the files from before a commit, the
    /// log sometimes lacks all or part of what the commit added.
    fn kill(&mut self, world: &World, before: Option<TempDir>) -> Result<(), String> {
        self.totals.kills += 1;
        let after = copy_of(self.directory.path());
        if let Some(before) = before {
            let log_length = |directory: &TempDir| {
                std::fs::metadata(directory.path().join(FILES[1])).map_or(0, |file| file.len())
            };
            let (old, new) = (log_length(&before), log_length(&after));
            let database =
                |directory: &TempDir| std::fs::read(directory.path().join(FILES[0])).ok();
            if old < new && database(&before) == database(&after) && self.random.bool() {
                let log = std::fs::File::options().write(true).open(after.path().join(FILES[1]));
                log.and_then(|log| log.set_len(self.random.u64(old..new))).expect("truncated");
                self.totals.torn_commits += 1;
            } else {
                // The commit is complete on disk, so its values must be there.
                self.check()?;
            }
        }
        if let Some(program) = self.program.take() {
            drop(program.store);
            program.thread.join();
        }
        self.directory = after;
        if self.random.u8(..4) == 0 {
            self.now += self.random.i64(0..3600);
        }
        self.started_at = self.now;
        self.start(world);
        self.check()
    }

    fn start(&mut self, world: &World) {
        let limits =
            LedgerLimits { routes_per_account: 100, series: 100_000, hold_back: Duration::ZERO };
        let health = Health::register(&Registry::new()).expect("instruments");
        let at = instant(self.now);
        let opened = Store::open(self.directory.path(), limits, health, move || at);
        let (store, thread) = opened.expect("a usable store after a kill");
        self.program = Some(self.begin_polling(world, store, thread));
    }

    fn begin_polling(&mut self, world: &World, store: Store, thread: StoreThread) -> Program {
        let account = AccountSid::parse("AC00000000000000000000000000000001").expect("a valid SID");
        let key = AccountKey { sid: account, region: "us1".to_owned() };
        let attached =
            self.runtime.block_on(store.attach(key, "prod".to_owned())).expect("attached");
        let seconds = |random: &mut Rng, from, to| Duration::from_secs(random.u64(from..to));
        let random = &mut self.random;
        let settings = Settings {
            account,
            lists: ListPlan {
                interval: seconds(random, 30, 300),
                initial_lookback: Duration::from_secs(3600),
                catch_up: Duration::from_secs(24 * 3600),
                error_log_interval: Some(seconds(random, 15, 60)),
            },
            reads: ReadPlan {
                live_interval: seconds(random, 20, 300),
                after_end: (0..random.u64(0..4))
                    .map(|n| Duration::from_secs(15 + 60 * n))
                    .collect(),
                settle_delay: seconds(random, 15 * 60, 20 * 60),
                audit_after: seconds(random, 20 * 60, 40 * 60),
            },
            max_concurrency: random.usize(1..5),
            discovers: random.bool(),
            has_error_log: true,
            accepts_pushes: random.bool(),
            digest_key: store.digest_key(),
        };
        let AttachedAccount { id, lists, calls, reported, .. } = attached;
        Program {
            id,
            max_concurrency: settings.max_concurrency,
            engine: Engine::new(settings, InitialState { lists, calls, reported }),
            store,
            thread,
            skew: world.skew(),
            rules: RequestRules::default(),
            in_flight: Vec::new(),
        }
    }

    /// Checks that no counter has decreased since the last check, even across restarts, and records the values.
    fn check(&mut self) -> Result<(), String> {
        let program = self.program.as_ref().expect("a running program");
        let committed = program.store.committed();
        let values = values(&committed.read());
        for (key, &before) in &self.seen {
            let after = values.get(key).copied().unwrap_or(0);
            if after < before {
                return Err(format!("{key:?} decreased from {before} to {after} at {}", self.now));
            }
        }
        self.seen = values;
        Ok(())
    }
}

fn values(ledger: &Ledger) -> BTreeMap<(Scope, Cell), u64> {
    let cells = ledger.cells.iter();
    cells
        .flat_map(|(&scope, cells)| cells.iter().map(move |(&cell, &n)| ((scope, cell), n)))
        .collect()
}

/// Copies the files of a store in their current state, as a kill would leave them.
fn copy_of(store: &Path) -> TempDir {
    let copy = directory();
    for name in FILES {
        let from = store.join(name);
        if from.exists() {
            std::fs::copy(from, copy.path().join(name)).expect("copied");
        }
    }
    copy
}

/// Creates a temporary directory, in memory if possible, so that the disk's speed doesn't matter.
fn directory() -> TempDir {
    let memory = Path::new("/dev/shm");
    let parent = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
    TempDir::new_in(parent).expect("a temporary directory")
}
