//! Renders the children of a service. Pure, and deterministic to the byte: the same service gives the same objects.

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Service as KubernetesService};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::service::Service;
use super::validate::Invalid;
use crate::names;
use crate::settings::Settings;

mod collector;
mod config_map;
mod deployment;
mod disruption_budget;
mod engine;
mod pod;
mod pod_template;
mod resource_attributes;
mod sampling;
mod service;
mod sidecar;

pub use sampling::summary as sampling_summary;

/// Everything that the operator keeps for a service.
#[derive(Debug, Clone, PartialEq)]
pub struct Children {
    /// The collector's configuration; `None` without tracing.
    pub config_map: Option<ConfigMap>,
    /// The Service in front of the pods.
    pub service: KubernetesService,
    /// How many pods a drain may take at a time.
    pub disruption_budget: PodDisruptionBudget,
    /// The pods.
    pub deployment: Deployment,
    /// Revision of the pod template.
    pub revision: String,
}

/// Renders the children of a service; only the merge of `spec.podTemplate` can fail.
pub fn render(service: &Service, settings: &Settings) -> Result<Children, Invalid> {
    let template = pod_template::merge(pod::template(service, settings), service.pod_template.as_ref())?;
    let (template, revision) = pod::with_revision(template);
    Ok(Children {
        config_map: service.tracing.as_ref().map(|tracing| config_map::render(service, tracing)),
        service: service::render(service),
        disruption_budget: disruption_budget::render(service),
        deployment: deployment::render(service, template),
        revision,
    })
}

/// Metadata of a child: its place, our labels, its owner.
fn child_metadata(service: &Service, name: String) -> ObjectMeta {
    ObjectMeta {
        name: Some(name),
        namespace: Some(service.namespace.clone()),
        labels: Some(names::labels(&service.name)),
        owner_references: Some(vec![service.owner.clone()]),
        ..ObjectMeta::default()
    }
}

#[cfg(test)]
mod tests;
