//! Understands a spec: parses what has a grammar, resolves what was left out, and refuses what the schema could not see.
//! Pure: no client, no clock. It repeats the schema's rules where it parses anyway, so that it also holds offline.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::Resource;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use sojourn_contract::label;

use super::service::{Accelerator, Placement, Rollout, Service};
use crate::crd::InferenceService;
use crate::crd::engine::{Gpu, Resources};
use crate::crd::rollout::{self, StrategyKind};
use crate::crd::value::{Amount, Span};
use crate::names;
use crate::quantity;
use crate::settings::Settings;

mod model;
mod tracing;

/// Why a spec cannot be rendered. The text is for people and names the field.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    /// A field asks for what is not there or not allowed.
    #[error("{0}")]
    Configuration(String),
    /// `spec.podTemplate` cannot be merged.
    #[error("spec.podTemplate: {0}")]
    PodTemplate(String),
}

impl Invalid {
    fn field(field: &str, problem: impl std::fmt::Display) -> Self {
        Self::Configuration(format!("{field}: {problem}"))
    }
}

const DEFAULT_STARTUP_SECONDS: i64 = 30 * 60;
const DEFAULT_DRAIN_SECONDS: i64 = 120;

/// Understands the spec of a service.
pub fn validate(object: &InferenceService, settings: &Settings) -> Result<Service, Invalid> {
    let spec = &object.spec;
    let name = object.metadata.name.clone().unwrap_or_default();
    let namespace = object.metadata.namespace.clone().unwrap_or_default();
    let accelerator = accelerator(spec.gpu.as_ref())?;
    let image = match accelerator {
        Accelerator::Cpu => settings.engine_image_cpu.clone(),
        Accelerator::Cuda { .. } => settings.engine_image_cuda.clone(),
    };
    let suspended = spec.suspend.unwrap_or(false);
    Ok(Service {
        owner: owner(object),
        replicas: if suspended { 0 } else { spec.replicas },
        suspended,
        model: model::validate(&spec.model, &name, settings)?,
        rollout: rollout(spec.rollout.as_ref(), &accelerator)?,
        accelerator,
        image,
        resources: checked_resources("spec.resources", spec.resources.as_ref())?.requirements(),
        engine: spec.engine.clone().unwrap_or_default(),
        api_key: spec.auth.as_ref().map(|auth| auth.api_key_secret_ref.clone()),
        tracing: tracing::validate(spec.tracing.as_ref(), &name, settings)?,
        startup_seconds: seconds("spec.startup.timeout", spec.startup.as_ref().and_then(|startup| startup.timeout.as_ref()))?
            .unwrap_or(DEFAULT_STARTUP_SECONDS),
        drain_seconds: seconds("spec.drain.timeout", spec.drain.as_ref().and_then(|drain| drain.timeout.as_ref()))?
            .unwrap_or(DEFAULT_DRAIN_SECONDS),
        placement: Placement {
            service_account: spec.service_account_name.clone().filter(|name| !name.is_empty()),
            node_selector: spec.node_selector.clone(),
            tolerations: spec.tolerations.clone(),
            affinity: strictly(spec.affinity.as_ref()).map_err(|problem| Invalid::field("spec.affinity", problem))?,
        },
        pod_template: strictly(spec.pod_template.as_ref()).map_err(Invalid::PodTemplate)?,
        restart: object.metadata.annotations.as_ref().and_then(|annotations| annotations.get(label::RESTART)).cloned(),
        name,
        namespace,
    })
}

/// Without a uid the object is from a file and not from a cluster.
fn owner(object: &InferenceService) -> OwnerReference {
    OwnerReference {
        api_version: InferenceService::api_version(&()).into_owned(),
        kind: InferenceService::kind(&()).into_owned(),
        name: object.metadata.name.clone().unwrap_or_default(),
        uid: object.metadata.uid.clone().unwrap_or_default(),
        controller: Some(true),
        block_owner_deletion: None,
    }
}

