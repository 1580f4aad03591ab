//! Test models inside the cluster: the cache's `models` directory as a read-only claim in any namespace.

use anyhow::{Context, Result};
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use kube::{
    Api, Client,
    api::{Patch, PatchParams},
};
use serde_json::json;

use super::node::layout;

/// Name of the claim, as `pvc://models/FILE` says it.
pub const CLAIM: &str = "models";
const FIELD_MANAGER: &str = "sandbox";

/// Creates the claim `models` in `namespace`, bound to a volume of its own that shows the cache's `models` directory.
/// The volume outlives the namespace; a namespace of the same name made later gets it again.
pub async fn provide(client: &Client, namespace: &str) -> Result<()> {
    let patch = PatchParams::apply(FIELD_MANAGER).force();
    let name = format!("{CLAIM}-{namespace}");
    let volume = json!({
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": name},
        "spec": {
            "accessModes": ["ReadOnlyMany"],
            "capacity": {"storage": "1Gi"},
            "storageClassName": "",
            "persistentVolumeReclaimPolicy": "Retain",
            "claimRef": {"kind": "PersistentVolumeClaim", "apiVersion": "v1", "namespace": namespace, "name": CLAIM},
            "hostPath": {"path": layout::MODELS, "type": "Directory"},
        },
    });
    let claim = json!({
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": CLAIM, "namespace": namespace},
        "spec": {
            "accessModes": ["ReadOnlyMany"],
            "resources": {"requests": {"storage": "1Gi"}},
            "storageClassName": "",
            "volumeName": name,
        },
    });
    let volumes = Api::<PersistentVolume>::all(client.clone());
    let applied = volumes
        .patch(&name, &patch, &Patch::Apply(&volume))
        .await
        .with_context(|| format!("cannot create the volume {name}"))?;
    if applied.status.and_then(|status| status.phase).as_deref() == Some("Released") {
        // It remembers the UID of a claim that is gone, and would wait for that one.
        let forget = json!({"spec": {"claimRef": {"uid": null, "resourceVersion": null}}});
        volumes.patch(&name, &PatchParams::default(), &Patch::Merge(&forget)).await.context("cannot free the volume")?;
    }
    Api::<PersistentVolumeClaim>::namespaced(client.clone(), namespace)
        .patch(CLAIM, &patch, &Patch::Apply(&claim))
        .await
        .with_context(|| format!("cannot create the claim {CLAIM} in {namespace}"))?;
    Ok(())
}
