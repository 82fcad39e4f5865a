//! `backfill`: reads the calls of an interval in the past, and writes the counters as they would have been scraped, as
//! OpenMetrics files for Prometheus and VictoriaMetrics.
//!
//! First all lists of calls are read, then the Call Events of each call, then the files are written. Requests, judgement
//! and counting are those of the poll loops. The progress is kept in the output directory; the store is only asked when
//! it began to count.

mod counting;
mod gate;
mod history;
mod interval;
mod lists;
mod progress;
mod report;
mod requests;
mod sources;
mod state;

use std::collections::{BTreeMap, BTreeSet};
use std::hash::Hasher;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use futures_util::{StreamExt, stream};
use jiff::Timestamp;
use siphasher::sip::SipHasher24;
use tokio_util::sync::CancellationToken;

use crate::cli::BackfillArgs;
use crate::clock::Clock;
use crate::config::{Config, duration};
use crate::domain::track::listing::Filter;
use crate::domain::track::twilio_time::before;
use crate::domain::words::call::Call;
use crate::metrics::exposition::Labels;
use crate::metrics::ledger::AccountId;
use crate::store::backup::{self, BackupError};

use counting::{Counting, MAX_UNREADABLE};
use gate::Gate;
use history::History;
use interval::{Interval, Requested};
use progress::Progress;
use requests::{CallRead, Requests};
use sources::Source;
use state::{CANNOT_WRITE, New, PendingCall, Phase, State};

/// How many calls are taken from the state at a time.
const CALLS_AT_A_TIME: usize = 500;

/// If this many of the first calls of an account can't be read, and no other can, none can.
const MIN_UNREADABLE: usize = 3;

/// A mistake in the command line.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Mistake(pub String);

impl Mistake {
    fn foreign(directory: &Path) -> Self {
        let directory = directory.display();
        Self(format!(
            "`{directory}` doesn't hold a backfill of this program: choose another directory"
        ))
    }
}

/// The settings that determine the files. They can't change once a backfill has begun.
#[derive(Debug)]
struct Settings {
    /// The flags.
    flags: String,
    /// A digest of the routes and limits in the configuration.
    configuration: String,
}

impl Settings {
    fn new(arguments: &BackfillArgs, config: &Config) -> Self {
        let BackfillArgs { from, until, step, sample, accounts, job, .. } = arguments;
        let mut flags = format!("--from {from}");
        if let Some(until) = until {
            flags.push_str(&format!(" --until {until}"));
        }
        let step = duration::show(*step);
        flags.push_str(&format!(" --step {step} --sample {sample} --job {job}"));
        let accounts: BTreeSet<&String> = accounts.iter().collect();
        flags.extend(accounts.into_iter().map(|account| format!(" --account {account}")));
        let mut digest = SipHasher24::new();
        digest.write(format!("{:?} {:?}", config.routes, config.limits).as_bytes());
        Self { flags, configuration: format!("{:016x}", digest.finish()) }
    }
}

/// A backfill that is ready to run.
#[derive(Debug)]
pub struct Backfill {
    arguments: BackfillArgs,
    counting: Counting,
    requests: Requests,
    sources: BTreeMap<AccountId, Source>,
    /// Where there is no store.
    missing_store: Option<PathBuf>,
}

