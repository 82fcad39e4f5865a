//! Checks the JSON in `dashboards/` against the rules of Grafana's linter (grafana/dashboard-linter) and a few more.
//! Exceptions and their reasons are in `dashboards/.lint`, which Grafana's linter also reads.

use std::collections::BTreeMap;
use std::fs;

use serde::Deserialize;
use serde_json::Value;

use super::{ANY, FOLDER, LATE, NEAR_TIMEOUT, SLOW, TIMEOUT, VERY_LATE, all};
use crate::promql;
use crate::rules;

/// The constants at which colours may change and lines may be drawn: properties of Twilio and of callers, the limit
/// for any count above 0, and 1 for a whole. All other limits are a matter of judgement, so they must come from the
/// rules' thresholds.
const CONSTANTS: [f64; 7] = [ANY, 1.0, SLOW, NEAR_TIMEOUT, TIMEOUT, LATE, VERY_LATE];

/// The contents of `dashboards/.lint`.
#[derive(Deserialize)]
struct Exclusions {
    exclusions: BTreeMap<String, Exclusion>,
}

#[derive(Deserialize)]
struct Exclusion {
    reason: String,
    #[serde(default)]
    entries: Vec<Entry>,
}

#[derive(Deserialize)]
struct Entry {
    dashboard: String,
    #[serde(default)]
    panel: Option<String>,
}

impl Exclusions {
    fn read() -> Self {
        let text = fs::read_to_string(format!("{FOLDER}/.lint")).expect("dashboards/.lint");
        serde_saphyr::from_str(&text).expect("YAML")
    }

    /// Whether a panel is exempt from a rule.
    fn excludes(&self, rule: &str, dashboard: &str, panel: &str) -> bool {
        self.exclusions.get(rule).is_some_and(|exclusion| {
            let matches = |entry: &Entry| {
                entry.dashboard == dashboard
                    && entry.panel.as_deref().is_none_or(|name| name == panel)
            };
            exclusion.entries.is_empty() || exclusion.entries.iter().any(matches)
        })
    }
}

#[test]
fn dashboard_files_match_their_definitions() {
    let mut names = Vec::new();
    for dashboard in all() {
        let name = format!("{}.json", dashboard.uid);
        let path = format!("{FOLDER}/{name}");
        let expected = format!("{:#}\n", dashboard.json());
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            fs::write(&path, &expected).expect("written");
        }
        let found = fs::read_to_string(&path).expect(&path);
        assert!(found == expected, "{path} is stale: run UPDATE_GOLDEN=1 cargo test dashboards");
        names.push(name);
    }
    for file in fs::read_dir(FOLDER).expect("a folder") {
        let name = file.expect("a file").file_name().into_string().expect("UTF-8");
        assert!(name == ".lint" || names.contains(&name), "dashboards/{name} has no definition");
    }
}

#[test]
fn dashboards_follow_the_rules_of_grafanas_linter() {
    let exclusions = Exclusions::read();
    assert!(exclusions.exclusions.values().all(|exclusion| exclusion.reason.len() > 20));
    for dashboard in all() {
        let json = dashboard.json();
        let title = json["title"].as_str().expect("a title").to_owned();
        variables(&title, &json, &exclusions);
        assert_eq!(json["editable"], false, "{title}");
        let mut ids: Vec<u64> = panels(&json).filter_map(|panel| panel["id"].as_u64()).collect();
        ids.dedup();
        assert_eq!(ids.len(), panels(&json).count(), "{title}: ids");
        for panel in panels(&json).filter(|panel| panel["type"] != "row") {
            panel_rules(&title, panel, &exclusions);
        }
    }
}

#[test]
fn series_per_account_host_or_route_are_bounded() {
    for dashboard in all() {
        let json = dashboard.json();
        for panel in panels(&json).filter(|panel| panel["type"] != "row") {
            for target in panel["targets"].as_array().expect("targets") {
                let (expr, legend) = (text(&target["expr"]), text(&target["legendFormat"]));
                let has_many_series = ["account", "host", "route"]
                    .iter()
                    .any(|label| legend.contains(&format!("{{{{{label}}}}}")));
                let place = format!("{} / {}", json["title"], panel["title"]);
                let is_bounded = match panel["type"].as_str() {
                    // One tile per account could be a hundred tiles.
                    Some("stat") => !has_many_series,
                    Some("table" | "heatmap") => true,
                    // Series must be selected over the whole time range, so that lines don't come and go.
                    Some(_) | None => {
                        !has_many_series || (expr.contains(" topk(") && expr.contains("@ end()"))
                    }
                };
                assert!(is_bounded, "{place}: {legend}: {expr}");
            }
        }
    }
}

