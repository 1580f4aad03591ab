//! `/v1/completions`: a prompt in, its continuation out.

use serde_json::{Map, Value, json};

use super::super::error::ApiError;
use super::super::generation::Piece;
use super::fields::{Fields, must_be};
use super::parameters::{MAX_LOGPROBS, Parameters, token_ids};
use super::shape::{Shape, TokenLogprob, Vocabulary};

/// OpenAI's default for this API alone.
const DEFAULT_MAX_TOKENS: u32 = 16;

/// A completion request.
#[derive(Debug, Clone, PartialEq)]
pub struct CompletionRequest {
    /// What to continue.
    pub prompt: Prompt,
    /// Put the prompt's text in front of the answer.
    pub echo: bool,
    /// Add the special tokens that the tokenizer puts around a text.
    pub add_special_tokens: bool,
    /// The rest.
    pub parameters: Parameters,
}

/// A prompt, tokenized or not.
#[derive(Debug, Clone, PartialEq)]
pub enum Prompt {
    /// Its text.
    Text(String),
    /// Its token ids.
    Tokens(Vec<u32>),
}

impl CompletionRequest {
    /// Reads a request's body.
    pub fn parse(body: &[u8]) -> Result<Self, ApiError> {
        let mut fields = Fields::parse(body)?;
        let max_tokens = fields.count("max_tokens", 0)?.unwrap_or(DEFAULT_MAX_TOKENS);
        let logprobs = fields.integer("logprobs", 0..=MAX_LOGPROBS)?.and_then(|logprobs| u32::try_from(logprobs).ok());
        let echo = fields.flag("echo")?.unwrap_or(false);
        if echo && logprobs.is_some() {
            return Err(ApiError::unsupported("echo", "'echo' with 'logprobs' is not supported: ask for one of them"));
        }
        Ok(Self {
            prompt: prompt(fields.take("prompt"))?,
            echo,
            add_special_tokens: fields.flag("add_special_tokens")?.unwrap_or(true),
            parameters: Parameters::take(&mut fields, Some(max_tokens), logprobs)?,
        })
    }
}

/// One prompt: a text, token ids, or a list with one of these.
fn prompt(value: Option<Value>) -> Result<Prompt, ApiError> {
    let wrong = || must_be("prompt", "a string or an array of token ids, not empty");
    match value {
        Some(Value::String(text)) if !text.is_empty() => Ok(Prompt::Text(text)),
        Some(Value::Array(list)) => match list.first() {
            Some(Value::Number(_)) => token_ids("prompt", list).map(Prompt::Tokens),
            Some(Value::String(_) | Value::Array(_)) if list.len() > 1 => {
                let message =
                    format!("'prompt' has {} prompts; send one request for each, so that each has a journey", list.len());
                Err(ApiError::unsupported("prompt", message))
            }
            Some(Value::String(_) | Value::Array(_)) => prompt(list.into_iter().next()),
            _ => Err(wrong()),
        },
        _ => Err(wrong()),
    }
}

/// Answers of `/v1/completions`.
pub struct CompletionShape {
    /// The prompt's text, to put in front of each answer.
    pub echo: Option<String>,
}

impl CompletionShape {
    fn text<'a>(&self, text: &'a str, first: bool) -> std::borrow::Cow<'a, str> {
        match &self.echo {
            Some(prompt) if first => format!("{prompt}{text}").into(),
            _ => text.into(),
        }
    }
}

impl Shape for CompletionShape {
    const ID_PREFIX: &'static str = "cmpl-";
    const OBJECT: &'static str = "text_completion";
    const CHUNK_OBJECT: &'static str = "text_completion";

    fn chunk(&self, piece: &Piece, first: bool, vocabulary: &dyn Vocabulary) -> Value {
        json!({
            "index": piece.sequence,
            "text": self.text(&piece.text, first),
            "logprobs": logprobs_of(&piece.logprobs, piece.text_offset, vocabulary),
            "finish_reason": piece.finish.map(|reason| reason.as_str()),
        })
    }

    fn choice(&self, whole: &Piece, vocabulary: &dyn Vocabulary) -> Value {
        self.chunk(whole, true, vocabulary)
    }
}

fn logprobs_of(tokens: &[TokenLogprob], text_offset: usize, vocabulary: &dyn Vocabulary) -> Value {
    if tokens.is_empty() {
        return Value::Null;
    }
    let mut offset = text_offset;
    let mut offsets = Vec::with_capacity(tokens.len());
    let mut texts = Vec::with_capacity(tokens.len());
    for token in tokens {
        let text = vocabulary.text(token.id);
        offsets.push(offset);
        offset += text.chars().count();
        texts.push(text);
    }
    let top = tokens.iter().map(|token| {
        let pairs = token.top.iter().map(|(id, logprob)| (vocabulary.text(*id), Value::from(*logprob)));
        Value::Object(pairs.collect::<Map<_, _>>())
    });
    json!({
        "tokens": texts,
        "token_logprobs": tokens.iter().map(|token| token.chosen).collect::<Vec<_>>(),
        "top_logprobs": top.collect::<Vec<_>>(),
        "text_offset": offsets,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(json: &str) -> Result<CompletionRequest, ApiError> {
        CompletionRequest::parse(json.as_bytes())
    }

    #[test]
    fn a_prompt_is_a_text_or_token_ids_alone_or_in_a_list() {
        let prompt = |json: &str| parse(&format!(r#"{{"prompt": {json}}}"#)).unwrap().prompt;
        assert_eq!(prompt(r#""hi""#), Prompt::Text("hi".into()));
        assert_eq!(prompt(r#"["hi"]"#), Prompt::Text("hi".into()));
        assert_eq!(prompt("[1, 2]"), Prompt::Tokens(vec![1, 2]));
        assert_eq!(prompt("[[1, 2]]"), Prompt::Tokens(vec![1, 2]));
    }

    #[test]
    fn several_prompts_or_none_are_refused() {
        let code = |json: &str| parse(&format!(r#"{{"prompt": {json}}}"#)).unwrap_err().code;
        assert_eq!(code(r#"["a", "b"]"#), "unsupported_parameter");
        for nothing in ["null", r#""""#, "[]", "[[]]", "{}", "[1, \"a\"]"] {
            assert_eq!(code(nothing), "invalid_value", "{nothing}");
        }
    }

    #[test]
    fn sixteen_tokens_are_the_default() {
        assert_eq!(parse(r#"{"prompt": "x"}"#).unwrap().parameters.max_tokens, Some(16));
        assert_eq!(parse(r#"{"prompt": "x", "max_tokens": 0}"#).unwrap().parameters.max_tokens, Some(0));
    }

    #[test]
    fn echo_stands_in_front_of_the_first_piece_alone() {
        let shape = CompletionShape { echo: Some("once ".into()) };
        assert_eq!((shape.text("upon", true), shape.text("upon", false)), ("once upon".into(), "upon".into()));
    }
}
