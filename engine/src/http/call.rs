//! A request that is parsed, templated and tokenized: checked against the model, submitted, and then collected or streamed.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::{HeaderName, header};
use sojourn_contract::attribute;
use sojourn_journey::trace::Value;

use super::Api;
use super::answer::{deadline, timeout};
use super::error::ApiError;
use super::generation::{Generation, Piece, Stops};
use super::openai::parameters::Parameters;
use super::openai::shape::{Head, Shape};
use super::stream::EventStream;
use super::visit::{Visit, new_id};
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
    /// Token ids of the prompt.
    pub prompt: Vec<u32>,
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
        let (stops, prompt) = (self.stops(), self.prompt.len());
        let text = &self.served.text;
        let parameters = &self.parameters;
        let matcher = || text.stop_matcher(&stops.strings, stops.skip_special_tokens);
        let request = Request {
            request_id: self.visit.request_id().into(),
            prompt: self.prompt.as_slice().into(),
            sequences: parameters.n,
            max_tokens,
            min_tokens: stops.min_tokens,
            sampling: parameters.sampling.clone(),
            stop_token_ids: stops.token_ids.clone(),
            stop_matchers: (0..parameters.n).filter(|_| !stops.strings.is_empty()).map(|_| matcher()).collect(),
            constraint: self.constraint.take(),
            priority: parameters.priority,
            recorder: self.visit.recorder(),
            timer: self.visit.timer(),
        };
        let output = self.served.scheduler.submit(request)?;
        let generation = Generation::new(output, self.visit.clone(), text, parameters.n, prompt, stops)
            .with_tool_calls(self.tool_calls.as_ref());
        let head =
            Head { id: format!("{}{}", S::ID_PREFIX, new_id()), created: unix_seconds(), model: self.served.name.clone() };
        self.visit.describe(|context| {
            context.set(attribute::RESPONSE_ID, head.id.clone());
            context.set(attribute::RESPONSE_MODEL, head.model.clone());
            context.set(attribute::USAGE_INPUT_TOKENS, Value::Int(i64::try_from(prompt).unwrap_or(i64::MAX)));
        });
        if self.parameters.stream { Ok(self.stream(generation, head)) } else { self.collect(generation, head).await }
    }

    fn check_token_ids(&self) -> Result<(), ApiError> {
        let vocabulary = self.served.text.vocab_size();
        let known = |param: &'static str, id: &u32| {
            if *id < vocabulary {
                return Ok(());
            }
            let message = format!("'{param}' has the token id {id}, and the model's vocabulary ends at {vocabulary}");
            Err(ApiError::invalid(param, message))
        };
        self.prompt.iter().try_for_each(|id| known("prompt", id))?;
        self.parameters.sampling.logit_bias.iter().try_for_each(|(id, _)| known("logit_bias", id))
    }

    /// The tokens that may be generated: what was asked for, or what the context leaves.
    fn max_tokens(&self) -> Result<u32, ApiError> {
        let limit = self.served.max_model_len;
        let prompt = u32::try_from(self.prompt.len()).unwrap_or(u32::MAX);
        if prompt == 0 {
            return Err(ApiError::invalid("prompt", "the prompt has no tokens; send at least one"));
        }
        let room = limit.saturating_sub(prompt);
        let least = self.parameters.min_tokens.max(1);
        let asked = self.parameters.max_tokens.unwrap_or_else(|| room.max(least));
        if prompt <= limit && asked <= room { Ok(asked) } else { Err(too_long(limit, prompt, asked)) }
    }

    fn stops(&self) -> Stops {
        let parameters = &self.parameters;
        let mut token_ids = parameters.stop_token_ids.clone();
        if !parameters.ignore_eos {
            token_ids.extend(self.served.text.eos_token_ids());
        }
        // The marks around tool calls are special tokens in some models.
        let skip_special_tokens = self.tool_calls.is_none();
        Stops { strings: parameters.stop.clone(), token_ids, min_tokens: parameters.min_tokens, skip_special_tokens }
    }

    fn stream(self, generation: Generation, head: Head) -> Response {
        let deadline = deadline(self.api, self.visit).map(|at| (at, timeout(self.api)));
        let stream = EventStream::new(generation, head, self.shape, self.served.text.clone(), self.visit.clone())
            .with_usage(self.parameters.include_usage)
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
        wholes.extend((0..self.parameters.n).map(|sequence| Piece { sequence, ..Piece::default() }));
        while let Some(piece) = generation.next().await {
            let piece = piece?;
            if let Some(whole) = wholes.get_mut(piece.sequence as usize) {
                whole.append(piece);
            }
        }
        let reasons = wholes.iter().map(|whole| whole.finish.map_or("", |reason| reason.as_str()));
        describe_end(self.visit, &generation, reasons);
        let choices = wholes.iter().map(|whole| self.shape.choice(whole, self.served.text.as_ref())).collect();
        let answer = head.object(S::OBJECT, choices, Some(generation.usage()));
        Ok(([(header::CONTENT_TYPE, "application/json")], answer.to_string()).into_response())
    }
}

/// Puts what is known at the end on the request's span.
pub fn describe_end<'a>(visit: &Visit, generation: &Generation, reasons: impl Iterator<Item = &'a str>) {
    visit.describe(|context| {
        let (output, cached) = generation.tokens();
        let count = |tokens: u64| Value::Int(i64::try_from(tokens).unwrap_or(i64::MAX));
        context.set(attribute::USAGE_OUTPUT_TOKENS, count(output));
        context.set(attribute::USAGE_CACHE_READ_INPUT_TOKENS, count(cached));
        context.set(attribute::RESPONSE_FINISH_REASONS, Value::Strings(reasons.map(str::to_owned).collect()));
    });
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
