//! A dashboard: panels in rows, the variables that all dashboards share, and the links between them.

use serde_json::{Value, json};
use sojourn_contract::metric;

use crate::panel::{Panel, source};
use crate::promql::{NAMESPACE, SERVICE};

/// Columns of Grafana's grid.
const COLUMNS: u32 = 24;
/// Version of the JSON that Grafana 12 writes.
const SCHEMA_VERSION: u32 = 41;

/// A dashboard's name in URLs; other dashboards link to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Id {
    /// Every service.
    Fleet,
    /// One service.
    Service,
    /// Whether journeys arrive.
    TelemetryHealth,
}

impl Id {
    /// Every dashboard.
    pub const ALL: [Self; 3] = [Self::Fleet, Self::Service, Self::TelemetryHealth];

    /// File name without its ending.
    pub const fn file(self) -> &'static str {
        match self {
            Self::Fleet => "fleet",
            Self::Service => "service",
            Self::TelemetryHealth => "telemetry-health",
        }
    }

    /// Grafana's `uid`, at most 40 characters.
    pub fn uid(self) -> String {
        format!("sojourn-{}", self.file())
    }

    const fn title(self) -> &'static str {
        match self {
            Self::Fleet => "Sojourn / Fleet",
            Self::Service => "Sojourn / Service",
            Self::TelemetryHealth => "Sojourn / Telemetry health",
        }
    }

    /// URL of the dashboard for the same data sources and time.
    pub fn url(self) -> String {
        format!("/d/{}?${{prometheus:queryparam}}&${{tempo:queryparam}}&${{loki:queryparam}}&${{__url_time_range}}", self.uid())
    }
}

/// Panels with a common height under a title.
pub struct Row {
    /// Title of the row.
    pub title: &'static str,
    /// Height of its panels in units of Grafana's grid.
    pub height: u32,
    /// Panels with their widths; what does not fit begins a new line.
    pub panels: Vec<(u32, Panel)>,
}

/// A variable that a dashboard has beside the data sources, the namespace and the service.
pub struct Choice {
    /// Name in queries.
    pub name: &'static str,
    /// Name on the page.
    pub label: &'static str,
    /// What it means.
    pub description: &'static str,
    /// What there is to choose.
    pub values: &'static [&'static str],
    /// What is chosen at first.
    pub default: &'static str,
}

/// The whole dashboard as Grafana's JSON.
pub fn dashboard(id: Id, description: &str, choices: &[Choice], rows: Vec<Row>) -> Value {
    let mut variables = vec![
        data_source("prometheus", "Metrics"),
        data_source("tempo", "Traces"),
        data_source("loki", "Logs"),
        label_values(NAMESPACE, "Namespace", ""),
        label_values(SERVICE, "Service", r#"namespace=~"$namespace""#),
    ];
    variables.extend(choices.iter().map(choice));
    json!({
        "uid": id.uid(),
        "title": id.title(),
        "description": description,
        "tags": ["sojourn"],
        "schemaVersion": SCHEMA_VERSION,
        "editable": true,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": {"from": "now-1h", "to": "now"},
        "links": links(id),
        "templating": {"list": variables},
        "annotations": {"list": []},
        "panels": placed(rows),
    })
}

fn links(own: Id) -> Vec<Value> {
    Id::ALL
        .iter()
        .filter(|id| **id != own)
        .map(|id| {
            json!({
                "type": "link", "title": id.title(), "url": format!("/d/{}", id.uid()), "icon": "dashboard", "tooltip": "",
                "tags": [], "asDropdown": false, "targetBlank": false, "includeVars": true, "keepTime": true,
            })
        })
        .collect()
}

fn data_source(kind: &str, label: &str) -> Value {
    json!({"type": "datasource", "name": kind, "label": label, "query": kind, "refresh": 1, "hide": 0, "multi": false, "includeAll": false})
}

/// A variable with the values that a label has on the series that every engine shows.
fn label_values(label: &str, title: &str, matchers: &str) -> Value {
    let series = metric::BUILD.series();
    let series = if matchers.is_empty() { series } else { format!("{series}{{{matchers}}}") };
    json!({
        "type": "query", "name": label, "label": title, "datasource": source("prometheus"), "refresh": 2, "hide": 0, "sort": 1,
        "multi": true, "includeAll": true, "allValue": ".*", "current": {"text": ["All"], "value": ["$__all"]},
        "query": {"refId": label, "query": format!("label_values({series}, {label})")},
    })
}

fn choice(choice: &Choice) -> Value {
    let options: Vec<Value> = choice
        .values
        .iter()
        .map(|value| json!({"text": value, "value": value, "selected": *value == choice.default}))
        .collect();
    json!({
        "type": "custom", "name": choice.name, "label": choice.label, "description": choice.description, "hide": 0,
        "multi": false, "includeAll": false, "query": choice.values.join(","), "options": options,
        "current": {"text": choice.default, "value": choice.default},
    })
}

/// Gives every panel an id and a place: rows from above, panels from the left.
fn placed(rows: Vec<Row>) -> Vec<Value> {
    let mut panels = Vec::new();
    let mut top = 0;
    for row in rows {
        panels.push(json!({
            "id": panels.len() + 1, "type": "row", "title": row.title, "collapsed": false, "panels": [],
            "gridPos": {"x": 0, "y": top, "w": COLUMNS, "h": 1},
        }));
        top += 1;
        let mut left = 0;
        for (width, Panel(mut panel)) in row.panels {
            if left + width > COLUMNS {
                left = 0;
                top += row.height;
            }
            panel["id"] = json!(panels.len() + 1);
            panel["gridPos"] = json!({"x": left, "y": top, "w": width, "h": row.height});
            panels.push(panel);
            left += width;
        }
        top += row.height;
    }
    panels
}
