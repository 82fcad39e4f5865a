//! Every metric family, defined once: name, help, kind, labels and buckets.
//!
//! METRICS.md is generated from this module. The `process_*` metrics come from the `prometheus` crate and
//! aren't listed here.

/// The type of a metric family.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum FamilyKind {
    /// A value that only increases.
    Counter,
    /// A value that goes up and down.
    Gauge,
    /// Counts of observations by bucket, with these upper bounds.
    Histogram(&'static [f64]),
}

/// The lifetime of a family's values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lifetime {
    /// Kept in the store, never reset.
    Durable,
    /// The current state.
    Momentary,
    /// About the exporter itself, since it started.
    SinceStart,
}

/// One metric family.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Family {
    /// Name, with `_total` for counters.
    pub name: &'static str,
    /// Help text.
    pub help: &'static str,
    /// Type.
    pub kind: FamilyKind,
    /// Lifetime of its values.
    pub life: Lifetime,
    /// Label names, in the order in which values are passed.
    pub labels: &'static [&'static str],
}

/// Bucket bounds of webhook durations in seconds: callers notice the silence after 2 to 3 s, and Twilio
/// gives up after 15 s.
pub const WEBHOOK_SECONDS: &[f64] = &[0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 3.0, 5.0, 7.5, 10.0, 15.0];
/// Bucket bounds of an event's lag in seconds: from a read during the call to a day of downtime.
pub const LAG_SECONDS: &[f64] = &[
    15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 900.0, 1200.0, 1800.0, 3600.0, 7200.0, 21600.0, 86400.0,
];
/// Bucket bounds of the exporter's requests to Twilio in seconds, up to the request timeout.
pub const API_SECONDS: &[f64] = &[0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];
/// Bucket bounds of commits in seconds: an fsync takes about a millisecond, or seconds on a failing disk.
pub const COMMIT_SECONDS: &[f64] = &[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0];

macro_rules! families {
    ($($id:ident: $life:ident $kind:expr, $name:literal, [$($label:literal),*], $help:literal;)+) => {
        $(#[doc = $help] pub const $id: Family = Family {
            name: $name,
            help: $help,
            kind: $kind,
            life: Lifetime::$life,
            labels: &[$($label),*],
        };)+

        /// Every family, in the order of METRICS.md.
        pub const ALL: &[&Family] = &[$(&$id),+];
    };
}

use FamilyKind::{Counter, Gauge, Histogram};