#[test]
fn thresholds_come_from_the_rules() {
    for dashboard in all() {
        let json = dashboard.json();
        for panel in panels(&json).filter(|panel| panel["type"] != "row") {
            let place = format!("{} / {}", json["title"], panel["title"]);
            let overrides = panel["fieldConfig"]["overrides"].as_array().expect("overrides");
            let overridden = overrides
                .iter()
                .flat_map(|one| one["properties"].as_array().expect("properties"))
                .filter(|property| property["id"] == "thresholds")
                .map(|property| &property["value"]);
            for thresholds in overridden.chain([&panel["fieldConfig"]["defaults"]["thresholds"]]) {
                for step in thresholds["steps"].as_array().into_iter().flatten() {
                    let is_known =
                        step["value"].as_f64().is_none_or(|value| CONSTANTS.contains(&value));
                    assert!(is_known, "{place}: {step}");
                }
            }
            for target in panel["targets"].as_array().expect("targets") {
                let expr = text(&target["expr"]);
                let unquoted: String = expr.split('"').step_by(2).collect();
                // Only quantiles may be fractions.
                let fractions = unquoted.replace("histogram_quantile(0.", "").matches("0.").count();
                assert_eq!(fractions, 0, "{place}: {expr}");
            }
        }
    }
}

#[test]
fn dashboards_use_only_existing_series_and_labels() {
    let recorded = rules::recorded();
    for dashboard in all() {
        let json = dashboard.json();
        for (place, expr) in queries(&json) {
            promql::assert_is_known(&place, &expr, &recorded);
        }
        for variable in json["templating"]["list"].as_array().expect("variables") {
            if let Some(query) = variable["definition"].as_str() {
                let inside = query.strip_prefix("label_values(").expect(query);
                let (series, label) =
                    inside.strip_suffix(')').expect(query).rsplit_once(", ").expect(query);
                promql::assert_is_known(query, series, &recorded);
                let known = promql::family(&promql::read(series).selectors[0].name).expect(query);
                assert!(
                    known.labels.contains(&label) || label == "job" || label == "instance",
                    "{query}"
                );
            }
        }
    }
}

/// Returns the place and text of each query of a dashboard, including its annotations.
pub(crate) fn queries(json: &Value) -> Vec<(String, String)> {
    let panel_queries = |panel: &Value| {
        let place = format!("{} / {}", json["title"], panel["title"]);
        let targets = panel["targets"].as_array().cloned().unwrap_or_default();
        targets.into_iter().map(move |target| (place.clone(), text(&target["expr"])))
    };
    let annotations = json["annotations"]["list"].as_array().expect("annotations");
    let annotations = annotations.iter().map(|one| (text(&one["name"]), text(&one["expr"])));
    panels(json).flat_map(panel_queries).chain(annotations).collect()
}

/// Returns all panels of a dashboard.
pub(crate) fn panels(json: &Value) -> impl Iterator<Item = &Value> {
    json["panels"].as_array().expect("panels").iter()
}

fn text(value: &Value) -> String {
    value.as_str().expect("a string").to_owned()
}

fn variables(title: &str, json: &Value, exclusions: &Exclusions) {
    let list = json["templating"]["list"].as_array().expect("variables");
    let named = |name: &str| list.iter().find(|variable| variable["name"] == name);
    let datasource = named("datasource").expect("template-datasource-rule");
    assert_eq!(
        (&datasource["type"], &datasource["label"]),
        (&"datasource".into(), &"Data source".into())
    );
    for (name, label, rule) in
        [("job", "Job", "template-job-rule"), ("instance", "Instance", "template-instance-rule")]
    {
        match named(name) {
            Some(variable) => assert_eq!(variable["label"], label, "{title}: {rule}"),
            None => assert!(exclusions.excludes(rule, title, ""), "{title}: {rule}"),
        }
    }
    for variable in list.iter().filter(|variable| variable["type"] == "query") {
        let name = &variable["name"];
        assert_eq!(variable["datasource"]["uid"], "${datasource}", "{title}: {name}");
        assert_eq!(variable["refresh"], 2, "{title}: {name}: template-on-time-change-reload-rule");
        // The address for links has a single value.
        if name != "exporter" {
            assert_eq!(variable["multi"], true, "{title}: {name}");
            assert_eq!(variable["allValue"], ".+", "{title}: {name}");
        }
    }
    // `${x:queryparam}` expands to the name and `=`, too.
    assert!(!json.to_string().contains("=${job:queryparam}"), "{title}");
    // Every variable used must exist.
    let names: Vec<&str> = list.iter().filter_map(|variable| variable["name"].as_str()).collect();
    let all = json.to_string();
    for part in all.split('$').skip(1) {
        let name: String = part
            .trim_start_matches('{')
            .chars()
            .take_while(|c| c.is_ascii_alphanumeric() || *c == '_')
            .collect();
        // A `$` without a name is the end of a pattern.
        let is_known = name.is_empty() || names.contains(&&*name) || name.starts_with("__");
        assert!(is_known, "{title}: ${name}");
    }
}

