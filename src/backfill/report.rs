//! Describes what a backfill will do, and how to import what it has written.

use std::path::Path;
use std::time::Duration;

use anyhow::Context;

use crate::config::duration;
use crate::metrics::exposition::as_float;

use super::Backfill;
use super::history::DIRECTORY;
use super::interval::Interval;

/// Describes the calls that remain to be read, and estimates the requests, the time and the size of the files.
pub(super) fn estimate(backfill: &Backfill) -> anyhow::Result<String> {
    let Backfill { arguments, counting, requests, .. } = backfill;
    let totals = counting.state.totals()?;
    let (remaining, sample) = (totals.calls - totals.read, arguments.sample);
    let of_sample = if sample.0 > 1 { format!(" (one in {})", sample.0) } else { String::new() };
    let latency = requests.mean_duration();
    let rate = arguments.requests_per_second;
    let of_latency = latency.unwrap_or_default().as_secs_f64() / f64::from(arguments.concurrency);
    let seconds = as_float(remaining) * of_latency.max(1.0 / rate);
    let duration = duration::show(Duration::from_secs(Duration::from_secs_f64(seconds).as_secs()));
    let duration = match latency {
        Some(latency) => format!("about {duration} at {} ms per request", latency.as_millis()),
        None => format!("at least {duration}"),
    };
    let size = backfill.history().size(counting.ledger());
    let free = rustix::fs::statvfs(&arguments.output).context("cannot use the output directory")?;
    let free = free.f_bavail.saturating_mul(free.f_frsize);
    let mut text = format!(
        "{}\n\
         calls     {} found{of_sample}, {} of them read for this estimate\n\
         requests  about {remaining}, at most {rate} per second and {} at a time\n\
         duration  {duration}\n\
         disk      about {} of OpenMetrics text in `{}` ({} free); Prometheus needs about a hundredth of that",
        counting.interval,
        totals.calls,
        totals.read,
        arguments.concurrency,
        bytes(size),
        arguments.output.display(),
        bytes(free),
    );
    if let Some(storage) = &backfill.missing_store {
        text.push_str(&format!(
            "\nThere is no store in `{}`. If the exporter is already running, point --storage.path at its store, or set \
             --until\nto an hour before it first started (poll.initial_lookback). Otherwise, some calls are counted twice.",
            storage.display()
        ));
    }
    if size > free {
        text.push_str(
            "\nThis may not fit: use a longer --step, fewer accounts, or a shorter interval.",
        );
    }
    Ok(text)
}

/// Describes the files, and how to import them.
pub(super) fn result(backfill: &Backfill) -> anyhow::Result<String> {
    let Backfill { arguments, counting, .. } = backfill;
    let (totals, output) = (counting.state.totals()?, arguments.output.display());
    let mut text = format!(
        "{}\nWrote the history of {} calls to `{output}/{DIRECTORY}/*.om`.",
        counting.interval, totals.calls
    );
    if totals.unreadable > 0 {
        text.push_str(&format!(
            "\nTwilio didn't return the Call Events of {} calls; these count only as calls.",
            totals.unreadable
        ));
    }
    let (files, blocks) =
        (quoted(&arguments.output.join(DIRECTORY)), quoted(&arguments.output.join("blocks")));
    text.push_str(&format!(
        "\n\n\
         Import only one history of any period: overlapping ones are added up or look like counter resets.\n\n\
         Prometheus (2.42 or later): set --storage.tsdb.retention.time to more than the age of the history (the default\n\
         is 15 days). Create blocks, and move them into the data directory, on Debian /var/lib/prometheus/metrics2.\n\
         Prometheus loads them within two minutes.\n\n\
         \x20 (for file in {files}/*.om; do\n\
         \x20   promtool tsdb create-blocks-from openmetrics --quiet \"$file\" {blocks} || exit 1\n\
         \x20 done) && chown -R prometheus: {blocks} && mv {blocks}/* /var/lib/prometheus/metrics2/\n\n\
         VictoriaMetrics:\n\n\
         \x20 (for file in {files}/*.om; do\n\
         \x20   curl --fail --data-binary @\"$file\" http://localhost:8428/api/v1/import/prometheus || exit 1\n\
         \x20 done)"
    ));
    Ok(text)
}

impl std::fmt::Display for Interval {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "interval  {} to {}, a sample every {} s",
            self.from(),
            self.until(),
            self.step_seconds
        )
    }
}

/// Quotes a path for a shell, if needed.
fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-".contains(c);
    if text.chars().all(is_plain) { text } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

/// Formats a number of bytes.
fn bytes(count: u64) -> String {
    let units = [("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)];
    let count = as_float(count);
    match units.into_iter().find(|(_, size)| count >= *size) {
        Some((unit, size)) => format!("{:.1} {unit}", count / size),
        None => format!("{count} bytes"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_paths_for_a_shell() {
        for (path, expected) in [("a/b-1.2", "a/b-1.2"), ("a b", "'a b'"), ("it's", r"'it'\''s'")] {
            assert_eq!(quoted(Path::new(path)), expected);
        }
    }

    #[test]
    fn formats_sizes() {
        for (count, expected) in
            [(0, "0 bytes"), (999, "999 bytes"), (2_130_000, "2.1 MB"), (3 << 40, "3.3 TB")]
        {
            assert_eq!(bytes(count), expected);
        }
    }
}
