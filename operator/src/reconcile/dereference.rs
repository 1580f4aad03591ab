//! Reads everything that a reconcile looks at, without judging it. What the watches hold is taken from there; a child that
//! they do not hold is asked for once more, because the name may belong to an object without our labels.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Service};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::Api;
use kube::runtime::reflector::{ObjectRef, Store};
use serde::de::DeserializeOwned;

use crate::context::Context;
use crate::crd::InferenceService;
use crate::names;
use crate::telemetry::Answer;

/// What there is of a service.
#[derive(Debug, Clone, Default)]
pub struct World {
    /// The collector's configuration.
    pub config_map: Option<Arc<ConfigMap>>,
    /// The Service of its name.
    pub service: Option<Arc<Service>>,
    /// The PodDisruptionBudget of its name.
    pub disruption_budget: Option<Arc<PodDisruptionBudget>>,
    /// The Deployment of its name.
    pub deployment: Option<Arc<Deployment>>,
    /// Its pods, by name.
    pub pods: Vec<Arc<Pod>>,
    /// What their sidecars said last, by the pod's name.
    pub answers: BTreeMap<String, Answer>,
}

/// Reads what there is of a service.
pub async fn dereference(object: &InferenceService, context: &Context) -> Result<World, kube::Error> {
    let name = object.metadata.name.as_deref().unwrap_or_default();
    let namespace = object.metadata.namespace.as_deref().unwrap_or_default();
    let stores = &context.stores;
    let reader = Reader { context, namespace };
    let config_name = names::collector_config(name);
    let (config_map, service, disruption_budget, deployment) = futures::try_join!(
        reader.read(&stores.config_maps, &config_name),
        reader.read(&stores.kubernetes_services, name),
        reader.read(&stores.disruption_budgets, name),
        reader.read(&stores.deployments, name),
    )?;
    let (pods, answers) = (stores.pods_of(name, namespace), context.answers.of(name, namespace));
    Ok(World { config_map, service, disruption_budget, deployment, pods, answers })
}

struct Reader<'a> {
    context: &'a Context,
    namespace: &'a str,
}

impl Reader<'_> {
    async fn read<K>(&self, store: &Store<K>, name: &str) -> Result<Option<Arc<K>>, kube::Error>
    where
        K: kube::Resource<DynamicType = (), Scope = NamespaceResourceScope>
            + Clone
            + DeserializeOwned
            + std::fmt::Debug
            + 'static,
    {
        if let Some(held) = store.get(&ObjectRef::new(name).within(self.namespace)) {
            return Ok(Some(held));
        }
        let api = Api::<K>::namespaced(self.context.client.clone(), self.namespace);
        Ok(api.get_opt(name).await?.map(Arc::new))
    }
}
