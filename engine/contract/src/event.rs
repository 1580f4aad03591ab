//! Names of the events on journey spans.

use crate::names::{Name, names};

names! {
    /// Every event.
    pub const ALL;

    /// First byte of the request was read.
    pub const ARRIVED: &str = "api.ARRIVED";
    /// Admitted and given to the scheduler.
    pub const HANDOFF_TO_CORE: &str = "api.HANDOFF_TO_CORE";
    /// The first output token reached the API layer.
    pub const FIRST_RESPONSE_FROM_CORE: &str = "api.FIRST_RESPONSE_FROM_CORE";
    /// Answered: the kernel has the last byte.
    pub const DEPARTED: &str = "api.DEPARTED";
    /// Instead of [`DEPARTED`] when the request did not get its answer.
    pub const ABORTED: &str = "api.ABORTED";

    /// Entered the waiting queue.
    pub const QUEUED: &str = "journey.QUEUED";
    /// Entered the running set.
    pub const SCHEDULED: &str = "journey.SCHEDULED";
    /// First output token sampled.
    pub const FIRST_TOKEN: &str = "journey.FIRST_TOKEN";
    /// Evicted from the running set.
    pub const PREEMPTED: &str = "journey.PREEMPTED";
    /// Left the scheduler.
    pub const FINISHED: &str = "journey.FINISHED";
}

/// Events of `llm_request`, in the order in which they may occur.
pub const API: [&str; 5] = [ARRIVED, HANDOFF_TO_CORE, FIRST_RESPONSE_FROM_CORE, DEPARTED, ABORTED];
/// Events of `llm_core`.
pub const CORE: [&str; 5] = [QUEUED, SCHEDULED, FIRST_TOKEN, PREEMPTED, FINISHED];