impl Backfill {
    /// Opens the output directory, and finds the accounts. `storage` is the directory of the store, if there is one.
    ///
    /// # Errors
    /// [`Mistake`], or an error of the disk or of Twilio.
    pub async fn open(
        config: &Config,
        storage: &Path,
        arguments: BackfillArgs,
    ) -> anyhow::Result<Self> {
        let clock = Clock::start();
        let BackfillArgs { from, until, step, .. } = arguments;
        let gate = Gate::new(clock, arguments.requests_per_second, arguments.concurrency.into());
        let requests = Requests::new(gate, clock, config.routes.clone(), Progress::new());
        let resolve = || {
            let created_at = match backup::created_at(storage) {
                Err(BackupError::NoStore { .. }) => None,
                found => Some(found.context("cannot find out when the store began to count")?),
            };
            let requested = Requested { from, until, step };
            let interval = Interval::resolve(requested, clock.wall(), created_at);
            // A new store counts the calls that ended shortly before, with all of their events.
            let counted_from = created_at.map(|at| before(at, config.lists.initial_lookback));
            Ok(New { interval: interval.map_err(Mistake)?, counted_from })
        };
        let settings = Settings::new(&arguments, config);
        let mut selected = Vec::new();
        let new = if State::exists(&arguments.output)? {
            None
        } else {
            // Nothing is written before all mistakes are found.
            let new = resolve()?;
            selected = sources::select(config, &requests, &arguments.accounts).await?;
            Some(new)
        };
        let missing_store = new.is_some_and(|new| new.counted_from.is_none());
        let state = State::open(&arguments.output, &settings, new, resolve)?;
        let phase = state.phase()?;
        if new.is_none() && phase < Phase::Complete {
            selected = sources::select(config, &requests, &arguments.accounts).await?;
        }
        let sources = sources::identify(selected, &state, phase == Phase::Listing)?;
        let counting = Counting::resume(state, config.limits, arguments.sample)?;
        let missing_store = missing_store.then(|| storage.to_owned());
        Ok(Self { arguments, counting, requests, sources, missing_store })
    }

    /// Whether the user has already agreed to read all calls.
    ///
    /// # Errors
    /// Fails if the state can't be read.
    pub fn is_agreed(&self) -> anyhow::Result<bool> {
        Ok(self.counting.state.phase()? >= Phase::Agreed)
    }

    /// Reads the lists of calls and the events of a few calls, and describes what remains to be done.
    ///
    /// # Errors
    /// Fails if Twilio refuses a request or the state can't be written.
    pub async fn estimate(&mut self) -> anyhow::Result<String> {
        if self.counting.state.phase()? == Phase::Listing {
            self.list_all().await?;
            self.counting.state.finish_listing().context(CANNOT_WRITE)?;
        }
        self.read_all(true).await?;
        self.requests.progress.finish();
        report::estimate(self)
    }

    /// Reads all calls and writes the files. Returns how to import them.
    ///
    /// # Errors
    /// Fails if Twilio refuses a request, if a file can't be written, or if `stop` is cancelled.
    pub async fn run(mut self, stop: CancellationToken) -> anyhow::Result<String> {
        let phase = self.counting.state.phase()?;
        if phase < Phase::Agreed {
            self.counting.state.set_phase(Phase::Agreed).context(CANNOT_WRITE)?;
        }
        if phase < Phase::Complete {
            self.read_all(false).await?;
        }
        // Writing the files takes minutes, and this thread has to react to signals.
        let written = tokio::task::spawn_blocking(move || {
            self.history().write(&self.counting.state, &self.requests.progress, &stop)?;
            self.requests.progress.finish();
            self.counting.state.set_phase(Phase::Complete).context(CANNOT_WRITE)?;
            report::result(&self)
        });
        written.await.context("the files could not be written")?
    }

