//! Writes the counters over time as OpenMetrics files, each for a short part of the interval.
//!
//! Invariant: a file has its name only once it is complete, and depends on nothing but the state of the backfill.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use crate::metrics::exposition::{END, Exposition, Labels, WrittenFamily};
use crate::metrics::ledger::Ledger;
use crate::metrics::snapshot;

use super::interval::Interval;
use super::progress::Progress;
use super::state::State;

/// The directory of the files, in the output directory.
pub(super) const DIRECTORY: &str = "openmetrics";
/// The longest part of the interval in one file, in seconds: that of a block in Prometheus. For each block, promtool
/// reads the whole file.
const FILE_SECONDS: i64 = 2 * 60 * 60;
/// The largest number of bytes of a file, as it is kept in memory while it is written.
const MAX_FILE_BYTES: usize = 24 << 20;

/// The files to write.
#[derive(Debug)]
pub(super) struct History<'a> {
    pub(super) directory: &'a Path,
    pub(super) interval: Interval,
    /// The labels of all series in addition to their own.
    pub(super) labels: Labels,
    /// The factor of all counts.
    pub(super) factor: u64,
}

impl History<'_> {
    /// Returns the size of all files for the series of a ledger, in bytes.
    pub(super) fn size(&self, ledger: &Ledger) -> u64 {
        let step = self.bytes_of_step(&self.at(ledger, self.interval.first));
        self.interval.samples().saturating_mul(u64::try_from(step).unwrap_or(u64::MAX))
    }

    /// Writes all files that don't exist yet.
    ///
    /// # Errors
    /// Fails if a file can't be written, or if `stop` is cancelled.
    pub(super) fn write(
        &self,
        state: &State,
        progress: &Progress,
        stop: &CancellationToken,
    ) -> anyhow::Result<()> {
        let directory = self.directory.join(DIRECTORY);
        let unusable = || format!("cannot use `{}`", directory.display());
        fs::create_dir_all(&directory).with_context(unusable)?;
        let (mut ledger, series) = (state.ledger()?, state.load_series()?);
        let step_bytes = self.bytes_of_step(&self.at(&ledger, self.interval.first)).max(1);
        let steps_per_file = i64::try_from(MAX_FILE_BYTES / step_bytes)?.max(1);
        let mut step = self.interval.first;
        progress.start("writing", "steps", 0, self.interval.samples());
        while step <= self.interval.last {
            let end = self.end_of_file(step).min(step + steps_per_file);
            let path = directory.join(self.name(step));
            let is_written = path.try_exists().with_context(unusable)?;
            let mut samples = Vec::new();
            for step in step..end {
                if stop.is_cancelled() {
                    bail!("stopped: run the same command again to continue");
                }
                for (id, count) in state.increments(step)? {
                    let (scope, cell) =
                        *series.get(&id).context("the state of the backfill is damaged")?;
                    ledger.add(scope, cell, count.saturating_mul(self.factor));
                }
                if !is_written {
                    samples.push(self.at(&ledger, step));
                }
                progress.advance(1, || format!("at {}", self.time(step)));
            }
            if !is_written {
                let unwritable =
                    || format!("cannot write `{}`: check that there is free space", path.display());
                write_file(&directory, &path, &samples).with_context(unwritable)?;
            }
            step = end;
        }
        File::open(&directory).and_then(|directory| directory.sync_all()).with_context(unusable)
    }

    fn at(&self, ledger: &Ledger, step: i64) -> Vec<WrittenFamily> {
        let mut exposition = Exposition::of_the_past(&self.labels, self.interval.second(step));
        snapshot::write(ledger, false, &mut exposition);
        exposition.families()
    }

    fn bytes_of_step(&self, families: &[WrittenFamily]) -> usize {
        families.iter().flat_map(WrittenFamily::metrics).map(str::len).sum()
    }

    /// Returns the first step after the file that begins with a step.
    fn end_of_file(&self, step: i64) -> i64 {
        let file = self.interval.second(step).div_euclid(FILE_SECONDS);
        let end = (file + 1) * FILE_SECONDS;
        // The first step at or after the end.
        let end = -(-end).div_euclid(self.interval.step_seconds);
        end.min(self.interval.last + 1)
    }

    fn time(&self, step: i64) -> Timestamp {
        Timestamp::from_second(self.interval.second(step)).unwrap_or(Timestamp::MAX)
    }

    /// Returns the name of the file that begins with a step, in the order of time.
    fn name(&self, step: i64) -> PathBuf {
        self.time(step).strftime("%Y%m%dT%H%M%SZ.om").to_string().into()
    }
}

/// Writes the same families at successive times as one exposition, with the samples of each metric together.
fn write_file(directory: &Path, path: &Path, times: &[Vec<WrittenFamily>]) -> std::io::Result<()> {
    let unfinished = directory.join("unfinished");
    let mut file = BufWriter::new(File::create(&unfinished)?);
    for (number, family) in times.first().into_iter().flatten().enumerate() {
        file.write_all(family.head().as_bytes())?;
        // All times have the same series, since all are known from the start.
        let mut metrics: Vec<_> = times.iter().map(|families| families[number].metrics()).collect();
        for _ in 0..family.metrics().len() {
            for metric in metrics.iter_mut().filter_map(Iterator::next) {
                file.write_all(metric.as_bytes())?;
            }
        }
    }
    file.write_all(END.as_bytes())?;
    file.into_inner().map_err(std::io::IntoInnerError::into_error)?.sync_all()?;
    fs::rename(unfinished, path)
}
