//! *Twilio / Calls*: what became of calls, and whose callers were cut off.

use super::build::{Dashboard, Panel, exporter_address, variable};

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
    vec![
        Panel::stat("Calls that ended", "In the time range.").unit("short").decimals(0).size(4, 4)
            .instant(&ended, "ended"),
        Panel::stat("Active now", "Queued, ringing or in progress, as the lists last showed them.")
            .unit("short").decimals(0).size(4, 4)
            .instant(&format!("sum(twilio_calls_active{{{ACCOUNT}}})"), "active"),
        Panel::stat("Callers cut off", "Calls with a failing TwiML request and no later one that succeeded, in the time range. Known 16 minutes after a call's end.")
            .unit("short").decimals(0).steps(&[(None, "green"), (Some(0.5), "red")]).size(4, 4)
            .instant(&outcome("cut_off"), "cut off"),
        Panel::stat("Rescued by a fallback", "Calls with a failing TwiML request and a later one that succeeded, in the time range.")
            .unit("short").decimals(0).steps(&[(None, "green"), (Some(0.5), "orange")]).size(4, 4)
            .instant(&outcome("recovered"), "recovered"),
        Panel::stat("Share that failed", "Calls that Twilio could not complete, of those that ended in the time range. Busy and no-answer are not failed.")
            .unit("percentunit").decimals(1).steps(&[(None, "green"), (Some(0.1), "red")]).size(4, 4)
            .instant(&format!("sum(increase(twilio_calls_total{{{ACCOUNT},status=\"failed\"}}[$__range])) / ({ended} > 0)"), "failed"),
        super::lateness_stat(),
    ]
}

fn calls() -> Vec<Panel> {
    vec![
        Panel::bars("Calls by final status", "Calls that ended, per interval.")
            .unit("short").size(12, 9)
            .query(&format!("sum by (status) (increase(twilio_calls_total{{{ACCOUNT}}}[$__rate_interval]))"), "{{status}}")
            .colours(&[("/completed/", "green"), ("/failed/", "red"), ("/busy|no-answer/", "yellow"), ("/canceled/", "blue")]),
        Panel::bars("Calls with failing webhooks", "Settled calls with at least one failing TwiML request, by what their callers felt.")
            .unit("short").size(12, 9)
            .query(&format!("sum by (outcome) (increase(twilio_calls_with_webhook_failures_total{{{ACCOUNT}}}[$__rate_interval]))"), "{{outcome}}")
            .colours(&[("/cut_off/", "red"), ("/recovered/", "orange")]),
        Panel::lines("Calls by direction", "Calls that ended, per second.").unit("cps").size(12, 8)
            .query(&format!("sum by (account, direction) (rate(twilio_calls_total{{{ACCOUNT}}}[$__rate_interval]))"), "{{account}} {{direction}}"),
        Panel::lines("Active calls", "Queued, ringing or in progress, as the lists last showed them.").unit("short").size(12, 8)
            .query(&format!("sum by (account, status) (twilio_calls_active{{{ACCOUNT}}})"), "{{account}} {{status}}"),
        Panel::lines("The application's own API requests", "Requests of the application to Twilio's REST API about calls, by the code of Twilio's answer.")
            .unit("reqps").size(24, 7)
            .or_say("The application's calls show no requests to Twilio's API in this time range.")
            .query(&format!("sum by (code) (rate(twilio_call_api_requests_total{{{ACCOUNT}}}[$__rate_interval]))"), "{{code}}"),
    ]
}
