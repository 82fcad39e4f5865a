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

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::Context;
use futures_util::{StreamExt, stream};
use tokio_util::sync::CancellationToken;

use crate::cli::BackfillArgs;
use crate::clock::Clock;
use crate::config::{Config, duration};
use crate::domain::track::listing::Filter;
use crate::domain::words::call::Call;
use crate::metrics::exposition::Labels;
use crate::metrics::ledger::AccountId;
use crate::store::backup::{self, BackupError};

use counting::Counting;
use gate::Gate;
use history::History;
use interval::{Interval, Requested};
use progress::Progress;
use requests::Requests;
use sources::Source;
use state::{PendingCall, Phase, State};

/// How many calls are taken from the state at a time.
const CALLS_AT_A_TIME: usize = 500;

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

/// The flags that determine the files. They can't change once a backfill has begun.
#[derive(Debug)]
struct Settings<'a>(&'a BackfillArgs);

impl fmt::Display for Settings<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let BackfillArgs { from, until, step, sample, accounts, job, .. } = self.0;
        write!(f, "--from {from}")?;
        if let Some(until) = until {
            write!(f, " --until {until}")?;
        }
        write!(f, " --step {} --sample {sample} --job {job}", duration::show(*step))?;
        accounts.iter().try_for_each(|account| write!(f, " --account {account}"))
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
        let counted_from = match backup::created_at(storage) {
            Err(BackupError::NoStore { .. }) => None,
            found => Some(found.context("cannot find out when the store began to count")?),
        };
        let BackfillArgs { from, until, step, .. } = arguments;
        let resolve = || {
            let requested = Requested { from, until, step };
            Interval::resolve(requested, clock.wall(), counted_from).map_err(Mistake)
        };
        let (state, interval) = State::open(&arguments.output, &Settings(&arguments), resolve)?;
        let gate = Gate::new(clock, arguments.requests_per_second, arguments.concurrency.into());
        let requests = Requests::new(gate, clock, config.routes.clone(), Progress::new());
        let sources = match state.phase()? {
            Phase::Complete => BTreeMap::new(),
            Phase::Listing | Phase::Reading | Phase::Agreed => {
                sources::find(config, &requests, &state, &arguments.accounts).await?
            }
        };
        let counting = Counting::resume(state, config.limits, interval, arguments.sample)?;
        let missing_store = counted_from.is_none().then(|| storage.to_owned());
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
            self.counting.state.finish_listing()?;
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
        if phase == Phase::Complete {
            return report::result(&self);
        }
        if phase < Phase::Agreed {
            self.counting.state.set_phase(Phase::Agreed)?;
        }
        self.read_all(false).await?;
        // Writing the files takes minutes, and this thread has to react to signals.
        let written = tokio::task::spawn_blocking(move || {
            self.history().write(&self.counting.state, &self.requests.progress, &stop)?;
            self.requests.progress.finish();
            self.counting.state.set_phase(Phase::Complete)?;
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
        let starts = interval.days_of_starts().map(Filter::StartedOn);
        let lists: Vec<Filter> =
            starts.chain(interval.days_of_ends().map(Filter::EndedOn)).collect();
        let all = u64::try_from(lists.len() * self.sources.len())?;
        self.requests.progress.start("listing calls", "days", 0, all);
        for source in self.sources.values() {
            for filter in &lists {
                let name = format!("{filter:?}");
                if !self.counting.state.is_listed(source.id, &name)? {
                    let counting = &mut self.counting;
                    let add = |calls: &[Call]| counting.add_listed(source.id, calls);
                    lists::read(&self.requests, source, *filter, add).await?;
                    self.counting.state.set_listed(source.id, &name)?;
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
        let mut after = i64::MIN;
        loop {
            let calls = counting.state.pending(only_probes, after, CALLS_AT_A_TIME)?;
            let Some((last, _)) = calls.last() else { break };
            after = *last;
            let reads = calls.into_iter().map(async |(_, call): (i64, PendingCall)| {
                let source = sources.get(&call.account).context(
                    "the configuration no longer has an account of this backfill: add it again",
                )?;
                let read = requests.read(source, call.sid).await?;
                anyhow::Ok((call, read))
            });
            let mut reads = stream::iter(reads).buffered(arguments.concurrency.into());
            while let Some(read) = reads.next().await {
                let (call, read) = read?;
                counting.add_read(&call, &read)?;
                if !only_probes {
                    requests.progress.advance(1, || format!("{:.0}", call.began_at));
                }
            }
        }
        counting.settle_refused()
    }
}
