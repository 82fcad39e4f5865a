//! *Twilio / Route*: one webhook in detail, with exemplars of calls.

use super::build::{Dashboard, Panel, exporter_address, variable};
use super::{
    ANY, CALLER_FACING, DURATION, FAILURES, NEAR_TIMEOUT, OBJECTIVE, PAGE_RATIO, REQUESTS, SLOW,
    TIMEOUT, code_colours, judged, quantile, request_count, share, with_limits,
};

/// Label matchers for the variables.
const SELECTED: &str =
    r#"job=~"$job",account=~"$account",host=~"$host",route=~"$route",kind=~"$kind""#;
/// Label matchers for the variables, limited to requests that expect TwiML.
const TWIML: &str = r#"job=~"$job",account=~"$account",host=~"$host",route=~"$route",kind=~"$kind",kind!~".*_callback|media""#;
/// Label matchers for families without a kind.
const ENDPOINT: &str = r#"job=~"$job",account=~"$account",host=~"$host",route=~"$route""#;

pub(crate) fn dashboard() -> Dashboard {
    let routes = format!("{DURATION}_count{{job=~\"$job\",account=~\"$account\",host=~\"$host\"}}");
    Dashboard {
        uid: "twilio-route",
        title: "Twilio / Route",
        description: "One webhook in detail: select an account, host and route.",
        variables: vec![
            variable("job", "Job", "twilio_exporter_build_info"),
            variable("account", "Account", r#"twilio_account_info{job=~"$job"}"#),
            variable(
                "host",
                "Host",
                &format!("{DURATION}_count{{job=~\"$job\",account=~\"$account\"}}"),
            ),
            variable("route", "Route", &routes),
            variable("kind", "Kind", &format!("{DURATION}_count{{{ENDPOINT}}}")),
            exporter_address(),
        ],
        failures: Some(""),
        rows: vec![
            ("", overview()),
            ("Requests and failures", requests_and_failures()),
            ("Latency", latency()),
        ],
    }
}

/// The share of TwiML requests that took longer than this many seconds.
fn slower_than(seconds: f64, function: &str, range: &str) -> String {
    let sum = |family: &str, bound: &str| {
        format!("sum({function}({DURATION}_{family}{{{TWIML}{bound}}}{range}))")
    };
    // The bound is written 3 or 3.0, depending on the version of Prometheus.
    let within = sum("bucket", &format!(",le=~\"{seconds:.0}([.]0)?\""));
    // Buckets and counts are extrapolated separately, so the share of new series could be negative.
    format!("clamp_min(1 - {within} / ({} > 0), 0)", sum("count", ""))
}

fn overview() -> Vec<Panel> {
    let facing = format!("{SELECTED},{CALLER_FACING}");
    let failed = format!("sum(increase({FAILURES}{{{SELECTED}}}[$__range]))");
    let request_count = request_count("increase", "[$__range]", SELECTED, "");
    let stat = Panel::stat(
        "Failure ratio",
        "Share of caller-facing requests (TwiML and media) that failed in the time range. Orange above the rules' objective, red from their one-hour paging threshold.",
    )
    .unit("percentunit").decimals(2).size(4, 4);
    let slow = Panel::stat(
        "Slower than 3 s",
        "Share of TwiML requests in the time range that took over 3 s, which callers notice. Orange from the rules' ticket threshold.",
    )
    .unit("percentunit").decimals(1).size(4, 4);
    vec![
        Panel::stat("Requests", "Requests in the time range, including callbacks.")
            .unit("short").decimals(0).size(3, 4).instant(&request_count, "requests"),
        Panel::stat("Failed requests", "Failed requests in the time range, including callbacks.")
            .unit("short").decimals(0).steps(&[(None, "green"), (Some(ANY), "red")]).size(3, 4)
            .instant(&failed, "failed"),
        with_limits(stat, "failed", &share("increase", "[$__range]", &facing, ""), &[
            (OBJECTIVE, "over the objective", "orange"),
            (PAGE_RATIO, "an hour of it pages", "red"),
        ]),
        Panel::stat("Callers cut off", "Calls in the time range that failed at this route and had no later successful request. Known 16 minutes after the end of a call.")
            .unit("short").decimals(0).steps(&[(None, "green"), (Some(ANY), "red")]).size(3, 4)
            .instant(&format!("sum(increase(twilio_calls_with_webhook_failures_total{{{ENDPOINT},outcome=\"cut_off\"}}[$__range]))"), "cut off"),
        with_limits(slow, "over 3 s", &slower_than(SLOW, "increase", "[$__range]"), &[
            ("max(twilio:slow_ratio:threshold)", "too many", "orange"),
        ]),
        Panel::stat("TwiML warnings", "Unusual responses in the time range that are not failures: redirects, and verbs unknown to Twilio.")
            .unit("short").decimals(0).steps(&[(None, "blue")]).size(3, 4)
            .when_empty("None")
            .instant(&format!("sum by (reason) (increase(twilio_twiml_warnings_total{{{ENDPOINT}}}[$__range])) > 0"), "{{reason}}"),
        super::data_lag_stat(),
    ]
}

fn requests_and_failures() -> Vec<Panel> {
    vec![
        judged::share_by_window(),
        judged::cut_off_by_route().size(12, 8),
        super::reason_colours(Panel::bars("Failures by reason", "Failed requests per interval. The runbooks explain the usual cause of each reason."))
            .unit("short").size(12, 8)
            .when_empty("No failures in this time range.")
            .query_with_exemplars(&format!("sum by (reason) (increase({FAILURES}{{{SELECTED}}}[$__rate_interval])) > 0"), "{{reason}}"),
        code_colours(Panel::bars("Responses by code", "Responses by HTTP status code. none: no response from the application."))
            .unit("reqps").size(12, 8)
            .query(&format!("sum by (code) (rate({REQUESTS}{{{SELECTED}}}[$__rate_interval]))"), "{{code}}"),
        Panel::lines("Requests by kind", "Requests by kind. Kinds ending in _callback, and media, expect no TwiML.")
            .unit("reqps").size(12, 8)
            .query(&format!("sum by (kind) (rate({REQUESTS}{{{SELECTED}}}[$__rate_interval]))"), "{{kind}}"),
        Panel::bars("Content types", "The application's 2xx responses to requests that expect TwiML. XML is green, audio blue, everything else red or orange.")
            .unit("short").size(12, 8)
            .query(&format!("sum by (content_type) (increase(twilio_twiml_responses_total{{{ENDPOINT}}}[$__rate_interval]))"), "{{content_type}}")
            .colours(&[("/json|^other$|none/", "red"), ("/html|plain/", "orange"), ("/xml/", "green"), ("/audio/", "blue")]),
    ]
}

fn latency() -> Vec<Panel> {
    let buckets = format!("rate({DURATION}_bucket{{{SELECTED}}}[$__rate_interval])");
    let all = |q: f64| quantile(q, "le", &buckets);
    vec![
        Panel::lines(
            "Duration",
            "As measured by Twilio, with lines at 3 s and 15 s. Points are exemplars with the Call SID of a call in that bucket.",
        )
        .unit("s").marks(&[(SLOW, "orange"), (TIMEOUT, "red")]).size(12, 9)
        .when_empty("No requests in this time range.")
        .query(&all(0.5), "p50").query_with_exemplars(&all(0.95), "p95").query(&all(0.99), "p99"),
        Panel::heatmap("Duration distribution", "Requests by duration. The top row is over 15 s.")
            .size(12, 9)
            .buckets(&format!("sum by (le) (increase({DURATION}_bucket{{{SELECTED}}}[$__rate_interval]))")),
        Panel::lines("Slow responses", "Share of TwiML requests over 3 s and over 10 s. Dashed: ticket thresholds in the same colours.")
            .unit("percentunit").size(12, 8)
            .query(&slower_than(SLOW, "rate", "[$__rate_interval]"), "over 3 s")
            .query(&slower_than(NEAR_TIMEOUT, "rate", "[$__rate_interval]"), "over 10 s")
            .colours(&[("/^over 3 s/", "orange"), ("/^over 10 s/", "red")])
            .threshold("max(twilio:slow_ratio:threshold)", "ticket at (3 s)", "orange")
            .threshold("max(twilio:near_timeout_ratio:threshold)", "ticket at (10 s)", "red"),
        Panel::lines("Duration by kind", "95th percentile of request duration, by kind.")
            .unit("s").marks(&[(SLOW, "orange"), (TIMEOUT, "red")]).size(12, 8)
            .when_empty("No requests in this time range.")
            .query(&quantile(0.95, "kind, le", &buckets), "{{kind}}"),
    ]
}
