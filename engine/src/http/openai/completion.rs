//! `/v1/completions`: a prompt in, its continuation out.

use std::borrow::Cow;

use serde_json::{Map, Value, json};

use super::super::error::ApiError;
use super::super::piece::{Piece, TokenLogprob};
use super::fields::{Fields, must_be};
use super::parameters::{MAX_LOGPROBS, Parameters, token_ids};
use super::shape::{Shape, Vocabulary, logprob_of};

/// OpenAI's default for this API alone.
const DEFAULT_MAX_TOKENS: u32 = 16;

/// A completion request.
#[derive(Debug, Clone, PartialEq)]
pub struct CompletionRequest {
    /// What to continue, at least one.
    pub prompts: Vec<Prompt>,
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
            prompts: prompts(fields.take("prompt"))?,
            echo,
            add_special_tokens: fields.flag("add_special_tokens")?.unwrap_or(true),
            parameters: Parameters::take(&mut fields, Some(max_tokens), logprobs)?,
        })
    }
}

/// Prompts: a text, token ids, or a list of these.
fn prompts(value: Option<Value>) -> Result<Vec<Prompt>, ApiError> {
    match value {
        Some(Value::Array(list)) if matches!(list.first(), Some(Value::String(_) | Value::Array(_))) => {
            list.into_iter().map(prompt).collect()
        }
        Some(value) => Ok(vec![prompt(value)?]),
        None => Err(wrong_prompt()),
    }
}

fn prompt(value: Value) -> Result<Prompt, ApiError> {
    match value {
        Value::String(text) if !text.is_empty() => Ok(Prompt::Text(text)),
        Value::Array(list) if !list.is_empty() => token_ids("prompt", list).map(Prompt::Tokens),
        _ => Err(wrong_prompt()),
    }
}

fn wrong_prompt() -> ApiError {
    must_be("prompt", "a string, an array of token ids, or an array of either, none of them empty")
}

/// Answers of `/v1/completions`.
pub struct CompletionShape {
    /// The prompts' texts, to put each in front of its answers; or none.
    pub echo: Vec<String>,
    /// Answers of each prompt.
    pub n: u32,
}

impl CompletionShape {
    fn text<'a>(&self, piece: &'a Piece, first: bool) -> Cow<'a, str> {
        match self.echo.get((piece.sequence / self.n.max(1)) as usize) {
            Some(prompt) if first => format!("{prompt}{}", piece.text).into(),
            _ => piece.text.as_str().into(),
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
            "text": self.text(piece, first),
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
    // The token itself is always among them, as one more where it is not one of the best.
    let top = tokens.iter().map(|token| {
        let pairs = token.top.iter().copied().chain([(token.id, token.chosen)]);
        Value::Object(pairs.map(|(id, logprob)| (vocabulary.text(id), logprob_of(logprob))).collect::<Map<_, _>>())
    });
    json!({
        "tokens": texts,
        "token_logprobs": tokens.iter().map(|token| logprob_of(token.chosen)).collect::<Vec<_>>(),
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
    fn a_prompt_is_a_text_or_token_ids_and_there_may_be_several() {
        let prompts = |json: &str| parse(&format!(r#"{{"prompt": {json}}}"#)).unwrap().prompts;
        let (hi, ids) = (Prompt::Text("hi".into()), Prompt::Tokens(vec![1, 2]));
        assert_eq!(prompts(r#""hi""#), std::slice::from_ref(&hi));
        assert_eq!(prompts("[1, 2]"), std::slice::from_ref(&ids));
        assert_eq!(prompts(r#"["hi", [1, 2], "hi"]"#), [hi.clone(), ids.clone(), hi]);
        assert_eq!(prompts("[[1, 2]]"), [ids]);
    }

    #[test]
    fn a_prompt_of_nothing_is_refused() {
        for nothing in ["null", r#""""#, "[]", "[[]]", "{}", r#"[1, "a"]"#, r#"["a", ""]"#, r#"["a", 1]"#, "[[1], [[1]]]"] {
            let error = parse(&format!(r#"{{"prompt": {nothing}}}"#)).unwrap_err();
            assert_eq!((error.code, error.param.as_deref()), ("invalid_value", Some("prompt")), "{nothing}");
        }
    }

    #[test]
    fn sixteen_tokens_are_the_default() {
        assert_eq!(parse(r#"{"prompt": "x"}"#).unwrap().parameters.max_tokens, Some(16));
        assert_eq!(parse(r#"{"prompt": "x", "max_tokens": 0}"#).unwrap().parameters.max_tokens, Some(0));
    }

    #[test]
    fn echo_stands_in_front_of_the_first_piece_alone() {
        let shape = CompletionShape { echo: vec!["once ".into(), "twice ".into()], n: 2 };
        let text =
            |sequence, first| shape.text(&Piece { sequence, text: "upon".into(), ..Piece::default() }, first).into_owned();
        assert_eq!([text(1, true), text(2, true), text(3, false)], ["once upon", "twice upon", "upon"]);
    }
}
