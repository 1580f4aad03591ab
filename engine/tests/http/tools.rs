//! Tools: calls that the model writes or must write, and turns that answer them.

use serde_json::{Value, json};
use sojourn_contract::attribute;

use super::client::{chat, chat_body};
use super::engine::{Setup, TOOL_TEMPLATE};

fn with_tools() -> Setup {
    Setup { template: TOOL_TEMPLATE, ..Setup::default() }
}

fn tools() -> Value {
    let parameters = json!({
        "type": "object",
        "properties": {"city": {"type": "string", "minLength": 1, "maxLength": 6}, "days": {"type": "integer", "minimum": 1, "maximum": 9}},
        "required": ["city", "days"],
        "additionalProperties": false,
    });
    let function = json!({"name": "get_weather", "description": "Looks outside", "parameters": parameters});
    let clock = json!({"name": "get_time"});
    json!([{"type": "function", "function": function}, {"type": "function", "function": clock}])
}

const ARGUMENTS: &str = r#"{"city": "Rome", "days": 2}"#;

fn hermes(arguments: &str) -> String {
    format!("<tool_call>\n{{\"name\": \"get_weather\", \"arguments\": {arguments}}}\n</tool_call>")
}

fn body(content: &str, more: Value) -> Value {
    let mut body = chat_body(content, json!({"tools": tools(), "temperature": 0, "max_tokens": 500}));
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

/// Content and calls of a streamed answer, put together as OpenAI's clients do it, and how it ended.
fn together(chunks: &[Value]) -> (String, Vec<Value>, Value) {
    let (mut content, mut calls, mut finish) = (String::new(), Vec::<Value>::new(), Value::Null);
    for choice in chunks.iter().map(|chunk| &chunk["choices"][0]) {
        content += choice["delta"]["content"].as_str().unwrap_or_default();
        for part in choice["delta"]["tool_calls"].as_array().into_iter().flatten() {
            let index = part["index"].as_u64().unwrap() as usize;
            if index == calls.len() {
                assert!(part["id"].as_str().unwrap().starts_with("call_"), "{part}");
                assert_eq!(part["type"], "function");
                calls.push(json!({"name": part["function"]["name"], "arguments": ""}));
            } else {
                assert!(part["id"].is_null() && part["function"]["name"].is_null(), "{part}");
            }
            let arguments =
                calls[index]["arguments"].as_str().unwrap().to_owned() + part["function"]["arguments"].as_str().unwrap();
            calls[index]["arguments"] = arguments.into();
        }
        if !choice["finish_reason"].is_null() {
            finish = choice["finish_reason"].clone();
        }
    }
    (content, calls, finish)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_the_model_writes_is_a_tool_call() {
    let mut engine = with_tools().start().await;
    let answer = chat(engine.address, body(&format!("[say:One moment.\n{}]", hermes(ARGUMENTS)), json!({}))).await;
    assert_eq!(answer.status, 200, "{:?}", answer.body);
    let choice = &answer.json()["choices"][0];
    assert_eq!((&choice["message"]["content"], &choice["finish_reason"]), (&json!("One moment."), &json!("tool_calls")));
    let call = &choice["message"]["tool_calls"][0];
    assert_eq!(
        (&call["type"], &call["function"]),
        (&json!("function"), &json!({"name": "get_weather", "arguments": ARGUMENTS}))
    );
    assert!(call["id"].as_str().unwrap().starts_with("call_"));
    let told = engine.journey().await;
    assert_eq!(told.attribute(attribute::RESPONSE_FINISH_REASONS).as_deref(), Some("tool_calls"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_streamed_call_comes_in_parts_without_its_markup() {
    let engine = with_tools().start().await;
    let say = format!("[say:One moment.\n{}\n{}]", hermes(ARGUMENTS), hermes("{}"));
    let chunks = chat(engine.address, body(&say, json!({"stream": true}))).await.chunks();
    let (content, calls, finish) = together(&chunks);
    assert_eq!((content.as_str(), finish), ("One moment.", json!("tool_calls")));
    let call = |arguments: &str| json!({"name": "get_weather", "arguments": arguments});
    assert_eq!(calls, [call(ARGUMENTS), call("{}")]);
    let only_one = chat(engine.address, body(&say, json!({"stream": true, "parallel_tool_calls": false}))).await;
    assert_eq!(together(&only_one.chunks()).1, [call(ARGUMENTS)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_without_a_call_is_content() {
    let engine = with_tools().start().await;
    let choice = &chat(engine.address, body("hi", json!({}))).await.json()["choices"][0];
    assert_eq!(choice["message"], json!({"role": "assistant", "content": "The quick brown fox "}));
    assert_eq!(choice["finish_reason"], "stop");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_required_call_is_made_by_a_model_that_would_write_prose() {
    let engine = with_tools().start().await;
    for choice in [json!("required"), json!({"type": "function", "function": {"name": "get_weather"}})] {
        let say = format!("[say:[{{\"name\": \"get_weather\", \"arguments\": {ARGUMENTS}}}]]");
        for prompt in ["hi", if choice == "required" { say.as_str() } else { "[say:The weather]" }] {
            let more = json!({"tool_choice": choice, "parallel_tool_calls": false});
            let answer = chat(engine.address, body(prompt, more.clone())).await;
            assert_eq!(answer.status, 200, "{:?}", answer.body);
            let whole = answer.json()["choices"][0].clone();
            assert_eq!(
                (&whole["message"]["content"], &whole["finish_reason"]),
                (&json!(null), &json!("tool_calls")),
                "{whole}"
            );
            let function = &whole["message"]["tool_calls"][0]["function"];
            let arguments: Value = serde_json::from_str(function["arguments"].as_str().unwrap()).unwrap();
            if function["name"] == "get_weather" {
                assert!(arguments["city"].as_str().unwrap().len() <= 6 && arguments["days"].is_i64(), "{arguments}");
            } else {
                assert!(arguments.is_object() && choice == "required");
            }
            let mut streamed = body(prompt, more);
            streamed["stream"] = true.into();
            let (content, calls, finish) = together(&chat(engine.address, streamed).await.chunks());
            assert_eq!((content.as_str(), &calls[0], finish), ("", function, json!("tool_calls")));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tool_turn_reaches_the_model() {
    let engine = with_tools().start().await;
    let call = json!({"id": "call_1", "type": "function", "function": {"name": "get_weather", "arguments": ARGUMENTS}});
    let mut request = body("How is it?", json!({}));
    let messages = request["messages"].as_array_mut().unwrap();
    messages.push(json!({"role": "assistant", "content": null, "tool_calls": [call]}));
    messages.push(json!({"role": "tool", "tool_call_id": "call_1", "content": "[say:It is sunny.]"}));
    let answer = chat(engine.address, request.clone()).await;
    assert_eq!(answer.json()["choices"][0]["message"]["content"], "It is sunny.");
    // The template sees the arguments as an object.
    request["messages"][1]["tool_calls"][0]["function"]["arguments"] = r#"{"city": "[say:I was asked about Oslo]"}"#.into();
    request["messages"][2]["content"] = "sunny".into();
    let answer = chat(engine.address, request).await;
    assert_eq!(answer.json()["choices"][0]["message"]["content"], "I was asked about Oslo");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_model_is_not_told_of_tools_that_it_may_not_call() {
    let engine = with_tools().start().await;
    // The template writes each tool's description into the prompt.
    let mut with_hint = body("hi", json!({"tool_choice": "none"}));
    with_hint["tools"][0]["function"]["description"] = "[say:I was told]".into();
    let told = |answer: super::client::Answer| answer.json()["choices"][0]["message"]["content"].as_str().unwrap().to_owned();
    assert_eq!(told(chat(engine.address, with_hint.clone()).await), "The quick brown fox ");
    with_hint["tool_choice"] = "auto".into();
    assert_eq!(told(chat(engine.address, with_hint).await), "I was told");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_tools_is_a_400_that_names_it() {
    let engine = with_tools().start().await;
    let unknown = json!({"type": "function", "function": {"name": "get_rich"}});
    let bad_schema = json!([{"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {"a": {"type": "x"}}}}}]);
    for (more, param) in [
        (json!({"tool_choice": unknown}), "tool_choice"),
        (json!({"tools": [{"type": "function", "function": {"name": "no spaces"}}]}), "tools[0].function.name"),
        (json!({"tools": bad_schema, "tool_choice": "required"}), "tools"),
        (json!({"response_format": {"type": "json_object"}}), "response_format"),
        (json!({"functions": [{"name": "f"}]}), "functions"),
    ] {
        let answer = chat(engine.address, body("hi", more)).await;
        assert_eq!((answer.status.as_u16(), &answer.json()["error"]["param"]), (400, &json!(param)));
    }
    // The usual template of the scripted model knows no tools.
    let engine = Setup::default().start().await;
    let answer = chat(engine.address, body("hi", json!({}))).await;
    assert_eq!(answer.status, 400);
    assert!(answer.json()["error"]["message"].as_str().unwrap().contains("--tool-call-parser"));
    assert_eq!(chat(engine.address, body("hi", json!({"tool_choice": "required"}))).await.status, 200);
}
