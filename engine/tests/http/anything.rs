//! Whatever is sent, the engine answers: soon, without a failure of its own, and with an error that says what is wrong.

use std::cell::Cell;
use std::net::SocketAddr;

use http::Method;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError, TestRunner};
use serde_json::Value;

use super::client::{Answer, Client};
use super::engine::{SOON, Setup};

/// Every field that some route looks at, and one that none does.
const FIELDS: [&str; 47] = [
    "messages",
    "prompt",
    "tokens",
    "model",
    "max_tokens",
    "max_completion_tokens",
    "min_tokens",
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "presence_penalty",
    "frequency_penalty",
    "repetition_penalty",
    "seed",
    "logit_bias",
    "logprobs",
    "top_logprobs",
    "n",
    "stop",
    "stop_token_ids",
    "ignore_eos",
    "stream",
    "stream_options",
    "priority",
    "echo",
    "suffix",
    "add_special_tokens",
    "add_generation_prompt",
    "continue_final_message",
    "chat_template_kwargs",
    "skip_special_tokens",
    "spaces_between_special_tokens",
    "include_stop_str_in_output",
    "return_token_strs",
    "best_of",
    "tools",
    "tool_choice",
    "functions",
    "response_format",
    "modalities",
    "documents",
    "truncate_prompt_tokens",
    "chat_template",
    "user",
    "metadata",
    "nobody",
];
const PATHS: [&str; 12] = [
    "/v1/chat/completions",
    "/v1/completions",
    "/tokenize",
    "/detokenize",
    "/v1/models",
    "/v1/models/scripted",
    "/v1/models/a%20b/%ff",
    "/health",
    "/ping",
    "/ready",
    "/version",
    "/metrics",
];

