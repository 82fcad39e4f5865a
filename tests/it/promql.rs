//! A minimal PromQL parser to check queries against the catalogue: selectors, their matchers and ranges,
//! the functions applied to them, and grouping labels. promtool checks the rest.
//!
//! The crate `promql-parser` accepts all rules, but not Grafana's variables in ranges (`[$__rate_interval]`), which
//! are part of what is checked, and it depends on 35 other crates.

use twilio_call_exporter::domain::engine::effects::ReadResult;
use twilio_call_exporter::domain::engine::plan::Stage;
use twilio_call_exporter::domain::engine::request::Resource;
use twilio_call_exporter::domain::judge::content_type::ContentType;
use twilio_call_exporter::domain::judge::kind::RequestKind;
use twilio_call_exporter::domain::judge::verdict::Reason;
use twilio_call_exporter::domain::track::outcome::Outcome;
use twilio_call_exporter::domain::words::call::CallStatus;
use twilio_call_exporter::metrics::catalog::{self, Family, FamilyKind};
use twilio_call_exporter::metrics::health::EventResult;

/// A series selector of a query.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Selector {
    /// The metric name.
    pub name: String,
    /// Label, operator and value of each matcher.
    pub matchers: Vec<(String, String, String)>,
    /// The range in brackets after it.
    pub range: Option<String>,
    /// The `offset`.
    pub offset: Option<String>,
    /// Whether it has the modifier `@ end()`.
    pub at_end: bool,
    /// The function called on it, if the selector is its first argument.
    pub function: Option<String>,
}

/// The selectors and labels of a query.
#[derive(Debug, Default)]
pub(crate) struct Query {
    /// All series selectors.
    pub selectors: Vec<Selector>,
    /// The labels of `by`, `on`, `without`, `ignoring` and `group_left`.
    pub labels: Vec<String>,
}

/// Keywords and operators, which aren't metric names.
const WORDS: [&str; 12] = [
    "and",
    "or",
    "unless",
    "bool",
    "by",
    "on",
    "without",
    "ignoring",
    "group_left",
    "group_right",
    "offset",
    "inf",
];

/// Parses a query.
pub(crate) fn read(text: &str) -> Query {
    let (mut query, mut rest, mut function) = (Query::default(), text, None);
    while let Some(first) = rest.chars().next() {
        if first == '"' {
            rest = quoted(rest).1;
        } else if is_name(first) && !first.is_ascii_digit() {
            let (word, after) = rest.split_at(rest.find(|c| !is_name(c)).unwrap_or(rest.len()));
            rest = after.trim_start();
            if WORDS.contains(&word) {
                if let Some(labels) = rest
                    .strip_prefix('(')
                    .filter(|_| word != "and" && word != "or" && word != "unless")
                {
                    let (labels, after) = labels.split_once(')').expect("a closing bracket");
                    query.labels.extend(
                        labels
                            .split(',')
                            .map(|label| label.trim().to_owned())
                            .filter(|label| !label.is_empty()),
                    );
                    rest = after;
                } else if word == "offset" {
                    let end = rest.find(|c: char| !c.is_ascii_alphanumeric());
                    let (offset, after) = rest.split_at(end.unwrap_or(rest.len()));
                    let selector = query.selectors.last_mut().expect("a selector has an offset");
                    selector.offset = Some(offset.to_owned());
                    rest = after;
                }
            } else if rest.starts_with('(') {
                function = Some(word.to_owned());
                rest = &rest[1..];
            } else if !is_aggregation(word) {
                let mut selector = Selector {
                    name: word.to_owned(),
                    function: function.take(),
                    ..Selector::default()
                };
                if rest.starts_with('{') {
                    (selector.matchers, rest) = matchers(rest);
                }
                if let Some(range) = rest.strip_prefix('[') {
                    let (range, after) = range.split_once(']').expect("a closing bracket");
                    selector.range = Some(range.to_owned());
                    selector.at_end = after.trim_start().starts_with("@ end()");
                    rest = after;
                }
                query.selectors.push(selector);
            }
        } else if first == '{' {
            let (matchers, after) = matchers(rest);
            query.selectors.push(Selector { matchers, ..Selector::default() });
            rest = after;
        } else if first.is_ascii_digit() {
            rest = rest.trim_start_matches(|c: char| c.is_ascii_alphanumeric() || c == '.');
        } else {
            if !first.is_whitespace() {
                function = None;
            }
            rest = &rest[first.len_utf8()..];
        }
    }
    query
}

fn is_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_' || c == ':'
}

fn is_aggregation(word: &str) -> bool {
    ["sum", "min", "max", "avg", "count", "group", "topk", "count_values"].contains(&word)
}

/// The value of a string literal, and the text after it.
fn quoted(text: &str) -> (String, &str) {
    let mut value = String::new();
    let mut chars = text.char_indices().skip(1);
    while let Some((at, c)) = chars.next() {
        match c {
            '\\' => value.extend(chars.next().map(|(_, escaped)| escaped)),
            '"' => return (value, &text[at + 1..]),
            _ => value.push(c),
        }
    }
    panic!("unterminated string: {text}");
}

fn matchers(text: &str) -> (Vec<(String, String, String)>, &str) {
    let (mut found, mut rest) = (Vec::new(), text[1..].trim_start());
    while !rest.starts_with('}') {
        let (label, after) = rest.split_at(rest.find(|c| !is_name(c)).expect("an operator"));
        let (operator, after) = after.split_at(after.find('"').expect("a value"));
        let (value, after) = quoted(after);
        found.push((label.to_owned(), operator.trim().to_owned(), value));
        rest = after.trim_start().trim_start_matches(',').trim_start();
    }
    (found, &rest[1..])
}