    fn history(&self) -> History<'_> {
        let BackfillArgs { sample, job, output, .. } = &self.arguments;
        let share = sample.to_string();
        let sampled = (sample.0 > 1).then_some(("sampled", share.as_str()));
        let labels = [("job", job.as_str()), ("source", "backfill")].into_iter().chain(sampled);
        let labels = Labels::from_pairs(labels);
        History { directory: output, interval: self.counting.interval, labels, factor: sample.0 }
    }

    /// Reads all lists of calls that haven't been read: by the day of their start, which finds long calls and calls
    /// without an end, and by the day of their end, which finds calls without a start.
    async fn list_all(&mut self) -> anyhow::Result<()> {
        let interval = self.counting.interval;
        let named = |prefix: &str, day: Timestamp| format!("{prefix} {}", day.strftime("%F"));
        let starts =
            interval.days_of_starts().map(|day| (named("started", day), Filter::StartedOn(day)));
        let ends = interval.days_of_ends().map(|day| (named("ended", day), Filter::EndedOn(day)));
        let lists: Vec<(String, Filter)> = starts.chain(ends).collect();
        let all = u64::try_from(lists.len() * self.sources.len())?;
        self.requests.progress.start("listing calls", "lists", 0, all);
        for source in self.sources.values() {
            for (name, filter) in &lists {
                if !self.counting.state.is_listed(source.id, name)? {
                    let counting = &mut self.counting;
                    let add = |calls: &[Call]| counting.add_listed(source.id, calls);
                    lists::read(&self.requests, &source.account, *filter, add).await?;
                    self.counting.state.set_listed(source.id, name).context(CANNOT_WRITE)?;
                }
                self.requests.progress.advance(1, || source.account.label.clone());
            }
        }
        Ok(())
    }

    /// Reads the events of all pending calls, or only of the few that come first.
    async fn read_all(&mut self, only_probes: bool) -> anyhow::Result<()> {
        let Self { counting, requests, sources, arguments, .. } = self;
        let totals = counting.state.totals()?;
        if !only_probes {
            requests.progress.start("reading", "calls", totals.read, totals.calls);
        }
        let labels = counting.ledger().accounts().clone();
        let missing = |account| {
            let label = labels.get(&account).map_or("", String::as_str);
            format!(
                "account `{label}` is closed or no longer in the configuration: add it again, or start again without it in another directory"
            )
        };
        let mut after = i64::MIN;
        loop {
            let calls = counting.state.pending(only_probes, after, CALLS_AT_A_TIME)?;
            let Some((last, _)) = calls.last() else { break };
            after = *last;
            let reads = calls.into_iter().map(async |(_, call): (i64, PendingCall)| {
                let source = sources.get(&call.account).with_context(|| missing(call.account))?;
                let read = requests.read(&source.account, call.sid).await?;
                anyhow::Ok((call, read))
            });
            let mut reads = stream::iter(reads).buffered(arguments.concurrency.into());
            while let Some(read) = reads.next().await {
                let (call, read) = read?;
                let (account, began_at) = (call.account, call.began_at);
                let unreadable = counting.add_read(call, read)?;
                if unreadable >= MAX_UNREADABLE && unreadable.is_multiple_of(MAX_UNREADABLE) {
                    check_account(counting, requests, sources, account).await?;
                }
                if !only_probes {
                    requests.progress.advance(1, || format!("at {began_at:.0}"));
                }
            }
        }
        if only_probes {
            // Those of accounts that may be readable are read again.
            for (account, calls, error) in counting.take_unreadable() {
                if calls >= MIN_UNREADABLE && counting.state.readable_call(account)?.is_none() {
                    bail!(none_readable(counting, account, &error));
                }
            }
            return Ok(());
        }
        counting.give_up_all()
    }
}

/// Decides after many unreadable calls of an account whether they or the account are at fault, by reading a call again
/// that could be read before.
async fn check_account(
    counting: &mut Counting,
    requests: &Requests,
    sources: &BTreeMap<AccountId, Source>,
    account: AccountId,
) -> anyhow::Result<()> {
    let readable = counting.state.readable_call(account)?;
    let mut read = None;
    if let (Some(call), Some(source)) = (readable, sources.get(&account)) {
        read = Some(requests.read(&source.account, call).await?);
    }
    if let Some(CallRead::Whole(_)) = read {
        return counting.give_up(account);
    }
    let unreadable = counting.take_unreadable().into_iter();
    let error = unreadable.filter(|(of, _, _)| *of == account).map(|(_, _, error)| error).next();
    bail!(none_readable(counting, account, &error.unwrap_or_default()))
}

fn none_readable(counting: &Counting, account: AccountId, error: &str) -> String {
    let label = counting.label(account);
    format!(
        "account `{label}`: no Call Events can be read; run the same command again once they can: {error}"
    )
}
