//! What a request asks for: the APIs that make journeys.

use sojourn_contract::path;

/// What a request asks for, in the GenAI conventions' words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// `/v1/chat/completions`
    Chat,
    /// `/v1/completions`
    TextCompletion,
}

impl Operation {
    /// Every operation.
    pub const ALL: [Self; 2] = [Self::Chat, Self::TextCompletion];

    /// The operation of a path that makes journeys.
    pub fn of(path: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|operation| operation.path() == path)
    }

    /// Its path.
    pub fn path(self) -> &'static str {
        match self {
            Self::Chat => path::CHAT_COMPLETIONS,
            Self::TextCompletion => path::COMPLETIONS,
        }
    }

    /// `gen_ai.operation.name`
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Chat => "chat",
            Self::TextCompletion => "text_completion",
        }
    }
}
