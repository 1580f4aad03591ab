//! What the operator knows of the cluster without asking: every service, everything it manages, and their pods, kept current
//! by watches. A reconcile reads here, so one that changes nothing costs no request.

use std::sync::Arc;

use futures::future::try_join_all;
use futures::{FutureExt, TryFutureExt};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Service};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::runtime::reflector::store::{WriterDropped, store};
use kube::runtime::reflector::{ObjectRef, Store, store::Writer};
use sojourn_contract::label;

use crate::crd::InferenceService;

/// Readers of what the watches hold.
#[derive(Clone)]
pub struct Stores {
    /// Every InferenceService.
    pub services: Store<InferenceService>,
    /// Collector configurations.
    pub config_maps: Store<ConfigMap>,
    /// Services in front of pods.
    pub kubernetes_services: Store<Service>,
    /// Disruption budgets.
    pub disruption_budgets: Store<PodDisruptionBudget>,
    /// Deployments.
    pub deployments: Store<Deployment>,
    /// Pods of services.
    pub pods: Store<Pod>,
}

/// The ends that the watches write into.
pub struct Writers {
    /// Every InferenceService.
    pub services: Writer<InferenceService>,
    /// Collector configurations.
    pub config_maps: Writer<ConfigMap>,
    /// Services in front of pods.
    pub kubernetes_services: Writer<Service>,
    /// Disruption budgets.
    pub disruption_budgets: Writer<PodDisruptionBudget>,
    /// Deployments.
    pub deployments: Writer<Deployment>,
    /// Pods of services.
    pub pods: Writer<Pod>,
}

/// Empty stores with the ends that fill them.
pub fn stores() -> (Stores, Writers) {
    let (services, services_writer) = store();
    let (config_maps, config_maps_writer) = store();
    let (kubernetes_services, kubernetes_services_writer) = store();
    let (disruption_budgets, disruption_budgets_writer) = store();
    let (deployments, deployments_writer) = store();
    let (pods, pods_writer) = store();
    let readers = Stores { services, config_maps, kubernetes_services, disruption_budgets, deployments, pods };
    let writers = Writers {
        services: services_writer,
        config_maps: config_maps_writer,
        kubernetes_services: kubernetes_services_writer,
        disruption_budgets: disruption_budgets_writer,
        deployments: deployments_writer,
        pods: pods_writer,
    };
    (readers, writers)
}

impl Stores {
    /// Waits until each store holds its first list: before that, absence means nothing.
    pub async fn ready(&self) -> Result<(), WriterDropped> {
        try_join_all([
            self.services.wait_until_ready().boxed(),
            self.config_maps.wait_until_ready().boxed(),
            self.kubernetes_services.wait_until_ready().boxed(),
            self.disruption_budgets.wait_until_ready().boxed(),
            self.deployments.wait_until_ready().boxed(),
            self.pods.wait_until_ready().boxed(),
        ])
        .map_ok(|_| ())
        .await
    }

    /// The pods of a service, in the order of their names.
    pub fn pods_of(&self, service: &str, namespace: &str) -> Vec<Arc<Pod>> {
        let mut pods = self.pods.state_filter(|pod| {
            pod.metadata.namespace.as_deref() == Some(namespace) && service_of(pod).is_some_and(|name| name == service)
        });
        pods.sort_by(|left, right| left.metadata.name.cmp(&right.metadata.name));
        pods
    }
}

/// The service that a pod belongs to, by its label: pods are the ReplicaSet's, not ours.
pub fn service_of(pod: &Pod) -> Option<&str> {
    pod.metadata.labels.as_ref()?.get(label::APP_INSTANCE).map(String::as_str)
}

/// The service that a pod belongs to, as what is to be reconciled.
pub fn owner_of(pod: &Pod) -> Option<ObjectRef<InferenceService>> {
    let reference = ObjectRef::new(service_of(pod)?);
    Some(match &pod.metadata.namespace {
        Some(namespace) => reference.within(namespace),
        None => reference,
    })
}
