//! `--request-timeout`: how long an answer may take, from the request's first byte on.

use std::time::Instant;

use axum::response::{IntoResponse, Response};

use super::Api;
use super::error::ApiError;
use super::visit::Visit;

/// Bounds the time until the answer begins; a stream bounds the rest itself.
pub async fn within_time(api: &Api, visit: &Visit, answer: impl Future<Output = Result<Response, ApiError>>) -> Response {
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
