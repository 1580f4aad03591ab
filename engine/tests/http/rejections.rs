//! What a client gets that asks for something wrong, or at a bad moment.

use std::time::Duration;

use http::Method;
use serde_json::json;
use sojourn_contract::attribute;
use sojourn_contract::journey::{AbortPhase, AbortReason, Outcome};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::client::{Client, chat, chat_body, completion, completion_body, raw, raw_post, send};
use super::engine::{Engine, SOON, Setup};

async fn assert_rejected(engine: &mut Engine, reason: AbortReason, status: &str) {
    let told = engine.journey().await;
    assert_eq!(told.api(), ["ARRIVED", "ABORTED"]);
    assert_eq!(told.end(), (Outcome::Rejected, Some(reason), Some(AbortPhase::Api)));
    assert_eq!(told.attribute(attribute::HTTP_RESPONSE_STATUS_CODE).as_deref(), Some(status));
    assert_eq!(told.attribute(attribute::ERROR_TYPE).as_deref(), Some(status));
    assert_eq!(told.request.status, sojourn_journey::trace::Status::Unset);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_json_is_a_rejected_journey() {
    let mut engine = Setup::default().start().await;
    let answer = send(engine.address, Method::POST, "/v1/chat/completions", &[], "{").await;
    assert_eq!(answer.status, 400);
    let error = &answer.json()["error"];
    assert_eq!((&error["type"], &error["code"]), (&json!("invalid_request_error"), &json!("invalid_json")));
    assert_eq!(error["request_id"].as_str(), answer.header("x-request-id"));
    let trace_id = error["trace_id"].as_str().unwrap();
    assert!(answer.header("traceresponse").unwrap().starts_with(&format!("00-{trace_id}-")));
    assert_rejected(&mut engine, AbortReason::ValidationError, "400").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_parameter_is_named() {
    let mut engine = Setup::default().start().await;
    let answer = chat(engine.address, chat_body("hi", json!({"temperature": 9}))).await;
    assert_eq!(answer.status, 400);
    let error = &answer.json()["error"];
    assert_eq!(error["param"], "temperature");
    assert_eq!(error["message"], "'temperature' must be a number from 0 to 2");
    assert_rejected(&mut engine, AbortReason::ValidationError, "400").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_model_is_not_found() {
    let mut engine = Setup::default().start().await;
    let answer = chat(engine.address, chat_body("hi", json!({"model": "gpt-4"}))).await;
    assert_eq!((answer.status.as_u16(), &answer.json()["error"]["code"]), (404, &json!("model_not_found")));
    assert_rejected(&mut engine, AbortReason::ValidationError, "404").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn more_than_the_context_is_refused_and_the_rest_of_it_is_the_default() {
    let mut engine = Setup { max_model_len: 30, ..Setup::default() }.start().await;
    let answer = completion(engine.address, completion_body("0123456789", json!({"max_tokens": 21}))).await;
    assert_eq!((answer.status.as_u16(), &answer.json()["error"]["code"]), (400, &json!("context_length_exceeded")));
    assert_rejected(&mut engine, AbortReason::ValidationError, "400").await;
    let answer = completion(engine.address, completion_body(&"far beyond".repeat(1000), json!({}))).await;
    let error = &answer.json()["error"];
    assert_eq!((&error["code"], &error["param"]), (&json!("context_length_exceeded"), &json!("prompt")));
    assert_rejected(&mut engine, AbortReason::ValidationError, "400").await;
    let answer = completion(engine.address, completion_body("0123456789", json!({"max_tokens": 20}))).await;
    assert_eq!(answer.status, 200);
    let prompt = "<|turn|>user: h\n<|turn|>assistant: ".replace("<|turn|>", "t").len() as u64;
    assert!(prompt < 30);
    let answer = chat(engine.address, chat_body("h", json!({"ignore_eos": true}))).await.json();
    assert_eq!(answer["usage"]["total_tokens"], 30, "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_beyond_the_limit_is_refused_and_closes_the_connection() {
    let mut setup = Setup::default();
    setup.settings.max_body_bytes = 100;
    let mut engine = setup.start().await;
    let answer = chat(engine.address, chat_body(&"x".repeat(1000), json!({}))).await;
    assert_eq!((answer.status.as_u16(), answer.header("connection")), (413, Some("close")));
    assert_rejected(&mut engine, AbortReason::ValidationError, "413").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_queue_answers_429_before_the_core_has_the_request() {
    let mut setup = Setup::slow(10_000, Duration::from_millis(1)).one_at_a_time();
    setup.limits.max_queue_size = 1;
    let mut engine = setup.start().await;
    let body = completion_body("x", json!({"max_tokens": 5000, "stream": true}));
    let _running = raw(engine.address, "/v1/completions", &body).await;
    engine.load(1, 0).await;
    let _waiting = raw(engine.address, "/v1/completions", &body).await;
    engine.load(1, 1).await;
    let answer = completion(engine.address, body).await;
    assert_eq!((answer.status.as_u16(), answer.header("retry-after")), (429, Some("1")));
    assert_eq!(answer.json()["error"]["type"], "rate_limit_error");
    let told = engine.journey().await;
    assert_eq!(told.api(), ["ARRIVED", "ABORTED"]);
    assert_eq!(told.end(), (Outcome::Rejected, Some(AbortReason::Overloaded), Some(AbortPhase::Api)));
    assert_eq!((told.journey.running_at_arrival, told.journey.queue_depth_at_arrival), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn more_sequences_than_fit_are_refused_for_good() {
    let mut setup = Setup::default().one_at_a_time();
    setup.limits.max_queue_size = 2;
    let mut engine = setup.start().await;
    let answer = completion(engine.address, json!({"prompt": ["a", "b"], "n": 2, "max_tokens": 1})).await;
    assert_eq!((answer.status.as_u16(), &answer.json()["error"]["param"]), (400, &json!("n")));
    assert_rejected(&mut engine, AbortReason::ValidationError, "400").await;
    assert_eq!(completion(engine.address, json!({"prompt": ["a", "b", "c"], "max_tokens": 1})).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn stops_that_leave_nothing_to_choose_are_refused() {
    let engine = Setup::default().start().await;
    let every: Vec<u32> = (0..258).collect();
    let answer = completion(engine.address, completion_body("x", json!({"stop_token_ids": every, "min_tokens": 1}))).await;
    assert_eq!((answer.status.as_u16(), &answer.json()["error"]["param"]), (400, &json!("stop_token_ids")));
}

#[tokio::test(flavor = "multi_thread")]
async fn routes_that_do_not_exist_make_no_journey() {
    let mut engine = Setup::default().start().await;
    let answer = send(engine.address, Method::POST, "/v1/embeddings", &[], "{}").await;
    assert_eq!((answer.status.as_u16(), &answer.json()["error"]["code"]), (404, &json!("not_found")));
    assert!(answer.header("x-request-id").is_some());
    let answer = send(engine.address, Method::GET, "/v1/chat/completions", &[], "").await;
    assert_eq!((answer.status.as_u16(), &answer.json()["error"]["code"]), (405, &json!("method_not_allowed")));
    assert!(answer.json()["error"]["message"].as_str().unwrap().ends_with("it takes POST"));
    engine.assert_no_journey();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_api_key_guards_the_api_and_nothing_else() {
    let mut setup = Setup::default();
    setup.settings.api_key = Some("secret".to_owned());
    let mut engine = setup.start().await;
    let body = chat_body("hi", json!({"max_tokens": 1})).to_string();
    let mut client = Client::connect(engine.address).await;
    let answer = client.send(Method::POST, "/v1/chat/completions", &[("authorization", "Bearer wrong")], body.clone()).await;
    assert_eq!((answer.status.as_u16(), answer.header("www-authenticate")), (401, Some("Bearer")));
    assert_rejected(&mut engine, AbortReason::ValidationError, "401").await;
    let key = [("authorization", "Bearer secret")];
    let answer = Client::connect(engine.address).await.send(Method::POST, "/v1/chat/completions", &key, body).await;
    assert_eq!(answer.status, 200);
    assert_eq!(send(engine.address, Method::GET, "/v1/models", &[], "").await.status, 401);
    assert_eq!(send(engine.address, Method::GET, "/ready", &[], "").await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_before_the_model_is_loaded_is_told_to_come_back() {
    let mut engine = Setup { loaded: false, ..Setup::default() }.start().await;
    let answer = chat(engine.address, chat_body("hi", json!({}))).await;
    assert_eq!((answer.status.as_u16(), answer.header("retry-after")), (503, Some("5")));
    assert_eq!(answer.json()["error"]["message"], "the engine is not ready yet: the weights");
    assert_rejected(&mut engine, AbortReason::Overloaded, "503").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_before_the_body_was_read_closes_the_connection() {
    let mut setup = Setup::default();
    setup.settings.api_key = Some("secret".to_owned());
    let engine = setup.start().await;
    let two = raw_post("/v1/completions", &completion_body("hi", json!({}))).repeat(2);
    let mut stream = TcpStream::connect(engine.address).await.unwrap();
    stream.write_all(&two).await.unwrap();
    let mut answers = Vec::new();
    // A connection that is closed with bytes unread may also end as a reset, behind the answer.
    let end = tokio::time::timeout(SOON, stream.read_to_end(&mut answers)).await.expect("the connection ends");
    drop(end);
    let answers = String::from_utf8_lossy(&answers).to_lowercase();
    assert!(answers.starts_with("http/1.1 401") && answers.contains("connection: close"), "{answers}");
}
