//! Writes metric families in the Prometheus text format 0.0.4 and in OpenMetrics 1.0.
//!
//! The `prometheus` crate's own encoder writes `le="15"`: Prometheus 3 turns that into `15.0` and
//! Prometheus 2 doesn't, so a rule could match only one of them. This module always writes bounds as
//! floats.
//! Source: <https://prometheus.io/docs/instrumenting/exposition_formats/>.

use std::fmt::Write;

use prometheus::proto::{Metric, MetricFamily, MetricType};

use super::exemplar::Exemplar;

/// The end of an OpenMetrics exposition.
pub const END: &str = "# EOF\n";

/// An exposition format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// The text format 0.0.4.
    Text,
    /// OpenMetrics 1.0, with exemplars.
    ///
    /// Source: <https://prometheus.io/docs/specs/om/open_metrics_spec/>.
    OpenMetrics,
}

impl Format {
    /// Returns its content type.
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// An exposition being written; families may be added in any order.
#[derive(Debug)]
pub struct Exposition {
    format: Format,
    /// What is added to each sample, if they are from the past.
    past: Option<Past>,
    families: Vec<WrittenFamily>,
}

/// What is added to samples from the past.
#[derive(Debug)]
struct Past {
    /// Labels of all series, each with a leading comma.
    labels: String,
    /// The time of all samples in Unix seconds.
    second: i64,
}

/// A written family.
#[derive(Debug)]
pub struct WrittenFamily {
    name: String,
    text: String,
    /// The length of its description.
    head: usize,
    /// In the past, where each metric ends: the sample of a counter, or all samples of a histogram.
    ends: Vec<usize>,
}

impl WrittenFamily {
    /// Returns its help and type.
    pub fn head(&self) -> &str {
        &self.text[..self.head]
    }

    /// Returns the samples of each metric of a family from the past, in an order that only depends on its labels.
    pub fn metrics(&self) -> impl ExactSizeIterator<Item = &str> {
        self.ends.iter().enumerate().map(|(at, end)| {
            let start = if at == 0 { self.head } else { self.ends[at - 1] };
            &self.text[start..*end]
        })
    }
}

impl Exposition {
    /// Starts an empty exposition.
    pub const fn new(format: Format) -> Self {
        Self { format, past: None, families: Vec::new() }
    }

    /// Starts an OpenMetrics exposition of samples from the past: each has this time (Unix seconds) and these
    /// labels in addition to its own, of which it must have some.
    pub fn of_the_past(labels: &Labels, second: i64) -> Self {
        let past = Past { labels: format!(",{}", labels.0), second };
        Self { format: Format::OpenMetrics, past: Some(past), families: Vec::new() }
    }

    /// Writes a family, unless it has no series.
    pub fn family(
        &mut self,
        name: &str,
        help: &str,
        kind: MetricType,
        write: impl FnOnce(&mut FamilyText<'_>),
    ) {
        let (format, past) = (self.format, self.past.as_ref());
        let mut family = FamilyText { text: String::new(), name, format, past, ends: Vec::new() };
        family.write_head(help, kind);
        let head = family.text.len();
        write(&mut family);
        let FamilyText { text, ends, .. } = family;
        if text.len() > head {
            self.families.push(WrittenFamily { name: name.to_owned(), text, head, ends });
        }
    }

    /// Writes families of the `prometheus` crate.
    pub fn gathered(&mut self, families: &[MetricFamily]) {
        for gathered in families {
            let kind = gathered.get_field_type();
            self.family(gathered.name(), gathered.help(), kind, |family| {
                for metric in gathered.get_metric() {
                    family.write_gathered(kind, metric);
                }
            });
        }
    }

    /// Returns the texts of the families, sorted by name, to be sent one after another.
    pub fn finish(self) -> Vec<String> {
        let end = (self.format == Format::OpenMetrics).then(|| END.to_owned());
        self.families().into_iter().map(|family| family.text).chain(end).collect()
    }

    /// Returns the families, sorted by name.
    pub fn families(mut self) -> Vec<WrittenFamily> {
        self.families.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        self.families
    }
}

/// The labels of a series, formatted once for all families that use them.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Labels(String);

impl Labels {
    /// Formats pairs of names and values.
    pub fn from_pairs<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let mut text = String::new();
        for (name, value) in pairs {
            if !text.is_empty() {
                text.push(',');
            }
            text.push_str(name);
            text.push_str("=\"");
            escape(&mut text, value, true);
            text.push('"');
        }
        Self(text)
    }
}

/// The value of a sample.
#[derive(Clone, Copy, Debug)]
pub enum Value {
    /// A count, written exactly.
    Count(u64),
    /// Anything else.
    Float(f64),
}

/// A family being written.
#[derive(Debug)]
pub struct FamilyText<'a> {
    text: String,
    name: &'a str,
    format: Format,
    past: Option<&'a Past>,
    ends: Vec<usize>,
}

