//! Every query of the dashboards on a run whose numbers are known: two engines with the scripted model, one of them with a
//! real sidecar and a real collector, all scraped by a real Prometheus with the configuration of docs/grafana.md.
//!
//! `make panels` says where collector and Prometheus are. What a panel must show comes from the journeys that arrived and from
//! what was asked, never from `/metrics`.

#![expect(clippy::unwrap_used, reason = "a test ends where something it needs is not there")]

mod expected;
mod journeys;
mod names;
mod pages;
mod pods;
mod traffic;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use sojourn_e2e::dashboards::{self, Dashboard, Language, Query, legend};
use sojourn_e2e::prometheus::{Prometheus, Sample};
use sojourn_e2e::wait::{self, Look};

use expected::{Moment, Range, Run};
use pods::Pods;

const PATIENCE: Duration = Duration::from_secs(60);

#[tokio::test]
async fn every_panel_shows_what_happened() -> Result<()> {
    let began = now();
    let pods = Pods::start().await?;
    let run = perform(&pods, began).await?;
    let dashboards = dashboards::all()?;
    let mut faults = panels(&pods.prometheus, &dashboards, &run).await?;
    faults.extend(nobody_else(&pods.prometheus, &dashboards, &run).await?);
    faults.extend(objectives(&pods.prometheus, &dashboards, &run).await?);
    faults.extend(names::missing(&dashboards, &run.traces)?);
    assert_eq!(pods.prometheus.label_values(r#"sojourn_build_info{namespace=~".*"}"#, "service").await?, ["chat"]);
    pods.end().await?;
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    Ok(())
}

/// Everything that happens, with a look at each moment of interest.
async fn perform(pods: &Pods, began: f64) -> Result<Run> {
    let asked = traffic::send(pods).await?;
    let traces = pods.traces(&asked).await?;
    let total = asked.total() as f64;
    until(&pods.prometheus, "sum(sojourn_requests_total)", |value| value == total).await?;
    until(&pods.prometheus, "sum(sojourn_journeys_exported_total) + sum(sojourn_journeys_dropped_total)", |v| v == total)
        .await?;
    let telemetry = pods.telemetry_at_rest().await?;
    until(&pods.prometheus, "sum(sojourn_destination_queue_bytes)", |value| value == telemetry.queue_bytes()).await?;
    let ended = now();
    let mut run = Run::new(began, ended, asked, traces, telemetry);

    pods.kill_collector()?;
    until(&pods.prometheus, "sum(sojourn_collector_up)", |value| value == 0.0).await?;
    traffic::ask_after_all(pods, expected::QUEUED + 1).await?;
    until(&pods.prometheus, "sum(sojourn_journeys_queued)", |value| value == expected::QUEUED as f64).await?;
    run.at(Moment::Down, now());
    until(&pods.prometheus, "sum(sojourn_collector_up)", |value| value == 1.0).await?;
    pods.mount_what_the_collector_refuses()?;
    until(&pods.prometheus, "sum(sojourn_collector_configuration_refused)", |value| value == 1.0).await?;
    run.at(Moment::Refused, now());
    Ok(run)
}

/// Waits until a query of one series has such a value; a panel asks at the same moment and must see the same.
async fn until(prometheus: &Prometheus, query: &str, is_such: impl Fn(f64) -> bool) -> Result<()> {
    wait::quietly(&format!("{query} is as expected"), PATIENCE, || async {
        let found = prometheus.query(query, now()).await?;
        let values: Vec<f64> = found.iter().map(|sample| sample.value).collect();
        Ok(if values.len() == 1 && is_such(values[0]) { Look::Holds(()) } else { Look::NotYet(format!("{values:?}")) })
    })
    .await
}

/// What panels show that they should not, or do not show that they should.
async fn panels(prometheus: &Prometheus, dashboards: &[Dashboard], run: &Run) -> Result<Vec<String>> {
    let expected = expected::panels(run);
    let mut faults = Vec::new();
    for dashboard in dashboards {
        let variables = dashboard.variables().with("__rate_interval", &run.window());
        let chosen = variables.clone().with("namespace", "(web|lab)").with("service", "(chat|other)");
        for query in dashboard.queries().into_iter().filter(|query| query.language == Language::PromQl) {
            let of_query: Vec<_> = expected.iter().filter(|expected| expected.is_of(&query)).collect();
            if of_query.is_empty() {
                faults.push(format!("{}: nobody says what it shows", place(&query)));
            }
            for expected in of_query {
                for variables in [&variables, &chosen] {
                    let found = prometheus.query(&variables.fill(&query.text)?, run.time(expected.moment)).await?;
                    let fault = compare(&query, &found, &expected.series);
                    faults.extend(fault.map(|fault| format!("{} ({:?}): {fault}", place(&query), expected.moment)));
                }
            }
        }
    }
    for expected in &expected {
        let of_it = |query: &Query| expected.is_of(query);
        if !dashboards.iter().any(|dashboard| dashboard.queries().iter().any(of_it)) {
            faults.push(format!("there is no panel {expected:?}"));
        }
    }
    Ok(faults)
}

/// For a service that there is not every panel is empty.
async fn nobody_else(prometheus: &Prometheus, dashboards: &[Dashboard], run: &Run) -> Result<Vec<String>> {
    let mut faults = Vec::new();
    for dashboard in dashboards {
        let other = dashboard.variables().with("__rate_interval", &run.window()).with("service", "other");
        for query in dashboard.queries().into_iter().filter(|query| query.language == Language::PromQl) {
            let found = prometheus.query(&other.fill(&query.text)?, run.time(Moment::End)).await?;
            if !found.is_empty() {
                faults.push(format!("{}: shows other services: {found:?}", place(&query)));
            }
        }
    }
    Ok(faults)
}

/// Each objective that can be chosen is a bound of the buckets as Prometheus writes it.
async fn objectives(prometheus: &Prometheus, dashboards: &[Dashboard], run: &Run) -> Result<Vec<String>> {
    let mut faults = Vec::new();
    for dashboard in dashboards {
        for seconds in dashboard.choices("first_token") {
            let variables = dashboard.variables().with("__rate_interval", &run.window()).with("first_token", &seconds);
            for query in dashboard.queries().into_iter().filter(|query| query.text.contains("$first_token")) {
                let found = prometheus.query(&variables.fill(&query.text)?, run.time(Moment::End)).await?;
                let expected = run.in_time(seconds.parse().context("an objective is a number")?);
                if found.len() != 1 || !expected.holds(found[0].value) {
                    faults.push(format!("{} within {seconds} s: {found:?} is not {expected:?}", place(&query)));
                }
            }
        }
    }
    Ok(faults)
}

/// What is wrong with an answer: a series too many, one too few, or another value.
fn compare(query: &Query, found: &[Sample], expected: &[(String, Range)]) -> Option<String> {
    let name = |sample: &Sample| match query.legend.as_str() {
        "" => sample.labels.get("service").cloned().unwrap_or_default(),
        template => legend(template, &sample.labels),
    };
    let mut faults = Vec::new();
    for sample in found {
        if !expected.iter().any(|(series, _)| *series == name(sample)) {
            faults.push(format!("'{}' ({}) should not be there", name(sample), sample.value));
        }
    }
    for (series, range) in expected {
        match found.iter().filter(|sample| name(sample) == *series).collect::<Vec<_>>().as_slice() {
            [sample] if range.holds(sample.value) => {}
            [sample] => faults.push(format!("'{series}' is {} and not {range:?}", sample.value)),
            others => faults.push(format!("'{series}' is there {} times", others.len())),
        }
    }
    (!faults.is_empty()).then(|| faults.join(", "))
}

fn place(query: &Query) -> String {
    format!("{}: {} {}", query.dashboard, query.panel, query.ref_id)
}

fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64()
}
