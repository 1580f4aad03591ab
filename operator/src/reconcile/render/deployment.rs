//! The Deployment around the pod template: replicas, how a change rolls out, and how long it may take.

use k8s_openapi::api::apps::v1::{Deployment, DeploymentSpec, DeploymentStrategy, RollingUpdateDeployment};
use k8s_openapi::api::core::v1::PodTemplateSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

use super::child_metadata;
use crate::names;
use crate::reconcile::service::{Rollout, Service};

/// A rollout is late only after a start-up that made progress to its end; until then the pods say what they wait for.
const PROGRESS_BEYOND_STARTUP_SECONDS: i64 = 30 * 60;

pub(super) fn render(service: &Service, template: PodTemplateSpec) -> Deployment {
    let deadline = service.startup_seconds.saturating_add(PROGRESS_BEYOND_STARTUP_SECONDS);
    Deployment {
        metadata: child_metadata(service, service.name.clone()),
        spec: DeploymentSpec {
            replicas: Some(service.replicas),
            selector: LabelSelector { match_labels: Some(names::selector(&service.name)), ..LabelSelector::default() },
            strategy: Some(strategy(&service.rollout)),
            progress_deadline_seconds: Some(i32::try_from(deadline).unwrap_or(i32::MAX)),
            revision_history_limit: Some(2),
            template,
            ..DeploymentSpec::default()
        },
        status: None,
    }
}

fn strategy(rollout: &Rollout) -> DeploymentStrategy {
    match rollout {
        Rollout::Recreate => DeploymentStrategy { type_: Some("Recreate".into()), rolling_update: None },
        Rollout::Rolling { max_surge, max_unavailable } => DeploymentStrategy {
            type_: Some("RollingUpdate".into()),
            rolling_update: Some(RollingUpdateDeployment {
                max_surge: Some(max_surge.clone()),
                max_unavailable: Some(max_unavailable.clone()),
            }),
        },
    }
}
