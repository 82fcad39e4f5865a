//! *Twilio / Calls*: outcomes of calls, and callers cut off.

use super::build::{Dashboard, Panel, exporter_address, variable};
use super::{ANY, highest, with_limits};

/// Label matchers for the variables.
const ACCOUNT: &str = r#"job=~"$job",account=~"$account""#;

pub(crate) fn dashboard() -> Dashboard {
    Dashboard {
        uid: "twilio-calls",
        title: "Twilio / Calls",
        description: "Call outcomes, and callers cut off by failed webhooks.",
        variables: vec![
            variable("job", "Job", "twilio_exporter_build_info"),
            variable("account", "Account", r#"twilio_account_info{job=~"$job"}"#),
            exporter_address(),
        ],
        failures: Some(""),
        rows: vec![("", overview()), ("Calls", calls())],
    }
}

fn overview() -> Vec<Panel> {
    let ended = format!("sum(increase(twilio_calls_total{{{ACCOUNT}}}[$__range]))");
    let outcome = |outcome: &str| {
        format!(
            "sum(increase(twilio_calls_with_webhook_failures_total{{{ACCOUNT},outcome=\"{outcome}\"}}[$__range]))"
        )
    };
    let failed =
        format!("sum(increase(twilio_calls_total{{{ACCOUNT},status=\"failed\"}}[$__range]))");
    let share = Panel::stat(
        "Failed calls",
        "Share of calls ended in the time range that Twilio could not complete. Busy and no-answer don't count as failed. Red from the rules' ticket threshold.",
    )
    .unit("percentunit").decimals(1).size(4, 4);
    vec![
        Panel::stat("Ended calls", "Calls that ended in the time range.").unit("short").decimals(0).size(4, 4)
            .instant(&ended, "ended"),
        Panel::stat("Active now", "Queued, ringing or in progress, as of the last call lists.")
            .unit("short").decimals(0).size(4, 4)
            .instant(&format!("sum(twilio_calls_active{{{ACCOUNT}}})"), "active"),
        Panel::stat("Callers cut off", "Calls in the time range in which a caller-facing request failed and no later one succeeded. Known 16 minutes after the end of a call.")
            .unit("short").decimals(0).steps(&[(None, "green"), (Some(ANY), "red")]).size(4, 4)
            .instant(&outcome("cut_off"), "cut off"),
        Panel::stat("Recovered calls", "Calls in the time range in which a caller-facing request failed and a later one succeeded, such as to a fallback URL.")
            .unit("short").decimals(0).steps(&[(None, "green"), (Some(ANY), "orange")]).size(4, 4)
            .instant(&outcome("recovered"), "recovered"),
        with_limits(share, "failed", &format!("{failed} / ({ended} > 0)"), &[
            ("max(twilio:calls_failed_ratio:threshold)", "too many", "red"),
        ]),
        super::data_lag_stat(),
    ]
}

fn calls() -> Vec<Panel> {
    let ended = |matchers: &str, range: &str| {
        format!("sum by (account) (increase(twilio_calls_total{{{ACCOUNT}{matchers}}}{range}))")
    };
    let cut_off = |range: &str| {
        format!(
            "sum by (account) (increase(twilio_calls_with_webhook_failures_total{{{ACCOUNT},outcome=\"cut_off\"}}{range}))"
        )
    };
    // The expression that the alert compares, over the window used in the rules.
    let share = format!(
        "job_account:twilio_calls_failed:increase1h{{{ACCOUNT}}} / (job_account:twilio_calls:increase1h{{{ACCOUNT}}} > 0)"
    );
    vec![
        Panel::bars("Calls by final status", "Ended calls per interval.")
            .unit("short").size(12, 9)
            .query(&format!("sum by (status) (increase(twilio_calls_total{{{ACCOUNT}}}[$__rate_interval]))"), "{{status}}")
            .colours(&[("/completed/", "green"), ("/failed/", "red"), ("/busy|no-answer/", "yellow"), ("/canceled/", "blue")]),
        Panel::bars("Calls with webhook failures", "Settled calls in which a caller-facing request failed, by outcome.")
            .unit("short").size(12, 9)
            .query(&format!("sum by (outcome) (increase(twilio_calls_with_webhook_failures_total{{{ACCOUNT}}}[$__rate_interval]))"), "{{outcome}}")
            .colours(&[("/cut_off/", "red"), ("/recovered/", "orange")]),
        Panel::bars("Callers cut off by account", "Callers cut off per interval, for the eight accounts with the most.")
            .unit("short").size(12, 8).shades_of("red")
            .when_empty("No callers were cut off in this time range.")
            .query(&highest(8, &cut_off("[$__rate_interval]"), "account", &format!("{} > 0", cut_off("[$__range] @ end()"))), "{{account}}"),
        Panel::lines("Failed calls by account", "Share of calls that failed in the preceding hour, from the recording rules, for the eight accounts with the most failed calls in the time range. Dashed: ticket threshold.")
            .unit("percentunit").size(12, 8)
            .when_empty("No failed calls, or recording rules not loaded.")
            .query(&highest(8, &format!("max by (account) ({share})"), "account", &format!("{} > 0", ended(",status=\"failed\"", "[$__range] @ end()"))), "{{account}}")
            .threshold("max(twilio:calls_failed_ratio:threshold)", "ticket", "red"),
        Panel::lines("Calls by account", "Ended calls per second, for the eight accounts with the most.").unit("cps").size(8, 8)
            .query(&highest(8, &ended("", "[$__rate_interval]").replace("increase(", "rate("), "account", &ended("", "[$__range] @ end()")), "{{account}}"),
        Panel::lines("Calls by direction", "Ended calls per second.").unit("cps").size(8, 8)
            .query(&format!("sum by (direction) (rate(twilio_calls_total{{{ACCOUNT}}}[$__rate_interval]))"), "{{direction}}"),
        Panel::lines("Active calls", "Queued, ringing or in progress, as of the last call lists.").unit("short").size(8, 8)
            .query(&format!("sum by (status) (twilio_calls_active{{{ACCOUNT}}})"), "{{status}}"),
        Panel::lines("Application API requests", "The application's requests to Twilio's REST API about calls, by response code.")
            .unit("reqps").size(24, 7)
            .when_empty("No application API requests in this time range.")
            .query(&format!("sum by (code) (rate(twilio_call_api_requests_total{{{ACCOUNT}}}[$__rate_interval]))"), "{{code}}"),
    ]
}
