//! What goes into the supervisor's decisions and what comes out. Pure.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::effective::Effective;
use crate::metrics::Sample;

/// How long things may take.
#[derive(Debug, Clone)]
pub struct Timing {
    /// For the export queues to become empty before a change.
    pub drain: Duration,
    /// From SIGTERM to SIGKILL of the collector.
    pub stop: Duration,
    /// From the supervisor's own SIGTERM to its end: two thirds for the queues, the rest for the collector's stop.
    pub shutdown: Duration,
    /// For a started collector to answer.
    pub start: Duration,
    /// For a collector that answers to stay up until its file counts as good.
    pub settle: Duration,
    /// Without an answer until a collector counts as hanging.
    pub hang: Duration,
    /// First pause after a crash; it doubles with each further one.
    pub backoff: Duration,
    /// Longest pause after a crash.
    pub backoff_max: Duration,
    /// Until a refused file is tried again: the reason may have been outside of it.
    pub retry_refused: Duration,
}

/// What happened.
#[derive(Clone)]
pub enum Event {
    /// What is mounted is new: a file to run, or why there is none.
    Mounted(Result<Arc<Effective>, String>),
    /// The collector was started.
    Started,
    /// The collector could not be started at all.
    Unstartable,
    /// Somebody looked at the collector.
    Observed(Observation),
    /// The collector has ended.
    Ended(End),
    /// The supervisor is asked to end.
    Shutdown,
    /// Time went by.
    Tick,
}

/// The end of a collector.
#[derive(Clone)]
pub struct End {
    /// How it ended, for people.
    pub how: String,
    /// It ended by a fault of its own, for which its file may be the reason.
    pub is_fault: bool,
    /// The same file without the destinations that the error names, to run where no file was good yet.
    pub substitute: Option<Arc<Effective>>,
}

/// One look at the collector.
#[derive(Debug, Clone)]
pub struct Observation {
    /// When the look began.
    pub taken: Instant,
    /// What its metrics say; `None` if they did not answer.
    pub metrics: Option<Sample>,
    /// Its OTLP port accepts connections.
    pub accepts: bool,
    /// Resident memory of the container's processes, bytes.
    pub memory: u64,
}

/// What to do.
#[derive(Clone)]
pub enum Action {
    /// Start the collector with this file.
    Start(Arc<Effective>),
    /// Send the probe span of a collector that was started then.
    Probe {
        /// When it was started.
        started: Instant,
    },
    /// Ask the collector to end.
    Terminate {
        /// Why, for people.
        reason: String,
        /// It is the collector's own fault: it hangs, or it uses too much memory.
        is_fault: bool,
    },
    /// End the collector.
    Kill,
    /// End the supervisor.
    Exit,
}
