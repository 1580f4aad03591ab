//! Requests that do not get their answer: clients that go away or stall, time-outs, failures.

use std::time::Duration;

use serde_json::{Value, json};
use sojourn_contract::attribute;
use sojourn_contract::journey::{AbortPhase, AbortReason, Outcome};
use sojourn_journey::trace::Status;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use super::client::{chat, chat_body, completion, completion_body, raw, raw_post};
use super::engine::Setup;

const PATH: &str = "/v1/completions";
const TICK: Duration = Duration::from_millis(1);

fn endless(stream: bool) -> Value {
    completion_body("x", json!({"max_tokens": 8000, "stream": stream}))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_the_queue_is_aborted_there() {
    for stream in [false, true] {
        let mut engine = Setup::slow(10_000, TICK).one_at_a_time().start().await;
        let _running = raw(engine.address, PATH, &endless(true)).await;
        engine.load(1, 0).await;
        let waiting = raw(engine.address, PATH, &endless(stream)).await;
        engine.load(1, 1).await;
        drop(waiting);
        let told = engine.journey().await;
        assert_eq!(told.api(), ["ARRIVED", "HANDOFF_TO_CORE", "ABORTED"]);
        let reason = Some(AbortReason::ClientDisconnect);
        assert_eq!(told.end(), (Outcome::Aborted, reason, Some(AbortPhase::Waiting)));
        assert_eq!(told.finished(), ["Finished(Aborted)"]);
        assert_eq!(told.request.status, Status::Unset);
        assert_eq!(told.attribute(attribute::ERROR_TYPE).as_deref(), Some("client_disconnect"));
        // The head of a stream is out as soon as the request is admitted; otherwise nothing was answered.
        let status = told.attribute(attribute::HTTP_RESPONSE_STATUS_CODE);
        assert_eq!(status.as_deref(), stream.then_some("200"));
        engine.load(1, 0).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_its_stream_is_aborted_in_decode() {
    let mut engine = Setup::slow(10_000, TICK).start().await;
    let mut client = raw(engine.address, PATH, &endless(true)).await;
    read_until(&mut client, "data: ").await;
    drop(client);
    let told = engine.journey().await;
    assert_eq!(told.api(), ["ARRIVED", "HANDOFF_TO_CORE", "FIRST_RESPONSE_FROM_CORE", "ABORTED"]);
    assert_eq!(told.end(), (Outcome::Aborted, Some(AbortReason::ClientDisconnect), Some(AbortPhase::Decode)));
    engine.load(0, 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_while_it_waits_for_the_whole_is_aborted() {
    let mut engine = Setup::slow(10_000, TICK).start().await;
    let client = raw(engine.address, PATH, &endless(false)).await;
    engine.load(1, 0).await;
    drop(client);
    let told = engine.journey().await;
    assert_eq!(told.end().1, Some(AbortReason::ClientDisconnect));
    assert_eq!(told.finished(), ["Finished(Aborted)"]);
    engine.load(0, 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_stops_reading_is_given_up() {
    let mut setup =
        Setup { script: sojourn_engine::backend::scripted::Script { length: 8000, ..Default::default() }, ..Setup::default() };
    setup.settings.client_stall_timeout = Duration::from_millis(300);
    setup.max_model_len = 16_000;
    let mut engine = setup.start().await;
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let mut client = socket.connect(engine.address).await.unwrap();
    client
        .write_all(&raw_post(PATH, &completion_body("x", json!({"max_tokens": 8000, "stream": true, "n": 2}))))
        .await
        .unwrap();
    let told = engine.journey().await;
    let (outcome, reason, _) = told.end();
    assert_eq!((outcome, reason), (Outcome::Aborted, Some(AbortReason::ClientStalled)));
    drop(client);
}

/// An answer of megabytes, and a client that has only looked at its first byte.
async fn half_delivered(setup: Setup) -> (super::engine::Engine, TcpStream) {
    let mut engine = setup.start().await;
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let mut client = socket.connect(engine.address).await.unwrap();
    let more = json!({"max_tokens": 400, "n": 8, "logprobs": 20, "ignore_eos": true});
    client.write_all(&raw_post(PATH, &completion_body("x", more))).await.unwrap();
    client.peek(&mut [0]).await.unwrap();
    engine.load(0, 0).await;
    engine.assert_no_journey();
    (engine, client)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_departs_when_the_kernel_has_all_of_it() {
    let (mut engine, mut client) = half_delivered(Setup::default()).await;
    let reading = tokio::spawn(async move { tokio::io::copy(&mut client, &mut tokio::io::sink()).await });
    let told = engine.journey().await;
    reading.abort();
    assert_eq!(told.end(), (Outcome::Ok, None, None));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_during_the_delivery_is_aborted_there() {
    let (mut engine, client) = half_delivered(Setup::default()).await;
    drop(client);
    let told = engine.journey().await;
    let reason = Some(AbortReason::ClientDisconnect);
    assert_eq!(told.end(), (Outcome::Aborted, reason, Some(AbortPhase::Delivery)));
    assert_eq!(told.finished(), ["Finished(Length)"; 8]);
    assert_eq!(told.attribute(attribute::HTTP_RESPONSE_STATUS_CODE).as_deref(), Some("200"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_stalls_during_the_delivery_is_aborted_there() {
    let mut setup = Setup::default();
    setup.settings.client_stall_timeout = Duration::from_millis(300);
    let (mut engine, _client) = half_delivered(setup).await;
    let told = engine.journey().await;
    assert_eq!(told.end(), (Outcome::Aborted, Some(AbortReason::ClientStalled), Some(AbortPhase::Delivery)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_upload_is_a_disconnect_and_no_wrong_request() {
    let mut engine = Setup::default().start().await;
    let mut client = TcpStream::connect(engine.address).await.unwrap();
    let head = format!("POST {PATH} HTTP/1.1\r\nhost: engine\r\ncontent-length: 1000\r\n\r\n{{\"prompt\": ");
    client.write_all(head.as_bytes()).await.unwrap();
    while engine.api.requests_in_flight() == 0 {
        tokio::task::yield_now().await;
    }
    drop(client);
    let told = engine.journey().await;
    assert_eq!(told.api(), ["ARRIVED", "ABORTED"]);
    assert_eq!(told.end(), (Outcome::Aborted, Some(AbortReason::ClientDisconnect), Some(AbortPhase::Api)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_beyond_its_time_is_an_error() {
    let mut setup = Setup::slow(10_000, TICK);
    setup.settings.request_timeout = Some(Duration::from_millis(200));
    let mut engine = setup.start().await;
    let answer = completion(engine.address, endless(false)).await;
    assert_eq!((answer.status.as_u16(), &answer.json()["error"]["code"]), (504, &json!("timeout")));
    let told = engine.journey().await;
    assert_eq!(told.end(), (Outcome::Error, Some(AbortReason::Timeout), Some(AbortPhase::Decode)));
    assert!(matches!(told.request.status, Status::Error(_)));

    let answer = completion(engine.address, endless(true)).await;
    assert_eq!(answer.status, 200);
    let last = answer.chunks().pop().unwrap();
    assert_eq!(last["error"]["code"], "timeout");
    let told = engine.journey().await;
    assert_eq!(told.end(), (Outcome::Error, Some(AbortReason::Timeout), Some(AbortPhase::Decode)));
    assert_eq!(last["error"]["trace_id"], told.context.trace_id_text());
    engine.load(0, 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_generation_is_an_error() {
    let mut engine = Setup::default().start().await;
    let answer = chat(engine.address, chat_body("[fail]", json!({}))).await;
    assert_eq!((answer.status.as_u16(), &answer.json()["error"]["type"]), (500, &json!("server_error")));
    let told = engine.journey().await;
    assert_eq!(told.api(), ["ARRIVED", "HANDOFF_TO_CORE", "ABORTED"]);
    let (outcome, reason, _) = told.end();
    assert_eq!((outcome, reason), (Outcome::Error, Some(AbortReason::GenerationError)));
    assert_eq!(told.finished(), ["Finished(Error)"]);

    let answer = chat(engine.address, chat_body("[fail]", json!({"stream": true}))).await;
    let chunks = answer.chunks();
    assert_eq!((answer.status.as_u16(), chunks.len(), &chunks[0]["error"]["code"]), (200, 1, &json!("generation_error")));
    assert_eq!(engine.journey().await.end().0, Outcome::Error);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pipelined_request_arrives_when_the_answer_before_it_has_left() {
    let mut engine = Setup::default().start().await;
    let request = raw_post(PATH, &completion_body("x", json!({"max_tokens": 2})));
    let mut client = TcpStream::connect(engine.address).await.unwrap();
    client.write_all(&request.repeat(2)).await.unwrap();
    let (first, second) = (engine.journey().await, engine.journey().await);
    assert_eq!(first.request.end_unix_nanos, second.request.start_unix_nanos);
    assert_eq!(second.end().0, Outcome::Ok);
}

async fn read_until(client: &mut TcpStream, text: &str) {
    let mut seen = Vec::new();
    while !seen.windows(text.len()).any(|window| window == text.as_bytes()) {
        let read = client.read_buf(&mut seen).await.unwrap();
        assert_ne!(read, 0, "the engine closed the connection");
    }
}
