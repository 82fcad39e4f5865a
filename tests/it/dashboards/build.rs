//! Builds a dashboard from panels that flow from left to right. The result is Grafana's classic JSON (schemaVersion
//! 41), which Grafana 10 to 13 can provision from files.

mod panel;

use serde_json::{Value, json};

pub(crate) use panel::Panel;

/// The number of columns in Grafana's grid.
const COLUMNS: u64 = 24;
/// The schema version in which `refresh` is a string and `time_options` no longer exists. Grafana 10 can read it, and
/// Grafana 13 doesn't migrate it.
const SCHEMA_VERSION: u64 = 41;

/// A dashboard that is written to a file.
pub(crate) struct Dashboard {
    /// Its name in URLs and the name of its file.
    pub uid: &'static str,
    /// Its title.
    pub title: &'static str,
    /// The questions it answers.
    pub description: &'static str,
    /// The variables for selecting labels.
    pub variables: Vec<Value>,
    /// The start of the query string of its link to `/failures`, if it has one.
    pub failures: Option<&'static str>,
    /// Its rows of panels, with their titles.
    pub rows: Vec<(&'static str, Vec<Panel>)>,
}

impl Dashboard {
    /// Returns the dashboard's JSON.
    pub(crate) fn json(self) -> Value {
        let (mut panels, mut id, mut y) = (Vec::new(), 0, 0);
        for (title, row) in self.rows {
            let mut place = |mut panel: Value, x, y, w, h| {
                id += 1;
                panel["id"] = json!(id);
                panel["gridPos"] = json!({ "x": x, "y": y, "w": w, "h": h });
                panels.push(panel);
            };
            if !title.is_empty() {
                let row =
                    json!({ "type": "row", "title": title, "collapsed": false, "panels": [] });
                place(row, 0, y, COLUMNS, 1);
                y += 1;
            }
            let (mut x, mut height) = (0, 0);
            for panel in row {
                if x + panel.width > COLUMNS {
                    (x, y, height) = (0, y + height, 0);
                }
                place(panel.json, x, y, panel.width, panel.height);
                x += panel.width;
                height = height.max(panel.height);
            }
            y += height;
        }
        let mut variables = vec![json!({
            "type": "datasource", "name": "datasource", "label": "Data source", "query": "prometheus",
            "current": { "selected": false, "text": "default", "value": "default" },
            "options": [], "regex": "", "refresh": 1, "hide": 0, "includeAll": false, "multi": false,
        })];
        variables.extend(self.variables);
        let mut links = vec![json!({
            "type": "dashboards", "title": "Twilio", "tags": ["twilio"], "asDropdown": false,
            "includeVars": true, "keepTime": true, "targetBlank": false, "icon": "dashboard", "tooltip": "", "url": "",
        })];
        links.extend(self.failures.map(|query| json!({
            "type": "link", "title": "Failed requests", "icon": "bolt", "asDropdown": false, "tags": [],
            "includeVars": false, "keepTime": false, "targetBlank": true,
            "tooltip": "The exporter's /failures page; your browser must be able to reach the exporter",
            "url": format!("http://${{exporter}}/failures?{query}from=${{__from}}&to=${{__to}}"),
        })));
        json!({
            "uid": self.uid, "title": self.title, "description": self.description, "tags": ["twilio"],
            "schemaVersion": SCHEMA_VERSION, "version": 1, "editable": false, "graphTooltip": 1,
            "refresh": "1m", "time": { "from": "now-6h", "to": "now" }, "timezone": "browser",
            "timepicker": {}, "fiscalYearStartMonth": 0, "weekStart": "", "liveNow": false,
            "links": links, "templating": { "list": variables }, "panels": panels,
            "annotations": { "list": [alerts()] },
        })
    }
}

/// A variable for a label, with the option "All".
pub(crate) fn variable(name: &str, label: &str, series: &str) -> Value {
    query_variable(name, label, &format!("label_values({series}, {name})"))
}

/// The address at which Prometheus scrapes the exporter of an account, for links to `/failures`.
pub(crate) fn exporter_address() -> Value {
    let mut variable = query_variable(
        "exporter",
        "Exporter",
        "label_values(twilio_account_info{job=~\"$job\",account=~\"$account\"}, instance)",
    );
    variable["multi"] = json!(false);
    variable["includeAll"] = json!(false);
    variable["current"] = json!({ "text": "", "value": "" });
    if let Some(json) = variable.as_object_mut() {
        json.remove("allValue");
    }
    variable
}

fn query_variable(name: &str, label: &str, query: &str) -> Value {
    json!({
        "type": "query", "name": name, "label": label, "datasource": datasource(),
        "query": query, "definition": query,
        "refresh": 2, "sort": 1, "multi": true, "includeAll": true, "allValue": ".+", "hide": 0,
        "regex": "", "skipUrlSync": false, "options": [],
        "current": { "selected": true, "text": ["All"], "value": ["$__all"] },
    })
}

fn datasource() -> Value {
    json!({ "type": "prometheus", "uid": "${datasource}" })
}

/// Shows alerts as annotations on every graph.
fn alerts() -> Value {
    json!({
        "name": "Alerts", "enable": true, "hide": false, "iconColor": "red", "datasource": datasource(),
        // One annotation per outage, however many accounts are affected.
        "expr": "group by (alertname, host, route) (ALERTS{alertname=~\"Twilio.+\",alertstate=\"firing\",severity=\"critical\",job=~\"$job|\",account=~\"$account|\"})",
        "titleFormat": "{{alertname}}", "textFormat": "{{host}}{{route}}", "step": "60s",
    })
}
