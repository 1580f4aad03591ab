//! What is told of each step of the backend: counts, model FLOPs, and a log line where it was asked for.

use super::mfu::Mfu;
use super::scheduler::SchedulerMetrics;
use crate::backend::architecture::Tokens;

/// Target of the log lines of `--enable-logging-iteration-details`.
pub const ITERATION: &str = "iteration";

/// One step, as it was planned.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct StepLoad {
    /// Number of the step.
    pub step: u64,
    /// Sequences in it.
    pub batch: usize,
    /// Tokens of prompts, and tokens that are computed again.
    pub prefill: Tokens,
    /// Tokens of sequences that decode.
    pub decode: Tokens,
    /// Sequences in the running set.
    pub running: usize,
    /// Sequences in the waiting queue.
    pub waiting: usize,
    /// Part of the KV cache that is held, 0 to 1.
    pub kv_usage: f64,
}

/// Takes note of steps, on the scheduler's thread.
#[derive(Clone)]
pub struct Steps {
    metrics: SchedulerMetrics,
    mfu: Option<Mfu>,
    log: bool,
}

impl Steps {
    /// Counts steps; with `log`, writes a line for each.
    pub fn new(metrics: SchedulerMetrics, mfu: Option<Mfu>, log: bool) -> Self {
        Self { metrics, mfu, log }
    }

    /// The backend did a step in so many seconds, at `now` on the engine's monotonic clock.
    pub fn stepped(&self, load: &StepLoad, seconds: f64, now: f64) {
        self.metrics.step(seconds);
        if let Some(mfu) = &self.mfu {
            mfu.stepped(load, now);
        }
        if self.log {
            log(load, seconds);
        }
    }
}

fn log(load: &StepLoad, seconds: f64) {
    tracing::info!(
        target: ITERATION,
        step = load.step,
        batch = load.batch,
        tokens = load.prefill.computed + load.decode.computed,
        prefill_tokens = load.prefill.computed,
        decode_tokens = load.decode.computed,
        running = load.running,
        waiting = load.waiting,
        kv_usage = load.kv_usage,
        // Digits beyond a microsecond are noise.
        step_ms = (seconds * 1e6).round() / 1e3,
        "step"
    );
}
