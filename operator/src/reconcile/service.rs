//! A service whose spec was understood: everything parsed, every default resolved. It is the only input of rendering, which
//! therefore never sees the spec as the user wrote it.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Affinity, PodTemplateSpec, ResourceRequirements, Toleration};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde_json::{Map, Value};
use sojourn_contract::sampling::Policy;

use crate::crd::engine::Engine;
use crate::crd::model::KeyRef;
use crate::crd::tracing::{Detail, Header, Protocol};

/// A service whose spec was understood.
#[derive(Debug, Clone, PartialEq)]
pub struct Service {
    /// Name of the InferenceService and of most of its children.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// The InferenceService, as the owner of its children.
    pub owner: OwnerReference,
    /// Pods that should exist: 0 while suspended.
    pub replicas: i32,
    /// `spec.suspend`.
    pub suspended: bool,
    /// The model's place and name.
    pub model: Model,
    /// What the engine computes on.
    pub accelerator: Accelerator,
    /// Image of the engine.
    pub image: String,
    /// Requests and limits of the engine, without the accelerator.
    pub resources: ResourceRequirements,
    /// Options of the engine.
    pub engine: Engine,
    /// Secret key with the API key that clients must send.
    pub api_key: Option<KeyRef>,
    /// `None` when tracing is off.
    pub tracing: Option<Tracing>,
    /// How a change replaces pods.
    pub rollout: Rollout,
    /// Seconds that loading may make no progress.
    pub startup_seconds: i64,
    /// Seconds that running requests may take after SIGTERM.
    pub drain_seconds: i64,
    /// Where pods run and as whom.
    pub placement: Placement,
    /// What is merged last into the pod template.
    pub pod_template: Option<PodTemplateSpec>,
    /// Any new value restarts the pods.
    pub restart: Option<String>,
}

/// The model's place and name.
#[derive(Debug, Clone, PartialEq)]
pub struct Model {
    /// Where the model is, or where it lands.
    pub volume: ModelVolume,
    /// What the engine is told to serve: a path in its container, or `hf://...`.
    pub location: String,
    /// Secret with a token for the download.
    pub credentials_secret: Option<String>,
    /// What clients call it.
    pub served_name: String,
    /// ConfigMap key with a chat template.
    pub chat_template: Option<KeyRef>,
}

/// What holds the model: read-only at [`sojourn_contract::path::MODELS`], or a cache at
/// [`sojourn_contract::path::MODEL_CACHE`].
#[derive(Debug, Clone, PartialEq)]
pub enum ModelVolume {
    /// A PersistentVolumeClaim of this name.
    Claim(String),
    /// A directory of the node.
    NodeDirectory(String),
    /// Pods of the service share what they download, in a PersistentVolumeClaim of this name.
    SharedCache(String),
    /// Each pod downloads for itself.
    OwnCache {
        /// Limit of the emptyDir.
        size_limit: Option<Quantity>,
    },
}

/// What the engine computes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Accelerator {
    /// The CPU.
    Cpu,
    /// One GPU.
    Cuda {
        /// The extended resource that stands for it.
        resource: String,
        /// RuntimeClass of the pods.
        runtime_class: Option<String>,
    },
}

/// Journey tracing of a service.
#[derive(Debug, Clone, PartialEq)]
pub struct Tracing {
    /// Where kept journeys go; empty: nowhere.
    pub destinations: Vec<Destination>,
    /// The Secret that holds their credentials, if it exists.
    pub credentials_secret: String,
    /// What is kept.
    pub policy: Policy,
    /// Spans of a journey.
    pub detail: Detail,
    /// W3C baggage members that are copied to the journey.
    pub baggage: Vec<String>,
    /// Resource attributes that the sidecar adds.
    pub resource_attributes: BTreeMap<String, String>,
    /// The collector.
    pub collector: Collector,
}

/// A place that kept journeys are sent to.
#[derive(Debug, Clone, PartialEq)]
pub struct Destination {
    /// Its name in the status.
    pub name: String,
    /// How it is reached.
    pub exporter: Exporter,
}

/// How a destination is reached.
#[derive(Debug, Clone, PartialEq)]
pub enum Exporter {
    /// By OTLP.
    Otlp {
        /// URL of the endpoint.
        endpoint: String,
        /// gRPC or HTTP.
        protocol: Protocol,
        /// Headers of every export.
        headers: Vec<Header>,
        /// Key of the credentials Secret with a certificate authority.
        ca_secret_key: Option<String>,
    },
    /// By an exporter in the collector's own words.
    Other {
        /// Its type.
        type_: String,
        /// Its configuration.
        config: Map<String, Value>,
    },
}

/// The collector beside each engine.
#[derive(Debug, Clone, PartialEq)]
pub struct Collector {
    /// Its image.
    pub image: String,
    /// The image's own entry point.
    pub command: Vec<String>,
    /// Requests and limits.
    pub resources: ResourceRequirements,
    /// Its memory limit in bytes.
    pub memory_limit: u64,
}

/// How a change replaces pods.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rollout {
    /// All go before the first comes.
    Recreate,
    /// One after the other.
    Rolling {
        /// Pods beyond the replicas.
        max_surge: IntOrString,
        /// Pods that may be missing.
        max_unavailable: IntOrString,
    },
}

/// Where pods run and as whom.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Placement {
    /// ServiceAccount of the pods.
    pub service_account: Option<String>,
    /// Labels of the nodes.
    pub node_selector: BTreeMap<String, String>,
    /// Taints that pods bear.
    pub tolerations: Vec<Toleration>,
    /// Affinity of the pods.
    pub affinity: Option<Affinity>,
}
