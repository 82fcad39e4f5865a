//! The label values of each family in a fleet, and the initial values of its series.

use twilio_call_exporter::domain::engine::effects::ReadResult;
use twilio_call_exporter::domain::engine::plan::Stage;
use twilio_call_exporter::domain::engine::request::Resource;
use twilio_call_exporter::domain::judge::content_type::ContentType;
use twilio_call_exporter::domain::judge::kind::RequestKind;
use twilio_call_exporter::domain::judge::observe::Rejection;
use twilio_call_exporter::domain::judge::verdict::{Reason, Warning};
use twilio_call_exporter::domain::track::outcome::Outcome;
use twilio_call_exporter::domain::words::call::{CallStatus, Direction};
use twilio_call_exporter::metrics::catalog::{self, Family};
use twilio_call_exporter::metrics::health::{EntryResult, EventResult, PushResult};

/// All values of a label that isn't among `given`.
pub(super) fn values_of(family: &Family, label: &str, given: &[(&str, &str)]) -> Vec<&'static str> {
    let kind = given.iter().find(|(name, _)| *name == "kind");
    let kind = kind.and_then(|(_, kind)| RequestKind::from_label(kind));
    let is = |other: &Family| family.name == other.name;
    match label {
        // `code` has only values that occur; failing requests here get no response.
        "code" if is(&catalog::WEBHOOK_REQUESTS) => vec!["200", "none"],
        "code" => vec!["200"],
        "content_type" => ContentType::ALL.iter().map(|one| one.as_str()).collect(),
        "direction" => Direction::ALL.iter().map(|one| one.as_str()).collect(),
        "outcome" => Outcome::ALL.iter().map(|one| one.as_str()).collect(),
        "stage" => Stage::ALL.iter().map(|one| one.as_str()).collect(),
        "reason" if is(&catalog::TWIML_WARNINGS) => {
            Warning::ALL.iter().map(|one| one.as_str()).collect()
        }
        "reason" if is(&catalog::CALL_EVENTS_REJECTED) => {
            Rejection::ALL.iter().map(|one| one.as_str()).collect()
        }
        "reason" => match kind {
            Some(kind) => Reason::possible_for(kind).map(Reason::as_str).collect(),
            None => vec!["timeout", "server_error"],
        },
        "resource" => Resource::ALL.iter().map(|one| one.as_str()).collect(),
        "product" => vec!["voice"],
        "error_code" => vec!["11200", "11205", "11210", "11220", "12100", "12300"],
        "level" => vec!["error"],
        "result" if is(&catalog::ERROR_LOG_ITEMS) => {
            EntryResult::ALL.iter().map(|one| one.as_str()).collect()
        }
        "result" if is(&catalog::CALL_EVENTS) => {
            EventResult::ALL.iter().map(|one| one.as_str()).collect()
        }
        "result" if is(&catalog::PUSHES) => {
            PushResult::ALL.iter().map(|one| one.as_str()).collect()
        }
        "result" => ReadResult::ALL.iter().map(|one| one.as_str()).collect(),
        "status" if is(&catalog::CALLS) => vec![
            CallStatus::Completed.as_str(),
            CallStatus::Busy.as_str(),
            CallStatus::Failed.as_str(),
            CallStatus::NoAnswer.as_str(),
            CallStatus::Canceled.as_str(),
            CallStatus::Other.as_str(),
        ],
        "status" if is(&catalog::CALLS_ACTIVE) => vec![
            CallStatus::Queued.as_str(),
            CallStatus::Ringing.as_str(),
            CallStatus::InProgress.as_str(),
        ],
        "status" => vec!["active"],
        "version" | "os" | "arch" => vec!["some"],
        other => panic!("no values for the label {other} of {}", family.name),
    }
}

/// The value that a healthy exporter shows before it has counted anything.
pub(super) fn first_value(name: &str) -> f64 {
    let ones = [
        &catalog::ACCOUNT_INFO,
        &catalog::BUILD_INFO,
        &catalog::UP,
        &catalog::CONFIG_RELOADED,
        &catalog::STORE_WRITABLE,
    ];
    if ones.iter().any(|family| family.name == name) {
        1.0
    } else if name == catalog::POLL_INTERVAL.name {
        30.0
    } else if name == catalog::API_CONCURRENCY_LIMIT.name {
        8.0
    } else {
        0.0
    }
}
