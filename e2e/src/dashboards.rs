//! The dashboards as the chart ships them, and what Grafana makes of them: their queries with the variables filled in.

pub mod live;

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};
use serde_json::Value;

/// A dashboard's file.
pub struct Dashboard {
    /// Its name without the ending.
    pub name: String,
    /// Its content.
    pub json: Value,
}

/// What a query is written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Language {
    /// Prometheus'.
    PromQl,
    /// Tempo's, for a list of spans.
    TraceQl,
    /// Tempo's, for numbers over time.
    TraceQlMetrics,
}

/// A query of a panel.
#[derive(Debug, Clone, PartialEq)]
pub struct Query {
    /// Name of the dashboard's file.
    pub dashboard: String,
    /// Title of the panel.
    pub panel: String,
    /// Its letter within the panel.
    pub ref_id: String,
    /// What it is written in.
    pub language: Language,
    /// The query with variables.
    pub text: String,
    /// What a series of its answer is called; `{{label}}` stands for a label's value.
    pub legend: String,
}

/// Values of a dashboard's variables.
#[derive(Debug, Clone, Default)]
pub struct Variables(BTreeMap<String, String>);

/// Every dashboard of the chart.
///
/// # Errors
/// They are not where the repository has them.
pub fn all() -> Result<Vec<Dashboard>> {
    let directory = crate::checkout::path("charts/sojourn/dashboards");
    let mut dashboards = Vec::new();
    for entry in std::fs::read_dir(&directory).with_context(|| format!("cannot read {}", directory.display()))? {
        let path = entry?.path();
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let json = serde_json::from_str(&std::fs::read_to_string(&path)?).with_context(|| format!("{name} is no JSON"))?;
        dashboards.push(Dashboard { name, json });
    }
    dashboards.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(dashboards)
}

impl Dashboard {
    /// Its panels' queries.
    pub fn queries(&self) -> Vec<Query> {
        let panels = self.json["panels"].as_array().into_iter().flatten();
        panels.flat_map(|panel| list(&panel["targets"]).filter_map(|target| self.query(panel, target))).collect()
    }

    fn query(&self, panel: &Value, target: &Value) -> Option<Query> {
        let (language, text) = match (target["expr"].as_str(), target["query"].as_str()) {
            (Some(text), _) => (Language::PromQl, text),
            (None, Some(text)) if target["metricsQueryType"].is_string() => (Language::TraceQlMetrics, text),
            (None, Some(text)) => (Language::TraceQl, text),
            (None, None) => return None,
        };
        let text_of = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        Some(Query {
            dashboard: self.name.clone(),
            panel: text_of(&panel["title"]),
            ref_id: text_of(&target["refId"]),
            language,
            text: text.to_owned(),
            legend: text_of(&target["legendFormat"]),
        })
    }

    /// Its variables as they are when somebody opens it; data sources are not among them.
    pub fn variables(&self) -> Variables {
        let known = list(&self.json["templating"]["list"]).filter_map(|variable| {
            let value = match (&variable["current"]["value"], &variable["allValue"]) {
                (Value::String(value), _) => value,
                (Value::Array(all), Value::String(value)) if *all == ["$__all"] => value,
                _ => return None,
            };
            Some((variable["name"].as_str()?.to_owned(), value.clone()))
        });
        Variables(known.collect())
    }

    /// What there is to choose for a variable.
    pub fn choices(&self, variable: &str) -> Vec<String> {
        let mut all = list(&self.json["templating"]["list"]);
        let options = all.find(|known| known["name"] == variable).map(|known| list(&known["options"]));
        options.into_iter().flatten().filter_map(|option| Some(option["value"].as_str()?.to_owned())).collect()
    }
}

impl Variables {
    /// Chooses another value.
    #[must_use]
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.0.insert(name.to_owned(), value.to_owned());
        self
    }

    /// A query with the values in place of `$name`, `${name}` and `${name:format}`.
    ///
    /// # Errors
    /// A variable has no value.
    pub fn fill(&self, query: &str) -> Result<String> {
        let mut parts = query.split('$');
        let mut filled = parts.next().unwrap_or_default().to_owned();
        for part in parts {
            let (name, rest) = match part.strip_prefix('{').and_then(|part| part.split_once('}')) {
                Some((inside, rest)) => (inside.split(':').next().unwrap_or_default(), rest),
                None => part.split_at(part.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(part.len())),
            };
            let Some(value) = self.0.get(name) else { bail!("${name} has no value in {query}") };
            filled.push_str(value);
            filled.push_str(rest);
        }
        Ok(filled)
    }
}

/// What a series with these labels is called.
pub fn legend(template: &str, labels: &BTreeMap<String, String>) -> String {
    let mut parts = template.split("{{");
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (label, rest) = part.split_once("}}").unwrap_or((part, ""));
        text.push_str(labels.get(label.trim()).map_or("", String::as_str));
        text.push_str(rest);
    }
    text
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_filled_in_as_they_are_when_somebody_opens_the_dashboard() {
        let service = all().unwrap().into_iter().find(|dashboard| dashboard.name == "service").unwrap();
        let variables = service.variables().with("__rate_interval", "1m");
        let filled = variables.fill(r#"rate(a{service=~"$service",le="$first_token"}[$__rate_interval]) > ${slow:pipe}"#);
        assert_eq!(filled.unwrap(), r#"rate(a{service=~".*",le="2.5"}[1m]) > 10"#);
        assert!(variables.fill("$unknown").unwrap_err().to_string().contains("$unknown"));
        assert!(service.choices("first_token").len() > 3);
    }

    #[test]
    fn every_panel_that_is_no_row_has_a_query() {
        for dashboard in all().unwrap() {
            let queries = dashboard.queries();
            for panel in list(&dashboard.json["panels"]).filter(|panel| panel["type"] != "row") {
                assert!(queries.iter().any(|query| panel["title"] == query.panel.as_str()), "{}", panel["title"]);
            }
        }
    }

    #[test]
    fn a_legend_takes_the_values_of_labels() {
        let labels = BTreeMap::from([("reason".to_owned(), "timeout".to_owned()), ("phase".to_owned(), "api".to_owned())]);
        assert_eq!(legend("{{reason}} in {{ phase }}", &labels), "timeout in api");
        assert_eq!(legend("p50", &labels), "p50");
    }
}
