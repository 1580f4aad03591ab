//! A service that asks for a GPU waits for one, is scheduled when there is one, and says what is wrong with it. The GPU is made up,
//! and the sandbox has the engine's CPU build alone, so what is wrong is that this build has no code for GPUs.

use std::time::Duration;

use anyhow::{Context, Result};
use k8s_openapi::api::core::v1::Node;
use kube::api::{ListParams, Patch, PatchParams};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};
use sojourn_contract::{image, label};
use sojourn_e2e::lab::Lab;
use sojourn_e2e::manifest::Manifest;
use sojourn_e2e::wait::{self, Look};

const GPU: &str = "nvidia.com/gpu";
/// The kubelet sees a resource that somebody else announced when it next looks at its node.
const ANNOUNCED: Duration = Duration::from_secs(120);

#[tokio::test]
async fn a_gpu_that_comes_is_used_and_what_it_lacks_is_said() -> Result<()> {
    let lab = Lab::open().await?;
    // What an earlier run left.
    announce(&lab, Value::Null).await?;
    let result = waits_and_then_says_what_is_wrong(&lab).await;
    announce(&lab, Value::Null).await?;
    result
}

async fn waits_and_then_says_what_is_wrong(lab: &Lab) -> Result<()> {
    let namespace = lab.namespace("gpu").await?;
    let service = namespace.apply(&Manifest::smollm("fast").with("gpu.count", 1).yaml()).await?;
    let waiting = service.reports("Ready", "WaitingForGPU", Lab::PATIENCE).await?;
    assert!(waiting.message.contains(GPU), "{}", waiting.message);

    announce(lab, json!("1")).await?;
    let unusable = service.reports("Ready", "DeviceUnavailable", Lab::PATIENCE).await?;
    assert!(unusable.message.contains("CPU build") && unusable.message.contains(image::ENGINE_CUDA), "{}", unusable.message);

    let pod = service.pod().await?;
    let spec = pod.spec.context("the pod has no spec")?;
    assert!(spec.node_name.is_some(), "it was scheduled");
    let engine = spec.containers.iter().find(|container| container.name == label::ENGINE_CONTAINER).context("no engine")?;
    let limits = engine.resources.as_ref().and_then(|resources| resources.limits.as_ref()).context("no limits")?;
    assert_eq!(limits.get(GPU).map(|count| count.0.as_str()), Some("1"));
    assert!(engine.args.iter().flatten().any(|argument| argument == "--device=cuda"), "{:?}", engine.args);
    assert!(spec.tolerations.iter().flatten().any(|toleration| toleration.key.as_deref() == Some(GPU)));

    // The only GPU is taken.
    let second = namespace.apply(&Manifest::smollm("second").with("gpu.count", 1).yaml()).await?;
    second.reports("Ready", "WaitingForGPU", Lab::PATIENCE).await?;
    // Without a GPU the same service serves.
    service.change(json!({"gpu": {"count": 0}})).await?;
    service.becomes("Ready", Lab::PATIENCE, |_| {}).await?;
    second.reports("Ready", "DeviceUnavailable", Lab::PATIENCE).await?;
    namespace.delete().await
}

/// Says on the node how many GPUs it has; null takes the resource away. Waits until the kubelet offers as many.
async fn announce(lab: &Lab, count: Value) -> Result<()> {
    let nodes: Api<Node> = Api::all(lab.client.clone());
    let node = nodes.list(&ListParams::default()).await?.items.into_iter().next().context("there is no node")?.name_any();
    let wanted = count.as_str().map(str::to_owned);
    let status = json!({"status": {"capacity": {GPU: count}, "allocatable": {GPU: count}}});
    nodes.patch_status(&node, &PatchParams::default(), &Patch::Merge(&status)).await?;
    wait::quietly(&format!("the node offers {wanted:?} of {GPU}"), ANNOUNCED, || async {
        let offered = nodes.get_status(&node).await?.status.and_then(|status| status.allocatable).unwrap_or_default();
        let offered = offered.get(GPU).map(|count| count.0.clone());
        Ok(if offered == wanted { Look::Holds(()) } else { Look::NotYet(format!("it offers {offered:?}")) })
    })
    .await
}
