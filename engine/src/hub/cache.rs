//! The cache's layout, which is huggingface_hub's, so that caches can be shared with Python:
//! `models--ORG--REPO/{blobs/ETAG, refs/REVISION, snapshots/COMMIT/FILE -> ../../blobs/ETAG}` and `.locks/`.

use std::io;
use std::path::{Path, PathBuf};

use super::choice::Choice;
use super::error::HubError;
use super::repository::{Repository, is_commit};

/// Folders within folders that are looked into.
const MAX_DEPTH: usize = 4;

/// A model's place in the cache.
#[derive(Debug, Clone)]
pub(super) struct Cache {
    repository: PathBuf,
    locks: PathBuf,
}

/// A model that is in the cache, complete.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cached {
    /// What a loader is given: a GGUF file, or a directory.
    pub path: PathBuf,
    /// The commit that it is of.
    pub commit: String,
}

impl Cache {
    pub fn new(root: &Path, id: &str) -> Self {
        let name = format!("models--{}", id.replace('/', "--"));
        Self { repository: root.join(&name), locks: root.join(".locks").join(name) }
    }

    pub fn blob(&self, etag: &str) -> PathBuf {
        self.repository.join("blobs").join(etag)
    }

    pub fn incomplete(&self, etag: &str) -> PathBuf {
        self.repository.join("blobs").join(format!("{etag}.incomplete"))
    }

    pub fn lock(&self, etag: &str) -> PathBuf {
        self.locks.join(format!("{etag}.lock"))
    }

    fn snapshot(&self, commit: &str) -> PathBuf {
        self.repository.join("snapshots").join(commit)
    }

    fn file(&self, commit: &str, file: &str) -> PathBuf {
        self.snapshot(commit).join(file)
    }

    /// What a loader is given of a choice that is there.
    pub fn entry(&self, commit: &str, choice: &Choice) -> Cached {
        let snapshot = self.snapshot(commit);
        let path = choice.entry.as_ref().map_or(snapshot.clone(), |file| snapshot.join(file));
        Cached { path, commit: commit.to_owned() }
    }

    /// The model as an earlier start left it, if it is complete; at a branch or a tag, what that meant then.
    pub fn find(&self, repository: &Repository) -> Option<Cached> {
        let commit = self.commit(repository.revision())?;
        let choice = match &repository.file {
            Some(file) => Choice::of_file(file),
            None => Choice::of_repository(&files_below(&self.snapshot(&commit))).ok()?,
        };
        let complete = choice.files().all(|file| self.file(&commit, file).is_file());
        complete.then(|| self.entry(&commit, &choice))
    }

    fn commit(&self, revision: &str) -> Option<String> {
        if is_commit(revision) {
            return Some(revision.to_owned());
        }
        let text = std::fs::read_to_string(self.repository.join("refs").join(revision)).ok()?;
        Some(text.trim().to_owned()).filter(|commit| is_commit(commit))
    }

    /// Whether a file of a commit is there, with the size that it should have.
    pub fn has(&self, commit: &str, file: &str, size: u64) -> bool {
        is_whole(&self.file(commit, file), size)
    }

    /// Makes a blob a file of a commit.
    pub fn link(&self, commit: &str, file: &str, etag: &str) -> Result<(), HubError> {
        let path = self.file(commit, file);
        let linked = path.parent().map_or(Ok(()), std::fs::create_dir_all).and_then(|()| {
            let up = "../".repeat(2 + file.matches('/').count());
            let target = format!("{up}blobs/{etag}");
            match std::os::unix::fs::symlink(&target, &path) {
                // Another process was as fast, or it is the link to a blob that is gone.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                    std::fs::remove_file(&path)?;
                    std::os::unix::fs::symlink(&target, &path)
                }
                // Some shared file systems have no links: the file itself moves, as huggingface_hub does it.
                Err(error) if is_without_links(&error) => std::fs::rename(self.blob(etag), &path),
                result => result,
            }
        });
        match linked {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.exists() => Ok(()),
            result => result.map_err(HubError::disk(&path)),
        }
    }

    /// Remembers what a revision means. Where the cache is read-only and complete, nothing has to be remembered.
    pub fn remember(&self, revision: &str, commit: &str) {
        if is_commit(revision) || self.commit(revision).as_deref() == Some(commit) {
            return;
        }
        let path = self.repository.join("refs").join(revision);
        let written = path.parent().map_or(Ok(()), std::fs::create_dir_all).and_then(|()| std::fs::write(&path, commit));
        if let Err(error) = written {
            tracing::debug!(%error, path = %path.display(), "the cache does not remember the revision");
        }
    }
}

/// Whether a file is there and as long as it should be.
pub(super) fn is_whole(path: &Path, size: u64) -> bool {
    std::fs::metadata(path).is_ok_and(|metadata| metadata.is_file() && metadata.len() == size)
}

fn is_without_links(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::Unsupported)
}

/// Names of the files below a directory, relative to it; links to nowhere are none.
fn files_below(directory: &Path) -> Vec<String> {
    fn walk(directory: &Path, prefix: &str, depth: usize, files: &mut Vec<String>) {
        for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
            let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
            match std::fs::metadata(entry.path()) {
                Ok(metadata) if metadata.is_file() => files.push(name),
                Ok(metadata) if metadata.is_dir() && depth > 0 => {
                    walk(&entry.path(), &format!("{name}/"), depth - 1, files);
                }
                _ => {}
            }
        }
    }
    let mut files = Vec::new();
    walk(directory, "", MAX_DEPTH, &mut files);
    files.sort();
    files
}
