//! How a dashboard is written down: panels that flow from left to right, in Grafana's classic JSON
//! (schemaVersion 41), which Grafana 10 to 13 provision from files.

use serde_json::{Map, Value, json};

/// Grafana's grid is this wide.
const COLUMNS: u64 = 24;
/// `refresh` is a string and `time_options` is gone: what Grafana 10 reads and 13 doesn't migrate.
const SCHEMA_VERSION: u64 = 41;

/// A panel that isn't placed yet.
pub(crate) struct Panel {
    json: Value,
    width: u64,
    height: u64,
}

impl Panel {
    fn new(kind: &str, title: &str, description: &str, options: Value) -> Self {
        let json = json!({
            "type": kind, "title": title, "description": description, "options": options,
            "datasource": datasource(), "targets": [],
            "fieldConfig": { "defaults": {}, "overrides": [] },
        });
        Self { json, width: COLUMNS, height: 8 }
    }

    /// One number per query, over the whole time range.
    pub(crate) fn stat(title: &str, description: &str) -> Self {
        let options = json!({
            "reduceOptions": { "calcs": ["lastNotNull"], "fields": "", "values": false },
            "colorMode": "background_solid", "graphMode": "none", "justifyMode": "auto", "textMode": "auto",
            "orientation": "auto", "wideLayout": true, "showPercentChange": false,
            "percentChangeColorMode": "standard",
        });
        Self::new("stat", title, description, options).steps(&[(None, "blue")])
    }

    /// Lines over time.
    pub(crate) fn lines(title: &str, description: &str) -> Self {
        let options = json!({
            "legend": { "displayMode": "list", "placement": "bottom", "showLegend": true, "calcs": [] },
            "tooltip": { "mode": "multi", "sort": "desc" },
        });
        let custom = json!({ "drawStyle": "line", "lineWidth": 2, "fillOpacity": 10, "showPoints": "never", "spanNulls": false });
        let mut panel = Self::new("timeseries", title, description, options);
        panel.defaults()["custom"] = custom;
        panel.defaults()["min"] = json!(0);
        panel
    }

    /// Bars on top of each other over time: what adds up to a whole.
    pub(crate) fn bars(title: &str, description: &str) -> Self {
        let mut panel = Self::lines(title, description);
        let custom = &mut panel.defaults()["custom"];
        custom["drawStyle"] = json!("bars");
        custom["fillOpacity"] = json!(80);
        custom["lineWidth"] = json!(0);
        custom["stacking"] = json!({ "mode": "normal", "group": "A" });
        // As wide as the window that each bar counts, so that they add up.
        panel.json["interval"] = json!("2m");
        panel
    }

    /// How many requests took how long, over time; its only query gives buckets.
    pub(crate) fn heatmap(title: &str, description: &str) -> Self {
        let options = json!({
            "calculate": false,
            "cellGap": 1,
            "color": { "mode": "scheme", "scheme": "Oranges", "steps": 64, "exponent": 0.5, "reverse": false, "fill": "dark-orange" },
            "yAxis": { "unit": "s", "axisPlacement": "left" },
            "rowsFrame": { "layout": "auto" },
            "tooltip": { "mode": "single", "yHistogram": false, "showColorScale": false },
            "legend": { "show": true },
            "showValue": "never",
            "exemplars": { "color": "rgba(255,0,255,0.7)" },
            "filterValues": { "le": 1e-9 },
        });
        let mut panel = Self::new("heatmap", title, description, options);
        panel.json["interval"] = json!("2m");
        panel
    }

