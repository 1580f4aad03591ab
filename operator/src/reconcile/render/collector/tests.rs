use serde_json::json;

use super::*;
use crate::cli;
use crate::reconcile::validate::validate;
use crate::settings::Settings;

fn configuration_of(tracing: &str) -> Value {
    let text = format!(
        "apiVersion: sojourn.dev/v1alpha1\nkind: InferenceService\nmetadata: {{name: chat}}\nspec: {{model: {{uri: pvc://m/x}}, \
         tracing: {tracing}}}\n"
    );
    let service = validate(&cli::parse(&text).unwrap().remove(0), &Settings::default()).unwrap();
    serde_yaml::from_str(&configuration(&service.tracing.unwrap())).unwrap()
}

/// The only exporter of a configuration.
fn exporter_of(destination: &str) -> (String, Value) {
    let configuration = configuration_of(&format!("{{destinations: [{destination}]}}"));
    let exporters = configuration["exporters"].as_object().unwrap();
    assert_eq!(exporters.len(), 1);
    exporters.iter().next().map(|(name, exporter)| (name.clone(), exporter.clone())).unwrap()
}

#[test]
fn without_a_destination_everything_is_dropped_visibly() {
    let configuration = configuration_of("{}");
    assert_eq!(configuration["exporters"], json!({"nop": {}}));
    assert_eq!(configuration["service"]["pipelines"]["traces"]["exporters"], json!(["nop"]));
}

#[test]
fn an_exporter_is_named_after_its_destination_and_endpoint() {
    let (first, _) = exporter_of("{name: tempo, endpoint: 'http://tempo:4317'}");
    let (second, _) = exporter_of("{name: tempo, endpoint: 'http://other:4317'}");
    assert!(first.starts_with("otlp_grpc/tempo-"), "{first}");
    assert_ne!(first, second);
    assert_eq!(sojourn_contract::collector::destination_of(&first), Some("tempo"));
}

#[test]
fn a_secret_stays_a_reference() {
    let (_, exporter) = exporter_of(
        "{name: t, endpoint: 'https://t:4317', headers: [{name: authorization, secretKey: token}, {name: x, value: 'a$b'}], \
         tls: {caSecretKey: ca.crt}}",
    );
    assert_eq!(exporter["headers"], json!({"authorization": {"secretKey": "token"}, "x": "a$$b"}));
    assert_eq!(exporter["tls"], json!({"insecure": false, "ca_file": "/etc/sojourn/credentials/ca.crt"}));
}

#[test]
fn an_http_url_with_the_path_of_traces_is_taken_as_it_is() {
    let (name, exporter) = exporter_of("{name: t, protocol: http, endpoint: 'https://t/v1/traces'}");
    assert!(name.starts_with("otlp_http/t-"), "{name}");
    assert_eq!(exporter["traces_endpoint"], "https://t/v1/traces");
    let (_, exporter) = exporter_of("{name: t, protocol: http, endpoint: 'https://t/otlp'}");
    assert_eq!(exporter["endpoint"], "https://t/otlp");
}

#[test]
fn any_other_exporter_keeps_its_own_words() {
    let (name, exporter) = exporter_of("{name: bus, exporter: {type: kafka, config: {brokers: [a], p: {secretKey: k}}}}");
    assert!(name.starts_with("kafka/bus-"), "{name}");
    assert_eq!(exporter, json!({"brokers": ["a"], "p": {"secretKey": "k"}}));
}

#[test]
fn the_queues_share_the_memory() {
    let two = "{destinations: [{name: a, endpoint: 'http://a:4317'}, {name: b, endpoint: 'http://b:4317'}]}";
    let configuration = configuration_of(two);
    for exporter in configuration["exporters"].as_object().unwrap().values() {
        assert_eq!(exporter["sending_queue"]["queue_size"], (256 << 20) / 16 / 2);
        assert_eq!(exporter["sending_queue"]["sizer"], "bytes");
        assert!(exporter["sending_queue"].get("storage").is_none());
    }
}

#[test]
fn the_limiter_is_first_and_the_priority_is_gone_before_the_export() {
    let configuration = configuration_of("{resourceAttributes: {team: search}}");
    let order = &configuration["service"]["pipelines"]["traces"]["processors"];
    assert_eq!(*order, json!(["memory_limiter", "transform/decide", "probabilistic_sampler", "transform/tidy", "resource"]));
    assert_eq!(configuration["processors"]["resource"]["attributes"][0]["key"], "team");
}
