//! Defaults of requests that come with a model: `generation_config.json`, as vLLM's `--generation-config` and
//! `--override-generation-config` treat it. A request's own value wins, but for `max_new_tokens`, which limits all.

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde_json::{Map, Value};
use sojourn_contract::flag;

/// Name of the file beside a model's weights.
const FILE: &str = "generation_config.json";
/// What can be given; a file may have more, which means nothing here.
const KNOWN: [&str; 7] = ["temperature", "top_p", "top_k", "min_p", "repetition_penalty", "max_new_tokens", "eos_token_id"];

/// Defaults of requests; `None` is the API's own.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct GenerationConfig {
    /// `temperature`.
    pub temperature: Option<f32>,
    /// `top_p`.
    pub top_p: Option<f32>,
    /// `top_k`; 0 is off.
    pub top_k: Option<u32>,
    /// `min_p`.
    pub min_p: Option<f32>,
    /// `repetition_penalty`.
    pub repetition_penalty: Option<f32>,
    /// Most tokens that any request may generate for a sequence.
    pub max_new_tokens: Option<u32>,
    /// Tokens that end a sequence, besides the tokenizer's own.
    pub eos_token_ids: Vec<u32>,
}

/// Where the defaults come from.
#[derive(Debug, Clone, Default, PartialEq)]
pub enum Origin {
    /// The file beside the model, if there is one.
    #[default]
    Auto,
    /// No file: the API's own defaults.
    Vllm,
    /// The file in this directory.
    Folder(PathBuf),
}

impl FromStr for Origin {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(match text {
            "auto" => Self::Auto,
            "vllm" => Self::Vllm,
            folder => Self::Folder(folder.into()),
        })
    }
}

/// What replaces values of the file: a JSON object.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Overrides(Map<String, Value>);

impl FromStr for Overrides {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let example = r#"give a JSON object such as {"temperature": 0.5}"#;
        let object = match serde_json::from_str(text) {
            Ok(Value::Object(object)) => object,
            Ok(_) => return Err(example.to_owned()),
            Err(error) => return Err(format!("{error}; {example}")),
        };
        if let Some(unknown) = object.keys().find(|key| !KNOWN.contains(&key.as_str())) {
            return Err(format!("'{unknown}' is not one of: {}", KNOWN.join(", ")));
        }
        GenerationConfig::default().merge(&object).map_err(|wrong| wrong.to_string())?;
        Ok(Self(object))
    }
}

/// Why there are no defaults.
#[derive(Debug, thiserror::Error)]
pub enum GenerationConfigError {
    /// The file is not there or cannot be read.
    #[error("cannot read {}: {reason}; see --{}", path.display(), flag::GENERATION_CONFIG)]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the file system, or the parser, says.
        reason: String,
    },
    /// A value in it is wrong.
    #[error("{}: {wrong}; correct it, replace the value with --{}, or ignore the file with --{} vllm", path.display(),
        flag::OVERRIDE_GENERATION_CONFIG, flag::GENERATION_CONFIG)]
    Wrong {
        /// The file.
        path: PathBuf,
        /// Which value.
        wrong: WrongValue,
    },
}

/// A value that is not one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{key}' must be {expected}")]
pub struct WrongValue {
    key: &'static str,
    expected: String,
}

/// Reads the defaults. `model` is the directory of the model's files, where it has one.
pub fn read(origin: &Origin, model: Option<&Path>, overrides: &Overrides) -> Result<GenerationConfig, GenerationConfigError> {
    let path = match origin {
        Origin::Vllm => None,
        Origin::Folder(folder) => Some(folder.join(FILE)),
        Origin::Auto => model.map(|directory| directory.join(FILE)).filter(|path| path.exists()),
    };
    let mut config = GenerationConfig::default();
    let mut object = path.as_deref().map(read_file).transpose()?.unwrap_or_default();
    object.retain(|key, _| !overrides.0.contains_key(key));
    if let Some(path) = path {
        config.merge(&object).map_err(|wrong| GenerationConfigError::Wrong { path, wrong })?;
    }
    // They were checked when they were parsed.
    config.merge(&overrides.0).ok();
    Ok(config)
}

fn read_file(path: &Path) -> Result<Map<String, Value>, GenerationConfigError> {
    let unreadable =
        |reason: &dyn Display| GenerationConfigError::Unreadable { path: path.to_owned(), reason: reason.to_string() };
    let text = std::fs::read_to_string(path).map_err(|error| unreadable(&error))?;
    match serde_json::from_str(&text).map_err(|error| unreadable(&error))? {
        Value::Object(object) => Ok(object),
        _ => Err(unreadable(&"it is not a JSON object")),
    }
}

impl GenerationConfig {
    /// Takes the values that an object has; the ranges are those of requests.
    fn merge(&mut self, object: &Map<String, Value>) -> Result<(), WrongValue> {
        for key in KNOWN {
            let Some(value) = object.get(key).filter(|value| !value.is_null()) else { continue };
            match key {
                "temperature" => self.temperature = Some(number(key, value, 0.0..=2.0)?),
                "top_p" => self.top_p = Some(number(key, value, f64::MIN_POSITIVE..=1.0)?),
                "top_k" => self.top_k = Some(integer(key, value, -1)?.unwrap_or(0)),
                "min_p" => self.min_p = Some(number(key, value, 0.0..=1.0)?),
                "repetition_penalty" => self.repetition_penalty = Some(number(key, value, 0.01..=10.0)?),
                "max_new_tokens" => self.max_new_tokens = integer(key, value, 1)?,
                _ => self.eos_token_ids = token_ids(key, value)?,
            }
        }
        Ok(())
    }
}

