//! A directory of safetensors as Hugging Face has them: which of its files are used, and what is missing.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::load_error::LoadError;

const CONFIG: &str = "config.json";
/// Mistral's own form of the tokenizer is the second choice.
const TOKENIZERS: [&str; 2] = ["tokenizer.json", "tekken.json"];
const WEIGHTS: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";

/// The files of a model that comes as a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelDirectory {
    /// `config.json`.
    pub config: PathBuf,
    /// `tokenizer.json`, or `tekken.json`.
    pub tokenizer: PathBuf,
    /// Where the chat template and the special tokens are: `chat_template.jinja`, else `tokenizer_config.json`.
    pub template: Option<PathBuf>,
    /// `chat_template.json`, for models whose tokenizer configuration has no template.
    pub template_json: Option<PathBuf>,
    /// `generation_config.json`: the tokens that end a sequence.
    pub generation_config: Option<PathBuf>,
    /// `model.safetensors`, or all the shards that the index names.
    pub weights: Vec<PathBuf>,
    /// Size of the weights.
    pub bytes: u64,
}

/// The part of an index that says where each tensor is.
#[derive(Deserialize)]
struct Index {
    weight_map: std::collections::HashMap<String, String>,
}

impl ModelDirectory {
    /// Looks what is in a directory; an error says what it lacks.
    pub fn read(path: &Path) -> Result<Self, LoadError> {
        let unsupported = |reason| LoadError::Unsupported { path: path.to_owned(), reason };
        let file = |name: &str| Some(path.join(name)).filter(|file| file.is_file());
        let weights = weight_files(path).map_err(unsupported)?;
        let (config, tokenizer) = (file(CONFIG), TOKENIZERS.iter().find_map(|name| file(name)));
        let missing: Vec<&str> =
            [(CONFIG, config.is_none()), (TOKENIZERS[0], tokenizer.is_none()), (WEIGHTS, weights.is_empty())]
                .into_iter()
                .filter_map(|(name, missing)| missing.then_some(name))
                .collect();
        let (Some(config), Some(tokenizer), false) = (config, tokenizer, weights.is_empty()) else {
            return Err(unsupported(what_it_is_instead(path, &missing)));
        };
        let (bytes, absent) = measure(&weights);
        if let Some(absent) = absent {
            return Err(unsupported(format!("{INDEX} names {absent}, which is missing; download the model again")));
        }
        Ok(Self {
            config,
            tokenizer,
            template: file("chat_template.jinja").or_else(|| file("tokenizer_config.json")),
            template_json: file("chat_template.json"),
            generation_config: file("generation_config.json"),
            weights,
            bytes,
        })
    }
}

/// The files with the weights, by the index if there is one, whether they are there or not; none at all without either.
fn weight_files(path: &Path) -> Result<Vec<PathBuf>, String> {
    let index = path.join(INDEX);
    if !index.is_file() {
        return Ok(Some(path.join(WEIGHTS)).filter(|file| file.is_file()).into_iter().collect());
    }
    let wrong = |error: &dyn std::fmt::Display| format!("{INDEX} cannot be read: {error}");
    let text = std::fs::read_to_string(&index).map_err(|error| wrong(&error))?;
    let index: Index = serde_json::from_str(&text).map_err(|error| wrong(&error))?;
    let shards: BTreeSet<String> = index.weight_map.into_values().collect();
    if let Some(outside) = shards.iter().find(|shard| Path::new(shard).file_name().is_none_or(|name| name != shard.as_str())) {
        return Err(format!("{INDEX} names {outside}, which is no file of this directory"));
    }
    Ok(shards.into_iter().map(|shard| path.join(shard)).collect())
}

/// The size of files, and the name of the first that is not there.
fn measure(files: &[PathBuf]) -> (u64, Option<String>) {
    let sizes = files.iter().map(|file| (file, std::fs::metadata(file).ok().filter(std::fs::Metadata::is_file)));
    let (mut bytes, mut absent) = (0, None);
    for (file, metadata) in sizes {
        match metadata {
            Some(metadata) => bytes += metadata.len(),
            None => absent = absent.or_else(|| Some(file.file_name()?.to_string_lossy().into_owned())),
        }
    }
    (bytes, absent)
}

