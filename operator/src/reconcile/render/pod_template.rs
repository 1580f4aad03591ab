//! The escape hatch `spec.podTemplate`: merged last into the rendered template, by Kubernetes' own rules for lists. What the
//! operator owns is compared before and after, because a pod without it would serve wrongly or lose its journeys.

use k8s_openapi::DeepMerge;
use k8s_openapi::api::core::v1::{Container, EnvVar, PodTemplateSpec};
use serde_json::Value;
use sojourn_contract::{env, label};

use crate::reconcile::validate::Invalid;

/// Variables that would drop journeys before the sidecar's rules see them.
const REFUSED_VARIABLES: [&str; 3] = ["OTEL_SDK_DISABLED", "OTEL_TRACES_SAMPLER", "OTEL_TRACES_SAMPLER_ARG"];
/// Our containers, each with its list in the pod's spec.
const OUR_CONTAINERS: [(&str, &str); 3] = [
    ("/spec/containers", label::ENGINE_CONTAINER),
    ("/spec/initContainers", label::COLLECTOR_CONTAINER),
    ("/spec/initContainers", label::SUPERVISOR_CONTAINER),
];

/// Merges the user's template into the rendered one.
pub(super) fn merge(rendered: PodTemplateSpec, own: Option<&PodTemplateSpec>) -> Result<PodTemplateSpec, Invalid> {
    let Some(own) = own else { return Ok(rendered) };
    refuse_samplers(own)?;
    let mut merged = rendered.clone();
    merged.merge_from(own.clone());
    keep_resource_attributes(&rendered, &mut merged)?;
    let (before, after) = (owned(&rendered), owned(&merged));
    match before.iter().zip(&after).find(|(before, after)| before != after) {
        Some(((field, _), _)) => Err(Invalid::PodTemplate(format!("{field} belongs to the operator; {}", instead(field)))),
        None => Ok(merged),
    }
}

fn refuse_samplers(own: &PodTemplateSpec) -> Result<(), Invalid> {
    let variables = own.spec.iter().flat_map(|spec| &spec.containers).flat_map(|container| container.env.iter().flatten());
    match variables.map(|variable| variable.name.as_str()).find(|name| REFUSED_VARIABLES.contains(name)) {
        Some(name) => Err(Invalid::PodTemplate(format!(
            "{name} would drop journeys before spec.tracing.sampling sees them; set spec.tracing.sampling or \
             spec.tracing.enabled"
        ))),
        None => Ok(()),
    }
}

/// A user's own resource attributes stand before ours; neither replaces the other.
fn keep_resource_attributes(rendered: &PodTemplateSpec, merged: &mut PodTemplateSpec) -> Result<(), Invalid> {
    for variable in merged.spec.iter_mut().flat_map(our_containers).flat_map(|container| container.env.iter_mut().flatten()) {
        if variable.name != env::OTEL_RESOURCE_ATTRIBUTES {
            continue;
        }
        if variable.value_from.is_some() {
            let problem = format!("{} takes a value, not valueFrom: ours is appended to it", variable.name);
            return Err(Invalid::PodTemplate(problem));
        }
    }
    let ours: Vec<(String, EnvVar)> = rendered
        .spec
        .iter()
        .flat_map(|spec| spec.containers.iter().chain(spec.init_containers.iter().flatten()))
        .filter_map(|container| Some((container.name.clone(), variable(container)?.clone())))
        .collect();
    for container in merged.spec.iter_mut().flat_map(our_containers) {
        let Some((_, our)) = ours.iter().find(|(name, _)| *name == container.name) else { continue };
        let theirs = container.env.iter_mut().flatten().find(|variable| variable.name == our.name);
        let Some(theirs) = theirs.filter(|theirs| theirs.value != our.value) else { continue };
        let (user, operator) = (theirs.value.take().unwrap_or_default(), our.value.clone().unwrap_or_default());
        theirs.value = Some(format!("{},{operator}", user.trim_end_matches(',')));
    }
    Ok(())
}

fn variable(container: &Container) -> Option<&EnvVar> {
    container.env.iter().flatten().find(|variable| variable.name == env::OTEL_RESOURCE_ATTRIBUTES)
}

fn our_containers(spec: &mut k8s_openapi::api::core::v1::PodSpec) -> impl Iterator<Item = &mut Container> {
    spec.containers
        .iter_mut()
        .chain(spec.init_containers.iter_mut().flatten())
        .filter(|container| OUR_CONTAINERS.iter().any(|(_, name)| container.name == *name))
}

/// Every field that the operator owns, by its path, with its value or null.
fn owned(template: &PodTemplateSpec) -> Vec<(String, Value)> {
    let json = serde_json::to_value(template).expect("a pod template is plain data");
    let mut fields = Vec::new();
    for key in [label::APP_NAME, label::APP_INSTANCE, label::APP_MANAGED_BY, label::REVISION] {
        fields.push((format!("metadata.labels[{key}]"), json["metadata"]["labels"][key].clone()));
    }
    let grace = "terminationGracePeriodSeconds";
    fields.push((format!("spec.{grace}"), json["spec"][grace].clone()));
    for (list, name) in OUR_CONTAINERS {
        let Some(container) = named(json.pointer(list), name) else { continue };
        for field in ["args", "command", "lifecycle", "livenessProbe", "readinessProbe", "restartPolicy", "startupProbe"] {
            let editable =
                name == label::ENGINE_CONTAINER && matches!(field, "livenessProbe" | "readinessProbe" | "startupProbe");
            if !editable {
                fields.push((format!("{name}.{field}"), container[field].clone()));
            }
        }
        for variable in [env::POD_NAME, env::POD_NAMESPACE, env::POD_UID, env::NODE_NAME, env::OTEL_SERVICE_NAME, env::API_KEY]
        {
            let value = named(container.get("env"), variable).cloned().unwrap_or_default();
            fields.push((format!("{name}.env[{variable}]"), value));
        }
    }
    for volume in json["spec"]["volumes"].as_array().into_iter().flatten() {
        fields.push((format!("spec.volumes[{}]", volume["name"].as_str().unwrap_or_default()), volume.clone()));
    }
    fields
}

fn named<'a>(list: Option<&'a Value>, name: &str) -> Option<&'a Value> {
    list?.as_array()?.iter().find(|entry| entry["name"] == name)
}

/// What to write instead of an owned field.
fn instead(field: &str) -> &'static str {
    match field {
        "main.args" => "use spec.engine, and spec.engine.extraArgs for what has no field",
        "spec.terminationGracePeriodSeconds" => "use spec.drain.timeout",
        "collector.command" | "collector.args" => "use spec.tracing.collector.command",
        _ if field.contains("SOJOURN_API_KEY") => "use spec.auth.apiKeySecretRef",
        _ => "leave it out",
    }
}
