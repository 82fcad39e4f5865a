//! The HTML of `/failures`: a form and a table, or an explanation if there are no results.

use axum::http::StatusCode;
use jiff::Timestamp;
use maud::{Markup, html};

use crate::domain::judge::kind::RequestKind;
use crate::domain::judge::verdict::Reason;
use crate::domain::track::twilio_time::seconds_between;
use crate::domain::words::sid::CallSid;
use crate::store::failures::{
    FailureFilter, MAX_PER_ACCOUNT, MAX_PER_ENDPOINT, MAX_RESULTS, RecentFailure, RecentFailures,
};

use super::super::pages::{age, frame};
use super::query::{self, webhook_kinds};
use super::reported;

/// The page's own path. Links are relative, so that a proxy can add a path prefix.
const PATH: &str = "failures";
const JSON_PATH: &str = "failures.json";
/// The default region. Links to the console name only other regions.
const DEFAULT_REGION: &str = "us1";

/// Returns the page with the results.
pub(super) fn found(
    filter: &FailureFilter,
    found: &RecentFailures,
    accounts: &[String],
    now: Timestamp,
) -> Markup {
    let body = html! {
        h1 { "Most recent failing requests" }
        (form(filter, accounts))
        p.more {
            @if found.total > 0 { span { (summary(found)) } }
            @if let Some(older) = query::older(filter, found) {
                a href=(query::link(&older, PATH)) { "Older" }
            }
            @if query::is_filtered(filter) { a href=(PATH) { "All" } }
            a href=(query::link(filter, JSON_PATH)) { "JSON" }
            a href="./" { "Overview" }
        }
        (reported::section(&found.reported, now))
        @if !found.reported.is_empty() && !found.failures.is_empty() {
            h2 { "Counted from Call Events" }
        }
        @if found.failures.is_empty() {
            (no_results(filter))
        } @else {
            table {
                thead {
                    tr {
                        th { "Time (UTC)" } th { "Account" } th { "Host" } th { "Route" }
                        th { "Kind" } th { "Code" } th { "Reason" } th { "Duration" } th { "Call" }
                    }
                }
                tbody {
                    @for failure in &found.failures { (row(filter, failure, now)) }
                }
            }
            @if let Some(older) = query::older(filter, found) {
                p { a href=(query::link(&older, PATH)) { "Older" } }
            }
        }
    };
    frame("Failures - twilio-call-exporter", &body)
}

/// Returns the page for a request that can't be answered.
pub(super) fn refusal(status: StatusCode, problems: &[String]) -> Markup {
    let body = html! {
        h1 { @if status.is_client_error() { "Invalid filter" } @else { "Temporarily unavailable" } }
        ul {
            @for problem in problems { li { (problem) } }
        }
        p.more {
            a href=(PATH) { "All failures" }
            a href="./" { "Overview" }
        }
    };
    frame("Failures - twilio-call-exporter", &body)
}

fn form(filter: &FailureFilter, accounts: &[String]) -> Markup {
    let mut known: Vec<&str> = accounts.iter().map(String::as_str).collect();
    // The form keeps the selected accounts even if they don't exist.
    known.extend(filter.accounts.iter().map(String::as_str));
    known.sort_unstable();
    known.dedup();
    let selected: Vec<&str> = filter.accounts.iter().map(String::as_str).collect();
    let kinds: Vec<&str> = filter.kinds.iter().map(|kind| kind.as_str()).collect();
    let reasons: Vec<&str> = filter.reasons.iter().map(|reason| reason.as_str()).collect();
    let all_kinds: Vec<&str> = webhook_kinds().map(RequestKind::as_str).collect();
    let all_reasons: Vec<&str> = Reason::ALL.iter().map(|reason| reason.as_str()).collect();
    let time = |time: Option<Timestamp>| time.map(|time| time.to_string()).unwrap_or_default();
    let limit = filter.limit;
    html! {
        form action=(PATH) method="get" {
            (selects("Account", "account", &known, &selected))
            (inputs("Host", "host", &filter.hosts))
            (inputs("Route", "route", &filter.routes))
            (selects("Kind", "kind", &all_kinds, &kinds))
            (selects("Reason", "reason", &all_reasons, &reasons))
            label { "From (UTC)" input name="from" value=(time(filter.from)) placeholder="2026-01-31T16:20:00Z"; }
            label { "To (UTC)" input name="to" value=(time(filter.to)) placeholder="2026-01-31T16:40:00Z"; }
            label { "At most" input name="limit" type="number" min="1" max=(MAX_RESULTS) value=(limit); }
            button { "Filter" }
        }
    }
}

