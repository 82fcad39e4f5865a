//! The dashboards: they are defined here, written to `dashboards/` as JSON, and checked against the rules
//! of Grafana's linter and the catalogue of metrics.
//!
//! `UPDATE_GOLDEN=1 cargo test dashboards` writes the JSON.

mod accounts;
mod alerts;
mod build;
mod calls;
mod drawn;
mod exporter;
mod judged;
pub(crate) mod lint;
mod route;
mod webhooks;

use build::{Dashboard, Panel};

/// The directory of the JSON files.
pub(crate) const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/dashboards");

/// The families used in most queries.
const REQUESTS: &str = "twilio_webhook_requests_total";
const DURATION: &str = "twilio_webhook_request_duration_seconds";
const FAILURES: &str = "twilio_webhook_failures_total";
const EVENT_LAG: &str = "twilio_exporter_event_lag_seconds";
/// Selects caller-facing requests in a family with kinds: those that expect TwiML, and media files that a
/// call plays. Failure ratios are computed over these, as in the rules.
const CALLER_FACING: &str = r#"kind!~".*_callback""#;
/// The share of caller-facing requests that may fail, from the rules.
const OBJECTIVE: &str = "max(twilio:webhook_failures_objective:threshold)";
/// The one-hour failure ratio that pages.
const PAGE_RATIO: &str =
    "max(twilio:burn_rate_1h:threshold) * max(twilio:webhook_failures_objective:threshold)";
/// Seconds of silence that callers notice, two thirds of Twilio's timeout, and Twilio's timeout.
const SLOW: f64 = 3.0;
const NEAR_TIMEOUT: f64 = 10.0;
const TIMEOUT: f64 = 15.0;
/// Seconds of lag that exceed the 16 minutes caused by Twilio: moderately and greatly.
const LATE: f64 = 1_200.0;
const VERY_LATE: f64 = 3_600.0;
/// A count above this isn't 0: because `increase` extrapolates, one event may count as slightly less than 1.
const ANY: f64 = 0.5;

/// All dashboards.
pub(crate) fn all() -> [Dashboard; 4] {
    [webhooks::dashboard(), route::dashboard(), calls::dashboard(), exporter::dashboard()]
}

/// The number of requests: those with a duration, or the failures if there are more, as a request without a
/// response may have no duration. Not the sum over codes, because a new code appears with its value, which
/// isn't an increase.
fn request_count(function: &str, range: &str, matchers: &str, by: &str) -> String {
    let sum = |family: &str| format!("sum{by}({function}({family}{{{matchers}}}{range}))");
    let (measured, failed) = (sum(&format!("{DURATION}_count")), sum(FAILURES));
    format!("({measured} >= {failed} or {failed})")
}

/// The series of a query that are highest by `rank`, an expression over the whole time range. A plain
/// `topk` would select series at each point, so that lines come and go.
fn highest(count: u32, expr: &str, by: &str, rank: &str) -> String {
    format!("({expr}) and on ({by}) topk({count}, {rank})")
}

/// The same for gauges, by their highest value in the time range. Gauges that are always 0 are omitted.
fn highest_gauges(count: u32, series: &str, by: &str) -> String {
    let rank = format!("max by ({by}) (max_over_time({series}[$__range] @ end())) > 0");
    highest(count, &format!("max by ({by}) ({series})"), by, &rank)
}

/// The share of requests that failed; empty if there were none. Because a request without a response may
/// have no duration, there may be more failures than durations, so the share is limited to 1.
fn share(function: &str, range: &str, matchers: &str, by: &str) -> String {
    let sum = |family: &str| format!("sum{by}({function}({family}{{{matchers}}}{range}))");
    format!("clamp_max({} / {}, 1) >= 0", sum(FAILURES), sum(&format!("{DURATION}_count")))
}

/// A quantile of buckets; empty if they are, where Prometheus would return NaN.
fn quantile(q: f64, by: &str, buckets: &str) -> String {
    format!("histogram_quantile({q}, sum by ({by}) ({buckets})) >= 0")
}

/// A number whose colour shows the highest limit of the rules that it has reached. Because a colour can't
/// depend on another series, the limit determines the number's name, and the name its colour. Each of
/// `limits` has an expression, a name and a colour.
fn with_limits(panel: Panel, name: &str, number: &str, limits: &[(&str, &str, &str)]) -> Panel {
    let named =
        |limit: &str, words: &str| format!(r#"label_replace({limit}, "limit", "{words}", "", "")"#);
    let mut all = named("vector(-1)", name);
    let mut panel = panel.steps(&[(None, "green")]);
    for (limit, words, color) in limits {
        all.push_str(&format!(" or {}", named(limit, words)));
        panel = panel.colours(&[(&format!("/^{words}$/"), color)]);
    }
    let reached = format!("topk(1, ({all}) <= on () group_left () ({number}))");
    panel.instant(&format!("0 * {reached} + on () group_left () ({number})"), "{{limit}}")
}

/// The URL parameters that links to other dashboards pass on.
const LINK_PARAMETERS: &str = "${job:queryparam}&${datasource:queryparam}&${__url_time_range}";

/// How late the numbers are, in the same place on every dashboard.
fn data_lag_stat() -> Panel {
    let account = r#"job=~"$job",account=~"$account""#;
    Panel::stat(
        "Data lag",
        "lag: 90% of events in the time range were counted within this time after Twilio recorded them. behind: delay of the most overdue settling read.",
    )
    .unit("s")
    .decimals(0)
    .steps(&[(None, "blue"), (Some(LATE), "orange"), (Some(VERY_LATE), "red")])
    .size(4, 4)
    .when_empty("No account polled yet")
    .instant(
        &quantile(0.9, "le", &format!("increase({EVENT_LAG}_bucket{{{account}}}[$__range])")),
        "lag",
    )
    .instant(&format!("max(twilio_exporter_settling_overdue_seconds{{{account}}})"), "behind")
}

/// Status codes in their conventional colours.
fn code_colours(panel: Panel) -> Panel {
    panel.colours(&[
        ("/^2/", "green"),
        ("/^3/", "blue"),
        ("/^4/", "orange"),
        ("/^5/", "red"),
        ("/^none/", "purple"),
    ])
}

/// Failure reasons, coloured by what is missing or wrong.
fn reason_colours(panel: Panel) -> Panel {
    panel.colours(&[
        ("/^http_5xx/", "red"),
        ("/^http_4xx/", "orange"),
        ("/^timeout/", "purple"),
        ("/^(connection|dns|tls|no_response|missing_content_type)/", "dark-red"),
        ("/^(unsupported_content_type|not_twiml)/", "yellow"),
        ("/^(malformed_xml|wrong_root|empty_body|too_large)/", "blue"),
    ])
}
