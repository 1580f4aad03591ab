//! `/v1/chat/completions`: messages in, a message out.

use serde_json::{Map, Value, json};

use super::super::error::ApiError;
use super::super::piece::{Piece, TokenLogprob};
use super::fields::{Fields, must_be};
use super::parameters::{MAX_LOGPROBS, Parameters};
use super::shape::{Shape, Vocabulary, logprob_of};
use super::tool_calls;
use super::tools::Tools;

/// A chat request.
#[derive(Debug, Clone, PartialEq)]
pub struct ChatRequest {
    /// Messages, their content as text.
    pub messages: Vec<Value>,
    /// End the prompt where the assistant's turn begins.
    pub add_generation_prompt: bool,
    /// End it with the last message's text instead, for the model to go on with it.
    pub continue_final_message: bool,
    /// Add the special tokens that the tokenizer puts around a text; templates have theirs.
    pub add_special_tokens: bool,
    /// More values for the template (`chat_template_kwargs`).
    pub template_values: Map<String, Value>,
    /// What the model may or must call.
    pub tools: Tools,
    /// The rest.
    pub parameters: Parameters,
}

impl ChatRequest {
    /// Reads a request's body.
    pub fn parse(body: &[u8]) -> Result<Self, ApiError> {
        let mut fields = Fields::parse(body)?;
        let Some(messages) = fields.list("messages")?.filter(|messages| !messages.is_empty()) else {
            return Err(must_be("messages", "an array with at least one message"));
        };
        let newer = fields.count("max_completion_tokens", 0)?;
        let max_tokens = newer.or(fields.count("max_tokens", 0)?);
        let logprobs = logprobs(&mut fields)?;
        let tools = Tools::take(&mut fields)?;
        let continue_final_message = fields.flag("continue_final_message")?.unwrap_or(false);
        let add_generation_prompt = fields.flag("add_generation_prompt")?;
        if continue_final_message && add_generation_prompt == Some(true) {
            let message = "'continue_final_message' and 'add_generation_prompt' exclude each other; set one of them";
            return Err(ApiError::invalid("continue_final_message", message));
        }
        Ok(Self {
            messages: messages.into_iter().enumerate().map(|(index, value)| message(index, value)).collect::<Result<_, _>>()?,
            add_generation_prompt: add_generation_prompt.unwrap_or(!continue_final_message),
            continue_final_message,
            add_special_tokens: fields.flag("add_special_tokens")?.unwrap_or(false),
            template_values: fields.object("chat_template_kwargs")?.unwrap_or_default(),
            tools,
            parameters: Parameters::take(&mut fields, max_tokens, logprobs)?,
        })
    }
}

/// `logprobs: true` reports the token's own, `top_logprobs` adds alternatives.
fn logprobs(fields: &mut Fields) -> Result<Option<u32>, ApiError> {
    let wanted = fields.flag("logprobs")?.unwrap_or(false);
    let top = fields.integer("top_logprobs", 0..=MAX_LOGPROBS)?.and_then(|top| u32::try_from(top).ok());
    match (wanted, top) {
        (false, Some(1..)) => Err(ApiError::invalid("top_logprobs", "'top_logprobs' needs 'logprobs': true")),
        (wanted, top) => Ok(wanted.then_some(top.unwrap_or(0))),
    }
}

/// A message whose content is one text: templates expect that, and this engine has no eyes or ears.
fn message(index: usize, value: Value) -> Result<Value, ApiError> {
    let at = |what: &str| format!("messages[{index}]{what}");
    let Value::Object(mut message) = value else {
        return Err(ApiError::invalid(at(""), format!("'{}' must be an object", at(""))));
    };
    if message.get("role").and_then(serde_json::Value::as_str).is_none_or(str::is_empty) {
        return Err(ApiError::invalid(at(".role"), format!("'{}' must be a role such as 'user'", at(".role"))));
    }
    tool_calls::read_turn(&mut message, &at(""))?;
    let content = match message.get_mut("content").map(Value::take) {
        Some(Value::String(text)) => text,
        Some(Value::Array(parts)) if !parts.is_empty() => text_of(parts, &at(".content"))?,
        None | Some(Value::Null) if may_be_silent(&message) => String::new(),
        _ => {
            let message = format!("'{}' must be a string or an array of text parts, at least one", at(".content"));
            return Err(ApiError::invalid(at(".content"), message));
        }
    };
    message.insert("content".to_owned(), content.into());
    Ok(Value::Object(message))
}

