use serde_json::{Value, json};

use super::*;

/// With every exporter.
fn render(mounted: &str, credentials: &Credentials) -> Result<Effective, Refusal> {
    super::render(mounted, credentials, &BTreeSet::new())
}

const MOUNTED: &str = r#"
receivers: {otlp: {protocols: {http: {endpoint: 127.0.0.1:4318}}}}
exporters:
  otlp_grpc/tempo-01234567:
    endpoint: tempo:4317
    headers: {authorization: {secretKey: tempo}}
    tls: {ca_pem: {secretKey: ca.crt}}
  otlp_http/phoenix-89abcdef:
    endpoint: http://phoenix:6006
    headers: {authorization: {secretKey: phoenix}}
  debug: {}
service:
  pipelines:
    traces: {receivers: [otlp], exporters: [otlp_grpc/tempo-01234567, otlp_http/phoenix-89abcdef]}
"#;

fn credentials(values: &[(&str, &str)]) -> Credentials {
    let values = values.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    Credentials { dir: "/credentials".into(), values }
}

fn all() -> Credentials {
    credentials(&[("tempo", "Bearer t"), ("ca.crt", "PEM"), ("phoenix", "Bearer p")])
}

fn content(effective: &Effective) -> Value {
    serde_json::from_str(&effective.text).unwrap()
}

#[test]
fn every_credential_is_filled_in() {
    let effective = render(MOUNTED, &all()).unwrap();
    let exporters = &content(&effective)["exporters"];
    assert_eq!(exporters["otlp_grpc/tempo-01234567"]["headers"]["authorization"], "Bearer t");
    assert_eq!(exporters["otlp_grpc/tempo-01234567"]["tls"]["ca_pem"], "PEM");
    assert_eq!(exporters["otlp_http/phoenix-89abcdef"]["headers"]["authorization"], "Bearer p");
}

#[test]
fn a_value_is_trimmed_and_escaped_for_the_collector() {
    let keys = credentials(&[("tempo", " pa$$w${env:HOME}d\n"), ("ca.crt", "a\nb\n"), ("phoenix", "p")]);
    let effective = render(MOUNTED, &keys).unwrap();
    let tempo = &content(&effective)["exporters"]["otlp_grpc/tempo-01234567"];
    assert_eq!(tempo["headers"]["authorization"], "pa$$$$w$${env:HOME}d");
    assert_eq!(tempo["tls"]["ca_pem"], "a\nb");
}

#[test]
fn a_value_that_looks_like_a_number_stays_a_string() {
    let keys = credentials(&[("tempo", "1_000"), ("ca.crt", "true"), ("phoenix", "0x1F")]);
    let effective = render(MOUNTED, &keys).unwrap();
    assert!(effective.text.contains(r#""authorization": "1_000""#), "{}", effective.text);
}

#[test]
fn a_destination_with_a_missing_key_is_left_out_and_the_others_go_on() {
    let effective = render(MOUNTED, &credentials(&[("phoenix", "Bearer p"), ("tempo", "  \n")])).unwrap();
    let content = content(&effective);
    assert_eq!(content["service"]["pipelines"]["traces"]["exporters"], json!(["otlp_http/phoenix-89abcdef"]));
    assert!(content["exporters"].get("otlp_grpc/tempo-01234567").is_none());
    let missing: Vec<_> = effective.routes.iter().map(|route| (route.destination.as_str(), route.missing_keys.len())).collect();
    assert_eq!(missing, [("tempo", 2), ("phoenix", 0)]);
    assert_eq!(effective.routes[0].missing_keys, ["ca.crt", "tempo"]);
}

#[test]
fn a_pipeline_without_an_exporter_gets_the_one_that_does_nothing() {
    let effective = render(MOUNTED, &Credentials::default()).unwrap();
    let content = content(&effective);
    assert_eq!(content["service"]["pipelines"]["traces"]["exporters"], json!(["nop"]));
    assert_eq!(content["exporters"], json!({"debug": {}, "nop": {}}));
}

#[test]
fn a_key_that_something_else_needs_refuses_the_file() {
    let mounted = "extensions: {bearertokenauth: {token: {secretKey: token}}}";
    let refusal = render(mounted, &Credentials::default()).err().unwrap();
    assert_eq!(
        refusal.to_string(),
        "the credentials Secret has no key 'token', and extensions cannot go without it: add the key"
    );
}

#[test]
fn what_is_no_mapping_is_refused() {
    assert!(matches!(render("", &all()), Err(Refusal::NotAMapping)));
    assert!(matches!(render("{receivers: [", &all()), Err(Refusal::NotYaml(_))));
}

#[test]
fn the_fingerprint_changes_with_the_credentials_in_use_alone() {
    let before = render(MOUNTED, &all()).unwrap();
    let mut keys = all();
    keys.values.insert("unrelated".into(), "x".into());
    assert_eq!(render(MOUNTED, &keys).unwrap().fingerprint, before.fingerprint);
    keys.values.insert("tempo".into(), "Bearer rotated".into());
    let after = render(MOUNTED, &keys).unwrap();
    assert_ne!(after.fingerprint, before.fingerprint);
    assert_eq!(after.revision, before.revision);
}

#[test]
fn a_credential_that_is_named_by_its_path_counts_as_in_use() {
    let mounted = "exporters: {kafka/bus-01234567: {tls: {ca_file: /credentials/ca.crt}}}";
    let before = render(mounted, &all()).unwrap();
    let after = render(mounted, &credentials(&[("ca.crt", "NEW")])).unwrap();
    assert_ne!(after.fingerprint, before.fingerprint);
    assert_eq!(before.fingerprint, render(mounted, &all()).unwrap().fingerprint);
}

#[test]
fn the_revision_is_the_digest_of_the_mounted_file() {
    assert_eq!(render("{}", &all()).unwrap().revision, "44136fa355b3678a");
}

#[test]
fn an_expansion_of_the_mounted_file_is_left_to_the_collector() {
    let effective = render("exporters: {debug: {verbosity: '${env:LEVEL}'}}", &all()).unwrap();
    assert_eq!(content(&effective)["exporters"]["debug"]["verbosity"], "${env:LEVEL}");
}

#[test]
fn a_credential_that_is_named_by_its_path_can_be_missing() {
    let mounted = "exporters: {kafka/bus-01234567: {tls: {ca_file: /credentials/ca.crt}}}";
    assert_eq!(render(mounted, &credentials(&[])).unwrap().routes[0].missing_keys, ["ca.crt"]);
}

#[test]
fn an_exporter_can_be_left_out_by_name() {
    let effective = super::render(MOUNTED, &all(), &BTreeSet::from(["otlp_grpc/tempo-01234567".to_owned()])).unwrap();
    let content = content(&effective);
    assert_eq!(content["service"]["pipelines"]["traces"]["exporters"], json!(["otlp_http/phoenix-89abcdef"]));
    assert_eq!(effective.routes.len(), 2);
    assert_ne!(effective.fingerprint, render(MOUNTED, &all()).unwrap().fingerprint);
}
