//! The life of the program in a history: it plans, asks, counts and commits as the poller does, and
//! is killed and started again, with another configuration, on the files that the kill left behind.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use prometheus::Registry;
use tempfile::TempDir;
use twilio_call_exporter::domain::engine::account::AccountProgress;
use twilio_call_exporter::domain::engine::lists::{ListPlan, ListRun, Lists};
use twilio_call_exporter::domain::engine::pace::Pace;
use twilio_call_exporter::domain::engine::plan::{ReadPlan, Step};
use twilio_call_exporter::domain::judge::route::Routes;
use twilio_call_exporter::domain::track::digest::Digests;
use twilio_call_exporter::domain::track::failing::ReadFailure;
use twilio_call_exporter::domain::track::reading::{Item, Reading};
use twilio_call_exporter::domain::words::sid::AccountSid;
use twilio_call_exporter::metrics::health::Health;
use twilio_call_exporter::metrics::ledger::{Cell, Ledger, LedgerLimits, Scope};
use twilio_call_exporter::store::{AccountKey, Batch, Store};

use super::Lived;
use super::program::{Answer, Program, add};
use super::twilio::{Key, World, instant, key, outcomes};

/// Requests in flight at once.
const CONCURRENCY: usize = 3;
/// The store's file and its log, as a kill leaves them.
const FILES: [&str; 2] = ["exporter.db", "exporter.db-wal"];

/// A life, over all its programs.
pub(super) struct Life {
    random: Rng,
    now: i64,
    directory: TempDir,
    program: Option<Program>,
    runtime: tokio::runtime::Runtime,
    /// All counters, as last seen.
    seen: BTreeMap<(Scope, Cell), u64>,
    lived: Lived,
    has_begun: bool,
    started_at: i64,
}

