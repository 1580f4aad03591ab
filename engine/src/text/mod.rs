//! The model's text side: chat template, tokenizer, incremental detokenizer, stop strings. No I/O, and no clock but for
//! templates that ask for the date; every method may be called from any thread, and of long texts the slow ones (`chat_prompt`,
//! `encode`) belong on a blocking pool.

pub mod bytes;
pub mod decode;
pub mod grammar;
mod jinja;
mod python_json;
pub mod stop;
pub mod template;
#[cfg(test)]
mod tests;
pub mod tool_calls;

use std::sync::{Arc, OnceLock};

use tokenizers::Tokenizer;

pub use decode::Decoder;
pub use template::{ChatOptions, ChatTemplate};

use crate::scheduler::request::{Constraint, StopMatcher};
use grammar::{Grammar, GrammarCompiler};
use stop::{StopFilter, StopOnText};
use tool_calls::ToolCallFormat;

/// What a request's text cannot be turned into, or a model's files cannot give.
#[derive(Debug, thiserror::Error)]
pub enum TextError {
    /// The template itself refused the messages (`raise_exception`).
    #[error("{0}")]
    Rejected(String),
    /// The messages do not fit the template.
    #[error("the model's chat template cannot render these messages: {0}")]
    Render(String),
    /// The last message is to be continued, and is not in the prompt.
    #[error(
        "'continue_final_message' needs a last message with text that the model's chat template puts into the prompt; send \
         one, or leave it out"
    )]
    NothingToContinue,
    /// The model has no chat template.
    #[error("the model has no chat template; use /v1/completions, or start the engine with --chat-template")]
    NoTemplate,
    /// The template is not one that can be compiled.
    #[error("the model's chat template is wrong: {0}")]
    BadTemplate(String),
    /// It is longer than any prompt can be.
    #[error("the prompt has at least {at_least} tokens, and the model's context is {limit}; shorten the prompt")]
    TooLong {
        /// Tokens that it has for certain.
        at_least: usize,
        /// Tokens that fit.
        limit: u32,
    },
    /// The tokenizer failed.
    #[error("the prompt cannot be tokenized: {0}")]
    Tokenize(String),
    /// The grammar is not one that can be compiled.
    #[error("it cannot be compiled: {0}")]
    BadGrammar(String),
    /// The tokenizer is of a kind that no answer can be held to a grammar with.
    #[error("this model's answers cannot be held to a form: {0}")]
    NoGrammars(String),
}

/// The text side of one model.
pub struct Text {
    tokenizer: Arc<Tokenizer>,
    template: Option<ChatTemplate>,
    eos_token_ids: Vec<u32>,
    vocab_size: u32,
    /// Made for the first request that needs it.
    grammars: OnceLock<Result<GrammarCompiler, String>>,
    /// Bytes of a text that one token stands for at most.
    longest_token: usize,
}

/// How much shorter a normalizer makes a text at most; composed characters have about a third of the bytes.
const NORMALIZED: usize = 4;

impl Text {
    /// Puts a model's text side together.
    pub fn new(tokenizer: Arc<Tokenizer>, template: Option<ChatTemplate>, eos_token_ids: Vec<u32>) -> Self {
        let vocab_size = u32::try_from(tokenizer.get_vocab_size(true)).unwrap_or(u32::MAX);
        let longest = tokenizer.get_vocab(true).keys().map(String::len).max().unwrap_or(1).max(1);
        let longest_token = if tokenizer.get_normalizer().is_some() { longest * NORMALIZED } else { longest };
        Self { tokenizer, template, eos_token_ids, vocab_size, grammars: OnceLock::new(), longest_token }
    }

    /// Renders messages (OpenAI's shape, content as text) into the prompt that the model was trained on.
    pub fn chat_prompt(&self, messages: &[serde_json::Value], options: &ChatOptions) -> Result<String, TextError> {
        self.template.as_ref().ok_or(TextError::NoTemplate)?.render(messages, options)
    }

    /// Finds a chat template that cannot render anything before the first request does.
    pub fn try_template(&self) -> Result<(), TextError> {
        self.template.as_ref().map_or(Ok(()), ChatTemplate::try_out)
    }

    /// Token ids of a text. A chat prompt already has its special tokens, a plain one gets them.
    pub fn encode(&self, text: &str, add_special_tokens: bool) -> Result<Vec<u32>, TextError> {
        let encoding = self.tokenizer.encode_fast(text, add_special_tokens);
        encoding.map(|e| e.get_ids().to_vec()).map_err(|error| TextError::Tokenize(error.to_string()))
    }

    /// [`Text::encode`] for a prompt that must have less than `limit` tokens: what is far beyond that costs no time and memory.
    pub fn encode_within(&self, text: &str, add_special_tokens: bool, limit: u32) -> Result<Vec<u32>, TextError> {
        let at_least = text.len() / self.longest_token;
        if at_least > limit as usize {
            Err(TextError::TooLong { at_least, limit })
        } else {
            self.encode(text, add_special_tokens)
        }
    }

    /// A new incremental detokenizer.
    pub fn decoder(&self, skip_special_tokens: bool) -> Decoder {
        Decoder::new(self.tokenizer.clone(), skip_special_tokens)
    }

    /// The text of token ids, special ones included.
    pub fn decode(&self, ids: &[u32]) -> Result<String, TextError> {
        self.tokenizer.decode(ids, false).map_err(|error| TextError::Tokenize(error.to_string()))
    }

    /// Ends a sequence on stop strings in the text of this detokenizer.
    pub fn stop_matcher(&self, stop: &[String], skip_special_tokens: bool) -> Box<dyn StopMatcher> {
        Box::new(StopOnText::new(self.decoder(skip_special_tokens), StopFilter::new(stop.to_vec())))
    }

    /// Compiles a grammar to hold sequences to. Slow, and the model's first one the slower.
    pub fn constraint(&self, grammar: Grammar) -> Result<Box<dyn Constraint>, TextError> {
        match self.grammars.get_or_init(|| GrammarCompiler::new(&self.tokenizer, &self.eos_token_ids)) {
            Ok(compiler) => compiler.compile(grammar),
            Err(reason) => Err(TextError::NoGrammars(reason.clone())),
        }
    }

    /// How the model writes tool calls, as far as its chat template shows it.
    pub fn tool_call_format(&self) -> Option<ToolCallFormat> {
        self.template.as_ref().and_then(ChatTemplate::tool_call_format)
    }

    /// Tokens that end a sequence.
    pub fn eos_token_ids(&self) -> &[u32] {
        &self.eos_token_ids
    }

    /// Token ids are below this.
    pub fn vocab_size(&self) -> u32 {
        self.vocab_size
    }

    /// A token as the vocabulary writes it.
    pub fn token(&self, id: u32) -> Option<String> {
        self.tokenizer.id_to_token(id)
    }

    /// The text of one token, also of a special one, with U+FFFD for what is no whole character.
    pub fn token_text(&self, id: u32) -> String {
        self.tokenizer.decode(&[id], false).unwrap_or_default()
    }
}
