//! What a single pod says of itself: whether it serves, and if not, why and what to do. Pure.

use k8s_openapi::api::core::v1::{ContainerState, ContainerStateTerminated, ContainerStatus, Pod, PodCondition};
use kube::ResourceExt;
use sojourn_contract::exit::{Reason, Termination};
use sojourn_contract::label;

use super::super::service::{Accelerator, ModelVolume, Service};
use crate::crd::status::ReadyReason;
use crate::names::MODEL_VOLUME;

/// Exit code of a program whose libraries are not all there.
const CANNOT_BE_LOADED: i32 = 127;

/// Whether a pod still counts: not on its way out, not at its end.
pub(super) fn is_living(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    pod.metadata.deletion_timestamp.is_none() && !matches!(phase, Some("Failed" | "Succeeded"))
}

/// Whether it serves.
pub(super) fn is_ready(pod: &Pod) -> bool {
    condition(pod, "Ready").is_some_and(|condition| condition.status == "True")
}

/// The revision that it runs.
pub(super) fn revision(pod: &Pod) -> Option<&str> {
    pod.metadata.labels.as_ref()?.get(label::REVISION).map(String::as_str)
}

/// Why a pod does not serve yet, and what to do.
pub(super) fn problem(pod: &Pod, service: &Service) -> (ReadyReason, String) {
    unscheduled(pod, service)
        .or_else(|| containers(pod).find_map(blocked))
        .or_else(|| ended(pod, service))
        .unwrap_or_else(|| (ReadyReason::Loading, progress(pod, service)))
}

/// A pod that wrote more into its cache than it may is evicted, and so will be the next one.
pub(super) fn outgrown_cache(pod: &Pod) -> Option<(ReadyReason, String)> {
    let status = pod.status.as_ref().filter(|status| status.reason.as_deref() == Some("Evicted"))?;
    let said = status.message.as_deref().map(str::trim)?;
    let outgrown = said.contains(&format!("EmptyDir volume \"{MODEL_VOLUME}\" exceeds the limit"));
    let what = format!("the model is larger than spec.model.cache.sizeLimit ({said}); raise it");
    outgrown.then_some((ReadyReason::ModelLoadFailed, what))
}

fn condition<'a>(pod: &'a Pod, type_: &str) -> Option<&'a PodCondition> {
    pod.status.as_ref()?.conditions.iter().flatten().find(|condition| condition.type_ == type_)
}

/// Init containers first: they have to be there before the engine can start.
fn containers(pod: &Pod) -> impl Iterator<Item = &ContainerStatus> {
    let status = pod.status.as_ref();
    let init = status.into_iter().flat_map(|status| status.init_container_statuses.iter().flatten());
    init.chain(status.into_iter().flat_map(|status| status.container_statuses.iter().flatten()))
}

fn engine(pod: &Pod) -> Option<&ContainerStatus> {
    containers(pod).find(|container| container.name == label::ENGINE_CONTAINER)
}

/// What the scheduler waits for.
fn unscheduled(pod: &Pod, service: &Service) -> Option<(ReadyReason, String)> {
    let scheduled = condition(pod, "PodScheduled").filter(|condition| condition.status == "False")?;
    let said = scheduled.message.as_deref().unwrap_or("the scheduler gives no reason");
    let lacks = |claim: &str| said.contains(&format!("persistentvolumeclaim \"{claim}\" not found"));
    match &service.model.volume {
        ModelVolume::Claim(claim) if lacks(claim) => {
            let what = format!("there is no PersistentVolumeClaim {claim} in the namespace; create it with the model in it");
            return Some((ReadyReason::ModelNotFound, what));
        }
        ModelVolume::SharedCache(claim) if lacks(claim) => {
            let what = format!(
                "there is no PersistentVolumeClaim {claim} in the namespace; create it, or leave spec.model.cache.claimName out"
            );
            return Some((ReadyReason::Unschedulable, what));
        }
        _ => {}
    }
    if let Accelerator::Cuda { resource, .. } = &service.accelerator
        && said.contains(&format!("Insufficient {resource}"))
    {
        let what = format!("no node has a free {resource} ({said}); add a node with a GPU or lower spec.replicas");
        return Some((ReadyReason::WaitingForGPU, what));
    }
    let lowered = said.to_lowercase();
    if lowered.contains("resourceclaim") || lowered.contains("allocate all claims") {
        return Some((ReadyReason::WaitingForGPU, format!("its ResourceClaim is not allocated ({said})")));
    }
    let what = format!("no node takes it ({said}); look at spec.resources, nodeSelector, tolerations and affinity");
    Some((ReadyReason::Unschedulable, what))
}

