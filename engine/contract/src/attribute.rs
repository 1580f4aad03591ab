//! Names of attributes, on events, spans and resources. Durations are float seconds.

use crate::names::{Name, names};

/// Schema of the GenAI conventions that the names below follow.
pub const SCHEMA_URL: &str = "https://opentelemetry.io/schemas/gen-ai/0.1.0";
/// Value of [`PROVIDER_NAME`].
pub const PROVIDER: &str = "sojourn";

names! {
    /// Attributes of events.
    pub const EVENT;

    /// Monotonic clock of the engine, float seconds; on every event.
    pub const TS_MONOTONIC: &str = "ts.monotonic";
    /// A word of [`crate::journey::Phase`]; on every core event, as are the six below.
    pub const PHASE: &str = "phase";
    /// Prompt tokens processed: a high-water mark that never falls.
    pub const PREFILL_DONE_TOKENS: &str = "prefill_done_tokens";
    /// Prompt tokens in all.
    pub const PREFILL_TOTAL_TOKENS: &str = "prefill_total_tokens";
    /// Tokens generated so far.
    pub const DECODE_DONE_TOKENS: &str = "decode_done_tokens";
    /// Tokens that may be generated at most.
    pub const DECODE_MAX_TOKENS: &str = "decode_max_tokens";
    /// Number of the scheduler's step.
    pub const SCHEDULER_STEP: &str = "scheduler.step";
    /// Preemptions of the sequence so far.
    pub const NUM_PREEMPTIONS: &str = "num_preemptions";
    /// A word of [`crate::journey::ScheduleKind`]; on SCHEDULED.
    pub const SCHEDULE_KIND: &str = "schedule.kind";
    /// Tokens whose KV was still there; on SCHEDULED(RESUME).
    pub const CACHED_TOKENS: &str = "cached_tokens";
    /// Tokens that have to be computed again; on SCHEDULED(RESUME).
    pub const RECOMPUTED_TOKENS: &str = "recomputed_tokens";
    /// A word of [`crate::journey::PreemptReason`]; on PREEMPTED.
    pub const PREEMPT_REASON: &str = "preempt.reason";
    /// A word of [`crate::journey::FinishStatus`]; on FINISHED.
    pub const FINISH_STATUS: &str = "finish.status";
    /// A word of [`crate::journey::AbortReason`]; on ABORTED.
    pub const REASON: &str = "reason";
    /// What went wrong, for people, without prompt or completion; on ABORTED.
    pub const ERROR: &str = "error";
}

names! {
    /// Facts of a journey, on its spans.
    pub const FACT;

    /// A word of [`crate::journey::Outcome`].
    pub const OUTCOME: &str = "journey.outcome";
    /// A word of [`crate::journey::Kind`].
    pub const KIND: &str = "journey.kind";
    /// A word of [`crate::journey::Parent`].
    pub const PARENT: &str = "journey.parent";
    /// The request's id, equal to the `x-request-id` header.
    pub const REQUEST_ID: &str = "journey.request_id";
    /// Preemptions of all sequences of the request.
    pub const JOURNEY_NUM_PREEMPTIONS: &str = "journey.num_preemptions";
    /// The reasons of its preemptions, each once; absent without one.
    pub const PREEMPT_REASONS: &str = "journey.preempt_reasons";
    /// A word of [`crate::journey::AbortReason`]; absent when answered.
    pub const ABORT_REASON: &str = "journey.abort_reason";
    /// A word of [`crate::journey::AbortPhase`]; absent when answered.
    pub const ABORT_PHASE: &str = "journey.abort_phase";
    /// Tokens computed again after preemptions; absent without one.
    pub const JOURNEY_RECOMPUTED_TOKENS: &str = "journey.recomputed_tokens";
    /// Requests waiting when this one arrived.
    pub const QUEUE_DEPTH_AT_ARRIVAL: &str = "journey.queue_depth_at_arrival";
    /// Requests running when this one arrived.
    pub const RUNNING_AT_ARRIVAL: &str = "journey.running_at_arrival";
    /// A word of [`crate::journey::Bottleneck`].
    pub const BOTTLENECK: &str = "journey.bottleneck";
    /// The whole of `llm_request`.
    pub const DURATION_SECONDS: &str = "journey.duration_seconds";
    /// ARRIVED to QUEUED, or to the end where the core never had it.
    pub const API_SECONDS: &str = "journey.api_seconds";
    /// Evicted and waiting; absent without a preemption.
    pub const PREEMPTED_SECONDS: &str = "journey.preempted_seconds";
    /// The last FINISHED to DEPARTED or ABORTED; absent where the core never had it.
    pub const CLIENT_SECONDS: &str = "journey.client_seconds";
    /// All waiting before the first SCHEDULED, also when never scheduled.
    pub const TIME_IN_QUEUE: &str = "gen_ai.latency.time_in_queue";
    /// ARRIVED to the first token; absent when there was none.
    pub const TIME_TO_FIRST_TOKEN: &str = "gen_ai.latency.time_to_first_token";
    /// ARRIVED to the last FINISHED, or to the end where the core never had it.
    pub const E2E: &str = "gen_ai.latency.e2e";
    /// Time in prefill.
    pub const TIME_IN_MODEL_PREFILL: &str = "gen_ai.latency.time_in_model_prefill";
    /// Time in decode.
    pub const TIME_IN_MODEL_DECODE: &str = "gen_ai.latency.time_in_model_decode";
    /// Index of the sequence, on `llm_core`.
    pub const SEQUENCE_INDEX: &str = "journey.sequence_index";

    /// Preemptions and resumptions of the sequence that were too many to be events of its span; on `llm_core` and its phases,
    /// absent without one. The facts count them all the same.
    pub const DROPPED_EVENTS: &str = "journey.dropped_events";

    /// On the stage `download` of `engine_startup`: bytes that came over the network. On `load`: bytes of the model's files.
    pub const STARTUP_BYTES: &str = "startup.bytes";
    /// The model as it was asked for, on the stage `download`.
    pub const STARTUP_MODEL: &str = "startup.model";
    /// The commit that is served, on the stage `download`.
    pub const STARTUP_REVISION: &str = "startup.revision";
}