impl FamilyText<'_> {
    fn write_head(&mut self, help: &str, kind: MetricType) {
        let is_open_metrics = self.format == Format::OpenMetrics;
        let kind = match kind {
            MetricType::COUNTER => "counter",
            MetricType::GAUGE => "gauge",
            MetricType::HISTOGRAM => "histogram",
            MetricType::SUMMARY => "summary",
            MetricType::UNTYPED => "untyped",
        };
        // In OpenMetrics, a counter family's name lacks the `_total` of its samples.
        let described = match kind {
            "counter" if is_open_metrics => self.name.strip_suffix("_total").unwrap_or(self.name),
            _ => self.name,
        };
        for part in ["# HELP ", described, " "] {
            self.text.push_str(part);
        }
        escape(&mut self.text, help, is_open_metrics);
        for part in ["\n# TYPE ", described, " ", kind, "\n"] {
            self.text.push_str(part);
        }
    }

    /// Writes a sample, with an optional extra label, and an exemplar if the format supports them.
    pub fn sample(
        &mut self,
        labels: &Labels,
        extra: Option<(&str, &str)>,
        value: Value,
        exemplar: Option<&Exemplar>,
    ) {
        self.write("", labels, extra, value, exemplar);
        self.end_metric();
    }

    /// Writes a histogram from its cumulative counts by [`bound`], including `+Inf`, and its sum.
    pub fn histogram<'e>(
        &mut self,
        labels: &Labels,
        buckets: impl IntoIterator<Item = (impl AsRef<str>, u64, Option<&'e Exemplar>)>,
        sum: f64,
    ) {
        let mut count = 0;
        for (bound, up_to, exemplar) in buckets {
            let bound = ("le", bound.as_ref());
            self.write("_bucket", labels, Some(bound), Value::Count(up_to), exemplar);
            count = up_to;
        }
        self.write("_sum", labels, None, Value::Float(sum), None);
        self.write("_count", labels, None, Value::Count(count), None);
        self.end_metric();
    }

    fn end_metric(&mut self) {
        if self.past.is_some() {
            self.ends.push(self.text.len());
        }
    }

    fn write_gathered(&mut self, kind: MetricType, metric: &Metric) {
        let labels =
            Labels::from_pairs(metric.get_label().iter().map(|pair| (pair.name(), pair.value())));
        match kind {
            MetricType::COUNTER => {
                let value = metric.get_counter().get_value();
                self.sample(&labels, None, Value::Float(value), None);
            }
            MetricType::HISTOGRAM => {
                let histogram = metric.get_histogram();
                let finite = histogram.get_bucket().iter().filter_map(|bucket| {
                    let upper = bucket.upper_bound();
                    upper.is_finite().then_some((bound(upper), bucket.cumulative_count(), None))
                });
                let all = (bound(f64::INFINITY), histogram.get_sample_count(), None);
                self.histogram(&labels, finite.chain([all]), histogram.get_sample_sum());
            }
            // There are no summaries or untyped metrics.
            MetricType::GAUGE | MetricType::SUMMARY | MetricType::UNTYPED => {
                let value = metric.get_gauge().get_value();
                self.sample(&labels, None, Value::Float(value), None);
            }
        }
    }

    fn write(
        &mut self,
        suffix: &str,
        Labels(labels): &Labels,
        extra: Option<(&str, &str)>,
        value: Value,
        exemplar: Option<&Exemplar>,
    ) {
        let text = &mut self.text;
        let mut push = |parts: &[&str]| {
            text.reserve(parts.iter().map(|part| part.len()).sum());
            text.extend(parts.iter().copied());
        };
        let comma = if labels.is_empty() { "" } else { "," };
        let more = self.past.map_or("", |past| &past.labels);
        match extra {
            Some((name, value)) => {
                push(&[
                    self.name, suffix, "{", labels, comma, name, "=\"", value, "\"", more, "} ",
                ]);
            }
            None if labels.is_empty() => push(&[self.name, suffix, " "]),
            None => push(&[self.name, suffix, "{", labels, more, "} "]),
        }
        match value {
            Value::Count(count) => push(&[itoa::Buffer::new().format(count)]),
            Value::Float(value) => write_float(text, value),
        }
        if let Some(past) = self.past {
            text.push(' ');
            text.push_str(itoa::Buffer::new().format(past.second));
        }
        if self.format == Format::OpenMetrics
            && let Some(Exemplar { call_sid, duration_ms, at }) = exemplar
        {
            display(text, &format_args!(" # {{call_sid=\"{call_sid}\"}} "));
            write_float(text, duration_ms.map_or(1.0, |duration| as_float(duration) / 1000.0));
            let (seconds, milliseconds) = (at.as_second(), at.subsec_millisecond());
            display(text, &format_args!(" {seconds}.{milliseconds:03}"));
        }
        text.push('\n');
    }
}

