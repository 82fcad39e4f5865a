//! The files of a backfill, read as an importer would.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use serde_json::Value;
use twilio_call_exporter::simulator::Truth;

use crate::harness::{Series, Twilio, parse_series};

use super::{HOUR, instant};

/// All samples of the files of a backfill.
pub(super) struct History {
    series: BTreeMap<String, Samples>,
}

#[derive(Default)]
struct Samples {
    count: i64,
    first: i64,
    last: (i64, f64),
    /// The values at full hours.
    hours: BTreeMap<i64, f64>,
}

impl History {
    /// Reads all files in the order of their names. Asserts that each is one exposition and that no series falls or
    /// goes back in time.
    pub(super) fn read(output: &Path) -> Self {
        let mut history = Self { series: BTreeMap::new() };
        for (name, bytes) in contents(output) {
            let text = String::from_utf8(bytes).expect("UTF-8");
            assert!(text.ends_with("# EOF\n") && text.matches("# EOF").count() == 1, "{name}");
            for line in text.lines().filter(|line| !line.starts_with('#')) {
                let (sample, second) = line.rsplit_once(' ').expect(line);
                let (key, value) = sample.rsplit_once(' ').expect(line);
                let (value, second): (f64, i64) =
                    (value.parse().expect(line), second.parse().expect(line));
                if !history.series.contains_key(key) {
                    let samples =
                        Samples { first: second, last: (i64::MIN, 0.0), ..Samples::default() };
                    history.series.insert(key.to_owned(), samples);
                }
                let samples = history.series.get_mut(key).expect("inserted");
                assert!(samples.last.0 < second && samples.last.1 <= value, "{name}: {line}");
                assert!(samples.count > 0 || value == 0.0, "{name} doesn't begin at 0: {line}");
                samples.count += 1;
                samples.last = (second, value);
                if second % HOUR == 0 {
                    samples.hours.insert(second, value);
                }
            }
        }
        assert!(!history.series.is_empty());
        history
    }

    /// Asserts that all series have a sample at each step.
    pub(super) fn assert_complete(&self, step: i64) {
        let (first, last) = self.ends();
        assert_eq!((first % step, last % step), (0, 0));
        for (key, samples) in &self.series {
            assert_eq!((samples.first, samples.last.0), (first, last), "{key}");
            assert_eq!(samples.count, (last - first) / step + 1, "{key}");
        }
    }

    /// The times of the first and the last sample.
    pub(super) fn ends(&self) -> (i64, i64) {
        let first = self.series.values().map(|samples| samples.first).min();
        let last = self.series.values().map(|samples| samples.last.0).max();
        (first.expect("samples"), last.expect("samples"))
    }

    /// All values of a label.
    pub(super) fn labels(&self, name: &str) -> Vec<String> {
        let series = self.series.keys().map(|key| parse_series(key).1);
        let values: BTreeSet<String> =
            series.filter_map(|mut labels| labels.remove(name)).collect();
        values.into_iter().collect()
    }

    /// The values of all series but buckets at a full hour or at the end, without the labels of a backfill.
    pub(super) fn at(&self, second: i64) -> BTreeMap<Series, f64> {
        let values = self.series.iter().map(|(key, samples)| {
            let (name, mut labels) = parse_series(key);
            for label in ["source", "job", "sampled"] {
                labels.remove(label);
            }
            let is_end = samples.last.0 == second;
            let value = if is_end { Some(&samples.last.1) } else { samples.hours.get(&second) };
            ((name, labels), *value.unwrap_or_else(|| panic!("{key} has no sample at {second}")))
        });
        values.filter(|((name, _), _)| !name.ends_with("_bucket")).collect()
    }
}

/// The names and contents of all files of a backfill, in the order of time.
pub(super) fn contents(output: &Path) -> Vec<(String, Vec<u8>)> {
    let directory = output.join("openmetrics");
    let entries = fs::read_dir(&directory).expect("a directory");
    let mut names: Vec<String> = entries
        .map(|entry| entry.expect("an entry").file_name().into_string().expect("UTF-8"))
        .collect();
    names.sort();
    assert!(names.iter().all(|name| name.ends_with(".om")), "{names:?}");
    names
        .into_iter()
        .map(|name| (name.clone(), fs::read(directory.join(name)).expect("read")))
        .collect()
}

