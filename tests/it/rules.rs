//! Checks recording and alerting rules against mixin conventions, the catalogue, the runbooks and their
//! own tests. promtool tests their behaviour, in `judged`.

mod judged;
mod unread;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use serde::Deserialize;

use crate::promql;

/// The folder of the rules.
pub(crate) const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/config/prometheus");
/// The folder of their tests.
pub(crate) const TESTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/rules");

/// The expression that excludes failures counted late.
const NOT_LATE: &str = "unless ignoring (host, route) job_account:twilio_counting_late:present";
/// The labels that can change between successive targets of one exporter.
const TARGETS: [&str; 5] = ["instance", "pod", "container", "endpoint", "service"];
/// Alerts about failed requests, which link to the failures page.
const LINKED: [&str; 11] = [
    "TwilioWebhookErrorsReported",
    "TwilioStrayErrorsReported",
    "TwilioManyHostsFailing",
    "TwilioHostFailing",
    "TwilioWebhookFailing",
    "TwilioCallersCutOff",
    "TwilioWebhookErrorBudgetBurnSlow",
    "TwilioFailuresCountedLate",
    "TwilioTwimlNotXml",
    "TwilioCallbacksFailing",
    "TwilioPagesHeldBack",
];
/// Names and contents of the rule files, unchanged, for a Prometheus to load.
pub(crate) fn files() -> Vec<(&'static str, String)> {
    ["thresholds.rules.yml", "recording.rules.yml", "alerts.rules.yml"]
        .map(|name| (name, fs::read_to_string(format!("{FOLDER}/{name}")).expect(name)))
        .into()
}

#[derive(Deserialize)]
struct File {
    groups: Vec<Group>,
}

#[derive(Deserialize)]
struct Group {
    rules: Vec<Rule>,
}

#[derive(Deserialize)]
struct Rule {
    #[serde(default)]
    record: String,
    #[serde(default)]
    alert: String,
    expr: String,
    #[serde(default, rename = "for")]
    wait: String,
    #[serde(default)]
    labels: BTreeMap<String, String>,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
}

fn read(name: &str) -> Vec<Rule> {
    let text = fs::read_to_string(format!("{FOLDER}/{name}.rules.yml")).expect(name);
    let file: File = serde_saphyr::from_str(&text).expect(name);
    file.groups.into_iter().flat_map(|group| group.rules).collect()
}

fn alerts() -> Vec<Rule> {
    read("alerts").into_iter().filter(|rule| !rule.alert.is_empty()).collect()
}

/// The names of all recorded series.
pub(crate) fn recorded() -> Vec<String> {
    let all = [read("thresholds"), read("recording"), read("alerts")];
    all.into_iter().flatten().map(|rule| rule.record).filter(|name| !name.is_empty()).collect()
}

/// The expressions of all rules.
pub(crate) fn expressions() -> Vec<String> {
    let all = [read("thresholds"), read("recording"), read("alerts")];
    all.into_iter().flatten().map(|rule| rule.expr).collect()
}

#[test]
fn rules_use_only_existing_series_and_labels() {
    let recorded = recorded();
    for rule in [read("thresholds"), read("recording"), read("alerts")].into_iter().flatten() {
        let name = if rule.alert.is_empty() { &rule.record } else { &rule.alert };
        if name == "TwilioThresholdsMissing" {
            continue;
        }
        promql::assert_is_known(name, &rule.expr, &recorded);
        // A bucket bound is 3 or 3.0, depending on the version of Prometheus.
        for selector in promql::read(&rule.expr).selectors {
            for (label, operator, value) in selector.matchers {
                assert!(
                    label != "le" || (operator == "=~" && value.ends_with("([.]0)?")),
                    "{name}: le{operator}{value}"
                );
            }
        }
    }
}