/// An assistant's turn may be without content: a call, a refusal, or, as `null`, one that said nothing.
fn may_be_silent(message: &Map<String, Value>) -> bool {
    let said = |name: &str| message.get(name).is_some_and(|value| !value.is_null());
    let silent = message.contains_key("content") || said("tool_calls") || said("function_call") || said("refusal");
    silent && message.get("role").is_some_and(|role| role == "assistant")
}

fn text_of(parts: Vec<Value>, at: &str) -> Result<String, ApiError> {
    let mut texts = Vec::new();
    for (index, part) in parts.iter().enumerate() {
        match (part["type"].as_str(), part["text"].as_str(), part["refusal"].as_str()) {
            (Some("text" | "input_text" | "output_text"), Some(text), _) => texts.push(text),
            (Some("refusal"), _, Some(refusal)) => texts.push(refusal),
            _ => {
                let at = format!("{at}[{index}]");
                let message = format!("'{at}' must be a text part: this engine takes text alone");
                return Err(ApiError::unsupported(at, message));
            }
        }
    }
    Ok(texts.join("\n"))
}

/// Answers of `/v1/chat/completions`.
pub struct ChatShape;

impl Shape for ChatShape {
    const ID_PREFIX: &'static str = "chatcmpl-";
    const OBJECT: &'static str = "chat.completion";
    const CHUNK_OBJECT: &'static str = "chat.completion.chunk";

    fn chunk(&self, piece: &Piece, first: bool, vocabulary: &dyn Vocabulary) -> Value {
        let mut delta = Map::new();
        if first {
            delta.insert("role".into(), "assistant".into());
        }
        if first || !piece.text.is_empty() {
            delta.insert("content".into(), piece.text.as_str().into());
        }
        if !piece.calls.is_empty() {
            delta.insert("tool_calls".into(), tool_calls::delta(&piece.calls));
        }
        json!({
            "index": piece.sequence,
            "delta": delta,
            "logprobs": logprobs_of(&piece.logprobs, vocabulary),
            "finish_reason": piece.finish.map(|reason| reason.as_str()),
        })
    }

    fn choice(&self, whole: &Piece, vocabulary: &dyn Vocabulary) -> Value {
        let mut message = json!({"role": "assistant", "content": whole.text});
        if !whole.calls.is_empty() {
            message["tool_calls"] = tool_calls::whole(&whole.calls);
            if whole.text.is_empty() {
                message["content"] = Value::Null;
            }
        }
        json!({
            "index": whole.sequence,
            "message": message,
            "logprobs": logprobs_of(&whole.logprobs, vocabulary),
            "finish_reason": whole.finish.map(|reason| reason.as_str()),
        })
    }
}

