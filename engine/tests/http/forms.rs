//! Answers of a form: the scripted model writes prose, and gets no further than the form allows.

use serde_json::{Value, json};
use sojourn_contract::journey::{AbortReason, Outcome};

use super::client::{Answer, chat, chat_body, completion, completion_body};
use super::engine::Setup;

fn schema() -> Value {
    json!({
        "type": "object",
        "properties": {
            "colour": {"enum": ["red", "green"]},
            "count": {"type": "integer", "minimum": 1, "maximum": 9},
            "name": {"type": "string", "minLength": 1, "maxLength": 4},
            "tags": {"type": "array", "items": {"type": "boolean"}, "minItems": 1, "maxItems": 2},
        },
        "required": ["colour", "count", "name", "tags"],
        "additionalProperties": false,
    })
}

fn format() -> Value {
    json!({"type": "json_schema", "json_schema": {"name": "thing", "schema": schema(), "strict": true}})
}

fn content(answer: &Answer) -> String {
    assert_eq!(answer.status, 200, "{:?}", answer.body);
    answer.json()["choices"][0]["message"]["content"].as_str().unwrap().to_owned()
}

fn streamed(answer: &Answer) -> String {
    let chunks = answer.chunks();
    chunks.iter().filter_map(|chunk| chunk["choices"][0]["delta"]["content"].as_str()).collect()
}

/// The text is JSON of [`schema`].
fn assert_valid(text: &str) {
    let value: Value = serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"));
    let object = value.as_object().unwrap();
    assert_eq!(object.keys().collect::<Vec<_>>(), ["colour", "count", "name", "tags"]);
    assert!(["red", "green"].contains(&object["colour"].as_str().unwrap()));
    assert!((1..=9).contains(&object["count"].as_i64().unwrap()));
    assert!((1..=4).contains(&object["name"].as_str().unwrap().chars().count()));
    let tags = object["tags"].as_array().unwrap();
    assert!((1..=2).contains(&tags.len()) && tags.iter().all(Value::is_boolean));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_follows_the_schema_however_tokens_are_chosen() {
    let engine = Setup::default().start().await;
    for more in [
        json!({"temperature": 0}),
        json!({"seed": 3, "temperature": 2}),
        json!({"presence_penalty": 2, "repetition_penalty": 1.5, "temperature": 0}),
        json!({"logit_bias": {"123": -100, "84": 100}, "temperature": 0}),
        json!({"min_tokens": 10, "ignore_eos": true, "temperature": 0}),
    ] {
        let mut body = chat_body("hi", json!({"response_format": format(), "max_tokens": 500}));
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let answer = chat(engine.address, body.clone()).await;
        assert_valid(&content(&answer));
        assert_eq!(answer.json()["choices"][0]["finish_reason"], "stop", "{more}");
        body["stream"] = true.into();
        assert_valid(&streamed(&chat(engine.address, body).await));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_model_wants_to_say_is_kept_where_it_fits() {
    let engine = Setup::default().start().await;
    let wish = r#"{"colour": "green", "count": 7, "name": "oak", "tags": [true, false]}"#;
    let body = chat_body(&format!("[say:{wish}]"), json!({"response_format": format(), "temperature": 0}));
    assert_eq!(content(&chat(engine.address, body).await), wish);
}

#[tokio::test(flavor = "multi_thread")]
async fn each_of_several_answers_follows_it_and_log_probabilities_are_of_what_is_allowed() {
    let engine = Setup::default().start().await;
    let more = json!({"response_format": format(), "n": 3, "logprobs": true, "top_logprobs": 3, "max_tokens": 500});
    let answer = chat(engine.address, chat_body("hi", more)).await.json();
    let choices = answer["choices"].as_array().unwrap();
    assert_eq!(choices.len(), 3);
    for choice in choices {
        assert_valid(choice["message"]["content"].as_str().unwrap());
        // The first token can only be the opening brace.
        let first = &choice["logprobs"]["content"][0];
        assert_eq!((&first["token"], &first["logprob"]), (&json!("{"), &json!(0.0)));
        assert_eq!(first["top_logprobs"].as_array().unwrap().len(), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_preempted_answer_goes_on_where_it_was() {
    // Two answers that do not fit the KV blocks together: one is preempted and resumed.
    let mut setup = Setup::default();
    (setup.script.block, setup.script.blocks) = (16, 9);
    let mut engine = setup.start().await;
    let body = completion_body("x", json!({"guided_regex": "(ab){50}", "n": 2, "max_tokens": 120, "temperature": 0}));
    let answer = completion(engine.address, body).await.json();
    for choice in answer["choices"].as_array().unwrap() {
        assert_eq!(choice["text"], "ab".repeat(50));
    }
    assert!(engine.journey().await.journey.facts().num_preemptions > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_other_forms_are_kept_to() {
    let engine = Setup::default().start().await;
    for (mut more, expected) in [
        (json!({"guided_choice": ["yes", "no"]}), vec!["yes", "no"]),
        (json!({"structured_outputs": {"regex": "[0-9]{2}-[ab]"}}), vec!["11-b"]),
        (json!({"guided_grammar": "start: \"<\" inner \">\"\ninner: \"x\" | \"y\""}), vec!["<x>", "<y>"]),
    ] {
        more["temperature"] = 0.into();
        let answer = completion(engine.address, completion_body("hi", more.clone())).await.json();
        let text = answer["choices"][0]["text"].as_str().unwrap();
        assert!(expected.contains(&text), "{more}: {text}");
    }
    let object = chat_body("[say:{\"a\": [1, null]}]", json!({"response_format": {"type": "json_object"}, "temperature": 0}));
    assert_eq!(content(&chat(engine.address, object).await), "{\"a\": [1, null]}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_form_that_cannot_be_compiled_is_refused_before_the_core_has_the_request() {
    let mut engine = Setup::default().start().await;
    let bad = json!({"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "secretword"}}});
    let answer = chat(engine.address, chat_body("hi", json!({"response_format": bad}))).await;
    let error = &answer.json()["error"];
    assert_eq!((answer.status.as_u16(), &error["param"]), (400, &json!("response_format")));
    assert!(error["message"].as_str().unwrap().contains("secretword"), "{error}");
    let told = engine.journey().await;
    assert_eq!(told.api(), ["ARRIVED", "ABORTED"]);
    assert_eq!(told.end().0, Outcome::Rejected);
    assert_eq!(told.end().1, Some(AbortReason::ValidationError));
    // The reason quotes the request, so the journey does not have it.
    assert!(!format!("{:?}", told.request).contains("secretword"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_limit_cuts_an_answer_short() {
    let engine = Setup::default().start().await;
    let answer = chat(engine.address, chat_body("hi", json!({"response_format": format(), "max_tokens": 3}))).await.json();
    assert_eq!(answer["choices"][0]["finish_reason"], "length");
    assert_eq!(answer["usage"]["completion_tokens"], 3);
}