    /// Rows of labels and values, the first column of values in descending order.
    pub(crate) fn table(title: &str, description: &str, columns: &[(&str, &str)]) -> Self {
        let options = json!({
            "showHeader": true, "cellHeight": "sm", "frameIndex": 0,
            "sortBy": [{ "displayName": columns.last().expect("a column").1, "desc": true }],
        });
        let mut panel = Self::new("table", title, description, options);
        let index: Map<String, Value> = columns
            .iter()
            .enumerate()
            .map(|(at, (field, _))| ((*field).to_owned(), json!(at)))
            .collect();
        let names: Map<String, Value> =
            columns.iter().map(|(field, name)| ((*field).to_owned(), json!(name))).collect();
        panel.json["transformations"] = json!([
            { "id": "merge", "options": {} },
            { "id": "organize", "options": {
                "excludeByName": { "Time": true, "__name__": true, "instance": true, "alertstate": true },
                "indexByName": index, "renameByName": names,
            } },
        ]);
        panel
    }

    /// How wide and high: of 24 columns, and rows of 30 pixels.
    pub(crate) fn size(mut self, width: u64, height: u64) -> Self {
        (self.width, self.height) = (width, height);
        self
    }

    /// The unit of its values, by Grafana's name.
    pub(crate) fn unit(mut self, unit: &str) -> Self {
        self.defaults()["unit"] = json!(unit);
        self
    }

    /// How many decimals are shown.
    pub(crate) fn decimals(mut self, decimals: u64) -> Self {
        self.defaults()["decimals"] = json!(decimals);
        self
    }

    /// What is shown where nothing was found, because that is how it should be.
    pub(crate) fn or_say(mut self, text: &str) -> Self {
        self.defaults()["noValue"] = json!(text);
        self
    }

    /// Colours from a value on; the first has none.
    pub(crate) fn steps(mut self, steps: &[(Option<f64>, &str)]) -> Self {
        let steps: Vec<Value> =
            steps.iter().map(|(value, color)| json!({ "value": value, "color": color })).collect();
        self.defaults()["thresholds"] = json!({ "mode": "absolute", "steps": steps });
        self.defaults()["color"] = json!({ "mode": "thresholds" });
        self
    }

    /// Horizontal lines at values.
    pub(crate) fn marks(mut self, marks: &[(f64, &str)]) -> Self {
        let mut steps = vec![(None, "transparent")];
        steps.extend(marks.iter().map(|(value, color)| (Some(*value), *color)));
        self = self.steps(&steps);
        self.defaults()["color"] = json!({ "mode": "palette-classic" });
        self.defaults()["custom"]["thresholdsStyle"] = json!({ "mode": "dashed" });
        self
    }

    /// All series in shades of one colour.
    pub(crate) fn shades_of(mut self, color: &str) -> Self {
        self.defaults()["color"] = json!({ "mode": "shades", "fixedColor": color });
        self
    }

    /// What numbers mean.
    pub(crate) fn words(mut self, words: &[(&str, &str, &str)]) -> Self {
        let options: Map<String, Value> = words
            .iter()
            .map(|(value, text, color)| {
                ((*value).to_owned(), json!({ "text": text, "color": color }))
            })
            .collect();
        self.defaults()["mappings"] = json!([{ "type": "value", "options": options }]);
        self
    }

    /// The colour of each series whose name matches.
    pub(crate) fn colours(mut self, colours: &[(&str, &str)]) -> Self {
        for (pattern, color) in colours {
            let matcher = json!({ "id": "byRegexp", "options": pattern });
            let color = json!({ "id": "color", "value": { "mode": "fixed", "fixedColor": color } });
            self.overrides().push(json!({ "matcher": matcher, "properties": [color] }));
        }
        self
    }

    /// The unit of one column.
    pub(crate) fn column(mut self, name: &str, unit: &str, steps: &[(Option<f64>, &str)]) -> Self {
        let steps: Vec<Value> =
            steps.iter().map(|(value, color)| json!({ "value": value, "color": color })).collect();
        let decimals = match unit {
            "percentunit" => 2,
            "s" => 1,
            _ => 0,
        };
        let mut properties = vec![
            json!({ "id": "unit", "value": unit }),
            json!({ "id": "decimals", "value": decimals }),
        ];
        if !steps.is_empty() {
            properties.push(
                json!({ "id": "thresholds", "value": { "mode": "absolute", "steps": steps } }),
            );
            properties.push(json!({ "id": "custom.cellOptions", "value": { "type": "color-background", "mode": "basic" } }));
        }
        let matcher = json!({ "id": "byName", "options": name });
        self.overrides().push(json!({ "matcher": matcher, "properties": properties }));
        self
    }

