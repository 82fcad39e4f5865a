//! *Twilio / Webhooks overview*: which webhook fails, why, and how many callers felt it.

use super::build::{Dashboard, Panel, exporter_address, variable};
use super::{
    DURATION, FAILURES, LATENESS, OBJECTIVE, REQUESTS, SLOW, TIMEOUT, asked, code_colours,
};

/// What the variables choose.
const CHOSEN: &str =
    r#"job=~"$job",account=~"$account",host=~"$host",route=~"$route",kind=~"$kind""#;
/// Of that, the requests that expect TwiML.
const TWIML: &str = r#"job=~"$job",account=~"$account",host=~"$host",route=~"$route",kind=~"$kind",kind!~".*_callback|media""#;
/// What the variables choose of families without a kind.
const ENDPOINT: &str = r#"job=~"$job",account=~"$account",host=~"$host",route=~"$route""#;
/// What the variables choose of an account's families.
const ACCOUNT: &str = r#"job=~"$job",account=~"$account""#;
/// What isn't XML, but for files to play.
const NOT_XML: &str = r#"content_type!~"text/xml|application/xml|other_xml|audio""#;

pub(crate) fn dashboard() -> Dashboard {
    Dashboard {
        uid: "twilio-webhooks",
        title: "Twilio / Webhooks overview",
        description: "Which webhooks fail, why, and how many callers felt it, as Twilio saw it.",
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
            ("", glance()),
            ("What fails", failing()),
            ("What is asked and answered", answers()),
            ("How long it takes", latency()),
            ("How late the numbers are", lateness()),
        ],
    }
}

fn glance() -> Vec<Panel> {
    let failures = format!("sum(increase({FAILURES}{{{TWIML}}}[$__range]))");
    let requests = asked("increase", "$__range", TWIML, "");
    let steps = [(None, "green"), (Some(0.001), "orange"), (Some(0.0144), "red")];
    vec![
        Panel::stat(
            "TwiML requests that failed",
            "Share of the requests that expect TwiML, over the time range. Orange from the objective on, red from where an hour of it pages.",
        )
        .unit("percentunit").decimals(2).steps(&steps).size(4, 4)
        .instant(&format!("{failures} / ({requests} > 0)"), "failed"),
        Panel::stat(
            "Callers cut off",
            "Calls with a failing TwiML request and no later one that succeeded, over the time range. Known when a call is settled, 16 minutes after its end.",
        )
        .unit("short").decimals(0).steps(&[(None, "green"), (Some(0.5), "red")]).size(4, 4)
        .instant(&format!("sum(increase(twilio_calls_with_webhook_failures_total{{{ACCOUNT},outcome=\"cut_off\"}}[$__range]))"), "cut off"),
        Panel::stat(
            "Non-XML TwiML answers",
            "Genuine 2xx answers to requests that expect TwiML whose content type is not XML, over the time range. Files to play (audio) are left out.",
        )
        .unit("short").decimals(0).steps(&[(None, "green"), (Some(0.5), "red")]).size(4, 4)
        .instant(&format!("sum(increase(twilio_twiml_responses_total{{{ENDPOINT},{NOT_XML}}}[$__range]))"), "not XML"),
        Panel::stat(
            "Error budget left",
            "Of the failures that the objective allows in the time range; below 0 it is overspent, at -100 % twice or more. Choose 30 days to see the month's. The objective is the rules' threshold, or 99.9 % where they aren't loaded.",
        )
        .unit("percentunit").decimals(0).size(4, 4)
        .steps(&[(None, "red"), (Some(0.0), "orange"), (Some(0.25), "green")])
        .instant(&format!("clamp_min(1 - ({failures} / ({requests} > 0)) / ({OBJECTIVE}), -1)"), "left"),
        Panel::stat(
            "95 % answered within",
            "95th percentile of how long TwiML requests took, over the time range. Callers notice 2 to 3 s; at 15 s Twilio gives up.",
        )
        .unit("s").decimals(2).size(4, 4)
        .steps(&[(None, "green"), (Some(SLOW), "orange"), (Some(10.0), "red")])
        .instant(&format!("histogram_quantile(0.95, sum by (le) (increase({DURATION}_bucket{{{TWIML}}}[$__range])))"), "p95"),
        super::lateness_stat(),
    ]
}

