//! Whatever a query of TraceQL names is in the traces that arrived: a name that is only in the contract finds nothing.

use std::collections::BTreeSet;

use anyhow::{Context, Result};
use reqwest::Url;
use serde_json::Value;
use sojourn_e2e::dashboards::{Dashboard, Language, Query};
use sojourn_journey::trace::{Attributes, Trace};

/// What arrived, as TraceQL names it: `span.x`, `resource.x`, `event.x`, and the texts that things have.
#[derive(Default)]
struct Seen {
    names: BTreeSet<String>,
    texts: BTreeSet<String>,
}

/// The names and values of queries, links included, that nothing has which arrived.
pub fn missing(dashboards: &[Dashboard], traces: &[Trace]) -> Result<Vec<String>> {
    let seen = Seen::of(traces);
    let mut missing = Vec::new();
    let mut names = 0;
    for dashboard in dashboards {
        for (place, query) in queries(dashboard)? {
            for name in attributes(&query) {
                names += 1;
                if !seen.names.contains(name) {
                    missing.push(format!("{place}: nothing that arrived has {name}"));
                }
            }
            for text in query.split('"').skip(1).step_by(2).filter(|text| !text.contains('$')) {
                if !seen.texts.contains(text) {
                    missing.push(format!("{place}: nothing that arrived is '{text}'"));
                }
            }
        }
    }
    anyhow::ensure!(names > 50, "only {names} names were found");
    Ok(missing)
}

impl Seen {
    fn of(traces: &[Trace]) -> Self {
        let mut seen = Self::default();
        for span in traces.iter().flat_map(|trace| &trace.spans) {
            seen.texts.insert(span.name.to_string());
            seen.add("span", &span.attributes);
            seen.add("resource", &span.resource);
            for event in &span.events {
                seen.texts.insert(event.name.to_string());
                seen.add("event", &event.attributes);
            }
        }
        seen
    }

    fn add(&mut self, scope: &str, attributes: &Attributes) {
        for (key, value) in &attributes.0 {
            self.names.insert(format!("{scope}.{key}"));
            self.texts.insert(value.to_string());
        }
    }
}

/// Every query of TraceQL with where it is: those of panels, and those of links into Explore.
fn queries(dashboard: &Dashboard) -> Result<Vec<(String, String)>> {
    let of_panels = dashboard.queries().into_iter().filter(|query| query.language != Language::PromQl);
    let mut all: Vec<(String, String)> = of_panels.map(|Query { panel, text, .. }| (panel, text)).collect();
    for panel in dashboard.json["panels"].as_array().into_iter().flatten() {
        for link in panel["fieldConfig"]["defaults"]["links"].as_array().into_iter().flatten() {
            let url = Url::parse("http://grafana")?.join(link["url"].as_str().context("a link has a URL")?)?;
            let panes = url.query_pairs().find(|(key, _)| key == "panes").context("a link to Explore has panes")?.1;
            let query = serde_json::from_str::<Value>(&panes)?["a"]["queries"][0]["query"].take();
            all.push((format!("{}: {}", panel["title"], link["title"]), query.as_str().context("a query")?.to_owned()));
        }
    }
    Ok(all)
}

/// Attributes that a query names, outside its quoted texts.
fn attributes(query: &str) -> impl Iterator<Item = &str> {
    let outside = query.split('"').step_by(2);
    let words = outside.flat_map(|part| part.split(|c: char| !(c.is_ascii_alphanumeric() || "_.".contains(c))));
    words.filter(|word| ["span.", "resource.", "event."].iter().any(|scope| word.starts_with(scope)))
}
