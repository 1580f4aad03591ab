//! The pod: the engine, the collector beside it, and what both may do. It passes the restricted Pod Security standard.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    Capabilities, PodSecurityContext, PodSpec, PodTemplateSpec, SeccompProfile, SecurityContext, Toleration,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use sha2::{Digest, Sha256};
use sojourn_contract::label;

use super::{engine, sidecar};
use crate::names;
use crate::reconcile::service::{Accelerator, ModelVolume, Service};
use crate::settings::Settings;

/// Seconds that a pod goes on serving after its end was asked for, because proxies learn of it late.
pub(super) const PRE_STOP_SECONDS: i64 = 10;
/// Seconds for the engine's and the sidecar's last flush.
pub(super) const FLUSH_SECONDS: i64 = 15;

/// The template before the user's own is merged into it.
pub(super) fn template(service: &Service, settings: &Settings) -> PodTemplateSpec {
    let mut annotations: BTreeMap<String, String> =
        [("kubectl.kubernetes.io/default-container".to_owned(), label::ENGINE_CONTAINER.to_owned())].into();
    annotations.extend(service.restart.clone().map(|value| (label::RESTART.to_owned(), value)));
    let mut volumes = engine::volumes(service);
    let mut init_containers = Vec::new();
    if let Some(tracing) = &service.tracing {
        volumes.extend(sidecar::volumes(service, tracing));
        init_containers.push(sidecar::supervisor(settings));
        init_containers.push(sidecar::collector(service, tracing));
    }
    let placement = &service.placement;
    let runtime_class_name = match &service.accelerator {
        Accelerator::Cuda { runtime_class, .. } => runtime_class.clone(),
        Accelerator::Cpu => None,
    };
    // A claim belongs to root until it is told whose it is; emptyDirs may be written by everybody.
    let writes_into_claim = matches!(service.model.volume, ModelVolume::SharedCache(_));
    let spec = PodSpec {
        affinity: placement.affinity.clone(),
        automount_service_account_token: Some(false),
        containers: vec![engine::container(service)],
        enable_service_links: Some(false),
        init_containers: (!init_containers.is_empty()).then_some(init_containers),
        node_selector: (!placement.node_selector.is_empty()).then(|| placement.node_selector.clone()),
        runtime_class_name,
        security_context: Some(PodSecurityContext {
            fs_group: writes_into_claim.then_some(names::UID),
            fs_group_change_policy: writes_into_claim.then(|| "OnRootMismatch".into()),
            run_as_group: Some(names::UID),
            run_as_non_root: Some(true),
            run_as_user: Some(names::UID),
            seccomp_profile: Some(SeccompProfile { type_: "RuntimeDefault".into(), localhost_profile: None }),
            ..PodSecurityContext::default()
        }),
        service_account_name: placement.service_account.clone(),
        termination_grace_period_seconds: Some(PRE_STOP_SECONDS + service.drain_seconds + FLUSH_SECONDS),
        tolerations: tolerations(service),
        volumes: Some(volumes),
        ..PodSpec::default()
    };
    let metadata =
        ObjectMeta { annotations: Some(annotations), labels: Some(names::labels(&service.name)), ..ObjectMeta::default() };
    PodTemplateSpec { metadata: Some(metadata), spec: Some(spec) }
}

/// The user's, and for a GPU the one of the taint that nodes with GPUs are kept free with: its key is the resource's name, as
/// Kubernetes' admission plugin ExtendedResourceToleration has it.
fn tolerations(service: &Service) -> Option<Vec<Toleration>> {
    let mut tolerations = service.placement.tolerations.clone();
    if let Accelerator::Cuda { resource, .. } = &service.accelerator {
        let of_gpu = Toleration {
            key: Some(resource.clone()),
            operator: Some("Exists".into()),
            effect: Some("NoSchedule".into()),
            ..Toleration::default()
        };
        if !tolerations.contains(&of_gpu) {
            tolerations.push(of_gpu);
        }
    }
    (!tolerations.is_empty()).then_some(tolerations)
}

/// What each of our containers may do: nothing beyond computing and writing into its mounts.
pub(super) fn restricted() -> SecurityContext {
    SecurityContext {
        allow_privilege_escalation: Some(false),
        capabilities: Some(Capabilities { add: None, drop: Some(vec!["ALL".into()]) }),
        read_only_root_filesystem: Some(true),
        ..SecurityContext::default()
    }
}

/// Names the template after its content, so that pods say which one they run.
pub(super) fn with_revision(mut template: PodTemplateSpec) -> (PodTemplateSpec, String) {
    let content = serde_json::to_vec(&template).expect("a pod template is plain data");
    let revision: String = format!("{:x}", Sha256::digest(content)).chars().take(10).collect();
    let metadata = template.metadata.get_or_insert_default();
    metadata.labels.get_or_insert_default().insert(label::REVISION.into(), revision.clone());
    (template, revision)
}
