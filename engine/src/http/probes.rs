//! Liveness and readiness.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use http::StatusCode;
use serde_json::{Value, json};

use super::Api;

/// Alive, unless loading has stalled. The server is up before the model loads, so this needs no start-up probe.
pub async fn health(State(api): State<Arc<Api>>) -> (StatusCode, Json<Value>) {
    let startup = api.startup.borrow();
    if api.served.get().is_none() && startup.stalled {
        let body = json!({"status": "stalled", "waiting_for": startup.waiting_for});
        return (StatusCode::SERVICE_UNAVAILABLE, Json(body));
    }
    (StatusCode::OK, Json(json!({"status": "alive"})))
}

/// Ready when a model is served and the engine does not shut down; otherwise says what it waits for.
pub async fn ready(State(api): State<Arc<Api>>) -> (StatusCode, Json<Value>) {
    let body = match api.served.get() {
        _ if api.is_draining() => json!({"status": "draining", "waiting_for": "running requests"}),
        Some(served) => return (StatusCode::OK, Json(json!({"status": "ready", "model": served.name}))),
        None => {
            let startup = api.startup.borrow();
            json!({
                "status": "loading",
                "waiting_for": startup.waiting_for,
                "done_bytes": startup.done_bytes,
                "total_bytes": startup.total_bytes,
            })
        }
    };
    (StatusCode::SERVICE_UNAVAILABLE, Json(body))
}
