//! What chat and completion requests have in common: which model, how tokens are chosen, when to stop, how to answer.

use serde_json::{Map, Value};

use super::super::error::ApiError;
use super::fields::{Fields, must_be, whole};
use super::response_format::{self, Form};
use crate::model::generation_config::GenerationConfig;
use crate::scheduler::request::SamplingParams;

/// Most sequences of one request.
pub const MAX_SEQUENCES: i64 = 128;
/// Most alternatives that are reported with a token.
pub const MAX_LOGPROBS: i64 = 20;
/// 1 is off; below this range logits overflow.
const REPETITION_PENALTY: std::ops::RangeInclusive<f64> = 0.01..=10.0;
/// Most stop strings (OpenAI allows 4).
const MAX_STOP: usize = 16;

/// The common parameters.
#[derive(Debug, Clone, PartialEq)]
pub struct Parameters {
    /// Model that the request names; `None` takes what is served.
    pub model: Option<String>,
    /// Tokens to generate at most; `None` is the API's default.
    pub max_tokens: Option<u32>,
    /// Tokens to generate at least.
    pub min_tokens: u32,
    /// How tokens are chosen.
    pub sampling: SamplingParams,
    /// Parameters that the request gave itself, for its span.
    pub asked: Asked,
    /// Sequences to generate.
    pub n: u32,
    /// Strings that end a sequence.
    pub stop: Vec<String>,
    /// Tokens that end a sequence.
    pub stop_token_ids: Vec<u32>,
    /// The model's end-of-sequence tokens do not end a sequence.
    pub ignore_eos: bool,
    /// Answer with server-sent events.
    pub stream: bool,
    /// Where a stream says the usage.
    pub usage: StreamUsage,
    /// What ends a sequence is part of its text (`include_stop_str_in_output`).
    pub include_stop: bool,
    /// Special tokens are left out of the text.
    pub skip_special_tokens: bool,
    /// Lower goes first.
    pub priority: i32,
    /// The form that the answer must have.
    pub form: Option<Form>,
}

/// Where a stream says the usage (`stream_options`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StreamUsage {
    /// In a last event of its own (`include_usage`).
    pub at_the_end: bool,
    /// In every chunk as well (`continuous_usage_stats`).
    pub in_every_chunk: bool,
}

/// Values as the client wrote them; `None` where it left the default.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Asked {
    /// `temperature`.
    pub temperature: Option<f32>,
    /// `top_p`.
    pub top_p: Option<f32>,
    /// `top_k`.
    pub top_k: Option<u32>,
    /// `min_p`.
    pub min_p: Option<f32>,
    /// `repetition_penalty`.
    pub repetition_penalty: Option<f32>,
    /// `seed`.
    pub seed: Option<i64>,
}

impl Parameters {
    /// Takes the common fields; `logprobs` differs between the two APIs and is the caller's.
    pub fn take(fields: &mut Fields, max_tokens: Option<u32>, logprobs: Option<u32>) -> Result<Self, ApiError> {
        refuse(fields)?;
        let stream = fields.flag("stream")?.unwrap_or(false);
        let usage = match fields.object("stream_options")? {
            Some(_) if !stream => return Err(ApiError::invalid("stream_options", "'stream_options' needs 'stream': true")),
            Some(options) => stream_usage(Fields::of(options))?,
            None => StreamUsage::default(),
        };
        let asked = Asked {
            temperature: fields.number("temperature", 0.0..=2.0)?,
            top_p: fields.number("top_p", 0.0..=1.0)?,
            top_k: top_k(fields)?,
            min_p: fields.number("min_p", 0.0..=1.0)?,
            repetition_penalty: fields.number("repetition_penalty", REPETITION_PENALTY)?,
            seed: fields.integer("seed", i64::MIN..=i64::MAX)?,
        };
        if asked.top_p == Some(0.0) {
            return Err(must_be("top_p", "a number above 0, up to 1"));
        }
        let min_tokens = fields.count("min_tokens", 0)?.unwrap_or(0);
        if max_tokens.is_some_and(|most| min_tokens > most) {
            return Err(must_be("min_tokens", "at most 'max_tokens'"));
        }
        Ok(Self {
            model: fields.text("model")?,
            max_tokens,
            min_tokens,
            sampling: sampling(fields, asked, logprobs)?,
            asked,
            n: fields.integer("n", 1..=MAX_SEQUENCES)?.and_then(|n| u32::try_from(n).ok()).unwrap_or(1),
            stop: stop(fields.take("stop"))?,
            stop_token_ids: token_ids("stop_token_ids", fields.list("stop_token_ids")?.unwrap_or_default())?,
            ignore_eos: fields.flag("ignore_eos")?.unwrap_or(false),
            stream,
            usage,
            include_stop: fields.flag("include_stop_str_in_output")?.unwrap_or(false),
            skip_special_tokens: skip_special_tokens(fields)?,
            priority: fields
                .integer("priority", i64::from(i32::MIN)..=i64::from(i32::MAX))?
                .and_then(|priority| i32::try_from(priority).ok())
                .unwrap_or(0),
            form: response_format::take(fields)?,
        })
    }
}

