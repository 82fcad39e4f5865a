//! *Twilio / Calls*: what became of calls, and whose callers were cut off.

use super::build::{Dashboard, Panel, exporter_address, variable};
use super::{ANY, held_against, highest};

/// What the variables choose.
const ACCOUNT: &str = r#"job=~"$job",account=~"$account""#;

pub(crate) fn dashboard() -> Dashboard {
    Dashboard {
        uid: "twilio-calls",
        title: "Twilio / Calls",
        description: "What became of calls, and whose callers were cut off.",
        variables: vec![
            variable("job", "Job", "twilio_exporter_build_info"),
            variable("account", "Account", r#"twilio_account_info{job=~"$job"}"#),
            exporter_address(),
        ],
        failures: Some(""),
        rows: vec![("", glance()), ("Calls", calls())],
    }
}

fn glance() -> Vec<Panel> {
    let ended = format!("sum(increase(twilio_calls_total{{{ACCOUNT}}}[$__range]))");
    let outcome = |outcome: &str| {
        format!(
            "sum(increase(twilio_calls_with_webhook_failures_total{{{ACCOUNT},outcome=\"{outcome}\"}}[$__range]))"
        )
    };
    let failed =
        format!("sum(increase(twilio_calls_total{{{ACCOUNT},status=\"failed\"}}[$__range]))");
    let share = Panel::stat(
        "Share that failed",
        "Calls that Twilio could not complete, of those that ended in the time range. Busy and no-answer are not failed. Red where the rules make it a ticket.",
    )
    .unit("percentunit").decimals(1).size(4, 4);
    vec![
        Panel::stat("Calls that ended", "In the time range.").unit("short").decimals(0).size(4, 4)
            .instant(&ended, "ended"),
        Panel::stat("Active now", "Queued, ringing or in progress, as the lists last showed them.")
            .unit("short").decimals(0).size(4, 4)
            .instant(&format!("sum(twilio_calls_active{{{ACCOUNT}}})"), "active"),
        Panel::stat("Callers cut off", "Calls with a failing request that the caller heard and no later one that succeeded, in the time range. Known 16 minutes after a call's end.")
            .unit("short").decimals(0).steps(&[(None, "green"), (Some(ANY), "red")]).size(4, 4)
            .instant(&outcome("cut_off"), "cut off"),
        Panel::stat("Rescued by a fallback", "Calls with a failing request that the caller heard and a later one that succeeded, in the time range.")
            .unit("short").decimals(0).steps(&[(None, "green"), (Some(ANY), "orange")]).size(4, 4)
            .instant(&outcome("recovered"), "recovered"),
        held_against(share, "failed", &format!("{failed} / ({ended} > 0)"), &[
            ("max(twilio:calls_failed_ratio:threshold)", "too many", "red"),
        ]),
        super::lateness_stat(),
    ]
}

fn calls() -> Vec<Panel> {
    let ended = |chosen: &str, range: &str| {
        format!("sum by (account) (increase(twilio_calls_total{{{ACCOUNT}{chosen}}}{range}))")
    };
    let cut_off = |range: &str| {
        format!(
            "sum by (account) (increase(twilio_calls_with_webhook_failures_total{{{ACCOUNT},outcome=\"cut_off\"}}{range}))"
        )
    };
    // What the alert compares; the windows are the rules'.
    let share = format!(
        "job_account:twilio_calls_failed:increase1h{{{ACCOUNT}}} / (job_account:twilio_calls:increase1h{{{ACCOUNT}}} > 0)"
    );
    vec![
        Panel::bars("Calls by final status", "Calls that ended, per interval.")
            .unit("short").size(12, 9)
            .query(&format!("sum by (status) (increase(twilio_calls_total{{{ACCOUNT}}}[$__rate_interval]))"), "{{status}}")
            .colours(&[("/completed/", "green"), ("/failed/", "red"), ("/busy|no-answer/", "yellow"), ("/canceled/", "blue")]),
        Panel::bars("Calls with failing webhooks", "Settled calls with at least one failing request that the caller heard, by what became of it.")
            .unit("short").size(12, 9)
            .query(&format!("sum by (outcome) (increase(twilio_calls_with_webhook_failures_total{{{ACCOUNT}}}[$__rate_interval]))"), "{{outcome}}")
            .colours(&[("/cut_off/", "red"), ("/recovered/", "orange")]),
        Panel::bars("Callers cut off, by account", "The eight accounts with the most, per interval.")
            .unit("short").size(12, 8).shades_of("red")
            .or_say("No caller was cut off in this time range.")
            .query(&highest(8, &cut_off("[$__rate_interval]"), "account", &format!("{} > 0", cut_off("[$__range] @ end()"))), "{{account}}"),
        Panel::lines("Share of calls that failed, by account", "Of the calls that ended in the last hour at each point, as the rules record it: the eight accounts with the most failed calls in the time range. Dashed: from where on it is a ticket.")
            .unit("percentunit").size(12, 8)
            .or_say("No call has failed, or the recording rules aren't loaded.")
            .query(&highest(8, &format!("max by (account) ({share})"), "account", &format!("{} > 0", ended(",status=\"failed\"", "[$__range] @ end()"))), "{{account}}")
            .threshold("max(twilio:calls_failed_ratio:threshold)", "ticket", "red"),
        Panel::lines("Calls by account", "Calls that ended, per second: the eight accounts with the most.").unit("cps").size(8, 8)
            .query(&highest(8, &ended("", "[$__rate_interval]").replace("increase(", "rate("), "account", &ended("", "[$__range] @ end()")), "{{account}}"),
        Panel::lines("Calls by direction", "Calls that ended, per second.").unit("cps").size(8, 8)
            .query(&format!("sum by (direction) (rate(twilio_calls_total{{{ACCOUNT}}}[$__rate_interval]))"), "{{direction}}"),
        Panel::lines("Active calls", "Queued, ringing or in progress, as the lists last showed them.").unit("short").size(8, 8)
            .query(&format!("sum by (status) (twilio_calls_active{{{ACCOUNT}}})"), "{{status}}"),
        Panel::lines("The application's own API requests", "Requests of the application to Twilio's REST API about calls, by the code of Twilio's answer.")
            .unit("reqps").size(24, 7)
            .or_say("The application's calls show no requests to Twilio's API in this time range.")
            .query(&format!("sum by (code) (rate(twilio_call_api_requests_total{{{ACCOUNT}}}[$__rate_interval]))"), "{{code}}"),
    ]
}
