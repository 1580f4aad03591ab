//! Probes, models, version.

use http::Method;
use serde_json::json;

use super::client::{get, send};
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
