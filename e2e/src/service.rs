//! An InferenceService and its pods, as the scenarios speak of them.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};
use sojourn_contract::{label, port};
use sojourn_operator::crd::InferenceService;

use crate::chat::Chat;
use crate::namespace::{FIELD_MANAGER, Namespace};
use crate::tunnel::{Tunnel, is_ready};
use crate::wait::{self, Look};

/// An InferenceService in a namespace.
pub struct Service {
    client: Client,
    namespace: String,
    /// Its name.
    pub name: String,
}

/// A condition as it is now.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Condition {
    /// `True`, `False` or `Unknown`; empty before there is any.
    pub status: String,
    /// Its CamelCase reason.
    pub reason: String,
    /// For people.
    pub message: String,
}

/// What identifies the containers of a pod and would change with a restart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Containers {
    /// UID of the pod.
    pub pod_uid: String,
    /// Name, restart count and container id of each.
    pub containers: Vec<(String, i32, String)>,
}

impl Namespace {
    /// Applies an InferenceService, strictly: an unknown field is an error.
    pub async fn apply(&self, manifest: &str) -> Result<Service> {
        let mut object: Value = serde_yaml::from_str(manifest).context("the manifest is no YAML")?;
        object["metadata"]["namespace"] = json!(self.name);
        let name = object["metadata"]["name"].as_str().context("the manifest has no name")?.to_owned();
        let services: Api<InferenceService> = Api::namespaced(self.client.clone(), &self.name);
        let strictly = PatchParams {
            field_validation: Some(kube::api::ValidationDirective::Strict),
            ..PatchParams::apply(FIELD_MANAGER).force()
        };
        services.patch(&name, &strictly, &Patch::Apply(&object)).await?;
        Ok(Service { client: self.client.clone(), namespace: self.name.clone(), name })
    }
}

impl Service {
    fn services(&self) -> Api<InferenceService> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// Its pods API.
    pub fn pods_api(&self) -> Api<Pod> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// Its pods.
    pub async fn pods(&self) -> Result<Vec<Pod>> {
        let labels = format!("{}={}", label::APP_INSTANCE, self.name);
        Ok(self.pods_api().list(&ListParams::default().labels(&labels)).await?.items)
    }

    /// Its only pod that is not on its way out.
    pub async fn pod(&self) -> Result<Pod> {
        let mut pods = self.pods().await?;
        pods.retain(|pod| pod.metadata.deletion_timestamp.is_none());
        match pods.len() {
            1 => Ok(pods.remove(0)),
            count => bail!("{} has {count} pods, not one", self.name),
        }
    }

    /// A condition of its status.
    pub async fn condition(&self, condition: &str) -> Result<Condition> {
        let service = self.services().get(&self.name).await?;
        let conditions = serde_json::to_value(service.status)?["conditions"].take();
        let found = conditions.as_array().into_iter().flatten().find(|c| c["type"] == condition).cloned().unwrap_or_default();
        let text = |key: &str| found[key].as_str().unwrap_or_default().to_owned();
        Ok(Condition { status: text("status"), reason: text("reason"), message: text("message") })
    }

    /// Waits until a condition is True; `on_change` hears why it is not yet.
    pub async fn becomes(&self, condition: &str, patience: Duration, on_change: impl FnMut(&str)) -> Result<()> {
        wait::until(&format!("{} becomes {condition}", self.name), patience, on_change, || async {
            let now = self.condition(condition).await?;
            Ok(match now.status.as_str() {
                "True" => Look::Holds(()),
                _ if now.reason.is_empty() => Look::NotYet("no condition yet".to_owned()),
                _ => Look::NotYet(format!("{}: {}", now.reason, now.message)),
            })
        })
        .await
    }

