//! What a client gets that asks for something sensible.

use serde_json::{Value, json};
use sojourn_contract::attribute;
use sojourn_contract::journey::Outcome;
use sojourn_engine::model::generation_config::GenerationConfig;

use super::client::{Client, chat, chat_body, completion, completion_body};
use super::engine::Setup;

/// What the scripted model says in 20 tokens.
const TEXT: &str = "The quick brown fox ";
const ALL: [&str; 4] = ["ARRIVED", "HANDOFF_TO_CORE", "FIRST_RESPONSE_FROM_CORE", "DEPARTED"];

#[tokio::test(flavor = "multi_thread")]
async fn a_chat_is_answered() {
    let mut engine = Setup::default().start().await;
    let answer = chat(engine.address, chat_body("hi", json!({"temperature": 0, "seed": 7}))).await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("content-type"), Some("application/json"));
    let body = answer.json();
    assert_eq!(body["object"], "chat.completion");
    assert_eq!(body["model"], "scripted");
    let choice = json!({
        "index": 0, "message": {"role": "assistant", "content": TEXT}, "logprobs": null, "finish_reason": "stop",
    });
    assert_eq!(body["choices"], json!([choice]));
    let told = engine.journey().await;
    assert_eq!(told.api(), ALL);
    assert_eq!(told.finished(), ["Finished(Stopped)"]);
    assert_eq!(told.end(), (Outcome::Ok, None, None));
    // 20 characters and the end-of-sequence token.
    assert_eq!(body["usage"]["completion_tokens"], 21);
    let expected = [
        (attribute::OPERATION_NAME, "chat"),
        (attribute::REQUEST_MODEL, "scripted"),
        (attribute::RESPONSE_ID, body["id"].as_str().unwrap()),
        (attribute::RESPONSE_FINISH_REASONS, "stop"),
        (attribute::USAGE_INPUT_TOKENS, &body["usage"]["prompt_tokens"].to_string()),
        (attribute::USAGE_OUTPUT_TOKENS, "21"),
        (attribute::REQUEST_TEMPERATURE, "0"),
        (attribute::REQUEST_SEED, "7"),
        (attribute::HTTP_RESPONSE_STATUS_CODE, "200"),
        (attribute::HTTP_ROUTE, "/v1/chat/completions"),
    ];
    for (name, value) in expected {
        assert_eq!(told.attribute(name).as_deref(), Some(value), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_streamed_chat_says_the_same() {
    let mut engine = Setup::default().start().await;
    let more = json!({"stream": true, "stream_options": {"include_usage": true}});
    let answer = chat(engine.address, chat_body("hi", more)).await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("content-type"), Some("text/event-stream; charset=utf-8"));
    let mut chunks = answer.chunks();
    let usage = chunks.pop().unwrap();
    assert_eq!((&usage["choices"], &usage["usage"]["completion_tokens"]), (&json!([]), &json!(21)));
    assert!(chunks.iter().all(|chunk| chunk["object"] == "chat.completion.chunk" && chunk["id"] == usage["id"]));
    assert_eq!(chunks[0]["choices"][0]["delta"]["role"], "assistant");
    let text: String = chunks.iter().filter_map(|chunk| chunk["choices"][0]["delta"]["content"].as_str()).collect();
    assert_eq!(text, TEXT);
    let reasons: Vec<&Value> = chunks.iter().map(|chunk| &chunk["choices"][0]["finish_reason"]).collect();
    assert_eq!(reasons.iter().filter(|reason| !reason.is_null()).collect::<Vec<_>>(), [&&json!("stop")]);
    assert_eq!(reasons.last(), Some(&&json!("stop")));
    let told = engine.journey().await;
    assert_eq!(told.api(), ALL);
    assert_eq!(told.attribute(attribute::USAGE_OUTPUT_TOKENS).as_deref(), Some("21"));
    assert_eq!(told.attribute(attribute::REQUEST_STREAM).as_deref(), Some("true"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_completion_is_cut_at_its_limit_and_its_stop_strings() {
    let engine = Setup::default().start().await;
    let text = async |more: Value| {
        let answer = completion(engine.address, completion_body("x", more)).await.json();
        (answer["choices"][0]["text"].clone(), answer["choices"][0]["finish_reason"].clone())
    };
    assert_eq!(text(json!({"max_tokens": 3})).await, (json!("The"), json!("length")));
    assert_eq!(text(json!({})).await, (json!(&TEXT[..16]), json!("length")));
    assert_eq!(text(json!({"stop": ["brown", "zebra"]})).await, (json!("The quick "), json!("stop")));
    assert_eq!(text(json!({"stop_token_ids": [u32::from(b'q')]})).await, (json!("The "), json!("stop")));
    assert_eq!(text(json!({"echo": true, "max_tokens": 3})).await, (json!("xThe"), json!("length")));
    assert_eq!(text(json!({"max_tokens": 0})).await, (json!(""), json!("length")));
    let included = json!({"stop": "brown", "include_stop_str_in_output": true});
    assert_eq!(text(included).await, (json!("The quick brown"), json!("stop")));
    let included = json!({"stop_token_ids": [u32::from(b'q')], "include_stop_str_in_output": true});
    assert_eq!(text(included).await, (json!("The q"), json!("stop")));
    let shown = json!({"include_stop_str_in_output": true, "skip_special_tokens": false, "max_tokens": 40});
    assert_eq!(text(shown).await, (json!(format!("{TEXT}<|end|>")), json!("stop")));
    let held = json!({"stop": "quick", "min_tokens": 10, "max_tokens": 12});
    assert_eq!(text(held).await, (json!("The quick br"), json!("length")));
    let ignored = text(json!({"ignore_eos": true, "max_tokens": 40})).await.0;
    assert!(ignored.as_str().unwrap().len() > 20, "{ignored}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_streamed_completion_holds_back_what_may_be_a_stop_string() {
    let engine = Setup::default().start().await;
    let more = json!({"stream": true, "stop": "brown", "max_tokens": 20});
    let chunks = completion(engine.address, completion_body("x", more)).await.chunks();
    let text: String = chunks.iter().map(|chunk| chunk["choices"][0]["text"].as_str().unwrap()).collect();
    assert_eq!(text, "The quick ");
    assert!(chunks.iter().all(|chunk| chunk["object"] == "text_completion"));
}

#[tokio::test(flavor = "multi_thread")]
async fn several_choices_are_one_journey_with_a_span_each() {
    let mut engine = Setup::default().start().await;
    let answer = chat(engine.address, chat_body("hi", json!({"n": 3, "max_tokens": 5}))).await.json();
    let choices = answer["choices"].as_array().unwrap();
    assert_eq!(choices.iter().map(|choice| &choice["index"]).collect::<Vec<_>>(), [0, 1, 2]);
    assert!(choices.iter().all(|choice| choice["message"]["content"] == "The q"));
    assert_eq!(answer["usage"]["completion_tokens"], 15);
    let told = engine.journey().await;
    assert_eq!(told.finished(), ["Finished(Length)"; 3]);
    assert_eq!(told.attribute(attribute::REQUEST_CHOICE_COUNT).as_deref(), Some("3"));
    assert_eq!(told.attribute(attribute::RESPONSE_FINISH_REASONS).as_deref(), Some("length, length, length"));
}

#[tokio::test(flavor = "multi_thread")]
async fn several_prompts_are_one_journey_and_each_has_its_choices() {
    let mut engine = Setup::default().start().await;
    let body = json!({"prompt": ["a", [98, 98], "c"], "n": 2, "echo": true, "max_tokens": 3});
    let answer = completion(engine.address, body.clone()).await.json();
    let choices = answer["choices"].as_array().unwrap();
    assert_eq!(choices.iter().map(|choice| &choice["index"]).collect::<Vec<_>>(), [0, 1, 2, 3, 4, 5]);
    let texts = ["aThe", "aThe", "bbThe", "bbThe", "cThe", "cThe"];
    assert_eq!(choices.iter().map(|choice| &choice["text"]).collect::<Vec<_>>(), texts);
    assert_eq!((&answer["usage"]["prompt_tokens"], &answer["usage"]["completion_tokens"]), (&json!(4), &json!(18)));
    let told = engine.journey().await;
    assert_eq!(told.finished(), ["Finished(Length)"; 6]);
    assert_eq!(told.attribute(attribute::USAGE_INPUT_TOKENS).as_deref(), Some("4"));

    let mut streamed = body;
    streamed["stream"] = json!(true);
    let mut told = vec![String::new(); 6];
    for chunk in completion(engine.address, streamed).await.chunks() {
        let choice = &chunk["choices"][0];
        told[choice["index"].as_u64().unwrap() as usize].push_str(choice["text"].as_str().unwrap());
    }
    assert_eq!(told, texts);
}

#[tokio::test(flavor = "multi_thread")]
async fn usage_in_every_chunk_is_the_usage_so_far() {
    let engine = Setup::default().start().await;
    let options = json!({"include_usage": true, "continuous_usage_stats": true});
    let more = json!({"stream": true, "stream_options": options, "max_tokens": 5});
    let chunks = completion(engine.address, completion_body("x", more)).await.chunks();
    let counts: Vec<u64> = chunks.iter().map(|chunk| chunk["usage"]["completion_tokens"].as_u64().unwrap()).collect();
    assert!(counts.is_sorted() && counts[0] >= 1 && counts.last() == Some(&5), "{counts:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_generation_configuration_is_the_default_and_limits_the_length() {
    let eos = vec![u32::from(b'q')];
    let generation = GenerationConfig { max_new_tokens: Some(6), eos_token_ids: eos, ..GenerationConfig::default() };
    let engine = Setup { generation, ..Setup::default() }.start().await;
    let text = async |more: Value| {
        let choice = &chat(engine.address, chat_body("hi", more)).await.json()["choices"][0];
        (choice["message"]["content"].clone(), choice["finish_reason"].clone())
    };
    assert_eq!(text(json!({})).await, (json!("The "), json!("stop")));
    assert_eq!(text(json!({"ignore_eos": true, "max_tokens": 100})).await, (json!("The qu"), json!("length")));
    assert_eq!(text(json!({"max_tokens": 2})).await, (json!("Th"), json!("length")));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_message_can_be_continued() {
    let engine = Setup::default().start().await;
    let messages = json!([{"role": "user", "content": "hi"}, {"role": "assistant", "content": "The qui"}]);
    let answer = chat(engine.address, json!({"messages": messages, "continue_final_message": true, "max_tokens": 8})).await;
    assert_eq!(answer.json()["choices"][0]["message"]["content"], "ck brown");
}

#[tokio::test(flavor = "multi_thread")]
async fn log_probabilities_are_reported_in_each_apis_own_form() {
    let engine = Setup::default().start().await;
    let more = json!({"logprobs": true, "top_logprobs": 2, "max_tokens": 2});
    let answer = chat(engine.address, chat_body("hi", more)).await.json();
    let content = answer["choices"][0]["logprobs"]["content"].as_array().unwrap();
    assert_eq!(content.iter().map(|entry| &entry["token"]).collect::<Vec<_>>(), ["T", "h"]);
    assert_eq!(content[0]["bytes"], json!([b'T']));
    assert_eq!(content[0]["top_logprobs"].as_array().unwrap().len(), 2);
    assert_eq!(content[0]["top_logprobs"][0]["token"], "T");
    let answer = completion(engine.address, completion_body("x", json!({"logprobs": 1, "max_tokens": 2}))).await.json();
    let logprobs = &answer["choices"][0]["logprobs"];
    assert_eq!((&logprobs["tokens"], &logprobs["text_offset"]), (&json!(["T", "h"]), &json!([0, 1])));
    assert!(logprobs["top_logprobs"][0]["T"].is_number());
    let body = completion_body("x", json!({"logprobs": 0, "max_tokens": 1}));
    let logprobs = &completion(engine.address, body).await.json()["choices"][0]["logprobs"];
    let alone = json!([{"T": logprobs["token_logprobs"][0]}]);
    assert_eq!(logprobs["top_logprobs"], alone, "the token itself is always there");
}

#[tokio::test(flavor = "multi_thread")]
async fn token_ids_are_a_prompt_too() {
    let engine = Setup::default().start().await;
    let body = json!({"prompt": [72, 105], "echo": true, "max_tokens": 3});
    let answer = completion(engine.address, body).await.json();
    assert_eq!(answer["choices"][0]["text"], "HiThe");
    assert_eq!(answer["usage"]["prompt_tokens"], 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kept_connection_carries_one_journey_after_the_other() {
    let mut engine = Setup::default().start().await;
    let mut client = Client::connect(engine.address).await;
    let body = chat_body("hi", json!({"max_tokens": 2})).to_string();
    for _ in 0..3 {
        let answer = client.send(http::Method::POST, "/v1/chat/completions", &[], body.clone()).await;
        assert_eq!(answer.status, 200);
    }
    let mut free_since = 0;
    for _ in 0..3 {
        let told = engine.journey().await;
        assert_eq!(told.api(), ALL);
        assert!(told.request.start_unix_nanos >= free_since);
        free_since = told.request.end_unix_nanos;
    }
}
