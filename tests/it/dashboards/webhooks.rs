//! *Twilio / Webhooks overview*: which webhooks fail, why, and how many callers are affected.

use super::build::{Dashboard, Panel, exporter_address, variable};
use super::{
    ANY, CALLER_FACING, DURATION, EVENT_LAG, FAILURES, LATE, LINK_PARAMETERS, NEAR_TIMEOUT,
    OBJECTIVE, PAGE_RATIO, REQUESTS, SLOW, TIMEOUT, VERY_LATE, accounts, alerts, code_colours,
    highest, highest_gauges, judged, quantile, request_count, share, with_limits,
};

/// Label matchers for the variables.
const SELECTED: &str =
    r#"job=~"$job",account=~"$account",host=~"$host",route=~"$route",kind=~"$kind""#;
/// Label matchers for the variables, limited to requests that expect TwiML.
const TWIML: &str = r#"job=~"$job",account=~"$account",host=~"$host",route=~"$route",kind=~"$kind",kind!~".*_callback|media""#;
/// Label matchers for families without a kind.
const ENDPOINT: &str = r#"job=~"$job",account=~"$account",host=~"$host",route=~"$route""#;
/// Label matchers for families about an account.
const ACCOUNT: &str = r#"job=~"$job",account=~"$account""#;
/// Matches content types other than XML and audio files to play.
const NOT_XML: &str = r#"content_type!~"text/xml|application/xml|other_xml|audio""#;

