use super::*;
use crate::cli;
use crate::reconcile::service::{Exporter, ModelVolume};

fn with(spec: &str) -> Result<Service, Invalid> {
    with_settings(spec, &Settings::default())
}

fn with_settings(spec: &str, settings: &Settings) -> Result<Service, Invalid> {
    let text = format!(
        "apiVersion: sojourn.dev/v1alpha1\nkind: InferenceService\nmetadata: {{name: chat, namespace: web, uid: u}}\nspec: {spec}\n"
    );
    validate(&cli::parse(&text).unwrap().remove(0), settings)
}

fn refusal(spec: &str) -> String {
    with(spec).expect_err("a spec that is refused").to_string()
}

const MODEL: &str = "model: {uri: pvc://models/a/b.gguf}";

#[test]
fn a_spec_with_a_model_alone_has_every_default() {
    let service = with(&format!("{{{MODEL}}}")).unwrap();
    assert_eq!(service.replicas, 1);
    assert_eq!(service.model.volume, ModelVolume::Claim("models".into()));
    assert_eq!(service.model.location, "/models/a/b.gguf");
    assert_eq!(service.model.served_name, "chat");
    assert_eq!((service.startup_seconds, service.drain_seconds), (1800, 120));
    let tracing = service.tracing.unwrap();
    assert_eq!(tracing.credentials_secret, "chat-telemetry");
    assert_eq!(tracing.policy, sojourn_contract::sampling::Policy::default());
    assert!(tracing.destinations.is_empty());
    assert_eq!(tracing.collector.memory_limit, 256 << 20);
}

#[test]
fn the_place_of_the_model_is_understood_or_refused_with_what_to_write() {
    let cases = [
        ("hf://org", "write hf://ORG/REPO"),
        ("hf://org/repo/model.gguf", "a file of it goes into model.file"),
        ("hf://org/repo@", "write hf://ORG/REPO"),
        ("s3://bucket/key", "s3:// and oci:// are not supported yet"),
        ("oci://registry/image", "s3:// and oci:// are not supported yet"),
        ("pvc://models", "pvc://CLAIM/path/model.gguf"),
        ("pvc://models/../secret", "may not contain '..'"),
        ("file:///srv/m.gguf", "allowFileModels=true"),
        ("models/a.gguf", "pvc://CLAIM/path/model.gguf"),
    ];
    for (uri, expected) in cases {
        let said = refusal(&format!("{{model: {{uri: '{uri}'}}}}"));
        assert!(said.starts_with("spec.model.uri: ") && said.contains(expected), "{uri}: {said}");
    }
}

#[test]
fn a_model_of_the_hub_is_downloaded_into_a_cache() {
    let model = |more: &str| with(&format!("{{model: {{uri: 'hf://org/repo@v1', {more}}}}}")).unwrap().model;
    let plain = model("name: chat");
    assert_eq!((plain.location.as_str(), plain.volume), ("hf://org/repo@v1", ModelVolume::OwnCache { size_limit: None }));
    assert_eq!(model("file: q8/m.gguf").location, "hf://org/repo@v1/q8/m.gguf");
    assert_eq!(model("cache: {claimName: models}").volume, ModelVolume::SharedCache("models".into()));
    let limit = k8s_openapi::apimachinery::pkg::api::resource::Quantity("20Gi".into());
    assert_eq!(model("cache: {sizeLimit: 20Gi}").volume, ModelVolume::OwnCache { size_limit: Some(limit) });
    assert_eq!(model("credentialsSecretRef: {name: hf}").credentials_secret.as_deref(), Some("hf"));
}

#[test]
fn what_belongs_to_a_download_is_refused_where_it_means_nothing() {
    for (model, expected) in [
        (
            "uri: 'hf://org/repo', cache: {claimName: a, sizeLimit: 1Gi}",
            "spec.model.cache: set claimName or sizeLimit, not both",
        ),
        ("uri: 'hf://org/repo', cache: {sizeLimit: much}", "spec.model.cache.sizeLimit: 'much' is no quantity"),
        ("uri: 'hf://org/repo', file: model.safetensors", "spec.model.file: name a GGUF file"),
        ("uri: 'pvc://m/a.gguf', cache: {claimName: a}", "spec.model.cache: only an hf:// model is downloaded"),
        ("uri: 'pvc://m/a.gguf', credentialsSecretRef: {name: a}", "spec.model.credentialsSecretRef: only an hf:// model"),
    ] {
        let said = refusal(&format!("{{model: {{{model}}}}}"));
        assert!(said.starts_with(expected), "{model}: {said}");
    }
}

#[test]
fn a_directory_of_the_node_is_mounted_where_the_operator_allows_it() {
    let settings = Settings { allow_file_models: true, ..Settings::default() };
    let model = with_settings("{model: {uri: 'file:///srv/models/m.gguf'}}", &settings).unwrap().model;
    assert_eq!((model.volume, model.location), (ModelVolume::NodeDirectory("/srv/models".into()), "/models/m.gguf".into()));
    let model = with_settings("{model: {uri: 'file:///srv/models/', file: m.gguf}}", &settings).unwrap().model;
    assert_eq!((model.volume, model.location), (ModelVolume::NodeDirectory("/srv/models/".into()), "/models/m.gguf".into()));
}

