//! A request that is parsed, templated and tokenized: checked against the model, submitted, and then collected or streamed.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::{HeaderName, header};
use sojourn_contract::attribute;
use sojourn_journey::trace::Value;

use super::Api;
use super::deadline::{deadline, timeout};
use super::error::ApiError;
use super::generation::{Generation, Stops};
use super::openai::parameters::Parameters;
use super::openai::shape::{Head, Shape};
use super::piece::Piece;
use super::stream::EventStream;
use super::visit::Visit;
use crate::scheduler::request::{Constraint, Request};
use crate::served::Served;
use crate::text::tool_calls::ToolCallParser;

/// A request that is ready for the scheduler.
pub struct Call<'a, S> {
    /// Settings.
    pub api: &'a Api,
    /// The model.
    pub served: &'a Served,
    /// The request's ids and journey.
    pub visit: &'a Arc<Visit>,
    /// Token ids of each prompt.
    pub prompts: Vec<Vec<u32>>,
    /// What its answer is held to.
    pub constraint: Option<Box<dyn Constraint>>,
    /// Finds tool calls in its answer.
    pub tool_calls: Option<ToolCallParser>,
    /// What it asks for.
    pub parameters: Parameters,
    /// The form of its answer.
    pub shape: S,
}

impl<S: Shape> Call<'_, S> {
    /// Submits the request; gives the beginning of a stream, or the whole answer.
    pub async fn answer(mut self) -> Result<Response, ApiError> {
        self.check_token_ids()?;
        let max_tokens = self.max_tokens()?;
        let (stops, n) = (self.stops(), self.parameters.n);
        let prompt_tokens: usize = self.prompts.iter().map(Vec::len).sum();
        let text = &self.served.text;
        let parameters = &self.parameters;
        let matcher = |_| text.stop_matcher(&stops.strings, stops.skip_special_tokens);
        let sequences = if stops.strings.is_empty() { 0 } else { self.prompts.len() * n as usize };
        let request = Request {
            request_id: self.visit.request_id().into(),
            prompts: self.prompts.iter().map(|prompt| prompt.as_slice().into()).collect(),
            n,
            max_tokens,
            min_tokens: stops.min_tokens,
            sampling: parameters.sampling.clone(),
            stop_token_ids: stops.token_ids.clone(),
            stop_matchers: (0..sequences).map(matcher).collect(),
            constraint: self.constraint.take(),
            priority: parameters.priority,
            whole: !parameters.stream,
            recorder: self.visit.recorder(),
            timer: self.visit.timer(),
        };
        let output = self.served.scheduler.submit(request)?;
        let generation = Generation::new(output, self.visit.clone(), text, &self.prompts, n, stops)
            .with_tool_calls(self.tool_calls.as_ref());
        let id = format!("{}{}", S::ID_PREFIX, self.visit.request_id());
        let head = Head { id, created: unix_seconds(), model: self.served.name.clone() };
        self.visit.describe(|context| {
            context.set(attribute::RESPONSE_ID, head.id.clone());
            context.set(attribute::RESPONSE_MODEL, head.model.clone());
            context.set(attribute::USAGE_INPUT_TOKENS, Value::Int(i64::try_from(prompt_tokens).unwrap_or(i64::MAX)));
        });
        if self.parameters.stream { Ok(self.stream(generation, head)) } else { self.collect(generation, head).await }
    }

    fn check_token_ids(&self) -> Result<(), ApiError> {
        let vocabulary = self.served.text.vocab_size();
        let known = |param: &'static str, id: &u32| {
            if *id < vocabulary {
                return Ok(());
            }
            Err(ApiError::unknown_token_id(param, *id, vocabulary))
        };
        self.prompts.iter().flatten().try_for_each(|id| known("prompt", id))?;
        self.parameters.sampling.logit_bias.iter().try_for_each(|(id, _)| known("logit_bias", id))?;
        let stops = || self.stops().token_ids.into_iter().filter(|id| *id < vocabulary).collect::<HashSet<u32>>();
        if self.parameters.min_tokens > 0 && stops().len() as u64 >= u64::from(vocabulary) {
            let message = "'stop_token_ids' names every token there is, so 'min_tokens' leaves none to choose; name fewer";
            return Err(ApiError::invalid("stop_token_ids", message));
        }
        Ok(())
    }

    /// The tokens that may be generated for each prompt: what was asked for, or what the context leaves behind the longest
    /// prompt, and never more than the generation configuration allows.
    fn max_tokens(&self) -> Result<u32, ApiError> {
        let limit = self.served.max_model_len;
        if self.prompts.iter().any(Vec::is_empty) {
            return Err(ApiError::invalid("prompt", "a prompt has no tokens; send at least one"));
        }
        let longest = self.prompts.iter().map(Vec::len).max().unwrap_or(0);
        let prompt = u32::try_from(longest).unwrap_or(u32::MAX);
        let room = limit.saturating_sub(prompt);
        let least = self.parameters.min_tokens.max(1);
        let most = self.served.generation.max_new_tokens.unwrap_or(u32::MAX);
        let asked = self.parameters.max_tokens.unwrap_or_else(|| room.max(least)).min(most);
        if prompt <= limit && asked <= room { Ok(asked) } else { Err(too_long(limit, prompt, asked)) }
    }

    fn stops(&self) -> Stops {
        let parameters = &self.parameters;
        let mut token_ids = parameters.stop_token_ids.clone();
        if !parameters.ignore_eos {
            token_ids.extend(self.served.text.eos_token_ids());
            token_ids.extend(&self.served.generation.eos_token_ids);
        }
        Stops {
            strings: parameters.stop.clone(),
            token_ids,
            min_tokens: parameters.min_tokens,
            include: parameters.include_stop,
            // The marks around tool calls are special tokens in some models.
            skip_special_tokens: parameters.skip_special_tokens && self.tool_calls.is_none(),
        }
    }

    fn stream(self, generation: Generation, head: Head) -> Response {
        let deadline = deadline(self.api, self.visit).map(|at| (at, timeout(self.api)));
        let stream = EventStream::new(generation, head, self.shape, self.served.text.clone(), self.visit.clone())
            .with_usage(self.parameters.usage)
            .with_deadline(deadline);
        // Proxies must neither keep nor collect events.
        let headers = [
            (header::CONTENT_TYPE, "text/event-stream; charset=utf-8"),
            (header::CACHE_CONTROL, "no-cache"),
            (HeaderName::from_static("x-accel-buffering"), "no"),
        ];
        (headers, Body::from_stream(stream)).into_response()
    }

    async fn collect(self, mut generation: Generation, head: Head) -> Result<Response, ApiError> {
        let mut wholes: Vec<Piece> = Vec::new();
        let sequences = generation.sequences();
        wholes.extend((0..sequences).map(|sequence| Piece { sequence, ..Piece::default() }));
        while let Some(piece) = generation.next().await {
            let piece = piece?;
            if let Some(whole) = wholes.get_mut(piece.sequence as usize) {
                whole.append(piece);
            }
        }
        let reasons = wholes.iter().map(|whole| whole.finish.map_or("", |reason| reason.as_str()));
        generation.describe_end(reasons);
        let choices = wholes.iter().map(|whole| self.shape.choice(whole, self.served.text.as_ref())).collect();
        let answer = head.object(S::OBJECT, choices, Some(generation.usage()));
        Ok(([(header::CONTENT_TYPE, "application/json")], answer.to_string()).into_response())
    }
}

fn too_long(limit: u32, prompt: u32, asked: u32) -> ApiError {
    let message = format!(
        "the model's context is {limit} tokens, and the request asks for {prompt} prompt tokens and {asked} completion \
         tokens; shorten the prompt or lower 'max_tokens'"
    );
    ApiError::too_long("max_tokens", message)
}

fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
