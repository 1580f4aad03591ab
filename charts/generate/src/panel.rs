//! Panels of a Grafana dashboard. A panel says what is drawn and, in its description, what to do about it.

use serde_json::{Value, json};

use crate::explore;

/// Unit of a panel's values, in Grafana's words.
#[derive(Debug, Clone, Copy)]
pub enum Unit {
    /// A number.
    Short,
    /// Requests a second.
    Requests,
    /// Something a second.
    PerSecond,
    /// Seconds.
    Seconds,
    /// A part of 1.
    Ratio,
    /// Bytes.
    Bytes,
}

impl Unit {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Short => "short",
            Self::Requests => "reqps",
            Self::PerSecond => "cps",
            Self::Seconds => "s",
            Self::Ratio => "percentunit",
            Self::Bytes => "bytes",
        }
    }
}

/// From which value on a panel is no longer green.
#[derive(Debug, Clone, Copy)]
pub enum Judge {
    /// There is no good or bad.
    Nothing,
    /// Yellow and red from these values up.
    HighIsBad(f64, f64),
    /// Red below the first value, yellow below the second.
    LowIsBad(f64, f64),
}

impl Judge {
    fn thresholds(self) -> Value {
        let step = |color: &str, value: Option<f64>| json!({"color": color, "value": value});
        let steps = match self {
            Self::Nothing => vec![step("text", None)],
            Self::HighIsBad(yellow, red) => {
                vec![step("green", None), step("yellow", Some(yellow)), step("red", Some(red))]
            }
            Self::LowIsBad(red, yellow) => vec![step("red", None), step("yellow", Some(red)), step("green", Some(yellow))],
        };
        json!({"mode": "absolute", "steps": steps})
    }
}

/// A panel without its place.
#[derive(Debug, Clone)]
pub struct Panel(pub(crate) Value);

impl Panel {
    /// Lets a click on a value lead to a TraceQL query in Explore.
    #[must_use]
    pub fn link(mut self, title: &str, query: &str) -> Self {
        self.0["fieldConfig"]["defaults"]["links"] =
            json!([{"title": title, "url": explore::traces(query), "targetBlank": true}]);
        self
    }

    /// Lets the values of a column lead to a LogQL query in Explore.
    #[must_use]
    pub fn column_to_logs(mut self, column: &str, title: &str, query: &str) -> Self {
        let link = json!({"title": title, "url": explore::logs(query), "targetBlank": true});
        let links = json!({"matcher": {"id": "byName", "options": column}, "properties": [{"id": "links", "value": [link]}]});
        self.0["fieldConfig"]["overrides"] = json!([links]);
        self
    }
}

/// What stands above a panel and what it says of itself.
#[derive(Debug, Clone, Copy)]
pub struct Words<'a> {
    /// Title.
    pub title: &'a str,
    /// What it shows, and what to do when it is red.
    pub description: &'a str,
}

/// Title and description of a panel.
pub const fn words<'a>(title: &'a str, description: &'a str) -> Words<'a> {
    Words { title, description }
}

/// A query to Prometheus with what a series is called; `{{label}}` stands for a label's value.
pub struct Series<'a>(pub &'a str, pub String);

/// Lines over time.
pub fn lines(words: Words<'_>, unit: Unit, series: &[Series<'_>]) -> Panel {
    over_time(words, unit, series, json!({"lineWidth": 2, "fillOpacity": 8, "showPoints": "never"}))
}

/// Areas over time, each above the one before, so that their sum is the upper edge.
pub fn stacked(words: Words<'_>, unit: Unit, series: &[Series<'_>]) -> Panel {
    let custom = json!({
        "lineWidth": 1, "fillOpacity": 60, "showPoints": "never", "stacking": {"mode": "normal", "group": "A"},
    });
    over_time(words, unit, series, custom)
}

fn over_time(words: Words<'_>, unit: Unit, series: &[Series<'_>], custom: Value) -> Panel {
    let targets: Vec<Value> = series
        .iter()
        .enumerate()
        .map(|(at, Series(legend, query))| {
            let mut target = prometheus(at, query);
            target["legendFormat"] = json!(legend);
            target["range"] = json!(true);
            target
        })
        .collect();
    let mut panel = common("timeseries", words, "prometheus", unit, Judge::Nothing, targets);
    panel["fieldConfig"]["defaults"]["color"] = json!({"mode": "palette-classic"});
    panel["fieldConfig"]["defaults"]["min"] = json!(0);
    panel["fieldConfig"]["defaults"]["custom"] = custom;
    panel["options"] = json!({
        "legend": {"displayMode": "table", "placement": "right", "showLegend": true, "calcs": ["mean", "max"]},
        "tooltip": {"mode": "multi", "sort": "desc"},
    });
    Panel(panel)
}

/// One number of now, coloured by its judge.
pub fn number(words: Words<'_>, unit: Unit, judge: Judge, query: &str) -> Panel {
    let mut target = prometheus(0, query);
    target["instant"] = json!(true);
    let mut panel = common("stat", words, "prometheus", unit, judge, vec![target]);
    panel["options"] = json!({
        "colorMode": "value", "graphMode": "none", "justifyMode": "auto", "orientation": "auto", "textMode": "auto",
        "wideLayout": true, "showPercentChange": false, "percentChangeColorMode": "standard",
        "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": false},
    });
    Panel(panel)
}

