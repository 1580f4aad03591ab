//! Which files of a repository make a model. Pure: names in, names out.

use super::repository::has_extension;

/// Largest number of pieces that a model is believed to be cut into.
const MAX_SHARDS: u32 = 999;
/// Files at a repository's root, beside the weights, that have no extension of their own kind.
const TEXTS: [&str; 3] = ["tokenizer.model", "merges.txt", "vocab.txt"];

/// The files of a model, in the order in which they are fetched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    /// Configuration and tokenizer: first, so that where the weights are all else is.
    pub small: Vec<String>,
    /// The weights.
    pub weights: Vec<String>,
    /// The file that a loader is given; none where it takes the directory.
    pub entry: Option<String>,
}

/// Why a repository is no model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NoChoice {
    /// Several GGUF files, any of which could be meant.
    Several(Vec<String>),
    /// Neither a GGUF file nor safetensors.
    NoModel,
    /// Pieces of a set that are not there.
    Missing(String),
}

impl Choice {
    /// The model in a GGUF file, with its other pieces if it is one of a set.
    pub fn of_file(file: &str) -> Self {
        let weights = shards(file).unwrap_or_else(|| vec![file.to_owned()]);
        Self { small: Vec::new(), entry: weights.first().cloned(), weights }
    }

    /// The model in a repository with these files. Safetensors before GGUF, as vLLM does: a GGUF file has a name.
    pub fn of_repository(files: &[String]) -> Result<Self, NoChoice> {
        let choice = match safetensors(files) {
            Some(choice) => choice,
            None => Self::of_file(&only_gguf(files)?),
        };
        match choice.weights.iter().find(|file| !files.contains(file)) {
            Some(missing) => Err(NoChoice::Missing(missing.clone())),
            None => Ok(choice),
        }
    }

    /// Every file.
    pub fn files(&self) -> impl Iterator<Item = &String> {
        self.small.iter().chain(&self.weights)
    }
}

/// The transformers library's layout: everything lies at the root.
fn safetensors(files: &[String]) -> Option<Choice> {
    let root: Vec<&String> = files.iter().filter(|file| !file.contains('/')).collect();
    if !root.iter().any(|file| *file == "config.json") {
        return None;
    }
    let all: Vec<&String> = root.iter().copied().filter(|file| has_extension(file, "safetensors")).collect();
    // Beside `model-*.safetensors` some repositories have the same weights in another layout.
    let named: Vec<&String> = all.iter().copied().filter(|file| file.starts_with("model")).collect();
    let mut weights: Vec<String> = Vec::new();
    for file in if named.is_empty() { all } else { named } {
        weights.extend(shards(file).unwrap_or_else(|| vec![file.clone()]));
    }
    weights.sort();
    weights.dedup();
    let is_small = |file: &str| has_extension(file, "json") || has_extension(file, "jinja") || TEXTS.contains(&file);
    let small = root.into_iter().filter(|file| is_small(file)).cloned().collect();
    (!weights.is_empty()).then_some(Choice { small, weights, entry: None })
}

/// The one GGUF model; the pieces of a set are one, and a projector for images (`mmproj`) is none.
fn only_gguf(files: &[String]) -> Result<String, NoChoice> {
    let is_model = |file: &&String| {
        let name = file.rsplit_once('/').map_or(file.as_str(), |(_, name)| name);
        has_extension(name, "gguf") && !name.starts_with("mmproj")
    };
    let first = |file: &String| shards(file).and_then(|shards| shards.into_iter().next()).unwrap_or_else(|| file.clone());
    let mut models: Vec<String> = files.iter().filter(is_model).map(first).collect();
    models.sort();
    models.dedup();
    match models.len() {
        0 => Err(NoChoice::NoModel),
        1 => Ok(models.remove(0)),
        _ => Err(NoChoice::Several(models)),
    }
}

/// All pieces of the set that a file is one of: `NAME-00002-of-00005.EXTENSION`.
fn shards(file: &str) -> Option<Vec<String>> {
    let (stem, extension) = file.rsplit_once('.')?;
    let (rest, count) = stem.rsplit_once("-of-")?;
    let (name, index) = rest.rsplit_once('-')?;
    let number = |text: &str| (text.len() == 5).then(|| text.parse::<u32>().ok()).flatten();
    let (index, count) = (number(index)?, number(count)?);
    let legal = index >= 1 && index <= count && count <= MAX_SHARDS;
    legal.then(|| (1..=count).map(|index| format!("{name}-{index:05}-of-{count:05}.{extension}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choose(files: &[&str]) -> Result<Choice, NoChoice> {
        Choice::of_repository(&files.iter().map(|file| (*file).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn a_repository_of_safetensors_is_its_configuration_its_tokenizer_and_its_weights() {
        let choice = choose(&[
            ".gitattributes",
            "README.md",
            "chat_template.jinja",
            "config.json",
            "consolidated.safetensors",
            "generation_config.json",
            "model-00001-of-00002.safetensors",
            "model-00002-of-00002.safetensors",
            "model.safetensors.index.json",
            "onnx/config.json",
            "onnx/model.safetensors",
            "pytorch_model.bin",
            "repo-Q8_0.gguf",
            "tokenizer.json",
        ])
        .unwrap();
        assert_eq!(
            choice.small,
            ["chat_template.jinja", "config.json", "generation_config.json", "model.safetensors.index.json", "tokenizer.json"]
        );
        assert_eq!(choice.weights, ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]);
        assert_eq!(choice.entry, None);
    }

    #[test]
    fn the_only_gguf_file_is_the_model() {
        let choice = choose(&["README.md", "config.json", "mmproj-f16.gguf", "a/m.gguf"]).unwrap();
        assert_eq!(
            (choice.weights.as_slice(), choice.entry.as_deref()),
            (["a/m.gguf".to_owned()].as_slice(), Some("a/m.gguf"))
        );
    }

    #[test]
    fn of_several_gguf_files_none_is_chosen() {
        assert_eq!(choose(&["b.gguf", "a.gguf"]), Err(NoChoice::Several(vec!["a.gguf".into(), "b.gguf".into()])));
        assert_eq!(choose(&["README.md", "adapter_model.safetensors"]), Err(NoChoice::NoModel));
    }

    #[test]
    fn pieces_belong_together() {
        let pieces = ["q/m-00001-of-00002.gguf", "q/m-00002-of-00002.gguf"];
        let choice = choose(&pieces).unwrap();
        assert_eq!(
            (choice.weights.as_slice(), choice.entry.as_deref()),
            (pieces.map(String::from).as_slice(), Some(pieces[0]))
        );
        assert_eq!(Choice::of_file(pieces[1]), choice);
        assert_eq!(choose(&pieces[..1]), Err(NoChoice::Missing(pieces[1].into())));
        assert_eq!(choose(&["config.json", "model-00002-of-00002.safetensors"]).unwrap_err(), {
            NoChoice::Missing("model-00001-of-00002.safetensors".into())
        });
    }
}
