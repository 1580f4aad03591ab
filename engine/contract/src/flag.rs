//! Flags of `sojourn-engine serve MODEL`, without the leading dashes: vLLM's names where vLLM has one.

/// Defines one constant for each flag, and [`ALL`] of them.
macro_rules! flags {
    ($($(#[$meta:meta])* $name:ident = $flag:literal,)+) => {
        $($(#[$meta])* pub const $name: &str = $flag;)+

        /// Every flag: what the engine's command line has to know.
        pub const ALL: &[&str] = &[$($name,)+];
    };
}

flags! {
    /// Turns journey tracing on.
    ENABLE_JOURNEY_TRACING = "enable-journey-tracing",
    /// Where traces go; else `OTEL_EXPORTER_OTLP_*`, else http://localhost:4317.
    OTLP_TRACES_ENDPOINT = "otlp-traces-endpoint",
    /// Accepted for vLLM's users: metrics are always on.
    ENABLE_METRICS = "enable-metrics",
    /// Adds model FLOPs utilisation to the metrics.
    ENABLE_MFU_METRICS = "enable-mfu-metrics",
    /// What the device can do at most, in floating-point operations a second, for model FLOPs utilisation.
    PEAK_FLOPS = "peak-flops",
    /// One structured log line a step.
    ENABLE_LOGGING_ITERATION_DETAILS = "enable-logging-iteration-details",
    /// `Phases` or `Journey`.
    JOURNEY_DETAIL = "journey-detail",
    /// Port of the admin pages on 127.0.0.1; 0 turns them off.
    ADMIN_PORT = "admin-port",
    /// Journeys that are kept for the admin pages after their end.
    JOURNEY_HISTORY = "journey-history",
    /// W3C baggage members that are copied to the journey, comma-separated.
    JOURNEY_BAGGAGE = "journey-baggage",

    /// Name of the model in requests and answers.
    SERVED_MODEL_NAME = "served-model-name",
    /// Address to listen on.
    HOST = "host",
    /// Port to listen on.
    PORT = "port",
    /// Branch, tag or commit of an `hf://` model.
    REVISION = "revision",
    /// Token for the Hugging Face Hub.
    HF_TOKEN = "hf-token",
    /// Cache for `hf://` models.
    DOWNLOAD_DIR = "download-dir",
    /// `cpu` or `cuda`.
    DEVICE = "device",
    /// Type of activations and KV: `auto`, `float16`, `bfloat16`, `float32`.
    DTYPE = "dtype",
    /// Longest prompt and completion together, in tokens.
    MAX_MODEL_LEN = "max-model-len",
    /// Sequences in the running set at most.
    MAX_NUM_SEQS = "max-num-seqs",
    /// Prompt tokens in one step at most.
    MAX_NUM_BATCHED_TOKENS = "max-num-batched-tokens",
    /// Tokens that the KV cache holds.
    KV_CACHE_TOKENS = "kv-cache-tokens",
    /// Part of the GPU's memory that weights, passes and KV cache may use together, where the KV cache's tokens are not given.
    GPU_MEMORY_UTILIZATION = "gpu-memory-utilization",
    /// Requests that may wait.
    MAX_QUEUE_SIZE = "max-queue-size",
    /// `fcfs` or `priority`.
    SCHEDULING_POLICY = "scheduling-policy",
    /// Reuses the KV of earlier requests that began with the same tokens (the default).
    ENABLE_PREFIX_CACHING = "enable-prefix-caching",
    /// Computes every prompt from its first token on.
    NO_ENABLE_PREFIX_CACHING = "no-enable-prefix-caching",
    /// Seconds that a request may wait before it runs.
    QUEUE_TIMEOUT = "queue-timeout",
    /// Seconds after which a step of the model counts as stalled.
    STEP_STALL_TIMEOUT = "step-stall-timeout",
    /// Seconds that a request may take.
    REQUEST_TIMEOUT = "request-timeout",
    /// Seconds without a byte taken after which a reading client counts as stalled.
    CLIENT_STALL_TIMEOUT = "client-stall-timeout",
    /// Seconds that running requests get after SIGTERM.
    DRAIN_TIMEOUT = "drain-timeout",
    /// Seconds without progress after which loading is given up.
    STARTUP_TIMEOUT = "startup-timeout",
    /// Where defaults of requests come from: `auto`, `vllm` or a directory with a generation_config.json.
    GENERATION_CONFIG = "generation-config",
    /// A JSON object that replaces values of that file.
    OVERRIDE_GENERATION_CONFIG = "override-generation-config",
    /// A Jinja file instead of the model's own chat template.
    CHAT_TEMPLATE = "chat-template",
    /// How the model writes tool calls: `hermes` or `llama3_json`.
    TOOL_CALL_PARSER = "tool-call-parser",
    /// Accepted for vLLM's users: tool calls need no switch.
    ENABLE_AUTO_TOOL_CHOICE = "enable-auto-tool-choice",
}
