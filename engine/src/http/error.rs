//! Errors as OpenAI's clients know them, and what each means for the request's journey. Pure.

use std::borrow::Cow;

use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::{HeaderValue, StatusCode, header};
use serde_json::json;
use sojourn_contract::journey::AbortReason;
use sojourn_contract::path;

use super::visit::Visit;
use crate::scheduler::request::Refusal;
use crate::text::TextError;

/// Why a request does not get its answer.
#[derive(Debug, Clone, PartialEq)]
pub struct ApiError {
    /// Status of an answer that has not begun.
    pub status: StatusCode,
    /// `error.code`: one word for programs.
    pub code: &'static str,
    /// `error.message`: what is wrong and what to do; never a prompt or completion.
    pub message: String,
    /// What only the client is told, behind the message: it may quote what the client sent.
    pub detail: Option<String>,
    /// `error.param`: the field that is wrong.
    pub param: Option<Cow<'static, str>>,
    /// What the journey says.
    pub reason: AbortReason,
    /// Seconds after which another try makes sense.
    pub retry_after: Option<u32>,
}

impl ApiError {
    fn new(status: StatusCode, code: &'static str, reason: AbortReason, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into(), detail: None, param: None, reason, retry_after: None }
    }

    /// The request cannot be understood or honoured.
    pub fn invalid(param: impl Into<Cow<'static, str>>, message: impl Into<String>) -> Self {
        let error = Self::new(StatusCode::BAD_REQUEST, "invalid_value", AbortReason::ValidationError, message);
        Self { param: Some(param.into()), ..error }
    }

    /// The body is not JSON, or not an object.
    pub fn invalid_json(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid_json", AbortReason::ValidationError, message)
    }

    /// A parameter that would change the answer and cannot be honoured.
    pub fn unsupported(param: impl Into<Cow<'static, str>>, message: impl Into<String>) -> Self {
        Self { code: "unsupported_parameter", ..Self::invalid(param, message) }
    }

    /// The form that a field asks for is none that an answer can be held to.
    pub fn bad_form(field: &'static str, error: TextError) -> Self {
        match error {
            TextError::BadGrammar(reason) => {
                let message = format!("'{field}' cannot be compiled into a grammar; correct it or leave it out");
                Self { detail: Some(reason), ..Self::invalid(field, message) }
            }
            other => Self::unsupported(field, format!("'{field}' is not supported here: {other}")),
        }
    }

    /// Prompt and completion do not fit the model's context.
    pub fn too_long(param: &'static str, message: impl Into<String>) -> Self {
        Self { code: "context_length_exceeded", ..Self::invalid(param, message) }
    }

    /// A token id that the model does not have.
    pub fn unknown_token_id(param: &'static str, id: u32, vocabulary: u32) -> Self {
        let message =
            format!("'{param}' has the token id {id}, and the model's vocabulary ends at {vocabulary}; ids are below that");
        Self::invalid(param, message)
    }

    /// The request names a model that is not served here.
    pub fn model_not_found(asked: &str, served: &str) -> Self {
        let message = format!("the model '{asked}' is not served here; this engine serves '{served}', name that or none");
        let error = Self::new(StatusCode::NOT_FOUND, "model_not_found", AbortReason::ValidationError, message);
        Self { param: Some("model".into()), ..error }
    }

    /// There is no such route.
    pub fn route_not_found(method: &http::Method, asked: &str) -> Self {
        let message = format!(
            "there is no {method} {asked}; the API is POST {} and POST {}, and GET {} lists the models",
            path::CHAT_COMPLETIONS,
            path::COMPLETIONS,
            path::MODELS_API
        );
        Self::new(StatusCode::NOT_FOUND, "not_found", AbortReason::ValidationError, message)
    }

    /// The route exists, with another method.
    pub fn method_not_allowed(method: &http::Method, path: &str, takes: &str) -> Self {
        let message = format!("{path} does not take {method}; it takes {takes}");
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", AbortReason::ValidationError, message)
    }

    /// The key is missing or wrong.
    pub fn unauthorized() -> Self {
        let message = "the API key is missing or wrong; send it as 'Authorization: Bearer KEY'";
        Self::new(StatusCode::UNAUTHORIZED, "invalid_api_key", AbortReason::ValidationError, message)
    }

    /// The body is larger than the engine takes.
    pub fn body_too_large(limit: usize) -> Self {
        let message = format!("the request's body is larger than {limit} bytes; send less at once");
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", AbortReason::ValidationError, message)
    }

