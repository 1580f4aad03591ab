//! The end of the engine: nothing that runs is lost while there is time, and what is aborted says so.

use std::time::Duration;

use serde_json::json;
use sojourn_contract::journey::{AbortReason, Outcome};
use tokio::net::TcpStream;

use super::client::{Client, chat, chat_body, completion, completion_body, get};
use super::engine::Setup;

const TICK: Duration = Duration::from_millis(1);

#[tokio::test(flavor = "multi_thread")]
async fn a_running_request_is_finished_and_a_new_one_refused() {
    let mut engine = Setup::slow(300, TICK).start().await;
    let idle = Client::connect(engine.address).await;
    let silent = TcpStream::connect(engine.address).await.unwrap();
    let address = engine.address;
    let running = tokio::spawn(completion(address, completion_body("x", json!({"max_tokens": 400}))));
    engine.load(1, 0).await;
    engine.stop();
    while !engine.api.is_draining() {
        tokio::task::yield_now().await;
    }
    let ready = get(address, "/ready").await;
    assert_eq!((ready.status.as_u16(), ready.header("connection")), (503, Some("close")));
    assert_eq!(ready.json()["status"], "draining");
    let refused = chat(address, chat_body("hi", json!({}))).await;
    assert_eq!((refused.status.as_u16(), &refused.json()["error"]["code"]), (503, &json!("shutting_down")));
    let told = engine.journey().await;
    assert_eq!((told.end().0, told.end().1), (Outcome::Error, Some(AbortReason::Shutdown)));
    let answer = running.await.unwrap();
    assert_eq!((answer.status.as_u16(), &answer.json()["choices"][0]["finish_reason"]), (200, &json!("stop")));
    assert_eq!(engine.journey().await.end().0, Outcome::Ok);
    engine.ended().await;
    drop((idle, silent));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_still_runs_after_the_deadline_is_aborted_and_told() {
    let mut setup = Setup::slow(100_000, TICK);
    setup.settings.drain_timeout = Duration::from_millis(100);
    let mut engine = setup.start().await;
    let whole = tokio::spawn(completion(engine.address, completion_body("x", json!({"max_tokens": 7000}))));
    let streamed = json!({"max_tokens": 7000, "stream": true});
    let streamed = tokio::spawn(completion(engine.address, completion_body("x", streamed)));
    engine.load(2, 0).await;
    engine.stop();
    let whole = whole.await.unwrap();
    assert_eq!((whole.status.as_u16(), &whole.json()["error"]["code"]), (503, &json!("shutting_down")));
    let last = streamed.await.unwrap().chunks().pop().unwrap();
    assert_eq!(last["error"]["code"], "shutting_down");
    for _ in 0..2 {
        let told = engine.journey().await;
        assert_eq!((told.end().0, told.end().1), (Outcome::Error, Some(AbortReason::Shutdown)));
        assert_eq!(told.finished(), ["Finished(Aborted)"]);
    }
    engine.ended().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_engine_ends_at_once() {
    let mut engine = Setup::default().start().await;
    let mut client = Client::connect(engine.address).await;
    client.send(http::Method::GET, "/health", &[], "").await;
    engine.stop();
    engine.ended().await;
}
