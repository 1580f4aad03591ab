//! A namespace of a test's own, under restricted Pod Security, gone when the test is done with it.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result};
use k8s_openapi::api::core::v1::{Namespace as Object, Pod, Secret};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use kube::{Api, Client};
use serde_json::json;
use sojourn_operator::crd::InferenceService;

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

    /// Writes a Secret with these keys, or changes it to have them.
    pub async fn secret(&self, name: &str, keys: &[(&str, &str)]) -> Result<()> {
        let secrets: Api<Secret> = Api::namespaced(self.client.clone(), &self.name);
        let values: BTreeMap<&str, &str> = keys.iter().copied().collect();
        let object = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": values});
        let apply = PatchParams::apply(FIELD_MANAGER).force();
        secrets.patch(name, &apply, &Patch::Apply(&object)).await.with_context(|| format!("cannot write Secret {name}"))?;
        Ok(())
    }

    /// Deletes it and waits until it is gone. Its pods go without their grace period: the namespace controller looks again
    /// only after half of it.
    pub async fn delete(self) -> Result<()> {
        let services: Api<InferenceService> = Api::namespaced(self.client.clone(), &self.name);
        match services.delete_collection(&DeleteParams::default(), &ListParams::default()).await {
            Ok(_) => {}
            // There is no such kind before the operator is installed.
            Err(kube::Error::Api(status)) if status.is_not_found() => {}
            Err(error) => return Err(error.into()),
        }
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), &self.name);
        pods.delete_collection(&DeleteParams::default().grace_period(0), &ListParams::default()).await?;
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