families! {
    WEBHOOK_REQUESTS: Durable Counter, "twilio_webhook_requests_total",
        ["account", "host", "route", "kind", "code"],
        "Total number of requests Twilio made to webhooks, from Call Events, by HTTP status code (none: no response from the application).";
    WEBHOOK_DURATION: Durable Histogram(WEBHOOK_SECONDS), "twilio_webhook_request_duration_seconds",
        ["account", "host", "route", "kind"],
        "Duration of webhook requests in seconds, as measured by Twilio (request_duration of Call Events).";
    WEBHOOK_FAILURES: Durable Counter, "twilio_webhook_failures_total",
        ["account", "host", "route", "kind", "reason"],
        "Total number of failed webhook requests, by reason.";
    TWIML_RESPONSES: Durable Counter, "twilio_twiml_responses_total",
        ["account", "host", "route", "content_type"],
        "Total number of 2xx responses from the application to requests that expect TwiML, by content type. Only text/xml, application/xml and other_xml are XML.";
    TWIML_WARNINGS: Durable Counter, "twilio_twiml_warnings_total",
        ["account", "host", "route", "reason"],
        "Total number of responses that are unusual but not failures, by reason.";
    CALL_API_REQUESTS: Durable Counter, "twilio_call_api_requests_total",
        ["account", "code"],
        "Total number of requests the application made to Twilio's REST API about calls, from Call Events, by HTTP status code.";
    CALLS: Durable Counter, "twilio_calls_total",
        ["account", "direction", "status"],
        "Total number of finished calls, by direction and final status.";
    CALLS_WITH_FAILURES: Durable Counter, "twilio_calls_with_webhook_failures_total",
        ["account", "host", "route", "outcome"],
        "Total number of settled calls with a failed TwiML or media request, by outcome for the caller and by host and route of the failed request that decided it (both empty for calls that an earlier version counted by account).";
    ERROR_LOG_ENTRIES: Durable Counter, "twilio_error_log_entries_total",
        ["account", "product", "host", "route", "error_code", "level"],
        "Total number of entries in Twilio's error log, usually counted within about a minute, often long before the Call Events. Host and route are set only for voice webhooks. Do not add to twilio_webhook_failures_total: failed webhook requests are in both.";
    CALLS_ACTIVE: Momentary Gauge, "twilio_calls_active",
        ["account", "direction", "status"],
        "Number of calls that are queued, ringing or in progress, as of the last call lists.";
    ACCOUNT_INFO: Momentary Gauge, "twilio_account_info",
        ["account", "account_sid", "status"],
        "Polled accounts with their last known status at Twilio (unknown: not requested); always 1.";
    BUILD_INFO: SinceStart Gauge, "twilio_exporter_build_info",
        ["version", "os", "arch"],
        "Version and platform of the exporter; always 1.";
    UP: SinceStart Gauge, "twilio_exporter_up",
        ["account"],
        "Whether the account's last call list could be read.";
    LAST_SUCCESS: SinceStart Gauge, "twilio_exporter_last_success_timestamp_seconds",
        ["account"],
        "Unix time of the last complete read of the account's list of recent calls.";
    POLL_INTERVAL: SinceStart Gauge, "twilio_exporter_poll_interval_seconds",
        ["account"],
        "Current interval between lists of recent calls, in seconds.";
    PASS_DURATION: SinceStart Histogram(API_SECONDS), "twilio_exporter_pass_duration_seconds",
        ["account"],
        "Time taken to read a complete list of recent calls, in seconds.";
    API_REQUESTS: SinceStart Counter, "twilio_exporter_api_requests_total",
        ["account", "resource", "code"],
        "Total number of the exporter's requests to Twilio, one per attempt, by HTTP status code (none: no response).";
    API_DURATION: SinceStart Histogram(API_SECONDS), "twilio_exporter_api_request_duration_seconds",
        ["resource"],
        "Duration of the exporter's requests to Twilio in seconds, including those without a response.";
    API_RETRIES: SinceStart Counter, "twilio_exporter_api_retries_total",
        ["account", "reason"],
        "Total number of failed requests to Twilio that were retried, by reason.";
    API_CONCURRENCY_LIMIT: SinceStart Gauge, "twilio_exporter_api_concurrency_limit",
        ["account"],
        "Current limit on concurrent requests to Twilio for the account.";
    API_REQUIRED_CONCURRENCY: SinceStart Gauge, "twilio_exporter_api_required_concurrency",
        ["account"],
        "Concurrent requests needed for all planned reads of Call Events; above api.max_concurrency, early reads are skipped first.";
    API_IN_FLIGHT: SinceStart Gauge, "twilio_exporter_api_in_flight",
        ["account"],
        "Number of requests to Twilio in flight for the account.";
    API_ACCOUNT_CONCURRENT: SinceStart Gauge, "twilio_exporter_api_account_concurrent_requests",
        ["account"],
        "Concurrent requests of the whole account, including other clients' (Twilio-Concurrent-Requests header).";
    CALLS_PENDING: SinceStart Gauge, "twilio_exporter_calls_pending",
        ["account", "stage"],
        "Number of calls waiting for a read of their Call Events, by stage of the next read.";
    TRACKED_CALLS: SinceStart Gauge, "twilio_exporter_tracked_calls",
        ["account"],
        "Number of tracked calls: active, ended but not settled, or recently settled.";
    CALLS_DEFERRED: SinceStart Counter, "twilio_exporter_calls_deferred_total",
        ["account"],
        "Total number of listed calls not tracked because limits.tracked_calls was reached, counted once per list; later lists show them again.";
    SETTLING_OVERDUE: SinceStart Gauge, "twilio_exporter_settling_overdue_seconds",
        ["account"],
        "Seconds by which the most overdue settling read is late, excluding unreadable calls; 0 if none is overdue.";
    CATCHING_UP: SinceStart Gauge, "twilio_exporter_catching_up",
        ["account"],
        "Whether the account is more than 15 minutes behind (1) or not (0): its list cursor is that old, or the settling reads of at least 3 calls, and of more than a twentieth of the calls due or read on time in the last 30 minutes, are that overdue. Unreadable calls more than 30 minutes overdue don't count. An account never read before, or not for 15 minutes, starts at 1 until its lists have been read and each call that was that overdue has been tried, and for at least 65 seconds if there were such calls.";
    CALLS_UNREADABLE: SinceStart Gauge, "twilio_exporter_calls_unreadable",
        ["account"],
        "Number of ended calls not settled because reads of their Call Events keep failing (at least 3 times with other calls read in between). They are retried until given up.";
    ERROR_LOG_LAST_SUCCESS: SinceStart Gauge, "twilio_exporter_error_log_last_success_timestamp_seconds",
        ["account"],
        "Unix time of the last complete read of the account's error log; absent if the log can't be read.";
    ERROR_LOG_ITEMS: SinceStart Counter, "twilio_exporter_error_log_entries_total",
        ["account", "result"],
        "Total number of error log entries read or pushed, by result: counted, duplicate (already counted), rejected (unreadable) or ignored (of another account, or from before the account was first polled).";
    ERROR_LOG_LAG: SinceStart Histogram(LAG_SECONDS), "twilio_exporter_error_log_lag_seconds",
        ["account"],
        "Time from an error log entry's date_generated until it was counted, in seconds.";
    SKIPPED_SECONDS: SinceStart Counter, "twilio_exporter_skipped_seconds_total",
        ["account"],
        "Total number of seconds skipped because the exporter was down for longer than poll.catch_up.";
    EVENT_LAG: SinceStart Histogram(LAG_SECONDS), "twilio_exporter_event_lag_seconds",
        ["account"],
        "Time from a Call Event's date_created until it was counted, in seconds.";
    CALL_EVENTS: SinceStart Counter, "twilio_exporter_call_events_total",
        ["account", "result"],
        "Total number of items in Call Events pages, by result: counted, duplicate (already counted) or rejected.";
    CALL_EVENTS_REJECTED: SinceStart Counter, "twilio_exporter_call_events_rejected_total",
        ["account", "reason"],
        "Total number of items in Call Events pages that could not be counted, by reason; an item with invalid_duration is counted without its duration.";
    CALL_EVENTS_UNJUDGED: SinceStart Counter, "twilio_exporter_call_events_unjudged_total",
        ["account"],
        "Total number of counted TwiML responses judged by content type only, because Twilio did not show the body.";
    CALLS_REJECTED: SinceStart Counter, "twilio_exporter_calls_rejected_total",
        ["account"],
        "Total number of items in Calls pages that could not be read as calls.";
    CALL_READS: SinceStart Counter, "twilio_exporter_call_reads_total",
        ["account", "stage", "result"],
        "Total number of reads of a call's events, by stage and result: found, empty, failed (given up) or skipped (a later read was due).";
    AUDITED_CALLS: SinceStart Counter, "twilio_exporter_audited_calls_total",
        ["account"],
        "Total number of settled calls that were read again by an audit.";
    LATE_CALL_EVENTS: SinceStart Counter, "twilio_exporter_late_call_events_total",
        ["account"],
        "Total number of Call Events found only by an audit; if above 0, raise poll.settle_delay.";
    ROUTE_OVERFLOW: SinceStart Counter, "twilio_exporter_route_overflow_total",
        ["account"],
        "Total number of Call Events and error log entries counted under host, route or code other because of limits.routes_per_account or limits.series.";
    ROUTES_RETIRED: SinceStart Counter, "twilio_exporter_routes_retired_total",
        ["account"],
        "Total number of host and route pairs whose series were removed after 35 days without Call Events or error log entries.";
    CLOCK_OFFSET: SinceStart Gauge, "twilio_exporter_clock_offset_seconds",
        [],
        "Seconds by which Twilio's clock is now ahead of this machine's wall clock.";
    CONFIG_RELOADED: SinceStart Gauge, "twilio_exporter_config_last_reload_successful",
        [],
        "Whether the last loaded configuration was valid (1); if not (0), the previous one stays active.";
    PUSHES: SinceStart Counter, "twilio_exporter_pushes_total",
        ["result"],
        "Total number of requests to /push/error-log, by result: counted (now or earlier), refused (not signed for push.public_url with an account's auth token, unreadable, or larger than 1 MiB) or deferred (answered 503 so that Twilio pushes again, for example because the account has not started or the store can't be written). Absent without push.public_url.";
    HTTP_CONNECTIONS_CUT: SinceStart Counter, "twilio_exporter_http_connections_cut_total",
        [],
        "Total number of connections refused because too many were open.";
    STORE_CREATED: SinceStart Gauge, "twilio_exporter_store_created_timestamp_seconds",
        [],
        "Unix time at which the store was created.";
    STORE_COMMIT_DURATION: SinceStart Histogram(COMMIT_SECONDS), "twilio_exporter_store_commit_duration_seconds",
        [],
        "Time taken to make a batch durable, in seconds.";
    STORE_ERRORS: SinceStart Counter, "twilio_exporter_store_errors_total",
        [],
        "Total number of failed commits; polling pauses until one succeeds.";
    STORE_WRITABLE: SinceStart Gauge, "twilio_exporter_store_writable",
        [],
        "Whether the store can be written (1). While it can't (0), because the disk is full or failing or the files were removed, polling pauses.";
    STORE_SIZE: SinceStart Gauge, "twilio_exporter_store_size_bytes",
        [],
        "Size of the store's files in bytes.";
}

