//! What runs the model, one step at a time: the whole contract in one screen.
//!
//! A backend owns the KV of its sequences and nothing else. Who runs when, which token is chosen, and which KV block a
//! sequence may use is the scheduler's; a paged backend reads `blocks` as its block table, the CPU one as a budget.

pub mod architecture;
pub mod directory;
pub mod load;
pub mod load_error;
#[cfg(feature = "mistralrs")]
pub mod mistralrs;
pub mod paged;
pub mod scripted;

use architecture::Architecture;

/// Names a sequence from its first [`Work`] to its [`Backend::release`].
pub type SequenceId = u64;

/// What a backend can do; fixed once it is loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caps {
    /// Sequences in one step at most.
    pub max_batch: usize,
    /// Tokens that one KV block holds.
    pub kv_block_tokens: u32,
    /// KV blocks that there are.
    pub kv_blocks: u32,
    /// Token ids are below this.
    pub vocab_size: u32,
    /// KV can be copied from one sequence to another, cut at any token.
    pub copies_kv: bool,
}

/// A sequence begins with a copy of another's KV, before the step that names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Adoption {
    /// Whose KV is copied; it stays as it is.
    pub from: SequenceId,
    /// Its KV blocks.
    pub from_blocks: Vec<u32>,
    /// Who gets the copy.
    pub to: SequenceId,
    /// Its KV blocks, enough for `tokens`.
    pub to_blocks: Vec<u32>,
    /// Tokens from the front that are copied.
    pub tokens: u32,
}

/// What one sequence does in a step: compute the KV of `tokens` at positions `start..start + tokens.len()`.
#[derive(Debug, Clone, PartialEq)]
pub struct Work {
    /// The sequence.
    pub sequence: SequenceId,
    /// Position of the first token; KV at and after it is void, whatever the backend still holds.
    pub start: u32,
    /// At least one token id.
    pub tokens: Vec<u32>,
    /// The sequence's KV blocks, enough for `start + tokens.len()` tokens.
    pub blocks: Vec<u32>,
    /// What the sampler needs to know of the last token's logits.
    pub want: Want,
}

/// How much of the last token's logits is needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Want {
    /// Nothing: a piece in the middle of a prompt.
    Nothing,
    /// The best token alone: greedy, without anything that shifts logits.
    Best,
    /// The whole row.
    Row,
}

/// The answer to a [`Want`]; a backend may answer more than was asked for.
#[derive(Debug, Clone, PartialEq)]
pub enum Logits {
    /// To [`Want::Nothing`].
    Nothing,
    /// The best token's id.
    Best(u32),
    /// One logit for each token of the vocabulary.
    Row(Vec<f32>),
}

/// Why a step did not happen. KV of its sequences is void afterwards, that of others is as it was.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StepError {
    /// Memory ran out.
    #[error("out of memory: {0}")]
    OutOfMemory(String),
    /// The model failed.
    #[error("the model failed: {0}")]
    Failed(String),
    /// The device failed, and no later step can work; only a new process can.
    #[error("the device failed: {0}")]
    DeviceLost(String),
}

/// Runs a model step by step.
pub trait Backend: Send {
    /// What it can do.
    fn caps(&self) -> Caps;

    /// Runs one step for at most [`Caps::max_batch`] sequences, each at most once, and answers in their order.
    fn step(&mut self, work: &[Work]) -> Result<Vec<Logits>, StepError>;

    /// Copies KV from one sequence to another; asked only of backends with [`Caps::copies_kv`].
    fn adopt(&mut self, adoption: &Adoption) -> Result<(), StepError>;

    /// Makes the backend usable again after [`Backend::step`] panicked, which may have left it unable to run any step. The KV of
    /// **all** sequences is void afterwards: each starts at 0 again or is released. An error means that it cannot be used again.
    fn recover(&mut self) -> Result<(), StepError>;

    /// Forgets a sequence and its KV; unknown ones are fine.
    fn release(&mut self, sequence: SequenceId);

    /// How much arithmetic its model needs; `None` where that is not known.
    fn architecture(&self) -> Option<Architecture> {
        None
    }

    /// Times a product of matrices on its device: floating-point operations a second. Takes a fraction of a second.
    fn measure_flops(&self) -> Option<f64> {
        None
    }
}
