//! Checks rules, configurations and queries with promtool, amtool and a real Alertmanager.

use std::process::Command;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::{FOLDER, TESTS};
use crate::dashboards;
use crate::harness::{Alertmanager, eventually};

const CONFIG: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/config");

#[test]
#[ignore = "needs promtool and amtool, from Debian's packages prometheus and prometheus-alertmanager"]
fn promtool_and_amtool_accept_rules_and_configurations() {
    run("promtool", &["check", "config", &format!("{FOLDER}/prometheus.yml")]);
    for folder in ["alertmanager", "quickstart"] {
        run("amtool", &["check-config", &format!("{CONFIG}/{folder}/alertmanager.yml")]);
    }
    // The quickstart's configuration and its rules are in different folders.
    let directory = TempDir::new().expect("a directory");
    for file in [
        "quickstart/prometheus.yml",
        "prometheus/thresholds.rules.yml",
        "prometheus/recording.rules.yml",
        "prometheus/alerts.rules.yml",
    ] {
        let name = file.rsplit('/').next().expect("a name");
        std::fs::copy(format!("{CONFIG}/{file}"), directory.path().join(name)).expect(file);
    }
    let output = run(
        "promtool",
        &["check", "config", &directory.path().join("prometheus.yml").display().to_string()],
    );
    assert!(output.contains("3 rule files found"), "{output}");
}

#[test]
#[ignore = "needs promtool, from Debian's package prometheus"]
fn every_alert_fires_and_ends_as_its_test_expects() {
    let mut files = 0;
    for file in std::fs::read_dir(TESTS).expect("a folder") {
        run("promtool", &["test", "rules", &file.expect("a file").path().display().to_string()]);
        files += 1;
    }
    assert!(files >= 4, "{files}");
}

#[test]
#[ignore = "needs promtool, from Debian's package prometheus"]
fn promtool_accepts_every_dashboard_query() {
    let mut rules = Vec::new();
    for dashboard in dashboards::all() {
        for (_, expr) in dashboards::lint::queries(&dashboard.json()) {
            let filled = expr.replace("$__rate_interval", "5m").replace("$__range", "6h");
            rules.push(json!({ "record": format!("query{}", rules.len()), "expr": filled }));
        }
    }
    assert!(rules.len() > 60, "{}", rules.len());
    let directory = TempDir::new().expect("a directory");
    let check = |rules: &[Value]| {
        let file = directory.path().join("queries.yml");
        // JSON is valid YAML.
        let text = json!({ "groups": [{ "name": "queries", "rules": rules }] }).to_string();
        std::fs::write(&file, text).expect("written");
        Command::new("promtool").arg("check").arg("rules").arg(&file).output().expect("promtool")
    };
    let output = check(&rules);
    assert!(output.status.success(), "{output:?}");
    rules.push(json!({ "record": "broken", "expr": "sum(rate(x[5m])" }));
    assert!(!check(&rules).status.success(), "promtool accepts an invalid query");
}

/// Alerts on stale data are inhibited, and so are tickets that a page covers.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs prometheus-alertmanager, from Debian's package of that name"]
async fn alertmanager_inhibits_consequential_alerts() {
    let alertmanager = Alertmanager::start().await;
    let route = json!({ "account": "prod", "host": "ivr.example.com", "route": "/menu" });
    let on_a = json!({ "account": "stale", "instance": "a:1" });
    let alerts = [
        alert("TwilioAccountNotReadable", "critical", "exporter", &json!({ "account": "stale" })),
        alert(
            "TwilioWebhookSilent",
            "warning",
            "webhooks",
            &json!({ "account": "stale", "route": "/menu" }),
        ),
        alert("TwilioCallsFailing", "warning", "calls", &json!({ "account": "stale" })),
        // The error log is read independently of calls.
        alert(
            "TwilioWebhookErrorsReported",
            "critical",
            "webhooks",
            &json!({ "account": "stale", "host": "now.example.com", "route": "/" }),
        ),
        // One of several exporters doesn't inhibit alerts on the accounts of the others.
        alert("TwilioExporterStoreErrors", "critical", "exporter", &on_a),
        alert("TwilioExporterDown", "critical", "exporter", &json!({ "instance": "b:1" })),
        alert("TwilioWebhookFailing", "critical", "webhooks", &route),
        alert("TwilioWebhookErrorBudgetBurnSlow", "warning", "webhooks", &route),
        alert("TwilioTwimlNotXml", "warning", "webhooks", &route),
        // A host's alert inhibits those of its routes, for any account.
        alert("TwilioHostFailing", "critical", "webhooks", &json!({ "host": "other.example.com" })),
        alert(
            "TwilioWebhookFailing",
            "critical",
            "webhooks",
            &json!({ "account": "prod", "host": "other.example.com", "route": "/" }),
        ),
        alert("TwilioCallsFailing", "warning", "calls", &json!({ "account": "prod" })),
    ];
    alertmanager.post_alerts(&alerts).await;
    let expected = [
        "TwilioAccountNotReadable stale",
        "TwilioCallsFailing prod",
        "TwilioExporterDown",
        "TwilioExporterStoreErrors stale",
        "TwilioHostFailing other.example.com",
        "TwilioWebhookErrorsReported stale now.example.com",
        "TwilioWebhookFailing prod ivr.example.com",
    ];
    // Alertmanager processes alerts one by one, so inhibition takes effect gradually.
    eventually("exactly the expected alerts are active", async || {
        (alertmanager.active_alerts().await? == expected).then_some(())
    })
    .await;
    // If all exporters of a job are down, all its other alerts are inhibited.
    alertmanager
        .post_alerts(&[alert("TwilioExporterDown", "critical", "exporter", &json!({}))])
        .await;
    eventually("no alerts on webhooks and calls are active", async || {
        let active = alertmanager.active_alerts().await?;
        let is_about_exporter =
            |name: &String| name.starts_with("TwilioExporter") || name.starts_with("TwilioAccount");
        active.iter().all(is_about_exporter).then_some(())
    })
    .await;
}

fn alert(name: &str, severity: &str, component: &str, labels: &Value) -> Value {
    let mut labels = labels.clone();
    for (label, value) in
        [("alertname", name), ("severity", severity), ("component", component), ("job", "twilio")]
    {
        labels[label] = json!(value);
    }
    json!({ "labels": labels, "annotations": {} })
}

/// Runs a checker, asserts that it succeeds, and returns its output.
fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().expect(program);
    let text =
        [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    assert!(output.status.success(), "{program} {arguments:?}: {}", text.concat());
    text.concat()
}