fn failing() -> Vec<Panel> {
    let labels = "account, host, route, reason";
    let failed = format!("sum by ({labels}) (increase({FAILURES}{{{TWIML}}}[$__range]))");
    let asked_of = |by| asked("increase", "$__range", TWIML, by);
    let route_url = "/d/twilio-route?${job:queryparam}&${datasource:queryparam}&var-account=${__data.fields.Account:percentencode}&var-host=${__data.fields.Host:percentencode}&var-route=${__data.fields.Route:percentencode}&${__url_time_range}";
    let failures_url = "http://${exporter}/failures?account=${__data.fields.Account:percentencode}&host=${__data.fields.Host:percentencode}&route=${__data.fields.Route:percentencode}&reason=${__data.fields.Reason:percentencode}&from=${__from}&to=${__to}";
    vec![
        Panel::table(
            "Failing routes",
            "TwiML requests that failed in the time range, the most first. A route leads to its dashboard, a reason to the calls.",
            &[("account", "Account"), ("host", "Host"), ("route", "Route"), ("reason", "Reason"), ("Value #B", "Share"), ("Value #A", "Failed")],
        )
        .size(15, 9)
        .or_say("No TwiML request has failed in this time range.")
        .instant(&format!("topk(20, {failed} > 0)"), "")
        .instant(&format!("topk(20, {failed} > 0) / on (account, host, route) group_left () ({} > 0)", asked_of(" by (account, host, route) ")), "")
        .column("Failed", "short", &[])
        .column("Share", "percentunit", &[(None, "transparent"), (Some(0.001), "orange"), (Some(0.0144), "red")])
        .decimals(0)
        .link("Route", "This route", route_url)
        .link("Reason", "The calls behind it", failures_url),
        Panel::bars(
            "Failing TwiML requests by route",
            "Failures per interval, the eight routes that fail most.",
        )
        .unit("short").size(9, 9)
        .shades_of("red")
        .or_say("No TwiML request has failed in this time range.")
        .query(&format!("topk(8, sum by (host, route) (increase({FAILURES}{{{TWIML}}}[$__rate_interval])) > 0)"), "{{host}}{{route}}"),
        super::reason_colours(Panel::bars(
            "Failures by reason",
            "All kinds of requests, callbacks included. The runbooks tell what each reason usually is.",
        ))
        .unit("short").size(12, 8)
        .or_say("Nothing has failed in this time range.")
        .query(&format!("sum by (reason) (increase({FAILURES}{{{CHOSEN}}}[$__rate_interval])) > 0"), "{{reason}}"),
        Panel::lines(
            "Share of TwiML requests that failed",
            "By host. The line is where an hour of it pages (14.4 times the objective of 99.9 %).",
        )
        .unit("percentunit").marks(&[(0.0144, "red")]).size(12, 8)
        .query(&format!("sum by (account, host) (rate({FAILURES}{{{TWIML}}}[$__rate_interval])) / ({} > 0)", asked("rate", "$__rate_interval", TWIML, " by (account, host) ")), "{{account}} {{host}}"),
    ]
}

fn answers() -> Vec<Panel> {
    vec![
        Panel::lines("Requests", "Requests that Twilio made to the application, by account and host.")
            .unit("reqps").size(8, 8)
            .query(&asked("rate", "$__rate_interval", CHOSEN, " by (account, host) "), "{{account}} {{host}}"),
        code_colours(Panel::bars(
            "Answers by code",
            "HTTP status of the answers. none: Twilio got no answer from the application (timeout, connection, TLS, DNS).",
        ))
        .unit("reqps").size(8, 8)
        .query(&format!("sum by (code) (rate({REQUESTS}{{{CHOSEN}}}[$__rate_interval]))"), "{{code}}"),
        Panel::bars(
            "TwiML content types",
            "Of genuine 2xx answers to requests that expect TwiML: those that aren't XML in front, in red and orange.",
        )
        .unit("short").size(8, 8)
        .or_say("No TwiML was answered in this time range.")
        .query(&format!("sum by (content_type) (increase(twilio_twiml_responses_total{{{ENDPOINT},{NOT_XML}}}[$__rate_interval])) > 0"), "not XML: {{content_type}}")
        .query(&format!("sum by (content_type) (increase(twilio_twiml_responses_total{{{ENDPOINT},content_type=~\"text/xml|application/xml|other_xml|audio\"}}[$__rate_interval]))"), "{{content_type}}")
        .colours(&[("/^not XML: application/", "red"), ("/^not XML: text/", "orange"), ("/^not XML: (other|none)/", "dark-red"), ("/^text.xml|^application.xml|^other_xml/", "green"), ("/^audio/", "blue")]),
    ]
}

fn latency() -> Vec<Panel> {
    let quantile = |q: f64| {
        format!(
            "histogram_quantile({q}, sum by (le) (rate({DURATION}_bucket{{{TWIML}}}[$__rate_interval])))"
        )
    };
    vec![
        Panel::lines(
            "Duration of TwiML requests",
            "As Twilio measured it. Lines at 3 s, which callers notice as silence, and at 15 s, where Twilio gives up.",
        )
        .unit("s").marks(&[(SLOW, "orange"), (TIMEOUT, "red")]).size(12, 9)
        .query(&quantile(0.5), "p50").query(&quantile(0.95), "p95").query(&quantile(0.99), "p99"),
        Panel::heatmap("Durations of TwiML requests", "How many requests took how long; the top row took over 15 s.")
            .size(12, 9)
            .buckets(&format!("sum by (le) (increase({DURATION}_bucket{{{TWIML}}}[$__rate_interval]))")),
        Panel::table(
            "Slowest routes",
            "95th percentile of the duration of TwiML requests in the time range, the slowest first.",
            &[("account", "Account"), ("host", "Host"), ("route", "Route"), ("Value #B", "Requests"), ("Value #A", "p95")],
        )
        .size(24, 7)
        .instant(&format!("topk(15, histogram_quantile(0.95, sum by (account, host, route, le) (increase({DURATION}_bucket{{{TWIML}}}[$__range]))))"), "")
        .instant(&format!("sum by (account, host, route) (increase({DURATION}_count{{{TWIML}}}[$__range]))"), "")
        .decimals(0)
        .column("p95", "s", &[(None, "transparent"), (Some(SLOW), "orange"), (Some(10.0), "red")])
        .column("Requests", "short", &[]),
    ]
}

fn lateness() -> Vec<Panel> {
    let lag = |q: f64| {
        format!(
            "histogram_quantile({q}, sum by (le) (rate({LATENESS}_bucket{{{ACCOUNT}}}[$__rate_interval])))"
        )
    };
    vec![
        Panel::lines(
            "Event lag",
            "From when Twilio recorded an answer to when it was counted. Up to 16 minutes after a call's end is how Twilio shows Call Events.",
        )
        .unit("s").size(12, 7).query(&lag(0.5), "p50").query(&lag(0.9), "p90"),
        Panel::lines(
            "Exporter behind",
            "How long the most overdue settling read is overdue; 0 is as it should be.",
        )
        .unit("s").size(12, 7)
        .query(&format!("max by (account) (twilio_exporter_settling_overdue_seconds{{{ACCOUNT}}})"), "{{account}}"),
    ]
}
