//! Every metric family, defined once: name, help, kind, labels and buckets.
//!
//! METRICS.md is generated from here. The process metrics (`process_*`) are the `prometheus`
//! crate's own and not listed.

/// What a family is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum FamilyKind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Counts by upper bound.
    Histogram(&'static [f64]),
}

/// How long a family's values live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Life {
    /// Kept in the store, never reset.
    Durable,
    /// What is the case now.
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
    /// What it is.
    pub kind: FamilyKind,
    /// How long its values live.
    pub life: Life,
    /// Label names, in the order in which values are given.
    pub labels: &'static [&'static str],
}

/// Bounds of webhook durations in seconds: 2 and 3 s are where callers notice the silence, 15 s is
/// where Twilio gives up.
pub const WEBHOOK_SECONDS: &[f64] = &[0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 3.0, 5.0, 7.5, 10.0, 15.0];
/// Bounds of an event's lateness in seconds: from a live read up to a day of downtime.
pub const LAG_SECONDS: &[f64] = &[
    15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 900.0, 1200.0, 1800.0, 3600.0, 7200.0, 21600.0, 86400.0,
];
/// Bounds of our own requests to Twilio in seconds, up to the request timeout.
pub const API_SECONDS: &[f64] = &[0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];
/// Bounds of a commit in seconds: an fsync takes from a millisecond to, on a sick disk, many.
pub const COMMIT_SECONDS: &[f64] = &[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0];

