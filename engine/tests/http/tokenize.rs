//! `/tokenize` and `/detokenize`.

use http::Method;
use serde_json::{Value, json};

use super::client::{chat, chat_body, post, send};
use super::engine::Setup;

#[tokio::test(flavor = "multi_thread")]
async fn a_text_is_tokenized_and_told_again() {
    let mut engine = Setup::default().start().await;
    let answer =
        post(engine.address, "/tokenize", json!({"model": "scripted", "prompt": "hé", "return_token_strs": true})).await;
    let expected = json!({
        "count": 3, "max_model_len": 8192, "tokens": [104, 0xc3, 0xa9], "token_strs": ["h", "Ã", "©"],
    });
    assert_eq!((answer.status.as_u16(), answer.json()), (200, expected));
    let answer = post(engine.address, "/tokenize", json!({"prompt": ""})).await.json();
    assert_eq!(answer, json!({"count": 0, "max_model_len": 8192, "tokens": [], "token_strs": null}));
    let answer = post(engine.address, "/detokenize", json!({"tokens": [104, 0xc3, 0xa9, 256]})).await;
    assert_eq!((answer.status.as_u16(), answer.json()), (200, json!({"prompt": "hé<|end|>"})));
    engine.assert_no_journey();
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_are_tokenized_as_the_chat_api_does() {
    let engine = Setup::default().start().await;
    let count = async |more: Value| post(engine.address, "/tokenize", chat_body("hi", more)).await.json()["count"].as_u64();
    let usage = chat(engine.address, chat_body("hi", json!({"max_tokens": 1}))).await.json();
    assert_eq!(count(json!({})).await, usage["usage"]["prompt_tokens"].as_u64());
    let shorter = count(json!({"add_generation_prompt": false})).await;
    assert!(shorter < count(json!({})).await, "{shorter:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_tokenized_says_what_to_send() {
    let mut setup = Setup::default();
    setup.settings.api_key = Some("secret".to_owned());
    let engine = setup.start().await;
    let refused = async |path: &str, body: Value| {
        let key = [("authorization", "Bearer secret")];
        let answer = send(engine.address, Method::POST, path, &key, &body.to_string()).await;
        (answer.status.as_u16(), answer.json()["error"]["param"].as_str().unwrap_or_default().to_owned())
    };
    assert_eq!(refused("/tokenize", json!({})).await, (400, "prompt".to_owned()));
    assert_eq!(refused("/tokenize", json!({"prompt": [1]})).await, (400, "prompt".to_owned()));
    assert_eq!(refused("/tokenize", json!({"messages": []})).await, (400, "messages".to_owned()));
    assert_eq!(refused("/tokenize", json!({"prompt": "x", "model": "gpt-4"})).await, (404, "model".to_owned()));
    assert_eq!(refused("/detokenize", json!({})).await, (400, "tokens".to_owned()));
    assert_eq!(refused("/detokenize", json!({"tokens": [258]})).await, (400, "tokens".to_owned()));
    // It makes the engine work, so it needs the key.
    assert_eq!(post(engine.address, "/tokenize", json!({"prompt": "x"})).await.status, 401);
}