/// A column of a table of services.
pub struct Column<'a> {
    /// Its head.
    pub title: &'a str,
    /// Unit of its values.
    pub unit: Unit,
    /// Its colours.
    pub judge: Judge,
    /// Query with one value for each service.
    pub query: String,
}

/// A table of services: one row for each, one column for each query, and a link from each row.
pub fn services(words: Words<'_>, row: [&str; 2], link: &str, columns: &[Column<'_>]) -> Panel {
    let mut targets = Vec::new();
    let mut overrides = Vec::new();
    let mut names = serde_json::Map::new();
    for (at, column) in columns.iter().enumerate() {
        let mut target = prometheus(at, &column.query);
        target["instant"] = json!(true);
        target["format"] = json!("table");
        names.insert(format!("Value #{}", ref_id(at)), json!(column.title));
        targets.push(target);
        overrides.push(json!({
            "matcher": {"id": "byName", "options": column.title},
            "properties": [
                {"id": "unit", "value": column.unit.as_str()},
                {"id": "thresholds", "value": column.judge.thresholds()},
                {"id": "custom.cellOptions", "value": {"type": "color-text"}},
            ],
        }));
    }
    overrides.push(json!({
        "matcher": {"id": "byName", "options": row[1]},
        "properties": [{"id": "links", "value": [{"title": "Open the service", "url": link}]}],
    }));
    let mut panel = common("table", words, "prometheus", Unit::Short, Judge::Nothing, targets);
    panel["fieldConfig"]["overrides"] = json!(overrides);
    panel["options"] = json!({"showHeader": true, "cellHeight": "sm"});
    panel["transformations"] = json!([
        {"id": "merge", "options": {}},
        {"id": "organize", "options": {
            "excludeByName": {"Time": true}, "indexByName": {row[0]: 0, row[1]: 1}, "renameByName": names,
        }},
    ]);
    Panel(panel)
}

/// A list of spans from Tempo; each row leads to its trace.
pub fn spans(words: Words<'_>, sort_by: Option<&str>, query: &str) -> Panel {
    let mut panel = traces(words, json!({"tableType": "spans", "limit": 50, "spss": 3}), query);
    if let Some(column) = sort_by {
        panel["options"]["sortBy"] = json!([{"displayName": column, "desc": true}]);
    }
    Panel(panel)
}

/// What a TraceQL metrics query says of the whole time, as a table.
pub fn comparison(words: Words<'_>, query: &str) -> Panel {
    let mut panel = traces(words, json!({"metricsQueryType": "instant"}), query);
    panel["transformations"] =
        json!([{"id": "labelsToFields", "options": {"mode": "columns"}}, {"id": "merge", "options": {}}]);
    Panel(panel)
}

/// Bars over time from a TraceQL metrics query.
pub fn trace_counts(words: Words<'_>, query: &str) -> Panel {
    let mut panel = traces(words, json!({"metricsQueryType": "range"}), query);
    panel["type"] = json!("timeseries");
    panel["fieldConfig"]["defaults"]["custom"] = json!({
        "drawStyle": "bars", "fillOpacity": 70, "lineWidth": 0, "stacking": {"mode": "normal", "group": "A"},
    });
    panel["options"] = json!({
        "legend": {"displayMode": "table", "placement": "right", "showLegend": true, "calcs": ["sum"]},
        "tooltip": {"mode": "multi", "sort": "desc"},
    });
    Panel(panel)
}

fn traces(words: Words<'_>, more: Value, query: &str) -> Value {
    let mut target =
        json!({"refId": ref_id(0), "datasource": source("tempo"), "queryType": "traceql", "filters": [], "query": query});
    if let (Some(target), Value::Object(more)) = (target.as_object_mut(), more) {
        target.extend(more);
    }
    let mut panel = common("table", words, "tempo", Unit::Short, Judge::Nothing, vec![target]);
    panel["options"] = json!({"showHeader": true, "cellHeight": "sm"});
    panel
}

fn common(kind: &str, words: Words<'_>, data: &str, unit: Unit, judge: Judge, targets: Vec<Value>) -> Value {
    json!({
        "type": kind,
        "title": words.title,
        "description": words.description,
        "datasource": source(data),
        "targets": targets,
        "fieldConfig": {
            "defaults": {"unit": unit.as_str(), "color": {"mode": "thresholds"}, "thresholds": judge.thresholds()},
            "overrides": [],
        },
    })
}

fn prometheus(at: usize, query: &str) -> Value {
    json!({"refId": ref_id(at), "datasource": source("prometheus"), "expr": query})
}

/// The data source that the dashboard's variable of that name chooses.
pub(crate) fn source(kind: &str) -> Value {
    json!({"type": kind, "uid": format!("${{{kind}}}")})
}

/// `A`, `B`, ...: no panel has more queries than there are letters.
fn ref_id(at: usize) -> String {
    char::from_u32('A' as u32 + (at % 26) as u32).unwrap_or('A').to_string()
}
