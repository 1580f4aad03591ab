//! What a generation gives and an answer is made of: new text of one sequence, and why the sequence ended.

use crate::text::tool_calls::CallDelta;

/// New text of one sequence.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Piece {
    /// Index of the sequence.
    pub sequence: u32,
    /// The text; may be empty.
    pub text: String,
    /// Parts of tool calls.
    pub calls: Vec<CallDelta>,
    /// Characters of the sequence before this text.
    pub text_offset: usize,
    /// Log probabilities of the tokens behind it, if asked for.
    pub logprobs: Vec<TokenLogprob>,
    /// Set on a sequence's last piece.
    pub finish: Option<FinishReason>,
}

impl Piece {
    /// Puts a later piece of the same sequence behind this one.
    pub fn append(&mut self, later: Self) {
        self.text.push_str(&later.text);
        CallDelta::append(&mut self.calls, later.calls);
        self.logprobs.extend(later.logprobs);
        self.finish = self.finish.or(later.finish);
    }
}

/// Why a sequence ended, in OpenAI's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FinishReason {
    /// An end-of-sequence token or a stop condition.
    Stop,
    /// The token limit.
    Length,
    /// The same as `stop`, and there are tool calls.
    ToolCalls,
}

impl FinishReason {
    /// The word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::Length => "length",
            Self::ToolCalls => "tool_calls",
        }
    }
}

/// Log probabilities of one generated token.
#[derive(Debug, Clone, PartialEq)]
pub struct TokenLogprob {
    /// The token.
    pub id: u32,
    /// Its own.
    pub chosen: f32,
    /// The best alternatives, best first.
    pub top: Vec<(u32, f32)>,
}
