//! The metrics of engine and sidecar: name, kind, help and labels of each, once. vLLM's names where endpoint pickers, KEDA and dashboards
//! read them, the GenAI conventions' for what they define, and our own for what only journeys know.
//!
//! Whatever a label can say is a closed set: words of [`crate::journey`], the two operations, and the one model's name.

/// What kind of metric it is, in OpenMetrics' words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only ever grows.
    Counter,
    /// A value at a moment.
    Gauge,
    /// Counts in buckets, with a sum.
    Histogram,
    /// Always 1; what it says is in its labels.
    Info,
}

/// One metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Metric {
    /// Name as it is registered, without the suffix of its kind.
    pub name: &'static str,
    /// Its kind.
    pub kind: Kind,
    /// What it counts or measures, with its unit.
    pub help: &'static str,
    /// Names of its labels.
    pub labels: &'static [&'static str],
}

impl Metric {
    /// The name that a query writes: with `_total` for a counter and `_info` for an info. A histogram's series add `_bucket`,
    /// `_sum` and `_count` to it.
    pub fn series(&self) -> String {
        let suffix = match self.kind {
            Kind::Counter => "_total",
            Kind::Info => "_info",
            Kind::Gauge | Kind::Histogram => "",
        };
        format!("{}{suffix}", self.name)
    }
}

/// Names of labels.
pub mod label {
    /// The served model's name, on vLLM's metrics.
    pub const MODEL_NAME: &str = "model_name";
    /// How a sequence ended, in vLLM's words: `stop`, `length`, `abort` or `error`.
    pub const FINISHED_REASON: &str = "finished_reason";
    /// Tokens in a KV block.
    pub const BLOCK_SIZE: &str = "block_size";
    /// KV blocks that there are, whatever the device.
    pub const NUM_GPU_BLOCKS: &str = "num_gpu_blocks";
    /// `gen_ai.operation.name`: `chat` or `text_completion`.
    pub const GEN_AI_OPERATION_NAME: &str = "gen_ai_operation_name";
    /// `gen_ai.provider.name`
    pub const GEN_AI_PROVIDER_NAME: &str = "gen_ai_provider_name";
    /// `gen_ai.request.model`: the served model's name.
    pub const GEN_AI_REQUEST_MODEL: &str = "gen_ai_request_model";
    /// `error.type`: a word of [`crate::journey::AbortReason`], empty where all went well.
    pub const ERROR_TYPE: &str = "error_type";
    /// `chat` or `text_completion`.
    pub const OPERATION: &str = "operation";
    /// A word of [`crate::journey::Outcome`].
    pub const OUTCOME: &str = "outcome";
    /// A word of [`crate::journey::AbortReason`] or [`crate::journey::PreemptReason`]; empty where there is none.
    pub const REASON: &str = "reason";
    /// A word of [`crate::journey::AbortPhase`], or of [`crate::journey::Phase`] for model FLOPs.
    pub const PHASE: &str = "phase";
    /// A word of [`crate::journey::Bottleneck`].
    pub const PART: &str = "part";
    /// A word of [`crate::journey::FinishStatus`].
    pub const STATUS: &str = "status";
    /// The engine's version.
    pub const VERSION: &str = "version";
    /// A destination's name in `spec.tracing.destinations`.
    pub const DESTINATION: &str = "destination";
    /// Where a number comes from: `stated` on the command line, or `measured` at start.
    pub const SOURCE: &str = "source";
}

use label::{
    BLOCK_SIZE, ERROR_TYPE, FINISHED_REASON, GEN_AI_OPERATION_NAME, GEN_AI_PROVIDER_NAME, GEN_AI_REQUEST_MODEL, MODEL_NAME,
    NUM_GPU_BLOCKS, OPERATION, OUTCOME, PART, PHASE, REASON, SOURCE, STATUS, VERSION,
};