macro_rules! families {
    ($($id:ident: $life:ident $kind:expr, $name:literal, [$($label:literal),*], $help:literal;)+) => {
        $(#[doc = $help] pub const $id: Family = Family {
            name: $name,
            help: $help,
            kind: $kind,
            life: Life::$life,
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
        "Requests that Twilio made to webhooks, from Call Events, by the HTTP status of the answer (none: no answer from the application).";
    WEBHOOK_DURATION: Durable Histogram(WEBHOOK_SECONDS), "twilio_webhook_request_duration_seconds",
        ["account", "host", "route", "kind"],
        "How long webhook requests took, as Twilio measured it (request_duration of Call Events).";
    WEBHOOK_FAILURES: Durable Counter, "twilio_webhook_failures_total",
        ["account", "host", "route", "kind", "reason"],
        "Webhook requests that failed, by reason.";
    TWIML_RESPONSES: Durable Counter, "twilio_twiml_responses_total",
        ["account", "host", "route", "content_type"],
        "Genuine 2xx answers to requests that expect TwiML, by content type. All but text/xml, application/xml and other_xml are non-XML.";
    TWIML_WARNINGS: Durable Counter, "twilio_twiml_warnings_total",
        ["account", "host", "route", "reason"],
        "Answers that are odd without being failures, by reason.";
    CALL_API_REQUESTS: Durable Counter, "twilio_call_api_requests_total",
        ["account", "code"],
        "Requests of the customer to Twilio's REST API about calls, from Call Events.";
    CALLS: Durable Counter, "twilio_calls_total",
        ["account", "direction", "status"],
        "Calls that have finished, by direction and final status.";
    CALLS_WITH_FAILURES: Durable Counter, "twilio_calls_with_webhook_failures_total",
        ["account", "host", "route", "outcome"],
        "Settled calls with at least one failed TwiML or media request, by what callers felt and by the host and route of the failing request that decided it (both empty for calls that an earlier version counted by account).";
    ERROR_LOG_ENTRIES: Durable Counter, "twilio_error_log_entries_total",
        ["account", "product", "host", "route", "error_code", "level"],
        "Entries of Twilio's error log, known within about a minute and long before Call Events. Host and route are those of voice webhooks, else empty. Never add these to twilio_webhook_failures_total: a failing webhook is in both.";
    CALLS_ACTIVE: Momentary Gauge, "twilio_calls_active",
        ["account", "direction", "status"],
        "Calls that are queued, ringing or in progress, as the lists last showed them.";
    ACCOUNT_INFO: Momentary Gauge, "twilio_account_info",
        ["account", "account_sid", "status"],
        "The accounts that are polled, with the status that Twilio last told (unknown: not asked); always 1.";
    BUILD_INFO: SinceStart Gauge, "twilio_exporter_build_info",
        ["version", "os", "arch"],
        "The running version; always 1.";
    UP: SinceStart Gauge, "twilio_exporter_up",
        ["account"],
        "Whether the account's last list of calls could be read.";
    LAST_SUCCESS: SinceStart Gauge, "twilio_exporter_last_success_timestamp_seconds",
        ["account"],
        "When the account's list of recent calls was last read to its end.";
    POLL_INTERVAL: SinceStart Gauge, "twilio_exporter_poll_interval_seconds",
        ["account"],
        "Time between two lists of recent calls, as in force now.";
    PASS_DURATION: SinceStart Histogram(API_SECONDS), "twilio_exporter_pass_duration_seconds",
        ["account"],
        "How long it took to read a list of recent calls to its end.";
    API_REQUESTS: SinceStart Counter, "twilio_exporter_api_requests_total",
        ["account", "resource", "code"],
        "Requests of the exporter to Twilio, one per attempt (none: no answer).";
    API_DURATION: SinceStart Histogram(API_SECONDS), "twilio_exporter_api_request_duration_seconds",
        ["resource"],
        "How long the exporter's requests to Twilio took, answered or not.";
    API_RETRIES: SinceStart Counter, "twilio_exporter_api_retries_total",
        ["account", "reason"],
        "Failed requests of the exporter to Twilio that are tried again, by reason.";
    API_CONCURRENCY_LIMIT: SinceStart Gauge, "twilio_exporter_api_concurrency_limit",
        ["account"],
        "How many requests to Twilio may be in flight for the account now.";
    API_REQUIRED_CONCURRENCY: SinceStart Gauge, "twilio_exporter_api_required_concurrency",
        ["account"],
        "Concurrent requests that all planned reads of Call Events need; above api.max_concurrency, early reads are skipped first.";
    API_IN_FLIGHT: SinceStart Gauge, "twilio_exporter_api_in_flight",
        ["account"],
        "How many requests to Twilio are in flight for the account.";
    API_ACCOUNT_CONCURRENT: SinceStart Gauge, "twilio_exporter_api_account_concurrent_requests",
        ["account"],
        "Concurrent requests of the whole account, others than the exporter's included (Twilio-Concurrent-Requests header).";
    CALLS_PENDING: SinceStart Gauge, "twilio_exporter_calls_pending",
        ["account", "stage"],
        "Calls that wait for a read of their Call Events, by the stage of the next read.";
    TRACKED_CALLS: SinceStart Gauge, "twilio_exporter_tracked_calls",
        ["account"],
        "Calls that are tracked: active, ended and not settled, or recently settled.";
    CALLS_DEFERRED: SinceStart Counter, "twilio_exporter_calls_deferred_total",
        ["account"],
        "Calls that a list showed while limits.tracked_calls was reached, once per list; they are found again later.";
    SETTLING_OVERDUE: SinceStart Gauge, "twilio_exporter_settling_overdue_seconds",
        ["account"],
        "How long the most overdue settling read is overdue, unreadable calls apart; 0: nothing is.";
    CATCHING_UP: SinceStart Gauge, "twilio_exporter_catching_up",
        ["account"],
        "1 while the account is more than 15 minutes behind: its list cursor lies that far back, or the settling reads of at least 3 calls, and of more than a twentieth of the calls that are due or were read on time in the last 30 minutes, are that overdue. Unreadable calls that are more than 30 minutes overdue don't count. An account that was never read, or not for 15 minutes, starts at 1 until its lists are read and each call among them that is so overdue was tried, and for at least 65 seconds if there are such calls.";
    CALLS_UNREADABLE: SinceStart Gauge, "twilio_exporter_calls_unreadable",
        ["account"],
        "Ended calls that aren't settled because reads of their Call Events keep failing, 3 times or more with other calls read in between. They are tried again until they are given up.";
    ERROR_LOG_LAST_SUCCESS: SinceStart Gauge, "twilio_exporter_error_log_last_success_timestamp_seconds",
        ["account"],
        "When the account's error log was last read to its end; absent where it can't be read.";
    ERROR_LOG_ITEMS: SinceStart Counter, "twilio_exporter_error_log_entries_total",
        ["account", "result"],
        "Entries of pages of the error log: counted, duplicate (counted before), rejected (not readable) or ignored (of another account, or from before the account was first polled).";
    ERROR_LOG_LAG: SinceStart Histogram(LAG_SECONDS), "twilio_exporter_error_log_lag_seconds",
        ["account"],
        "How late entries of the error log were counted, from their date_generated.";
    SKIPPED_SECONDS: SinceStart Counter, "twilio_exporter_skipped_seconds_total",
        ["account"],
        "Time cut off because the exporter was down for longer than poll.catch_up.";
    EVENT_LAG: SinceStart Histogram(LAG_SECONDS), "twilio_exporter_event_lag_seconds",
        ["account"],
        "How late Call Events were counted, from their date_created.";
    CALL_EVENTS: SinceStart Counter, "twilio_exporter_call_events_total",
        ["account", "result"],
        "Items of Call Events pages: counted, duplicate (counted before) or rejected.";
    CALL_EVENTS_REJECTED: SinceStart Counter, "twilio_exporter_call_events_rejected_total",
        ["account", "reason"],
        "Items of Call Events pages that could not be counted, by reason; with invalid_duration the item is counted, without its duration.";
    CALL_EVENTS_UNJUDGED: SinceStart Counter, "twilio_exporter_call_events_unjudged_total",
        ["account"],
        "Counted TwiML answers whose body Twilio did not show, so that only the content type was judged.";
    CALLS_REJECTED: SinceStart Counter, "twilio_exporter_calls_rejected_total",
        ["account"],
        "Items of Calls pages that are no readable call.";
    CALL_READS: SinceStart Counter, "twilio_exporter_call_reads_total",
        ["account", "stage", "result"],
        "Reads of a call's events: found, empty, failed (given up) or skipped (a later read was due).";
    AUDITED_CALLS: SinceStart Counter, "twilio_exporter_audited_calls_total",
        ["account"],
        "Settled calls that were read once more.";
    LATE_CALL_EVENTS: SinceStart Counter, "twilio_exporter_late_call_events_total",
        ["account"],
        "Call Events that only an audit found; above 0, raise poll.settle_delay.";
    ROUTE_OVERFLOW: SinceStart Counter, "twilio_exporter_route_overflow_total",
        ["account"],
        "Call Events counted under host other, route other, or under code other, because of limits.routes_per_account or limits.series.";
    ROUTES_RETIRED: SinceStart Counter, "twilio_exporter_routes_retired_total",
        ["account"],
        "Pairs of host and route whose series went because they had no Call Event for 35 days.";
    CLOCK_OFFSET: SinceStart Gauge, "twilio_exporter_clock_offset_seconds",
        [],
        "How far Twilio's clock is ahead of this machine's wall clock now, in seconds.";
    CONFIG_RELOADED: SinceStart Gauge, "twilio_exporter_config_last_reload_successful",
        [],
        "Whether the configuration that was loaded last was valid (1); if it wasn't (0), the one before is in force.";
    PUSHES: SinceStart Counter, "twilio_exporter_pushes_total",
        ["result"],
        "Requests to /push/error-log by result: counted (now or before), refused (not signed for push.public_url with an account's auth token, or larger than 1 MiB) or deferred (answered 503 so that Twilio pushes again: the account has not started yet, or the store can't be written). Absent without push.public_url.";
    HTTP_CONNECTIONS_CUT: SinceStart Counter, "twilio_exporter_http_connections_cut_total",
        [],
        "Connections that were cut off to make room for others: too many, or too slow to take their answers.";
    STORE_CREATED: SinceStart Gauge, "twilio_exporter_store_created_timestamp_seconds",
        [],
        "When the store was created.";
    STORE_COMMIT_DURATION: SinceStart Histogram(COMMIT_SECONDS), "twilio_exporter_store_commit_duration_seconds",
        [],
        "How long it took to make a batch durable.";
    STORE_ERRORS: SinceStart Counter, "twilio_exporter_store_errors_total",
        [],
        "Commits that failed; polling pauses until one succeeds.";
    STORE_WRITABLE: SinceStart Gauge, "twilio_exporter_store_writable",
        [],
        "Whether the store can be written (1); while it can't (0), because the disk is full or fails or the files were removed, polling pauses.";
    STORE_SIZE: SinceStart Gauge, "twilio_exporter_store_size_bytes",
        [],
        "Size of the store's files.";
}

/// METRICS.md: the catalogue as a document. `elsewhere` has the label sets that are defined where this
/// can't look: a label, and its values.
pub fn markdown(elsewhere: &[(&str, Vec<&str>)]) -> String {
    let mut text = String::from(
        "# Metrics\n\n\
         Generated from `src/metrics/catalog.rs`; `UPDATE_GOLDEN=1 cargo test metrics_md` writes it anew.\n\
         Beside these, `/metrics` has the usual `process_*` families.\n",
    );
    for (life, title, note) in [
        (
            Life::Durable,
            "Calls and webhooks",
            "Kept in the store: they go on over restarts and crashes, and are never reset.",
        ),
        (Life::Momentary, "What is the case now", "Gauges, as last seen."),
        (Life::SinceStart, "The exporter itself", "Since the exporter started."),
    ] {
        text.push_str(&format!("\n## {title}\n\n{note}\n\n"));
        text.push_str("| family | kind | labels | meaning |\n|---|---|---|---|\n");
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
         Closed sets; `account` is the configured name or the Account SID (with the region, where a discovered subaccount has it in common with one of another region: `AC…@ie1`), `host` and `route` are cut from the URL.\n\
         No label ever holds a Call SID, a phone number, a query or a body.\n\n\
         - `kind`, TwiML expected: {}\n\
         - `kind`, no TwiML expected: {}\n\
         - `reason` of `twilio_webhook_failures_total`: {}\n\
         - `reason` of `twilio_twiml_warnings_total`: {}\n\
         - `reason` of `twilio_exporter_call_events_rejected_total`: {}\n\
         - `content_type`: {}\n\
         - `outcome`: {}\n\
         - `stage`: {}\n\
         - `code`: the HTTP status, or `none`; `other` for codes that came when limits.series was reached\n",
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
    fn names_are_unique_and_say_what_they_are() {
        let mut names: Vec<&str> = ALL.iter().map(|family| family.name).collect();
        names.sort_unstable();
        assert!(names.windows(2).all(|pair| pair[0] != pair[1]));
        for family in ALL {
            assert_eq!(family.name.ends_with("_total"), family.kind == Counter, "{}", family.name);
            assert!(family.name.starts_with("twilio_"), "{}", family.name);
        }
    }
}
