//! Requests: right and wrong ones, as bytes.

use std::time::Duration;

use rand::RngExt;
use rand::rngs::StdRng;
use serde_json::{Value, json};
use sojourn_contract::journey::Parent;
use sojourn_contract::path;

use super::engine::{API_KEY, MAX_BODY_BYTES, MODEL};

/// One request.
pub struct Ask {
    /// Its `x-request-id`.
    pub id: String,
    /// Head and body.
    pub bytes: Vec<u8>,
    /// Length of the head.
    pub head: usize,
    /// What its journey must say of its caller.
    pub parent: Parent,
    /// It asks for nothing that changes the words of the scripted model; it may end them early.
    pub plain: bool,
}

/// Draws a request. `last` on its connection says so.
pub fn draw(dice: &mut StdRng, id: String, last: bool) -> Ask {
    let (parent, traceparent) = caller(dice);
    let path = *pick(dice, &[path::CHAT_COMPLETIONS, path::COMPLETIONS]);
    let body = if dice.random_bool(0.1) { wrong(dice, path) } else { right(dice, path).to_string() };
    let plain = !["ignore_eos", "min_tokens", "temperature", "response_format", "[say:"].iter().any(|word| body.contains(word));
    let mut head = format!("POST {path} HTTP/1.1\r\nhost: engine\r\nx-request-id: {id}\r\n");
    if !dice.random_bool(0.01) {
        head += &format!("authorization: Bearer {API_KEY}\r\n");
    }
    head += &traceparent;
    if last {
        head += "connection: close\r\n";
    }
    if dice.random_bool(0.03) {
        head += "expect: 100-continue\r\n";
    }
    let body = if dice.random_bool(0.1) {
        head += "transfer-encoding: chunked\r\n\r\n";
        chunked(dice, body.as_bytes())
    } else {
        head += &format!("content-length: {}\r\n\r\n", body.len());
        body.into_bytes()
    };
    Ask { id, head: head.len(), bytes: [head.into_bytes(), body].concat(), parent, plain }
}

/// A pause of up to so many milliseconds, mostly short.
pub fn pause(dice: &mut StdRng, most_ms: f64) -> Duration {
    let part: f64 = dice.random_range(0.0..1.0);
    Duration::from_secs_f64(part * part * most_ms / 1000.0)
}

pub fn pick<'a, T>(dice: &mut StdRng, of: &'a [T]) -> &'a T {
    &of[dice.random_range(0..of.len())]
}

/// A caller's context, as a header line.
fn caller(dice: &mut StdRng) -> (Parent, String) {
    let trace = dice.random_range(1..u128::MAX);
    let span = dice.random_range(1..u64::MAX);
    let line =
        |flags| format!("traceparent: 00-{trace:032x}-{span:016x}-{flags}\r\ntracestate: a=b,c=d\r\nbaggage: session.id=7\r\n");
    match dice.random_range(0..10) {
        0..4 => (Parent::None, String::new()),
        4 => (Parent::None, "traceparent: 00-wrong-01\r\n".to_owned()),
        5..8 => (Parent::Sampled, line("01")),
        _ => (Parent::Unsampled, line("00")),
    }
}

fn chunked(dice: &mut StdRng, body: &[u8]) -> Vec<u8> {
    let mut rest = body;
    let mut chunks = Vec::new();
    while !rest.is_empty() {
        let (chunk, after) = rest.split_at(dice.random_range(1..=rest.len()));
        chunks.extend(format!("{:x}\r\n", chunk.len()).into_bytes());
        chunks.extend(chunk);
        chunks.extend(b"\r\n");
        rest = after;
    }
    chunks.extend(b"0\r\n\r\n");
    chunks
}

/// A request that the engine can answer, unless it is unlucky.
fn right(dice: &mut StdRng, path: &str) -> Value {
    let mut body = json!({"max_tokens": max_tokens(dice), "stream": dice.random_bool(0.5)});
    if path == path::CHAT_COMPLETIONS {
        body["messages"] = json!([{"role": "user", "content": prompt(dice)}]);
    } else if dice.random_bool(0.1) {
        body["prompt"] = json!([prompt(dice), prompt(dice)]);
    } else {
        body["prompt"] = prompt(dice).into();
    }
    if dice.random_bool(0.2) {
        body["n"] = dice.random_range(1..=3).into();
    }
    if dice.random_bool(0.8) {
        body["priority"] = dice.random_range(-2..=2).into();
    }
    if dice.random_bool(0.2) {
        body["stop"] = pick(dice, &[json!("q"), json!(["fox", " "]), json!("e quick b"), json!("never")]).clone();
        body["include_stop_str_in_output"] = dice.random_bool(0.5).into();
    }
    if dice.random_bool(0.2) {
        body["ignore_eos"] = true.into();
    }
    if dice.random_bool(0.1) {
        body["min_tokens"] = dice.random_range(0..4).into();
    }
    if dice.random_bool(0.1) {
        let more = json!({"temperature": 0.7, "seed": 3, "repetition_penalty": 1.1, "top_p": 0.9, "logprobs": null});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    }
    if dice.random_bool(0.005) {
        body["response_format"] = json!({"type": "json_object"});
    }
    if body["stream"] == true && dice.random_bool(0.2) {
        body["stream_options"] = json!({"include_usage": true, "continuous_usage_stats": dice.random_bool(0.5)});
    }
    body
}

fn max_tokens(dice: &mut StdRng) -> u32 {
    match dice.random_range(0..20) {
        0 => 0,
        1..14 => dice.random_range(1..16),
        _ => dice.random_range(16..60),
    }
}

fn prompt(dice: &mut StdRng) -> String {
    let beginning = *pick(dice, &["", "once upon a time there was ", "é中🙂 "]);
    let length = if dice.random_bool(0.2) { dice.random_range(0..80) } else { dice.random_range(0..20) };
    let letters: String = (0..length).map(|_| *pick(dice, &['a', 'e', 'r', ' ', '.', 'ß'])).collect();
    let what = match dice.random_range(0..1000) {
        0..25 => "[fail]",
        25..35 => "[oom]",
        35..42 => "[panic]",
        42..60 => "[say:é🙂 and [more]]",
        _ => "x",
    };
    format!("{beginning}{letters}{what}")
}

/// A body that the engine must refuse.
fn wrong(dice: &mut StdRng, path: &str) -> String {
    let mut body = right(dice, path);
    match dice.random_range(0..8) {
        0 => return "{\"messages\": [".to_owned(),
        1 => return " ".repeat(MAX_BODY_BYTES + 1),
        2 => body["model"] = "another".into(),
        3 => body["temperature"] = (-1).into(),
        4 => body["max_tokens"] = 1_000_000.into(),
        5 => body["n"] = 0.into(),
        6 => body["audio"] = json!({}),
        _ => {
            body["model"] = MODEL.into();
            body["messages"] = json!([]);
            body["prompt"] = Value::Null;
        }
    }
    body.to_string()
}
