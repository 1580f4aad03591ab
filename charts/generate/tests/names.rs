//! Queries name only what the contract has: a dot for an underscore would silently show nothing.

use std::collections::BTreeSet;

use serde_json::Value;
use sojourn_charts_generate::dashboard::Id;
use sojourn_charts_generate::promql::{LE, NAMESPACE, POD, SERVICE};
use sojourn_charts_generate::questions::{FIRST_TOKEN_BOUND, FIRST_TOKEN_BOUNDS};
use sojourn_charts_generate::{alerts, dashboard_of};
use sojourn_contract::metric::{self, Kind, Metric};
use sojourn_contract::names::Name;
use sojourn_contract::{attribute, event, journey};

/// Every string that stands under this key, at any depth.
fn under<'a>(key: &str, value: &'a Value, found: &mut Vec<&'a str>) {
    match value {
        Value::Array(values) => values.iter().for_each(|value| under(key, value, found)),
        Value::Object(fields) => {
            for (name, value) in fields {
                match value {
                    Value::String(text) if name == key => found.push(text),
                    _ => under(key, value, found),
                }
            }
        }
        _ => {}
    }
}

fn all(key: &str, documents: &[Value]) -> Vec<String> {
    let mut found = Vec::new();
    documents.iter().for_each(|document| under(key, document, &mut found));
    found.into_iter().map(str::to_owned).collect()
}

fn dashboards() -> Vec<Value> {
    Id::ALL.into_iter().map(dashboard_of).collect()
}

fn promql() -> Vec<String> {
    let documents: Vec<Value> = dashboards().into_iter().chain([alerts::groups()]).collect();
    all("expr", &documents)
}

fn traceql() -> Vec<String> {
    all("query", &dashboards()).into_iter().filter(|query| query.starts_with('{')).collect()
}

/// Words of a query outside its quoted strings.
fn words(query: &str) -> Vec<&str> {
    query
        .split('"')
        .step_by(2)
        .flat_map(|part| part.split(|c: char| !(c.is_ascii_alphanumeric() || "_:.$".contains(c))))
        .filter(|word| word.starts_with(|c: char| c.is_ascii_alphabetic()))
        .collect()
}

fn metrics() -> impl Iterator<Item = &'static Metric> {
    metric::ALL.iter().chain(metric::sidecar::ALL)
}

fn series(metric: &Metric) -> Vec<String> {
    let name = metric.series();
    match metric.kind {
        Kind::Histogram => ["_bucket", "_sum", "_count"].map(|suffix| format!("{name}{suffix}")).into(),
        Kind::Counter | Kind::Gauge | Kind::Info => vec![name],
    }
}

/// What PromQL itself has, as far as our queries use it.
const PROMQL: [&str; 13] =
    ["sum", "max", "count", "by", "rate", "increase", "histogram_quantile", "scalar", "or", "and", "unless", "s", "m"];

#[test]
fn every_word_of_promql_is_a_series_a_label_of_it_or_the_language() {
    let queries = promql();
    assert!(queries.len() > 60, "{}", queries.len());
    for query in queries {
        let used: Vec<&Metric> =
            metrics().filter(|metric| series(metric).iter().any(|name| words(&query).contains(&name.as_str()))).collect();
        assert!(!used.is_empty(), "no series of ours: {query}");
        let mut known: BTreeSet<String> = used.iter().flat_map(|metric| series(metric)).collect();
        known.extend(used.iter().flat_map(|metric| metric.labels.iter().map(|label| (*label).to_owned())));
        known.extend([NAMESPACE, SERVICE, POD, LE, alerts::BUDGET].map(str::to_owned));
        for word in words(&query) {
            assert!(known.contains(word) || PROMQL.contains(&word), "'{word}' in {query}");
        }
    }
}

