//! Panels that show what the alerts see: the shares that they compare, and the thresholds that they
//! compare them with, both as the rules record them.

use super::build::Panel;
use super::{OBJECTIVE, PAGES, highest};

/// The recorded share of failing caller-facing requests, by window.
const SHARE: &str =
    "job_account_host_route:twilio_caller_facing_failures_per_request:ratio_increase";
/// What the variables choose of families without a kind.
const ENDPOINT: &str = r#"job=~"$job",account=~"$account",host=~"$host",route=~"$route""#;

/// The shares that the alerts compare over an hour, of the worst routes.
pub(super) fn share_by_route() -> Panel {
    let (by, hour) = ("account, host, route", format!("{SHARE}1h{{{ENDPOINT}}}"));
    let rank = format!("max by ({by}) (max_over_time({hour}[$__range] @ end()))");
    Panel::lines(
        "Share that failed, of the worst routes",
        "Of the caller-facing requests (TwiML and media) of the last hour at each point, as the rules record it: the eight routes with the highest share. Alerts judge each route by itself. Dashed: from where an hour of it pages, and where a route counts as mostly failing, however few its requests.",
    )
    .unit("percentunit")
    .size(8, 8)
    .or_say("Nothing has failed, or the recording rules aren't loaded.")
    .query(&highest(8, &format!("max by ({by}) ({hour})"), by, &rank), "{{account}} {{host}}{{route}}")
    .threshold(PAGES, "pages", "red")
    .threshold("max(twilio:mostly_failing_ratio:threshold)", "mostly failing", "purple")
}

/// How fast the worst route spends its error budget, by window, beside what pages or makes a ticket.
pub(super) fn burn_rates() -> Panel {
    let windows = [
        ("1h", "1 h", "pages", "red"),
        ("6h", "6 h", "pages", "orange"),
        ("1d", "1 d", "ticket", "yellow"),
        ("3d", "3 d", "ticket", "blue"),
    ];
    let mut panel = Panel::lines(
        "Burn rate of the worst route",
        "Share that failed, divided by the objective: at 1, the budget of 30 days lasts 30 days. One line per window, each with its threshold dashed in the same colour: above it, an alert follows where enough requests failed.",
    )
    .unit("short")
    .logarithmic()
    .size(8, 8)
    .or_say("Nothing has failed, or the recording rules aren't loaded.");
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

/// One route's shares by window.
pub(super) fn share_by_window() -> Panel {
    let mut panel = Panel::lines(
        "Share that failed, as alerts judge it",
        "Of the caller-facing requests (TwiML and media) of each window, as the rules record it; of several routes the worst. Dashed: from where an hour or six hours of it page.",
    )
    .unit("percentunit")
    .size(12, 8)
    .or_say("Nothing has failed, or the recording rules aren't loaded.");
    for (window, words) in
        [("10m", "10 min"), ("1h", "1 h"), ("6h", "6 h"), ("1d", "1 d"), ("3d", "3 d")]
    {
        panel = panel.query(&format!("max({SHARE}{window}{{{ENDPOINT}}})"), words);
    }
    panel.threshold(PAGES, "pages (1 h)", "red").threshold(
        &format!("max(twilio:burn_rate_6h:threshold) * {OBJECTIVE}"),
        "pages (6 h)",
        "orange",
    )
}

/// Callers who were cut off, over time.
pub(super) fn cut_off_by_route() -> Panel {
    let counted = |range: &str| {
        format!(
            "sum by (host, route) (increase(twilio_calls_with_webhook_failures_total{{{ENDPOINT},outcome=\"cut_off\"}}{range}))"
        )
    };
    let rank = format!("{} > 0", counted("[$__range] @ end()"));
    Panel::bars(
        "Callers cut off, by route",
        "Calls with a failing request that the caller heard and no later one that succeeded, by the route that failed. Known when a call is settled, 16 minutes after its end. The eight routes with the most.",
    )
    .unit("short")
    .shades_of("red")
    .size(8, 8)
    .or_say("No caller was cut off in this time range.")
    .query(&highest(8, &counted("[$__rate_interval]"), "host, route", &rank), "{{host}}{{route}}")
}
