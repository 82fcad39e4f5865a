//! *Twilio / Exporter health*: whether the other dashboards can be trusted, and what the exporter costs.

use super::build::{Dashboard, Panel, variable};
use super::{ANY, EVENT_LAG, accounts, highest, highest_gauges, quantile, with_limits};

/// Label matchers for the variables.
const ACCOUNT: &str = r#"job=~"$job",account=~"$account""#;
/// Label matchers for families without an account.
const JOB: &str = r#"job=~"$job""#;

pub(crate) fn dashboard() -> Dashboard {
    Dashboard {
        uid: "twilio-exporter",
        title: "Twilio / Exporter health",
        description: "Whether the other dashboards are current and complete, and what the exporter costs.",
        variables: vec![
            variable("job", "Job", "twilio_exporter_build_info"),
            variable("account", "Account", r#"twilio_account_info{job=~"$job"}"#),
        ],
        failures: None,
        rows: vec![
            ("", overview()),
            ("", instances()),
            ("Lag", lag()),
            ("Requests to Twilio", requests()),
            ("Call Event reads", reads()),
            ("Store and process", process()),
        ],
    }
}

fn overview() -> Vec<Panel> {
    let yes_no = |yes: (&'static str, &'static str), no: (&'static str, &'static str)| {
        [("1", yes.0, yes.1), ("0", no.0, no.1)]
    };
    let scraped = |value: u8| format!("count(up{{{JOB}}} == {value})");
    vec![
        Panel::stat("Exporters", "Exporters that Prometheus could and could not scrape at the end of the time range.")
            .unit("short").decimals(0).steps(&[(None, "green")]).size(3, 4)
            .when_empty("None")
            .instant(&scraped(1), "up")
            .instant(&scraped(0), "down")
            .colours(&[("/down/", "red")]),
        accounts::readable().size(4, 4),
        Panel::stat(
            "Catching up",
            "Accounts more than 15 minutes behind. Their pages are held back until they catch up.",
        )
        .unit("short").decimals(0).steps(&[(None, "green"), (Some(ANY), "orange")]).size(3, 4)
        .instant(&format!("sum(max by (account) (twilio_exporter_catching_up{{{ACCOUNT}}}))"), "accounts"),
        Panel::stat(
            "Store",
            "Whether the store can be written. While it can't, nothing is counted.",
        )
        .unit("none")
        .size(3, 4)
        .words(&yes_no(("writable", "green"), ("not writable", "red")))
        .instant(&format!("min(twilio_exporter_store_writable{{{JOB}}})"), "store"),
        Panel::stat("Configuration", "Whether the last configuration reload succeeded.")
            .unit("none")
            .size(4, 4)
            .words(&yes_no(("loaded", "green"), ("reload failed", "red")))
            .instant(
                &format!("min(twilio_exporter_config_last_reload_successful{{{JOB}}})"),
                "configuration",
            ),
        Panel::stat(
            "Clock offset",
            "Difference between Twilio's clock and the exporter's, if over a second. Check time synchronisation on the exporter's machine.",
        )
        .unit("s").decimals(0).steps(&[(None, "green"), (Some(1.0), "orange")]).size(3, 4)
        .when_empty("in sync")
        .instant(&format!("max(abs(twilio_exporter_clock_offset_seconds{{{JOB}}})) > 1"), "apart"),
        super::data_lag_stat(),
    ]
}

fn instances() -> Vec<Panel> {
    vec![
        Panel::table(
            "Instances",
            "Scraped exporters, with version, start time and result of the last scrape.",
            &[
                ("instance", "Instance"),
                ("version", "Version"),
                ("Value #C", "Started"),
                ("Value #A", "Up"),
            ],
        )
        .size(8, 6)
        .lowest_first("Up")
        .instant(&format!("min by (instance) (up{{{JOB}}})"), "")
        .instant(&format!("group by (instance, version) (twilio_exporter_build_info{{{JOB}}})"), "")
        .instant(&format!("1000 * max by (instance) (process_start_time_seconds{{{JOB}}})"), "")
        .column_words("Up", &[("1", "up", "green"), ("0", "down", "red")])
        .column("Started", "dateTimeFromNow", &[]),
        accounts::needing_attention(),
    ]
}

fn lag() -> Vec<Panel> {
    let read = format!("twilio_exporter_last_success_timestamp_seconds{{{ACCOUNT}}}");
    vec![
        Panel::lines("Overdue settling reads", "Delay of the most overdue settling read, for the ten accounts furthest behind. Dashed: alert threshold.")
            .unit("s").size(8, 8)
            .when_empty("Nothing is overdue.")
            .query(&highest_gauges(10, &format!("twilio_exporter_settling_overdue_seconds{{{ACCOUNT}}}"), "account"), "{{account}}")
            .threshold("max(twilio:overdue_seconds:threshold)", "alert", "red"),
        Panel::lines("Time since the last call list", "Time since the list of recent calls was last read completely, for the ten accounts with the longest. Normally about poll.interval.")
            .unit("s").size(8, 8)
            .when_empty("No call lists were read in this time range.")
            .query(&highest(10, &format!("clamp_min(time() - max by (account) ({read}), 0)"), "account", &format!("0 - max by (account) (last_over_time({read}[$__range] @ end()))")), "{{account}}"),
        Panel::heatmap("Event lag", "Time from when Twilio recorded a response until it was counted.")
            .size(8, 8)
            .buckets(&format!("sum by (le) (increase({EVENT_LAG}_bucket{{{ACCOUNT}}}[$__rate_interval]))")),
    ]
}

fn requests() -> Vec<Panel> {
    let by_account = |matchers: &str, function: &str, range: &str| {
        format!(
            "sum by (account) ({function}(twilio_exporter_api_requests_total{{{ACCOUNT}{matchers}}}{range}))"
        )
    };
    let total =
        |gauge: &str| format!("sum(max by (account) (twilio_exporter_{gauge}{{{ACCOUNT}}}))");
    let reads = format!(
        "sum(increase(twilio_exporter_api_requests_total{{{ACCOUNT},resource=\"call_events\"}}[$__range]))"
    );
    vec![
        super::code_colours(Panel::bars("Requests by code", "The exporter's requests to Twilio by response code. none: no response; 429: throttled; 401, 403: refused."))
            .unit("reqps").size(8, 8)
            .query(&format!("sum by (code) (rate(twilio_exporter_api_requests_total{{{ACCOUNT}}}[$__rate_interval]))"), "{{code}}"),
        Panel::lines("Requests by resource", "Call lists, individual calls, Call Events, account lists and the error log.")
            .unit("reqps").size(8, 8)
            .query(&format!("sum by (resource) (rate(twilio_exporter_api_requests_total{{{ACCOUNT}}}[$__rate_interval]))"), "{{resource}}"),
        Panel::lines("Throttled requests", "Share of the exporter's requests answered with 429, for the ten accounts with the most. Dashed: alert threshold.")
            .unit("percentunit").size(8, 8)
            .when_empty("No requests were throttled in this time range.")
            .query(&highest(10, &format!("{} / ({} > 0)", by_account(",code=\"429\"", "rate", "[$__rate_interval]"), by_account("", "rate", "[$__rate_interval]")), "account", &format!("{} > 0", by_account(",code=\"429\"", "increase", "[$__range] @ end()"))), "{{account}}")
            .threshold("max(twilio:throttled_ratio:threshold)", "alert", "red"),
        Panel::lines("Concurrency", "Requests in flight, their limit, and the number that planned reads need, summed over accounts. api.max_total_concurrency limits the sum.")
            .unit("short").size(12, 8)
            .query(&total("api_in_flight"), "in flight")
            .query(&total("api_concurrency_limit"), "limit")
            .query(&total("api_required_concurrency"), "needed"),
        Panel::lines("Account concurrency", "Concurrent requests as counted by Twilio, including those of other programs, for the ten busiest accounts. Twilio throttles on this count.")
            .unit("short").size(12, 8)
            .when_empty("Twilio has not reported a count yet.")
            .query(&highest_gauges(10, &format!("twilio_exporter_api_account_concurrent_requests{{{ACCOUNT}}}"), "account"), "{{account}}"),
        Panel::stat("Reads per ended call", "Requests for Call Events per ended call in the time range: about 1 where events appear after 15 minutes, up to 5 where they appear live.")
            .unit("short").decimals(2).size(6, 7)
            .instant(&format!("{reads} / (sum(increase(twilio_calls_total{{{ACCOUNT}}}[$__range])) > 0)"), "reads per call"),
        Panel::lines("Request duration", "95th percentile of Twilio's response time, by resource.")
            .unit("s").size(9, 7)
            .when_empty("No requests to Twilio in this time range.")
            .query(&quantile(0.95, "resource, le", &format!("rate(twilio_exporter_api_request_duration_seconds_bucket{{{JOB}}}[$__rate_interval])")), "{{resource}}"),
        Panel::lines("Retries", "Failed requests that are retried, by reason.")
            .unit("reqps").size(9, 7)
            .when_empty("No requests were retried.")
            .query(&format!("sum by (reason) (rate(twilio_exporter_api_retries_total{{{ACCOUNT}}}[$__rate_interval])) > 0"), "{{reason}}"),
    ]
}

fn reads() -> Vec<Panel> {
    let late = Panel::stat("Late events per audited call", "Call Events found only by the audit, in the time range. If above 0, raise poll.settle_delay. Red from the rules' ticket threshold.")
        .unit("short").decimals(3).size(6, 5)
        .when_empty("No calls were audited in this time range.");
    vec![
        Panel::bars("Reads by stage and result", "Reads of Call Events: found, empty, failed (given up) or skipped (a later read was due).")
            .unit("short").size(8, 8)
            .query(&format!("sum by (stage, result) (increase(twilio_exporter_call_reads_total{{{ACCOUNT}}}[$__rate_interval])) > 0"), "{{stage}} {{result}}")
            .when_empty("No calls were read in this time range."),
        Panel::lines("Pending calls", "Calls waiting for a read of their Call Events, by stage of the next read.")
            .unit("short").size(8, 8)
            .query(&format!("sum by (stage) (twilio_exporter_calls_pending{{{ACCOUNT}}})"), "{{stage}}"),
        Panel::bars("Call Events by result", "Items read: counted, duplicate (already counted) or rejected (unreadable).")
            .unit("short").size(8, 8)
            .query(&format!("sum by (result) (increase(twilio_exporter_call_events_total{{{ACCOUNT}}}[$__rate_interval]))"), "{{result}}")
            .colours(&[("/counted/", "green"), ("/duplicate/", "blue"), ("/rejected/", "red")]),
        with_limits(late, "late", &format!("sum(increase(twilio_exporter_late_call_events_total{{{ACCOUNT}}}[$__range])) / (sum(increase(twilio_exporter_audited_calls_total{{{ACCOUNT}}}[$__range])) > 0)"), &[
            ("max(twilio:late_per_audited_call:threshold)", "too many", "red"),
        ]),
        Panel::stat("Unjudged responses", "TwiML responses in the time range judged by content type only, because Twilio did not show the body (redaction).")
            .unit("short").decimals(0).size(6, 5)
            .instant(&format!("sum(increase(twilio_exporter_call_events_unjudged_total{{{ACCOUNT}}}[$__range]))"), "unjudged"),
        Panel::stat("Counted as other", "Events in the time range counted as other because a route or series limit was reached. Add patterns under routes.")
            .unit("short").decimals(0).size(6, 5).steps(&[(None, "green"), (Some(ANY), "orange")])
            .instant(&format!("sum(increase(twilio_exporter_route_overflow_total{{{ACCOUNT}}}[$__range]))"), "overflow"),
        Panel::stat("Skipped time", "Time skipped since the exporter started, because it was down for longer than poll.catch_up.")
            .unit("s").size(6, 5).steps(&[(None, "green"), (Some(1.0), "red")])
            .instant(&format!("sum(twilio_exporter_skipped_seconds_total{{{ACCOUNT}}})"), "skipped"),
    ]
}

fn process() -> Vec<Panel> {
    vec![
        Panel::lines("Commit duration", "99th percentile of the time taken to make a batch durable.")
            .unit("s").size(8, 7)
            .when_empty("No commits in this time range.")
            .query(&quantile(0.99, "le", &format!("rate(twilio_exporter_store_commit_duration_seconds_bucket{{{JOB}}}[$__rate_interval])")), "p99"),
        Panel::lines("Failed commits", "While commits fail, polling pauses. Nothing is lost.")
            .unit("short").size(8, 7)
            .query(&format!("sum(increase(twilio_exporter_store_errors_total{{{JOB}}}[$__rate_interval]))"), "errors"),
        Panel::lines("Store size", "Size of the store's files.")
            .unit("bytes").size(8, 7)
            .query(&format!("sum(twilio_exporter_store_size_bytes{{{JOB}}})"), "size"),
        Panel::lines("Memory", "Resident memory of the process.")
            .unit("bytes").size(12, 7)
            .query(&format!("sum(process_resident_memory_bytes{{{JOB}}} and on (job, instance) twilio_exporter_build_info)"), "resident"),
        Panel::lines("CPU", "CPU cores used by the process.")
            .unit("short").size(12, 7)
            .query(&format!("sum(rate(process_cpu_seconds_total{{{JOB}}}[$__rate_interval]) and on (job, instance) twilio_exporter_build_info)"), "cores"),
    ]
}
