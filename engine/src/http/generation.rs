//! The scheduler's tokens as text: whole characters, without stop strings and end-of-sequence tokens. Knows nothing of the
//! answer's form.

use std::sync::Arc;
use std::task::{Context, Poll, ready};

use sojourn_contract::attribute;
use sojourn_contract::journey::FinishStatus;
use sojourn_journey::trace::Value;

use super::error::ApiError;
use super::openai::shape::Usage;
use super::piece::{FinishReason, Piece, TokenLogprob};
use super::visit::Visit;
use crate::scheduler::output::Output;
use crate::scheduler::request::{Failure, Finished, Token, Update};
use crate::text::stop::StopFilter;
use crate::text::tool_calls::{Parsed, ToolCallParser};
use crate::text::{Decoder, Text};

/// When a sequence's text ends, besides the scheduler's own word.
#[derive(Debug, Clone)]
pub struct Stops {
    /// Strings that end it.
    pub strings: Vec<String>,
    /// Tokens that end it.
    pub token_ids: Vec<u32>,
    /// Tokens before which nothing ends it.
    pub min_tokens: u32,
    /// What ends it is part of it.
    pub include: bool,
    /// Special tokens are no text.
    pub skip_special_tokens: bool,
}

/// A request's output. Dropping it cancels what is unfinished.
pub struct Generation {
    output: Output,
    visit: Arc<Visit>,
    sequences: Vec<Sequence>,
    stops: Stops,
    /// Sequences of each prompt.
    n: u32,
    prompt_tokens: u64,
    output_tokens: u64,
    /// Of each prompt, those that an earlier request had computed.
    cached_tokens: Vec<u64>,
}

impl Generation {
    /// Reads the output of a request that was admitted.
    pub fn new(output: Output, visit: Arc<Visit>, text: &Text, prompts: &[Vec<u32>], n: u32, stops: Stops) -> Self {
        let sequence = |_| Sequence {
            decoder: text.decoder(stops.skip_special_tokens),
            filter: StopFilter::new(stops.strings.clone()).including(stops.include),
            calls: None,
            tokens: 0,
            characters: 0,
        };
        Self {
            output,
            visit,
            sequences: (0..prompts.len() * n as usize).map(sequence).collect(),
            stops,
            n: n.max(1),
            prompt_tokens: prompts.iter().map(|prompt| prompt.len() as u64).sum(),
            output_tokens: 0,
            cached_tokens: vec![0; prompts.len()],
        }
    }

    /// Looks for tool calls in each sequence's text.
    pub fn with_tool_calls(mut self, parser: Option<&ToolCallParser>) -> Self {
        self.sequences.iter_mut().for_each(|sequence| sequence.calls = parser.cloned());
        self
    }

