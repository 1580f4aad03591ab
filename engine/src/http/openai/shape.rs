//! What chat and completion answers have in common, and how they differ.

use serde::Serialize;
use serde_json::{Value, json};

use super::super::piece::Piece;

/// The differences between the two APIs' answers.
pub trait Shape: Send + Unpin + 'static {
    /// Answers' ids begin with this.
    const ID_PREFIX: &'static str;
    /// `object` of a whole answer.
    const OBJECT: &'static str;
    /// `object` of a piece of a streamed one.
    const CHUNK_OBJECT: &'static str;

    /// A choice in a streamed piece; `first` for the sequence's first.
    fn chunk(&self, piece: &Piece, first: bool, vocabulary: &dyn Vocabulary) -> Value;

    /// A choice of a whole answer.
    fn choice(&self, whole: &Piece, vocabulary: &dyn Vocabulary) -> Value;
}

/// Turns token ids into text, for log probabilities.
pub trait Vocabulary {
    /// The text of one token.
    fn text(&self, id: u32) -> String;
}

impl Vocabulary for crate::text::Text {
    fn text(&self, id: u32) -> String {
        self.token_text(id)
    }
}

/// A log probability as JSON, which has no infinity: vLLM's -9999 stands for it.
pub fn logprob_of(logprob: f32) -> Value {
    logprob.max(-9999.0).into()
}

/// What stands at the head of every object of one answer.
#[derive(Debug, Clone)]
pub struct Head {
    /// The answer's id.
    pub id: String,
    /// Unix seconds.
    pub created: u64,
    /// Model that answers.
    pub model: String,
}

impl Head {
    /// An object of the answer.
    pub fn object(&self, object: &str, choices: Vec<Value>, usage: Option<Usage>) -> Value {
        let mut whole =
            json!({"id": self.id, "object": object, "created": self.created, "model": self.model, "choices": choices});
        if let Some(usage) = usage {
            whole["usage"] = json!(usage);
        }
        whole
    }
}

/// Tokens that a request took.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Usage {
    prompt_tokens: u64,
    completion_tokens: u64,
    total_tokens: u64,
    prompt_tokens_details: PromptTokensDetails,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
struct PromptTokensDetails {
    cached_tokens: u64,
}

impl Usage {
    /// Tokens of the prompt, of all completions, and of the prompt those that an earlier request had computed.
    pub fn new(prompt: u64, completion: u64, cached: u64) -> Self {
        Self {
            prompt_tokens: prompt,
            completion_tokens: completion,
            total_tokens: prompt + completion,
            prompt_tokens_details: PromptTokensDetails { cached_tokens: cached },
        }
    }
}
