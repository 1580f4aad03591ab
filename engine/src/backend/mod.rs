//! What runs the model, one step at a time: the whole contract in one screen.
//!
//! A backend owns the KV of its sequences and nothing else. Who runs when, which token is chosen, and which KV block a
//! sequence may use is the scheduler's; a paged backend reads `blocks` as its block table, the CPU one as a budget.

pub mod directory;
pub mod load;
#[cfg(feature = "mistralrs")]
pub mod mistralrs;
pub mod scripted;

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

/// Why a step did not happen. KV of its sequences is void afterwards.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StepError {
    /// Memory ran out.
    #[error("out of memory: {0}")]
    OutOfMemory(String),
    /// The model failed.
    #[error("the model failed: {0}")]
    Failed(String),
}

/// Runs a model step by step.
pub trait Backend: Send {
    /// What it can do.
    fn caps(&self) -> Caps;

    /// Runs one step for at most [`Caps::max_batch`] sequences, each at most once, and answers in their order.
    fn step(&mut self, work: &[Work]) -> Result<Vec<Logits>, StepError>;

    /// Lets `to` begin with a copy of the KV of `from`.
    fn adopt(&mut self, from: SequenceId, to: SequenceId);

    /// Forgets a sequence and its KV; unknown ones are fine.
    fn release(&mut self, sequence: SequenceId);

    /// Makes a backend usable again after [`Backend::step`] panicked, which may have left it unable to run any step. The KV of
    /// **all** sequences is void afterwards: each starts at 0 again or is released. An error means that it cannot be used again.
    fn recover(&mut self) -> Result<(), StepError> {
        Ok(())
    }
}
