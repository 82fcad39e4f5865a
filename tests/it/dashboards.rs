//! Defines the dashboards, and checks their JSON in `dashboards/` against the rules of Grafana's linter and the
//! catalogue of metrics.
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

/// The metric families used in most queries.
const REQUESTS: &str = "twilio_webhook_requests_total";
const DURATION: &str = "twilio_webhook_request_duration_seconds";
const FAILURES: &str = "twilio_webhook_failures_total";
const EVENT_LAG: &str = "twilio_exporter_event_lag_seconds";
/// Selects caller-facing requests in a family with kinds: those that expect TwiML, and media files played in a call.
/// Failure ratios are computed over these, as in the rules.
const CALLER_FACING: &str = r#"kind!~".*_callback""#;
/// The share of caller-facing requests that may fail, from the rules.
const OBJECTIVE: &str = "max(twilio:webhook_failures_objective:threshold)";
/// The one-hour failure ratio above which an alert pages.
const PAGE_RATIO: &str =
    "max(twilio:burn_rate_1h:threshold) * max(twilio:webhook_failures_objective:threshold)";
/// In seconds: the silence that callers notice, two thirds of Twilio's timeout, and Twilio's timeout.
const SLOW: f64 = 3.0;
const NEAR_TIMEOUT: f64 = 10.0;
const TIMEOUT: f64 = 15.0;
/// Lags in seconds that moderately and greatly exceed the 16 minutes caused by Twilio.
const LATE: f64 = 1_200.0;
const VERY_LATE: f64 = 3_600.0;
/// The threshold for counts above 0. It is less than 1 because `increase` extrapolates, so one event may yield
/// slightly less than 1.
const ANY: f64 = 0.5;

/// All dashboards.
pub(crate) fn all() -> [Dashboard; 4] {
    [webhooks::dashboard(), route::dashboard(), calls::dashboard(), exporter::dashboard()]
}

/// The number of requests: those with a duration, or the failures if there are more, because a request without a
/// response may have no duration. Summing over codes would be wrong: the series of a new code starts at its first
/// value, which `increase` ignores.
fn request_count(function: &str, range: &str, matchers: &str, by: &str) -> String {
    let sum = |family: &str| format!("sum{by}({function}({family}{{{matchers}}}{range}))");
    let (measured, failed) = (sum(&format!("{DURATION}_count")), sum(FAILURES));
    format!("({measured} >= {failed} or {failed})")
}

/// The series of a query that are highest by `rank`, an expression over the whole time range. A plain `topk` would
/// select series separately at each point in time, so lines would come and go.
fn highest(count: u32, expr: &str, by: &str, rank: &str) -> String {
    format!("({expr}) and on ({by}) topk({count}, {rank})")
}

/// The gauges with the highest values in the time range. Gauges that are always 0 are omitted.
fn highest_gauges(count: u32, series: &str, by: &str) -> String {
    let rank = format!("max by ({by}) (max_over_time({series}[$__range] @ end())) > 0");
    highest(count, &format!("max by ({by}) ({series})"), by, &rank)
}

/// The share of requests that failed; empty if there were no requests. It is limited to 1: because a request without a
/// response may have no duration, there may be more failures than durations.
fn share(function: &str, range: &str, matchers: &str, by: &str) -> String {
    let sum = |family: &str| format!("sum{by}({function}({family}{{{matchers}}}{range}))");
    format!("clamp_max({} / {}, 1) >= 0", sum(FAILURES), sum(&format!("{DURATION}_count")))
}

/// A quantile of buckets; empty, instead of Prometheus' NaN, if the buckets are.
fn quantile(q: f64, by: &str, buckets: &str) -> String {
    format!("histogram_quantile({q}, sum by ({by}) ({buckets})) >= 0")
}

/// Shows a number in the colour of the highest limit of the rules that it has reached. Because a colour can't depend
/// on another series, the limit determines the number's name, and the name determines its colour. Each of `limits`
/// has an expression, a name and a colour.
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

/// The URL parameters that links pass on to other dashboards.
const LINK_PARAMETERS: &str = "${job:queryparam}&${datasource:queryparam}&${__url_time_range}";

/// Shows how late the numbers are. It has the same position on every dashboard.
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

/// Colours status codes conventionally.
fn code_colours(panel: Panel) -> Panel {
    panel.colours(&[
        ("/^2/", "green"),
        ("/^3/", "blue"),
        ("/^4/", "orange"),
        ("/^5/", "red"),
        ("/^none/", "purple"),
    ])
}

/// Colours failure reasons by what is missing or wrong.
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
