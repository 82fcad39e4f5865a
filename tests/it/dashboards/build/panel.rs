//! A panel of a dashboard: its type, its queries and the display of their results.

use serde_json::{Map, Value, json};

use super::{COLUMNS, datasource};

/// A panel that has a size but no position yet.
pub(crate) struct Panel {
    pub(super) json: Value,
    pub(super) width: u64,
    pub(super) height: u64,
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

    /// Shows one number per query, over the whole time range.
    pub(crate) fn stat(title: &str, description: &str) -> Self {
        let options = json!({
            "reduceOptions": { "calcs": ["lastNotNull"], "fields": "", "values": false },
            "colorMode": "background_solid", "graphMode": "none", "justifyMode": "auto", "textMode": "auto",
            "orientation": "auto", "wideLayout": true, "showPercentChange": false,
            "percentChangeColorMode": "standard",
        });
        Self::new("stat", title, description, options).steps(&[(None, "blue")])
    }

    /// Shows lines over time.
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

    /// Sets the shortest time between two points, on which `$__rate_interval` depends.
    pub(crate) fn interval(mut self, interval: &str) -> Self {
        self.json["interval"] = json!(interval);
        self
    }

    /// Shows stacked bars over time, for parts of a whole.
    pub(crate) fn bars(title: &str, description: &str) -> Self {
        let mut panel = Self::lines(title, description);
        let custom = &mut panel.defaults()["custom"];
        custom["drawStyle"] = json!("bars");
        custom["fillOpacity"] = json!(80);
        custom["lineWidth"] = json!(0);
        custom["stacking"] = json!({ "mode": "normal", "group": "A" });
        // Each bar is as wide as the window that it counts, so that the bars add up.
        panel.json["interval"] = json!("2m");
        panel
    }

    /// Shows the distribution of durations over time. Its only query returns buckets.
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