impl Parameters {
    /// Takes the model's own defaults where the request says nothing.
    pub fn fill_in(&mut self, defaults: &GenerationConfig) {
        let (asked, sampling) = (&self.asked, &mut self.sampling);
        fn fill<T>(value: &mut T, asked: Option<T>, default: Option<T>) {
            if let Some(default) = default.filter(|_| asked.is_none()) {
                *value = default;
            }
        }
        fill(&mut sampling.temperature, asked.temperature, defaults.temperature);
        fill(&mut sampling.top_p, asked.top_p, defaults.top_p);
        fill(&mut sampling.top_k, asked.top_k, defaults.top_k);
        fill(&mut sampling.min_p, asked.min_p, defaults.min_p);
        fill(&mut sampling.repetition_penalty, asked.repetition_penalty, defaults.repetition_penalty);
    }
}

/// Token ids in a list.
pub fn token_ids(name: &'static str, list: Vec<Value>) -> Result<Vec<u32>, ApiError> {
    let id = |value: &Value| value.as_u64().and_then(|id| u32::try_from(id).ok());
    list.iter().map(|value| id(value).ok_or_else(|| must_be(name, "an array of token ids"))).collect()
}

fn sampling(fields: &mut Fields, asked: Asked, logprobs: Option<u32>) -> Result<SamplingParams, ApiError> {
    let default = SamplingParams::default();
    Ok(SamplingParams {
        temperature: asked.temperature.unwrap_or(default.temperature),
        top_p: asked.top_p.unwrap_or(default.top_p),
        top_k: asked.top_k.unwrap_or(default.top_k),
        min_p: asked.min_p.unwrap_or(default.min_p),
        presence_penalty: fields.number("presence_penalty", -2.0..=2.0)?.unwrap_or(default.presence_penalty),
        frequency_penalty: fields.number("frequency_penalty", -2.0..=2.0)?.unwrap_or(default.frequency_penalty),
        repetition_penalty: asked.repetition_penalty.unwrap_or(default.repetition_penalty),
        // -1 is vLLM's word for none.
        seed: asked.seed.filter(|seed| *seed != -1).map(i64::cast_unsigned),
        logit_bias: logit_bias(fields.object("logit_bias")?.unwrap_or_default())?,
        logprobs,
    })
}

fn stream_usage(mut options: Fields) -> Result<StreamUsage, ApiError> {
    Ok(StreamUsage {
        at_the_end: options.flag("include_usage")?.unwrap_or(false),
        in_every_chunk: options.flag("continuous_usage_stats")?.unwrap_or(false),
    })
}

/// The space between special tokens is theirs to keep only where they are part of the text at all.
fn skip_special_tokens(fields: &mut Fields) -> Result<bool, ApiError> {
    let skip = fields.flag("skip_special_tokens")?.unwrap_or(true);
    fields.refuse("spaces_between_special_tokens", |spaces| skip && spaces.is_boolean() || *spaces == Value::Bool(true))?;
    Ok(skip)
}