#[test]
fn every_attribute_and_name_in_traceql_is_the_contracts() {
    let names = |sets: &[&'static [Name]]| -> BTreeSet<&'static str> {
        sets.iter().flat_map(|set| set.iter().map(|name| name.name)).collect()
    };
    let spans = names(&[attribute::FACT, attribute::SIDECAR, attribute::REQUEST]);
    let resources = names(&[attribute::RESOURCE]);
    let events = names(&[attribute::EVENT]);
    let queries = traceql();
    assert!(queries.len() >= 6, "{queries:?}");
    for query in &queries {
        for word in words(query) {
            let known = match word.split_once('.') {
                Some(("span", name)) => spans.contains(name),
                Some(("resource", name)) => resources.contains(name),
                Some(("event", name)) => events.contains(name),
                Some(_) => false,
                None => ["span:name", "select", "compare", "count_over_time", "by"].contains(&word),
            };
            assert!(known, "'{word}' in {query}");
        }
        for name in query.split("span:name=\"").skip(1).filter_map(|rest| rest.split('"').next()) {
            assert!(journey::SPANS.iter().any(|span| span.name == name), "{name} in {query}");
        }
    }
}

/// Values that queries compare with: words of the contract's closed sets, variables and buckets.
#[test]
fn every_quoted_value_is_a_word_of_the_contract_a_variable_or_a_bucket() {
    let sets = [journey::Outcome::NAMES, journey::AbortReason::NAMES, journey::Kind::NAMES, journey::SPANS, event::ALL];
    let mut known: BTreeSet<&str> = sets.iter().flat_map(|set| set.iter().map(|name| name.name)).collect();
    known.insert(sojourn_contract::sampling::KEPT_BY_RATE);
    known.insert(alerts::SECONDS);
    for query in promql().into_iter().chain(traceql()) {
        for value in query.split('"').skip(1).step_by(2) {
            assert!(known.contains(value) || value.starts_with('$'), "'{value}' in {query}");
        }
    }
}

#[test]
fn every_variable_in_a_query_is_one_of_its_dashboard() {
    for id in Id::ALL {
        let dashboard = dashboard_of(id);
        let variables: Vec<&str> = dashboard["templating"]["list"]
            .as_array()
            .unwrap()
            .iter()
            .map(|variable| variable["name"].as_str().unwrap())
            .collect();
        for query in [all("expr", std::slice::from_ref(&dashboard)), all("query", std::slice::from_ref(&dashboard))].concat() {
            for name in query.split('$').skip(1) {
                let name: String = name.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
                assert!(variables.contains(&name.as_str()) || name == "__rate_interval", "${name} in {query}");
            }
        }
    }
}

#[test]
fn traces_are_listed_and_compared_and_never_turned_into_ratios_or_percentiles() {
    for query in traceql() {
        assert!(!["rate(", "quantile_over_time", "avg_over_time", " / "].iter().any(|word| query.contains(word)), "{query}");
    }
}

#[test]
fn every_panel_and_alert_says_what_it_means() {
    for dashboard in dashboards() {
        for panel in dashboard["panels"].as_array().unwrap().iter().filter(|panel| panel["type"] != "row") {
            assert!(panel["description"].as_str().is_some_and(|text| text.len() > 20), "{}", panel["title"]);
        }
    }
    for rule in alerts::groups()["groups"].as_array().unwrap().iter().flat_map(|group| group["rules"].as_array().unwrap()) {
        for annotation in ["summary", "description", "action"] {
            assert!(rule["annotations"][annotation].as_str().is_some_and(|text| text.len() > 20), "{rule}");
        }
    }
}

#[test]
fn panels_do_not_overlap_and_stay_in_the_grid() {
    for dashboard in dashboards() {
        let mut taken = BTreeSet::new();
        for panel in dashboard["panels"].as_array().unwrap() {
            let at = |key: &str| panel["gridPos"][key].as_u64().unwrap();
            assert!(at("x") + at("w") <= 24, "{}", panel["title"]);
            for cell in (at("x")..at("x") + at("w")).flat_map(|x| (at("y")..at("y") + at("h")).map(move |y| (x, y))) {
                assert!(taken.insert(cell), "{} lies on another", panel["title"]);
            }
        }
    }
}

#[test]
fn links_lead_to_dashboards_that_there_are() {
    let uids: Vec<String> = Id::ALL.into_iter().map(Id::uid).collect();
    for url in all("url", &dashboards()).into_iter().filter(|url| !url.starts_with("/explore?")) {
        let uid: String = url.trim_start_matches("/d/").chars().take_while(|c| *c != '?').collect();
        assert!(uids.contains(&uid), "{url}");
    }
}

#[test]
fn the_objective_is_one_of_the_bounds() {
    assert!(FIRST_TOKEN_BOUNDS.contains(&FIRST_TOKEN_BOUND));
    let read = |file: &str| {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../sojourn").join(file);
        std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    };
    let values: Value = serde_yaml::from_str(&read("values.yaml")).unwrap();
    assert_eq!(values["alerts"]["firstToken"]["seconds"], FIRST_TOKEN_BOUND);
    let schema: Value = serde_json::from_str(&read("values.schema.json")).unwrap();
    assert_eq!(
        schema["properties"]["alerts"]["properties"]["firstToken"]["properties"]["seconds"]["enum"],
        serde_json::json!(FIRST_TOKEN_BOUNDS)
    );
    let template = read("templates/alerts.yaml");
    for placeholder in [alerts::SECONDS, alerts::BUDGET] {
        assert!(template.contains(&format!("replace \"{placeholder}\"")), "{placeholder}");
    }
}
