//! `/tokenize` and `/detokenize`, as vLLM has them: what a prompt costs, before it is sent. They make no journeys.

use std::sync::Arc;

use axum::extract::{Request as HttpRequest, State};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use serde_json::json;

use super::Api;
use super::answer::{check_model, encode_chat, is_short, prepare, read, served};
use super::deadline::within_time;
use super::error::ApiError;
use super::openai::chat::ChatRequest;
use super::openai::fields::{Fields, must_be};
use super::openai::parameters::token_ids;
use super::visit::Visit;

/// What is to be tokenized.
enum Tokenizable {
    /// A text, with or without the tokenizer's special tokens.
    Text(String, bool),
    /// Messages, as the chat API would.
    Chat(Box<ChatRequest>),
}

/// `POST /tokenize`
pub async fn tokenize(State(api): State<Arc<Api>>, Extension(visit): Extension<Arc<Visit>>, request: HttpRequest) -> Response {
    let answer = async {
        let served = served(&api)?;
        let body = read(request.into_body(), api.settings.max_body_bytes).await?;
        let mut fields = Fields::parse(&body)?;
        check_model(fields.text("model")?.as_deref(), served)?;
        let return_token_strs = fields.flag("return_token_strs")?.unwrap_or(false);
        let what = tokenizable(&mut fields, &body)?;
        let (limit, format) = (served.max_model_len, served.tool_call_format);
        let tokenized = prepare(&api, served, is_short(&body), move |text| {
            let tokens = match what {
                Tokenizable::Text(prompt, add_special_tokens) => text.encode_within(&prompt, add_special_tokens, limit)?,
                Tokenizable::Chat(request) => {
                    let tools = request.tools.clone().plan(format, None)?.template;
                    encode_chat(text, &request, tools, limit)?
                }
            };
            let strings = |tokens: &[u32]| tokens.iter().map(|id| text.token(*id)).collect::<Vec<_>>();
            let token_strs = return_token_strs.then(|| strings(&tokens));
            Ok((tokens, token_strs))
        });
        let (tokens, token_strs) = tokenized.await?;
        let count = tokens.len();
        let answer = json!({
            "count": count, "max_model_len": served.max_model_len, "tokens": tokens, "token_strs": token_strs,
        });
        Ok(Json(answer).into_response())
    };
    within_time(&api, &visit, answer).await
}

fn tokenizable(fields: &mut Fields, body: &[u8]) -> Result<Tokenizable, ApiError> {
    match fields.text("prompt")? {
        Some(prompt) => Ok(Tokenizable::Text(prompt, fields.flag("add_special_tokens")?.unwrap_or(true))),
        None if fields.take("messages").is_some() => ChatRequest::parse(body).map(Box::new).map(Tokenizable::Chat),
        None => Err(must_be("prompt", "a string; or send 'messages', an array of messages, in its place")),
    }
}

/// `POST /detokenize`
pub async fn detokenize(
    State(api): State<Arc<Api>>,
    Extension(visit): Extension<Arc<Visit>>,
    request: HttpRequest,
) -> Response {
    let answer = async {
        let served = served(&api)?;
        let body = read(request.into_body(), api.settings.max_body_bytes).await?;
        let mut fields = Fields::parse(&body)?;
        check_model(fields.text("model")?.as_deref(), served)?;
        let Some(tokens) = fields.list("tokens")? else { return Err(must_be("tokens", "an array of token ids")) };
        let tokens = token_ids("tokens", tokens)?;
        let vocabulary = served.text.vocab_size();
        if let Some(id) = tokens.iter().find(|id| **id >= vocabulary) {
            return Err(ApiError::unknown_token_id("tokens", *id, vocabulary));
        }
        let prompt = prepare(&api, served, is_short(&body), move |text| Ok(text.decode(&tokens)?)).await?;
        Ok(Json(json!({"prompt": prompt})).into_response())
    };
    within_time(&api, &visit, answer).await
}
