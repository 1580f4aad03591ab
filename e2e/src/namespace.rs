//! A namespace of a test's own, under restricted Pod Security, gone when the test is done with it.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result};
use k8s_openapi::api::core::v1::Namespace as Object;
use kube::api::{DeleteParams, Patch, PatchParams};
use kube::{Api, Client};
use serde_json::json;

use crate::wait::{self, Look};

/// Field manager of what the tests write.
pub const FIELD_MANAGER: &str = "sojourn-e2e";

/// A namespace.
pub struct Namespace {
    /// Talks to the cluster.
    pub client: Client,
    /// Its name.
    pub name: String,
}

impl Namespace {
    /// Makes a namespace, or takes the one that is there.
    pub async fn create(client: &Client, name: &str) -> Result<Self> {
        let namespaces: Api<Object> = Api::all(client.clone());
        let enforce: BTreeMap<&str, &str> = [("pod-security.kubernetes.io/enforce", "restricted")].into();
        let object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": enforce}});
        let apply = PatchParams::apply(FIELD_MANAGER).force();
        namespaces
            .patch(name, &apply, &Patch::Apply(&object))
            .await
            .with_context(|| format!("cannot create namespace {name}"))?;
        Ok(Self { client: client.clone(), name: name.to_owned() })
    }

    /// Deletes it and waits until it is gone.
    pub async fn delete(self) -> Result<()> {
        let namespaces: Api<Object> = Api::all(self.client.clone());
        namespaces.delete(&self.name, &DeleteParams::default()).await?;
        wait::quietly(&format!("namespace {} is gone", self.name), Duration::from_secs(120), || async {
            Ok(match namespaces.get_opt(&self.name).await? {
                None => Look::Holds(()),
                Some(object) => Look::NotYet(format!("{:?}", object.status.and_then(|status| status.phase))),
            })
        })
        .await
    }
}