/// vLLM's -1 and 0 are both "off".
fn top_k(fields: &mut Fields) -> Result<Option<u32>, ApiError> {
    let top_k = fields.integer("top_k", -1..=i64::from(u32::MAX))?;
    Ok(top_k.map(|k| u32::try_from(k).unwrap_or(0)))
}

fn stop(value: Option<Value>) -> Result<Vec<String>, ApiError> {
    let wrong = || must_be("stop", format!("a string or an array of at most {MAX_STOP} strings"));
    let strings = match value {
        None => Vec::new(),
        Some(Value::String(text)) => vec![text],
        Some(Value::Array(list)) if list.len() <= MAX_STOP => {
            let text = |value| if let Value::String(text) = value { Ok(text) } else { Err(wrong()) };
            list.into_iter().map(text).collect::<Result<_, _>>()?
        }
        Some(_) => return Err(wrong()),
    };
    if strings.iter().any(String::is_empty) {
        return Err(must_be("stop", "without empty strings"));
    }
    Ok(strings)
}

fn logit_bias(object: Map<String, Value>) -> Result<Vec<(u32, f32)>, ApiError> {
    let pair = |(id, bias): (String, Value)| {
        let bias = bias.as_f64().filter(|bias| (-100.0..=100.0).contains(bias))?;
        Some((id.parse().ok()?, bias as f32))
    };
    let wrong = || must_be("logit_bias", "an object of token ids and numbers from -100 to 100");
    object.into_iter().map(|entry| pair(entry).ok_or_else(wrong)).collect()
}