    /// Waits until a condition has this reason.
    pub async fn reports(&self, condition: &str, reason: &str, patience: Duration) -> Result<Condition> {
        wait::quietly(&format!("{} reports {reason}", self.name), patience, || async {
            let now = self.condition(condition).await?;
            Ok(if now.reason == reason { Look::Holds(now) } else { Look::NotYet(format!("{}: {}", now.reason, now.message)) })
        })
        .await
    }

    /// Waits until its only pod is another one than before, and Ready.
    pub async fn next_pod(&self, before: Option<&Pod>, patience: Duration) -> Result<Pod> {
        wait::quietly(&format!("{} has a ready pod", self.name), patience, || async {
            let mut pods = self.pods().await?;
            pods.retain(|pod| is_ready(pod) && before.is_none_or(|before| before.uid() != pod.uid()));
            Ok(match pods.pop() {
                Some(pod) => Look::Holds(pod),
                None => Look::NotYet("no such pod is ready".to_owned()),
            })
        })
        .await
    }

    /// Deletes a pod as `kubectl delete pod` does, with the grace period that it has.
    pub async fn delete_pod(&self, pod: &Pod) -> Result<()> {
        self.pods_api().delete(&pod.name_any(), &DeleteParams::default()).await?;
        Ok(())
    }

    /// Waits until a pod is gone, its containers included.
    pub async fn pod_is_gone(&self, pod: &Pod, patience: Duration) -> Result<()> {
        wait::quietly(&format!("pod {} is gone", pod.name_any()), patience, || async {
            let there = self.pods_api().get_opt(&pod.name_any()).await?.filter(|there| there.uid() == pod.uid());
            Ok(if there.is_none() { Look::Holds(()) } else { Look::NotYet("it is there".to_owned()) })
        })
        .await
    }

    /// A client of one of its pods, and the tunnel that it needs.
    pub async fn chat_with(&self, pod: &Pod) -> Result<(Chat, Tunnel)> {
        let tunnel = Tunnel::to_pod(&self.client, &self.namespace, &pod.name_any(), port::HTTP).await?;
        Ok((Chat::new(&tunnel.url, &self.name), tunnel))
    }

    /// A client of a ready pod, and the tunnel that it needs.
    pub async fn chat(&self) -> Result<(Chat, Tunnel)> {
        let tunnel = Tunnel::to_service(&self.client, &self.namespace, &self.name, port::HTTP).await?;
        Ok((Chat::new(&tunnel.url, &self.name), tunnel))
    }

    /// What its only pod's sidecar says of itself.
    pub async fn telemetry(&self) -> Result<sojourn_contract::sidecar::State> {
        let pod = self.pod().await?.name_any();
        let tunnel = Tunnel::to_pod(&self.client, &self.namespace, &pod, port::SIDECAR).await?;
        let url = format!("{}{}", tunnel.url, sojourn_contract::path::TELEMETRY);
        Ok(reqwest::get(&url).await.context("the sidecar does not answer")?.json().await?)
    }

    /// Its only pod is Ready.
    pub async fn pod_is_ready(&self) -> Result<bool> {
        Ok(is_ready(&self.pod().await?))
    }

    /// What would change if anything of its only pod restarted.
    pub async fn containers(&self) -> Result<Containers> {
        let pod = self.pod().await?;
        let status = pod.status.context("the pod has no status")?;
        let statuses =
            status.init_container_statuses.into_iter().flatten().chain(status.container_statuses.into_iter().flatten());
        let containers = statuses.map(|c| (c.name, c.restart_count, c.container_id.unwrap_or_default())).collect();
        Ok(Containers { pod_uid: pod.metadata.uid.unwrap_or_default(), containers })
    }

    /// Changes its spec by a merge patch.
    pub async fn change(&self, spec: Value) -> Result<()> {
        self.services().patch(&self.name, &PatchParams::default(), &Patch::Merge(json!({"spec": spec}))).await?;
        Ok(())
    }

    /// Deletes it.
    pub async fn delete(&self) -> Result<()> {
        self.services().delete(&self.name, &DeleteParams::default()).await?;
        Ok(())
    }
}
