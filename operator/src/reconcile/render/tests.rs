use k8s_openapi::api::core::v1::{Container, PodSpec};

use super::*;
use crate::cli;
use crate::reconcile::validate::validate;

fn children(spec: &str) -> Children {
    try_children(spec).unwrap()
}

fn try_children(spec: &str) -> Result<Children, Invalid> {
    let settings = Settings::default();
    let text = format!(
        "apiVersion: sojourn.dev/v1alpha1\nkind: InferenceService\nmetadata: {{name: chat, namespace: web, uid: u}}\nspec: {spec}\n"
    );
    render(&validate(&cli::parse(&text).unwrap().remove(0), &settings)?, &settings)
}

fn pod(children: &Children) -> &PodSpec {
    children.deployment.spec.template.spec.as_ref().unwrap()
}

fn all_containers(pod: &PodSpec) -> Vec<&Container> {
    pod.init_containers.iter().flatten().chain(&pod.containers).collect()
}

fn value<'a>(container: &'a Container, name: &str) -> Option<&'a str> {
    container.env.iter().flatten().find(|variable| variable.name == name)?.value.as_deref()
}

const PLAIN: &str = "{model: {uri: pvc://models/m.gguf}}";

#[test]
fn the_same_service_renders_to_the_same_bytes() {
    assert_eq!(cli::yaml(&children(PLAIN)).unwrap(), cli::yaml(&children(PLAIN)).unwrap());
}

#[test]
fn hot_fields_leave_the_revision_alone_and_others_do_not() {
    let revision = |more: &str| children(&format!("{{model: {{uri: pvc://models/m.gguf}}, {more}}}")).revision;
    let plain = revision("replicas: 1");
    let hot = [
        "replicas: 5",
        "suspend: true",
        "rollout: {strategy: Recreate}",
        "tracing: {sampling: {rate: 1%, keep: {slowerThan: 3s}}}",
        "tracing: {destinations: [{name: a, endpoint: 'http://a:4317', headers: [{name: x, secretKey: y}]}]}",
        "tracing: {resourceAttributes: {team: search}}",
    ];
    for change in hot {
        assert_eq!(revision(change), plain, "{change}");
    }
    let restarting = [
        "engine: {maxNumSeqs: 2}",
        "drain: {timeout: 1s}",
        "tracing: {enabled: false}",
        "tracing: {detail: Journey}",
        "tracing: {baggage: [session.id]}",
        "tracing: {collector: {resources: {limits: {memory: 300Mi}}}}",
    ];
    for change in restarting {
        assert_ne!(revision(change), plain, "{change}");
    }
}

#[test]
fn every_container_passes_the_restricted_standard() {
    let children = children(PLAIN);
    let pod = pod(&children);
    let security = pod.security_context.as_ref().unwrap();
    assert_eq!(security.run_as_non_root, Some(true));
    assert_eq!(security.seccomp_profile.as_ref().unwrap().type_, "RuntimeDefault");
    for container in all_containers(pod) {
        let security = container.security_context.as_ref().unwrap();
        assert_eq!(security.allow_privilege_escalation, Some(false), "{}", container.name);
        assert_eq!(security.capabilities.as_ref().unwrap().drop.as_deref(), Some(&["ALL".to_owned()][..]));
    }
    let restricted_volumes = pod.volumes.iter().flatten().all(|volume| volume.host_path.is_none());
    assert!(restricted_volumes);
}

#[test]
fn the_sidecar_is_native_has_no_probes_and_mounts_no_secret_that_must_exist() {
    let children = children(PLAIN);
    let pod = pod(&children);
    let containers = all_containers(pod);
    let collector = containers.iter().find(|container| container.name == "collector").unwrap();
    assert_eq!(collector.restart_policy.as_deref(), Some("Always"));
    assert!(collector.liveness_probe.is_none() && collector.readiness_probe.is_none() && collector.startup_probe.is_none());
    let limits = collector.resources.as_ref().unwrap().limits.as_ref().unwrap();
    assert_eq!(limits["memory"].0, "256Mi");
    assert_eq!(value(collector, "GOMEMLIMIT"), Some("214748364"));
    let secrets: Vec<_> = pod.volumes.iter().flatten().filter_map(|volume| volume.secret.as_ref()).collect();
    assert_eq!(secrets.len(), 1);
    assert_eq!(secrets[0].optional, Some(true));
}

