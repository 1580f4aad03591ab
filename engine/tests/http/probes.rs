//! Probes, models, version.

use serde_json::json;

use super::client::get;
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
    assert_eq!(get(engine.address, "/version").await.json()["version"], env!("CARGO_PKG_VERSION"));
}