#[test]
fn alerts_follow_mixin_conventions() {
    let names: BTreeSet<String> = alerts().into_iter().map(|rule| rule.alert).collect();
    assert_eq!(names.len(), alerts().len(), "alert names must be unique");
    for rule in alerts() {
        let name = &rule.alert;
        assert!(name.starts_with("Twilio"), "{name}");
        assert!(["critical", "warning"].contains(&rule.labels["severity"].as_str()), "{name}");
        assert!(
            ["webhooks", "calls", "exporter"].contains(&rule.labels["component"].as_str()),
            "{name}"
        );
        let annotation = |key: &str| rule.annotations.get(key).map_or("", String::as_str);
        let summary = annotation("summary");
        assert!(
            summary.ends_with('.') && !summary.contains("{{"),
            "{name}: not a static sentence: {summary}"
        );
        assert!(annotation("description").len() > 40, "{name}");
        let runbook = format!("#{}{{{{ end }}}}", name.to_lowercase());
        assert!(
            annotation("runbook_url").contains(&runbook),
            "{name}: {}",
            annotation("runbook_url")
        );
        let dashboard = annotation("dashboard_url").split("/d/").nth(1).expect(name);
        let uid = dashboard.split(['?', '{']).next().expect(name);
        assert!(crate::dashboards::all().iter().any(|one| one.uid == uid), "{name}: {uid}");
        for key in ["failures_url", "dashboard_url", "runbook_url"] {
            assert!(!annotation(key).contains("localhost"), "{name}: {key} has a placeholder");
        }
        // Every label in a link is escaped.
        for key in ["failures_url", "dashboard_url"] {
            for template in annotation(key).split("{{ $labels.").skip(1) {
                assert!(
                    template.split("}}").next().is_some_and(|one| one.ends_with("| urlquery ")),
                    "{name}: {key}"
                );
            }
        }
        assert_eq!(!annotation("failures_url").is_empty(), LINKED.contains(&&**name), "{name}");
        if rule.labels["severity"] == "critical" && rule.labels["component"] == "webhooks" {
            assert!(
                rule.expr.contains("twilio_webhook_failing:present")
                    || rule.expr.contains("twilio_failing_together:present")
                    || rule.expr.contains("twilio_errors_reported:present")
                    || rule.expr.contains(NOT_LATE),
                "{name} pages for failures counted late"
            );
        }
        let waits = rule.wait.strip_suffix('m').and_then(|minutes| minutes.parse::<u64>().ok());
        assert!(
            rule.labels["severity"] != "warning" || waits >= Some(5),
            "{name}: a warning must wait 5 minutes for the page that inhibits it: {waits:?}"
        );
    }
}

#[test]
fn failures_counted_late_do_not_page() {
    let failing: Vec<Rule> = read("recording")
        .into_iter()
        .filter(|rule| rule.record.ends_with(":twilio_webhook_failing:present"))
        .collect();
    assert_eq!(failing.len(), 2, "one rule for routes and one for hosts");
    for rule in failing {
        let failures = rule.expr.matches("twilio_caller_facing_failures:increase").count();
        assert!(failures > 2 && rule.expr.contains(NOT_LATE), "{}", rule.record);
    }
}

#[test]
fn pages_from_the_error_log_consider_its_lag() {
    let rules = read("alerts");
    let name = "job_account_host_route:twilio_errors_reported:present";
    let rule = rules.iter().find(|rule| rule.record == name).expect(name);
    assert!(rule.expr.contains("twilio_exporter_error_log_lag_seconds_bucket"), "{}", rule.expr);
}

#[test]
fn target_labels_are_the_same_in_all_rules() {
    let mut seen = 0;
    for rule in [read("recording"), read("alerts")].into_iter().flatten() {
        for labels in rule.expr.split("without (").skip(1) {
            let (labels, _) = labels.split_once(')').expect("a bracket");
            let labels: Vec<&str> = labels.split(", ").collect();
            if labels.contains(&"instance") {
                assert_eq!(labels[..5], TARGETS, "{}{}", rule.record, rule.alert);
                seen += 1;
            }
        }
    }
    assert!(seen > 30, "{seen}");
}

#[test]
fn alerts_and_runbooks_match() {
    let runbooks = fs::read_to_string(format!("{FOLDER}/runbooks.md")).expect("runbooks.md");
    let (_, sections) = runbooks.split_once("\n## Reasons\n").expect("a section on reasons");
    let mut sections = sections.split("\n## ");
    let reasons = sections.next().expect("the reasons");
    for reason in twilio_call_exporter::domain::judge::verdict::Reason::ALL {
        assert!(
            reasons.contains(&format!("| `{}` |", reason.as_str())),
            "no row for {}",
            reason.as_str()
        );
    }
    let recorded = recorded();
    let mut found = Vec::new();
    for section in sections {
        let (name, text) = section.split_once('\n').expect("a title");
        for part in ["**Means.**", "**Callers**", "**Look**\n1. ", "\n2. ", "\n3. ", "**Do.**"] {
            assert!(text.contains(part), "{name}: {part}");
        }
        for code in text
            .split('`')
            .skip(1)
            .step_by(2)
            .filter(|code| code.contains("twilio_") || code.contains(":twilio"))
        {
            promql::assert_is_known(name, code, &recorded);
        }
        found.push(name.to_owned());
    }
    let names: Vec<String> = alerts().into_iter().map(|rule| rule.alert).collect();
    assert_eq!(found, names, "runbooks must have the order of the alerts");
}

