//! What the engine writes down while a request is on its way: plain data, pushed by the API layer and by the scheduler's
//! step without a lock, a channel or an allocation of its own beyond the vector's growth.

use sojourn_contract::journey::{AbortReason, FinishStatus, Kind, Parent, Phase, PreemptReason, ScheduleKind};

/// A point in time, read once from both clocks.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Stamp {
    /// Nanoseconds since the Unix epoch, for the backend's axis.
    pub unix_nanos: u64,
    /// Seconds of the engine's monotonic clock, for every difference.
    pub monotonic: f64,
}

/// One event of the API layer.
#[derive(Debug, Clone, PartialEq)]
pub struct ApiRecord {
    /// When it happened.
    pub at: Stamp,
    /// What happened.
    pub event: ApiEvent,
}

/// What the API layer sees.
#[derive(Debug, Clone, PartialEq)]
pub enum ApiEvent {
    /// First byte of the request was read.
    Arrived,
    /// Admitted and given to the scheduler.
    HandoffToCore,
    /// The first output token reached the API layer.
    FirstResponseFromCore,
    /// The kernel has the last byte of the answer.
    Departed,
    /// The request did not get its answer.
    Aborted {
        /// Why.
        reason: AbortReason,
        /// For people; never a prompt or completion.
        error: String,
    },
}

/// How far a sequence is, on every core event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Where it is.
    pub phase: Phase,
    /// Prompt tokens processed, a high-water mark.
    pub prefill_done: u32,
    /// Prompt tokens in all.
    pub prefill_total: u32,
    /// Tokens generated.
    pub decode_done: u32,
    /// Tokens that may be generated.
    pub decode_max: u32,
    /// The scheduler's step; 0 before its first.
    pub step: u64,
    /// Preemptions so far, this one included.
    pub num_preemptions: u32,
}

/// One event of a sequence in the core.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CoreRecord {
    /// When it happened.
    pub at: Stamp,
    /// What happened.
    pub event: CoreEvent,
    /// How far the sequence was.
    pub progress: Progress,
}

/// What the scheduler does to a sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CoreEvent {
    /// Entered the waiting queue.
    Queued,
    /// Entered the running set.
    Scheduled {
        /// First entry, or after a preemption.
        kind: ScheduleKind,
        /// Tokens whose KV was still there.
        cached_tokens: u32,
        /// Tokens that have to be computed again.
        recomputed_tokens: u32,
    },
    /// First output token sampled.
    FirstToken,
    /// Evicted from the running set.
    Preempted(PreemptReason),
    /// Left the scheduler.
    Finished(FinishStatus),
    /// Preemptions and resumptions that were too many to keep, from here to the next record.
    Omitted(Omitted),
}

/// What preemptions and resumptions that were not kept came to. The first of them is a preemption, and no first token lies
/// between them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Omitted {
    /// Events that were left out.
    pub events: u32,
    /// Preemptions among them.
    pub preemptions: u32,
    /// Which reasons these had, in the order of [`PreemptReason::ALL`].
    pub reasons: [bool; PreemptReason::ALL.len()],
    /// Tokens that were computed again.
    pub recomputed_tokens: u32,
    /// Nanoseconds evicted and waiting.
    pub preempted_nanos: u64,
    /// Nanoseconds in the running set.
    pub running_nanos: u64,
    /// The sequence was in the running set at the end.
    pub resumed: bool,
}

/// A whole journey: complete when its last API event is `Departed` or `Aborted`.
#[derive(Debug, Clone, PartialEq)]
pub struct Journey {
    /// A client's request, or one of ours.
    pub kind: Kind,
    /// What the caller's W3C context said.
    pub parent: Parent,
    /// Equal to the `x-request-id` header.
    pub request_id: String,
    /// Requests waiting when this one arrived.
    pub queue_depth_at_arrival: u32,
    /// Requests running when this one arrived.
    pub running_at_arrival: u32,
    /// Events of the API layer, in time order.
    pub api: Vec<ApiRecord>,
    /// Events of each sequence, by sequence index, each in time order; empty if the core never had the request.
    pub cores: Vec<Vec<CoreRecord>>,
}