impl Life {
    pub(super) fn begin(world: &World, seed: u64) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        let mut life = Self {
            random: Rng::with_seed(seed ^ 0x5eed),
            now: world.begins_at(),
            directory: directory(),
            program: None,
            runtime,
            seen: BTreeMap::new(),
            lived: Lived { calls: world.calls(), events: world.events(), ..Lived::default() },
            has_begun: false,
            started_at: world.begins_at(),
        };
        life.start(world);
        life
    }

    /// Whether everything has settled and was audited, stumbling and dying included.
    pub(super) fn is_over(&self, world: &World) -> bool {
        self.now > world.quiet_from().max(self.started_at) + 100 * 60
    }

    pub(super) fn lived(&self) -> Lived {
        self.lived
    }

    /// What was counted, by route and code, and by status; and calls with an outcome.
    pub(super) fn counted(&self) -> BTreeMap<Key, u64> {
        let program = self.program.as_ref().expect("a program that runs");
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

    /// One turn of the poller's loop, and what may befall it.
    pub(super) fn step(&mut self, world: &World) -> Result<(), String> {
        let is_quiet = self.now >= world.quiet_from();
        // A program that dies before it has begun leaves nothing: the next is the first again.
        let may_die = !is_quiet && self.has_begun;
        if may_die && self.random.f64() < world.kill_rate / 4.0 {
            self.kill(world, None)?;
        }
        let wake_at = self.ask(world, is_quiet);
        let program = self.program.as_mut().expect("a program that runs");
        let next_answer = program.in_flight.iter().map(|&(at, _)| at).min();
        self.now =
            next_answer.map_or(wake_at, |at| at.min(wake_at)).clamp(self.now, self.now + 120);
        let mut batch = Batch::default();
        let mut changed = Vec::new();
        let (now, mut waiting) = (self.now, Vec::new());
        for (at, answer) in std::mem::take(&mut program.in_flight) {
            if at <= now {
                program.take(answer, now, &mut batch, &mut changed, &mut self.random);
            } else {
                waiting.push((at, answer));
            }
        }
        program.in_flight = waiting;
        let at = program.now(now);
        let found = program.progress.keep_house(&program.reads, CONCURRENCY, at);
        batch.forgotten = found.forgotten;
        add(found.changes, &mut batch, &mut changed);
        batch.calls =
            changed.iter().filter_map(|sid| program.progress.calls.get(sid)).cloned().collect();
        batch.lists = program.progress.lists.progress();
        batch.learnt_at = Some(at);
        let kills = may_die && self.random.f64() < world.kill_rate;
        if kills && self.random.u8(..3) == 0 {
            // Before the commit: what was read is read again.
            return self.kill(world, None);
        }
        let before = kills.then(|| copy_of(self.directory.path()));
        let known = batch.lists;
        let is_idle =
            batch.facts.is_empty() && batch.calls.is_empty() && batch.forgotten.is_empty();
        if is_idle && program.kept == Some(known) {
            return Ok(());
        }
        program.kept = Some(known);
        let (store, id) = (&program.store, program.id);
        self.runtime
            .block_on(store.commit(id, Arc::new(batch)))
            .map_err(|error| error.to_string())?;
        self.lived.commits += 1;
        self.has_begun |= program.progress.lists.forget_before.is_some();
        match before {
            Some(before) => self.kill(world, Some(before)),
            None => self.check(),
        }
    }

    /// Starts what is due. Returns when something else will be.
    fn ask(&mut self, world: &World, is_quiet: bool) -> i64 {
        let program = self.program.as_mut().expect("a program that runs");
        let (now, local) = (program.now(self.now), program.local(self.now));
        let fails = |random: &mut Rng, at| {
            !is_quiet && (world.is_out(at) || random.f64() < world.failure_rate)
        };
        let kinds = [ReadFailure::NotFound, ReadFailure::Refused, ReadFailure::Failed];
        let failure = |random: &mut Rng| *random.choice(&kinds).expect("one of three");
        if local < program.pace.paused_until() {
            return self.now + program.pace.paused_until().duration_since(local).as_secs() + 1;
        }
        let may_read = program.pace.reads_paused_until() <= local;
        let mut free = CONCURRENCY.saturating_sub(program.in_flight.len());
        let mut lists: Vec<ListRun> = Vec::new();
        if free > 0
            && let Some(run) = program.list.take()
        {
            lists.push(run);
            free -= 1;
        }
        let may_list = !program.is_listing && lists.is_empty();
        let plan =
            program.progress.plan(&program.lists, &program.reads, now, free, may_list, may_read);
        lists.extend(plan.list);
        for run in lists {
            program.is_listing = true;
            let page = if fails(&mut self.random, self.now) {
                self.lived.failures += 1;
                Err(failure(&mut self.random))
            } else {
                let token = run.next_page.as_deref();
                let page = world.list(run.filter, token, self.now);
                let is_broken = !is_quiet && self.random.u8(..20) == 0;
                let page = if is_broken {
                    self.lived.failures += 1;
                    world.broken_page(token, page, &mut self.random)
                } else {
                    page
                };
                Ok((page, world.date(self.now, &mut self.random)))
            };
            let at = self.now + self.random.i64(0..3);
            program.in_flight.push((at, Answer::List(run, page)));
        }
        for step in plan.steps {
            let has_failed = fails(&mut self.random, self.now);
            self.lived.failures += u64::from(has_failed);
            let failure = failure(&mut self.random);
            let answer = match step {
                Step::Read { sid, stage, skips, version } => {
                    let shown = world.call_events(sid, self.now, &mut self.random);
                    let digests = Digests::new(program.store.digest_key(), version);
                    let judge = |event| Item::of(event, sid, digests, &Routes::default());
                    let reading = Reading {
                        items: shown.iter().map(judge).collect(),
                        read_at: world.date(self.now, &mut self.random),
                        is_complete: is_quiet || self.random.u8(..20) > 0,
                    };
                    let result = if world.refuses(sid, self.now) {
                        Err(ReadFailure::Refused)
                    } else if has_failed {
                        Err(failure)
                    } else {
                        Ok(reading)
                    };
                    Answer::Read(sid, stage, skips, result)
                }
                Step::Fetch(sid) => {
                    let result = match (has_failed, failure) {
                        (false, _) => Ok(world.call(sid, self.now)),
                        // In an outage every call may seem to be unknown.
                        (true, ReadFailure::NotFound) if world.is_out(self.now) => Ok(None),
                        (true, failure) => Err(failure),
                    };
                    Answer::Fetched(sid, result)
                }
            };
            program.in_flight.push((self.now + self.random.i64(0..20), answer));
        }
        if program.in_flight.len() >= CONCURRENCY {
            i64::MAX
        } else {
            let program = self.program.as_ref().expect("a program that runs");
            let wait = plan.wake_at.duration_since(program.now(self.now)).as_secs();
            let reads_at = program.pace.reads_paused_until().duration_since(local).as_secs();
            let wait = if may_read { wait } else { wait.min(reads_at) };
            self.now + wait.max(0) + 1
        }
    }

    /// Kills the program and starts it on what is on the disk. After a commit, the files may be as
    /// they were before it, as they are now, or with the log written in part.
    fn kill(&mut self, world: &World, before: Option<TempDir>) -> Result<(), String> {
        self.lived.kills += 1;
        let after = copy_of(self.directory.path());
        if let Some(before) = before {
            let length = |of: &TempDir| {
                std::fs::metadata(of.path().join(FILES[1])).map_or(0, |file| file.len())
            };
            let (old, new) = (length(&before), length(&after));
            let same = |of: &TempDir| std::fs::read(of.path().join(FILES[0])).ok();
            if old < new && same(&before) == same(&after) && self.random.bool() {
                let log = std::fs::File::options().write(true).open(after.path().join(FILES[1]));
                log.and_then(|log| log.set_len(self.random.u64(old..new))).expect("cut short");
                self.lived.torn_commits += 1;
            } else {
                // The commit had returned: it must be found.
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
        let (store, thread) = opened.expect("a store that survives its program");
        let sid = AccountSid::parse("AC00000000000000000000000000000001").expect("a SID");
        let key = AccountKey { sid, region: "us1".to_owned() };
        let attached =
            self.runtime.block_on(store.attach(key, "prod".to_owned())).expect("attached");
        let seconds = |random: &mut Rng, from, to| Duration::from_secs(random.u64(from..to));
        let random = &mut self.random;
        self.program = Some(Program {
            store,
            thread,
            id: attached.id,
            progress: AccountProgress::resume(attached.calls, Lists::resume(attached.lists)),
            pace: Pace::new(CONCURRENCY),
            skew: world.skew(),
            lists: ListPlan {
                interval: seconds(random, 30, 300),
                initial_lookback: Duration::from_secs(3600),
                catch_up: Duration::from_secs(24 * 3600),
            },
            reads: ReadPlan {
                live_interval: seconds(random, 20, 300),
                after_end: (0..random.u64(0..4))
                    .map(|n| Duration::from_secs(15 + 60 * n))
                    .collect(),
                settle_delay: seconds(random, 15 * 60, 20 * 60),
                audit_after: seconds(random, 20 * 60, 40 * 60),
            },
            list: None,
            is_listing: false,
            kept: None,
            in_flight: Vec::new(),
        });
    }

    /// No counter has fallen, neither while the program ran nor over its end.
    fn check(&mut self) -> Result<(), String> {
        let program = self.program.as_ref().expect("a program that runs");
        let committed = program.store.committed();
        let values = values(&committed.read());
        for (key, &was) in &self.seen {
            let is = values.get(key).copied().unwrap_or(0);
            if is < was {
                return Err(format!("{key:?} fell from {was} to {is} at {}", self.now));
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

/// The files of a store as they are this moment, which is how a kill leaves them.
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

/// In memory where there is such a place: nothing here depends on a disk's speed.
fn directory() -> TempDir {
    let memory = Path::new("/dev/shm");
    let parent = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
    TempDir::new_in(parent).expect("a temporary directory")
}
