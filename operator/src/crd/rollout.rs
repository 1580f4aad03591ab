//! How pods come and go: `spec.rollout`, `startup`, `drain`.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::value::{Amount, Span};

/// How a change replaces pods. Hot: no container restarts.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!has(self.strategy) || self.strategy != 'Recreate' || !(has(self.maxSurge) || has(self.maxUnavailable))")
        .message("maxSurge and maxUnavailable have no meaning with Recreate; leave them out"),
    validation = Rule::new("!(has(self.maxSurge) && has(self.maxUnavailable) && string(self.maxSurge) in ['0', '0%'] && string(self.maxUnavailable) in ['0', '0%'])")
        .message("maxSurge and maxUnavailable may not both be 0: no pod could ever be replaced")
)]
pub struct Rollout {
    /// RollingUpdate (default) or Recreate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub strategy: Option<StrategyKind>,
    /// Pods beyond the replicas while a change rolls out. Default: 1, and 0 with GPUs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_surge: Option<Amount>,
    /// Pods that may be missing while a change rolls out. Default: 0, and 1 with GPUs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_unavailable: Option<Amount>,
}

/// How a change replaces pods.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum StrategyKind {
    /// One after the other.
    RollingUpdate,
    /// All go before the first comes.
    Recreate,
}

/// Patience with a pod that starts.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Startup {
    /// How long loading may make no progress; moving bytes and weights are progress. Default: 30m.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Span>,
}

/// Patience with a pod that ends.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Drain {
    /// How long running requests may take after a pod is told to end. Default: 120s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Span>,
}
