//! `status`: what the operator says of a service. No counters: it is written on transitions only.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What the operator says of a service.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct InferenceServiceStatus {
    /// Base URL of the OpenAI API inside the cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// Pods that exist.
    #[serde(default)]
    pub replicas: i32,
    /// Pods of any revision that serve.
    #[serde(default)]
    pub ready_replicas: i32,
    /// Label selector of the pods, for autoscalers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<String>,
    /// Generation of the spec that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Revision of the pod template that pods should run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
    /// Images of that revision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub applied: Option<Applied>,
    /// What is kept, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sampling: Option<String>,
    /// Ready and TelemetryReady.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}

/// Images of the applied pod template.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Applied {
    /// Image of the engine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub engine_image: Option<String>,
    /// Image of the collector.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub collector_image: Option<String>,
}

/// Type of the condition that says whether the service serves as its spec asks.
pub const READY: &str = "Ready";
/// Type of the condition that says whether kept journeys arrive.
pub const TELEMETRY_READY: &str = "TelemetryReady";

/// Why Ready is what it is. The order is the one in which reasons are named when pods differ, worst first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ReadyReason {
    /// An object that the service needs belongs to somebody else.
    NameConflict,
    /// The spec asks for what is not there or not allowed.
    InvalidConfiguration,
    /// `spec.podTemplate` cannot be merged or is refused by the API server.
    InvalidPodTemplate,
    /// Memory ran out.
    OutOfMemory,
    /// There is no model at the given place.
    ModelNotFound,
    /// The model is there and cannot be loaded.
    ModelLoadFailed,
    /// The node's GPU or its driver cannot be used.
    DeviceUnavailable,
    /// The GPU or the CPU is older than what the engine was built for.
    UnsupportedDevice,
    /// The engine ends again and again.
    Crashing,
    /// An image cannot be pulled.
    ImagePullFailed,
    /// A quota or a limit range refuses the pods.
    QuotaExceeded,
    /// No node has a GPU to spare.
    WaitingForGPU,
    /// No node takes the pod.
    Unschedulable,
    /// Loading has made no progress for too long.
    StartupStalled,
    /// Pods start, load or are replaced.
    Loading,
    /// No pods are asked for.
    Suspended,
    /// Every replica serves the spec's revision.
    Serving,
}

/// Why TelemetryReady is what it is, worst first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum TelemetryReason {
    /// The collector does not run.
    CollectorDown,
    /// The collector does not take the newest configuration; the one before is in effect.
    ConfigurationRefused,
    /// A destination refuses what is sent, or its credentials are missing.
    DestinationRefused,
    /// A destination cannot be reached.
    DestinationUnreachable,
    /// Spans are given up.
    Dropping,
    /// Spans wait longer and longer.
    QueueGrowing,
    /// There is no destination, so the collector drops everything.
    NoDestination,
    /// Nobody could be asked, or there was nothing to acknowledge yet.
    Unknown,
    /// Tracing is off.
    Disabled,
    /// The next hop acknowledges what is sent.
    Exporting,
}

impl std::fmt::Display for ReadyReason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{self:?}")
    }
}

impl std::fmt::Display for TelemetryReason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{self:?}")
    }
}