    /// Shows a table of labels and values. `columns` maps fields to column names; other fields are omitted. Rows are
    /// sorted by the last column, highest first.
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
                "excludeByName": { "Time": true },
                "indexByName": index, "renameByName": names,
            } },
        ]);
        panel
    }

    /// Sorts the table by this column, lowest first.
    pub(crate) fn lowest_first(mut self, column: &str) -> Self {
        self.json["options"]["sortBy"] = json!([{ "displayName": column, "desc": false }]);
        self
    }

    /// Uses a logarithmic scale with base 10.
    pub(crate) fn logarithmic(mut self) -> Self {
        self.defaults()["custom"]["scaleDistribution"] = json!({ "type": "log", "log": 10 });
        if let Some(defaults) = self.defaults().as_object_mut() {
            defaults.remove("min");
        }
        self
    }

    /// Sets the width in columns (of 24) and the height in rows of 30 pixels.
    pub(crate) fn size(mut self, width: u64, height: u64) -> Self {
        (self.width, self.height) = (width, height);
        self
    }

    /// Sets the unit of values, by Grafana's name.
    pub(crate) fn unit(mut self, unit: &str) -> Self {
        self.defaults()["unit"] = json!(unit);
        self
    }

    /// Sets the number of decimals shown.
    pub(crate) fn decimals(mut self, decimals: u64) -> Self {
        self.defaults()["decimals"] = json!(decimals);
        self
    }

    /// Sets the text that is shown if the queries find nothing, for panels that are normally empty.
    pub(crate) fn when_empty(mut self, text: &str) -> Self {
        self.defaults()["noValue"] = json!(text);
        self
    }

    /// Sets colours by value. Each applies from its value on; the first, without a value, applies below all others.
    pub(crate) fn steps(mut self, steps: &[(Option<f64>, &str)]) -> Self {
        let steps: Vec<Value> =
            steps.iter().map(|(value, color)| json!({ "value": value, "color": color })).collect();
        self.defaults()["thresholds"] = json!({ "mode": "absolute", "steps": steps });
        self.defaults()["color"] = json!({ "mode": "thresholds" });
        self
    }

    /// Draws dashed horizontal lines at values.
    pub(crate) fn marks(mut self, marks: &[(f64, &str)]) -> Self {
        let mut steps = vec![(None, "transparent")];
        steps.extend(marks.iter().map(|(value, color)| (Some(*value), *color)));
        self = self.steps(&steps);
        self.defaults()["color"] = json!({ "mode": "palette-classic" });
        self.defaults()["custom"]["thresholdsStyle"] = json!({ "mode": "dashed" });
        self
    }

    /// Draws all series in shades of one colour.
    pub(crate) fn shades_of(mut self, color: &str) -> Self {
        self.defaults()["color"] = json!({ "mode": "shades", "fixedColor": color });
        self
    }

    /// Shows words instead of numbers, each with a colour.
    pub(crate) fn words(mut self, words: &[(&str, &str, &str)]) -> Self {
        self.defaults()["mappings"] = mappings(words);
        self
    }

    /// Shows coloured words instead of the numbers of one column.
    pub(crate) fn column_words(mut self, name: &str, words: &[(&str, &str, &str)]) -> Self {
        let matcher = json!({ "id": "byName", "options": name });
        self.overrides().push(json!({ "matcher": matcher, "properties": [
            { "id": "mappings", "value": mappings(words) },
            { "id": "custom.cellOptions", "value": { "type": "color-text" } },
        ] }));
        self
    }

    /// Sets the colour of each series whose name matches a pattern.
    pub(crate) fn colours(mut self, colours: &[(&str, &str)]) -> Self {
        for (pattern, color) in colours {
            let matcher = json!({ "id": "byRegexp", "options": pattern });
            let color = json!({ "id": "color", "value": { "mode": "fixed", "fixedColor": color } });
            self.overrides().push(json!({ "matcher": matcher, "properties": [color] }));
        }
        self
    }

    /// Sets the unit of one column, and its background colours by value.
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

    /// Shows 0 as a dash in a column in which 0 means that there is no number.
    pub(crate) fn dash_for_0(mut self, name: &str) -> Self {
        let matcher = json!({ "id": "byName", "options": name });
        let dash = json!([{ "type": "value", "options": { "0": { "text": "–" } } }]);
        self.overrides().push(json!({
            "matcher": matcher, "properties": [{ "id": "mappings", "value": dash }],
        }));
        self
    }

    /// Links the values of a column. For several links, Grafana shows a menu.
    pub(crate) fn link(mut self, column: &str, links: &[(&str, &str)]) -> Self {
        let links: Vec<Value> = links
            .iter()
            .map(|(title, url)| json!({ "title": title, "url": url, "targetBlank": false }))
            .collect();
        let matcher = json!({ "id": "byName", "options": column });
        self.overrides().push(json!({
            "matcher": matcher, "properties": [{ "id": "links", "value": links }],
        }));
        self
    }

    /// Adds a threshold of the rules as a dashed line, which is missing if the rules aren't loaded.
    pub(crate) fn threshold(mut self, expr: &str, legend: &str, color: &str) -> Self {
        let matcher = json!({ "id": "byName", "options": legend });
        self.overrides().push(json!({ "matcher": matcher, "properties": [
            { "id": "color", "value": { "mode": "fixed", "fixedColor": color } },
            { "id": "custom.lineStyle", "value": { "fill": "dash", "dash": [10, 10] } },
            { "id": "custom.lineWidth", "value": 1 },
            { "id": "custom.fillOpacity", "value": 0 },
        ] }));
        self.query(expr, legend)
    }

    /// Adds a query over time.
    pub(crate) fn query(self, expr: &str, legend: &str) -> Self {
        self.target(expr, legend, json!({ "range": true, "format": "time_series" }))
    }

    /// Adds a query over time, with exemplars of calls.
    pub(crate) fn query_with_exemplars(self, expr: &str, legend: &str) -> Self {
        self.target(
            expr,
            legend,
            json!({ "range": true, "format": "time_series", "exemplar": true }),
        )
    }

    /// Adds a query at the end of the time range.
    pub(crate) fn instant(self, expr: &str, legend: &str) -> Self {
        let format = if self.json["type"] == "table" { "table" } else { "time_series" };
        self.target(expr, legend, json!({ "instant": true, "range": false, "format": format }))
    }

    /// Adds a query for buckets over time.
    pub(crate) fn buckets(self, expr: &str) -> Self {
        self.target(expr, "{{le}}", json!({ "range": true, "format": "heatmap" }))
    }

    fn target(mut self, expr: &str, legend: &str, mut target: Value) -> Self {
        let targets = self.json["targets"].as_array_mut().expect("a list");
        let letters = ["A", "B", "C", "D", "E", "F", "G", "H", "I", "J"];
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

fn mappings(words: &[(&str, &str, &str)]) -> Value {
    let options: Map<String, Value> = words
        .iter()
        .map(|(value, text, color)| ((*value).to_owned(), json!({ "text": text, "color": color })))
        .collect();
    json!([{ "type": "value", "options": options }])
}