fn number(key: &'static str, value: &Value, range: RangeInclusive<f64>) -> Result<f32, WrongValue> {
    let least = if *range.start() == f64::MIN_POSITIVE { "above 0".to_owned() } else { range.start().to_string() };
    let expected = || format!("a number from {least} to {}", range.end());
    let number = value.as_f64().filter(|number| range.contains(number));
    number.map(|number| number as f32).ok_or_else(|| WrongValue { key, expected: expected() })
}

/// A whole number from `least`; a negative one is `None`.
fn integer(key: &'static str, value: &Value, least: i64) -> Result<Option<u32>, WrongValue> {
    let number = value.as_i64().filter(|number| (least..=i64::from(u32::MAX)).contains(number));
    let number = number.ok_or_else(|| WrongValue { key, expected: format!("a whole number from {least}") })?;
    Ok(u32::try_from(number).ok())
}

fn token_ids(key: &'static str, value: &Value) -> Result<Vec<u32>, WrongValue> {
    let list = value.as_array().map_or_else(|| std::slice::from_ref(value), Vec::as_slice);
    let id = |value: &Value| value.as_u64().and_then(|id| u32::try_from(id).ok());
    let ids: Option<Vec<u32>> = list.iter().map(id).collect();
    ids.ok_or_else(|| WrongValue { key, expected: "a token id or an array of them".to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A directory with a file of this text, which is gone with the test.
    struct Folder(PathBuf);

    impl Folder {
        fn with(name: &str, text: &str) -> Self {
            let path = std::env::temp_dir().join(format!("generation-config-{}-{name}", std::process::id()));
            std::fs::create_dir_all(&path).unwrap();
            std::fs::write(path.join(FILE), text).unwrap();
            Self(path)
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            std::fs::remove_dir_all(&self.0).ok();
        }
    }

    const QWEN: &str = r#"{"bos_token_id": 1, "do_sample": true, "eos_token_id": [7, 8], "repetition_penalty": 1.05,
        "temperature": 0.7, "top_p": 0.8, "top_k": 20, "transformers_version": "4.37.0", "max_new_tokens": null}"#;

    #[test]
    fn the_file_beside_the_model_gives_the_defaults_and_an_override_wins() {
        let folder = Folder::with("qwen", QWEN);
        let overrides: Overrides = r#"{"temperature": 0, "max_new_tokens": 100}"#.parse().unwrap();
        let config = read(&Origin::Auto, Some(&folder.0), &overrides).unwrap();
        let expected = GenerationConfig {
            temperature: Some(0.0),
            top_p: Some(0.8),
            top_k: Some(20),
            min_p: None,
            repetition_penalty: Some(1.05),
            max_new_tokens: Some(100),
            eos_token_ids: vec![7, 8],
        };
        assert_eq!(config, expected);
        assert_eq!(read(&Origin::Vllm, Some(&folder.0), &Overrides::default()).unwrap(), GenerationConfig::default());
        let named = read(&Origin::Folder(folder.0.clone()), None, &overrides).unwrap();
        assert_eq!(named, expected);
    }

    #[test]
    fn a_missing_file_is_an_error_only_where_it_was_asked_for() {
        let nowhere = Path::new("/nowhere");
        assert_eq!(read(&Origin::Auto, Some(nowhere), &Overrides::default()).unwrap(), GenerationConfig::default());
        let error = read(&Origin::Folder(nowhere.into()), None, &Overrides::default()).unwrap_err().to_string();
        assert!(error.contains("/nowhere/generation_config.json") && error.contains("--generation-config"), "{error}");
    }

    #[test]
    fn a_wrong_value_is_named_and_an_override_repairs_it() {
        let folder = Folder::with("wrong", r#"{"temperature": "hot", "top_k": -1}"#);
        let error = read(&Origin::Auto, Some(&folder.0), &Overrides::default()).unwrap_err().to_string();
        assert!(error.contains("'temperature' must be a number from 0 to 2"), "{error}");
        let overrides = r#"{"temperature": null}"#.parse().unwrap();
        let config = read(&Origin::Auto, Some(&folder.0), &overrides).unwrap();
        assert_eq!((config.temperature, config.top_k), (None, Some(0)));
    }

    #[test]
    fn a_wrong_override_says_what_to_write() {
        for (text, expected) in [
            ("temperature=1", "JSON object"),
            ("[]", "JSON object"),
            (r#"{"temprature": 1}"#, "temperature, top_p"),
            (r#"{"top_p": 0}"#, "'top_p' must be a number from above 0 to 1"),
            (r#"{"max_new_tokens": 0}"#, "'max_new_tokens' must be a whole number from 1"),
            (r#"{"eos_token_id": ["x"]}"#, "a token id or an array of them"),
        ] {
            let error = text.parse::<Overrides>().unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
