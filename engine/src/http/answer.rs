//! The handlers of the two APIs that make journeys: read the body, parse, template, tokenize; the rest is [`super::call`].

use std::sync::Arc;
use std::time::Instant;

use axum::Extension;
use axum::body::Body;
use axum::extract::{Request as HttpRequest, State};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use sojourn_contract::attribute;
use sojourn_journey::trace::Value;

use super::Api;
use super::call::Call;
use super::error::ApiError;
use super::openai::chat::{ChatRequest, ChatShape};
use super::openai::completion::{CompletionRequest, CompletionShape, Prompt};
use super::openai::parameters::Parameters;
use super::openai::response_format::Form;
use super::openai::tools::ToolPlan;
use super::visit::Visit;
use crate::scheduler::request::Constraint;
use crate::served::Served;
use crate::text::{ChatOptions, Text};

/// `POST /v1/chat/completions`
pub async fn chat(State(api): State<Arc<Api>>, Extension(visit): Extension<Arc<Visit>>, request: HttpRequest) -> Response {
    let answer = async {
        let served = served(&api)?;
        let body = read(request.into_body(), api.settings.max_body_bytes).await?;
        let request = ChatRequest::parse(&body)?;
        let ChatRequest { messages, add_generation_prompt, template_values, tools, mut parameters } = request;
        describe(&visit, &parameters, served);
        check_model(&parameters, served)?;
        let ToolPlan { template, form, parser } = tools.plan(served.tool_call_format, parameters.form.take())?;
        let (prompt, constraint) = on_blocking_pool(&api, served, move |text| {
            let options = ChatOptions { add_generation_prompt, tools: template, extra: template_values };
            let prompt = text.encode(&text.chat_prompt(&messages, &options)?, false)?;
            Ok((prompt, constraint(text, form)?))
        })
        .await?;
        let shape = ChatShape;
        Call { api: &api, served, visit: &visit, prompt, constraint, tool_calls: parser, parameters, shape }.answer().await
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
        let CompletionRequest { prompt, echo, add_special_tokens, mut parameters } = CompletionRequest::parse(&body)?;
        describe(&visit, &parameters, served);
        check_model(&parameters, served)?;
        let form = parameters.form.take();
        let (prompt, echo, constraint) = on_blocking_pool(&api, served, move |text| {
            let constraint = constraint(text, form)?;
            match prompt {
                Prompt::Text(prompt) => {
                    let tokens = text.encode(&prompt, add_special_tokens)?;
                    Ok((tokens, echo.then_some(prompt), constraint))
                }
                Prompt::Tokens(tokens) => {
                    let echo = echo.then(|| text_of(text, &tokens));
                    Ok((tokens, echo, constraint))
                }
            }
        })
        .await?;
        let shape = CompletionShape { echo };
        Call { api: &api, served, visit: &visit, prompt, constraint, tool_calls: None, parameters, shape }.answer().await
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
    work: impl FnOnce(&Text) -> Result<T, ApiError> + Send + 'static,
) -> Result<T, ApiError> {
    let _permit = api.blocking.acquire().await;
    let text = served.text.clone();
    match tokio::task::spawn_blocking(move || work(&text)).await {
        Ok(result) => result,
        Err(_) => Err(ApiError::generation("the prompt could not be prepared: the engine's code panicked")),
    }
}

/// Compiles the form that the answer must have.
fn constraint(text: &Text, form: Option<Form>) -> Result<Option<Box<dyn Constraint>>, ApiError> {
    let compile = |Form { field, grammar }| text.constraint(grammar).map_err(|error| ApiError::bad_form(field, error));
    form.map(compile).transpose()
}

fn text_of(text: &Text, tokens: &[u32]) -> String {
    let mut decoder = text.decoder(true);
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

/// When a request has taken too long.
pub fn deadline(api: &Api, visit: &Visit) -> Option<Instant> {
    api.settings.request_timeout.and_then(|timeout| visit.arrived().checked_add(timeout))
}

/// What it is told then.
pub fn timeout(api: &Api) -> ApiError {
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
