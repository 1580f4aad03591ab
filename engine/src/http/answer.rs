//! The handlers of the two APIs that make journeys: read the body, parse, template, tokenize; the rest is [`super::call`].

use std::sync::Arc;

use axum::Extension;
use axum::body::Body;
use axum::extract::{Request as HttpRequest, State};
use axum::response::Response;
use bytes::Bytes;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use sojourn_contract::attribute;
use sojourn_journey::trace::Value;

use super::Api;
use super::call::Call;
use super::deadline::within_time;
use super::error::ApiError;
use super::openai::chat::{ChatRequest, ChatShape};
use super::openai::completion::{CompletionRequest, CompletionShape, Prompt};
use super::openai::parameters::Parameters;
use super::openai::response_format::Form;
use super::openai::tools::ToolPlan;
use super::visit::Visit;
use crate::scheduler::request::Constraint;
use crate::served::Served;
use crate::text::{ChatOptions, Text, TextError};

/// Bytes of a request that is prepared at once: some 250 tokens, which take 0.7 ms.
const SHORT_BODY: usize = 1024;

/// `POST /v1/chat/completions`
pub async fn chat(State(api): State<Arc<Api>>, Extension(visit): Extension<Arc<Visit>>, request: HttpRequest) -> Response {
    let answer = async {
        let served = served(&api)?;
        let body = read(request.into_body(), api.settings.max_body_bytes).await?;
        let mut request = ChatRequest::parse(&body)?;
        describe(&visit, &request.parameters, served);
        check_model(request.parameters.model.as_deref(), served)?;
        request.parameters.fill_in(&served.generation);
        let mut parameters = request.parameters.clone();
        let ToolPlan { template, form, parser } =
            request.tools.clone().plan(served.tool_call_format, parameters.form.take())?;
        let limit = served.max_model_len;
        let prepared = prepare(&api, served, is_short(&body) && form.is_none(), move |text| {
            Ok((encode_chat(text, &request, template, limit)?, constraint(text, form)?))
        });
        let (prompt, constraint) = prepared.await?;
        let (prompts, shape) = (vec![prompt], ChatShape);
        Call { api: &api, served, visit: &visit, prompts, constraint, tool_calls: parser, parameters, shape }.answer().await
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
        let CompletionRequest { prompts, echo, add_special_tokens, mut parameters } = CompletionRequest::parse(&body)?;
        describe(&visit, &parameters, served);
        check_model(parameters.model.as_deref(), served)?;
        parameters.fill_in(&served.generation);
        let (form, limit) = (parameters.form.take(), served.max_model_len);
        let prepared = prepare(&api, served, is_short(&body) && form.is_none(), move |text| {
            let constraint = constraint(text, form)?;
            let encode = |prompt| encode(text, prompt, add_special_tokens, echo, limit);
            Ok((prompts.into_iter().map(encode).collect::<Result<Vec<_>, _>>()?, constraint))
        });
        let (tokenized, constraint) = prepared.await?;
        let (prompts, texts): (Vec<_>, Vec<_>) = tokenized.into_iter().unzip();
        let shape = CompletionShape { echo: texts.into_iter().flatten().collect(), n: parameters.n };
        Call { api: &api, served, visit: &visit, prompts, constraint, tool_calls: None, parameters, shape }.answer().await
    };
    within_time(&api, &visit, answer).await
}

/// Token ids of a chat's prompt.
pub fn encode_chat(
    text: &Text,
    request: &ChatRequest,
    tools: Option<serde_json::Value>,
    limit: u32,
) -> Result<Vec<u32>, TextError> {
    let options = ChatOptions {
        add_generation_prompt: request.add_generation_prompt,
        continue_final_message: request.continue_final_message,
        tools,
        extra: request.template_values.clone(),
    };
    text.encode_within(&text.chat_prompt(&request.messages, &options)?, request.add_special_tokens, limit)
}

/// Token ids of a prompt, and its text if that is wanted.
fn encode(
    text: &Text,
    prompt: Prompt,
    add_special_tokens: bool,
    echo: bool,
    limit: u32,
) -> Result<(Vec<u32>, Option<String>), TextError> {
    match prompt {
        Prompt::Text(prompt) => Ok((text.encode_within(&prompt, add_special_tokens, limit)?, echo.then_some(prompt))),
        Prompt::Tokens(tokens) => {
            let echo = echo.then(|| text_of(text, &tokens));
            Ok((tokens, echo))
        }
    }
}

/// The model, unless the engine is not ready for it or shuts down.
pub fn served(api: &Api) -> Result<&Served, ApiError> {
    if api.is_draining() {
        return Err(ApiError::shutdown());
    }
    api.served.get().ok_or_else(|| ApiError::loading(&api.startup.borrow().waiting_for))
}

/// Reads a body up to the limit.
pub async fn read(body: Body, limit: usize) -> Result<Bytes, ApiError> {
    if http_body::Body::size_hint(&body).lower() > limit as u64 {
        return Err(ApiError::body_too_large(limit));
    }
    match Limited::new(body, limit).collect().await {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(ApiError::body_too_large(limit)),
        Err(_) => Err(ApiError::broken_upload()),
    }
}

/// Refuses a request for a model that is not served here.
pub fn check_model(asked: Option<&str>, served: &Served) -> Result<(), ApiError> {
    match asked {
        Some(asked) if asked != served.name => Err(ApiError::model_not_found(asked, &served.name)),
        _ => Ok(()),
    }
}

/// Whether what a request says is templated and tokenized in less time than the way to another thread and back may take.
pub fn is_short(body: &[u8]) -> bool {
    body.len() <= SHORT_BODY
}

/// Templates, tokenizes, compiles: at once what is short, the rest away from the threads that serve connections, a bounded
/// number of them at once.
pub async fn prepare<T: Send + 'static>(
    api: &Api,
    served: &Served,
    short: bool,
    work: impl FnOnce(&Text) -> Result<T, ApiError> + Send + 'static,
) -> Result<T, ApiError> {
    if short {
        return work(&served.text);
    }
    // The work keeps the permit, also when nobody waits for it any more.
    let permit = api.blocking.clone().acquire_owned().await;
    let text = served.text.clone();
    let work = move || {
        let result = work(&text);
        drop(permit);
        result
    };
    match tokio::task::spawn_blocking(work).await {
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