pub(crate) fn dashboard() -> Dashboard {
    Dashboard {
        uid: "twilio-webhooks",
        title: "Twilio / Webhooks overview",
        description: "Which webhooks fail, why, and how many callers are affected, as seen by Twilio.",
        variables: vec![
            variable("job", "Job", "twilio_exporter_build_info"),
            variable("account", "Account", r#"twilio_account_info{job=~"$job"}"#),
            variable("host", "Host", &format!("{DURATION}_count{{{ACCOUNT}}}")),
            variable("route", "Route", &format!("{DURATION}_count{{{ACCOUNT},host=~\"$host\"}}")),
            variable("kind", "Kind", &format!("{DURATION}_count{{{ACCOUNT},host=~\"$host\"}}")),
            exporter_address(),
        ],
        failures: Some(""),
        rows: vec![
            ("Now (from Twilio's error log)", now()),
            ("Overview (from Call Events)", overview()),
            ("", current_failures()),
            ("Compared with last week", compared()),
            ("Failures", failing()),
            ("Requests and responses", requests_and_responses()),
            ("Latency", latency()),
            ("Lag", lag()),
        ],
    }
}

/// Label matchers for the variables, limited to caller-facing requests.
fn caller_facing() -> String {
    format!("{SELECTED},{CALLER_FACING}")
}

/// Panels about the error log, whose entries arrive long before Call Events. The two are never added up.
fn now() -> Vec<Panel> {
    const ERRORS: &str = "twilio_error_log_entries_total";
    let errors = format!(r#"{ERRORS}{{{ENDPOINT},product="voice",level="error"}}"#);
    let by = |labels: &str, range: &str| format!("sum by ({labels}) (increase({errors}{range}))");
    let rank = format!("{} > 0", by("host, route", "[$__range] @ end()"));
    let read = format!("twilio_exporter_error_log_last_success_timestamp_seconds{{{ACCOUNT}}}");
    vec![
        Panel::bars(
            "Errors by code",
            "Twilio error log entries about voice webhooks, counted within about a minute; errors only, no successes. The runbooks explain the codes. Failed requests also appear in the panels below, up to 15 minutes later.",
        )
        .unit("short").size(10, 7)
        .when_empty("No voice webhook errors in this time range.")
        .query(&format!("{} > 0", by("error_code", "[$__rate_interval]")), "{{error_code}}"),
        Panel::bars("Errors by route", "The same errors, for the eight routes with the most.")
            .unit("short").size(10, 7)
            .shades_of("red")
            .when_empty("No voice webhook errors in this time range.")
            .query(&highest(8, &by("host, route", "[$__rate_interval]"), "host, route", &rank), "{{host}}{{route}}"),
        Panel::stat(
            "Data age",
            "error log: time since it was last read, for the account furthest behind. Call Events: time within which 90% of those in the time range were counted.",
        )
        .unit("s").decimals(0).size(4, 7)
        .when_empty("No account polled yet")
        .steps(&[(None, "blue"), (Some(LATE), "orange"), (Some(VERY_LATE), "red")])
        .instant(&format!("time() - min({read})"), "error log")
        .instant(&quantile(0.9, "le", &format!("increase({EVENT_LAG}_bucket{{{ACCOUNT}}}[$__range])")), "Call Events"),
    ]
}

fn overview() -> Vec<Panel> {
    let failed = share("increase", "[$__range]", &caller_facing(), "");
    let stat = Panel::stat(
        "Failure ratio",
        "Share of caller-facing requests (TwiML and media) that failed in the time range. Orange above the rules' objective, red from their one-hour paging threshold.",
    )
    .unit("percentunit").decimals(2).size(4, 4);
    vec![
        alerts::count(),
        with_limits(stat, "failed", &failed, &[
            (OBJECTIVE, "over the objective", "orange"),
            (PAGE_RATIO, "an hour of it pages", "red"),
        ]),
        Panel::stat(
            "Callers cut off",
            "Calls in the time range in which a caller-facing request failed and no later one succeeded, counted for the failed route. Known once a call is settled, 16 minutes after its end.",
        )
        .unit("short").decimals(0).steps(&[(None, "green"), (Some(ANY), "red")]).size(4, 4)
        .instant(&format!("sum(increase(twilio_calls_with_webhook_failures_total{{{ENDPOINT},outcome=\"cut_off\"}}[$__range]))"), "cut off"),
        Panel::stat(
            "TwiML duration (p95)",
            "95th percentile of TwiML request duration in the time range. Callers notice 2 to 3 s; Twilio gives up at 15 s.",
        )
        .unit("s").decimals(2).size(4, 4)
        .steps(&[(None, "green"), (Some(SLOW), "orange"), (Some(NEAR_TIMEOUT), "red")])
        .when_empty("No TwiML requests")
        .instant(&quantile(0.95, "le", &format!("increase({DURATION}_bucket{{{TWIML}}}[$__range])")), "p95"),
        accounts::readable(),
        super::data_lag_stat(),
    ]
}

/// The same time a week earlier, from the exporter itself or from imported history.
fn compared() -> Vec<Panel> {
    const NOW: &str = "[$__rate_interval]";
    const WEEK_EARLIER: &str = "[$__rate_interval] offset 1w";
    let selected = caller_facing();
    let failed = |range: &str| {
        format!("round(sum by (host, route) (increase({FAILURES}{{{selected}}}{range})))")
    };
    let (now, earlier) = (failed("[$__range]"), failed("[$__range] offset 1w"));
    let more = format!("({now} - {earlier} or {now} unless {earlier}) > 0");
    vec![
        Panel::lines("Requests, compared", "All requests to webhooks, and those a week earlier.")
            .unit("reqps").size(8, 8).interval("5m")
            .when_empty("No requests in this time range.")
            .query(&request_count("rate", NOW, SELECTED, ""), "now")
            .query(&request_count("rate", WEEK_EARLIER, SELECTED, ""), "a week earlier")
            .colours(&[("/^now/", "blue"), ("/^a week/", "#808080")]),
        Panel::lines(
            "Failure ratio, compared",
            "Share of caller-facing requests that failed, and that of a week earlier.",
        )
        .unit("percentunit").size(8, 8).interval("5m")
        .when_empty("No caller-facing requests in this time range.")
        .query(&share("rate", NOW, &selected, ""), "now")
        .query(&share("rate", WEEK_EARLIER, &selected, ""), "a week earlier")
        .colours(&[("/^now/", "red"), ("/^a week/", "#808080")]),
        Panel::table(
            "Routes that fail more often than a week earlier",
            "Failed caller-facing requests in the time range, and how many more than in the same time range a week earlier: the fifteen routes with the largest increase.",
            &[("host", "Host"), ("route", "Route"), ("Value #B", "Failed"), ("Value #A", "More")],
        )
        .size(8, 8)
        .when_empty("No route fails more often than a week earlier.")
        .instant(&format!("topk(15, {more})"), "")
        .instant(&format!("{now} and topk(15, {more})"), "")
        .decimals(0)
        .column("Failed", "short", &[])
        .column("More", "short", &[]),
    ]
}

fn current_failures() -> Vec<Panel> {
    let failed = |by: &str| {
        format!("sum by ({by}) (increase({FAILURES}{{{}}}[$__range])) > 0", caller_facing())
    };
    let labels = "host, route, reason";
    let requests_by_route = format!(
        "sum by (host, route) (increase({DURATION}_count{{{}}}[$__range]))",
        caller_facing()
    );
    let route_url = format!(
        "/d/twilio-route?${{account:queryparam}}&var-host=${{__data.fields.Host:percentencode}}&var-route=${{__data.fields.Route:percentencode}}&{LINK_PARAMETERS}"
    );
    let failures_url = "http://${exporter}/failures?host=${__data.fields.Host:percentencode}&route=${__data.fields.Route:percentencode}&reason=${__data.fields.Reason:percentencode}&from=${__from}&to=${__to}";
    vec![
        alerts::table(),
        Panel::table(
            "Failing routes",
            "Failed caller-facing requests in the time range, over all selected accounts: the twenty routes and reasons with the most. Routes link to their dashboard, reasons to the failed requests.",
            &[("host", "Host"), ("route", "Route"), ("reason", "Reason"), ("Value #C", "Accounts"), ("Value #B", "Share"), ("Value #A", "Failed")],
        )
        .size(12, 8)
        .when_empty("No caller-facing failures in this time range.")
        .instant(&format!("topk(20, {})", failed(labels)), "")
        .instant(&format!("clamp_max(topk(20, {}) / on (host, route) group_left () {requests_by_route}, 1)", failed(labels)), "")
        .instant(&format!("count by ({labels}) ({}) and topk(20, {})", failed(&format!("account, {labels}")), failed(labels)), "")
        .column("Failed", "short", &[])
        .column("Accounts", "short", &[])
        .column("Share", "percentunit", &[])
        .decimals(0)
        .link("Route", &[("Details of this route", &route_url)])
        .link("Reason", &[("Failed requests", failures_url)]),
        judged::share_by_route(),
        judged::burn_rates(),
        judged::cut_off_by_route(),
        accounts::table(),
    ]
}

fn failing() -> Vec<Panel> {
    let spent =
        format!("({}) / {OBJECTIVE}", share("increase", "[$__range]", &caller_facing(), ""));
    let by_route = |range: &str| {
        format!("sum by (host, route) (increase({FAILURES}{{{}}}{range}))", caller_facing())
    };
    let rank = format!("{} > 0", by_route("[$__range] @ end()"));
    vec![
        super::reason_colours(Panel::bars(
            "Failures by reason",
            "All failed requests, including callbacks. The runbooks explain the usual cause of each reason.",
        ))
        .unit("short").size(8, 8)
        .when_empty("No failures in this time range.")
        .query(&format!("sum by (reason) (increase({FAILURES}{{{SELECTED}}}[$__rate_interval])) > 0"), "{{reason}}"),
        Panel::bars(
            "Failed requests by route",
            "Failed caller-facing requests per interval, for the eight routes with the most.",
        )
        .unit("short").size(8, 8)
        .shades_of("red")
        .when_empty("No caller-facing failures in this time range.")
        .query(&highest(8, &by_route("[$__rate_interval]"), "host, route", &rank), "{{host}}{{route}}"),
        Panel::stat(
            "Error budget",
            "Share of the failures allowed by the rules' objective that is left in the time range; in red, the share spent if over 100%. Select 30 days for the monthly budget.",
        )
        .unit("percentunit").decimals(0).size(4, 8)
        .steps(&[(None, "green")])
        .when_empty("No requests, or rules not loaded")
        .instant(&format!("1 - {spent} >= 0"), "left")
        .instant(&format!("{spent} > 1"), "spent")
        .colours(&[("/spent/", "red")]),
        Panel::stat(
            "Non-XML TwiML responses",
            "The application's 2xx responses with a non-XML content type to requests that expect TwiML, in the time range. Excludes audio files to play.",
        )
        .unit("short").decimals(0).steps(&[(None, "green"), (Some(ANY), "red")]).size(4, 8)
        .instant(&format!("sum(increase(twilio_twiml_responses_total{{{ENDPOINT},{NOT_XML}}}[$__range]))"), "not XML"),
    ]
}

fn requests_and_responses() -> Vec<Panel> {
    vec![
        Panel::lines("Requests", "Requests from Twilio to the application: all, and the eight busiest hosts.")
            .unit("reqps").size(8, 8)
            .query(&request_count("rate", "[$__rate_interval]", SELECTED, ""), "all")
            .query(&highest(8, &request_count("rate", "[$__rate_interval]", SELECTED, " by (host) "), "host", &format!("sum by (host) (increase({DURATION}_count{{{SELECTED}}}[$__range] @ end()))")), "{{host}}"),
        code_colours(Panel::bars(
            "Responses by code",
            "Responses by HTTP status code. none: no response from the application (timeout, connection, TLS, DNS).",
        ))
        .unit("reqps").size(8, 8)
        .query(&format!("sum by (code) (rate({REQUESTS}{{{SELECTED}}}[$__rate_interval]))"), "{{code}}"),
        Panel::bars(
            "TwiML content types",
            "The application's 2xx responses to requests that expect TwiML. Non-XML types come first, in red and orange.",
        )
        .unit("short").size(8, 8)
        .when_empty("No TwiML responses in this time range.")
        .query(&format!("sum by (content_type) (increase(twilio_twiml_responses_total{{{ENDPOINT},{NOT_XML}}}[$__rate_interval])) > 0"), "not XML: {{content_type}}")
        .query(&format!("sum by (content_type) (increase(twilio_twiml_responses_total{{{ENDPOINT},content_type=~\"text/xml|application/xml|other_xml|audio\"}}[$__rate_interval]))"), "{{content_type}}")
        .colours(&[("/^not XML: application/", "red"), ("/^not XML: text/", "orange"), ("/^not XML: (other|none)/", "dark-red"), ("/^text.xml|^application.xml|^other_xml/", "green"), ("/^audio/", "blue")]),
    ]
}

fn latency() -> Vec<Panel> {
    let buckets = format!("rate({DURATION}_bucket{{{TWIML}}}[$__rate_interval])");
    let all = |q: f64| quantile(q, "le", &buckets);
    let labels = "account, host, route";
    let requests = format!("sum by ({labels}) (increase({DURATION}_count{{{TWIML}}}[$__range]))");
    let took = quantile(
        0.95,
        &format!("{labels}, le"),
        &format!("increase({DURATION}_bucket{{{TWIML}}}[$__range])"),
    );
    // Many routes may have the same quantile, usually a bucket's bound. Ties are broken by the number of requests:
    // otherwise each column of the table could select different routes.
    let slowest = format!("topk(15, {requests} / 1e9 + on ({labels}) ({took}))");
    vec![
        Panel::lines(
            "TwiML request duration",
            "As measured by Twilio. Lines mark 3 s, which callers notice as silence, and 15 s, when Twilio gives up.",
        )
        .unit("s").marks(&[(SLOW, "orange"), (TIMEOUT, "red")]).size(12, 9)
        .when_empty("No TwiML requests in this time range.")
        .query(&all(0.5), "p50").query(&all(0.95), "p95").query(&all(0.99), "p99"),
        Panel::heatmap("TwiML request duration distribution", "Requests by duration. The top row is over 15 s.")
            .size(12, 9)
            .buckets(&format!("sum by (le) (increase({DURATION}_bucket{{{TWIML}}}[$__rate_interval]))")),
        Panel::table(
            "Slowest routes",
            "95th percentile of TwiML request duration in the time range, for the fifteen slowest routes of all selected accounts.",
            &[("account", "Account"), ("host", "Host"), ("route", "Route"), ("Value #B", "Requests"), ("Value #A", "p95")],
        )
        .size(24, 7)
        .when_empty("No TwiML requests in this time range.")
        .instant(&slowest, "")
        .instant(&format!("{requests} and {slowest}"), "")
        .decimals(0)
        .column("p95", "s", &[(None, "transparent"), (Some(SLOW), "orange"), (Some(NEAR_TIMEOUT), "red")])
        .column("Requests", "short", &[]),
    ]
}

fn lag() -> Vec<Panel> {
    let buckets = format!("rate({EVENT_LAG}_bucket{{{ACCOUNT}}}[$__rate_interval])");
    let lag = |q: f64| quantile(q, "le", &buckets);
    vec![
        Panel::lines(
            "Event lag",
            "Time from when Twilio recorded a response until it was counted. Up to 16 minutes after the end of a call is normal: Twilio may show Call Events that late.",
        )
        .unit("s").size(12, 7)
        .when_empty("No Call Events were counted in this time range.")
        .query(&lag(0.5), "p50").query(&lag(0.9), "p90"),
        Panel::lines(
            "Exporter delay",
            "Delay of the most overdue settling read, for the ten accounts furthest behind. Dashed: alert threshold.",
        )
        .unit("s").size(12, 7)
        .when_empty("Nothing is overdue.")
        .query(&highest_gauges(10, &format!("twilio_exporter_settling_overdue_seconds{{{ACCOUNT}}}"), "account"), "{{account}}")
        .threshold("max(twilio:overdue_seconds:threshold)", "alert", "red"),
    ]
}
