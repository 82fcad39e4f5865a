//! The dashboards: written down here, in `dashboards/` as JSON, and held to what Grafana's own linter
//! and the catalogue of metrics ask for.
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

/// Where they are.
pub(crate) const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/dashboards");

/// The families that stand in most queries.
const REQUESTS: &str = "twilio_webhook_requests_total";
const DURATION: &str = "twilio_webhook_request_duration_seconds";
const FAILURES: &str = "twilio_webhook_failures_total";
const LATENESS: &str = "twilio_exporter_event_lag_seconds";
/// Of a family with kinds, the requests whose failure a caller hears: those that expect TwiML, and the
/// files that a call plays. Failures are judged over these, as the rules do.
const FACING: &str = r#"kind!~".*_callback""#;
/// What share of them may fail, as the rules have it.
const OBJECTIVE: &str = "max(twilio:webhook_failures_objective:threshold)";
/// From which share on an hour of it pages.
const PAGES: &str =
    "max(twilio:burn_rate_1h:threshold) * max(twilio:webhook_failures_objective:threshold)";
/// Seconds of silence that callers notice, two thirds of what Twilio waits, and after which it gives up.
const SLOW: f64 = 3.0;
const NEAR_TIMEOUT: f64 = 10.0;
const TIMEOUT: f64 = 15.0;
/// Seconds by which numbers are later than Twilio's own 16 minutes explain, and very much so.
const LATE: f64 = 1_200.0;
const VERY_LATE: f64 = 3_600.0;
/// A count that isn't 0; `increase` extrapolates, so that one may be a little less than 1.
const ANY: f64 = 0.5;

/// All dashboards.
pub(crate) fn all() -> [Dashboard; 4] {
    [webhooks::dashboard(), route::dashboard(), calls::dashboard(), exporter::dashboard()]
}

/// How many requests there were: those that have a duration, or the failures where they are more, as a
/// request that was never answered may have no duration. Not the sum over codes: a code that is new
/// appears with its value, which is no increase.
fn asked(function: &str, range: &str, chosen: &str, by: &str) -> String {
    let sum = |family: &str| format!("sum{by}({function}({family}{{{chosen}}}{range}))");
    let (asked, failed) = (sum(&format!("{DURATION}_count")), sum(FAILURES));
    format!("({asked} >= {failed} or {failed})")
}

/// The series of a query that are highest by `rank`, which looks at the whole time range: a plain `topk`
/// would choose again at each point, and lines would come and go.
fn highest(count: u32, expr: &str, by: &str, rank: &str) -> String {
    format!("({expr}) and on ({by}) topk({count}, {rank})")
}

/// The same for gauges, by their highest value in the time range; those that are always 0 are left out.
fn highest_gauges(count: u32, series: &str, by: &str) -> String {
    let rank = format!("max by ({by}) (max_over_time({series}[$__range] @ end())) > 0");
    highest(count, &format!("max by ({by}) ({series})"), by, &rank)
}

/// Which share of requests failed; nothing where there were none. A request that was never answered may
/// have no duration, so a share is at most 1, also where requests with a duration are fewer.
fn share(function: &str, range: &str, chosen: &str, by: &str) -> String {
    let sum = |family: &str| format!("sum{by}({function}({family}{{{chosen}}}{range}))");
    format!("clamp_max({} / {}, 1) >= 0", sum(FAILURES), sum(&format!("{DURATION}_count")))
}

/// A quantile of buckets; nothing where they are empty, for which Prometheus says NaN.
fn quantile(q: f64, by: &str, buckets: &str) -> String {
    format!("histogram_quantile({q}, sum by ({by}) ({buckets})) >= 0")
}

/// A number whose colour says which limits of the rules it has reached. A colour can't depend on a series,
/// so the highest limit that was reached gives the number its name, and the name its colour. `limits` have
/// an expression, words and a colour.
fn held_against(panel: Panel, name: &str, number: &str, limits: &[(&str, &str, &str)]) -> Panel {
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

/// What a link to another dashboard takes along.
const KEPT: &str = "${job:queryparam}&${datasource:queryparam}&${__url_time_range}";

/// How late the numbers are: on every dashboard in the same place.
fn lateness_stat() -> Panel {
    let account = r#"job=~"$job",account=~"$account""#;
    Panel::stat(
        "Data lag",
        "lag: 90% of events in the time range were counted within this time after Twilio recorded them. behind: delay of the most overdue settling read.",
    )
    .unit("s")
    .decimals(0)
    .steps(&[(None, "blue"), (Some(LATE), "orange"), (Some(VERY_LATE), "red")])
    .size(4, 4)
    .or_say("No account polled yet")
    .instant(
        &quantile(0.9, "le", &format!("increase({LATENESS}_bucket{{{account}}}[$__range])")),
        "lag",
    )
    .instant(&format!("max(twilio_exporter_settling_overdue_seconds{{{account}}})"), "behind")
}

/// Codes in the colours that everybody expects.
fn code_colours(panel: Panel) -> Panel {
    panel.colours(&[
        ("/^2/", "green"),
        ("/^3/", "blue"),
        ("/^4/", "orange"),
        ("/^5/", "red"),
        ("/^none/", "purple"),
    ])
}

/// Reasons by whose answer is missing or wrong.
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
