//! The landing page: the state of the exporter and its accounts.
//!
//! It reads the same instruments as `/metrics`, so that both agree.

use std::collections::BTreeMap;

use axum::extract::State;
use axum::response::Html;
use maud::{Markup, html};
use prometheus::proto::MetricFamily;

use crate::domain::track::twilio_time::seconds_between;
use crate::metrics::catalog::{self, Family};

use super::super::HttpState;
use super::{age, frame};

/// The state of an account, read from its gauges.
#[derive(Debug, Default, PartialEq)]
struct AccountRow {
    sid: String,
    up: Option<f64>,
    last_success: Option<f64>,
    overdue: f64,
    catching_up: f64,
    unreadable: f64,
    /// The resources that can't be read, each with the reason and the time in seconds.
    troubles: Vec<(&'static str, String, f64)>,
}

pub(in crate::http) async fn landing(State(state): State<HttpState>) -> Html<String> {
    let families = (state.gather)();
    let now = seconds_between(jiff::Timestamp::UNIX_EPOCH, (state.time)());
    let health = Health { is_ready: (state.is_ready)(), is_writable: is_writable(&families) };
    let mut rows = rows(&families);
    for trouble in state.troubles.all() {
        let seconds = seconds_between(trouble.since, (state.now)());
        let row = rows.entry(trouble.account).or_default();
        row.troubles.push((trouble.resource, trouble.why, seconds));
    }
    Html(page(&rows, health, now).into_string())
}

/// The state of the exporter.
#[derive(Clone, Copy)]
struct Health {
    is_ready: bool,
    is_writable: bool,
}

fn is_writable(families: &[MetricFamily]) -> bool {
    let mut is_writable = true;
    each(families, &catalog::STORE_WRITABLE, |_, _, value| is_writable = value > 0.0);
    is_writable
}

fn rows(families: &[MetricFamily]) -> BTreeMap<String, AccountRow> {
    let mut rows: BTreeMap<String, AccountRow> = BTreeMap::new();
    each(families, &catalog::ACCOUNT_INFO, |account, labels, _| {
        rows.entry(account.to_owned()).or_default().sid = labels("account_sid");
    });
    each(families, &catalog::UP, |account, _, value| {
        rows.entry(account.to_owned()).or_default().up = Some(value);
    });
    each(families, &catalog::LAST_SUCCESS, |account, _, value| {
        rows.entry(account.to_owned()).or_default().last_success = Some(value);
    });
    each(families, &catalog::SETTLING_OVERDUE, |account, _, value| {
        rows.entry(account.to_owned()).or_default().overdue = value;
    });
    each(families, &catalog::CATCHING_UP, |account, _, value| {
        rows.entry(account.to_owned()).or_default().catching_up = value;
    });
    each(families, &catalog::CALLS_UNREADABLE, |account, _, value| {
        rows.entry(account.to_owned()).or_default().unreadable = value;
    });
    rows
}

fn each(
    families: &[MetricFamily],
    wanted: &Family,
    mut visit: impl FnMut(&str, &dyn Fn(&str) -> String, f64),
) {
    let metrics = families.iter().filter(|family| family.name() == wanted.name);
    for metric in metrics.flat_map(MetricFamily::get_metric) {
        let label = |name: &str| {
            let pair = metric.get_label().iter().find(|pair| pair.name() == name);
            pair.map(|pair| pair.value().to_owned()).unwrap_or_default()
        };
        visit(&label("account"), &label, metric.get_gauge().get_value());
    }
}

fn page(rows: &BTreeMap<String, AccountRow>, health: Health, now: f64) -> Markup {
    let body = html! {
        h1 { "twilio-call-exporter " (env!("CARGO_PKG_VERSION")) }
        p { "Twilio Call Events as Prometheus metrics." }
        @if !health.is_ready {
            p.bad { "A poll loop has stopped advancing, or the store's files were removed: see the log." }
        }
        @if !health.is_writable {
            p.bad {
                "The store can't be written, and polling is paused. Is the disk full, or \
                 were the files removed? See the log."
            }
        }
        ul {
            li { a href="failures" { "Failures" } ": the most recent failing requests" }
            li { a href="metrics" { "Metrics" } }
            li { a href="-/healthy" { "Health" } ", " a href="-/ready" { "readiness" } }
        }
        table {
            thead {
                tr {
                    th { "Account" } th { "SID" } th { "Lists" }
                    th { "Last read" } th { "Settling reads" }
                }
            }
            tbody {
                @for (account, row) in rows { (account_row(account, row, now)) }
                @if rows.is_empty() { tr { td colspan="5" { "No accounts yet." } } }
            }
        }
    };
    frame("twilio-call-exporter", &body)
}

/// Returns the display name of a resource.
fn display_name(resource: &str) -> &str {
    match resource {
        "calls" => "lists of calls",
        "call" => "individual calls",
        "call_events" => "Call Events",
        "accounts" => "subaccounts",
        other => other,
    }
}

fn account_row(account: &str, row: &AccountRow, now: f64) -> Markup {
    html! {
        tr {
            td data-label="Account" { (account) }
            td.sid data-label="SID" { (row.sid) }
            td data-label="Lists" {
                @match row.up {
                    None => "not polled yet",
                    Some(up) if up > 0.0 => "readable",
                    Some(_) => { span.bad { "not readable" } },
                }
            }
            td data-label="Last read" {
                @match row.last_success {
                    None => "never",
                    Some(at) => { (age(now - at)) " ago" },
                }
            }
            td data-label="Settling reads" {
                @if row.overdue > 0.0 { (age(row.overdue)) " overdue" } @else { "on time" }
                @if row.catching_up > 0.0 { ", catching up" }
                @if row.unreadable == 1.0 { ", " span.bad { "1 call can't be read" } }
                @if row.unreadable > 1.0 {
                    ", " span.bad { (row.unreadable) " calls can't be read" }
                }
            }
        }
        @for (resource, why, seconds) in &row.troubles {
            tr { td.bad colspan="5" {
                (account) ": " (display_name(resource)) " have been unreadable for " (age(*seconds)) ": " (why)
            } }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accounts_show_their_health_and_escaped_names() {
        let row = AccountRow {
            sid: "AC1".to_owned(),
            up: Some(0.0),
            last_success: Some(40.0),
            overdue: 130.0,
            catching_up: 1.0,
            unreadable: 2.0,
            troubles: vec![("call_events", "refused: <b>ask".to_owned(), 300.0)],
        };
        let rows = BTreeMap::from([("<b>prod</b>".to_owned(), row)]);
        let text = page(&rows, HEALTHY, 100.0).into_string();
        for expected in [
            "&lt;b&gt;prod",
            "not readable",
            "60 s ago",
            "2 min overdue, catching up, <span class=\"bad\">2 calls can't be read</span>",
            "&lt;/b&gt;: Call Events have been unreadable for 5 min: refused: &lt;b&gt;ask",
        ] {
            assert!(text.contains(expected), "{expected} in {text}");
        }
        assert!(!text.contains("<b>prod"));
    }

    #[test]
    fn shows_problems_of_the_whole_program() {
        let text = |health| page(&BTreeMap::new(), health, 0.0).into_string();
        let stopped = Health { is_ready: false, ..HEALTHY };
        let full = Health { is_writable: false, ..HEALTHY };
        for (health, expected) in [(stopped, "stopped advancing"), (full, "can't be written")] {
            assert!(text(health).contains(expected));
            assert!(!text(HEALTHY).contains(expected));
        }
    }

    const HEALTHY: Health = Health { is_ready: true, is_writable: true };
}
