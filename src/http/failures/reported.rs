//! The section of `/failures` for entries of Twilio's error log that no Call Event has confirmed yet.

use jiff::Timestamp;
use maud::{Markup, html};

use crate::domain::track::twilio_time::seconds_between;
use crate::domain::words::error_log::ErrorCode;
use crate::store::failures::RecentReport;

use super::super::pages::age;
use super::page::console;

/// Returns the section, which is empty if there are no entries.
pub(super) fn section(reported: &[RecentReport], now: Timestamp) -> Markup {
    html! {
        @if !reported.is_empty() {
            h2 { "Reported by Twilio's error log" }
            p.quiet {
                "Errors and warnings only; they usually appear within about a minute. An entry disappears once the Call Event of its request is counted."
            }
            table {
                thead {
                    tr {
                        th { "Time (UTC)" } th { "Account" } th { "Host" } th { "Route" }
                        th { "Error" } th { "Level" } th { "Call" }
                    }
                }
                tbody {
                    @for report in reported { (row(report, now)) }
                }
            }
        }
    }
}

fn row(report: &RecentReport, now: Timestamp) -> Markup {
    html! {
        tr {
            td.fixed data-label="Time" {
                time datetime=(report.at) { (report.at.strftime("%Y-%m-%d %H:%M:%S")) }
                " "
                span.age { (age(seconds_between(report.at, now))) " ago" }
            }
            td data-label="Account" { (report.account) }
            td data-label="Host" { (report.endpoint.host) }
            td data-label="Route" { (report.endpoint.route) }
            td data-label="Error" { (error(report.code)) }
            td.fixed data-label="Level" { (report.level) }
            td.sid.call data-label="Call" {
                @if let Some(call_sid) = report.call_sid {
                    a href=(console(call_sid, &report.region)) rel="noreferrer noopener" { (call_sid) }
                }
            }
        }
    }
}

/// Returns the code with its meaning and a link to Twilio's documentation.
fn error(code: ErrorCode) -> Markup {
    html! {
        @if let ErrorCode::Number(number) = code {
            a.bad href={ "https://www.twilio.com/docs/api/errors/" (number) } rel="noreferrer noopener" { (number) }
        } @else {
            "unknown"
        }
        @if let Some(meaning) = code.meaning() {
            " "
            span.detail { (meaning) }
        }
    }
}