#[test]
fn without_tracing_there_is_no_sidecar_no_flag_and_no_configuration() {
    let children = children("{model: {uri: pvc://models/m.gguf}, tracing: {enabled: false}}");
    assert!(children.config_map.is_none());
    let pod = pod(&children);
    assert!(pod.init_containers.is_none());
    let arguments = pod.containers[0].args.as_ref().unwrap().join(" ");
    assert!(!arguments.contains("journey") && !arguments.contains("otlp"), "{arguments}");
}

#[test]
fn a_gpu_brings_its_resource_its_image_and_its_device() {
    let children = children("{model: {uri: pvc://models/m.gguf}, gpu: {count: 1, runtimeClassName: nvidia}}");
    let pod = pod(&children);
    let engine = &pod.containers[0];
    assert_eq!(engine.resources.as_ref().unwrap().limits.as_ref().unwrap()["nvidia.com/gpu"].0, "1");
    assert_eq!(engine.image, Some(Settings::default().engine_image_cuda));
    assert!(engine.args.as_ref().unwrap().contains(&"--device=cuda".to_owned()));
    assert_eq!(pod.runtime_class_name.as_deref(), Some("nvidia"));
}

#[test]
fn a_gpu_pod_bears_the_taint_of_gpu_nodes_and_others_only_what_the_user_says() {
    let keys = |spec: &str| {
        let children = children(&format!("{{model: {{uri: pvc://models/m.gguf}}, {spec}}}"));
        let tolerations = pod(&children).tolerations.clone().unwrap_or_default();
        tolerations.into_iter().map(|toleration| toleration.key.unwrap_or_default()).collect::<Vec<_>>()
    };
    assert_eq!(keys("gpu: {count: 1}"), ["nvidia.com/gpu"]);
    assert_eq!(keys("gpu: {count: 1, resourceName: example.com/gpu}, tolerations: [{key: a}]"), ["a", "example.com/gpu"]);
    let same = "tolerations: [{key: nvidia.com/gpu, operator: Exists, effect: NoSchedule}]";
    assert_eq!(keys(&format!("gpu: {{count: 1}}, {same}")), ["nvidia.com/gpu"]);
    assert_eq!(keys("gpu: {count: 0}"), Vec::<String>::new());
}

#[test]
fn without_a_gpu_nothing_of_the_pod_asks_for_one() {
    for gpu in ["gpu: {count: 0, runtimeClassName: nvidia, resourceName: nvidia.com/gpu}", "replicas: 1"] {
        let children = children(&format!("{{model: {{uri: pvc://models/m.gguf}}, {gpu}}}"));
        let pod = pod(&children);
        assert_eq!(pod.containers[0].image, Some(Settings::default().engine_image_cpu), "{gpu}");
        assert!(pod.containers[0].args.as_ref().unwrap().contains(&"--device=cpu".to_owned()), "{gpu}");
        assert!(pod.runtime_class_name.is_none() && pod.tolerations.is_none(), "{gpu}");
        let limits = pod.containers[0].resources.as_ref().unwrap().limits.as_ref();
        assert!(limits.is_none_or(|limits| !limits.contains_key("nvidia.com/gpu")), "{gpu}");
    }
}

#[test]
fn the_grace_period_covers_the_drain_and_the_deadline_the_start() {
    let children = children("{model: {uri: pvc://models/m.gguf}, drain: {timeout: 5m}, startup: {timeout: 1h}}");
    assert_eq!(pod(&children).termination_grace_period_seconds, Some(10 + 300 + 15));
    assert_eq!(children.deployment.spec.progress_deadline_seconds, Some(3600 + 1800));
}

#[test]
fn a_missing_api_key_keeps_the_pod_from_starting() {
    let children = children("{model: {uri: pvc://models/m.gguf}, auth: {apiKeySecretRef: {name: keys, key: api-key}}}");
    let engine = &pod(&children).containers[0];
    let key = engine.env.iter().flatten().find(|variable| variable.name == "SOJOURN_API_KEY").unwrap();
    let secret = key.value_from.as_ref().unwrap().secret_key_ref.as_ref().unwrap();
    assert_eq!((secret.name.as_str(), secret.key.as_str(), secret.optional), ("keys", "api-key", None));
}

