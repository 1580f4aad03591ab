//! Names of the engine's metrics as they are registered; the exposition adds `_total` to counters. vLLM's names where
//! endpoint pickers, KEDA and dashboards read them, the GenAI conventions' for what they define.

/// Gauge: sequences in the running set.
pub const NUM_REQUESTS_RUNNING: &str = "vllm:num_requests_running";
/// Gauge: sequences in the waiting queue.
pub const NUM_REQUESTS_WAITING: &str = "vllm:num_requests_waiting";
/// Gauge: the part of the KV cache that is held, 0 to 1.
pub const KV_CACHE_USAGE: &str = "vllm:kv_cache_usage_perc";
/// Counter: prompt tokens of requests that were tokenized.
pub const PROMPT_TOKENS: &str = "vllm:prompt_tokens";
/// Counter: generated tokens.
pub const GENERATION_TOKENS: &str = "vllm:generation_tokens";

/// Counter by `operation`, `outcome` and `reason`: requests that have ended.
pub const REQUESTS: &str = "sojourn_requests";
/// Counter: journeys that the receiver took.
pub const JOURNEYS_EXPORTED: &str = "sojourn_journeys_exported";
/// Counter by `reason`: journeys that the receiver did not get, or perhaps not whole.
pub const JOURNEYS_DROPPED: &str = "sojourn_journeys_dropped";
/// Counter by `reason`: spans that the receiver did not get.
pub const SPANS_DROPPED: &str = "sojourn_spans_dropped";
/// Counter: spans that the receiver took.
pub const SPANS_EXPORTED: &str = "sojourn_spans_exported";

/// Histogram `gen_ai.server.request.duration`, seconds.
pub const REQUEST_DURATION: &str = "gen_ai_server_request_duration_seconds";
/// Histogram `gen_ai.server.time_to_first_token`, seconds.
pub const TIME_TO_FIRST_TOKEN: &str = "gen_ai_server_time_to_first_token_seconds";
/// Histogram `gen_ai.server.time_per_output_token`, seconds.
pub const TIME_PER_OUTPUT_TOKEN: &str = "gen_ai_server_time_per_output_token_seconds";
