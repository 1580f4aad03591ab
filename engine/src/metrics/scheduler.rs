//! What the scheduler does: tokens, preemptions, how sequences end, steps. Counted as it happens.

use std::sync::Arc;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use sojourn_contract::journey::{FinishStatus, PreemptReason, ScheduleKind};
use sojourn_contract::metric;
use sojourn_journey::record::{CoreEvent, Progress};

use super::{buckets, register};

/// Counts of the scheduler; a clone counts into the same.
#[derive(Clone)]
pub struct SchedulerMetrics(pub(super) Arc<Counts>);

/// The counts themselves; those without a label of ours appear under vLLM's names, with the model's.
pub(super) struct Counts {
    pub prompt_tokens: Counter,
    pub generation_tokens: Counter,
    pub prefix_queries: Counter,
    pub prefix_hits: Counter,
    pub preempted: Counter,
    pub first_token: Histogram,
    pub inter_token: Histogram,
    pub finished: Family<StatusLabels, Counter>,
    preemptions: Family<ReasonLabels, Counter>,
    recomputed_tokens: Counter,
    steps: Counter,
    step_duration: Histogram,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabels {
    reason: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct StatusLabels {
    pub status: &'static str,
}

impl Default for SchedulerMetrics {
    fn default() -> Self {
        let counts = Counts {
            prompt_tokens: Counter::default(),
            generation_tokens: Counter::default(),
            prefix_queries: Counter::default(),
            prefix_hits: Counter::default(),
            preempted: Counter::default(),
            first_token: Histogram::new(buckets::VLLM_FIRST_TOKEN),
            inter_token: Histogram::new(buckets::VLLM_OUTPUT_TOKEN),
            finished: Family::default(),
            preemptions: Family::default(),
            recomputed_tokens: Counter::default(),
            steps: Counter::default(),
            step_duration: Histogram::new(buckets::STEP),
        };
        for reason in PreemptReason::ALL {
            drop(counts.preemptions.get_or_create(&ReasonLabels { reason: reason.as_str() }));
        }
        for status in FinishStatus::ALL {
            drop(counts.finished.get_or_create(&StatusLabels { status: status.as_str() }));
        }
        Self(Arc::new(counts))
    }
}

impl SchedulerMetrics {
    /// Adds to the page what needs no model.
    pub(super) fn register(&self, registry: &mut Registry) {
        let counts = &self.0;
        register(registry, &metric::SEQUENCES_FINISHED, counts.finished.clone());
        register(registry, &metric::PREEMPTIONS, counts.preemptions.clone());
        register(registry, &metric::RECOMPUTED_TOKENS, counts.recomputed_tokens.clone());
        register(registry, &metric::STEPS, counts.steps.clone());
        register(registry, &metric::STEP_DURATION, counts.step_duration.clone());
    }

    /// Counts an event of a sequence.
    pub(super) fn count(&self, event: &CoreEvent, progress: &Progress) {
        let counts = &self.0;
        match *event {
            CoreEvent::Queued | CoreEvent::Omitted(_) => {}
            CoreEvent::Scheduled { kind: ScheduleKind::First, .. } => {
                counts.prefix_queries.inc_by(progress.prefill_total.into());
            }
            CoreEvent::Scheduled { kind: ScheduleKind::Resume, recomputed_tokens, .. } => {
                counts.recomputed_tokens.inc_by(recomputed_tokens.into());
            }
            CoreEvent::FirstToken => {
                counts.prompt_tokens.inc_by(progress.prefill_total.into());
            }
            CoreEvent::Preempted(reason) => {
                counts.preempted.inc();
                counts.preemptions.get_or_create(&ReasonLabels { reason: reason.as_str() }).inc();
            }
            CoreEvent::Finished(status) => {
                counts.finished.get_or_create(&StatusLabels { status: status.as_str() }).inc();
                // Without a single token to generate, the end of the prompt is the end.
                if status == FinishStatus::Length && progress.decode_max == 0 {
                    counts.prompt_tokens.inc_by(progress.prefill_total.into());
                }
            }
        }
    }

    /// So many tokens of a prompt came from an earlier request.
    pub(super) fn prefix_hit(&self, tokens: u64) {
        self.0.prefix_hits.inc_by(tokens);
    }

    /// A request has its first token.
    pub(super) fn first_token(&self, seconds: f64) {
        self.0.first_token.observe(seconds);
    }

    /// A token was chosen, so many seconds after the one before it.
    pub(super) fn token(&self, gap: Option<f64>) {
        self.0.generation_tokens.inc();
        if let Some(seconds) = gap {
            self.0.inter_token.observe(seconds);
        }
    }

    /// The backend did a step.
    pub(super) fn step(&self, seconds: f64) {
        self.0.steps.inc();
        self.0.step_duration.observe(seconds);
    }
}