fn panel_rules(dashboard: &str, panel: &Value, exclusions: &Exclusions) {
    let name = panel["title"].as_str().expect("panel-title-description-rule");
    let place = format!("{dashboard} / {name}");
    assert!(!name.is_empty(), "{place}");
    assert!(
        panel["description"].as_str().is_some_and(|text| text.len() > 10),
        "{place}: panel-title-description-rule"
    );
    assert_eq!(panel["datasource"]["uid"], "${datasource}", "{place}: panel-datasource-rule");
    let defaults = &panel["fieldConfig"]["defaults"];
    let has_unit =
        defaults["unit"].is_string() || panel["type"] == "heatmap" || panel["type"] == "table";
    assert!(has_unit, "{place}: panel-units-rule");
    let targets = panel["targets"].as_array().expect("targets");
    assert!(!targets.is_empty(), "{place}: panel-no-targets-rule");
    // If it is normal for a query to find nothing, the panel must have a text for that.
    for target in targets {
        let expr = target["expr"].as_str().expect("a query");
        let may_find_nothing = expr.ends_with("> 0")
            || expr.ends_with("> 1")
            || (expr.contains(" topk(") && expr.ends_with("> 0)"))
            || expr.starts_with("histogram_quantile(")
            || ["topk(20", "ALERTS", ":ratio_increase"].iter().any(|part| expr.contains(part));
        assert!(
            !may_find_nothing || defaults["noValue"].is_string(),
            "{place}: no text for an empty result: {expr}"
        );
        // Without requests, a quantile would be NaN.
        let mut quantiles = expr.split("histogram_quantile(").skip(1);
        assert!(quantiles.all(|rest| rest.contains(") >= 0")), "{place}: {expr}");
        // The selection among equal quantiles would differ between queries.
        assert!(!expr.contains(", histogram_quantile("), "{place}: {expr}");
        for selector in
            promql::read(expr).selectors.iter().filter(|selector| !selector.name.contains(':'))
        {
            let series = &selector.name;
            let has = |label: &str| {
                // Alerts without this label are always shown.
                let end = if series.starts_with("ALERTS") { "|" } else { "" };
                let wanted = format!("${label}{end}");
                selector.matchers.iter().any(|(name, operator, value)| {
                    (name == label && operator == "=~") && *value == wanted
                })
            };
            assert!(
                has("job") || series == "twilio_exporter_build_info",
                "{place}: target-job-rule: {series}"
            );
            assert!(
                has("instance") || exclusions.excludes("target-instance-rule", dashboard, name),
                "{place}: target-instance-rule"
            );
            let function = selector.function.as_deref();
            if series.ends_with("_total")
                || series.ends_with("_bucket")
                || series.ends_with("_count")
            {
                let is_counted = matches!(function, Some("rate" | "irate" | "increase"));
                assert!(
                    is_counted || exclusions.excludes("target-counter-agg-rule", dashboard, name),
                    "{place}: target-counter-agg-rule: {series}"
                );
            }
            match function {
                Some("rate" | "irate") => assert_eq!(
                    selector.range.as_deref(),
                    Some("$__rate_interval"),
                    "{place}: target-rate-interval-rule"
                ),
                Some("increase" | "max_over_time" | "last_over_time") => {
                    let is_whole = target["instant"] == true || selector.at_end;
                    let wanted = if is_whole { "$__range" } else { "$__rate_interval" };
                    assert_eq!(selector.range.as_deref(), Some(wanted), "{place}");
                }
                Some(_) | None => assert_eq!(selector.range, None, "{place}"),
            }
        }
    }
}
