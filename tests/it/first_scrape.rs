//! The first scrape exposes every series with known labels at 0: if a series appears with a value, Prometheus
//! sees no increase.

use std::collections::BTreeSet;
use std::time::Duration;

use twilio_call_exporter::domain::engine::effects::ReadResult;
use twilio_call_exporter::domain::engine::failure::retry_reasons;
use twilio_call_exporter::domain::engine::plan::Stage;
use twilio_call_exporter::domain::engine::request::Resource;
use twilio_call_exporter::domain::judge::observe::Rejection;
use twilio_call_exporter::domain::words::call::{CallStatus, Direction};
use twilio_call_exporter::metrics::catalog::{self, Family, FamilyKind};
use twilio_call_exporter::metrics::health::{EventResult, PushResult};
use twilio_call_exporter::simulator::WorldConfig;

use crate::harness::{Program, Scrape, Twilio, eventually, metric, world_of};

/// Labels whose values come from Twilio's responses or the build.
const OPEN: [&str; 8] =
    ["account_sid", "arch", "code", "content_type", "host", "os", "route", "version"];

#[tokio::test(flavor = "multi_thread")]
async fn the_first_scrape_of_each_account_has_all_series_with_known_labels() {
    let twilio = Twilio::serving(WorldConfig { subaccounts: 1, ..world_of(1) }).await;
    let configuration = |names: &[&str]| {
        let accounts = names.iter().map(|name| {
            let (sid, url) = (&twilio.accounts()[0].account_sid, twilio.url());
            let (region, discover) = match *name {
                "first" => ("", "subaccounts: { discover: true }"),
                region => (region, "subaccounts: { discover: false }"),
            };
            // In another region, the same SID is another account.
            let region = if region.is_empty() { String::new() } else { format!("region: {region}, ") };
            format!(
                "  - {{ name: {name}, account_sid: {sid}, auth_token_env: TOKEN, {region}base_url: '{url}', {discover} }}\n"
            )
        });
        let push = "push: { public_url: 'https://exporter.example.com/push' }";
        format!("accounts:\n{}poll: {{ interval: 1s }}\n{push}\n", accounts.collect::<String>())
    };
    let token = twilio.accounts()[0].auth_token.clone();
    let program = Program::configured(&configuration(&["first"]), &[("TOKEN", &token)]).await;
    let scrape = program.scrape().await;
    assert_complete(&scrape, &["first"]);
    assert!(metric(catalog::API_RETRIES.name).is_in(&scrape, 0.0));
    let subaccounts = twilio.accounts();
    let subaccount = subaccounts[1].account_sid.as_str();
    let info = |account: &str| metric("twilio_account_info").label("account", account);
    let scrape = eventually("the subaccount is found", async || {
        let scrape = program.scrape().await;
        info(subaccount).value_in(&scrape).map(|_| scrape)
    })
    .await;
    assert_complete(&scrape, &["first", subaccount]);
    // After a restart, its series are there in the first scrape.
    let program = program.kill_and_restart().await;
    assert_complete(&program.scrape().await, &["first", subaccount]);
    let file = program.directory().path().join("exporter.yml");
    std::fs::write(file, configuration(&["first", "ie1"])).expect("written");
    program.signal("HUP");
    let scrape = eventually("the configuration is reloaded", async || {
        let scrape = program.scrape().await;
        info("ie1").value_in(&scrape).map(|_| scrape)
    })
    .await;
    assert_complete(&scrape, &["first", subaccount, "ie1"]);
    tokio::time::timeout(Duration::from_secs(60), program.stop()).await.expect("the program stops");
}

/// Asserts that each family whose label values are all known has a series for every combination.
fn assert_complete(scrape: &Scrape, accounts: &[&str]) {
    let mut checked = 0;
    for family in catalog::ALL {
        if family.labels.iter().any(|label| OPEN.contains(label)) {
            continue;
        }
        if [&catalog::ERROR_LOG_ITEMS, &catalog::ERROR_LOG_LAG].contains(family) {
            // Absent until the error log has been read.
            continue;
        }
        let is_gauge = family.kind == FamilyKind::Gauge;
        let is_counted = family.name == catalog::CALLS_UNREADABLE.name;
        if is_gauge && !is_counted && family.labels.iter().all(|label| *label == "account") {
            // Measured gauges appear with their first value; `up` is absent before the first attempt.
            continue;
        }
        let name = match family.kind {
            FamilyKind::Counter | FamilyKind::Gauge => family.name.to_owned(),
            FamilyKind::Histogram(_) => format!("{}_count", family.name),
        };
        let mut series = vec![metric(&name)];
        for label in family.labels {
            let values = values(family, label, accounts);
            series = series
                .iter()
                .flat_map(|series| values.iter().map(|value| series.clone().label(label, value)))
                .collect();
        }
        for series in series {
            assert!(series.value_in(scrape).is_some(), "{series:?} is missing");
            checked += 1;
        }
    }
    assert!(checked > 100 * accounts.len(), "only {checked} series checked");
}

/// All values of a label that has a fixed set.
fn values(family: &Family, label: &str, accounts: &[&str]) -> BTreeSet<String> {
    macro_rules! all {
        ($set:ty) => {
            <$set>::ALL.iter().map(|value| value.as_str().to_owned()).collect()
        };
    }
    let is_active = family == &catalog::CALLS_ACTIVE;
    match (label, family) {
        ("account", _) => accounts.iter().map(|account| (*account).to_owned()).collect(),
        ("direction", _) => all!(Direction),
        ("status", _) => CallStatus::ALL
            .iter()
            .filter(|status| if is_active { !status.is_final() } else { !status.is_active() })
            .map(|status| status.as_str().to_owned())
            .collect(),
        ("stage", _) => all!(Stage),
        ("resource", _) => all!(Resource),
        ("result", family) if family == &catalog::CALL_EVENTS => all!(EventResult),
        ("result", family) if family == &catalog::PUSHES => all!(PushResult),
        ("result", family) if family == &catalog::CALL_READS => all!(ReadResult),
        ("reason", family) if family == &catalog::CALL_EVENTS_REJECTED => all!(Rejection),
        ("reason", family) if family == &catalog::API_RETRIES => {
            retry_reasons().into_iter().map(str::to_owned).collect()
        }
        _ => panic!("`{label}` of {} is neither in `OPEN` nor handled here", family.name),
    }
}
