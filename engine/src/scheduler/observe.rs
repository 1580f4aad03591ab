//! What a planned step amounts to, for whoever counts and logs steps.

use super::state::State;
use super::step::Step;
use crate::backend::architecture::Tokens;
use crate::backend::{Want, Work};
use crate::metrics::steps::StepLoad;

impl State {
    /// The load of a step that was planned and has not been completed.
    pub(super) fn weigh(&self, step: &Step) -> StepLoad {
        let load = self.load();
        let (capacity, held) = self.kv_usage();
        let mut weight = StepLoad {
            step: step.number,
            batch: step.work.len(),
            running: load.running,
            waiting: load.waiting,
            kv_usage: if capacity == 0 { 0.0 } else { held as f64 / capacity as f64 },
            ..StepLoad::default()
        };
        for work in &step.work {
            let tokens = Tokens::of_sequence(u64::from(work.start), work.tokens.len() as u64, work.want != Want::Nothing);
            let kind = if self.is_decoding(work) { &mut weight.decode } else { &mut weight.prefill };
            *kind = kind.and(tokens);
        }
        weight
    }

    /// The work is the newest token of a sequence that has generated some; else it is a prompt, or computed again.
    fn is_decoding(&self, work: &Work) -> bool {
        self.sequences.get(&work.sequence).is_some_and(|sequence| sequence.generated() > 0 && sequence.pending() == 1)
    }
}