/// Why a directory is no model, with a hint for the likely mistakes.
fn what_it_is_instead(path: &Path, missing: &[&str]) -> String {
    let entries = std::fs::read_dir(path).into_iter().flatten().filter_map(|entry| Some(entry.ok()?.file_name()));
    let mut names: Vec<String> = entries.map(|name| name.to_string_lossy().into_owned()).collect();
    names.sort();
    if let Some(name) = names.iter().find(|name| name.ends_with(".gguf")) {
        return format!("it is a directory with GGUF files; name one of them, such as {}", path.join(name).display());
    }
    let hint = match names.iter().any(|name| name.ends_with(".bin") || name.ends_with(".pth")) {
        true if missing == [WEIGHTS] => "; its weights are pickled, convert them to safetensors",
        _ => "",
    };
    let verb = if missing.len() == 1 { "is" } else { "are" };
    format!("it is no whole directory of safetensors: {} {verb} missing{hint}", missing.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A directory with these files, each as long as its name.
    fn directory(name: &str, files: &[&str]) -> PathBuf {
        let path = std::env::temp_dir().join(format!("sojourn-directory-{}-{name}", std::process::id()));
        drop(std::fs::remove_dir_all(&path));
        std::fs::create_dir_all(&path).unwrap();
        for file in files {
            std::fs::write(path.join(file), file).unwrap();
        }
        path
    }

    #[test]
    fn a_whole_directory_gives_its_files_and_their_size() {
        let path = directory("whole", &[CONFIG, "tokenizer.json", "tokenizer_config.json", WEIGHTS]);
        let found = ModelDirectory::read(&path).unwrap();
        assert_eq!(found.bytes, WEIGHTS.len() as u64);
        assert_eq!(found.weights, [path.join(WEIGHTS)]);
        assert_eq!(found.template, Some(path.join("tokenizer_config.json")));
        assert_eq!(found.generation_config, None);
    }

    #[test]
    fn an_index_names_the_shards_and_each_must_be_there() {
        let path = directory("sharded", &[CONFIG, "tokenizer.json", "b.safetensors", "other.safetensors"]);
        let index = r#"{"metadata": {}, "weight_map": {"x": "b.safetensors", "y": "a.safetensors", "z": "b.safetensors"}}"#;
        std::fs::write(path.join(INDEX), index).unwrap();
        let error = ModelDirectory::read(&path).unwrap_err().to_string();
        assert!(error.contains("a.safetensors, which is missing"), "{error}");
        std::fs::write(path.join("a.safetensors"), "12").unwrap();
        let found = ModelDirectory::read(&path).unwrap();
        assert_eq!(found.weights, [path.join("a.safetensors"), path.join("b.safetensors")]);
        assert_eq!(found.bytes, 2 + "b.safetensors".len() as u64);
    }

    #[test]
    fn an_index_cannot_lead_out_of_its_directory() {
        let path = directory("outside", &[CONFIG, "tokenizer.json"]);
        std::fs::write(path.join(INDEX), r#"{"weight_map": {"x": "../secret"}}"#).unwrap();
        assert!(ModelDirectory::read(&path).unwrap_err().to_string().contains("no file of this directory"));
    }

    #[test]
    fn what_is_no_model_says_what_is_missing() {
        for (name, files, expected) in [
            ("empty", &[][..], "config.json, tokenizer.json, model.safetensors are missing"),
            ("no-tokenizer", &[CONFIG, WEIGHTS][..], "tokenizer.json is missing"),
            ("pickled", &[CONFIG, "tokenizer.json", "pytorch_model.bin"][..], "convert them to safetensors"),
            ("gguf", &["b.gguf", "a.gguf"][..], "name one of them, such as"),
        ] {
            let error = ModelDirectory::read(&directory(name, files)).unwrap_err().to_string();
            assert!(error.contains(expected), "{name}: {error}");
        }
    }
}