/// Defines one constant for each metric, and `ALL` of them. The help is the constant's documentation too.
macro_rules! metrics {
    ($(#[$all:meta])* $($id:ident = $kind:ident $name:literal [$($label:ident),*] $help:literal;)+) => {
        $(
            #[doc = $help]
            pub const $id: Metric =
                Metric { name: $name, kind: Kind::$kind, help: $help, labels: &[$($label),*] };
        )+

        $(#[$all])*
        pub const ALL: &[Metric] = &[$($id,)+];
    };
}

metrics! {
    /// Every metric of the engine: all that its `/metrics` may show.

    NUM_REQUESTS_RUNNING = Gauge "vllm:num_requests_running" [MODEL_NAME]
        "Sequences in the running set";
    NUM_REQUESTS_WAITING = Gauge "vllm:num_requests_waiting" [MODEL_NAME]
        "Sequences in the waiting queue";
    KV_CACHE_USAGE = Gauge "vllm:kv_cache_usage_perc" [MODEL_NAME]
        "Part of the KV cache that is held, 0 to 1";
    CACHE_CONFIG = Info "vllm:cache_config" [MODEL_NAME, BLOCK_SIZE, NUM_GPU_BLOCKS]
        "Size of the KV cache: tokens in a block, and blocks";
    PROMPT_TOKENS = Counter "vllm:prompt_tokens" [MODEL_NAME]
        "Prompt tokens of sequences whose prompt was processed";
    GENERATION_TOKENS = Counter "vllm:generation_tokens" [MODEL_NAME]
        "Generated tokens";
    PREFIX_CACHE_QUERIES = Counter "vllm:prefix_cache_queries" [MODEL_NAME]
        "Prompt tokens of sequences that began to run";
    PREFIX_CACHE_HITS = Counter "vllm:prefix_cache_hits" [MODEL_NAME]
        "Prompt tokens of sequences that began to run whose KV an earlier request had computed";
    NUM_PREEMPTIONS = Counter "vllm:num_preemptions" [MODEL_NAME]
        "Evictions from the running set";
    REQUEST_SUCCESS = Counter "vllm:request_success" [MODEL_NAME, FINISHED_REASON]
        "Sequences that left the scheduler, by how they ended";
    VLLM_TIME_TO_FIRST_TOKEN = Histogram "vllm:time_to_first_token_seconds" [MODEL_NAME]
        "First byte of the request to its first token, in seconds";
    INTER_TOKEN_LATENCY = Histogram "vllm:inter_token_latency_seconds" [MODEL_NAME]
        "One token of a sequence to its next, in seconds";
    REQUEST_TIME_PER_OUTPUT_TOKEN = Histogram "vllm:request_time_per_output_token_seconds" [MODEL_NAME]
        "Mean time for each token after the first, of requests that finished, in seconds";
    E2E_REQUEST_LATENCY = Histogram "vllm:e2e_request_latency_seconds" [MODEL_NAME]
        "First byte of the request to the end of its last sequence, of requests that finished, in seconds";
    REQUEST_QUEUE_TIME = Histogram "vllm:request_queue_time_seconds" [MODEL_NAME]
        "Waiting before the first entry into the running set, of requests that finished, in seconds";
    REQUEST_PREFILL_TIME = Histogram "vllm:request_prefill_time_seconds" [MODEL_NAME]
        "Prompt processing, of requests that finished, in seconds";
    REQUEST_DECODE_TIME = Histogram "vllm:request_decode_time_seconds" [MODEL_NAME]
        "Token generation, of requests that finished, in seconds";
    REQUEST_INFERENCE_TIME = Histogram "vllm:request_inference_time_seconds" [MODEL_NAME]
        "Prompt processing and token generation, of requests that finished, in seconds";
    REQUEST_PROMPT_TOKENS = Histogram "vllm:request_prompt_tokens" [MODEL_NAME]
        "Prompt tokens of requests that finished";
    REQUEST_GENERATION_TOKENS = Histogram "vllm:request_generation_tokens" [MODEL_NAME]
        "Generated tokens of requests that finished, of all their sequences";

    REQUEST_DURATION = Histogram "gen_ai_server_request_duration_seconds"
        [GEN_AI_OPERATION_NAME, GEN_AI_PROVIDER_NAME, GEN_AI_REQUEST_MODEL, ERROR_TYPE]
        "gen_ai.server.request.duration: first byte of the request to the last byte of its answer, in seconds";
    TIME_TO_FIRST_TOKEN = Histogram "gen_ai_server_time_to_first_token_seconds"
        [GEN_AI_OPERATION_NAME, GEN_AI_PROVIDER_NAME, GEN_AI_REQUEST_MODEL]
        "gen_ai.server.time_to_first_token: first byte of the request to its first token, of answered requests, in seconds";
    TIME_PER_OUTPUT_TOKEN = Histogram "gen_ai_server_time_per_output_token_seconds"
        [GEN_AI_OPERATION_NAME, GEN_AI_PROVIDER_NAME, GEN_AI_REQUEST_MODEL]
        "gen_ai.server.time_per_output_token: mean time for each token after the first, of answered requests, in seconds";

    REQUESTS = Counter "sojourn_requests" [OPERATION, OUTCOME, REASON]
        "Requests that have ended";
    REQUESTS_IN_FLIGHT = Gauge "sojourn_requests_in_flight" [OPERATION]
        "Requests that have arrived and not ended";
    REQUEST_PART = Histogram "sojourn_request_part_seconds" [PART]
        "Where the time of requests that have ended went: parts that add up to the duration, in seconds";
    ABORTS = Counter "sojourn_aborts" [REASON, PHASE]
        "Requests that did not get their answer, by why and where they were then";
    SEQUENCES_FINISHED = Counter "sojourn_sequences_finished" [STATUS]
        "Sequences that left the scheduler";
    PREEMPTIONS = Counter "sojourn_preemptions" [REASON]
        "Evictions from the running set, by why";
    RECOMPUTED_TOKENS = Counter "sojourn_recomputed_tokens"  []
        "Tokens that had to be computed again after preemptions";
    STEPS = Counter "sojourn_steps" []
        "Steps of the backend";
    STEP_DURATION = Histogram "sojourn_step_duration_seconds" []
        "One step of the backend, in seconds";
    STEP_STALLED = Gauge "sojourn_step_stalled_seconds" [MODEL_NAME]
        "How long the present step has taken, once it is longer than --step-stall-timeout; 0 otherwise";
    MODEL_LOAD = Gauge "sojourn_model_load_seconds" []
        "Start of the engine until the model was loaded and warm, in seconds";
    BUILD = Info "sojourn_build" [VERSION]
        "The engine's version";

    JOURNEYS_EXPORTED = Counter "sojourn_journeys_exported" []
        "Journeys that the receiver took; with tracing on";
    JOURNEYS_DROPPED = Counter "sojourn_journeys_dropped" [REASON]
        "Journeys that the receiver did not get, or perhaps not whole; with tracing on";
    JOURNEYS_QUEUED = Gauge "sojourn_journeys_queued" []
        "Journeys that wait in the export queue for the next request to the receiver; with tracing on";
    SPANS_EXPORTED = Counter "sojourn_spans_exported" []
        "Spans that the receiver took; with tracing on";
    SPANS_DROPPED = Counter "sojourn_spans_dropped" [REASON]
        "Spans that the receiver did not get; with tracing on";

    MODEL_FLOPS = Counter "sojourn_model_flops" [PHASE]
        "Floating-point operations that the model's arithmetic needs for the tokens computed; with --enable-mfu-metrics";
    MODEL_FLOPS_UTILIZATION = Gauge "sojourn_model_flops_utilization" []
        "Model FLOPs of the last 10 seconds against the peak, 0 to 1, idle time included; with --enable-mfu-metrics";
    PEAK_FLOPS = Gauge "sojourn_peak_flops" [SOURCE]
        "Floating-point operations a second that utilization is held against; with --enable-mfu-metrics";
}

/// What the sidecar's supervisor says of the collector and of what the next hop acknowledged.
pub mod sidecar {
    use super::label::DESTINATION;
    use super::{Kind, Metric};

    metrics! {
        /// Every metric of the sidecar: all that its `/metrics` shows.

        COLLECTOR_UP = Gauge "sojourn_collector_up" []
            "1 while the collector runs and accepts spans, 0 otherwise";
        COLLECTOR_STARTS = Counter "sojourn_collector_starts" []
            "Starts of the collector, changes of its configuration among them";
        COLLECTOR_CRASHES = Counter "sojourn_collector_crashes" []
            "Ends of the collector that nobody asked for";
        COLLECTOR_REFUSED = Gauge "sojourn_collector_configuration_refused" []
            "1 while the newest configuration is not in effect because the collector would not run with it, 0 otherwise";
        COLLECTOR_MEMORY = Gauge "sojourn_collector_memory_bytes" []
            "Resident memory of collector and supervisor, in bytes";
        SENT_SPANS = Counter "sojourn_destination_sent_spans" [DESTINATION]
            "Spans that the next hop acknowledged";
        FAILED_SPANS = Counter "sojourn_destination_failed_spans" [DESTINATION]
            "Spans that were given up: refused for good, no room in the queue, or left in it when the collector was stopped";
        QUEUE_BYTES = Gauge "sojourn_destination_queue_bytes" [DESTINATION]
            "What waits to be sent, in bytes";
        QUEUE_CAPACITY_BYTES = Gauge "sojourn_destination_queue_capacity_bytes" [DESTINATION]
            "What may wait to be sent, in bytes";
        MISSING_KEYS = Gauge "sojourn_destination_missing_keys" [DESTINATION]
            "Keys that the credentials Secret lacks; above 0 the destination is left out";
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn names_are_unique_and_a_query_writes_them_with_their_suffix() {
        let names: HashSet<String> = ALL.iter().chain(sidecar::ALL).map(Metric::series).collect();
        assert_eq!(names.len(), ALL.len() + sidecar::ALL.len());
        assert_eq!(PROMPT_TOKENS.series(), "vllm:prompt_tokens_total");
        assert_eq!(CACHE_CONFIG.series(), "vllm:cache_config_info");
        assert_eq!(REQUEST_PART.series(), "sojourn_request_part_seconds");
    }

    #[test]
    fn names_are_prometheus_names_without_the_suffix_of_their_kind() {
        for metric in ALL.iter().chain(sidecar::ALL) {
            let known = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_' || b == b':';
            assert!(metric.name.bytes().all(known), "{metric:?}");
            assert!(["_total", "_info", "_bucket", "_sum", "_count"].iter().all(|suffix| !metric.name.ends_with(suffix)));
            assert!(!metric.help.ends_with('.'), "the exposition ends it with one: {metric:?}");
        }
    }
}
