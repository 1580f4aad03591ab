//! Writes the children: server-side apply with our own field manager, never over somebody else's object, and not at all
//! where nothing would change.

use std::sync::Arc;

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::apps::v1::Deployment;
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use kube::{Api, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};

use super::dereference::World;
use super::render::Children;
use super::service::Service;
use crate::context::Context;
use crate::names;

mod unchanged;

/// Why a child could not be written.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// The name belongs to an object of somebody else.
    #[error("{kind} {name} {problem}; rename this service, or delete that object if nobody needs it")]
    NameConflict {
        /// Kind of the object.
        kind: String,
        /// Its name.
        name: String,
        /// What makes it somebody else's.
        problem: String,
    },
    /// The API server did not take it.
    #[error("cannot apply {kind} {name}")]
    Api {
        /// Kind of the object.
        kind: String,
        /// Its name.
        name: String,
        /// Why.
        #[source]
        source: kube::Error,
    },
}

/// Writes the children of a service: the configuration before the pods that mount it. Answers the Deployment as it is now.
pub async fn apply(
    service: &Service,
    children: &Children,
    world: &World,
    context: &Context,
) -> Result<Arc<Deployment>, ApplyError> {
    let Children { config_map, service: kubernetes_service, disruption_budget, deployment, revision: _ } = children;
    let writer = Writer { context, service };
    writer.check_owners(children, world)?;
    match (config_map, &world.config_map) {
        (Some(desired), existing) => {
            writer.ensure(desired, existing.clone()).await?;
        }
        (None, Some(existing)) => writer.remove_own(existing.as_ref()).await?,
        (None, None) => {}
    }
    futures::try_join!(
        writer.ensure(kubernetes_service, world.service.clone()),
        writer.ensure(disruption_budget, world.disruption_budget.clone()),
    )?;
    writer.ensure(deployment, world.deployment.clone()).await
}

/// What a child must be able to do; every kind of ours does.
trait Child:
    Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Serialize + DeserializeOwned + std::fmt::Debug
{
}

impl<K> Child for K where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Serialize + DeserializeOwned + std::fmt::Debug
{
}

struct Writer<'a> {
    context: &'a Context,
    service: &'a Service,
}

impl Writer<'_> {
    async fn ensure<K: Child>(&self, desired: &K, existing: Option<Arc<K>>) -> Result<Arc<K>, ApplyError> {
        let desired = with_digest(desired);
        if let Some(existing) = existing.filter(|existing| unchanged::contains(&json(existing.as_ref()), &json(&desired))) {
            return Ok(existing);
        }
        let name = desired.name_any();
        let parameters = PatchParams::apply(names::FIELD_MANAGER).force();
        match self.api::<K>().patch(&name, &parameters, &Patch::Apply(&desired)).await {
            Ok(applied) => Ok(Arc::new(applied)),
            Err(source) => Err(ApplyError::Api { kind: K::kind(&()).into_owned(), name, source }),
        }
    }

    /// Deletes a child that is not wanted any more; an object of somebody else stays.
    async fn remove_own<K: Child>(&self, existing: &K) -> Result<(), ApplyError> {
        if self.check_owner(existing).is_err() || existing.meta().deletion_timestamp.is_some() {
            return Ok(());
        }
        let name = existing.name_any();
        let preconditions = Preconditions { uid: existing.uid(), resource_version: None };
        let parameters = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
        match self.api::<K>().delete(&name, &parameters).await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if status.is_not_found() || status.is_conflict() => Ok(()),
            Err(source) => Err(ApplyError::Api { kind: K::kind(&()).into_owned(), name, source }),
        }
    }

    /// Nothing is written while any of the names that are needed is somebody else's.
    fn check_owners(&self, children: &Children, world: &World) -> Result<(), ApplyError> {
        let World { config_map, service, disruption_budget, deployment, pods: _, answers: _ } = world;
        let config_map = config_map.as_deref().filter(|_| children.config_map.is_some());
        config_map.map_or(Ok(()), |existing| self.check_owner(existing))?;
        service.as_deref().map_or(Ok(()), |existing| self.check_owner(existing))?;
        disruption_budget.as_deref().map_or(Ok(()), |existing| self.check_owner(existing))?;
        deployment.as_deref().map_or(Ok(()), |existing| self.check_owner(existing))
    }

    /// An object is ours with our controller reference, or without any and with our labels: a backup restores objects
    /// without their owners.
    fn check_owner<K: Child>(&self, existing: &K) -> Result<(), ApplyError> {
        let controller = existing.owner_references().iter().find(|owner| owner.controller == Some(true));
        let labelled = || {
            let expected = names::labels(&self.service.name);
            expected.iter().all(|(key, value)| existing.labels().get(key) == Some(value))
        };
        let problem = match controller {
            Some(owner) if owner.uid == self.service.owner.uid => return Ok(()),
            Some(owner) => format!("belongs to {} {}", owner.kind, owner.name),
            None if labelled() => return Ok(()),
            None => "exists and is not managed by Sojourn".to_owned(),
        };
        Err(ApplyError::NameConflict { kind: K::kind(&()).into_owned(), name: existing.name_any(), problem })
    }

    fn api<K: Child>(&self) -> Api<K> {
        Api::namespaced(self.context.client.clone(), &self.service.namespace)
    }
}

/// Says on the object what it was made from: a field that we do not render any more shows by the digest alone.
fn with_digest<K: Child>(desired: &K) -> K {
    let digest = Sha256::digest(json(desired).to_string());
    let digest: String = format!("{digest:x}").chars().take(16).collect();
    let mut desired = desired.clone();
    desired.annotations_mut().insert(names::APPLIED_DIGEST.into(), digest);
    desired
}

fn json(object: &impl Serialize) -> serde_json::Value {
    serde_json::to_value(object).expect("a Kubernetes object is plain data")
}
