//! Each family of the catalogue is used by an alert, or there is a reason why not.

use std::collections::{BTreeMap, BTreeSet};

use twilio_call_exporter::metrics::catalog;

use super::read;
use crate::promql;

/// Families that no alert uses, with the reasons.
const UNREAD: [(&str, &str); 22] = [
    ("twilio_exporter_error_log_entries_total", "rejected and ignored entries need no action"),
    ("twilio_twiml_warnings_total", "Twilio continues the call"),
    ("twilio_call_api_requests_total", "the application sees these responses itself"),
    ("twilio_calls_active", "only the application knows how many are too many"),
    ("twilio_exporter_poll_interval_seconds", "a setting"),
    ("twilio_exporter_pass_duration_seconds", "settling_overdue and last_success show delays"),
    ("twilio_exporter_api_request_duration_seconds", "settling_overdue shows delays"),
    (
        "twilio_exporter_api_retries_total",
        "up, calls_unreadable and api_requests show lasting failures",
    ),
    ("twilio_exporter_api_in_flight", "bounded by api_concurrency_limit"),
    ("twilio_exporter_api_account_concurrent_requests", "exceeding its limit shows as 429"),
    ("twilio_exporter_event_lag_seconds", "the dashboards show it next to their numbers"),
    ("twilio_exporter_calls_pending", "settling_overdue shows delays"),
    ("twilio_exporter_tracked_calls", "calls_deferred counts when it reaches its limit"),
    (
        "twilio_exporter_call_events_rejected_total",
        "breaks down call_events_total{result=\"rejected\"} by reason",
    ),
    ("twilio_exporter_call_events_unjudged_total", "Twilio hides bodies where so configured"),
    ("twilio_exporter_routes_retired_total", "routes are retired by design"),
    ("twilio_exporter_clock_offset_seconds", "the exporter corrects for it"),
    (
        "twilio_exporter_pushes_total",
        "entries that aren't pushed are polled, and anyone can send pushes that are refused",
    ),
    ("twilio_exporter_http_connections_cut_total", "if a scrape fails for it, up is 0"),
    ("twilio_exporter_store_commit_duration_seconds", "settling_overdue shows delays"),
    ("twilio_exporter_store_errors_total", "while they persist, store_writable is 0"),
    ("twilio_exporter_store_size_bytes", "free space is monitored by another exporter"),
];

#[test]
fn each_family_is_used_by_an_alert_or_has_a_reason() {
    let recorded: BTreeMap<String, BTreeSet<String>> =
        read("recording").into_iter().map(|rule| (rule.record, names(&rule.expr))).collect();
    let mut reached: BTreeSet<String> =
        read("alerts").into_iter().flat_map(|rule| names(&rule.expr)).collect();
    // Follow recorded series, over any number of steps.
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
            "{}: must either be used by an alert or be listed in UNREAD",
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
