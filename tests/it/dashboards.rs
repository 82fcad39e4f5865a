//! The dashboards: written down here, in `dashboards/` as JSON, and held to what Grafana's own linter
//! and the catalogue of metrics ask for.
//!
//! `UPDATE_GOLDEN=1 cargo test dashboards` writes the JSON anew.

mod build;
mod calls;
mod drawn;
mod exporter;
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
/// What share may fail: the rules' threshold, or what it is where they aren't loaded.
const OBJECTIVE: &str = "max(twilio:webhook_failures_objective:threshold) or vector(0.001)";
/// Seconds of silence that callers notice, and after which Twilio gives up.
const SLOW: f64 = 3.0;
const TIMEOUT: f64 = 15.0;

/// All dashboards.
pub(crate) fn all() -> [Dashboard; 4] {
    [webhooks::dashboard(), route::dashboard(), calls::dashboard(), exporter::dashboard()]
}

/// How many requests there were: those that have a duration, or the failures where they are more, as a
/// request that was never answered may have no duration. Not the sum over codes: a code that is new
/// appears with its value, which is no increase.
fn asked(function: &str, range: &str, chosen: &str, by: &str) -> String {
    let sum = |family: &str| format!("sum{by}({function}({family}{{{chosen}}}[{range}]))");
    let (asked, failed) = (sum(&format!("{DURATION}_count")), sum(FAILURES));
    format!("({asked} >= {failed} or {failed})")
}

/// How late the numbers are: on every dashboard in the same place.
fn lateness_stat() -> Panel {
    let account = r#"job=~"$job",account=~"$account""#;
    Panel::stat(
        "Numbers are late by",
        "lag: 90 % of the events of the time range were counted within this time after Twilio recorded them. behind: how long the exporter's most overdue read is overdue.",
    )
    .unit("s")
    .decimals(0)
    .steps(&[(None, "blue"), (Some(1200.0), "orange"), (Some(3600.0), "red")])
    .size(4, 4)
    .instant(
        &format!("histogram_quantile(0.9, sum by (le) (increase({LATENESS}_bucket{{{account}}}[$__range])))"),
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