fn is_threshold(name: &str) -> bool {
    name.ends_with(":threshold")
}

#[test]
fn defined_and_used_thresholds_match() {
    let thresholds: BTreeSet<String> = read("thresholds")
        .into_iter()
        .map(|rule| rule.record)
        .filter(|name| is_threshold(name))
        .collect();
    let used: BTreeSet<String> = [read("recording"), read("alerts")]
        .into_iter()
        .flatten()
        .flat_map(|rule| promql::read(&rule.expr).selectors)
        .map(|selector| selector.name)
        .filter(|name| is_threshold(name))
        .collect();
    assert_eq!(used, thresholds);
    let missing = alerts()
        .into_iter()
        .find(|rule| rule.alert == "TwilioThresholdsMissing")
        .expect("an alert");
    assert!(missing.expr.trim().ends_with(&format!("< {}", thresholds.len())), "{}", missing.expr);
}

#[test]
fn each_alert_has_a_test_in_which_it_fires_and_ends() {
    #[derive(Deserialize)]
    struct Tests {
        tests: Vec<Test>,
    }
    #[derive(Deserialize)]
    struct Test {
        #[serde(default)]
        promql_expr_test: Vec<Expectation>,
    }
    #[derive(Deserialize)]
    struct Expectation {
        exp_samples: Vec<Sample>,
    }
    #[derive(Deserialize)]
    struct Sample {
        labels: String,
    }
    let (mut firing, mut ended) = (BTreeSet::new(), BTreeSet::new());
    for file in fs::read_dir(TESTS).expect("a folder") {
        let text = fs::read_to_string(file.expect("a file").path()).expect("a text");
        let tests: Tests = serde_saphyr::from_str(&text).expect("YAML");
        for test in tests.tests {
            let mut before = BTreeSet::new();
            for expectation in test.promql_expr_test {
                let now: BTreeSet<String> = expectation
                    .exp_samples
                    .iter()
                    .filter_map(|sample| {
                        sample.labels.split("alertname=\"").nth(1)?.split('"').next()
                    })
                    .map(str::to_owned)
                    .collect();
                ended.extend(before.difference(&now).cloned());
                firing.extend(now.iter().cloned());
                before = now;
            }
        }
    }
    for rule in alerts() {
        assert!(firing.contains(&rule.alert), "no test expects {} to fire", rule.alert);
        // Thresholds can't appear during a test.
        let ends = ended.contains(&rule.alert) || rule.alert == "TwilioThresholdsMissing";
        assert!(ends, "no test expects {} to end", rule.alert);
    }
}

#[test]
fn files_of_the_quickstart_and_container_exist() {
    let root = env!("CARGO_MANIFEST_DIR");
    let compose =
        fs::read_to_string(format!("{root}/config/quickstart/compose.yml")).expect("compose.yml");
    let mut mounted = 0;
    for word in compose.split(|c: char| c.is_whitespace() || "[]".contains(c)) {
        if let Some((source, _)) = word.strip_suffix(":ro").and_then(|mount| mount.rsplit_once(':'))
        {
            let path = format!("{root}/config/quickstart/{source}");
            assert!(fs::metadata(&path).is_ok(), "compose.yml mounts {path}");
            mounted += 1;
        }
    }
    assert!(mounted >= 7, "{mounted}");
    let container =
        fs::read_to_string(format!("{root}/config/container/Containerfile")).expect("a file");
    for line in
        container.lines().filter(|line| line.starts_with("COPY ") && !line.contains("--from"))
    {
        for source in line.split_whitespace().skip(1) {
            let exists = fs::metadata(format!("{root}/{source}")).is_ok();
            assert!(exists || source == "./", "the Containerfile copies {source}");
        }
    }
}
