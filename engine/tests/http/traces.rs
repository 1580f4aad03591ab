//! Ids that come in and go out.

use std::time::Duration;

use http::Method;
use serde_json::json;
use sojourn_contract::journey::Parent;
use sojourn_engine::telemetry::environment::Environment;
use sojourn_engine::telemetry::propagation::Propagators;

use super::client::{chat, chat_body, completion_body, raw, send};
use super::engine::Setup;

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

async fn ask(engine: &super::engine::Engine, headers: &[(&str, &str)]) -> super::client::Answer {
    let body = chat_body("hi", json!({"max_tokens": 1})).to_string();
    send(engine.address, Method::POST, "/v1/chat/completions", headers, &body).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_callers_trace_goes_on() {
    let mut engine = Setup::default().start().await;
    let parent = format!("00-{TRACE}-00f067aa0ba902b7-01");
    let answer = ask(&engine, &[("traceparent", &parent), ("tracestate", "ot=th:8"), ("x-request-id", "order-7")]).await;
    let told = engine.journey().await;
    assert_eq!(told.context.trace_id_text(), TRACE);
    assert_eq!(told.request.parent_span_id, Some(0x00f0_67aa_0ba9_02b7));
    assert_eq!(told.request.trace_state, "ot=th:8");
    assert_eq!(told.journey.parent, Parent::Sampled);
    assert_eq!(answer.header("x-request-id"), Some("order-7"));
    assert_eq!(told.attribute("journey.request_id").as_deref(), Some("order-7"));
    assert_eq!(told.attribute("gen_ai.response.id").as_deref(), Some("chatcmpl-order-7"));
    assert_eq!(answer.json()["id"], "chatcmpl-order-7", "who has kept an answer finds its journey");
    let expected = format!("00-{TRACE}-{:016x}-01", told.request.span_id);
    assert_eq!(answer.header("traceresponse"), Some(expected.as_str()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_callers_baggage_is_on_its_journey_where_it_was_asked_for() {
    let mut engine = Setup::default().start().await;
    ask(&engine, &[("baggage", "session.id=s%201;p=q,user=somebody")]).await;
    let told = engine.journey().await;
    assert_eq!(told.attribute("session.id").as_deref(), Some("s 1"));
    assert_eq!(told.attribute("user"), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unsampled_caller_gets_its_trace_back_unsampled() {
    let mut engine = Setup::default().start().await;
    let parent = format!("00-{TRACE}-00f067aa0ba902b7-00");
    let answer = ask(&engine, &[("traceparent", &parent)]).await;
    let told = engine.journey().await;
    assert_eq!(told.journey.parent, Parent::Unsampled);
    let expected = format!("00-{TRACE}-{:016x}-00", told.request.span_id);
    assert_eq!(answer.header("traceresponse"), Some(expected.as_str()));
}

/// Requests that are answered in every way that there is, each with the status that it gets.
const ANSWERS: [(u16, &str, &str, &str); 9] = [
    (200, "POST", "/v1/completions", r#"{"prompt": "x", "max_tokens": 1}"#),
    (
        200,
        "POST",
        "/v1/chat/completions",
        r#"{"messages": [{"role": "user", "content": "x"}], "max_tokens": 1, "stream": true}"#,
    ),
    (400, "POST", "/v1/completions", "{"),
    (404, "POST", "/v1/completions", r#"{"prompt": "x", "model": "nobody"}"#),
    (500, "POST", "/v1/completions", r#"{"prompt": "[fail]"}"#),
    (200, "GET", "/v1/models", ""),
    (400, "POST", "/tokenize", "{"),
    (404, "POST", "/v1/embeddings", "{}"),
    (405, "GET", "/v1/chat/completions", ""),
];

/// Of [`ANSWERS`], how many are to requests that make a journey; they come first.
const JOURNEYS: usize = 5;

#[tokio::test(flavor = "multi_thread")]
async fn every_answer_leads_to_its_trace() {
    let mut engine = Setup::default().start().await;
    for (index, (status, method, path, body)) in ANSWERS.into_iter().enumerate() {
        for flag in ["01", "00"] {
            let id = format!("order-{index}-{flag}");
            let parent = format!("00-{TRACE}-00f067aa0ba902b7-{flag}");
            let headers = [("traceparent", parent.as_str()), ("x-request-id", id.as_str())];
            let answer = send(engine.address, method.parse().unwrap(), path, &headers, body).await;
            assert_eq!((answer.status.as_u16(), answer.header("x-request-id")), (status, Some(id.as_str())), "{method} {path}");
            let traceresponse: Vec<&str> = answer.header("traceresponse").unwrap().split('-').collect();
            assert_eq!(traceresponse[..2], ["00", TRACE], "{method} {path}");
            if status >= 400 {
                let error = &answer.json()["error"];
                assert_eq!((&error["request_id"], &error["trace_id"]), (&json!(id), &json!(TRACE)), "{method} {path}");
            }
            if index < JOURNEYS {
                let told = engine.journey().await;
                assert_eq!(traceresponse[2..], [format!("{:016x}", told.request.span_id).as_str(), flag], "{method} {path}");
            } else {
                // Nothing of ours is in the caller's trace, and the flag says so.
                assert_eq!(traceresponse[3], "00", "{method} {path}");
                engine.assert_no_journey();
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_in_no_trace_is_told_of_none() {
    let mut engine = Setup::default().start().await;
    let answer = send(engine.address, Method::GET, "/v1/models", &[], "").await;
    assert_eq!((answer.header("x-request-id").map(str::len), answer.header("traceresponse")), (Some(32), None));
    engine.assert_no_journey();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_queues_answer_leads_to_its_trace() {
    let mut setup = Setup::slow(10_000, Duration::from_millis(1)).one_at_a_time();
    setup.limits.max_queue_size = 1;
    let mut engine = setup.start().await;
    let body = completion_body("x", json!({"max_tokens": 5000, "stream": true}));
    let _running = raw(engine.address, "/v1/completions", &body).await;
    engine.load(1, 0).await;
    let _waiting = raw(engine.address, "/v1/completions", &body).await;
    engine.load(1, 1).await;
    let parent = format!("00-{TRACE}-00f067aa0ba902b7-00");
    let headers = [("traceparent", parent.as_str()), ("x-request-id", "order-7")];
    let answer = send(engine.address, Method::POST, "/v1/completions", &headers, &body.to_string()).await;
    let told = engine.journey().await;
    assert_eq!((answer.status.as_u16(), answer.header("x-request-id")), (429, Some("order-7")));
    let expected = format!("00-{TRACE}-{:016x}-00", told.request.span_id);
    assert_eq!(answer.header("traceresponse"), Some(expected.as_str()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_parent_is_ignored() {
    let mut engine = Setup::default().start().await;
    ask(&engine, &[("traceparent", "00-nonsense-01")]).await;
    let told = engine.journey().await;
    assert_eq!((told.journey.parent, told.request.parent_span_id), (Parent::None, None));
}

#[tokio::test(flavor = "multi_thread")]
async fn without_tracing_there_are_no_journeys_and_still_an_id() {
    let mut engine = Setup { tracing: false, ..Setup::default() }.start().await;
    let answer = chat(engine.address, chat_body("hi", json!({"max_tokens": 1}))).await;
    assert_eq!((answer.status.as_u16(), answer.header("traceresponse")), (200, None));
    assert_eq!(answer.header("x-request-id").map(str::len), Some(32));
    engine.assert_no_journey();
}

async fn engine_that_reads(propagators: &str) -> super::engine::Engine {
    let lookup = |name: &str| (name == "OTEL_PROPAGATORS").then(|| propagators.to_owned());
    let propagators = Propagators::read(&Environment::new(&lookup));
    Setup { propagators, ..Setup::default() }.start().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_that_writes_b3_keeps_its_trace() {
    let mut engine = engine_that_reads("b3").await;
    let single = format!("{TRACE}-00f067aa0ba902b7-1");
    let several = [("x-b3-traceid", TRACE), ("x-b3-spanid", "00f067aa0ba902b7"), ("x-b3-sampled", "1")];
    for headers in [[("b3", single.as_str())].as_slice(), &several] {
        let answer = ask(&engine, headers).await;
        let told = engine.journey().await;
        assert_eq!((told.context.trace_id_text().as_str(), told.journey.parent), (TRACE, Parent::Sampled));
        assert_eq!(told.request.parent_span_id, Some(0x00f0_67aa_0ba9_02b7));
        let expected = format!("00-{TRACE}-{:016x}-01", told.request.span_id);
        assert_eq!(answer.header("traceresponse"), Some(expected.as_str()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unsampled_caller_that_writes_b3_gets_its_trace_back_unsampled() {
    let mut engine = engine_that_reads("tracecontext,b3").await;
    let answer = ask(&engine, &[("b3", &format!("{}-00f067aa0ba902b7-0", &TRACE[16..]))]).await;
    let told = engine.journey().await;
    assert_eq!(told.journey.parent, Parent::Unsampled);
    let expected = format!("00-{:0>32}-{:016x}-00", &TRACE[16..], told.request.span_id);
    assert_eq!(answer.header("traceresponse"), Some(expected.as_str()));
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_that_are_not_asked_for_are_not_read() {
    let mut engine = engine_that_reads("none").await;
    ask(&engine, &[("traceparent", &format!("00-{TRACE}-00f067aa0ba902b7-01")), ("baggage", "session.id=s")]).await;
    let told = engine.journey().await;
    assert_eq!((told.journey.parent, told.request.parent_span_id), (Parent::None, None));
    assert_eq!(told.attribute("session.id"), None);
}
