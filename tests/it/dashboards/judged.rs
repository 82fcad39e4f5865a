//! Panels that show the failure ratios and thresholds that the alerts compare, both from the recording rules.

use super::build::Panel;
use super::{OBJECTIVE, PAGE_RATIO, highest};

/// The name of the recorded failure ratio of caller-facing requests, without its window.
const SHARE: &str =
    "job_account_host_route:twilio_caller_facing_failures_per_request:ratio_increase";
/// Label matchers for families without a kind.
const ENDPOINT: &str = r#"job=~"$job",account=~"$account",host=~"$host",route=~"$route""#;

/// The one-hour failure ratios of the worst routes, as compared by the alerts.
pub(super) fn share_by_route() -> Panel {
    let (by, hour) = ("account, host, route", format!("{SHARE}1h{{{ENDPOINT}}}"));
    let rank = format!("max by ({by}) (max_over_time({hour}[$__range] @ end()))");
    Panel::lines(
        "Failure ratio of the worst routes",
        "Share of caller-facing requests (TwiML and media) that failed in the preceding hour, from the recording rules, for the eight worst routes. Alerts evaluate each route separately. Dashed: the one-hour paging threshold, and the share at which a route counts as mostly failing even with few requests.",
    )
    .unit("percentunit")
    .size(8, 8)
    .when_empty("No failures, or recording rules not loaded.")
    .query(&highest(8, &format!("max by ({by}) ({hour})"), by, &rank), "{{account}} {{host}}{{route}}")
    .threshold(PAGE_RATIO, "pages", "red")
    .threshold("max(twilio:mostly_failing_ratio:threshold)", "mostly failing", "purple")
}

/// The burn rate of the worst route by window, with the paging and ticket thresholds.
pub(super) fn burn_rates() -> Panel {
    let windows = [
        ("1h", "1 h", "pages", "red"),
        ("6h", "6 h", "pages", "orange"),
        ("1d", "1 d", "ticket", "yellow"),
        ("3d", "3 d", "ticket", "blue"),
    ];
    let mut panel = Panel::lines(
        "Burn rate of the worst route",
        "Failure ratio divided by the objective, per window; at 1, the 30-day budget lasts 30 days. Dashed: the window's threshold in the same colour. Above it, an alert follows if enough requests failed.",
    )
    .unit("short")
    .logarithmic()
    .size(8, 8)
    .when_empty("No failures, or recording rules not loaded.");
    for (window, words, _, color) in windows {
        panel = panel
            .query(
                &format!("max({SHARE}{window}{{{ENDPOINT}}}) / {OBJECTIVE}"),
                &format!("{words}, worst route"),
            )
            .colours(&[(&format!("/^{words},/"), color)]);
    }
    for (window, words, then, color) in windows {
        panel = panel.threshold(
            &format!("max(twilio:burn_rate_{window}:threshold)"),
            &format!("{then} at ({words})"),
            color,
        );
    }
    panel
}

/// The failure ratio of one route by window.
pub(super) fn share_by_window() -> Panel {
    let mut panel = Panel::lines(
        "Failure ratio by alert window",
        "Share of caller-facing requests (TwiML and media) that failed in each window, from the recording rules, for the worst selected route. Dashed: one-hour and six-hour paging thresholds.",
    )
    .unit("percentunit")
    .size(12, 8)
    .when_empty("No failures, or recording rules not loaded.");
    for (window, words) in
        [("10m", "10 min"), ("1h", "1 h"), ("6h", "6 h"), ("1d", "1 d"), ("3d", "3 d")]
    {
        panel = panel.query(&format!("max({SHARE}{window}{{{ENDPOINT}}})"), words);
    }
    panel.threshold(PAGE_RATIO, "pages (1 h)", "red").threshold(
        &format!("max(twilio:burn_rate_6h:threshold) * {OBJECTIVE}"),
        "pages (6 h)",
        "orange",
    )
}

/// Callers cut off over time.
pub(super) fn cut_off_by_route() -> Panel {
    let counted = |range: &str| {
        format!(
            "sum by (host, route) (increase(twilio_calls_with_webhook_failures_total{{{ENDPOINT},outcome=\"cut_off\"}}{range}))"
        )
    };
    let rank = format!("{} > 0", counted("[$__range] @ end()"));
    Panel::bars(
        "Callers cut off by route",
        "Calls in which a caller-facing request failed and no later one succeeded, by failed route: the eight with the most. Known once a call is settled, 16 minutes after its end.",
    )
    .unit("short")
    .shades_of("red")
    .size(8, 8)
    .when_empty("No callers were cut off in this time range.")
    .query(&highest(8, &counted("[$__rate_interval]"), "host, route", &rank), "{{host}}{{route}}")
}
