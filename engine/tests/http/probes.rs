//! Probes, models, version, metrics.

use http::Method;
use serde_json::json;

use super::client::{chat, chat_body, get, send};
use super::engine::Setup;

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_that_loads_is_alive_and_says_what_it_waits_for() {
    let engine = Setup { loaded: false, ..Setup::default() }.start().await;
    assert_eq!(get(engine.address, "/health").await.status, 200);
    let ready = get(engine.address, "/ready").await;
    assert_eq!(ready.status, 503);
    let body = json!({"status": "loading", "waiting_for": "the weights", "done_bytes": 1, "total_bytes": 2});
    assert_eq!(ready.json(), body);
    assert_eq!(get(engine.address, "/v1/models").await.json()["data"], json!([]));
    engine.startup.send_modify(|startup| startup.stalled = true);
    assert_eq!(get(engine.address, "/health").await.status, 503);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_loaded_engine_is_ready_and_names_its_model() {
    let engine = Setup::default().start().await;
    assert_eq!(get(engine.address, "/ready").await.status, 200);
    let models = get(engine.address, "/v1/models").await.json();
    assert_eq!((&models["data"][0]["id"], &models["data"][0]["max_model_len"]), (&json!("scripted"), &json!(8192)));
    assert_eq!(get(engine.address, "/v1/models/scripted").await.json(), models["data"][0]);
    let other = get(engine.address, "/v1/models/org/name").await;
    assert_eq!((other.status.as_u16(), &other.json()["error"]["code"]), (404, &json!("model_not_found")));
    assert_eq!(get(engine.address, "/version").await.json()["version"], env!("CARGO_PKG_VERSION"));
}

#[tokio::test(flavor = "multi_thread")]
async fn head_says_what_get_says_without_a_body() {
    let engine = Setup::default().start().await;
    for path in ["/health", "/ping", "/ready", "/version", "/v1/models", "/v1/models/scripted", "/metrics"] {
        let (get, head) = (get(engine.address, path).await, send(engine.address, Method::HEAD, path, &[], "").await);
        assert_eq!((get.status.as_u16(), head.status.as_u16(), head.body.len()), (200, 200, 0), "{path}");
        assert_eq!(get.header("content-type"), head.header("content-type"), "{path}");
    }
    assert_eq!(send(engine.address, Method::POST, "/ping", &[], "").await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_count_requests_by_outcome_and_show_the_load() {
    let mut engine = Setup::default().start().await;
    chat(engine.address, chat_body("hi", json!({"max_tokens": 3}))).await;
    chat(engine.address, chat_body("hi", json!({"max_tokens": "many"}))).await;
    engine.journey().await;
    engine.journey().await;
    let page = get(engine.address, "/metrics").await;
    assert!(page.header("content-type").unwrap().starts_with("application/openmetrics-text"));
    let text = String::from_utf8(page.body.to_vec()).unwrap();
    for line in [
        r#"sojourn_requests_total{operation="chat",outcome="ok",reason=""} 1"#,
        r#"sojourn_requests_total{operation="chat",outcome="rejected",reason="validation_error"} 1"#,
        "vllm:generation_tokens_total 3",
        r#"vllm:num_requests_running{model_name="scripted"} 0"#,
        r#"vllm:num_requests_waiting{model_name="scripted"} 0"#,
        r#"vllm:kv_cache_usage_perc{model_name="scripted"} 0"#,
        "sojourn_journeys_dropped_total 0",
        "# EOF",
    ] {
        assert!(text.lines().any(|found| found.trim_end_matches(".0") == line), "{line}\n{text}");
    }
    assert!(text.contains("gen_ai_server_time_to_first_token_seconds_bucket"), "{text}");
}
