//! Environment variables that the operator sets and engine or sidecar read.

/// Name of the service in every span.
pub const OTEL_SERVICE_NAME: &str = "OTEL_SERVICE_NAME";
/// Further resource attributes, `key=value` pairs, comma-separated, percent-encoded.
pub const OTEL_RESOURCE_ATTRIBUTES: &str = "OTEL_RESOURCE_ATTRIBUTES";
/// Name of the pod, by downward API.
pub const POD_NAME: &str = "POD_NAME";
/// Namespace of the pod, by downward API.
pub const POD_NAMESPACE: &str = "POD_NAMESPACE";
/// UID of the pod, by downward API.
pub const POD_UID: &str = "POD_UID";
/// Node of the pod, by downward API.
pub const NODE_NAME: &str = "NODE_NAME";
/// The key that clients must send, from `spec.auth`.
pub const API_KEY: &str = "SOJOURN_API_KEY";

/// The Hugging Face Hub or a mirror of it; default `https://huggingface.co`.
pub const HF_ENDPOINT: &str = "HF_ENDPOINT";
/// Token for private and gated models; also the key in the Secret that `spec.model.credentialsSecretRef` names.
pub const HF_TOKEN: &str = "HF_TOKEN";
/// Where huggingface_hub keeps everything, the cache in `hub` below it.
pub const HF_HOME: &str = "HF_HOME";
/// The cache itself.
pub const HF_HUB_CACHE: &str = "HF_HUB_CACHE";
/// `1`: the hub is not asked, the cache alone is used.
pub const HF_HUB_OFFLINE: &str = "HF_HUB_OFFLINE";
