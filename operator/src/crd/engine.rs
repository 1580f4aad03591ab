//! What a pod of the service gets and how its engine runs: `spec.gpu`, `resources`, `engine`, `auth`.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ResourceRequirements;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::model::KeyRef;
use super::value::Amount;

/// The accelerator of each pod.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Gpu {
    /// GPUs of one pod: 0 (default) runs the CPU image, 1 the CUDA image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    #[x_kube(validation = Rule::new("self <= 1").message("one pod uses at most one GPU: use replicas for more"))]
    pub count: Option<i32>,
    /// The extended resource that stands for a GPU. Default: nvidia.com/gpu.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub resource_name: Option<String>,
    /// RuntimeClass of the pods, where the GPU runtime is not the node's default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub runtime_class_name: Option<String>,
}

/// Requests and limits of a container.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Resources {
    /// What the scheduler sets aside, for example `{cpu: "1", memory: 1Gi}`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub requests: BTreeMap<String, Amount>,
    /// What the container may use at most.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub limits: BTreeMap<String, Amount>,
}

impl Resources {
    /// As Kubernetes' own type; an empty map is left out.
    pub fn requirements(&self) -> ResourceRequirements {
        let quantities = |amounts: &BTreeMap<String, Amount>| {
            let map: BTreeMap<_, _> = amounts.iter().map(|(name, amount)| (name.clone(), amount.quantity())).collect();
            (!map.is_empty()).then_some(map)
        };
        ResourceRequirements { requests: quantities(&self.requests), limits: quantities(&self.limits), claims: None }
    }
}

/// Options of the engine; each is the flag of the same name.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Engine {
    /// Sequences that run at a time at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub max_num_seqs: Option<i32>,
    /// Longest prompt and completion together, in tokens. Default: the model's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub max_model_len: Option<i32>,
    /// Tokens that the KV cache holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub kv_cache_tokens: Option<i32>,
    /// Order of waiting requests. Default: fcfs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheduling_policy: Option<SchedulingPolicy>,
    /// Requests that may wait; one more is answered 429.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub max_queue_size: Option<i32>,
    /// Further flags of `sojourn-engine serve`, for what has no field here.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 1024)))]
    #[x_kube(validation = Rule::new(format!("self.all(arg, !arg.matches('^--({})(=|$)'))", crate::names::OWNED_FLAGS.join("|")))
        .message("extraArgs may not repeat what has a field of its own: use spec.model, spec.gpu, spec.engine, spec.tracing, spec.startup and spec.drain"))]
    pub extra_args: Vec<String>,
}

/// Order of waiting requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum SchedulingPolicy {
    /// First come, first served.
    Fcfs,
    /// By the request's priority, lower first.
    Priority,
}

impl SchedulingPolicy {
    /// The word that the engine's flag takes.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Fcfs => "fcfs",
            Self::Priority => "priority",
        }
    }
}

/// Who may ask.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Auth {
    /// The Secret key with the API key that clients must send. Pods do not start without it.
    pub api_key_secret_ref: KeyRef,
}