/// Returns the text of METRICS.md. `elsewhere` lists labels, with their values, that are defined in modules
/// not accessible from here.
pub fn markdown(elsewhere: &[(&str, Vec<&str>)]) -> String {
    let mut text = String::from(
        "# Metrics\n\n\
         Generated from `src/metrics/catalog.rs`; update with `UPDATE_GOLDEN=1 cargo test metrics_md`.\n\
         `/metrics` also has the standard `process_*` metrics.\n",
    );
    for (life, title, note) in [
        (
            Lifetime::Durable,
            "Calls and webhooks",
            "Kept in the store, so they survive restarts and crashes. They are reset only if the store is lost or restored from a backup. Imported history (`backfill`) has the same series, except for error log entries, with the label `source=\"backfill\"`, and `sampled` if only some calls were read.",
        ),
        (Lifetime::Momentary, "Current state", "Gauges, as last seen."),
        (Lifetime::SinceStart, "The exporter itself", "Since the exporter started."),
    ] {
        text.push_str(&format!("\n## {title}\n\n{note}\n\n"));
        text.push_str("| metric | type | labels | description |\n|---|---|---|---|\n");
        for family in ALL.iter().filter(|family| family.life == life) {
            let kind = match family.kind {
                Counter => "counter".to_owned(),
                Gauge => "gauge".to_owned(),
                Histogram(bounds) => {
                    let bounds: Vec<String> = bounds.iter().map(f64::to_string).collect();
                    format!("histogram: {}", bounds.join(" "))
                }
            };
            let labels: Vec<String> =
                family.labels.iter().map(|label| format!("`{label}`")).collect();
            text.push_str(&format!(
                "| `{}` | {kind} | {} | {} |\n",
                family.name,
                labels.join(", "),
                family.help
            ));
        }
    }
    text.push_str(&label_values());
    for (label, values) in elsewhere {
        text.push_str(&format!("- {label}: {}\n", list(values.iter().copied())));
    }
    text
}