fn accelerator(gpu: Option<&Gpu>) -> Result<Accelerator, Invalid> {
    let gpu = gpu.cloned().unwrap_or_default();
    match gpu.count.unwrap_or(0) {
        0 => Ok(Accelerator::Cpu),
        1 => Ok(Accelerator::Cuda {
            resource: gpu.resource_name.unwrap_or_else(|| names::GPU_RESOURCE.into()),
            runtime_class: gpu.runtime_class_name,
        }),
        _ => Err(Invalid::field("spec.gpu.count", "one pod uses at most one GPU: use replicas for more")),
    }
}

/// Where only one of the two numbers is given, the other one is chosen so that pods can be replaced.
fn rollout(rollout: Option<&rollout::Rollout>, accelerator: &Accelerator) -> Result<Rollout, Invalid> {
    let rollout = rollout.cloned().unwrap_or_default();
    if rollout.strategy == Some(StrategyKind::Recreate) {
        return Ok(Rollout::Recreate);
    }
    let counter = |other: &Amount| IntOrString::Int(i32::from(other.is_zero()));
    let (max_surge, max_unavailable) = match (rollout.max_surge, rollout.max_unavailable) {
        (Some(surge), Some(unavailable)) if surge.is_zero() && unavailable.is_zero() => {
            let problem = "maxSurge and maxUnavailable may not both be 0: no pod could ever be replaced";
            return Err(Invalid::field("spec.rollout", problem));
        }
        (Some(surge), Some(unavailable)) => (surge.int_or_string(), unavailable.int_or_string()),
        (Some(surge), None) => (surge.int_or_string(), counter(&surge)),
        (None, Some(unavailable)) => (counter(&unavailable), unavailable.int_or_string()),
        (None, None) => {
            // A surge needs a spare GPU, and without one the rollout would wait for ever.
            let surge = i32::from(*accelerator == Accelerator::Cpu);
            (IntOrString::Int(surge), IntOrString::Int(1 - surge))
        }
    };
    Ok(Rollout::Rolling { max_surge, max_unavailable })
}

fn seconds(field: &str, span: Option<&Span>) -> Result<Option<i64>, Invalid> {
    let Some(span) = span else { return Ok(None) };
    match span.seconds() {
        Some(seconds) if seconds >= 1.0 => Ok(Some(seconds.ceil() as i64)),
        Some(_) => Err(Invalid::field(field, "at least 1s is needed")),
        None => Err(Invalid::field(field, format_args!("'{}' is no duration: write 90s, 30m or 2h", span.0))),
    }
}

/// Refuses what is no quantity; the schema sees only numbers and texts.
fn checked_resources(field: &str, resources: Option<&Resources>) -> Result<Resources, Invalid> {
    let resources = resources.cloned().unwrap_or_default();
    for (kind, amounts) in [("requests", &resources.requests), ("limits", &resources.limits)] {
        for (name, amount) in amounts {
            if !quantity::parse(&amount.0).is_some_and(|number| number >= 0.0) {
                let problem = format_args!("'{}' is no quantity: write 500m, 2 or 1Gi", amount.0);
                return Err(Invalid::field(&format!("{field}.{kind}.{name}"), problem));
            }
        }
    }
    Ok(resources)
}

/// Parses an object that the API server did not look at; an unknown field is an error, never dropped in silence.
fn strictly<T: DeserializeOwned>(object: Option<&Map<String, Value>>) -> Result<Option<T>, String> {
    let Some(object) = object else { return Ok(None) };
    let mut unknown = Vec::new();
    let parsed = serde_ignored::deserialize(Value::Object(object.clone()), |path| unknown.push(field_path(&path)))
        .map_err(|error| error.to_string())?;
    match unknown.as_slice() {
        [] => Ok(Some(parsed)),
        fields => Err(format!("unknown field {}; see `kubectl explain pod.spec`", fields.join(", "))),
    }
}

/// A field's path as people write it; an optional value is a step of its own to serde.
pub(crate) fn field_path(path: &serde_ignored::Path<'_>) -> String {
    path.to_string().replace(".?", "")
}

#[cfg(test)]
mod tests;
