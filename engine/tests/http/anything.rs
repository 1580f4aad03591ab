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
const FIELDS: &str = "messages prompt tokens model max_tokens max_completion_tokens min_tokens temperature top_p top_k min_p \
    presence_penalty frequency_penalty repetition_penalty seed logit_bias logprobs top_logprobs n stop stop_token_ids ignore_eos \
    stream stream_options priority echo suffix add_special_tokens add_generation_prompt continue_final_message \
    chat_template_kwargs skip_special_tokens spaces_between_special_tokens include_stop_str_in_output return_token_strs best_of \
    tools tool_choice functions response_format modalities documents truncate_prompt_tokens chat_template user metadata nobody";
/// Every route, and some that are none.
const PATHS: &str = "/v1/chat/completions /v1/completions /tokenize /detokenize /v1/models /v1/models/scripted \
    /v1/models/a%20b/%ff /health /ping /ready /version /metrics /v1/embeddings /";
/// Requests that are answered, before something in them is changed.
const VALID: [(&str, &[(&str, &str)]); 7] = [
    ("/v1/chat/completions", &[("messages", r#"[{"role":"user","content":"hi"}]"#), ("max_tokens", "3")]),
    (
        "/v1/chat/completions",
        &[("messages", r#"[{"role":"user","content":[{"type":"text","text":"hi"}]}]"#), ("stream", "true")],
    ),
    ("/v1/completions", &[("prompt", r#""once""#), ("max_tokens", "3"), ("logprobs", "2")]),
    ("/v1/completions", &[("prompt", r#"["once",[65,66]]"#), ("n", "2"), ("max_tokens", "2"), ("stream", "true")]),
    ("/tokenize", &[("prompt", r#""once""#)]),
    ("/tokenize", &[("messages", r#"[{"role":"user","content":"hi"},{"role":"assistant","content":"ho"}]"#)]),
    ("/detokenize", &[("tokens", "[65,66]")]),
];

/// A request, its body as bytes.
#[derive(Debug, Clone)]
struct Sent {
    method: Method,
    path: String,
    headers: Vec<(&'static str, String)>,
    body: Vec<u8>,
}

/// JSON as text, for what a JSON value cannot hold: numbers out of range, lone surrogates, keys twice, depth; now and then
/// it is not JSON at all.
fn json() -> impl Strategy<Value = String> {
    let one_of = |words: &'static str| prop::sample::select(words.split(' ').collect::<Vec<_>>()).prop_map(str::to_owned);
    let text = prop_oneof![
        4 => one_of(r#""" "\u0000" "user" "text" "once" "</s>" "auto""#),
        4 => any::<String>().prop_map(|text| Value::from(text).to_string()),
        1 => Just(Value::from("\u{0}\u{1b}\u{7f}\u{202e}\u{feff}\u{ffff}").to_string()),
        1 => (0usize..5000).prop_map(|length| format!("\"{}\"", "long ".repeat(length))),
    ];
    let number = one_of(
        "0 1 2 -1 20 65 256 257 258 1000000 4294967295 4294967296 9223372036854775808 -9223372036854775808 \
         18446744073709551616 0.5 1.0 -0.0 1.5 2.5 1e-46 1e-400 1e308",
    );
    let leaf = prop_oneof![
        20 => one_of("null true false [] {}"),
        20 => number,
        20 => text,
        1 => one_of(r#"nan 'a' 12e 007 1e400 "\ud800" "\x" tru"#),
        1 => prop::sample::select(vec![10usize, 126, 127, 128, 5000]).prop_map(|n| "[".repeat(n) + &"]".repeat(n)),
    ];
    let key = prop::sample::select(vec!["role", "content", "type", "text", "include_usage", "257", "65", "name", ""]);
    leaf.prop_recursive(4, 16, 5, move |inner| {
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

/// A path and a body for it: a valid one with a few fields replaced, added or written twice, perhaps broken as a whole, or
/// something else altogether.
fn path_and_body() -> impl Strategy<Value = (String, Vec<u8>)> {
    let fields: Vec<&str> = FIELDS.split_whitespace().collect();
    let changes = prop::collection::vec((prop::sample::select(fields), json(), any::<bool>()), 0..4);
    let changed = (prop::sample::select(VALID.to_vec()), changes).prop_map(|((path, valid), changes)| {
        let mut fields: Vec<(&str, String)> = valid.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
        for (name, value, twice) in changes {
            if !twice {
                fields.retain(|(other, _)| *other != name);
            }
            fields.push((name, value));
        }
        (path.to_owned(), object(&fields).into_bytes())
    });
    let changed = changed.boxed();
    let index = any::<prop::sample::Index>;
    let truncated = (changed.clone(), index()).prop_map(|((path, body), at)| (path, body[..at.index(body.len())].to_vec()));
    let damaged = (changed.clone(), index(), any::<u8>()).prop_map(|((path, mut body), at, byte)| {
        let at = at.index(body.len());
        body[at] = byte;
        (path, body)
    });
    let paths: Vec<&str> = PATHS.split_whitespace().collect();
    let path = prop_oneof![prop::sample::select(paths).prop_map(str::to_owned), "/[a-z0-9/_.%-]{0,40}(\\?[a-z=&%]{0,10})?",];
    let body = prop_oneof![json().prop_map(String::into_bytes), prop::collection::vec(any::<u8>(), 0..100)];
    prop_oneof![14 => changed, 1 => truncated, 1 => damaged, 4 => (path, body)]
}

fn sent() -> impl Strategy<Value = Sent> {
    let method = prop_oneof![
        8 => Just("POST"),
        1 => prop::sample::select(vec!["GET", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "BREW"]),
    ];
    let kinds = ["application/json", "text/plain", "application/x-www-form-urlencoded", "nonsense", "multipart/form-data"];
    let headers = (prop::sample::select(kinds.to_vec()), "[ -~]{0,20}", 0usize..30_000).prop_map(|(kind, odd, length)| {
        let traceparent = ("traceparent", odd.trim().to_owned());
        vec![("content-type", kind.to_owned()), traceparent, ("x-request-id", odd), ("x-large", "x".repeat(length))]
    });
    (method, path_and_body(), headers).prop_map(|(method, (path, body), headers)| Sent {
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
    } else if answer.status == 200 && answer.header("content-type").is_some_and(|kind| kind.starts_with("text/event-stream")) {
        prop_assert!(answer.chunks().iter().all(|chunk| chunk.get("error").is_none()), "{answer:?}");
    }
    Ok(())
}

#[test]
fn whatever_is_sent_is_answered() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let mut engine = runtime.block_on(Setup { max_model_len: 256, ..Setup::default() }.start());
    let journeys = Cell::new(0);
    let config = Config { cases: 1000, failure_persistence: None, ..Config::default() };
    let result = TestRunner::new(config).run(&sent(), |sent| {
        let method = sent.method.clone();
        let path = sent.path.split('?').next().unwrap_or_default();
        if method == Method::POST && ["/v1/chat/completions", "/v1/completions"].contains(&path) {
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
