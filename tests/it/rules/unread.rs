//! For each family of the catalogue: an alert reads it, or there is a reason why none does.

use std::collections::{BTreeMap, BTreeSet};

use twilio_call_exporter::metrics::catalog;

use super::read;
use crate::promql;

/// Families that no alert reads, and why.
const UNREAD: [(&str, &str); 22] = [
    ("twilio_exporter_error_log_entries_total", "what is rejected or ignored is for the curious"),
    ("twilio_twiml_warnings_total", "Twilio goes on with the call"),
    ("twilio_call_api_requests_total", "the application sees these answers itself"),
    ("twilio_calls_active", "how many are many only the application knows"),
    ("twilio_exporter_poll_interval_seconds", "a setting"),
    ("twilio_exporter_pass_duration_seconds", "what is late is settling_overdue and last_success"),
    ("twilio_exporter_api_request_duration_seconds", "what is late is settling_overdue"),
    (
        "twilio_exporter_api_retries_total",
        "what stays unread is up, calls_unreadable and api_requests",
    ),
    ("twilio_exporter_api_in_flight", "bounded by api_concurrency_limit"),
    ("twilio_exporter_api_account_concurrent_requests", "its limit shows as 429"),
    ("twilio_exporter_event_lag_seconds", "every page says it beside its numbers"),
    ("twilio_exporter_calls_pending", "what is late of it is settling_overdue"),
    ("twilio_exporter_tracked_calls", "at its limit, calls_deferred counts"),
    (
        "twilio_exporter_call_events_rejected_total",
        "the reasons of call_events_total{result=\"rejected\"}",
    ),
    ("twilio_exporter_call_events_unjudged_total", "Twilio hides bodies where it was told to"),
    ("twilio_exporter_routes_retired_total", "they are meant to go"),
    ("twilio_exporter_clock_offset_seconds", "the exporter allows for it"),
    (
        "twilio_exporter_pushes_total",
        "what is not pushed is polled, and anyone can send what is refused",
    ),
    ("twilio_exporter_http_connections_cut_total", "a scrape that fails for it is up"),
    ("twilio_exporter_store_commit_duration_seconds", "what is late is settling_overdue"),
    ("twilio_exporter_store_errors_total", "while they go on, store_writable is 0"),
    ("twilio_exporter_store_size_bytes", "what is left is known to the disk's own exporter"),
];

#[test]
fn each_family_is_read_by_an_alert_or_has_a_reason() {
    let recorded: BTreeMap<String, BTreeSet<String>> =
        read("recording").into_iter().map(|rule| (rule.record, names(&rule.expr))).collect();
    let mut reached: BTreeSet<String> =
        read("alerts").into_iter().flat_map(|rule| names(&rule.expr)).collect();
    // Through recorded series, however many.
    loop {
        let next: BTreeSet<String> = reached
            .iter()
            .filter_map(|name| recorded.get(name))
            .flatten()
            .filter(|name| !reached.contains(*name))
            .cloned()
            .collect();
        if next.is_empty() {
            break;
        }
        reached.extend(next);
    }
    let is_read = |family: &str| {
        reached.iter().any(|name| promql::family(name).is_some_and(|found| found.name == family))
    };
    let unread: BTreeMap<&str, &str> = UNREAD.into_iter().collect();
    for family in catalog::ALL {
        assert_ne!(
            is_read(family.name),
            unread.contains_key(family.name),
            "{}: either an alert reads it, or UNREAD says why none does",
            family.name
        );
    }
    for name in unread.keys() {
        let is_known = catalog::ALL.iter().any(|family| family.name == *name);
        assert!(is_known, "{name} isn't in the catalogue");
    }
}

fn names(expr: &str) -> BTreeSet<String> {
    promql::read(expr).selectors.into_iter().map(|selector| selector.name).collect()
}