    /// Where a click on a column leads.
    pub(crate) fn link(mut self, column: &str, title: &str, url: &str) -> Self {
        let link = json!({ "title": title, "url": url, "targetBlank": false });
        let matcher = json!({ "id": "byName", "options": column });
        self.overrides().push(json!({
            "matcher": matcher, "properties": [{ "id": "links", "value": [link] }],
        }));
        self
    }

    /// A query over time.
    pub(crate) fn query(self, expr: &str, legend: &str) -> Self {
        self.target(expr, legend, json!({ "range": true, "format": "time_series" }))
    }

    /// A query over time, with the calls behind it.
    pub(crate) fn query_with_exemplars(self, expr: &str, legend: &str) -> Self {
        self.target(
            expr,
            legend,
            json!({ "range": true, "format": "time_series", "exemplar": true }),
        )
    }

    /// A query at the end of the time range.
    pub(crate) fn instant(self, expr: &str, legend: &str) -> Self {
        let format = if self.json["type"] == "table" { "table" } else { "time_series" };
        self.target(expr, legend, json!({ "instant": true, "range": false, "format": format }))
    }

    /// Buckets over time.
    pub(crate) fn buckets(self, expr: &str) -> Self {
        self.target(expr, "{{le}}", json!({ "range": true, "format": "heatmap" }))
    }

    fn target(mut self, expr: &str, legend: &str, mut target: Value) -> Self {
        let targets = self.json["targets"].as_array_mut().expect("a list");
        let letters = ["A", "B", "C", "D", "E", "F", "G", "H"];
        target["refId"] = json!(letters[targets.len()]);
        target["expr"] = json!(expr);
        target["legendFormat"] = json!(legend);
        target["editorMode"] = json!("code");
        target["datasource"] = datasource();
        targets.push(target);
        self
    }

    fn defaults(&mut self) -> &mut Value {
        &mut self.json["fieldConfig"]["defaults"]
    }

    fn overrides(&mut self) -> &mut Vec<Value> {
        self.json["fieldConfig"]["overrides"].as_array_mut().expect("a list")
    }
}

/// A dashboard, as it goes into a file.
pub(crate) struct Dashboard {
    /// Its name in its address, and of its file.
    pub uid: &'static str,
    /// What it is called.
    pub title: &'static str,
    /// What it answers.
    pub description: &'static str,
    /// Which labels can be chosen.
    pub variables: Vec<Value>,
    /// The link to `/failures`, where there is one.
    pub failures: Option<&'static str>,
    /// What it shows, row by row.
    pub rows: Vec<(&'static str, Vec<Panel>)>,
}

impl Dashboard {
    /// Its JSON.
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
            "type": "link", "title": "Failing requests", "icon": "bolt", "asDropdown": false, "tags": [],
            "includeVars": false, "keepTime": false, "targetBlank": true,
            "tooltip": "The calls behind the numbers: /failures of the exporter, which your browser must reach",
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

/// A label to choose, with "All".
pub(crate) fn variable(name: &str, label: &str, series: &str) -> Value {
    query_variable(name, label, &format!("label_values({series}, {name})"))
}

/// Where the exporter of an account is scraped: the address of `/failures`, as Prometheus has it.
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

/// Alerts as marks on every graph.
fn alerts() -> Value {
    json!({
        "name": "Alerts", "enable": true, "hide": false, "iconColor": "red", "datasource": datasource(),
        "expr": "ALERTS{alertname=~\"Twilio.+\",alertstate=\"firing\",severity=\"critical\"}",
        "titleFormat": "{{alertname}}", "textFormat": "{{host}}{{route}}", "step": "60s",
    })
}
