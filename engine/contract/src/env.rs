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