names! {
    /// What the sidecar writes.
    pub const SIDECAR;

    /// Every sampling rule that matched, comma-separated, or `rate`.
    pub const KEPT_BY: &str = "journey.kept_by";
    /// The sampler's override; removed again before export.
    pub const SAMPLING_PRIORITY: &str = "sampling.priority";
}

names! {
    /// GenAI semantic conventions v0.1.0 and HTTP, on `llm_request` alone.
    pub const REQUEST;

    /// `chat` or `text_completion`.
    pub const OPERATION_NAME: &str = "gen_ai.operation.name";
    /// Always [`PROVIDER`].
    pub const PROVIDER_NAME: &str = "gen_ai.provider.name";
    /// Model that the request named.
    pub const REQUEST_MODEL: &str = "gen_ai.request.model";
    /// Model that answered.
    pub const RESPONSE_MODEL: &str = "gen_ai.response.model";
    /// The answer's `id`.
    pub const RESPONSE_ID: &str = "gen_ai.response.id";
    /// Finish reasons, one for each choice.
    pub const RESPONSE_FINISH_REASONS: &str = "gen_ai.response.finish_reasons";
    /// Prompt tokens.
    pub const USAGE_INPUT_TOKENS: &str = "gen_ai.usage.input_tokens";
    /// Generated tokens of all choices.
    pub const USAGE_OUTPUT_TOKENS: &str = "gen_ai.usage.output_tokens";
    /// Prompt tokens whose KV came from an earlier request.
    pub const USAGE_CACHE_READ_INPUT_TOKENS: &str = "gen_ai.usage.cache_read.input_tokens";
    /// Request parameter `max_tokens`.
    pub const REQUEST_MAX_TOKENS: &str = "gen_ai.request.max_tokens";
    /// Request parameter `temperature`.
    pub const REQUEST_TEMPERATURE: &str = "gen_ai.request.temperature";
    /// Request parameter `top_p`.
    pub const REQUEST_TOP_P: &str = "gen_ai.request.top_p";
    /// Request parameter `top_k`.
    pub const REQUEST_TOP_K: &str = "gen_ai.request.top_k";
    /// Request parameter `seed`.
    pub const REQUEST_SEED: &str = "gen_ai.request.seed";
    /// Request parameter `n`, when it is not 1.
    pub const REQUEST_CHOICE_COUNT: &str = "gen_ai.request.choice.count";
    /// Request parameter `stream`.
    pub const REQUEST_STREAM: &str = "gen_ai.request.stream";
    /// Kind of error; on spans of outcomes other than ok.
    pub const ERROR_TYPE: &str = "error.type";
    /// HTTP method.
    pub const HTTP_REQUEST_METHOD: &str = "http.request.method";
    /// Route template.
    pub const HTTP_ROUTE: &str = "http.route";
    /// Status code; absent when nothing was answered.
    pub const HTTP_RESPONSE_STATUS_CODE: &str = "http.response.status_code";
    /// Path of the URL.
    pub const URL_PATH: &str = "url.path";
    /// Scheme of the URL.
    pub const URL_SCHEME: &str = "url.scheme";
}

names! {
    /// Attributes of the resource.
    pub const RESOURCE;

    /// Name of the service: one for each InferenceService.
    pub const SERVICE_NAME: &str = "service.name";
    /// Its namespace.
    pub const SERVICE_NAMESPACE: &str = "service.namespace";
    /// `namespace.pod.container`.
    pub const SERVICE_INSTANCE_ID: &str = "service.instance.id";
    /// Tag of the engine's image.
    pub const SERVICE_VERSION: &str = "service.version";
    /// Revision of the pod template.
    pub const REVISION: &str = "sojourn.revision";
    /// Namespace of the pod.
    pub const K8S_NAMESPACE_NAME: &str = "k8s.namespace.name";
    /// Name of the pod.
    pub const K8S_POD_NAME: &str = "k8s.pod.name";
    /// UID of the pod.
    pub const K8S_POD_UID: &str = "k8s.pod.uid";
    /// Node of the pod.
    pub const K8S_NODE_NAME: &str = "k8s.node.name";
    /// Container that emitted the span.
    pub const K8S_CONTAINER_NAME: &str = "k8s.container.name";
    /// Deployment of the pod.
    pub const K8S_DEPLOYMENT_NAME: &str = "k8s.deployment.name";
}
