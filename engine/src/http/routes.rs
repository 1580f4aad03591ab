//! Which path is whose.

use std::sync::Arc;

use axum::extract::State;
use axum::middleware::from_fn_with_state;
use axum::response::IntoResponse;
use axum::routing::{get, post};
use axum::{Json, Router};
use http::{Method, Uri};
use serde_json::{Value, json};
use sojourn_contract::path;
use tower_http::catch_panic::CatchPanicLayer;

use super::entry::enter;
use super::error::ApiError;
use super::{Api, answer, metrics, probes};

/// The whole HTTP service.
pub fn router(api: Arc<Api>) -> Router {
    Router::new()
        .route(path::CHAT_COMPLETIONS, post(answer::chat))
        .route(path::COMPLETIONS, post(answer::completion))
        .route(path::MODELS_API, get(models))
        .route(path::HEALTH, get(probes::health))
        .route(path::READY, get(probes::ready))
        .route(path::VERSION, get(version))
        .route(path::METRICS, get(metrics::scrape))
        .fallback(|method: Method, uri: Uri| async move { ApiError::route_not_found(&method, uri.path()) })
        .method_not_allowed_fallback(
            |method: Method, uri: Uri| async move { ApiError::method_not_allowed(&method, uri.path()) },
        )
        .layer(CatchPanicLayer::custom(|_| {
            ApiError::generation("the engine's code panicked; its log says where").into_response()
        }))
        .layer(from_fn_with_state(api.clone(), enter))
        .with_state(api)
}

/// OpenAI's list of models, with vLLM's `max_model_len`.
async fn models(State(api): State<Arc<Api>>) -> Json<Value> {
    let models = api.served.get().map(|served| {
        json!({
            "id": served.name,
            "object": "model",
            "created": served.created,
            "owned_by": "sojourn",
            "root": served.name,
            "max_model_len": served.max_model_len,
        })
    });
    Json(json!({"object": "list", "data": Vec::from_iter(models)}))
}

async fn version() -> Json<Value> {
    Json(json!({"version": env!("CARGO_PKG_VERSION")}))
}
