//! Every YAML block of the pages in `docs/` is one that the operator takes.

#![expect(clippy::unwrap_used, reason = "a test ends where something it needs is not there")]

use std::path::Path;

use serde_json::{Value, json};
use sojourn_contract::journey::{Kind, Outcome, Parent};
use sojourn_contract::sampling::{Decision, Facts, Rule, decide};
use sojourn_operator::cli;
use sojourn_operator::reconcile::service::Service;
use sojourn_operator::reconcile::validate::validate;
use sojourn_operator::settings::Settings;

const PAGES: [&str; 3] = ["sampling.md", "backends.md", "grafana.md"];

fn read(path: &str) -> String {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap();
    std::fs::read_to_string(repository.join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Fenced blocks of a page: what follows the fence, and the text.
fn blocks(page: &str) -> Vec<(String, String)> {
    let text = read(&format!("docs/{page}"));
    let mut parts = text.split("\n```");
    parts.next();
    let parts: Vec<&str> = parts.collect();
    assert!(parts.len().is_multiple_of(2), "{page}: a fence is not closed");
    parts
        .iter()
        .step_by(2)
        .map(|block| block.split_once('\n').map(|(head, body)| (head.into(), body.into())).unwrap())
        .collect()
}

/// The service of a block, which is a part of `spec.tracing`.
fn service(block: &str) -> Result<Service, String> {
    let tracing: Value = serde_yaml::from_str(block).map_err(|error| error.to_string())?;
    endpoints(&tracing)?;
    let object = json!({
        "apiVersion": "sojourn.dev/v1alpha1", "kind": "InferenceService", "metadata": {"name": "chat", "namespace": "web"},
        "spec": {"model": {"uri": "pvc://models/m.gguf"}, "tracing": tracing},
    });
    let object = cli::parse(&object.to_string()).map_err(|error| error.to_string())?.remove(0);
    let service = validate(&object, &Settings::default()).map_err(|error| error.to_string())?;
    cli::rendered(&[object], &Settings::default()).map_err(|error| format!("{error:#}"))?;
    Ok(service)
}

/// The API server's rules for endpoints, which are not the operator's own.
fn endpoints(tracing: &Value) -> Result<(), String> {
    for destination in tracing["destinations"].as_array().into_iter().flatten() {
        let Some(endpoint) = destination["endpoint"].as_str() else { continue };
        let (scheme, rest) = endpoint.split_once("://").ok_or(format!("{endpoint}: no scheme"))?;
        let port = rest.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
        let tls = destination.get("tls").is_none() || scheme == "https";
        if !["http", "https"].contains(&scheme) || !(port || destination["protocol"] == "http") || !tls {
            return Err(format!("{endpoint}: the API server refuses it"));
        }
    }
    Ok(())
}

#[test]
fn every_block_for_a_service_is_valid_and_renders() {
    let mut count = 0;
    for page in PAGES {
        for (kind, block) in blocks(page) {
            match kind.as_str() {
                "yaml" => {
                    count += 1;
                    let taken = service(&block);
                    assert!(taken.is_ok(), "{page}: {}\n{block}", taken.err().unwrap());
                }
                "yaml values" => {
                    assert!(serde_yaml::from_str::<Value>(&block).is_ok_and(|value| value.is_object()), "{page}: {block}")
                }
                "" => {}
                other => panic!("{page}: nobody checks a block of '{other}'"),
            }
        }
    }
    assert!(count > 15, "{count}");
}

#[test]
fn what_the_api_lacks_is_noticed() {
    assert!(service("sampling: {rates: 5%}").is_err());
    assert!(service("sampling: {rate: 5}").is_err());
    assert!(service("destinations: [{name: a, endpoint: tempo}]").is_err());
    assert!(service("destinations: [{name: a, endpoint: 'https://tempo'}]").is_err());
    assert!(service("destinations: [{name: a, endpoint: 'http://tempo:4317', tls: {caSecretKey: ca.crt}}]").is_err());
}

/// Values of our own chart that the pages write are ones that the chart has.
#[test]
fn every_value_for_our_chart_is_in_its_schema() {
    fn known(value: &Value, schema: &Value, path: &str) {
        let Some(fields) = schema["properties"].as_object() else { return };
        for (name, value) in value.as_object().unwrap() {
            assert!(fields.contains_key(name), "{path}.{name}");
            known(value, &fields[name], &format!("{path}.{name}"));
        }
    }
    let schema: Value = serde_json::from_str(&read("charts/sojourn/values.schema.json")).unwrap();
    let mut count = 0;
    for page in PAGES {
        for (_, block) in blocks(page).into_iter().filter(|(kind, _)| kind == "yaml values") {
            let values: Value = serde_yaml::from_str(&block).unwrap();
            // Grafana's and Prometheus' own.
            if values.get("grafana").is_none() && values.get("scrape_configs").is_none() {
                known(&values, &schema, page);
                count += 1;
            }
        }
    }
    assert!(count >= 3, "{count}");
}

const FINE: Facts = Facts {
    kind: Kind::Request,
    outcome: Outcome::Ok,
    parent: Parent::None,
    num_preemptions: 0,
    time_to_first_token: Some(0.1),
    time_in_queue: Some(0.0),
    duration: 1.0,
};

/// The recipe under this heading.
fn recipe(heading: &str) -> impl Fn(&Facts) -> Decision {
    let text = read("docs/sampling.md");
    let section = text.split_once(&format!("## {heading}\n")).unwrap().1;
    let block = section.split_once("```yaml\n").unwrap().1.split_once("\n```").unwrap().0.to_owned();
    let policy = service(&block).unwrap().tracing.unwrap().policy;
    move |facts| decide(&policy, facts)
}

#[test]
fn the_first_recipe_keeps_errors_slow_first_tokens_and_draws_for_the_rest() {
    let decide = recipe("All errors, every slow first token, and a little of the rest");
    assert_eq!(decide(&Facts { outcome: Outcome::Error, ..FINE }), Decision::Keep(vec![Rule::Error]));
    assert_eq!(decide(&Facts { time_to_first_token: Some(2.1), ..FINE }), Decision::Keep(vec![Rule::SlowFirstToken]));
    assert_eq!(decide(&Facts { time_to_first_token: None, duration: 2.1, ..FINE }), Decision::Keep(vec![Rule::SlowFirstToken]));
    for rest in [
        FINE,
        Facts { time_to_first_token: Some(1.9), duration: 60.0, ..FINE },
        Facts { outcome: Outcome::Aborted, ..FINE },
        Facts { outcome: Outcome::Rejected, ..FINE },
        Facts { num_preemptions: 2, ..FINE },
    ] {
        assert_eq!(decide(&rest), Decision::Draw, "{rest:?}");
    }
}

#[test]
fn the_other_recipes_keep_what_their_text_says() {
    let wrong = recipe("Only what went wrong");
    assert_eq!(wrong(&Facts { duration: 31.0, ..FINE }), Decision::Keep(vec![Rule::Slow]));
    assert_eq!(wrong(&FINE), Decision::Draw);
    let waiting = recipe("Why do people wait before the first token?");
    let slow = Facts { time_to_first_token: Some(2.0), time_in_queue: Some(0.6), ..FINE };
    assert_eq!(waiting(&slow), Decision::Keep(vec![Rule::SlowFirstToken, Rule::SlowQueue]));
    assert_eq!(waiting(&Facts { num_preemptions: 1, ..FINE }), Decision::Keep(vec![Rule::Preempted]));
    let gone = recipe("Why do clients go away?");
    assert_eq!(gone(&Facts { outcome: Outcome::Aborted, ..FINE }), Decision::Keep(vec![Rule::Aborted]));
    assert_eq!(gone(&Facts { outcome: Outcome::Error, num_preemptions: 1, ..FINE }), Decision::Draw);
    let ignoring = recipe("Callers that trace themselves");
    assert_eq!(ignoring(&Facts { parent: Parent::Sampled, ..FINE }), Decision::Draw);
    assert_eq!(ignoring(&Facts { parent: Parent::Unsampled, ..FINE }), Decision::Draw);
}