    /// The next piece of any sequence; `None` when all have ended. After an error nothing follows.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Piece, ApiError>>> {
        while let Some(update) = ready!(self.output.poll_next(cx)) {
            if let Some(piece) = self.take(update).transpose() {
                return Poll::Ready(Some(piece));
            }
        }
        Poll::Ready(None)
    }

    /// [`Generation::poll_next`] for async functions.
    pub async fn next(&mut self) -> Option<Result<Piece, ApiError>> {
        std::future::poll_fn(|cx| self.poll_next(cx)).await
    }

    /// How many sequences there are, for all prompts.
    pub fn sequences(&self) -> u32 {
        u32::try_from(self.sequences.len()).unwrap_or(u32::MAX)
    }

    /// Tokens so far.
    pub fn usage(&self) -> Usage {
        Usage::new(self.prompt_tokens, self.output_tokens, self.cached_tokens.iter().sum())
    }

    /// Puts what is known at the end on the request's span.
    pub fn describe_end<'a>(&self, reasons: impl Iterator<Item = &'a str>) {
        self.visit.describe(|context| {
            let count = |tokens: u64| Value::Int(i64::try_from(tokens).unwrap_or(i64::MAX));
            context.set(attribute::USAGE_OUTPUT_TOKENS, count(self.output_tokens));
            context.set(attribute::USAGE_CACHE_READ_INPUT_TOKENS, count(self.cached_tokens.iter().sum()));
            context.set(attribute::RESPONSE_FINISH_REASONS, Value::Strings(reasons.map(str::to_owned).collect()));
        });
    }

    fn take(&mut self, update: Update) -> Result<Option<Piece>, ApiError> {
        match update {
            Update::Token(token) => Ok(self.token(token)),
            Update::Finished(finished) => self.finished(finished).map(Some),
        }
    }

    fn token(&mut self, token: Token) -> Option<Piece> {
        self.visit.first_token();
        self.output_tokens += 1;
        let sequence = self.sequences.get_mut(token.sequence as usize)?;
        sequence.tokens += 1;
        let may_stop = sequence.tokens > self.stops.min_tokens;
        if may_stop && !self.stops.include && self.stops.token_ids.contains(&token.id) {
            return None;
        }
        let parsed = sequence.push(token.id, may_stop);
        let logprobs = token.logprobs.map(|logprobs| TokenLogprob { id: token.id, chosen: logprobs.chosen, top: logprobs.top });
        if parsed == Parsed::default() && logprobs.is_none() {
            return None;
        }
        Some(sequence.piece(token.sequence, parsed, logprobs.into_iter().collect(), None))
    }

    fn finished(&mut self, finished: Finished) -> Result<Piece, ApiError> {
        if let Some(cached) = self.cached_tokens.get_mut((finished.sequence / self.n) as usize) {
            *cached = (*cached).max(finished.cached_tokens.into());
        }
        let reason = match (finished.status, finished.failure) {
            (FinishStatus::Stopped, _) => FinishReason::Stop,
            (FinishStatus::Length, _) => FinishReason::Length,
            (_, Some(Failure::Generation(error))) => return Err(ApiError::generation(error)),
            (_, Some(Failure::QueueTimeout { seconds })) => return Err(ApiError::queue_timeout(seconds)),
            (FinishStatus::Error, None) => return Err(ApiError::generation("the model failed")),
            // Only the end of the engine aborts a request whose output somebody still reads.
            (FinishStatus::Aborted, None) => return Err(ApiError::shutdown()),
        };
        let Some(sequence) = self.sequences.get_mut(finished.sequence as usize) else {
            return Err(ApiError::generation("the scheduler ended a sequence that was not asked for"));
        };
        let parsed = sequence.finish();
        let called = reason == FinishReason::Stop && sequence.calls.as_ref().is_some_and(ToolCallParser::called);
        let reason = if called { FinishReason::ToolCalls } else { reason };
        Ok(sequence.piece(finished.sequence, parsed, Vec::new(), Some(reason)))
    }
}

struct Sequence {
    decoder: Decoder,
    filter: StopFilter,
    /// Set when the request has tools.
    calls: Option<ToolCallParser>,
    tokens: u32,
    characters: usize,
}

impl Sequence {
    fn push(&mut self, id: u32, may_stop: bool) -> Parsed {
        let text = self.decoder.push(id).unwrap_or_default();
        let text = if may_stop { self.filter.push(&text) } else { text };
        self.parse(text)
    }

    fn finish(&mut self) -> Parsed {
        let rest = self.decoder.finish().unwrap_or_default();
        let mut text = self.filter.push(&rest);
        text.push_str(&self.filter.finish());
        let mut parsed = self.parse(text);
        if let Some(parser) = &mut self.calls {
            let last = parser.finish();
            parsed.text.push_str(&last.text);
        }
        parsed
    }

    fn parse(&mut self, text: String) -> Parsed {
        match &mut self.calls {
            Some(parser) => parser.push(&text),
            None => Parsed { text, calls: Vec::new() },
        }
    }

    fn piece(&mut self, sequence: u32, parsed: Parsed, logprobs: Vec<TokenLogprob>, finish: Option<FinishReason>) -> Piece {
        let Parsed { text, calls } = parsed;
        let text_offset = self.characters;
        self.characters += text.chars().count();
        Piece { sequence, text, calls, text_offset, logprobs, finish }
    }
}
