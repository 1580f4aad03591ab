//! What the command line calls MODEL: a file, a repository of the Hugging Face Hub, or a script.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use crate::backend::scripted::Script;
use crate::hub::{Repository, SCHEME};

/// Prefix of a scripted model's description.
const SCRIPTED: &str = "scripted:";

/// What can be loaded: everything lies in the file system.
#[derive(Debug, Clone, PartialEq)]
pub enum Source {
    /// A GGUF file.
    File(PathBuf),
    /// A model that is not one.
    Scripted(Script),
}

impl Source {
    /// Where the model's files are.
    pub fn directory(&self) -> Option<&Path> {
        match self {
            Self::File(path) if path.is_dir() => Some(path),
            Self::File(path) => path.parent(),
            Self::Scripted(_) => None,
        }
    }
}

/// Where a model is, which may be far away.
#[derive(Debug, Clone, PartialEq)]
pub enum Location {
    /// Here.
    Here(Source),
    /// On the Hugging Face Hub.
    Hub(Repository),
}

impl FromStr for Location {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::parse(text, Path::exists)
    }
}

impl Location {
    fn parse(text: &str, exists: impl Fn(&Path) -> bool) -> Result<Self, String> {
        if let Some(script) = text.strip_prefix(SCRIPTED) {
            return script.parse().map(|script| Self::Here(Source::Scripted(script)));
        }
        if text.starts_with(SCHEME) {
            return text.parse().map(Self::Hub);
        }
        if text.contains("://") {
            return Err(format!(
                "'{text}' is no model that this version loads: give a path or hf://ORG/REPO (in a cluster also pvc://CLAIM/FILE)"
            ));
        }
        // vLLM's bare ORG/REPO is as good a path: what is there is the path.
        if Repository::looks_like(text) && !exists(Path::new(text)) {
            let (folder, _) = text.split_once('/').unwrap_or_default();
            if exists(Path::new(folder)) {
                return Err(format!(
                    "'{text}' could be a path or a repository: there is a directory {folder} and no {text} in it. Write \
                     ./{text} for the path, {SCHEME}{text} for the repository"
                ));
            }
            return text.parse().map(Self::Hub);
        }
        Ok(Self::Here(Source::File(text.into())))
    }

    /// Name in requests and answers unless `--served-model-name` says otherwise: the repository's, or the file's without its
    /// extension.
    pub fn default_name(&self) -> String {
        match self {
            Self::Here(Source::File(path)) => {
                let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy();
                name.strip_suffix(".gguf").unwrap_or(&name).to_owned()
            }
            Self::Here(Source::Scripted(_)) => "scripted".to_owned(),
            Self::Hub(repository) => repository.id.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str, there: &[&str]) -> Result<Location, String> {
        Location::parse(text, |path| there.iter().any(|known| path == Path::new(known)))
    }

    #[test]
    fn a_location_is_a_file_a_script_or_a_repository() {
        let file = |path: &str| Ok(Location::Here(Source::File(path.into())));
        let hub = |text: &str| Ok(Location::Hub(text.parse().unwrap()));
        assert_eq!(parse("/m/a.gguf", &[]), file("/m/a.gguf"));
        assert_eq!(parse("m/a.gguf", &[]), file("m/a.gguf"));
        assert_eq!(parse("scripted:", &[]), Ok(Location::Here(Source::Scripted(Script::default()))));
        assert_eq!(parse("hf://org/repo@v1/a.gguf", &[]), hub("hf://org/repo@v1/a.gguf"));
        assert!(parse("s3://bucket/key", &[]).unwrap_err().contains("hf://ORG/REPO"));
        assert!(parse("hf://repo", &[]).unwrap_err().contains("write hf://ORG/REPO"));
    }

    #[test]
    fn vllms_bare_repository_is_understood_where_it_cannot_be_a_path() {
        assert_eq!(parse("org/repo", &[]), Ok(Location::Hub("hf://org/repo".parse().unwrap())));
        assert_eq!(
            parse("models/smollm", &["models", "models/smollm"]),
            Ok(Location::Here(Source::File("models/smollm".into())))
        );
        let said = parse("models/smolm", &["models"]).unwrap_err();
        assert!(said.contains("./models/smolm") && said.contains("hf://models/smolm"), "{said}");
    }

    #[test]
    fn a_model_is_called_after_its_file_or_its_repository() {
        let name = |text: &str| parse(text, &[]).unwrap().default_name();
        assert_eq!(name("/m/SmolLM2-Q8_0.gguf"), "SmolLM2-Q8_0");
        assert_eq!(name("hf://org/repo@v1/a.gguf"), "org/repo");
    }
}