fn list<'a>(values: impl Iterator<Item = &'a str>) -> String {
    values.map(|value| format!("`{value}`")).collect::<Vec<_>>().join(", ")
}

fn label_values() -> String {
    use crate::domain::engine::plan::Stage;
    use crate::domain::judge::content_type::ContentType;
    use crate::domain::judge::kind::RequestKind;
    use crate::domain::judge::observe::Rejection;
    use crate::domain::judge::verdict::{Reason, Warning};
    use crate::domain::track::outcome::Outcome;

    format!(
        "\n## Label values\n\n\
         `account` is the configured name or the Account SID, with the region appended (`AC…@ie1`) where a discovered subaccount shares its SID with one in another region.\n\
         `host` and `route` are derived from the URL. Apart from `code`, the labels below have fixed sets of values.\n\
         No label contains a Call SID, a phone number, a query or a body.\n\n\
         - `kind`, TwiML expected: {}\n\
         - `kind`, no TwiML expected: {}\n\
         - `reason` of `twilio_webhook_failures_total`: {}\n\
         - `reason` of `twilio_twiml_warnings_total`: {}\n\
         - `reason` of `twilio_exporter_call_events_rejected_total`: {}\n\
         - `content_type`: {}\n\
         - `outcome`: {}\n\
         - `stage`: {}\n\
         - `code`: the HTTP status code, or `none`; `other` for new codes once `limits.series` is reached\n",
        list(RequestKind::ALL.iter().filter(|kind| kind.expects_twiml()).map(|kind| kind.as_str())),
        list(
            RequestKind::ALL
                .iter()
                .filter(|kind| !kind.expects_twiml() && **kind != RequestKind::ApiRequest)
                .map(|kind| kind.as_str())
        ),
        list(Reason::ALL.iter().map(|reason| reason.as_str())),
        list(Warning::ALL.iter().map(|reason| reason.as_str())),
        list(Rejection::ALL.iter().map(|reason| reason.as_str())),
        list(ContentType::ALL.iter().map(|class| class.as_str())),
        list(Outcome::ALL.iter().map(|outcome| outcome.as_str())),
        list(Stage::ALL.iter().map(|stage| stage.as_str())),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_follow_the_conventions() {
        let mut names: Vec<&str> = ALL.iter().map(|family| family.name).collect();
        names.sort_unstable();
        assert!(names.windows(2).all(|pair| pair[0] != pair[1]));
        for family in ALL {
            assert_eq!(family.name.ends_with("_total"), family.kind == Counter, "{}", family.name);
            assert!(family.name.starts_with("twilio_"), "{}", family.name);
        }
    }
}
