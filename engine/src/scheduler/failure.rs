//! What becomes of sequences when a step fails, and when the backend lost its memory.

use sojourn_contract::journey::{FinishStatus, PreemptReason};
use sojourn_journey::record::Stamp;

use super::request::Failure;
use super::state::State;
use super::step::Step;
use crate::backend::{SequenceId, StepError};

impl State {
    /// A step failed. A sequence that was alone in it ends; of several, each is tried again by itself, so that one of them
    /// does not take the others with it.
    pub(super) fn step_failed(&mut self, now: Stamp, step: &Step, error: &StepError) {
        let alone = step.work.len() == 1;
        // Its copies may not have been made, also those for sequences that are not in its work: preempted ones, and cancelled
        // ones that are kept by now.
        for adoption in &step.adoptions {
            self.forget_kv(adoption.to);
            self.let_go_of(adoption.to);
        }
        for work in &step.work {
            self.forget_kv(work.sequence);
            if alone {
                self.finish(now, work.sequence, FinishStatus::Error, Some(Failure::Generation(error.to_string())));
            } else if self.is_live(work.sequence) {
                self.preempt(now, work.sequence, PreemptReason::StepFailed);
                if let Some(sequence) = self.sequences.get_mut(&work.sequence) {
                    sequence.suspect = true;
                }
            }
        }
    }

    /// The backend recovered from a panic without any KV: everything is computed again.
    pub fn kv_lost(&mut self, now: Stamp) {
        self.let_all_go();
        let mut all: Vec<SequenceId> = self.sequences.keys().copied().collect();
        all.sort_unstable();
        for id in all {
            let had_kv = self.forget_kv(id);
            if had_kv && self.is_running(id) {
                self.preempt(now, id, PreemptReason::StepFailed);
            }
        }
    }

    /// Ends everything with an error: the backend is not coming back.
    pub fn fail_all(&mut self, now: Stamp, error: &str) {
        for sequence in self.live_sequences() {
            self.finish(now, sequence, FinishStatus::Error, Some(Failure::Generation(error.to_owned())));
        }
    }

    /// Ends what has waited longer than the queue's deadline without ever having run.
    pub fn expire(&mut self, now: Stamp) {
        let Some(timeout) = self.limits.queue_timeout else { return };
        while let Some((queued, id)) = self.deadlines.front().copied() {
            let waits = self.sequences.get(&id).is_some_and(|sequence| !sequence.was_scheduled);
            if waits && now.monotonic - queued < timeout {
                return;
            }
            self.deadlines.pop_front();
            if waits {
                self.finish(now, id, FinishStatus::Aborted, Some(Failure::QueueTimeout { seconds: timeout }));
            }
        }
    }

    fn forget_kv(&mut self, id: SequenceId) -> bool {
        self.sequences.get_mut(&id).is_some_and(|sequence| {
            let had_kv = sequence.computed > 0;
            sequence.cut(0);
            had_kv
        })
    }
}
