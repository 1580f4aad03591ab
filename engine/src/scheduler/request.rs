//! What the API layer hands to the scheduler, and what it gets back.

use std::sync::Arc;

use sojourn_contract::journey::FinishStatus;

use crate::metrics::timer::RequestTimer;
use crate::recorder::Recorder;

/// A request that is parsed, templated, tokenized and validated.
pub struct Request {
    /// `x-request-id`, for log lines.
    pub request_id: Arc<str>,
    /// Token ids of the prompts: at least one prompt, each of at least one token.
    pub prompts: Vec<Arc<[u32]>>,
    /// Sequences to generate for each prompt, at least one. Those of one prompt have neighbouring indices.
    pub n: u32,
    /// Tokens to generate for each sequence, exact; 0 ends after the prompt.
    pub max_tokens: u32,
    /// Tokens before which neither end-of-sequence nor a stop condition ends a sequence.
    pub min_tokens: u32,
    /// How tokens are chosen.
    pub sampling: SamplingParams,
    /// Token ids that end a sequence: the model's end-of-sequence ids unless `ignore_eos`, and `stop_token_ids`.
    pub stop_token_ids: Vec<u32>,
    /// Stop strings, matched on the text of each sequence; one matcher a sequence, or none.
    pub stop_matchers: Vec<Box<dyn StopMatcher>>,
    /// What each sequence's tokens must follow; each gets a fresh one.
    pub constraint: Option<Box<dyn Constraint>>,
    /// Lower goes first, under the priority policy.
    pub priority: i32,
    /// Whoever reads its output waits for the whole of it, and need not be woken for each token.
    pub whole: bool,
    /// Where its core events go; `None` with tracing off.
    pub recorder: Option<Arc<Recorder>>,
    /// What measures it.
    pub timer: Option<Arc<RequestTimer>>,
}

impl Request {
    /// Sequences to generate, for all prompts.
    pub fn sequences(&self) -> u32 {
        u32::try_from(self.prompts.len()).unwrap_or(u32::MAX).saturating_mul(self.n)
    }

    /// Which of its prompt's sequences this one is, and that prompt.
    pub(super) fn choice(&self, sequence: u32) -> (u32, &[u32]) {
        let n = self.n.max(1);
        (sequence % n, self.prompts.get((sequence / n) as usize).map_or(&[], |prompt| prompt))
    }
}

/// How tokens are chosen; the meanings are vLLM's.
#[derive(Debug, Clone, PartialEq)]
pub struct SamplingParams {
    /// 0 takes the best token.
    pub temperature: f32,
    /// Smallest set of tokens whose probabilities reach this; 1 is off.
    pub top_p: f32,
    /// The best k tokens; 0 is off.
    pub top_k: u32,
    /// Tokens at least this likely relative to the best; 0 is off.
    pub min_p: f32,
    /// Subtracted from the logit of each generated token.
    pub presence_penalty: f32,
    /// Subtracted for each time that a token was generated.
    pub frequency_penalty: f32,
    /// Divides the logits of tokens seen in prompt or output; 1 is off.
    pub repetition_penalty: f32,
    /// Makes the choice repeatable.
    pub seed: Option<u64>,
    /// Added to logits, by token id.
    pub logit_bias: Vec<(u32, f32)>,
    /// How many alternatives to report with each token; `None` reports no probabilities at all.
    pub logprobs: Option<u32>,
}

impl Default for SamplingParams {
    fn default() -> Self {
        Self {
            temperature: 1.0,
            top_p: 1.0,
            top_k: 0,
            min_p: 0.0,
            presence_penalty: 0.0,
            frequency_penalty: 0.0,
            repetition_penalty: 1.0,
            seed: None,
            logit_bias: Vec::new(),
            logprobs: None,
        }
    }
}

/// Watches the text of one sequence for stop strings, on the scheduler's thread.
pub trait StopMatcher: Send {
    /// Takes the next token; true ends the sequence with this token. A token that may not stop it (`min_tokens`) counts as
    /// text before which nothing is looked for.
    fn push(&mut self, token: u32, may_stop: bool) -> bool;
}

/// Holds the tokens of one sequence to a grammar, on the scheduler's thread. Its state is the tokens that were chosen, so a
/// preemption changes nothing.
pub trait Constraint: Send {
    /// The same grammar from its beginning, for another sequence.
    fn fresh(&self) -> Box<dyn Constraint>;

    /// Sets the logits of all tokens that may not come next to negative infinity. End-of-sequence is among them unless the
    /// grammar may end here. An error, for the client, ends the sequence.
    fn mask(&mut self, row: &mut [f32]) -> Result<(), String>;

    /// Takes the token that was chosen; true when nothing may follow it. An error, for the client, ends the sequence.
    fn advance(&mut self, token: u32) -> Result<bool, String>;
}

/// Why the scheduler did not take a request. Nothing was queued.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The waiting queue is full.
    #[error("the engine's waiting queue is full ({waiting} requests wait); try again in a moment")]
    QueueFull {
        /// Requests that wait.
        waiting: usize,
    },
    /// It needs more KV blocks than there are.
    #[error("the request needs {needed} KV cache tokens and the engine has {available}; shorten the prompt or max_tokens")]
    NeverFits {
        /// Tokens of prompt and completion, for all sequences that must run together.
        needed: usize,
        /// Tokens that the KV cache holds.
        available: usize,
    },
    /// It has more sequences than can ever run and wait at once.
    #[error(
        "the request asks for {sequences} sequences (prompts x n) and the engine holds {most}; send fewer prompts at once, or \
         lower 'n'"
    )]
    TooManySequences {
        /// Sequences of the request.
        sequences: usize,
        /// Sequences that run and wait at most.
        most: usize,
    },
    /// The engine shuts down.
    #[error("the engine is shutting down")]
    ShuttingDown,
}

/// How much the scheduler has to do, at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Load {
    /// Sequences that wait.
    pub waiting: usize,
    /// Sequences that run.
    pub running: usize,
}

/// What happened to a request, in order.
#[derive(Debug, Clone, PartialEq)]
pub enum Update {
    /// A token of a sequence.
    Token(Token),
    /// A sequence ended; nothing follows for it.
    Finished(Finished),
}

/// One generated token.
#[derive(Debug, Clone, PartialEq)]
pub struct Token {
    /// Index of the sequence, from 0.
    pub sequence: u32,
    /// Its id.
    pub id: u32,
    /// It is a stop token: it counts as generated and is not part of the text.
    pub stop: bool,
    /// Its own and its alternatives' log probabilities, if asked for.
    pub logprobs: Option<Logprobs>,
}

/// Natural logarithms of probabilities.
#[derive(Debug, Clone, PartialEq)]
pub struct Logprobs {
    /// Of the token itself.
    pub chosen: f32,
    /// The best alternatives, best first.
    pub top: Vec<(u32, f32)>,
}

/// The end of a sequence.
#[derive(Debug, Clone, PartialEq)]
pub struct Finished {
    /// Index of the sequence, from 0.
    pub sequence: u32,
    /// How it ended.
    pub status: FinishStatus,
    /// Prompt tokens whose KV came from an earlier request.
    pub cached_tokens: u32,
    /// What went wrong, unless it was the request's owner who ended it.
    pub failure: Option<Failure>,
}

/// Why a sequence did not end well.
#[derive(Debug, Clone, PartialEq)]
pub enum Failure {
    /// The model failed; with status `error`.
    Generation(String),
    /// It waited longer than the queue's deadline; with status `aborted`.
    QueueTimeout {
        /// The deadline, in seconds.
        seconds: f64,
    },
}
