//! How families are written down: the Prometheus text format 0.0.4, and OpenMetrics 1.0.
//!
//! Behind the `prometheus` crate's `Encoder`, whose own text encoder writes `le="15"`: Prometheus 3
//! turns that into `15.0` and Prometheus 2 does not, so a rule could only ever match one of them.
//! Here a bound is always written as a float.
//! Source: <https://prometheus.io/docs/instrumenting/exposition_formats/>.

use std::io::Write;

use prometheus::proto::{LabelPair, Metric, MetricFamily, MetricType};
use prometheus::{Encoder, Result};

use super::exemplar::{Exemplar, ExemplarTable};
use super::ledger::bound_ms;

/// Writes the text format 0.0.4.
#[derive(Clone, Copy, Debug, Default)]
pub struct TextEncoder;

/// Its content type.
pub const TEXT_FORMAT: &str = "text/plain; version=0.0.4; charset=utf-8";

impl Encoder for TextEncoder {
    fn encode<W: Write>(&self, families: &[MetricFamily], writer: &mut W) -> Result<()> {
        write_families(families, None, writer)
    }

    fn format_type(&self) -> &str {
        TEXT_FORMAT
    }
}

/// Writes OpenMetrics 1.0, with exemplars.
///
/// Source: <https://prometheus.io/docs/specs/om/open_metrics_spec/>.
#[derive(Clone, Debug, Default)]
pub struct OpenMetricsEncoder {
    /// The exemplars of the same snapshot.
    pub exemplars: ExemplarTable,
}

/// Its content type.
pub const OPEN_METRICS_FORMAT: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

impl Encoder for OpenMetricsEncoder {
    fn encode<W: Write>(&self, families: &[MetricFamily], writer: &mut W) -> Result<()> {
        write_families(families, Some(&self.exemplars), writer)?;
        writer.write_all(b"# EOF\n")?;
        Ok(())
    }

    fn format_type(&self) -> &str {
        OPEN_METRICS_FORMAT
    }
}

/// Writes families; with exemplars, as OpenMetrics.
fn write_families<W: Write>(
    families: &[MetricFamily],
    exemplars: Option<&ExemplarTable>,
    writer: &mut W,
) -> Result<()> {
    let mut text = String::new();
    for family in families.iter().filter(|family| !family.get_metric().is_empty()) {
        write_family(&mut text, family, exemplars);
        writer.write_all(text.as_bytes())?;
        text.clear();
    }
    Ok(())
}

fn write_family(text: &mut String, family: &MetricFamily, exemplars: Option<&ExemplarTable>) {
    let name = family.name();
    let kind = match family.get_field_type() {
        MetricType::COUNTER => "counter",
        MetricType::GAUGE => "gauge",
        MetricType::HISTOGRAM => "histogram",
        MetricType::SUMMARY => "summary",
        MetricType::UNTYPED => "untyped",
    };
    // OpenMetrics names a counter's family without the suffix of its sample.
    let described = match exemplars {
        Some(_) if kind == "counter" => name.strip_suffix("_total").unwrap_or(name),
        Some(_) | None => name,
    };
    text.push_str("# HELP ");
    text.push_str(described);
    text.push(' ');
    escape(text, family.help(), exemplars.is_some());
    text.push_str("\n# TYPE ");
    text.push_str(described);
    text.push(' ');
    text.push_str(kind);
    text.push('\n');
    for metric in family.get_metric() {
        let behind = exemplars.and_then(|table| table.of_series(name, metric));
        let behind = |bound| behind.and_then(|exemplars| exemplars.get(&bound));
        let mut series = Series { text, name, metric };
        match family.get_field_type() {
            MetricType::COUNTER => {
                series.write("", None, metric.get_counter().get_value(), behind(None));
            }
            MetricType::HISTOGRAM => series.write_histogram(behind),
            // Nothing here makes summaries or untyped metrics.
            MetricType::GAUGE | MetricType::SUMMARY | MetricType::UNTYPED => {
                series.write("", None, metric.get_gauge().get_value(), None);
            }
        }
    }
}

/// One series being written.
struct Series<'a> {
    text: &'a mut String,
    name: &'a str,
    metric: &'a Metric,
}

impl Series<'_> {
    fn write_histogram<'e>(&mut self, behind: impl Fn(Option<u64>) -> Option<&'e Exemplar>) {
        let histogram = self.metric.get_histogram();
        let count = as_float(histogram.get_sample_count());
        let buckets = histogram.get_bucket().iter();
        for bucket in buckets.filter(|bucket| bucket.upper_bound().is_finite()) {
            let bound = format!("{:?}", bucket.upper_bound());
            let exemplar = behind(Some(bound_ms(bucket.upper_bound())));
            self.write("_bucket", Some(&bound), as_float(bucket.cumulative_count()), exemplar);
        }
        self.write("_bucket", Some("+Inf"), count, behind(None));
        self.write("_sum", None, histogram.get_sample_sum(), None);
        self.write("_count", None, count, None);
    }

    fn write(
        &mut self,
        suffix: &str,
        bound: Option<&str>,
        value: f64,
        exemplar: Option<&Exemplar>,
    ) {
        let text = &mut *self.text;
        text.push_str(self.name);
        text.push_str(suffix);
        let labels = self.metric.get_label();
        if !labels.is_empty() || bound.is_some() {
            text.push('{');
            let pairs = labels.iter().map(|pair: &LabelPair| (pair.name(), pair.value()));
            for (index, (key, value)) in pairs.chain(bound.map(|bound| ("le", bound))).enumerate() {
                if index > 0 {
                    text.push(',');
                }
                text.push_str(key);
                text.push_str("=\"");
                escape(text, value, true);
                text.push('"');
            }
            text.push('}');
        }
        text.push(' ');
        write_value(text, value);
        if let Some(Exemplar { call_sid, duration_ms, at }) = exemplar {
            text.push_str(&format!(" # {{call_sid=\"{call_sid}\"}} "));
            write_value(text, duration_ms.map_or(1.0, |duration| as_float(duration) / 1000.0));
            text.push_str(&format!(" {}.{:03}", at.as_second(), at.subsec_millisecond()));
        }
        text.push('\n');
    }
}

fn write_value(text: &mut String, value: f64) {
    if value.is_nan() {
        text.push_str("NaN");
    } else if value.is_infinite() {
        text.push_str(if value > 0.0 { "+Inf" } else { "-Inf" });
    } else {
        text.push_str(&value.to_string());
    }
}

fn escape(text: &mut String, value: &str, escapes_quotes: bool) {
    for character in value.chars() {
        match character {
            '\\' => text.push_str("\\\\"),
            '\n' => text.push_str("\\n"),
            '"' if escapes_quotes => text.push_str("\\\""),
            other => text.push(other),
        }
    }
}

/// A count as the format's only number: exact up to 2^53.
#[expect(
    clippy::cast_precision_loss,
    reason = "the text format knows only floats; exact below 2^53"
)]
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
            &[counter.collect(), histogram.collect()].concat(),
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

    fn check(families: &[MetricFamily], expected: &str) {
        let mut written = Vec::new();
        TextEncoder.encode(families, &mut written).expect("a vector takes all");
        assert_eq!(String::from_utf8(written).expect("UTF-8"), expected);
    }
}
