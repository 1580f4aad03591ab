//! What every loader says of a model's files, and why it cannot load them.

use std::path::{Path, PathBuf};

/// Why a model could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// Nothing is there.
    #[error("there is no model at {}: {reason}", path.display())]
    NotFound {
        /// Where it should be.
        path: PathBuf,
        /// What the file system says.
        reason: String,
    },
    /// It is there, and not a form that this version loads.
    #[error("{} cannot be loaded: {reason}", path.display())]
    Unsupported {
        /// Where it is.
        path: PathBuf,
        /// What is wrong, and what to do.
        reason: String,
    },
    /// It is there, and loading it failed.
    #[error("{} cannot be loaded: {reason}", path.display())]
    Failed {
        /// Where it is.
        path: PathBuf,
        /// What the loader says.
        reason: String,
    },
}

/// Checks that a GGUF file is where the path says; gives its size in bytes.
pub fn find(path: &Path) -> Result<u64, LoadError> {
    let not_found = |error: std::io::Error| LoadError::NotFound { path: path.to_owned(), reason: error.to_string() };
    let metadata = std::fs::metadata(path).map_err(not_found)?;
    let unsupported = |reason: &str| LoadError::Unsupported { path: path.to_owned(), reason: reason.to_owned() };
    if metadata.is_dir() {
        return Err(unsupported("it is a directory; this version loads single GGUF files, name one of them"));
    }
    if path.extension().is_none_or(|extension| extension != "gguf") {
        return Err(unsupported("this version loads GGUF files, whose names end in .gguf"));
    }
    std::fs::File::open(path).map_err(not_found)?;
    Ok(metadata.len())
}
