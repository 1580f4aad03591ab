//! The canary: one token, asked for through the whole engine, whose journey is always kept. Only here can one be made.

use std::sync::Arc;
use std::time::Instant;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use http::{HeaderMap, HeaderName, Method, Request, StatusCode, header};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use sojourn_contract::journey::{Kind, Outcome};
use sojourn_contract::path;
use tower::ServiceExt;

use super::Admin;
use crate::http::router;

/// Headers of the one who asks that the canary's request has, too: it can then be found in a trace of theirs.
const PASSED_ON: [&str; 3] = ["traceparent", "tracestate", "x-request-id"];

/// `POST /canary`: 200 if the model answered, else the status of the engine's answer.
pub async fn send(State(admin): State<Arc<Admin>>, headers: HeaderMap) -> (StatusCode, Json<Value>) {
    let began = Instant::now();
    let router = router(admin.api.clone());
    let Ok(request) = request(&headers, admin.api.settings.api_key.as_deref()) else {
        let error = "the canary's request cannot be made from these headers";
        return (StatusCode::BAD_REQUEST, Json(json!({"error": error})));
    };
    let response = router.oneshot(request).await.unwrap_or_else(|never| match never {});
    let (head, body) = response.into_parts();
    // Read to its end, for that is when the journey departs.
    let body = body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    let header = |name: &'static str| head.headers.get(name).and_then(|value| value.to_str().ok());
    let ids: Vec<&str> = header("traceresponse").map(|value| value.split('-').collect()).unwrap_or_default();
    let outcome = outcome(&admin, ids.get(2).copied(), head.status);
    let error = serde_json::from_slice::<Value>(&body).ok().and_then(|body| body.pointer("/error/message").cloned());
    let answer = json!({
        "outcome": outcome,
        "http_status": head.status.as_u16(),
        "request_id": header("x-request-id"),
        "trace_id": ids.get(1),
        "span_id": ids.get(2),
        "duration_seconds": began.elapsed().as_secs_f64(),
        "error": error,
    });
    (head.status, Json(answer))
}

fn request(headers: &HeaderMap, api_key: Option<&str>) -> Result<Request<Body>, http::Error> {
    let body = json!({"prompt": "canary", "max_tokens": 1, "temperature": 0}).to_string();
    let mut request = Request::builder()
        .method(Method::POST)
        .uri(path::COMPLETIONS)
        .header(header::HOST, "localhost")
        .header(header::CONTENT_TYPE, "application/json")
        .extension(Kind::Canary);
    if let Some(key) = api_key {
        request = request.header(header::AUTHORIZATION, format!("Bearer {key}"));
    }
    for name in PASSED_ON.map(HeaderName::from_static) {
        if let Some(value) = headers.get(&name) {
            request = request.header(name, value);
        }
    }
    request.body(Body::from(body))
}

/// What its journey says; with tracing off what its status says.
fn outcome(admin: &Admin, span_id: Option<&str>, status: StatusCode) -> Outcome {
    let told = admin.view.as_ref().zip(span_id).and_then(|(view, id)| view.find(id)?.journey.outcome());
    told.unwrap_or(match status {
        status if status.is_success() => Outcome::Ok,
        status if status.is_server_error() => Outcome::Error,
        _ => Outcome::Rejected,
    })
}
