//! The words of a request's journey: span names, scopes, and the closed sets that its attributes take their values from.

use crate::names::{Name, names};
pub use crate::words::UnknownWord;
use crate::words::words;

names! {
    /// The spans that are no phases.
    pub const SPANS;

    /// The span of a request in the API layer: SERVER, child of the caller's W3C context or root.
    pub const LLM_REQUEST: &str = "llm_request";
    /// The span of one generated sequence in the engine's core: INTERNAL, child of [`LLM_REQUEST`].
    pub const LLM_CORE: &str = "llm_core";
    /// The trace of an engine's start: download, load, warm-up.
    pub const ENGINE_STARTUP: &str = "engine_startup";
    /// The span that the sidecar sends after each start of its collector.
    pub const SIDECAR_PROBE: &str = "sidecar_probe";
}

/// Names of the phase spans below [`LLM_CORE`]: parts of a sequence's time.
pub const PHASE_SPANS: [&str; 4] =
    [Bottleneck::Queue.as_str(), Bottleneck::Prefill.as_str(), Bottleneck::Decode.as_str(), Bottleneck::Preempted.as_str()];

/// Instrumentation scope of [`LLM_REQUEST`], [`ENGINE_STARTUP`] and its stages.
pub const SCOPE_API: &str = "sojourn.api";
/// Instrumentation scope of [`LLM_CORE`] and its phase spans.
pub const SCOPE_SCHEDULER: &str = "sojourn.scheduler";
/// Instrumentation scope of [`SIDECAR_PROBE`].
pub const SCOPE_SIDECAR: &str = "sojourn.sidecar";

words! {
    /// How a request ended (`journey.outcome`).
    Outcome {
        /// Answered.
        Ok = "ok",
        /// The request was wrong, or there was no room for it.
        Rejected = "rejected",
        /// The client went away or stalled.
        Aborted = "aborted",
        /// Ours: generation, time-out, shutdown.
        Error = "error",
    }
}

words! {
    /// Whose trace a span belongs to (`journey.kind`).
    Kind {
        /// A client's request.
        Request = "request",
        /// An engine's start; always kept.
        Startup = "startup",
        /// The sidecar's own span after each start of its collector; always kept.
        Probe = "probe",
        /// The operator's `doctor` asking; always kept.
        Canary = "canary",
    }
}

words! {
    /// What the caller's W3C context said (`journey.parent`).
    Parent {
        /// There was no context: `llm_request` is a root.
        None = "none",
        /// The caller's flag says sampled.
        Sampled = "sampled",
        /// The caller's flag says not sampled.
        Unsampled = "unsampled",
    }
}

words! {
    /// Why a request did not get its answer (`reason` of `api.ABORTED`, `journey.abort_reason`).
    AbortReason {
        /// The connection was closed before the answer was complete.
        ClientDisconnect = "client_disconnect",
        /// The client stopped reading for longer than `--client-stall-timeout`.
        ClientStalled = "client_stalled",
        /// The request took longer than `--request-timeout`, or waited longer than `--queue-timeout`.
        Timeout = "timeout",
        /// The request was wrong: a 4xx.
        ValidationError = "validation_error",
        /// The waiting queue was full: a 429.
        Overloaded = "overloaded",
        /// The engine failed while generating.
        GenerationError = "generation_error",
        /// The engine was shutting down.
        Shutdown = "shutdown",
    }
}

impl AbortReason {
    /// The outcome that an abort of this reason means.
    pub const fn outcome(self) -> Outcome {
        match self {
            Self::ClientDisconnect | Self::ClientStalled => Outcome::Aborted,
            Self::ValidationError | Self::Overloaded => Outcome::Rejected,
            Self::Timeout | Self::GenerationError | Self::Shutdown => Outcome::Error,
        }
    }
}

words! {
    /// Where a request was when it was aborted (`journey.abort_phase`).
    AbortPhase {
        /// Before the core had it.
        Api = "api",
        /// In the waiting queue, also after a preemption.
        Waiting = "waiting",
        /// While its prompt was processed.
        Prefill = "prefill",
        /// While tokens were generated.
        Decode = "decode",
        /// After the core had finished.
        Delivery = "delivery",
    }
}

words! {
    /// Where a sequence is, on every core event (`phase`).
    Phase {
        /// Not in the running set and never was.
        Waiting = "waiting",
        /// In or behind prompt processing: no token yet.
        Prefill = "prefill",
        /// At least one token was generated.
        Decode = "decode",
    }
}

words! {
    /// Whether a SCHEDULED is the first (`schedule.kind`).
    ScheduleKind {
        /// First entry into the running set.
        First = "FIRST",
        /// Entry after a preemption.
        Resume = "RESUME",
    }
}

words! {
    /// Why a sequence was evicted from the running set (`preempt.reason`).
    PreemptReason {
        /// No KV block was free.
        KvExhausted = "kv_exhausted",
        /// A more urgent request needed the place.
        Priority = "priority",
        /// The step that it was in failed; it is tried again, alone.
        StepFailed = "step_failed",
    }
}

words! {
    /// How a sequence left the scheduler (`finish.status`).
    FinishStatus {
        /// End-of-sequence token or a stop condition.
        Stopped = "stopped",
        /// The token limit.
        Length = "length",
        /// The request was cancelled.
        Aborted = "aborted",
        /// Generation failed.
        Error = "error",
    }
}

words! {
    /// The largest part of a request's time (`journey.bottleneck`).
    Bottleneck {
        /// ARRIVED to QUEUED.
        Api = "api",
        /// Waiting before the first SCHEDULED.
        Queue = "queue",
        /// Prompt processing.
        Prefill = "prefill",
        /// Token generation.
        Decode = "decode",
        /// Evicted and waiting.
        Preempted = "preempted",
        /// From the last FINISHED to the end: the client's reading.
        Client = "client",
    }
}

words! {
    /// Which spans a journey becomes (`spec.tracing.detail`, `--journey-detail`).
    Detail {
        /// Also a child span below [`LLM_CORE`] for each stretch of a sequence's time, which trace views draw.
        Phases = "Phases",
        /// [`LLM_REQUEST`] and [`LLM_CORE`] alone.
        Journey = "Journey",
    }
}

words! {
    /// A part of an engine's start: the child spans of [`ENGINE_STARTUP`].
    StartupStage {
        /// The model's files are fetched.
        Download = "download",
        /// Weights are read and put on the device.
        Load = "load",
        /// The first pass of the model.
        WarmUp = "warm_up",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_abort_reason_has_its_outcome() {
        let outcomes: Vec<_> = AbortReason::ALL.iter().map(|reason| reason.outcome().as_str()).collect();
        assert_eq!(outcomes, ["aborted", "aborted", "error", "rejected", "rejected", "error", "error"]);
    }

    #[test]
    fn a_word_outside_its_set_names_the_known_ones() {
        let error = "maybe".parse::<Parent>().expect_err("not a word of the set");
        assert_eq!(error.to_string(), "'maybe' is not one of: none, sampled, unsampled");
    }
}