/// What keeps a container from starting.
fn blocked(container: &ContainerStatus) -> Option<(ReadyReason, String)> {
    let waiting = container.state.as_ref()?.waiting.as_ref()?;
    let said = || waiting.message.clone().unwrap_or_default();
    match waiting.reason.as_deref()? {
        "ImagePullBackOff" | "ErrImagePull" | "InvalidImageName" | "ErrImageNeverPull" | "ImageInspectError" => {
            let what = format!(
                "image {} of container {} cannot be pulled; check its name, the registry and imagePullSecrets in \
                 spec.podTemplate (`kubectl describe pod` says why)",
                container.image, container.name
            );
            Some((ReadyReason::ImagePullFailed, what))
        }
        "CreateContainerConfigError" | "CreateContainerError" | "RunContainerError" => {
            Some((ReadyReason::InvalidConfiguration, format!("container {} cannot start: {}", container.name, said())))
        }
        _ => None,
    }
}

/// How a container came to its last end, in its own words where it left some.
fn ended(pod: &Pod, service: &Service) -> Option<(ReadyReason, String)> {
    let last = |container: &ContainerStatus| {
        let terminated = |state: &Option<ContainerState>| state.as_ref().and_then(|state| state.terminated.clone());
        terminated(&container.state).or_else(|| terminated(&container.last_state))
    };
    if let Some(end) = engine(pod).and_then(last) {
        return Some(reason_of(&end, service));
    }
    let failed = containers(pod).filter(|container| container.name != label::ENGINE_CONTAINER);
    failed.filter_map(|container| Some((container, last(container)?))).find(|(_, end)| end.exit_code != 0).map(
        |(container, end)| {
            let what = format!(
                "container {} ended with exit code {}; see `kubectl logs {} -c {} --previous`",
                container.name,
                end.exit_code,
                pod.name_any(),
                container.name
            );
            (ReadyReason::Crashing, what)
        },
    )
}

fn reason_of(end: &ContainerStateTerminated, service: &Service) -> (ReadyReason, String) {
    if end.reason.as_deref() == Some("OOMKilled") {
        let what = "the engine was killed at its memory limit; raise spec.resources.limits.memory, or lower \
                    spec.engine.kvCacheTokens";
        return (ReadyReason::OutOfMemory, what.into());
    }
    let own_words = end.message.as_deref().and_then(|line| serde_json::from_str::<Termination>(line.trim()).ok());
    let Some(Termination { reason, message }) = own_words else {
        if let Some(what) = without_driver(end, service) {
            return (ReadyReason::DeviceUnavailable, what);
        }
        let what =
            format!("the engine ended with exit code {}; see its log with `kubectl logs -c main --previous`", end.exit_code);
        return (ReadyReason::Crashing, what);
    };
    let ready_reason = match reason {
        Reason::InvalidConfiguration => ReadyReason::InvalidConfiguration,
        Reason::ModelNotFound => ReadyReason::ModelNotFound,
        Reason::ModelLoadFailed => ReadyReason::ModelLoadFailed,
        Reason::OutOfMemory => ReadyReason::OutOfMemory,
        Reason::DeviceUnavailable => ReadyReason::DeviceUnavailable,
        Reason::UnsupportedDevice | Reason::UnsupportedCpu => ReadyReason::UnsupportedDevice,
        Reason::AddressInUse | Reason::Internal => ReadyReason::Crashing,
    };
    (ready_reason, message)
}

/// What to do where an engine for GPUs could not even begin. Ours begins without a driver and says so itself; an image of the
/// user's own may not, and the GPU runtime may refuse to start the container.
fn without_driver(end: &ContainerStateTerminated, service: &Service) -> Option<String> {
    if service.accelerator == Accelerator::Cpu {
        return None;
    }
    let advice = "check the node's NVIDIA driver and container toolkit, and spec.gpu.runtimeClassName";
    let said = end.message.as_deref().unwrap_or_default().trim();
    match (end.exit_code, end.reason.as_deref()) {
        (CANNOT_BE_LOADED, _) => Some(format!(
            "the engine's program cannot be loaded: a library of CUDA or of the NVIDIA driver is not in the container; {advice}"
        )),
        (_, Some("StartError")) if said.to_lowercase().contains("nvidia") => {
            Some(format!("the GPU runtime cannot start the engine ({said}); {advice}"))
        }
        _ => None,
    }
}

fn progress(pod: &Pod, service: &Service) -> String {
    let running = |name: &str| {
        let container = containers(pod).find(|container| container.name == name);
        container.and_then(|container| container.state.as_ref()).is_some_and(|state| state.running.is_some())
    };
    if running(label::ENGINE_CONTAINER) {
        match service.model.volume {
            ModelVolume::Claim(_) | ModelVolume::NodeDirectory(_) => "the engine loads the model".into(),
            ModelVolume::SharedCache(_) | ModelVolume::OwnCache { .. } => {
                format!("the engine downloads and loads {}; its /ready says how far it is", service.model.location)
            }
        }
    } else if running(label::COLLECTOR_CONTAINER) {
        "the engine starts".into()
    } else {
        "its containers are being created".into()
    }
}