#[test]
fn a_download_has_a_cache_that_can_be_written_and_its_token() {
    let spec = "{model: {uri: 'hf://org/repo', file: m.gguf, cache: {claimName: models}, credentialsSecretRef: {name: hf}}}";
    let children = children(spec);
    let engine = &pod(&children).containers[0];
    let arguments = engine.args.as_deref().unwrap();
    assert_eq!(arguments[1], "hf://org/repo/m.gguf");
    assert!(arguments.contains(&"--download-dir=/var/cache/huggingface".to_owned()), "{arguments:?}");
    let mount = engine.volume_mounts.iter().flatten().find(|mount| mount.name == "model").unwrap();
    assert_eq!((mount.mount_path.as_str(), mount.read_only), ("/var/cache/huggingface", None));
    let token = engine.env.iter().flatten().find(|variable| variable.name == "HF_TOKEN").unwrap();
    let secret = token.value_from.as_ref().unwrap().secret_key_ref.as_ref().unwrap();
    assert_eq!((secret.name.as_str(), secret.key.as_str(), secret.optional), ("hf", "HF_TOKEN", None));
    assert_eq!(pod(&children).security_context.as_ref().unwrap().fs_group, Some(65532));
}

#[test]
fn a_users_resource_attributes_stand_before_ours() {
    let template = "{spec: {containers: [{name: main, env: [{name: OTEL_RESOURCE_ATTRIBUTES, value: 'team=search,'}]}]}}";
    let children = children(&format!("{{model: {{uri: pvc://models/m.gguf}}, podTemplate: {template}}}"));
    let attributes = value(&pod(&children).containers[0], "OTEL_RESOURCE_ATTRIBUTES").unwrap().to_owned();
    assert!(attributes.starts_with("team=search,service.namespace=$(POD_NAMESPACE),"), "{attributes}");
}

#[test]
fn the_pod_template_adds_what_has_no_field() {
    let template = "{metadata: {labels: {team: search}}, spec: {priorityClassName: high, containers: [{name: main, \
                    env: [{name: RUST_LOG, value: debug}]}, {name: proxy, image: proxy}], volumes: [{name: extra, emptyDir: {}}]}}";
    let children = children(&format!("{{model: {{uri: pvc://models/m.gguf}}, podTemplate: {template}}}"));
    let pod = pod(&children);
    assert_eq!(pod.priority_class_name.as_deref(), Some("high"));
    assert_eq!(pod.containers.iter().map(|container| container.name.as_str()).collect::<Vec<_>>(), ["main", "proxy"]);
    assert_eq!(value(&pod.containers[0], "RUST_LOG"), Some("debug"));
    assert_eq!(value(&pod.containers[0], "OTEL_SERVICE_NAME"), Some("chat"));
    assert!(pod.volumes.iter().flatten().any(|volume| volume.name == "extra"));
}

#[test]
fn the_pod_template_may_not_take_what_the_operator_owns() {
    let cases = [
        ("spec: {containers: [{name: main, args: [serve]}]}", "main.args belongs to the operator; use spec.engine"),
        ("spec: {containers: [{name: main, command: [sh]}]}", "main.command belongs to the operator"),
        ("spec: {terminationGracePeriodSeconds: 1}", "use spec.drain.timeout"),
        ("spec: {initContainers: [{name: collector, command: [sh]}]}", "use spec.tracing.collector.command"),
        ("spec: {initContainers: [{name: collector, livenessProbe: {periodSeconds: 1}}]}", "collector.livenessProbe"),
        ("metadata: {labels: {app.kubernetes.io/instance: other}}", "metadata.labels[app.kubernetes.io/instance]"),
        ("spec: {containers: [{name: main, env: [{name: OTEL_SERVICE_NAME, value: x}]}]}", "main.env[OTEL_SERVICE_NAME]"),
        ("spec: {containers: [{name: main, env: [{name: OTEL_TRACES_SAMPLER, value: x}]}]}", "would drop journeys"),
        ("spec: {volumes: [{name: model, emptyDir: {}}]}", "spec.volumes[model]"),
    ];
    for (template, expected) in cases {
        let spec = format!("{{model: {{uri: pvc://models/m.gguf}}, podTemplate: {{{template}}}}}");
        let said = try_children(&spec).expect_err(template);
        assert!(matches!(&said, Invalid::PodTemplate(_)), "{template}: {said:?}");
        assert!(said.to_string().contains(expected), "{template}: {said}");
    }
}

#[test]
fn a_new_restart_annotation_makes_a_new_revision() {
    let settings = Settings::default();
    let revision = |value: &str| {
        let text = format!(
            "apiVersion: sojourn.dev/v1alpha1\nkind: InferenceService\nmetadata: {{name: chat, annotations: \
             {{sojourn.dev/restart: '{value}'}}}}\nspec: {PLAIN}\n"
        );
        render(&validate(&cli::parse(&text).unwrap().remove(0), &settings).unwrap(), &settings).unwrap().revision
    };
    assert_ne!(revision("1"), revision("2"));
}
