//! The documentation agrees with the code.

use std::path::Path;

use twilio_call_exporter::domain::engine::effects::ReadResult;
use twilio_call_exporter::domain::engine::failure::FailureReason;
use twilio_call_exporter::domain::engine::failure::retry_reasons;
use twilio_call_exporter::domain::engine::request::Resource;
use twilio_call_exporter::metrics::catalog;
use twilio_call_exporter::metrics::health::{EventResult, PushResult};

#[test]
fn metrics_md_matches_the_catalogue() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("METRICS.md");
    let values = |all: &mut dyn Iterator<Item = &'static str>| all.collect::<Vec<_>>();
    let expected = catalog::markdown(&[
        (
            "`result` of `twilio_exporter_call_events_total`",
            values(&mut EventResult::ALL.iter().map(|result| result.as_str())),
        ),
        (
            "`result` of `twilio_exporter_call_reads_total`",
            values(&mut ReadResult::ALL.iter().map(|result| result.as_str())),
        ),
        (
            "`result` of `twilio_exporter_pushes_total`",
            values(&mut PushResult::ALL.iter().map(|result| result.as_str())),
        ),
        ("`resource`", values(&mut Resource::ALL.iter().map(|resource| resource.as_str()))),
        ("`reason` of `twilio_exporter_api_retries_total`", retry_reasons().into_iter().collect()),
    ]);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, &expected).expect("written");
    }
    let found = std::fs::read_to_string(&path).expect("METRICS.md");
    assert!(found == expected, "METRICS.md is stale: run UPDATE_GOLDEN=1 cargo test metrics_md");
}

#[test]
fn the_readme_names_only_existing_metrics() {
    let readme = include_str!("../../README.md");
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let mut named = 0;
    for word in readme.split(|c| !is_name(c)).filter(|word| {
        word.starts_with("twilio_")
            && !word.starts_with("twilio_call_exporter")
            && *word != "twilio_auth"
    }) {
        let known = catalog::ALL.iter().any(|family| {
            let rest = word.strip_prefix(family.name);
            rest.is_some_and(|rest| matches!(rest, "" | "_bucket" | "_sum" | "_count"))
        });
        assert!(known, "`{word}` in README.md isn't a metric");
        named += 1;
    }
    assert!(named > 5, "README.md names only {named} metrics");
}

#[test]
fn the_readme_names_every_flag() {
    let readme = include_str!("../../README.md");
    let help = crate::harness::run(&["--help"], &[]).stdout;
    let flags = help.split_whitespace().filter(|word| word.starts_with("--"));
    for flag in flags
        .map(|flag| flag.trim_matches(|c: char| !c.is_ascii_alphanumeric() && c != '-' && c != '.'))
    {
        assert!(readme.contains(flag) || flag == "--help", "README.md doesn't mention `{flag}`");
    }
}

#[test]
fn the_runbooks_explain_each_failure_reason() {
    let runbooks = include_str!("../../config/prometheus/runbooks.md");
    let (_, section) = runbooks.split_once("### Why Twilio can't be read").expect("a section");
    let section = section.split("\n## ").next().expect("a section");
    for reason in FailureReason::ALL {
        let row = format!("`{}`", reason.as_str());
        let mut rows = section.lines().filter(|line| line.starts_with("| `"));
        assert!(rows.any(|line| line.contains(&row)), "the runbooks don't explain {row}");
    }
}
