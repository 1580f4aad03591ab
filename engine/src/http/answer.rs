//! From a request's body to its answer: read, parse, template, tokenize, check, submit, and then either collect or stream.

use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use axum::Extension;
use axum::body::Body;
use axum::extract::{Request as HttpRequest, State};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::header;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use sojourn_contract::attribute;
use sojourn_journey::trace::Value;

use super::Api;
use super::error::ApiError;
use super::generation::{Generation, Piece, Stops};
use super::openai::chat::{ChatRequest, ChatShape};
use super::openai::completion::{CompletionRequest, CompletionShape, Prompt};
use super::openai::parameters::Parameters;
use super::openai::shape::{Head, Shape};
use super::stream::EventStream;
use super::visit::{Visit, new_id};
use crate::scheduler::request::Request;
use crate::served::Served;
use crate::text::{ChatOptions, Text, TextError};

/// `POST /v1/chat/completions`
pub async fn chat(State(api): State<Arc<Api>>, Extension(visit): Extension<Arc<Visit>>, request: HttpRequest) -> Response {
    let answer = async {
        let served = served(&api)?;
        let body = read(request.into_body(), api.settings.max_body_bytes).await?;
        let ChatRequest { messages, add_generation_prompt, template_values, parameters } = ChatRequest::parse(&body)?;
        describe(&visit, &parameters, served);
        check_model(&parameters, served)?;
        let prompt = on_blocking_pool(&api, served, move |text| {
            let options = ChatOptions { add_generation_prompt, tools: None, extra: template_values };
            text.encode(&text.chat_prompt(&messages, &options)?, false)
        });
        Call { api: &api, served, visit: &visit, prompt: prompt.await?, parameters, shape: ChatShape }.answer().await
    };
    within_time(&api, &visit, answer).await
}

/// `POST /v1/completions`
pub async fn completion(
    State(api): State<Arc<Api>>,
    Extension(visit): Extension<Arc<Visit>>,
    request: HttpRequest,
) -> Response {
    let answer = async {
        let served = served(&api)?;
        let body = read(request.into_body(), api.settings.max_body_bytes).await?;
        let CompletionRequest { prompt, echo, add_special_tokens, parameters } = CompletionRequest::parse(&body)?;
        describe(&visit, &parameters, served);
        check_model(&parameters, served)?;
        let (prompt, echo) = on_blocking_pool(&api, served, move |text| match prompt {
            Prompt::Text(prompt) => {
                let tokens = text.encode(&prompt, add_special_tokens)?;
                Ok((tokens, echo.then_some(prompt)))
            }
            Prompt::Tokens(tokens) => {
                let echo = echo.then(|| text_of(text, &tokens));
                Ok((tokens, echo))
            }
        })
        .await?;
        let shape = CompletionShape { echo };
        Call { api: &api, served, visit: &visit, prompt, parameters, shape }.answer().await
    };
    within_time(&api, &visit, answer).await
}

fn served(api: &Api) -> Result<&Served, ApiError> {
    if api.is_draining() {
        return Err(ApiError::shutdown());
    }
    api.served.get().ok_or_else(|| ApiError::loading(&api.startup.borrow().waiting_for))
}

/// Reads a body up to the limit.
async fn read(body: Body, limit: usize) -> Result<Bytes, ApiError> {
    if http_body::Body::size_hint(&body).lower() > limit as u64 {
        return Err(ApiError::body_too_large(limit));
    }
    match Limited::new(body, limit).collect().await {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(ApiError::body_too_large(limit)),
        Err(_) => Err(ApiError::broken_upload()),
    }
}

fn check_model(parameters: &Parameters, served: &Served) -> Result<(), ApiError> {
    match &parameters.model {
        Some(asked) if *asked != served.name => Err(ApiError::model_not_found(asked, &served.name)),
        _ => Ok(()),
    }
}

/// Runs what takes milliseconds away from the threads that serve connections, a bounded number of them at once.
async fn on_blocking_pool<T: Send + 'static>(
    api: &Api,
    served: &Served,
    work: impl FnOnce(&Text) -> Result<T, TextError> + Send + 'static,
) -> Result<T, ApiError> {
    let _permit = api.blocking.acquire().await;
    let text = served.text.clone();
    match tokio::task::spawn_blocking(move || work(&text)).await {
        Ok(result) => Ok(result?),
        Err(_) => Err(ApiError::generation("the prompt could not be prepared: the engine's code panicked")),
    }
}

fn text_of(text: &Text, tokens: &[u32]) -> String {
    let mut decoder = text.decoder();
    let mut whole: String = tokens.iter().filter_map(|id| decoder.push(*id)).collect();
    whole.push_str(&decoder.finish().unwrap_or_default());
    whole
}

/// Bounds the time until the answer begins; a stream bounds the rest itself.
async fn within_time(api: &Api, visit: &Visit, answer: impl Future<Output = Result<Response, ApiError>>) -> Response {
    let result = match deadline(api, visit) {
        None => answer.await,
        Some(deadline) => {
            let late = |_| Err(timeout(api));
            tokio::time::timeout_at(deadline.into(), answer).await.unwrap_or_else(late)
        }
    };
    result.unwrap_or_else(IntoResponse::into_response)
}

fn deadline(api: &Api, visit: &Visit) -> Option<Instant> {
    api.settings.request_timeout.and_then(|timeout| visit.arrived().checked_add(timeout))
}

