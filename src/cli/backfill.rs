//! The arguments of `backfill`.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use jiff::Timestamp;
use jiff::civil::DateTime;

use crate::config::duration;

use super::parse_rate;

/// The time between samples: short enough for `rate()`, and at most the five minutes after which Prometheus
/// considers a series gone.
const STEPS: std::ops::RangeInclusive<Duration> =
    Duration::from_secs(10)..=Duration::from_secs(300);
/// The length of a date, such as `2026-01-31`.
const DATE_LENGTH: usize = 10;

/// Arguments of `backfill`.
#[derive(Clone, Debug, Args)]
pub struct BackfillArgs {
    /// Start: a time such as `2026-01-31T16:20:00Z`, a date (midnight UTC), or an age such as `30d`.
    #[arg(long, value_name = "TIME", value_parser = Moment::parse)]
    pub from: Moment,
    /// End, in the same format [default: one hour ago, or when the store in --storage.path began to count].
    #[arg(long, value_name = "TIME", value_parser = Moment::parse)]
    pub until: Option<Moment>,
    /// Directory for the files. If a backfill was interrupted there, the same command continues it.
    #[arg(long, value_name = "DIR")]
    pub output: PathBuf,
    /// Time between samples, from 10s to 5m.
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = parse_step)]
    pub step: Duration,
    /// Maximum number of requests to Twilio per second.
    #[arg(long, value_name = "N", default_value_t = 10.0, value_parser = parse_rate)]
    pub requests_per_second: f64,
    /// Maximum number of concurrent requests to Twilio; one at a time hardly affects live calls.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=100))]
    pub concurrency: u16,
    /// Read only one in N calls, and multiply the counts by N.
    #[arg(long, value_name = "1/N", default_value = "1/1", value_parser = Sample::parse)]
    pub sample: Sample,
    /// Account to read, by its label; repeatable [default: all].
    #[arg(long = "account", value_name = "NAME")]
    pub accounts: Vec<String>,
    /// Value of the label `job`: the name of the scrape job in prometheus.yml.
    #[arg(long, value_name = "NAME", default_value = "twilio")]
    pub job: String,
    /// Start without asking.
    #[arg(long)]
    pub yes: bool,
}

/// A time: an instant, or an age.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// An instant.
    At(Timestamp),
    /// This long ago.
    Ago(Duration),
}

impl Moment {
    fn parse(text: &str) -> Result<Self, String> {
        if let Some(age) = duration::parse(text) {
            return Ok(Self::Ago(age));
        }
        if let Ok(at) = text.parse() {
            return Ok(Self::At(at));
        }
        if text.len() == DATE_LENGTH
            && let Ok(midnight) = format!("{text}T00:00:00Z").parse()
        {
            return Ok(Self::At(midnight));
        }
        if text.parse::<DateTime>().is_ok() {
            return Err(
                "the time has no time zone: add `Z` for UTC, or an offset such as `+01:00`"
                    .to_owned(),
            );
        }
        Err("expected a time such as `2026-01-31T16:20:00Z`, a date, or an age such as `30d`"
            .to_owned())
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::At(at) => write!(f, "{at}"),
            Self::Ago(age) => f.write_str(&duration::show(*age)),
        }
    }
}

/// The share of calls to read: one in this many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample(pub u64);

impl Sample {
    fn parse(text: &str) -> Result<Self, String> {
        let one_in = text.strip_prefix("1/").and_then(|one_in| one_in.parse().ok());
        let one_in = one_in.filter(|one_in| (1..=10_000).contains(one_in));
        one_in.map(Self).ok_or_else(|| "expected `1/N` with N from 1 to 10000".to_owned())
    }
}

impl fmt::Display for Sample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "1/{}", self.0)
    }
}

fn parse_step(text: &str) -> Result<Duration, String> {
    let step =
        duration::parse(text).filter(|step| STEPS.contains(step) && step.subsec_nanos() == 0);
    step.ok_or_else(|| "expected whole seconds from `10s` to `5m`".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_ages_dates_and_times_with_a_time_zone() {
        for (text, expected) in [
            ("30d", Ok("30d")),
            ("36h", Ok("1d12h")),
            ("2026-01-31", Ok("2026-01-31T00:00:00Z")),
            ("2026-01-31T16:20:00Z", Ok("2026-01-31T16:20:00Z")),
            ("2026-01-31T16:20:00+01:00", Ok("2026-01-31T15:20:00Z")),
            ("2026-01-31T16:20:00", Err("has no time zone")),
            ("2026-01-31 16:20", Err("has no time zone")),
            ("2026-02-30", Err("expected a time such as")),
            ("yesterday", Err("expected a time such as")),
            ("", Err("expected a time such as")),
        ] {
            match (Moment::parse(text), expected) {
                (Ok(found), Ok(expected)) => assert_eq!(found.to_string(), expected, "{text}"),
                (Err(found), Err(expected)) => assert!(found.contains(expected), "{text}: {found}"),
                (found, _) => panic!("{text}: {found:?}"),
            }
        }
    }

    #[test]
    fn refuses_steps_samples_and_rates_out_of_range() {
        for text in ["9s", "301s", "10500ms", "60"] {
            assert!(parse_step(text).is_err(), "{text}");
        }
        assert_eq!(parse_step("5m"), Ok(Duration::from_secs(300)));
        for text in ["20", "1/0", "2/20", "1/10001", "1/"] {
            assert!(Sample::parse(text).is_err(), "{text}");
        }
        assert_eq!(Sample::parse("1/20"), Ok(Sample(20)));
        for text in ["0", "-1", "NaN", "fast"] {
            assert!(parse_rate(text).is_err(), "{text}");
        }
    }
}
