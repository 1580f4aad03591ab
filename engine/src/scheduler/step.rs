//! One step of the backend: what it computes, and the choice of the tokens that follow. It owns all that it needs, so that
//! the state is free meanwhile: a row of logits takes milliseconds to sort where the vocabulary is large.

use super::sampling::{Choice, Sampler};
use crate::backend::{Adoption, Backend, Logits, StepError, Want, Work};

/// The backend's next step.
pub struct Step {
    /// Number of the step, from 1.
    pub number: u64,
    /// Copies of KV that come before the work.
    pub adoptions: Vec<Adoption>,
    /// At least one sequence's work.
    pub work: Vec<Work>,
    /// For each work after which a token is chosen, what chooses it.
    pub(super) choosers: Vec<Option<Chooser>>,
}

/// A sequence's sampler, on loan from the state until the step is complete.
pub(super) struct Chooser {
    pub(super) sampler: Sampler,
    /// Tokens that may not be chosen.
    pub(super) banned: Vec<u32>,
}

impl Chooser {
    /// How much of the logits it needs.
    pub(super) fn want(&self) -> Want {
        self.sampler.want(!self.banned.is_empty())
    }
}

/// The token that follows a work, or why there is none, as the client is told; `None` where none is to follow yet.
pub type Chosen = Option<Result<Choice, String>>;

impl Step {
    /// Copies, computes and chooses; one answer for each work.
    pub fn run(&mut self, backend: &mut dyn Backend) -> Result<Vec<Chosen>, StepError> {
        self.adoptions.iter().try_for_each(|adoption| backend.adopt(adoption))?;
        let rows = backend.step(&self.work)?;
        Ok(self.choose(rows))
    }

    /// Chooses the tokens that follow, given each work's logits.
    pub fn choose(&mut self, rows: Vec<Logits>) -> Vec<Chosen> {
        let choose = |(chooser, logits): (&mut Option<Chooser>, Logits)| {
            let Chooser { sampler, banned } = chooser.as_mut()?;
            Some(sampler.choose(logits, banned))
        };
        self.choosers.iter_mut().zip(rows).map(choose).collect()
    }
}