/// A request, its body as bytes.
#[derive(Debug, Clone)]
struct Sent {
    method: Method,
    path: String,
    headers: Vec<(&'static str, String)>,
    body: Vec<u8>,
}

/// JSON as text, for what a JSON value cannot hold: numbers out of range, lone surrogates, keys twice, depth.
fn json() -> impl Strategy<Value = String> {
    let text = prop_oneof![
        any::<String>().prop_map(|text| Value::from(text).to_string()),
        Just(Value::from("\u{0}\u{1b}\u{7f}\u{202e}\u{feff}\u{ffff}").to_string()),
        prop::sample::select(vec![r#""""#, r#""\ud800""#, r#""\u0000""#, r#""user""#, r#""text""#]).prop_map(str::to_owned),
        (0usize..5000).prop_map(|length| format!("\"{}\"", "long ".repeat(length))),
    ];
    let number = prop::sample::select(vec![
        "0",
        "1",
        "2",
        "-1",
        "20",
        "256",
        "257",
        "258",
        "1000000",
        "4294967296",
        "9223372036854775808",
        "-9223372036854775808",
        "18446744073709551616",
        "0.5",
        "1.0",
        "-0.0",
        "1e-46",
        "1e-400",
        "1e308",
        "1e400",
        "12e",
        "007",
    ]);
    let leaf = prop_oneof![
        3 => prop::sample::select(vec!["null", "true", "false", "[]", "{}", "nan", "'a'"]).prop_map(str::to_owned),
        3 => number.prop_map(str::to_owned),
        3 => text,
        1 => prop::sample::select(vec![10usize, 127, 128, 200, 5000]).prop_map(|n| "[".repeat(n) + &"]".repeat(n)),
    ];
    let key = prop::sample::select(vec!["role", "content", "type", "text", "include_usage", "257", "65", "name", ""]);
    leaf.prop_recursive(4, 24, 5, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(|list| format!("[{}]", list.join(","))),
            prop::collection::vec((key.clone(), inner), 0..5).prop_map(|fields| object(&fields)),
        ]
    })
}

fn object(fields: &[(&str, String)]) -> String {
    let fields: Vec<String> = fields.iter().map(|(name, value)| format!("{}:{value}", Value::from(*name))).collect();
    format!("{{{}}}", fields.join(","))
}

/// A body that some route takes, with a few fields replaced, added or written twice, and perhaps broken as a whole.
fn body() -> impl Strategy<Value = Vec<u8>> {
    let valid = prop::sample::select(vec![
        vec![("messages", r#"[{"role":"user","content":"hi"}]"#), ("max_tokens", "3")],
        vec![("messages", r#"[{"role":"user","content":[{"type":"text","text":"hi"}]}]"#), ("stream", "true")],
        vec![("prompt", r#""once""#), ("max_tokens", "3"), ("logprobs", "2")],
        vec![("prompt", r#"["once",[65,66]]"#), ("n", "2"), ("max_tokens", "2"), ("stream", "true")],
        vec![("tokens", "[65,66]")],
    ]);
    let changes = prop::collection::vec((prop::sample::select(FIELDS.to_vec()), json(), any::<bool>()), 0..4);
    let whole = (valid, changes).prop_map(|(valid, changes)| {
        let mut fields: Vec<(&str, String)> = valid.into_iter().map(|(name, value)| (name, value.to_owned())).collect();
        for (name, value, twice) in changes {
            if !twice {
                fields.retain(|(other, _)| *other != name);
            }
            fields.push((name, value));
        }
        object(&fields).into_bytes()
    });
    let whole = whole.boxed();
    prop_oneof![
        6 => whole.clone(),
        1 => (whole.clone(), any::<prop::sample::Index>()).prop_map(|(whole, at)| whole[..at.index(whole.len())].to_vec()),
        1 => (whole, any::<prop::sample::Index>(), any::<u8>()).prop_map(|(mut whole, at, byte)| {
            let at = at.index(whole.len());
            whole[at] = byte;
            whole
        }),
        1 => json().prop_map(String::into_bytes),
        1 => prop::collection::vec(any::<u8>(), 0..100),
    ]
}

fn sent() -> impl Strategy<Value = Sent> {
    let method = prop_oneof![
        8 => Just("POST"),
        2 => prop::sample::select(vec!["GET", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "BREW"]),
    ];
    let path = prop_oneof![
        8 => prop::sample::select(PATHS[..4].to_vec()).prop_map(str::to_owned),
        2 => prop::sample::select(PATHS.to_vec()).prop_map(str::to_owned),
        1 => "/[a-z0-9/_.%-]{0,40}(\\?[a-z=&%]{0,10})?",
    ];
    let kinds = ["application/json", "text/plain", "application/x-www-form-urlencoded", "nonsense", "multipart/form-data"];
    let headers = (prop::sample::select(kinds.to_vec()), "[ -~]{0,20}", 0usize..30_000).prop_map(|(kind, odd, length)| {
        let traceparent = ("traceparent", odd.trim().to_owned());
        vec![("content-type", kind.to_owned()), traceparent, ("x-request-id", odd), ("x-large", "x".repeat(length))]
    });
    (method, path, headers, body()).prop_map(|(method, path, headers, body)| Sent {
        method: method.parse().unwrap(),
        path,
        headers,
        body,
    })
}

async fn send(address: SocketAddr, sent: Sent) -> Result<Answer, TestCaseError> {
    let headers: Vec<(&str, &str)> = sent.headers.iter().map(|(name, value)| (*name, value.trim())).collect();
    let answer = async { Client::connect(address).await.send(sent.method, &sent.path, &headers, sent.body).await };
    tokio::time::timeout(SOON, answer).await.map_err(|_| TestCaseError::fail("no answer"))
}

/// An answer is an answer, and an error is one that helps.
fn judge(method: &Method, answer: &Answer) -> Result<(), TestCaseError> {
    prop_assert!(answer.status.as_u16() < 500, "{answer:?}");
    prop_assert!(answer.header("x-request-id").is_some());
    if method == Method::HEAD {
        prop_assert!(answer.body.is_empty());
        return Ok(());
    }
    if answer.status.is_client_error() {
        let error = &answer.json()["error"];
        let message = error["message"].as_str().unwrap_or_default();
        prop_assert!(message.len() > 10 && error["type"].is_string() && error["code"].is_string(), "{error}");
        if let Some(param) = error["param"].as_str() {
            prop_assert!(message.contains(param), "{message:?} does not name {param:?}");
        }
    } else if answer.header("content-type").is_some_and(|kind| kind.starts_with("text/event-stream")) {
        prop_assert!(answer.chunks().iter().all(|chunk| chunk.get("error").is_none()), "{answer:?}");
    }
    Ok(())
}

#[test]
fn whatever_is_sent_is_answered() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let mut engine = runtime.block_on(Setup { max_model_len: 256, ..Setup::default() }.start());
    let journeys = Cell::new(0);
    let config = Config { cases: 500, failure_persistence: None, ..Config::default() };
    let result = TestRunner::new(config).run(&sent(), |sent| {
        let method = sent.method.clone();
        let path = sent.path.split('?').next().unwrap_or_default();
        if method == Method::POST && PATHS[..2].contains(&path) {
            journeys.set(journeys.get() + 1);
        }
        let answer = runtime.block_on(send(engine.address, sent))?;
        judge(&method, &answer)
    });
    assert!(result.is_ok(), "{}", result.unwrap_err());
    runtime.block_on(async {
        engine.load(0, 0).await;
        // Each of them is checked for legality.
        for _ in 0..journeys.get() {
            engine.journey().await;
        }
    });
    engine.assert_no_journey();
}