fn logprobs_of(tokens: &[TokenLogprob], vocabulary: &dyn Vocabulary) -> Value {
    if tokens.is_empty() {
        return Value::Null;
    }
    let entry = |id: u32, logprob: f32| {
        let text = vocabulary.text(id);
        json!({"token": text, "logprob": logprob_of(logprob), "bytes": text.as_bytes()})
    };
    let content = tokens.iter().map(|token| {
        let mut object = entry(token.id, token.chosen);
        object["top_logprobs"] = token.top.iter().map(|(id, logprob)| entry(*id, *logprob)).collect();
        object
    });
    json!({"content": content.collect::<Vec<_>>()})
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(json: &str) -> Result<ChatRequest, ApiError> {
        ChatRequest::parse(json.as_bytes())
    }

    fn param(json: &str) -> String {
        parse(json).unwrap_err().param.unwrap().into_owned()
    }

    #[test]
    fn content_is_text_however_it_is_written() {
        let request = parse(
            r#"{"messages": [{"role": "system", "content": "a"}, {"role": "assistant", "content": null},
                {"role": "user", "content": [{"type": "text", "text": "b"}, {"type": "text", "text": "c"}]}]}"#,
        )
        .unwrap();
        let contents: Vec<_> = request.messages.iter().map(|message| message["content"].as_str().unwrap()).collect();
        assert_eq!(contents, ["a", "", "b\nc"]);
        assert!(request.add_generation_prompt);
    }

    #[test]
    fn what_is_wrong_in_a_message_is_named() {
        assert_eq!(param(r#"{"messages": []}"#), "messages");
        assert_eq!(param(r#"{}"#), "messages");
        assert_eq!(param(r#"{"messages": ["hi"]}"#), "messages[0]");
        assert_eq!(param(r#"{"messages": [{"content": "x"}]}"#), "messages[0].role");
        assert_eq!(param(r#"{"messages": [{"role": "user", "content": 1}]}"#), "messages[0].content");
        let image = r#"{"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]}"#;
        assert_eq!(param(image), "messages[0].content[0]");
        for content in [r#""name": "x""#, r#""content": null"#, r#""content": []"#, r#""content": {}"#, r#""content": [1]"#] {
            let error = parse(&format!(r#"{{"messages": [{{"role": "user", {content}}}]}}"#)).unwrap_err();
            assert!(error.param.is_some_and(|param| param.starts_with("messages[0].content")), "{content}");
        }
        assert_eq!(param(r#"{"messages": [{"role": "assistant"}]}"#), "messages[0].content");
    }

    #[test]
    fn an_assistants_turn_may_be_a_call_or_a_refusal() {
        let call = r#"{"id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{}"}}"#;
        for turn in [&format!(r#""tool_calls": [{call}]"#), r#""refusal": "no""#, r#""content": null"#] {
            let request = parse(&format!(r#"{{"messages": [{{"role": "assistant", {turn}}}]}}"#)).unwrap();
            assert_eq!(request.messages[0]["content"], "", "{turn}");
        }
        let parts = r#"{"messages": [{"role": "assistant", "content": [{"type": "refusal", "refusal": "no"}]}]}"#;
        assert_eq!(parse(parts).unwrap().messages[0]["content"], "no");
    }

    #[test]
    fn a_message_is_continued_or_a_new_one_is_begun() {
        let request = |extra: &str| parse(&format!(r#"{{"messages": [{{"role": "assistant", "content": "x"}}], {extra}}}"#));
        let flags = |extra: &str| request(extra).map(|r| (r.continue_final_message, r.add_generation_prompt)).unwrap();
        assert_eq!(flags(r#""continue_final_message": true"#), (true, false));
        assert_eq!(flags(r#""add_generation_prompt": false"#), (false, false));
        let both = request(r#""continue_final_message": true, "add_generation_prompt": true"#).unwrap_err();
        assert_eq!(both.param.as_deref(), Some("continue_final_message"));
    }

    #[test]
    fn the_newer_name_of_the_token_limit_wins() {
        let both = r#"{"messages": [{"role": "user", "content": "x"}], "max_tokens": 5, "max_completion_tokens": 7}"#;
        assert_eq!(parse(both).unwrap().parameters.max_tokens, Some(7));
    }

    #[test]
    fn alternatives_need_logprobs() {
        let request = |extra: &str| parse(&format!(r#"{{"messages": [{{"role": "user", "content": "x"}}], {extra}}}"#));
        assert_eq!(request(r#""logprobs": true, "top_logprobs": 2"#).unwrap().parameters.sampling.logprobs, Some(2));
        assert_eq!(request(r#""logprobs": true"#).unwrap().parameters.sampling.logprobs, Some(0));
        assert_eq!(request(r#""logprobs": false, "top_logprobs": 0"#).unwrap().parameters.sampling.logprobs, None);
        assert_eq!(request(r#""top_logprobs": 2"#).unwrap_err().param.as_deref(), Some("top_logprobs"));
    }
}
