//! What `hf://ORG/REPO[@REVISION][/FILE.gguf]` says. Pure.

use std::fmt;
use std::str::FromStr;

/// Scheme of a model on the Hugging Face Hub.
pub const SCHEME: &str = "hf://";
/// Revision where none is given.
const DEFAULT_REVISION: &str = "main";
/// Namespaces of git references that are revisions of three segments: `refs/pr/1`.
const REFERENCES: [&str; 2] = ["refs/pr/", "refs/convert/"];
const MAX_NAME: usize = 96;

/// A model on the Hugging Face Hub.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Repository {
    /// `ORG/REPO`.
    pub id: String,
    /// Branch, tag or commit; `main` where it is not given.
    revision: Option<String>,
    /// A GGUF file in it; else the repository is the model.
    pub file: Option<String>,
}

impl Repository {
    /// Reads what stands behind [`SCHEME`]; the error says what to write.
    fn parse(text: &str) -> Result<Self, String> {
        let (org, rest) = text.split_once('/').unwrap_or((text, ""));
        let end = rest.find(['@', '/']).unwrap_or(rest.len());
        let (repo, rest) = rest.split_at(end);
        if !is_name(org) || !is_name(repo) {
            return Err("write hf://ORG/REPO, for example hf://HuggingFaceTB/SmolLM2-135M-Instruct".to_owned());
        }
        let (revision, file) = match rest.strip_prefix('@') {
            Some(rest) => split_revision(rest),
            None => (None, rest.strip_prefix('/')),
        };
        let repository = Self { id: format!("{org}/{repo}"), revision: None, file: file.map(gguf).transpose()? };
        match revision {
            Some(revision) => repository.at(revision),
            None => Ok(repository),
        }
    }

    /// The same at a revision.
    pub fn at(self, revision: &str) -> Result<Self, String> {
        let known = |byte: u8| byte.is_ascii_alphanumeric() || b"._-/".contains(&byte);
        if !revision.bytes().all(known) || !is_path(revision) {
            return Err(format!("'{revision}' is no revision: give a branch, a tag or a commit"));
        }
        if self.revision.as_deref().is_some_and(|own| own != revision) {
            return Err(format!("{self} names another revision than {revision}: give one of them"));
        }
        Ok(Self { revision: Some(revision.to_owned()), ..self })
    }

    /// Branch, tag or commit.
    pub fn revision(&self) -> &str {
        self.revision.as_deref().unwrap_or(DEFAULT_REVISION)
    }

    /// The revision is one that can never mean anything else.
    pub fn is_pinned(&self) -> bool {
        is_commit(self.revision())
    }

    /// Whether a text can be read as vLLM's bare `ORG/REPO`, which is as good a relative path.
    pub fn looks_like(text: &str) -> bool {
        text.split_once('/').is_some_and(|(org, repo)| is_name(org) && is_name(repo) && !has_extension(repo, "gguf"))
    }
}

impl FromStr for Repository {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::parse(text.strip_prefix(SCHEME).unwrap_or(text))
    }
}

impl fmt::Display for Repository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{SCHEME}{}", self.id)?;
        if let Some(revision) = &self.revision {
            write!(f, "@{revision}")?;
        }
        if let Some(file) = &self.file {
            write!(f, "/{file}")?;
        }
        Ok(())
    }
}

/// Whether a text is a whole commit hash.
pub(super) fn is_commit(text: &str) -> bool {
    text.len() == 40 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// Whether a file's name has an extension, in whatever case.
pub(super) fn has_extension(file: &str, extension: &str) -> bool {
    file.rsplit_once('.').is_some_and(|(_, own)| own.eq_ignore_ascii_case(extension))
}

/// The hub's rule. `--` would make the names of the cache's directories ambiguous.
fn is_name(text: &str) -> bool {
    let known = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    let edges = |byte: Option<u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    text.len() <= MAX_NAME
        && text.bytes().all(known)
        && edges(text.bytes().next())
        && edges(text.bytes().last())
        && !text.contains("--")
        && !text.contains("..")
}

/// Whether a text is a path that stays within a repository.
pub(super) fn is_path(text: &str) -> bool {
    !text.contains(['\\', '\0']) && !text.split('/').any(|segment| matches!(segment, "" | "." | ".."))
}

/// What stands behind the `@`: a revision, which has a slash only as `refs/pr/1`, and a file.
fn split_revision(rest: &str) -> (Option<&str>, Option<&str>) {
    let prefix = REFERENCES.iter().find(|prefix| rest.starts_with(**prefix)).map_or(0, |prefix| prefix.len());
    match rest[prefix..].find('/') {
        Some(at) => (Some(&rest[..prefix + at]), Some(&rest[prefix + at + 1..])),
        None => (Some(rest), None),
    }
}

fn gguf(file: &str) -> Result<String, String> {
    if !is_path(file) {
        return Err(format!("'{file}' is no path in a repository: write hf://ORG/REPO/FILE.gguf"));
    }
    if !has_extension(file, "gguf") {
        return Err(format!(
            "'{file}' is no GGUF file; a model in safetensors is its whole repository: write hf://ORG/REPO alone"
        ));
    }
    Ok(file.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repository_a_revision_and_a_file_are_understood() {
        let cases = [
            ("hf://org/repo", "org/repo", "main", None),
            ("org/repo", "org/repo", "main", None),
            ("hf://org/repo@v1.0", "org/repo", "v1.0", None),
            ("hf://org/repo/a/b.gguf", "org/repo", "main", Some("a/b.gguf")),
            ("hf://org/repo@refs/pr/7/b.GGUF", "org/repo", "refs/pr/7", Some("b.GGUF")),
            ("hf://my_org/Repo-1.5B@main/b.gguf", "my_org/Repo-1.5B", "main", Some("b.gguf")),
        ];
        for (text, id, revision, file) in cases {
            let repository: Repository = text.parse().unwrap();
            assert_eq!((repository.id.as_str(), repository.revision(), repository.file.as_deref()), (id, revision, file));
        }
        let full = "hf://org/repo@refs/pr/7/b.gguf";
        assert_eq!(full.parse::<Repository>().unwrap().to_string(), full);
    }

    #[test]
    fn what_is_no_repository_is_refused_with_what_to_write() {
        let cases = [
            ("hf://org", "write hf://ORG/REPO"),
            ("hf://org/", "write hf://ORG/REPO"),
            ("hf://../repo", "write hf://ORG/REPO"),
            ("hf://org/a--b", "write hf://ORG/REPO"),
            ("hf://org/repo@", "is no revision"),
            ("hf://org/repo@a b", "is no revision"),
            ("hf://org/repo/../x.gguf", "is no path in a repository"),
            ("hf://org/repo/model.safetensors", "write hf://ORG/REPO alone"),
        ];
        for (text, expected) in cases {
            let said = text.parse::<Repository>().unwrap_err();
            assert!(said.contains(expected), "{text}: {said}");
        }
    }

    #[test]
    fn two_revisions_are_one_too_many() {
        let repository: Repository = "hf://org/repo@v1".parse().unwrap();
        assert_eq!(repository.clone().at("v1").unwrap(), repository);
        assert!(repository.at("v2").unwrap_err().contains("another revision"));
    }

    #[test]
    fn only_a_whole_commit_pins() {
        let at = |revision: &str| "org/repo".parse::<Repository>().unwrap().at(revision).unwrap();
        assert!(at(&"0a".repeat(20)).is_pinned());
        assert!(!at("0a0a0a0").is_pinned());
        assert!(!at("main").is_pinned());
    }
}
