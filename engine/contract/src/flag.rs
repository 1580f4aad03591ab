//! Flags of `sojourn-engine serve MODEL`, without the leading dashes: vLLM's names where vLLM has one, and the seed's.

/// Turns journey tracing on.
pub const ENABLE_JOURNEY_TRACING: &str = "enable-journey-tracing";
/// Where traces go; else `OTEL_EXPORTER_OTLP_*`, else http://localhost:4317.
pub const OTLP_TRACES_ENDPOINT: &str = "otlp-traces-endpoint";
/// Accepted for vLLM's users: metrics are always on.
pub const ENABLE_METRICS: &str = "enable-metrics";
/// Adds model FLOPs utilisation to the metrics.
pub const ENABLE_MFU_METRICS: &str = "enable-mfu-metrics";
/// One structured log line a step.
pub const ENABLE_LOGGING_ITERATION_DETAILS: &str = "enable-logging-iteration-details";
/// `Phases` or `Journey`.
pub const JOURNEY_DETAIL: &str = "journey-detail";
/// W3C baggage members that are copied to the journey, comma-separated.
pub const JOURNEY_BAGGAGE: &str = "journey-baggage";

/// Name of the model in requests and answers.
pub const SERVED_MODEL_NAME: &str = "served-model-name";
/// Address to listen on.
pub const HOST: &str = "host";
/// Port to listen on.
pub const PORT: &str = "port";
/// `cpu` or `cuda`.
pub const DEVICE: &str = "device";
/// Longest prompt and completion together, in tokens.
pub const MAX_MODEL_LEN: &str = "max-model-len";
/// Sequences in the running set at most.
pub const MAX_NUM_SEQS: &str = "max-num-seqs";
/// Prompt tokens in one step at most.
pub const MAX_NUM_BATCHED_TOKENS: &str = "max-num-batched-tokens";
/// Tokens that the KV cache holds.
pub const KV_CACHE_TOKENS: &str = "kv-cache-tokens";
/// Requests that may wait.
pub const MAX_QUEUE_SIZE: &str = "max-queue-size";
/// `fcfs` or `priority`.
pub const SCHEDULING_POLICY: &str = "scheduling-policy";
/// Seconds that a request may take.
pub const REQUEST_TIMEOUT: &str = "request-timeout";
/// Seconds without a byte taken after which a reading client counts as stalled.
pub const CLIENT_STALL_TIMEOUT: &str = "client-stall-timeout";
/// Seconds that running requests get after SIGTERM.
pub const DRAIN_TIMEOUT: &str = "drain-timeout";
/// Seconds without progress after which loading is given up.
pub const STARTUP_TIMEOUT: &str = "startup-timeout";
/// A Jinja file instead of the model's own chat template.
pub const CHAT_TEMPLATE: &str = "chat-template";