/// The catalogue family that a series belongs to.
pub(crate) fn family(series: &str) -> Option<&'static Family> {
    let is_of = |family: &&&Family| match (series.strip_prefix(family.name), family.kind) {
        (Some("_bucket" | "_sum" | "_count"), FamilyKind::Histogram(_)) => true,
        (Some(""), FamilyKind::Counter | FamilyKind::Gauge) => true,
        (Some(_) | None, _) => false,
    };
    catalog::ALL.iter().find(is_of).copied()
}

/// Process metrics, which come from the `prometheus` crate and aren't in the catalogue.
const PROCESS: [&str; 3] =
    ["process_start_time_seconds", "process_resident_memory_bytes", "process_cpu_seconds_total"];

/// Series that Prometheus generates for alerts.
const ALERTS: [&str; 2] = ["ALERTS", "ALERTS_FOR_STATE"];
/// Labels from Prometheus and its targets, and `created`, which the rules use with `count_values`.
const TARGET: [&str; 8] =
    ["job", "instance", "pod", "container", "endpoint", "service", "le", "created"];
/// Labels of alerts.
const ALERT: [&str; 4] = ["alertname", "alertstate", "severity", "component"];

/// Asserts that a query uses only existing series and labels; `recorded` names the recorded series.
pub(crate) fn assert_is_known(place: &str, text: &str, recorded: &[String]) {
    let query = read(text);
    assert!(
        !query.selectors.is_empty() || text.starts_with("vector("),
        "{place}: no series in {text}"
    );
    for selector in &query.selectors {
        let name = selector.name.as_str();
        let labels: Vec<&str> = match family(name) {
            Some(family) => family.labels.to_vec(),
            None if ALERTS.contains(&name) => vec!["account", "host", "route"],
            None if PROCESS.contains(&name) || name == "up" => Vec::new(),
            None if recorded.iter().any(|record| record == name) => {
                name.split(':').next().map(|level| level.split('_').collect()).unwrap_or_default()
            }
            None => panic!("{place}: unknown series `{name}`: {text}"),
        };
        for (label, _, _) in &selector.matchers {
            let is_known = labels.contains(&label.as_str())
                || ["job", "instance", "alertname", "alertstate", "severity"]
                    .contains(&label.as_str())
                // The label of imported history.
                || label == "source"
                || (name == "ALERTS" && label == "host")
                || (label == "le" && name.ends_with("_bucket"))
                || label.strip_prefix("exported_").is_some_and(|label| labels.contains(&label));
            assert!(is_known, "{place}: `{name}` has no label `{label}`");
        }
        for (label, _, value) in &selector.matchers {
            // Skip regular expressions.
            let values =
                value.split('|').filter(|value| !value.contains(['.', '[', '(', '$', '+']));
            for value in values.filter(|value| !value.is_empty()) {
                let is_known =
                    possible_values(name, label).is_none_or(|known| known.contains(&value));
                assert!(is_known, "{place}: `{name}` never has {label}=\"{value}\"");
            }
        }
    }
    let all: Vec<&str> =
        catalog::ALL.iter().flat_map(|family| family.labels.iter().copied()).collect();
    for label in &query.labels {
        let label = label.strip_prefix("exported_").unwrap_or(label);
        let is_known = all.contains(&label) || TARGET.contains(&label) || ALERT.contains(&label);
        assert!(is_known, "{place}: unknown label `{label}`: {text}");
    }
}

/// The possible values of a label, if they are a fixed set.
fn possible_values(series: &str, label: &str) -> Option<Vec<&'static str>> {
    fn all<T: Copy + 'static>(
        values: &[T],
        name: fn(T) -> &'static str,
    ) -> Option<Vec<&'static str>> {
        Some(values.iter().map(|&value| name(value)).collect())
    }
    match (label, series) {
        ("kind", _) => all(RequestKind::ALL, RequestKind::as_str),
        ("content_type", _) => all(ContentType::ALL, ContentType::as_str),
        ("outcome", _) => all(Outcome::ALL, Outcome::as_str),
        ("stage", _) => all(Stage::ALL, Stage::as_str),
        ("resource", _) => all(Resource::ALL, Resource::as_str),
        ("result", "twilio_exporter_call_events_total") => {
            all(EventResult::ALL, EventResult::as_str)
        }
        ("result", _) => all(ReadResult::ALL, ReadResult::as_str),
        ("status", "twilio_calls_total") => all(CallStatus::ALL, CallStatus::as_str),
        ("reason", "twilio_webhook_failures_total") => all(Reason::ALL, Reason::as_str),
        _ => None,
    }
}

#[test]
fn parses_a_query() {
    let query = read(
        r#"topk(3, sum by (host, le) (increase(a_total{x="}\"",y!~".*"}[5m])) > 0) and on (job) up == 0 or b offset 1d"#,
    );
    let names: Vec<&str> = query.selectors.iter().map(|selector| selector.name.as_str()).collect();
    assert_eq!(names, ["a_total", "up", "b"]);
    let first = &query.selectors[0];
    assert_eq!(first.function.as_deref(), Some("increase"));
    assert_eq!(first.range.as_deref(), Some("5m"));
    assert_eq!(first.matchers[0], ("x".to_owned(), "=".to_owned(), "}\"".to_owned()));
    assert_eq!(first.matchers[1], ("y".to_owned(), "!~".to_owned(), ".*".to_owned()));
    assert_eq!(query.labels, ["host", "le", "job"]);
    let offsets = query.selectors.iter().map(|selector| selector.offset.as_deref());
    assert_eq!(offsets.collect::<Vec<_>>(), [None, None, Some("1d")]);
}