/// The values of a truth by series.
pub(super) fn values_of(truth: &Truth) -> BTreeMap<Series, f64> {
    let series = truth.families.iter();
    series.map(|series| ((series.name.clone(), series.labels.clone()), series.value)).collect()
}

/// For each family, how far its total of each hour is from the truth, in standard errors of a sample of one call in
/// `one_in`.
pub(super) async fn deviations(
    twilio: &Twilio,
    history: &History,
    one_in: u32,
) -> BTreeMap<String, Vec<f64>> {
    // A call is in the sample with all of its requests or none: the variance is the sum of squares of what the calls
    // contribute. Families that depend on requests have at most the variance of their number.
    let [per_call, api_per_call] = contributions(twilio).await;
    let (first, last) = history.ends();
    let hours: Vec<i64> = (first..=last).filter(|second| second % HOUR == 0).collect();
    let totals = |values: BTreeMap<Series, f64>| {
        let mut totals: BTreeMap<String, f64> = BTreeMap::new();
        for ((name, _), value) in values {
            *totals.entry(name).or_default() += value;
        }
        totals
    };
    let mut deviations: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    for pair in hours.windows(2) {
        let [found_before, found_after] =
            [pair[0], pair[1]].map(|second| totals(history.at(second)));
        let [before, after] =
            [pair[0], pair[1]].map(|second| totals(values_of(&twilio.truth_at(instant(second)))));
        for (family, value) in after {
            if family.ends_with("_sum") {
                continue;
            }
            let expected = value - before.get(&family).copied().unwrap_or(0.0);
            let of = |totals: &BTreeMap<String, f64>| totals.get(&family).copied().unwrap_or(0.0);
            let cluster = match family.as_str() {
                "twilio_calls_total" => 1.0,
                "twilio_call_api_requests_total" => api_per_call,
                _ => per_call,
            };
            let error = (f64::from(one_in - 1) * expected * cluster).sqrt().max(1.0);
            let found = of(&found_after) - of(&found_before);
            deviations.entry(family).or_default().push((found - expected) / error);
        }
    }
    deviations
}

/// How much the requests of a call multiply the variance, compared with independent requests: the mean square of their
/// number divided by its mean. The second value is that of API requests.
async fn contributions(twilio: &Twilio) -> [f64; 2] {
    let account = &twilio.accounts()[0];
    twilio_call_exporter::twilio::client::install_crypto();
    let http = reqwest::Client::builder().no_proxy().build().expect("a client");
    let get = async |path: &str| -> Value {
        let request = http.get(format!("{}{path}", twilio.url()));
        let request = request.basic_auth(&account.account_sid, Some(&account.auth_token));
        let text = request.send().await.expect("an answer").text().await.expect("a body");
        serde_json::from_str(&text).expect("JSON")
    };
    let list = format!("/2010-04-01/Accounts/{}/Calls", account.account_sid);
    let calls = get(&format!("{list}.json?PageSize=500")).await;
    let (mut sums, mut squares) = ([0.0; 2], [0.0; 2]);
    for call in calls["calls"].as_array().expect("calls") {
        let events =
            get(&format!("{list}/{}/Events.json", call["sid"].as_str().expect("a SID"))).await;
        let urls = events["events"].as_array().expect("events").iter();
        let is_api = |event: &Value| {
            event["request"]["url"].as_str().is_some_and(|url| url.contains("api.twilio.com"))
        };
        let mut counts = [0.0; 2];
        urls.for_each(|event| counts[usize::from(is_api(event))] += 1.0);
        for (at, count) in counts.into_iter().enumerate() {
            sums[at] += count;
            squares[at] += count * count;
        }
    }
    assert!(sums[0] > 100.0 && sums[1] > 10.0, "{sums:?}");
    [squares[0] / sums[0], squares[1] / sums[1]]
}