    /// The client went away while it was sending the request; nobody will read this.
    pub fn broken_upload() -> Self {
        let message = "the connection was closed before the request was complete; send it again";
        Self::new(StatusCode::BAD_REQUEST, "broken_upload", AbortReason::ClientDisconnect, message)
    }

    /// The model is not loaded yet.
    pub fn loading(waiting_for: &str) -> Self {
        let message = format!("the engine is not ready yet: {waiting_for}");
        let error = Self::new(StatusCode::SERVICE_UNAVAILABLE, "model_loading", AbortReason::Overloaded, message);
        Self { retry_after: Some(5), ..error }
    }

    /// The request took longer than `--request-timeout`.
    pub fn timeout(seconds: f64) -> Self {
        let message = format!(
            "the request took longer than the engine's limit of {seconds} s; ask for fewer tokens, or raise --request-timeout"
        );
        Self::new(StatusCode::GATEWAY_TIMEOUT, "timeout", AbortReason::Timeout, message)
    }

    /// The request waited longer than `--queue-timeout`.
    pub fn queue_timeout(seconds: f64) -> Self {
        let message = format!("the request waited longer than the engine's limit of {seconds} s (--queue-timeout)");
        let error = Self::new(StatusCode::GATEWAY_TIMEOUT, "queue_timeout", AbortReason::Timeout, message);
        Self { retry_after: Some(1), ..error }
    }

    /// The engine failed while it generated.
    pub fn generation(message: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "generation_error", AbortReason::GenerationError, message)
    }

    /// The engine is shutting down.
    pub fn shutdown() -> Self {
        let message = "the engine is shutting down; try again, another one will answer";
        let error = Self::new(StatusCode::SERVICE_UNAVAILABLE, "shutting_down", AbortReason::Shutdown, message);
        Self { retry_after: Some(1), ..error }
    }

    /// OpenAI's `error.type`.
    fn kind(&self) -> &'static str {
        match self.status.as_u16() {
            401 => "authentication_error",
            429 => "rate_limit_error",
            status if status < 500 => "invalid_request_error",
            _ => "server_error",
        }
    }

    /// The JSON object that clients get, in a body of its own or in a stream.
    pub fn to_json(&self, visit: &Visit) -> serde_json::Value {
        let mut message = self.message.clone();
        if let Some(detail) = &self.detail {
            message = format!("{message}: {detail}");
        }
        let mut error = json!({
            "message": message,
            "type": self.kind(),
            "param": self.param,
            "code": self.code,
            "request_id": visit.request_id(),
        });
        if let Some(trace_id) = visit.trace_id() {
            error["trace_id"] = trace_id.into();
        }
        json!({ "error": error })
    }

    /// The answer, with the ids that tie it to its journey.
    pub fn answer(&self, visit: &Visit) -> Response {
        let body = Bytes::from(self.to_json(visit).to_string());
        let mut response = (self.status, [(header::CONTENT_TYPE, "application/json")], body).into_response();
        let headers = response.headers_mut();
        if let Some(seconds) = self.retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

impl IntoResponse for ApiError {
    /// Leaves itself in the response: only the outermost layer ([`super::entry`]) knows the ids that belong into the body.
    fn into_response(self) -> Response {
        let mut response = self.status.into_response();
        response.extensions_mut().insert(self);
        response
    }
}

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> Self {
        let message = refusal.to_string();
        match refusal {
            Refusal::QueueFull { .. } => {
                let error = Self::new(StatusCode::TOO_MANY_REQUESTS, "queue_full", AbortReason::Overloaded, message);
                Self { retry_after: Some(1), ..error }
            }
            Refusal::NeverFits { .. } => Self::too_long("max_tokens", message),
            Refusal::TooManySequences { .. } => Self::invalid("n", message),
            Refusal::ShuttingDown => Self::shutdown(),
        }
    }
}

impl From<TextError> for ApiError {
    fn from(error: TextError) -> Self {
        let message = error.to_string();
        match error {
            TextError::Rejected(_) | TextError::Render(_) | TextError::NoTemplate => Self::invalid("messages", message),
            TextError::TooLong { .. } => Self::too_long("prompt", message),
            TextError::NothingToContinue => Self::invalid("continue_final_message", message),
            TextError::Tokenize(_) => Self::invalid("prompt", message),
            TextError::BadTemplate(_) => Self::generation(message),
            TextError::BadGrammar(_) | TextError::NoGrammars(_) => Self::bad_form("response_format", error),
        }
    }
}
