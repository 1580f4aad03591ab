//! Names of our images, without registry and tag.

/// Where released images are.
pub const REGISTRY: &str = "ghcr.io/sojourn-dev";
/// The engine on CPUs.
pub const ENGINE: &str = "engine";
/// The engine on NVIDIA GPUs.
pub const ENGINE_CUDA: &str = "engine-cuda";
/// The collector's supervisor.
pub const SIDECAR: &str = "sidecar";
/// The operator.
pub const OPERATOR: &str = "operator";
