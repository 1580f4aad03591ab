//! Paths in a pod's containers and of its HTTP endpoints.

/// Where a model's PersistentVolumeClaim is mounted, read-only.
pub const MODELS: &str = "/models";
/// Where a model from the Hugging Face Hub lands, in the layout of its cache.
pub const MODEL_CACHE: &str = "/var/cache/huggingface";
/// The ConfigMap with the collector's configuration.
pub const COLLECTOR_CONFIG_DIR: &str = "/etc/sojourn/collector";
/// Key of that ConfigMap and name of its file.
pub const COLLECTOR_CONFIG_FILE: &str = "collector.yaml";
/// The Secret with destinations' credentials; optional.
pub const TELEMETRY_CREDENTIALS_DIR: &str = "/etc/sojourn/credentials";
/// The emptyDir that the supervisor is copied into.
pub const SUPERVISOR_DIR: &str = "/sojourn";
/// File name of the supervisor.
pub const SUPERVISOR_BINARY: &str = "sojourn-sidecar";
/// The emptyDir in memory for the file that the collector really reads.
pub const SIDECAR_RUN_DIR: &str = "/run/sojourn";
/// Where Kubernetes reads why a container ended.
pub const TERMINATION_LOG: &str = "/dev/termination-log";

/// Liveness of the engine.
pub const HEALTH: &str = "/health";
/// Readiness of the engine.
pub const READY: &str = "/ready";
/// Metrics of engine, sidecar and operator.
pub const METRICS: &str = "/metrics";
/// State of the sidecar, JSON of [`crate::sidecar::State`].
pub const TELEMETRY: &str = "/telemetry";

/// OpenAI's chat API; makes journeys.
pub const CHAT_COMPLETIONS: &str = "/v1/chat/completions";
/// OpenAI's completion API; makes journeys.
pub const COMPLETIONS: &str = "/v1/completions";
/// OpenAI's list of models.
pub const MODELS_API: &str = "/v1/models";
/// Token ids of a text or of messages, as vLLM has it.
pub const TOKENIZE: &str = "/tokenize";
/// The text of token ids, as vLLM has it.
pub const DETOKENIZE: &str = "/detokenize";
/// Liveness of the engine under the name that SageMaker asks for, as vLLM has it.
pub const PING: &str = "/ping";
/// Journeys in flight and those that ended last, on the engine's admin port.
pub const JOURNEYS: &str = "/journeys";
/// The same as JSON.
pub const JOURNEYS_JSON: &str = "/journeys.json";
/// Sends a canary through the engine, on the engine's admin port.
pub const CANARY: &str = "/canary";
/// Version of the engine.
pub const VERSION: &str = "/version";
