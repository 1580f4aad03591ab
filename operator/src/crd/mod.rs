//! The API: `inferenceservices.sojourn.dev`, v1alpha1. Its rules are CEL in the schema, so there is no webhook; a message
//! says what to write instead. What the schema cannot see is checked by `reconcile::validate`. No I/O.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Toleration;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::{CustomResource, CustomResourceExt, KubeSchema};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

pub mod engine;
pub mod model;
pub mod rollout;
pub mod status;
pub mod tracing;
pub mod value;

use engine::{Auth, Engine, Gpu, Resources};
use model::Model;
use rollout::{Drain, Rollout, Startup};
use status::InferenceServiceStatus;
use tracing::Tracing;
use value::any_object;

/// Annotation of the CRD with the number of its schema: an operator that finds an older one is not ready.
pub const SCHEMA_NUMBER_ANNOTATION: &str = "sojourn.dev/schema";
/// Number of this schema; one more with each change of a field or rule.
pub const SCHEMA_NUMBER: u32 = 1;

/// A model that is served by the OpenAI API and whose requests explain themselves.
#[derive(CustomResource, Debug, Clone, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "sojourn.dev",
    version = "v1alpha1",
    kind = "InferenceService",
    plural = "inferenceservices",
    shortname = "sjn",
    category = "sojourn",
    namespaced,
    status = "InferenceServiceStatus",
    derive = "PartialEq",
    doc = "A model that is served by the OpenAI API and whose requests explain themselves.",
    scale(spec_replicas_path = ".spec.replicas", status_replicas_path = ".status.replicas", label_selector_path = ".status.selector"),
    validation = Rule::new("size(self.metadata.name) <= 50 && self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')")
        .message("metadata.name becomes the name of a Service: write at most 50 lower-case letters, digits and '-', and begin with a letter"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].status"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].reason"),
    printcolumn(name = "Replicas", type_ = "integer", json_path = ".status.readyReplicas"),
    printcolumn(name = "Model", type_ = "string", json_path = ".spec.model.uri"),
    printcolumn(name = "Telemetry", type_ = "string", json_path = ".status.conditions[?(@.type=='TelemetryReady')].reason"),
    printcolumn(name = "Sampling", type_ = "string", json_path = ".status.sampling"),
    printcolumn(name = "URL", type_ = "string", json_path = ".status.url", priority = 1),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct InferenceServiceSpec {
    /// The model that the service runs.
    pub model: Model,
    /// Pods of the service; `kubectl scale` and autoscalers write it. Hot: no container restarts.
    #[serde(default = "one")]
    #[schemars(range(min = 0, max = 10000))]
    pub replicas: i32,
    /// The accelerator of each pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gpu: Option<Gpu>,
    /// Requests and limits of the engine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<Resources>,
    /// Options of the engine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub engine: Option<Engine>,
    /// Who may ask. Default: everybody who reaches the Service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth: Option<Auth>,
    /// Journey tracing; on by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tracing: Option<Tracing>,
    /// How a change replaces pods. Hot: no container restarts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollout: Option<Rollout>,
    /// Patience with a pod that starts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub startup: Option<Startup>,
    /// Patience with a pod that ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drain: Option<Drain>,
    /// Takes all pods away and keeps everything else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suspend: Option<bool>,
    /// ServiceAccount of the pods; its token is not mounted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub service_account_name: Option<String>,
    /// Labels of the nodes that pods may run on.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub node_selector: BTreeMap<String, String>,
    /// Taints that pods bear.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tolerations: Vec<Toleration>,
    /// Affinity of the pods, as in a pod's spec.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "any_object")]
    pub affinity: Option<Map<String, Value>>,
    /// A PodTemplateSpec that is merged last, for what has no field here. The engine's container is `main`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "any_object")]
    pub pod_template: Option<Map<String, Value>>,
}

fn one() -> i32 {
    1
}

/// The CustomResourceDefinition as it is installed.
pub fn definition() -> CustomResourceDefinition {
    let mut crd = InferenceService::crd();
    crd.metadata.annotations.get_or_insert_default().insert(SCHEMA_NUMBER_ANNOTATION.into(), SCHEMA_NUMBER.to_string());
    crd
}
