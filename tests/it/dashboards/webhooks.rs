//! *Twilio / Webhooks overview*: which webhook fails, why, and how many callers felt it.

use super::build::{Dashboard, Panel, exporter_address, variable};
use super::{
    ANY, DURATION, FACING, FAILURES, KEPT, LATE, LATENESS, NEAR_TIMEOUT, OBJECTIVE, PAGES,
    REQUESTS, SLOW, TIMEOUT, VERY_LATE, accounts, alerts, asked, code_colours, held_against,
    highest, highest_gauges, judged, quantile, share,
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
            ("Now (Twilio's error log)", now()),
            ("Counted from Call Events", glance()),
            ("", failing_now()),
            ("What fails", failing()),
            ("What is asked and answered", answers()),
            ("How long it takes", latency()),
            ("How late the numbers are", lateness()),
        ],
    }
}

/// Of the variables' choice, the requests whose failure a caller hears.
fn facing() -> String {
    format!("{CHOSEN},{FACING}")
}

/// What the error log tells, long before Call Events: never added to what they tell.
fn now() -> Vec<Panel> {
    const ERRORS: &str = "twilio_error_log_entries_total";
    let errors = format!(r#"{ERRORS}{{{ENDPOINT},product="voice",level="error"}}"#);
    let by = |labels: &str, range: &str| format!("sum by ({labels}) (increase({errors}{range}))");
    let rank = format!("{} > 0", by("host, route", "[$__range] @ end()"));
    let read = format!("twilio_exporter_error_log_last_success_timestamp_seconds{{{ACCOUNT}}}");
    vec![
        Panel::bars(
            "Errors by code",
            "Entries of Twilio's error log about voice webhooks, known within about a minute: errors only, no successes. The runbooks explain the codes. A request that failed is here and, up to a quarter of an hour later, in the panels below.",
        )
        .unit("short").size(10, 7)
        .or_say("Twilio's error log has no errors about voice webhooks in this time range.")
        .query(&format!("{} > 0", by("error_code", "[$__rate_interval]")), "{{error_code}}"),
        Panel::bars("Errors by route", "The same by route: the eight with the most.")
            .unit("short").size(10, 7)
            .shades_of("red")
            .or_say("Twilio's error log has no errors about voice webhooks in this time range.")
            .query(&highest(8, &by("host, route", "[$__rate_interval]"), "host, route", &rank), "{{host}}{{route}}"),
        Panel::stat(
            "Newest data",
            "How old the newest data of both sources is. error log: when it was last read, for the account that is furthest behind. Call Events: within which time 90 % of those of the time range were counted.",
        )
        .unit("s").decimals(0).size(4, 7)
        .or_say("No account was asked yet")
        .steps(&[(None, "blue"), (Some(LATE), "orange"), (Some(VERY_LATE), "red")])
        .instant(&format!("time() - min({read})"), "error log")
        .instant(&quantile(0.9, "le", &format!("increase({LATENESS}_bucket{{{ACCOUNT}}}[$__range])")), "Call Events"),
    ]
}

fn glance() -> Vec<Panel> {
    let failed = share("increase", "[$__range]", &facing(), "");
    let stat = Panel::stat(
        "Share that failed",
        "Of the caller-facing requests (TwiML and media), over the time range and all that is chosen. Orange over the objective, red where an hour of it pages: both as the rules have them.",
    )
    .unit("percentunit").decimals(2).size(4, 4);
    vec![
        alerts::count(),
        held_against(stat, "failed", &failed, &[
            (OBJECTIVE, "over the objective", "orange"),
            (PAGES, "an hour of it pages", "red"),
        ]),
        Panel::stat(
            "Callers cut off",
            "Calls with a failing request that the caller heard and no later one that succeeded, over the time range, by the route that failed. Known when a call is settled, 16 minutes after its end.",
        )
        .unit("short").decimals(0).steps(&[(None, "green"), (Some(ANY), "red")]).size(4, 4)
        .instant(&format!("sum(increase(twilio_calls_with_webhook_failures_total{{{ENDPOINT},outcome=\"cut_off\"}}[$__range]))"), "cut off"),
        Panel::stat(
            "95 % answered within",
            "95th percentile of how long TwiML requests took, over the time range. Callers notice 2 to 3 s; at 15 s Twilio gives up.",
        )
        .unit("s").decimals(2).size(4, 4)
        .steps(&[(None, "green"), (Some(SLOW), "orange"), (Some(NEAR_TIMEOUT), "red")])
        .or_say("No TwiML requests")
        .instant(&quantile(0.95, "le", &format!("increase({DURATION}_bucket{{{TWIML}}}[$__range])")), "p95"),
        accounts::readable(),
        super::lateness_stat(),
    ]
}

fn failing_now() -> Vec<Panel> {
    let failed =
        |by: &str| format!("sum by ({by}) (increase({FAILURES}{{{}}}[$__range])) > 0", facing());
    let labels = "host, route, reason";
    let asked_of =
        format!("sum by (host, route) (increase({DURATION}_count{{{}}}[$__range]))", facing());
    let route_url = format!(
        "/d/twilio-route?${{account:queryparam}}&var-host=${{__data.fields.Host:percentencode}}&var-route=${{__data.fields.Route:percentencode}}&{KEPT}"
    );
    let failures_url = "http://${exporter}/failures?host=${__data.fields.Host:percentencode}&route=${__data.fields.Route:percentencode}&reason=${__data.fields.Reason:percentencode}&from=${__from}&to=${__to}";
    vec![
        alerts::table(),
        Panel::table(
            "Failing routes",
            "Caller-facing requests that failed in the time range, over all chosen accounts: the twenty routes and reasons with the most. A route leads to its dashboard, a reason to the calls.",
            &[("host", "Host"), ("route", "Route"), ("reason", "Reason"), ("Value #C", "Accounts"), ("Value #B", "Share"), ("Value #A", "Failed")],
        )
        .size(12, 8)
        .or_say("No caller-facing request has failed in this time range.")
        .instant(&format!("topk(20, {})", failed(labels)), "")
        .instant(&format!("clamp_max(topk(20, {}) / on (host, route) group_left () {asked_of}, 1)", failed(labels)), "")
        .instant(&format!("count by ({labels}) ({}) and topk(20, {})", failed(&format!("account, {labels}")), failed(labels)), "")
        .column("Failed", "short", &[])
        .column("Accounts", "short", &[])
        .column("Share", "percentunit", &[])
        .decimals(0)
        .link("Route", &[("This route", &route_url)])
        .link("Reason", &[("The calls behind it", failures_url)]),
        judged::share_by_route(),
        judged::burn_rates(),
        judged::cut_off_by_route(),
        accounts::table(),
    ]
}

fn failing() -> Vec<Panel> {
    let spent = format!("({}) / {OBJECTIVE}", share("increase", "[$__range]", &facing(), ""));
    let by_route =
        |range: &str| format!("sum by (host, route) (increase({FAILURES}{{{}}}{range}))", facing());
    let rank = format!("{} > 0", by_route("[$__range] @ end()"));
    vec![
        super::reason_colours(Panel::bars(
            "Failures by reason",
            "All kinds of requests, callbacks included. The runbooks explain what each reason usually is.",
        ))
        .unit("short").size(8, 8)
        .or_say("Nothing has failed in this time range.")
        .query(&format!("sum by (reason) (increase({FAILURES}{{{CHOSEN}}}[$__rate_interval])) > 0"), "{{reason}}"),
        Panel::bars(
            "Failing requests by route",
            "Caller-facing requests that failed, per interval: the eight routes that fail most.",
        )
        .unit("short").size(8, 8)
        .shades_of("red")
        .or_say("No caller-facing request has failed in this time range.")
        .query(&highest(8, &by_route("[$__rate_interval]"), "host, route", &rank), "{{host}}{{route}}"),
        Panel::stat(
            "Error budget",
            "How much is left of the failures that the objective allows in the time range; where more than all of it is spent, in red, how much. Choose 30 days to see the month's. The objective comes from the rules.",
        )
        .unit("percentunit").decimals(0).size(4, 8)
        .steps(&[(None, "green")])
        .or_say("No requests, or no rules")
        .instant(&format!("1 - {spent} >= 0"), "left")
        .instant(&format!("{spent} > 1"), "spent")
        .colours(&[("/spent/", "red")]),
        Panel::stat(
            "Non-XML TwiML answers",
            "Genuine 2xx answers to requests that expect TwiML whose content type is not XML, over the time range. Files to play (audio) are left out.",
        )
        .unit("short").decimals(0).steps(&[(None, "green"), (Some(ANY), "red")]).size(4, 8)
        .instant(&format!("sum(increase(twilio_twiml_responses_total{{{ENDPOINT},{NOT_XML}}}[$__range]))"), "not XML"),
    ]
}

fn answers() -> Vec<Panel> {
    vec![
        Panel::lines("Requests", "Requests that Twilio made to the application: all, and the eight hosts with the most.")
            .unit("reqps").size(8, 8)
            .query(&asked("rate", "[$__rate_interval]", CHOSEN, ""), "all")
            .query(&highest(8, &asked("rate", "[$__rate_interval]", CHOSEN, " by (host) "), "host", &format!("sum by (host) (increase({DURATION}_count{{{CHOSEN}}}[$__range] @ end()))")), "{{host}}"),
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
    let buckets = format!("rate({DURATION}_bucket{{{TWIML}}}[$__rate_interval])");
    let all = |q: f64| quantile(q, "le", &buckets);
    let labels = "account, host, route";
    let asked = format!("sum by ({labels}) (increase({DURATION}_count{{{TWIML}}}[$__range]))");
    let took = quantile(
        0.95,
        &format!("{labels}, le"),
        &format!("increase({DURATION}_bucket{{{TWIML}}}[$__range])"),
    );
    // Many routes may share a bucket, its bound above all. Of those, the ones with the most requests; and
    // the order in which `topk` meets them is that of the requests, as quantiles come in any order and each
    // column of the table would choose others.
    let slowest = format!("topk(15, {asked} / 1e9 + on ({labels}) ({took}))");
    vec![
        Panel::lines(
            "Duration of TwiML requests",
            "As Twilio measured it. Lines at 3 s, which callers notice as silence, and at 15 s, where Twilio gives up.",
        )
        .unit("s").marks(&[(SLOW, "orange"), (TIMEOUT, "red")]).size(12, 9)
        .or_say("No TwiML was requested in this time range.")
        .query(&all(0.5), "p50").query(&all(0.95), "p95").query(&all(0.99), "p99"),
        Panel::heatmap("Durations of TwiML requests", "How many requests took how long; the top row took over 15 s.")
            .size(12, 9)
            .buckets(&format!("sum by (le) (increase({DURATION}_bucket{{{TWIML}}}[$__rate_interval]))")),
        Panel::table(
            "Slowest routes",
            "95th percentile of the duration of TwiML requests in the time range: the fifteen slowest routes of all chosen accounts.",
            &[("account", "Account"), ("host", "Host"), ("route", "Route"), ("Value #B", "Requests"), ("Value #A", "p95")],
        )
        .size(24, 7)
        .or_say("No TwiML was requested in this time range.")
        .instant(&slowest, "")
        .instant(&format!("{asked} and {slowest}"), "")
        .decimals(0)
        .column("p95", "s", &[(None, "transparent"), (Some(SLOW), "orange"), (Some(NEAR_TIMEOUT), "red")])
        .column("Requests", "short", &[]),
    ]
}

fn lateness() -> Vec<Panel> {
    let buckets = format!("rate({LATENESS}_bucket{{{ACCOUNT}}}[$__rate_interval])");
    let lag = |q: f64| quantile(q, "le", &buckets);
    vec![
        Panel::lines(
            "Event lag",
            "From when Twilio recorded an answer to when it was counted. Up to 16 minutes after a call's end is how Twilio shows Call Events.",
        )
        .unit("s").size(12, 7)
        .or_say("No Call Event was counted in this time range.")
        .query(&lag(0.5), "p50").query(&lag(0.9), "p90"),
        Panel::lines(
            "Exporter behind",
            "How long the most overdue settling read has been due, of the ten accounts furthest behind. Dashed: where an alert says so.",
        )
        .unit("s").size(12, 7)
        .or_say("Nothing is overdue.")
        .query(&highest_gauges(10, &format!("twilio_exporter_settling_overdue_seconds{{{ACCOUNT}}}"), "account"), "{{account}}")
        .threshold("max(twilio:overdue_seconds:threshold)", "alert", "red"),
    ]
}