fn timeout(api: &Api) -> ApiError {
    ApiError::timeout(api.settings.request_timeout.unwrap_or_default().as_secs_f64())
}

/// Puts the request's parameters on its span.
fn describe(visit: &Visit, parameters: &Parameters, served: &Served) {
    visit.describe(|context| {
        let asked = &parameters.asked;
        context.set(attribute::REQUEST_MODEL, parameters.model.clone().unwrap_or_else(|| served.name.clone()));
        context.set(attribute::REQUEST_STREAM, Value::Bool(parameters.stream));
        if let Some(max_tokens) = parameters.max_tokens {
            context.set(attribute::REQUEST_MAX_TOKENS, Value::Int(max_tokens.into()));
        }
        if let Some(temperature) = asked.temperature {
            context.set(attribute::REQUEST_TEMPERATURE, Value::Float(temperature.into()));
        }
        if let Some(top_p) = asked.top_p {
            context.set(attribute::REQUEST_TOP_P, Value::Float(top_p.into()));
        }
        if let Some(top_k) = asked.top_k {
            context.set(attribute::REQUEST_TOP_K, Value::Int(top_k.into()));
        }
        if let Some(seed) = asked.seed {
            context.set(attribute::REQUEST_SEED, Value::Int(seed));
        }
        if parameters.n != 1 {
            context.set(attribute::REQUEST_CHOICE_COUNT, Value::Int(parameters.n.into()));
        }
    });
}

/// A request that is ready for the scheduler.
struct Call<'a, S> {
    api: &'a Arc<Api>,
    served: &'a Served,
    visit: &'a Arc<Visit>,
    prompt: Vec<u32>,
    parameters: Parameters,
    shape: S,
}

impl<S: Shape> Call<'_, S> {
    async fn answer(self) -> Result<Response, ApiError> {
        let max_tokens = self.max_tokens()?;
        let (stops, prompt) = (self.stops(), self.prompt.len());
        self.visit.prompt(prompt);
        let text = &self.served.text;
        let parameters = &self.parameters;
        let matcher = || text.stop_matcher(&stops.strings);
        let request = Request {
            prompt: self.prompt.as_slice().into(),
            sequences: parameters.n,
            max_tokens,
            min_tokens: stops.min_tokens,
            sampling: parameters.sampling.clone(),
            stop_token_ids: stops.token_ids.clone(),
            stop_matchers: (0..parameters.n).filter(|_| !stops.strings.is_empty()).map(|_| matcher()).collect(),
            priority: parameters.priority,
            recorder: self.visit.recorder(),
        };
        let output = self.served.scheduler.submit(request)?;
        let generation = Generation::new(output, self.visit.clone(), text, parameters.n, prompt, stops);
        let head =
            Head { id: format!("{}{}", S::ID_PREFIX, new_id()), created: unix_seconds(), model: self.served.name.clone() };
        self.visit.describe(|context| {
            context.set(attribute::RESPONSE_ID, head.id.clone());
            context.set(attribute::RESPONSE_MODEL, head.model.clone());
            context.set(attribute::USAGE_INPUT_TOKENS, Value::Int(i64::try_from(prompt).unwrap_or(i64::MAX)));
        });
        if self.parameters.stream { Ok(self.stream(generation, head)) } else { self.collect(generation, head).await }
    }

    /// The tokens that may be generated: what was asked for, or what the context leaves.
    fn max_tokens(&self) -> Result<u32, ApiError> {
        let limit = self.served.max_model_len;
        let prompt = u32::try_from(self.prompt.len()).unwrap_or(u32::MAX);
        let vocabulary = self.served.text.vocab_size();
        if prompt == 0 {
            return Err(ApiError::invalid("prompt", "the prompt has no tokens; send at least one"));
        }
        if let Some(id) = self.prompt.iter().find(|id| **id >= vocabulary) {
            let message = format!("the prompt has the token id {id}, and the model's vocabulary ends at {vocabulary}");
            return Err(ApiError::invalid("prompt", message));
        }
        let room = limit.saturating_sub(prompt);
        match self.parameters.max_tokens {
            Some(asked) if prompt <= limit && asked <= room => Ok(asked),
            None if room > 0 => Ok(room.max(self.parameters.min_tokens)).and_then(|most| match most > room {
                true => Err(too_long(limit, prompt, most)),
                false => Ok(room),
            }),
            asked => Err(too_long(limit, prompt, asked.unwrap_or(1))),
        }
    }

    fn stops(&self) -> Stops {
        let parameters = &self.parameters;
        let mut token_ids = parameters.stop_token_ids.clone();
        if !parameters.ignore_eos {
            token_ids.extend(self.served.text.eos_token_ids());
        }
        Stops { strings: parameters.stop.clone(), token_ids, min_tokens: parameters.min_tokens }
    }

    fn stream(self, generation: Generation, head: Head) -> Response {
        let deadline = deadline(self.api, self.visit).map(|at| (at, timeout(self.api)));
        let stream = EventStream::new(generation, head, self.shape, self.served.text.clone(), self.visit.clone())
            .with_usage(self.parameters.include_usage)
            .with_deadline(deadline);
        // Proxies must neither keep nor rewrite events.
        let headers = [(header::CONTENT_TYPE, "text/event-stream"), (header::CACHE_CONTROL, "no-cache")];
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