/// Formats the bound of a bucket, always as a float.
pub fn bound(upper: f64) -> String {
    if upper.is_finite() { format!("{upper:?}") } else { "+Inf".to_owned() }
}

fn write_float(text: &mut String, value: f64) {
    if value.is_nan() {
        text.push_str("NaN");
    } else if value.is_infinite() {
        text.push_str(if value > 0.0 { "+Inf" } else { "-Inf" });
    } else {
        display(text, &value);
    }
}

fn display(text: &mut String, value: &dyn std::fmt::Display) {
    // Writing to a string never fails.
    let _infallible = write!(text, "{value}");
}

fn escape(text: &mut String, value: &str, escapes_quotes: bool) {
    let mut rest = value;
    while let Some(at) = rest.find(|c| matches!(c, '\\' | '\n') || c == '"' && escapes_quotes) {
        text.push_str(&rest[..at]);
        text.push_str(match rest.as_bytes()[at] {
            b'\\' => "\\\\",
            b'\n' => "\\n",
            _ => "\\\"",
        });
        rest = &rest[at + 1..];
    }
    text.push_str(rest);
}

/// Converts a count to a float, exact up to 2^53.
#[expect(clippy::cast_precision_loss, reason = "the text format has only floats; exact up to 2^53")]
pub(crate) fn as_float(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use prometheus::{HistogramOpts, HistogramVec, IntCounterVec, Opts, core::Collector};

    #[test]
    fn bounds_are_floats_and_label_values_are_escaped() {
        let counter = IntCounterVec::new(Opts::new("c_total", "A \"help\"\\\nline."), &["host"])
            .expect("a family");
        counter.with_label_values(&["a\"b\\c\nd"]).inc();
        let histogram = HistogramVec::new(
            HistogramOpts::new("h_seconds", "Help.").buckets(vec![0.5, 15.0]),
            &[],
        )
        .expect("a family");
        histogram.with_label_values::<&str>(&[]).observe(1.5);
        check(
            &[histogram.collect(), counter.collect()].concat(),
            "# HELP c_total A \"help\"\\\\\\nline.\n\
             # TYPE c_total counter\n\
             c_total{host=\"a\\\"b\\\\c\\nd\"} 1\n\
             # HELP h_seconds Help.\n\
             # TYPE h_seconds histogram\n\
             h_seconds_bucket{le=\"0.5\"} 0\n\
             h_seconds_bucket{le=\"15.0\"} 1\n\
             h_seconds_bucket{le=\"+Inf\"} 1\n\
             h_seconds_sum 1.5\n\
             h_seconds_count 1\n",
        );
    }

    #[test]
    fn a_family_without_series_is_not_written() {
        let empty = IntCounterVec::new(Opts::new("c_total", "Help."), &["host"]).expect("a family");
        check(&empty.collect(), "");
    }

    fn check(families: &[MetricFamily], expected: &str) {
        let mut exposition = Exposition::new(Format::Text);
        exposition.gathered(families);
        assert_eq!(exposition.finish().concat(), expected);
    }
}