/// Refuses what would change the answer and is not there. Everything else that is unknown is ignored, as clients send
/// `user`, `metadata`, `store` and the like out of habit.
fn refuse(fields: &mut Fields) -> Result<(), ApiError> {
    let nothing = |_: &Value| false;
    let empty = |value: &Value| value.as_array().is_some_and(Vec::is_empty);
    let off = |value: &Value| value.as_bool() == Some(false);
    fields.refuse("tools", empty)?;
    fields.refuse("tool_choice", |choice| matches!(choice.as_str(), Some("none" | "auto")))?;
    fields.refuse("functions", empty)?;
    fields.refuse("function_call", |choice| matches!(choice.as_str(), Some("none" | "auto")))?;
    fields.refuse("modalities", |modalities| modalities == &serde_json::json!(["text"]))?;
    fields.refuse("best_of", |best_of| whole(best_of) == Some(1))?;
    fields.refuse("length_penalty", |penalty| penalty.as_f64() == Some(1.0))?;
    for name in ["use_beam_search", "continue_final_message", "return_token_ids", "echo"] {
        fields.refuse(name, off)?;
    }
    for name in ["chat_template", "audio", "prediction", "web_search_options", "reasoning_effort", "suffix", "prompt_logprobs"]
    {
        fields.refuse(name, nothing)?;
    }
    for name in ["logits_processors", "truncate_prompt_tokens", "allowed_token_ids", "bad_words", "prompt_embeds"] {
        fields.refuse(name, nothing)?;
    }
    fields.refuse("documents", empty)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(json: &str) -> Result<Parameters, ApiError> {
        Parameters::take(&mut Fields::parse(json.as_bytes()).unwrap(), None, None)
    }

    #[test]
    fn an_empty_request_has_the_defaults() {
        let parameters = take("{}").unwrap();
        assert_eq!(parameters.sampling, SamplingParams::default());
        assert_eq!((parameters.n, parameters.stream, parameters.priority), (1, false, 0));
        assert_eq!(parameters.asked, Asked::default());
    }

    #[test]
    fn every_parameter_is_taken() {
        let parameters = take(
            r#"{"temperature": 0, "top_p": 0.5, "top_k": 40, "min_p": 0.1, "presence_penalty": -1, "frequency_penalty": 1,
                "repetition_penalty": 1.1, "seed": -2, "logit_bias": {"7": -100}, "n": 2, "stop": ["a", "b"],
                "stop_token_ids": [1, 2], "ignore_eos": true, "min_tokens": 3, "stream": true,
                "stream_options": {"include_usage": true}, "priority": -5, "include_stop_str_in_output": true,
                "skip_special_tokens": false}"#,
        )
        .unwrap();
        let expected = SamplingParams {
            temperature: 0.0,
            top_p: 0.5,
            top_k: 40,
            min_p: 0.1,
            presence_penalty: -1.0,
            frequency_penalty: 1.0,
            repetition_penalty: 1.1,
            seed: Some(u64::MAX - 1),
            logit_bias: vec![(7, -100.0)],
            logprobs: None,
        };
        assert_eq!(parameters.sampling, expected);
        assert_eq!(parameters.stop, ["a", "b"]);
        assert_eq!(parameters.stop_token_ids, [1, 2]);
        assert!(parameters.ignore_eos && parameters.stream && parameters.usage.at_the_end);
        assert!(parameters.include_stop && !parameters.skip_special_tokens);
        assert_eq!((parameters.n, parameters.min_tokens, parameters.priority), (2, 3, -5));
    }

    #[test]
    fn what_is_wrong_is_named() {
        let cases = [
            (r#"{"temperature": 2.1}"#, "temperature"),
            (r#"{"top_p": 0}"#, "top_p"),
            (r#"{"n": 0}"#, "n"),
            (r#"{"stop": [""]}"#, "stop"),
            (r#"{"stop": 1}"#, "stop"),
            (r#"{"stop_token_ids": [-1]}"#, "stop_token_ids"),
            (r#"{"logit_bias": {"x": 1}}"#, "logit_bias"),
            (r#"{"logit_bias": {"1": 101}}"#, "logit_bias"),
            (r#"{"repetition_penalty": 0}"#, "repetition_penalty"),
            (r#"{"stream_options": {}}"#, "stream_options"),
            (r#"{"priority": 1e10}"#, "priority"),
        ];
        for (json, param) in cases {
            assert_eq!(take(json).unwrap_err().param.as_deref(), Some(param), "{json}");
        }
    }

    #[test]
    fn what_cannot_be_honoured_is_refused_by_name() {
        for (json, name) in [(r#"{"tools": [{}]}"#, "tools"), (r#"{"audio": {}}"#, "audio"), (r#"{"best_of": 2}"#, "best_of")] {
            let error = take(json).unwrap_err();
            assert_eq!((error.code, error.param.as_deref()), ("unsupported_parameter", Some(name)));
        }
    }

    #[test]
    fn harmless_habits_are_ignored() {
        let habits = r#"{"user": "u", "metadata": {"a": "b"}, "store": true, "service_tier": "auto", "tools": [],
            "tool_choice": "auto", "response_format": {"type": "text"}, "parallel_tool_calls": true, "top_k": -1, "seed": -1,
            "spaces_between_special_tokens": false}"#;
        let sampling = take(habits).unwrap().sampling;
        assert_eq!((sampling.top_k, sampling.seed), (0, None));
    }

    #[test]
    fn defaults_fill_what_the_request_left_out() {
        let defaults = GenerationConfig {
            temperature: Some(0.6),
            top_p: Some(0.9),
            top_k: Some(20),
            min_p: Some(0.05),
            repetition_penalty: Some(1.1),
            ..GenerationConfig::default()
        };
        let mut parameters = take(r#"{"temperature": 0, "min_p": 0}"#).unwrap();
        parameters.fill_in(&defaults);
        let expected = SamplingParams {
            temperature: 0.0,
            top_p: 0.9,
            top_k: 20,
            min_p: 0.0,
            repetition_penalty: 1.1,
            ..SamplingParams::default()
        };
        assert_eq!(parameters.sampling, expected);
        assert_eq!(parameters.asked.top_p, None, "the span says what the request said");
    }
}