/// Returns one field per selected value, or an empty one.
fn inputs(title: &str, name: &str, selected: &[String]) -> Markup {
    let empty = [String::new()];
    html! {
        @for value in if selected.is_empty() { &empty } else { selected } {
            label { (title) input name=(name) value=(value) autocapitalize="off" spellcheck="false"; }
        }
    }
}

fn selects(title: &str, name: &str, known: &[&str], selected: &[&str]) -> Markup {
    html! {
        @for value in if selected.is_empty() { &[""] } else { selected } {
            label {
                (title)
                select name=(name) {
                    option value="" { "any" }
                    @for known in known {
                        option value=(known) selected[known == value] { (known) }
                    }
                }
            }
        }
    }
}

fn summary(found: &RecentFailures) -> String {
    match (found.failures.len(), found.total) {
        (_, 1) => "1 failing request.".to_owned(),
        (shown, total) if shown < total => format!("The newest {shown} of {total}."),
        (_, total) => format!("{total} failing requests."),
    }
}

fn row(filter: &FailureFilter, failure: &RecentFailure, now: Timestamp) -> Markup {
    let narrowed = |narrow: &dyn Fn(&mut FailureFilter)| {
        let mut narrowed = filter.clone();
        narrow(&mut narrowed);
        query::link(&narrowed, PATH)
    };
    let (host, route) = (&failure.endpoint.host, &failure.endpoint.route);
    html! {
        tr {
            td.fixed data-label="Time" {
                time datetime=(failure.at) { (failure.at.strftime("%Y-%m-%d %H:%M:%S")) }
                " "
                span.age { (age(seconds_between(failure.at, now))) " ago" }
            }
            td data-label="Account" {
                a href=(narrowed(&|filter| filter.accounts = vec![failure.account.clone()])) { (failure.account) }
            }
            td data-label="Host" { a href=(narrowed(&|filter| filter.hosts = vec![host.clone()])) { (host) } }
            td data-label="Route" { a href=(narrowed(&|filter| filter.routes = vec![route.clone()])) { (route) } }
            td.fixed data-label="Kind" { a href=(narrowed(&|filter| filter.kinds = vec![failure.kind])) { (failure.kind) } }
            td.fixed data-label="Code" { (failure.code) }
            td.fixed data-label="Reason" {
                a.bad href=(narrowed(&|filter| filter.reasons = vec![failure.reason])) { (failure.reason) }
                @if let Some(malformation) = failure.malformation {
                    " "
                    span.detail { (malformation) }
                }
            }
            td.fixed data-label="Duration" { (duration(failure.duration_ms)) }
            td.sid.call data-label="Call" {
                a href=(console(failure.call_sid, &failure.region)) rel="noreferrer noopener" { (failure.call_sid) }
            }
        }
    }
}

fn duration(ms: Option<u64>) -> String {
    match ms {
        None => "unknown".to_owned(),
        Some(ms) if ms < 1_000 => format!("{ms} ms"),
        Some(ms) => format!("{:.1} s", std::time::Duration::from_millis(ms).as_secs_f64()),
    }
}

/// Returns the URL of a call in Twilio's console.
///
/// Twilio doesn't document it. Integrations use this one, such as Splunk On-Call's guide ("Link back to a specific
/// call's history"). After the login, the console redirects to the current page.
pub(super) fn console(call_sid: CallSid, region: &str) -> String {
    let page = format!("https://www.twilio.com/console/voice/calls/logs/{call_sid}");
    if region == DEFAULT_REGION {
        return page;
    }
    let mut query = form_urlencoded::Serializer::new(String::new());
    format!("{page}?{}", query.append_pair("x-target-region", region).finish())
}

/// Explains why there are no results.
fn no_results(filter: &FailureFilter) -> Markup {
    html! {
        p {
            @if query::is_filtered(filter) {
                "No recorded failing request matches these filters."
            } @else {
                "No failing request is recorded."
            }
        }
        ul.quiet {
            li { "There may have been no failures." }
            li { "Twilio may show the events of a call only 15 minutes after it ends." }
            li {
                "Only the newest are kept: " (MAX_PER_ENDPOINT) " per route, " (MAX_PER_ACCOUNT)
                " per account. The counters on " a href="metrics" { "/metrics" }
                " include all."
            }
            li { "Only accounts that are currently polled are shown." }
            @if query::is_filtered(filter) {
                li { "Host and route must match the labels on /metrics exactly." }
            }
        }
    }
}
