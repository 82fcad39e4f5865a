//! Parsed responses of `/metrics`, and queries on them.

use std::collections::BTreeMap;

/// One scrape: the value of every series.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Scrape {
    series: BTreeMap<Series, f64>,
    pub text: String,
}

/// The name and labels of a series.
pub(crate) type Series = (String, BTreeMap<String, String>);

/// A query: a metric name and required labels.
#[derive(Clone, Debug)]
pub(crate) struct Metric {
    name: String,
    labels: Vec<(String, String)>,
}

/// Starts a query for the series with this name.
pub(crate) fn metric(name: &str) -> Metric {
    Metric { name: name.to_owned(), labels: Vec::new() }
}

impl Metric {
    /// Requires this label.
    pub(crate) fn label(mut self, name: &str, value: &str) -> Self {
        self.labels.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The sum of the matching series; `None` if there are none.
    pub(crate) fn value_in(&self, scrape: &Scrape) -> Option<f64> {
        let matches = |(name, labels): &Series| {
            *name == self.name
                && self.labels.iter().all(|(label, value)| labels.get(label) == Some(value))
        };
        let values: Vec<f64> = scrape
            .series
            .iter()
            .filter(|(series, _)| matches(series))
            .map(|(_, value)| *value)
            .collect();
        (!values.is_empty()).then(|| values.iter().sum())
    }

    /// Whether the sum of the matching series is `value`.
    pub(crate) fn is_in(&self, scrape: &Scrape, value: f64) -> bool {
        self.value_in(scrape) == Some(value)
    }
}

impl Scrape {
    /// Parses the text format 0.0.4, strictly.
    pub(crate) fn parse(text: &str) -> Self {
        let mut series = BTreeMap::new();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let (key, value) = line.rsplit_once(' ').expect("a sample");
            let value = match value {
                "+Inf" => f64::INFINITY,
                number => number.parse().unwrap_or_else(|_| panic!("invalid value: {line}")),
            };
            let known = series.insert(parse_series(key), value);
            assert!(known.is_none(), "duplicate series: {line}");
        }
        Self { series, text: text.to_owned() }
    }

    /// All non-zero series of the durable families, except buckets.
    pub(crate) fn durable(&self) -> BTreeMap<Series, f64> {
        let mut found = self.durable_with_buckets();
        found.retain(|(name, _), value| !name.ends_with("_bucket") && *value != 0.0);
        found
    }

    /// All series of the durable families.
    pub(crate) fn durable_with_buckets(&self) -> BTreeMap<Series, f64> {
        let families = [
            "twilio_webhook_",
            "twilio_twiml_",
            "twilio_calls_total",
            "twilio_calls_with_",
            "twilio_call_api_requests_total",
        ];
        let is_durable = |name: &str| families.iter().any(|prefix| name.starts_with(prefix));
        let found = self.series.iter().filter(|((name, _), _)| is_durable(name));
        found.map(|(series, value)| (series.clone(), *value)).collect()
    }

    /// All series with this name.
    pub(crate) fn family(&self, name: &str) -> BTreeMap<Series, f64> {
        let found = self.series.iter().filter(|((found, _), _)| found == name);
        found.map(|(series, value)| (series.clone(), *value)).collect()
    }

    /// The names of all samples.
    pub(crate) fn names(&self) -> Vec<&str> {
        self.series.keys().map(|(name, _)| name.as_str()).collect()
    }

    /// Asserts that no non-zero durable series has fallen or disappeared since an earlier scrape.
    pub(crate) fn assert_not_below(&self, earlier: &Self) {
        for (series, before) in earlier.durable() {
            let now = self.series.get(&series).copied();
            assert!(
                now.is_some_and(|now| now >= before),
                "{series:?} fell from {before} to {now:?}"
            );
        }
    }
}

/// Parses a series as it is written.
pub(crate) fn parse_series(series: &str) -> Series {
    let (name, labels) = match series.split_once('{') {
        None => (series, BTreeMap::new()),
        Some((name, rest)) => (name, labels(rest.strip_suffix('}').expect("a brace"))),
    };
    (name.to_owned(), labels)
}

fn labels(text: &str) -> BTreeMap<String, String> {
    let mut labels = BTreeMap::new();
    let mut rest = text;
    while !rest.is_empty() {
        let (name, tail) = rest.split_once("=\"").expect("a label");
        let mut value = String::new();
        let mut characters = tail.char_indices();
        let end = loop {
            match characters.next().expect("a closing quote") {
                (at, '"') => break at,
                (_, '\\') => match characters.next().expect("an escape").1 {
                    'n' => value.push('\n'),
                    other => value.push(other),
                },
                (_, other) => value.push(other),
            }
        };
        assert!(labels.insert(name.to_owned(), value).is_none(), "duplicate label: {text}");
        rest = tail[end + 1..].trim_start_matches(',');
    }
    labels
}
