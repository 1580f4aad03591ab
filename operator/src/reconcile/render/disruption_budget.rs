//! The PodDisruptionBudget: a drain takes one pod at a time, and a pod that is still loading never holds it up.

use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::child_metadata;
use crate::names;
use crate::reconcile::service::Service;

pub(super) fn render(service: &Service) -> PodDisruptionBudget {
    PodDisruptionBudget {
        metadata: child_metadata(service, service.name.clone()),
        spec: Some(PodDisruptionBudgetSpec {
            max_unavailable: Some(IntOrString::Int(1)),
            selector: Some(LabelSelector { match_labels: Some(names::selector(&service.name)), ..LabelSelector::default() }),
            unhealthy_pod_eviction_policy: Some("AlwaysAllow".into()),
            ..PodDisruptionBudgetSpec::default()
        }),
        status: None,
    }
}
