//! *Twilio / Exporter health*: whether the other dashboards can be believed, and what it costs.

use super::LATENESS;
use super::build::{Dashboard, Panel, variable};

/// What the variables choose.
const ACCOUNT: &str = r#"job=~"$job",account=~"$account""#;
/// What the variables choose of families without an account.
const JOB: &str = r#"job=~"$job""#;

pub(crate) fn dashboard() -> Dashboard {
    Dashboard {
        uid: "twilio-exporter",
        title: "Twilio / Exporter health",
        description: "Whether the other dashboards can be believed, and what the exporter costs.",
        variables: vec![
            variable("job", "Job", "twilio_exporter_build_info"),
            variable("account", "Account", r#"twilio_account_info{job=~"$job"}"#),
        ],
        failures: None,
        rows: vec![
            ("", glance()),
            ("Is it behind?", lateness()),
            ("What it asks of Twilio", requests()),
            ("What it reads", reads()),
            ("Store and process", process()),
        ],
    }
}

fn glance() -> Vec<Panel> {
    let yes_no = |yes: (&'static str, &'static str), no: (&'static str, &'static str)| {
        [("1", yes.0, yes.1), ("0", no.0, no.1)]
    };
    vec![
        Panel::stat(
            "Accounts readable",
            "Whether the last list of calls of each account could be read.",
        )
        .unit("none")
        .size(5, 4)
        .words(&yes_no(("readable", "green"), ("not readable", "red")))
        .instant(&format!("min by (account) (twilio_exporter_up{{{ACCOUNT}}})"), "{{account}}"),
        Panel::stat(
            "Catching up",
            "Whether an account is more than 15 minutes behind: pages are held back meanwhile.",
        )
        .unit("none")
        .size(5, 4)
        .words(&yes_no(("catching up", "orange"), ("no", "green")))
        .instant(
            &format!("max by (account) (twilio_exporter_catching_up{{{ACCOUNT}}})"),
            "{{account}}",
        ),
        Panel::stat(
            "Store",
            "Whether the store can be written; while it can't, nothing is counted.",
        )
        .unit("none")
        .size(4, 4)
        .words(&yes_no(("writable", "green"), ("not writable", "red")))
        .instant(&format!("min(twilio_exporter_store_writable{{{JOB}}})"), "store"),
        Panel::stat("Configuration", "Whether the last reload succeeded.")
            .unit("none")
            .size(4, 4)
            .words(&yes_no(("in force", "green"), ("reload failed", "red")))
            .instant(
                &format!("min(twilio_exporter_config_last_reload_successful{{{JOB}}})"),
                "configuration",
            ),
        super::lateness_stat().size(6, 4),
    ]
}

fn lateness() -> Vec<Panel> {
    vec![
        Panel::lines("Settling overdue", "How long the most overdue settling read is overdue; 0 is as it should be.")
            .unit("s").size(8, 8)
            .query(&format!("max by (account) (twilio_exporter_settling_overdue_seconds{{{ACCOUNT}}})"), "{{account}}"),
        Panel::lines("Since the last list", "Time since an account's list of recent calls was last read to its end; poll.interval is usual.")
            .unit("s").size(8, 8)
            .query(&format!("clamp_min(time() - max by (account) (twilio_exporter_last_success_timestamp_seconds{{{ACCOUNT}}}), 0)"), "{{account}}"),
        Panel::heatmap("Event lag", "From when Twilio recorded an answer to when it was counted.")
            .size(8, 8)
            .buckets(&format!("sum by (le) (increase({LATENESS}_bucket{{{ACCOUNT}}}[$__rate_interval]))")),
    ]
}

fn requests() -> Vec<Panel> {
    let reads = format!(
        "sum(increase(twilio_exporter_api_requests_total{{{ACCOUNT},resource=\"call_events\"}}[$__range]))"
    );
    vec![
        super::code_colours(Panel::bars("Requests by code", "The exporter's requests to Twilio. none: no answer. 429: throttled. 401, 403: refused."))
            .unit("reqps").size(8, 8)
            .query(&format!("sum by (code) (rate(twilio_exporter_api_requests_total{{{ACCOUNT}}}[$__rate_interval]))"), "{{code}}"),
        Panel::lines("Requests by resource", "Lists of calls, reads of Call Events, single calls, accounts.")
            .unit("reqps").size(8, 8)
            .query(&format!("sum by (resource) (rate(twilio_exporter_api_requests_total{{{ACCOUNT}}}[$__rate_interval]))"), "{{resource}}"),
        Panel::lines("Concurrency", "Requests in flight, how many may be, and how many the whole account has in flight by Twilio's own count.")
            .unit("short").size(8, 8)
            .query(&format!("max by (account) (twilio_exporter_api_in_flight{{{ACCOUNT}}})"), "{{account}} in flight")
            .query(&format!("max by (account) (twilio_exporter_api_concurrency_limit{{{ACCOUNT}}})"), "{{account}} limit")
            .query(&format!("max by (account) (twilio_exporter_api_account_concurrent_requests{{{ACCOUNT}}})"), "{{account}} whole account"),
        Panel::stat("Reads per ended call", "Requests for Call Events per call that ended, in the time range: about 1 where events appear after 15 minutes, up to 5 where they are live.")
            .unit("short").decimals(2).size(6, 7)
            .instant(&format!("{reads} / (sum(increase(twilio_calls_total{{{ACCOUNT}}}[$__range])) > 0)"), "reads per call"),
        Panel::lines("Duration of requests", "95th percentile of how long Twilio took to answer, by resource.")
            .unit("s").size(9, 7)
            .query(&format!("histogram_quantile(0.95, sum by (resource, le) (rate(twilio_exporter_api_request_duration_seconds_bucket{{{JOB}}}[$__rate_interval])))"), "{{resource}}"),
        Panel::lines("Retries", "Failed requests that are tried again, by reason.")
            .unit("reqps").size(9, 7)
            .or_say("No request had to be tried again.")
            .query(&format!("sum by (reason) (rate(twilio_exporter_api_retries_total{{{ACCOUNT}}}[$__rate_interval]))"), "{{reason}}"),
    ]
}

fn reads() -> Vec<Panel> {
    vec![
        Panel::bars("Reads by stage and result", "found, empty, failed (given up), skipped (a later read was due).")
            .unit("short").size(8, 8)
            .query(&format!("sum by (stage, result) (increase(twilio_exporter_call_reads_total{{{ACCOUNT}}}[$__rate_interval])) > 0"), "{{stage}} {{result}}")
            .or_say("No call was read in this time range."),
        Panel::lines("Calls that wait", "For a read of their Call Events, by the stage of the next read.")
            .unit("short").size(8, 8)
            .query(&format!("sum by (stage) (twilio_exporter_calls_pending{{{ACCOUNT}}})"), "{{stage}}"),
        Panel::bars("Call Events", "counted, duplicate (counted before), rejected (can't be read).")
            .unit("short").size(8, 8)
            .query(&format!("sum by (result) (increase(twilio_exporter_call_events_total{{{ACCOUNT}}}[$__rate_interval]))"), "{{result}}")
            .colours(&[("/counted/", "green"), ("/duplicate/", "blue"), ("/rejected/", "red")]),
        Panel::stat("Late events per audited call", "Found only by the audit, in the time range: above 0, raise poll.settle_delay.")
            .unit("short").decimals(3).size(6, 5).steps(&[(None, "green"), (Some(0.0001), "orange"), (Some(0.01), "red")])
            .or_say("No call was audited in this time range.")
            .instant(&format!("sum(increase(twilio_exporter_late_call_events_total{{{ACCOUNT}}}[$__range])) / (sum(increase(twilio_exporter_audited_calls_total{{{ACCOUNT}}}[$__range])) > 0)"), "late"),
        Panel::stat("Unjudged", "TwiML answers in the time range whose body Twilio did not show (redaction): judged by their content type only.")
            .unit("short").decimals(0).size(6, 5)
            .instant(&format!("sum(increase(twilio_exporter_call_events_unjudged_total{{{ACCOUNT}}}[$__range]))"), "unjudged"),
        Panel::stat("Counted as other", "Call Events in the time range whose route was over the limit: give patterns under routes.")
            .unit("short").decimals(0).size(6, 5).steps(&[(None, "green"), (Some(0.5), "orange")])
            .instant(&format!("sum(increase(twilio_exporter_route_overflow_total{{{ACCOUNT}}}[$__range]))"), "overflow"),
        Panel::stat("Skipped", "Time that was cut off because the exporter was down for longer than poll.catch_up, since its start.")
            .unit("s").size(6, 5).steps(&[(None, "green"), (Some(1.0), "red")])
            .instant(&format!("sum(twilio_exporter_skipped_seconds_total{{{ACCOUNT}}})"), "skipped"),
    ]
}

fn process() -> Vec<Panel> {
    vec![
        Panel::lines("Commits", "99th percentile of how long it took to make a batch durable.")
            .unit("s").size(8, 7)
            .query(&format!("histogram_quantile(0.99, sum by (le) (rate(twilio_exporter_store_commit_duration_seconds_bucket{{{JOB}}}[$__rate_interval])))"), "p99"),
        Panel::lines("Failed commits", "While commits fail polling pauses; nothing is lost.")
            .unit("short").size(8, 7)
            .query(&format!("sum(increase(twilio_exporter_store_errors_total{{{JOB}}}[$__rate_interval]))"), "errors"),
        Panel::lines("Size of the store", "Of its files.")
            .unit("bytes").size(8, 7)
            .query(&format!("sum(twilio_exporter_store_size_bytes{{{JOB}}})"), "size"),
        Panel::lines("Memory", "Resident memory of the process.")
            .unit("bytes").size(8, 7)
            .query(&format!("sum(process_resident_memory_bytes{{{JOB}}} and on (job, instance) twilio_exporter_build_info)"), "resident"),
        Panel::lines("Processor", "Cores used.")
            .unit("short").size(8, 7)
            .query(&format!("sum(rate(process_cpu_seconds_total{{{JOB}}}[$__rate_interval]) and on (job, instance) twilio_exporter_build_info)"), "cores"),
        Panel::lines("Twilio's clock", "How far Twilio's clock is ahead of the exporter's.")
            .unit("s").size(8, 7)
            .query(&format!("max(twilio_exporter_clock_offset_seconds{{{JOB}}})"), "offset"),
    ]
}
