//! The chart against the code: its copy of the CRD, its values, and rights that are exactly what the operator uses.

#![expect(clippy::unwrap_used, reason = "a test ends where something it needs is not there")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Service};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::Resource;
use serde::Deserialize;
use sojourn_contract::{image, label};
use sojourn_operator::crd::{self, InferenceService};
use sojourn_operator::reconcile::render::Children;

fn chart() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("charts/sojourn")
}

fn read(file: &str) -> String {
    std::fs::read_to_string(chart().join(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

/// The definition as a template that outlives the release: removing it would remove every model.
#[test]
fn the_charts_definition_is_the_one_in_the_code() {
    let mut definition = crd::definition();
    definition.metadata.annotations.get_or_insert_default().insert("helm.sh/resource-policy".into(), "keep".into());
    let yaml = serde_yaml::to_string(&definition).unwrap();
    assert!(!yaml.contains("{{"), "helm would take it for a template");
    let header = "{{- /* Generated from the operator's code; a test compares the two. */ -}}";
    let expected = format!("{header}\n{{{{- if .Values.crd.install }}}}\n{yaml}{{{{- end }}}}\n");
    let path = chart().join("templates/crd.yaml");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, &expected).unwrap();
    }
    assert!(
        std::fs::read_to_string(&path).is_ok_and(|found| found == expected),
        "{} is not what the code says; UPDATE_GOLDEN=1 writes it again",
        path.display()
    );
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Rule {
    api_groups: Vec<String>,
    resources: Vec<String>,
    verbs: BTreeSet<String>,
}

/// Verbs by group and resource.
fn granted() -> BTreeMap<(String, String), BTreeSet<String>> {
    let rules: Vec<Rule> = serde_yaml::from_str(&read("files/rules.yaml")).unwrap();
    let mut granted: BTreeMap<_, BTreeSet<String>> = BTreeMap::new();
    for rule in rules {
        for group in &rule.api_groups {
            for resource in &rule.resources {
                granted.entry((group.clone(), resource.clone())).or_default().extend(rule.verbs.iter().cloned());
            }
        }
    }
    granted
}

fn right<K: Resource<DynamicType = ()>>(verbs: &str) -> ((String, String), BTreeSet<String>) {
    let verbs = verbs.split(' ').map(str::to_owned).collect();
    ((K::group(&()).into_owned(), K::plural(&()).into_owned()), verbs)
}

#[test]
fn the_operator_may_do_what_it_does_and_nothing_else() {
    // A kind that is applied and missing here does not compile.
    let used = |children: Option<Children>| {
        if let Some(Children { config_map: _, service: _, disruption_budget: _, deployment: _, revision: _ }) = children {}
        BTreeMap::from([
            right::<InferenceService>("get list watch"),
            right::<ConfigMap>("get list watch create patch delete"),
            right::<Service>("get list watch create patch"),
            right::<PodDisruptionBudget>("get list watch create patch"),
            right::<Deployment>("get list watch create patch"),
            right::<Pod>("list watch"),
            (("sojourn.dev".into(), "inferenceservices/status".into()), ["patch".to_owned()].into()),
            (("events.k8s.io".into(), "events".into()), ["create".to_owned(), "patch".to_owned()].into()),
        ])
    };
    assert_eq!(granted(), used(None));
}

#[test]
fn nothing_in_the_chart_touches_secrets() {
    for file in ["files/rules.yaml", "templates/rbac.yaml"] {
        let text = read(file);
        assert!(!text.contains("secrets") && !text.contains("'*'") && !text.contains("\"*\""), "{file}");
    }
}

/// Paths of what a document says, down to where it leaves the keys to the user: an empty mapping, or one of free texts.
fn value_paths(value: &serde_json::Value, schema: &serde_json::Value, path: &str, found: &mut BTreeSet<String>) {
    match value.as_object().filter(|fields| !fields.is_empty() && schema.get("properties").is_some()) {
        Some(fields) => fields.iter().for_each(|(name, value)| {
            value_paths(value, &schema["properties"][name], &format!("{path}.{name}"), found);
        }),
        None => _ = found.insert(path.to_owned()),
    }
}

/// Paths of what a schema allows, down to where it leaves the keys to the user.
fn schema_paths(schema: &serde_json::Value, path: &str, found: &mut BTreeSet<String>) {
    match schema["properties"].as_object() {
        Some(fields) => {
            fields.iter().for_each(|(name, schema)| schema_paths(schema, &format!("{path}.{name}"), found));
        }
        None => _ = found.insert(path.to_owned()),
    }
}

#[test]
fn values_and_schema_have_the_same_fields() {
    let values: serde_json::Value = serde_yaml::from_str(&read("values.yaml")).unwrap();
    let schema: serde_json::Value = serde_json::from_str(&read("values.schema.json")).unwrap();
    let (mut written, mut allowed) = (BTreeSet::new(), BTreeSet::new());
    value_paths(&values, &schema, "", &mut written);
    schema_paths(&schema, "", &mut allowed);
    assert!(written.contains(".alerts.firstToken.seconds"), "{written:?}");
    // Helm's own, and a policy whose parts are all left to the operator.
    allowed.retain(|path| path != ".global" && !path.starts_with(".tracing.defaultSampling."));
    written.retain(|path| path != ".tracing.defaultSampling");
    assert_eq!(written, allowed);
}

#[test]
fn every_value_is_documented() {
    let values = read("values.yaml");
    let lines: Vec<&str> = values.lines().collect();
    for (at, line) in lines.iter().enumerate().filter(|(_, line)| line.contains(": ") && !line.trim_start().starts_with('#')) {
        assert!(
            at > 0 && lines[at - 1].trim_start().starts_with('#')
                || lines[at].contains("requests:")
                || lines[at].contains("limits:")
                || lines[at].contains("command:"),
            "{line}"
        );
    }
}

/// What the PodMonitor scrapes is what the operator renders.
#[test]
fn the_pod_monitor_selects_the_pods_and_ports_of_a_service() {
    let monitor = read("templates/podmonitor.yaml");
    let service = "apiVersion: sojourn.dev/v1alpha1\nkind: InferenceService\nmetadata: {name: chat, namespace: web}\nspec: {model: {uri: pvc://m/a.gguf}}\n";
    let rendered =
        sojourn_operator::cli::rendered(&sojourn_operator::cli::parse(service).unwrap(), &Default::default()).unwrap();
    let name = format!("{}: {}", label::APP_NAME, label::APP_NAME_VALUE);
    assert!(monitor.contains(&name) && rendered.contains(&name), "{name}");
    let instance: String = label::APP_INSTANCE.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
    assert!(monitor.contains(&format!("[__meta_kubernetes_pod_label_{instance}]")), "{instance}");
    for port in ["http", "telemetry"] {
        assert!(monitor.contains(&format!("\"{port}\"")) && rendered.contains(&format!("name: {port}\n")), "{port}");
    }
    assert!(monitor.contains(&format!("path: {}\n", sojourn_contract::path::METRICS)));
}

/// Images that the values leave out are those that `make images` builds and that the operator has by default.
#[test]
fn the_charts_images_are_ours_by_name() {
    let deployment = read("templates/deployment.yaml");
    for name in [image::OPERATOR, image::ENGINE, image::ENGINE_CUDA, image::SIDECAR] {
        assert!(deployment.contains(&format!("\"name\" \"{name}\"")), "{name}");
    }
    assert!(read("templates/_names.tpl").contains(&format!("{}/", image::REGISTRY)));
}

/// Every flag that the chart passes is one that the operator has.
#[test]
fn every_flag_in_the_chart_is_one_of_the_operators() {
    let deployment = read("templates/deployment.yaml");
    let flags: BTreeSet<&str> = deployment
        .split("--")
        .skip(1)
        .filter_map(|rest| rest.split(['=', '\n', ' ']).next())
        .filter(|flag| !flag.is_empty())
        .collect();
    assert!(flags.contains("engine-image-cpu"), "{flags:?}");
    #[derive(clap::Parser)]
    struct Cli {
        #[command(flatten)]
        _options: sojourn_operator::run::Options,
    }
    let command = <Cli as clap::CommandFactory>::command();
    for flag in flags {
        assert!(command.get_arguments().any(|argument| argument.get_long() == Some(flag)), "--{flag}");
    }
}
