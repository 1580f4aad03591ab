//! Labels and annotations of the objects that the operator owns.

/// Kubernetes' recommended name label; its value is [`APP_NAME_VALUE`].
pub const APP_NAME: &str = "app.kubernetes.io/name";
/// Value of [`APP_NAME`] on engines.
pub const APP_NAME_VALUE: &str = "sojourn-engine";
/// Name of the InferenceService.
pub const APP_INSTANCE: &str = "app.kubernetes.io/instance";
/// Who manages the object; its value is [`MANAGED_BY_VALUE`].
pub const APP_MANAGED_BY: &str = "app.kubernetes.io/managed-by";
/// Value of [`APP_MANAGED_BY`].
pub const MANAGED_BY_VALUE: &str = "sojourn-operator";
/// Revision of the pod template, on pods.
pub const REVISION: &str = "sojourn.dev/revision";
/// Annotation of an InferenceService: any new value restarts its pods.
pub const RESTART: &str = "sojourn.dev/restart";

/// Name of the engine's container.
pub const ENGINE_CONTAINER: &str = "main";
/// Name of the sidecar's container.
pub const COLLECTOR_CONTAINER: &str = "collector";
/// Name of the init container that brings the supervisor.
pub const SUPERVISOR_CONTAINER: &str = "supervisor";