#[test]
fn a_rollout_always_can_replace_pods() {
    let rolling = |spec: &str| match with(spec).unwrap().rollout {
        Rollout::Rolling { max_surge, max_unavailable } => (max_surge, max_unavailable),
        Rollout::Recreate => panic!("not rolling"),
    };
    let int = IntOrString::Int;
    assert_eq!(rolling(&format!("{{{MODEL}}}")), (int(1), int(0)));
    assert_eq!(rolling(&format!("{{{MODEL}, gpu: {{count: 1}}}}")), (int(0), int(1)));
    assert_eq!(rolling(&format!("{{{MODEL}, gpu: {{count: 1}}, rollout: {{maxUnavailable: 0}}}}")), (int(1), int(0)));
    assert_eq!(rolling(&format!("{{{MODEL}, rollout: {{maxSurge: 25%}}}}")), (IntOrString::String("25%".into()), int(0)));
    let said = refusal(&format!("{{{MODEL}, rollout: {{maxSurge: 0, maxUnavailable: 0%}}}}"));
    assert!(said.contains("may not both be 0"), "{said}");
}

#[test]
fn more_than_one_gpu_is_refused() {
    assert!(refusal(&format!("{{{MODEL}, gpu: {{count: 2}}}}")).contains("use replicas"));
}

#[test]
fn sampling_stands_over_the_operators_and_that_over_the_products() {
    let default_sampling = serde_json::from_str(r#"{"rate":"5%","keep":{"aborted":false,"slowerThan":"1m"}}"#).unwrap();
    let settings = Settings { default_sampling, ..Settings::default() };
    let spec = format!("{{{MODEL}, tracing: {{sampling: {{parents: Ignore, keep: {{errors: false, slowerThan: 500ms}}}}}}}}");
    let policy = with_settings(&spec, &settings).unwrap().tracing.unwrap().policy;
    assert_eq!(policy.rate_percent, 5.0);
    assert_eq!(policy.parents, sojourn_contract::sampling::Parents::Ignore);
    let keep = sojourn_contract::sampling::Keep { preempted: true, slower_than: Some(0.5), ..Default::default() };
    assert_eq!(policy.keep, keep);
}

#[test]
fn the_operators_destination_is_for_services_that_name_none() {
    let settings = Settings { default_destination: Some("http://gateway:4317".into()), ..Settings::default() };
    let named = format!("{{{MODEL}, tracing: {{destinations: [{{name: own, endpoint: 'http://tempo:4317'}}]}}}}");
    for (spec, name) in [(format!("{{{MODEL}}}"), "default"), (named, "own")] {
        let destinations = with_settings(&spec, &settings).unwrap().tracing.unwrap().destinations;
        assert_eq!(destinations.iter().map(|destination| destination.name.as_str()).collect::<Vec<_>>(), [name]);
        assert!(matches!(destinations[0].exporter, Exporter::Otlp { .. }));
    }
}

#[test]
fn a_collectors_request_never_exceeds_the_limit_that_the_user_gave() {
    let spec = format!("{{{MODEL}, tracing: {{collector: {{resources: {{limits: {{memory: 100Mi}}}}}}}}}}");
    let resources = with(&spec).unwrap().tracing.unwrap().collector.resources;
    assert_eq!(resources.requests.unwrap()["memory"].0, "100Mi");
    let said = refusal(&format!("{{{MODEL}, tracing: {{collector: {{resources: {{limits: {{memory: 32Mi}}}}}}}}}}"));
    assert!(said.contains("at least 64Mi"), "{said}");
}

#[test]
fn what_is_no_quantity_is_named_with_its_field() {
    let said = refusal(&format!("{{{MODEL}, resources: {{requests: {{memory: 1Gb}}}}}}"));
    assert!(said.starts_with("spec.resources.requests.memory: '1Gb'"), "{said}");
}

#[test]
fn an_unknown_field_of_the_pod_template_is_named() {
    let said = refusal(&format!("{{{MODEL}, podTemplate: {{spec: {{hostnetwork: true}}}}}}"));
    assert!(said.starts_with("spec.podTemplate: unknown field spec.hostnetwork"), "{said}");
    let said = refusal(&format!("{{{MODEL}, affinity: {{nodeAfinity: {{}}}}}}"));
    assert!(said.contains("spec.affinity: unknown field nodeAfinity"), "{said}");
}

#[test]
fn a_suspended_service_wants_no_pods() {
    let service = with(&format!("{{{MODEL}, replicas: 3, suspend: true}}")).unwrap();
    assert_eq!((service.replicas, service.suspended), (0, true));
}
