//! Tool calls in messages: those that a client sends back, and those that an answer carries.

use serde_json::{Map, Value, json};

use super::super::error::ApiError;
use super::super::visit::new_id;
use crate::text::tool_calls::CallDelta;

/// Checks a tool turn of a conversation and writes it as chat templates expect it: arguments are an object, not a text.
/// `at` names the message.
pub fn read_turn(message: &mut Map<String, Value>, at: &str) -> Result<(), ApiError> {
    let wrong = |what: &str, must: &str| ApiError::invalid(format!("{at}{what}"), format!("'{at}{what}' must be {must}"));
    if message.get("role").is_some_and(|role| role == "function") {
        return Err(wrong(".role", "'tool', with the 'tool_call_id' of the call that it answers"));
    }
    if message.get("function_call").is_some_and(|call| !call.is_null()) {
        let message = format!("'{at}.function_call' is OpenAI's older way and not supported; send 'tool_calls'");
        return Err(ApiError::unsupported(format!("{at}.function_call"), message));
    }
    if message.get("tool_call_id").is_some_and(|id| !id.is_string() && !id.is_null()) {
        return Err(wrong(".tool_call_id", "a string"));
    }
    match message.get_mut("tool_calls") {
        None => return Ok(()),
        Some(Value::Array(calls)) if !calls.is_empty() => {
            for (index, call) in calls.iter_mut().enumerate() {
                read_call(call, &format!("{at}.tool_calls[{index}]"))?;
            }
        }
        Some(Value::Null | Value::Array(_)) => {
            message.remove("tool_calls");
            return Ok(());
        }
        Some(_) => return Err(wrong(".tool_calls", "an array of tool calls")),
    }
    // Templates look at it, if only to see that it is empty.
    message.entry("content").or_insert_with(|| "".into());
    Ok(())
}

fn read_call(call: &mut Value, at: &str) -> Result<(), ApiError> {
    let wrong = |what: &str, must: &str| ApiError::invalid(format!("{at}{what}"), format!("'{at}{what}' must be {must}"));
    let Some(function) = call.get_mut("function").and_then(Value::as_object_mut) else {
        return Err(wrong("", "an object with 'id', 'type': 'function' and 'function'"));
    };
    if function.get("name").and_then(Value::as_str).is_none_or(str::is_empty) {
        return Err(wrong(".function.name", "a string, not empty"));
    }
    let arguments = match function.get("arguments") {
        None | Some(Value::Null) => Some(Map::new()),
        Some(Value::String(text)) if text.trim().is_empty() => Some(Map::new()),
        Some(Value::String(text)) => serde_json::from_str(text).ok(),
        Some(Value::Object(arguments)) => Some(arguments.clone()),
        Some(_) => None,
    };
    let arguments = arguments.ok_or_else(|| wrong(".function.arguments", "the text of a JSON object"))?;
    function.insert("arguments".to_owned(), Value::Object(arguments));
    if call.get("type").is_none_or(Value::is_null) {
        call["type"] = "function".into();
    }
    Ok(())
}

/// `tool_calls` of a whole message.
pub fn whole(calls: &[CallDelta]) -> Value {
    let call = |call: &CallDelta| {
        let function = json!({"name": call.name, "arguments": call.arguments});
        json!({"id": format!("call_{}", new_id()), "type": "function", "function": function})
    };
    calls.iter().map(call).collect()
}

/// `tool_calls` of a streamed delta: the first part of a call has its id, type and name.
pub fn delta(calls: &[CallDelta]) -> Value {
    let part = |call: &CallDelta| match &call.name {
        Some(name) => {
            let function = json!({"name": name, "arguments": call.arguments});
            json!({"index": call.index, "id": format!("call_{}", new_id()), "type": "function", "function": function})
        }
        None => json!({"index": call.index, "function": {"arguments": call.arguments}}),
    };
    calls.iter().map(part).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(message: Value) -> Result<Value, ApiError> {
        let Value::Object(mut message) = message else { panic!("no object") };
        read_turn(&mut message, "messages[1]").map(|()| Value::Object(message))
    }

    fn with_arguments(arguments: Value) -> Value {
        json!({"role": "assistant", "tool_calls": [{"id": "c", "function": {"name": "f", "arguments": arguments}}]})
    }

    #[test]
    fn arguments_become_an_object_and_missing_content_empty() {
        for (written, expected) in
            [(json!("{\"a\": 1}"), json!({"a": 1})), (json!(""), json!({})), (json!({"b": 2}), json!({"b": 2}))]
        {
            let message = read(with_arguments(written)).unwrap();
            assert_eq!(message["tool_calls"][0]["function"]["arguments"], expected);
            assert_eq!((&message["content"], &message["tool_calls"][0]["type"]), (&json!(""), &json!("function")));
        }
    }

    #[test]
    fn no_calls_are_no_field() {
        for none in [json!(null), json!([])] {
            let message = read(json!({"role": "assistant", "content": "x", "tool_calls": none})).unwrap();
            assert_eq!(message, json!({"role": "assistant", "content": "x"}));
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        let cases = [
            (with_arguments(json!("[1]")), "messages[1].tool_calls[0].function.arguments"),
            (with_arguments(json!("{")), "messages[1].tool_calls[0].function.arguments"),
            (json!({"role": "assistant", "tool_calls": {}}), "messages[1].tool_calls"),
            (json!({"role": "assistant", "tool_calls": [1]}), "messages[1].tool_calls[0]"),
            (json!({"role": "assistant", "tool_calls": [{"function": {}}]}), "messages[1].tool_calls[0].function.name"),
            (json!({"role": "function", "content": "x"}), "messages[1].role"),
            (json!({"role": "assistant", "function_call": {}}), "messages[1].function_call"),
            (json!({"role": "tool", "tool_call_id": 1}), "messages[1].tool_call_id"),
        ];
        for (message, expected) in cases {
            assert_eq!(read(message.clone()).unwrap_err().param.as_deref(), Some(expected), "{message}");
        }
    }

    #[test]
    fn the_first_part_of_a_call_names_it_and_later_ones_do_not() {
        let first = CallDelta { index: 1, name: Some("f".to_owned()), arguments: String::new() };
        let later = CallDelta { index: 1, name: None, arguments: "{}".to_owned() };
        let parts = delta(&[first, later]);
        assert!(parts[0]["id"].as_str().unwrap().starts_with("call_"));
        assert_eq!((&parts[0]["type"], &parts[0]["function"]["name"]), (&json!("function"), &json!("f")));
        assert_eq!(parts[1], json!({"index": 1, "function": {"arguments": "{}"}}));
    }
}
