//! Which path is whose.

use std::sync::Arc;

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use http::{Method, Uri};
use serde_json::{Value, json};
use sojourn_contract::path;
use tower_http::catch_panic::CatchPanicLayer;

use super::entry::enter;
use super::error::ApiError;
use super::{Api, answer, metrics, probes, tokenize};
use crate::served::Served;

/// Paths that take POST; the others take GET and HEAD.
const POSTED: [&str; 4] = [path::CHAT_COMPLETIONS, path::COMPLETIONS, path::TOKENIZE, path::DETOKENIZE];

/// The whole HTTP service.
pub fn router(api: Arc<Api>) -> Router {
    Router::new()
        .route(path::CHAT_COMPLETIONS, post(answer::chat))
        .route(path::COMPLETIONS, post(answer::completion))
        .route(path::TOKENIZE, post(tokenize::tokenize))
        .route(path::DETOKENIZE, post(tokenize::detokenize))
        .route(path::MODELS_API, get(models))
        // A model's name may have slashes.
        .route(&format!("{}/{{*name}}", path::MODELS_API), get(model))
        .route(path::HEALTH, get(probes::health))
        .route(path::PING, get(probes::health).post(probes::health))
        .route(path::READY, get(probes::ready))
        .route(path::VERSION, get(version))
        .route(path::METRICS, get(metrics::scrape))
        .fallback(|method: Method, uri: Uri| async move { ApiError::route_not_found(&method, uri.path()) })
        .method_not_allowed_fallback(|method: Method, uri: Uri| async move {
            let takes = if POSTED.contains(&uri.path()) { "POST" } else { "GET" };
            ApiError::method_not_allowed(&method, uri.path(), takes)
        })
        .layer(CatchPanicLayer::custom(|_| {
            ApiError::generation("the engine's code panicked; its log says where").into_response()
        }))
        .layer(from_fn_with_state(api.clone(), enter))
        .with_state(api)
}

/// OpenAI's list of models.
async fn models(State(api): State<Arc<Api>>) -> Json<Value> {
    Json(json!({"object": "list", "data": Vec::from_iter(api.served.get().map(description))}))
}

/// One of them.
async fn model(State(api): State<Arc<Api>>, name: Result<Path<String>, PathRejection>) -> Result<Response, ApiError> {
    let served = answer::served(&api)?;
    // A path that is no text names no model.
    let name = name.map(|Path(name)| name).unwrap_or_default();
    answer::check_model(Some(&name), served)?;
    Ok(Json(description(served)).into_response())
}

/// OpenAI's description of a model, with vLLM's `max_model_len`.
fn description(served: &Served) -> Value {
    json!({
        "id": served.name,
        "object": "model",
        "created": served.created,
        "owned_by": "sojourn",
        "root": served.name,
        "max_model_len": served.max_model_len,
    })
}

async fn version() -> Json<Value> {
    Json(json!({"version": env!("CARGO_PKG_VERSION")}))
}
