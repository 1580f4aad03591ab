//! Why a model could not be had from the hub: what could not be done, why, and what to do.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sojourn_contract::env;
use sojourn_contract::exit::Reason;
use sojourn_contract::flag;

use super::choice::NoChoice;
use super::repository::Repository;

/// GGUF files that a message names at most: Kubernetes keeps 4 KiB of it.
const NAMED_FILES: usize = 24;

/// Why a model could not be had from the hub.
#[derive(Debug, thiserror::Error)]
pub enum HubError {
    /// A flag or a variable is wrong.
    #[error("{0}")]
    Configuration(String),
    /// The hub knows no such repository, or does not show it.
    #[error(
        "there is no repository {id} on {endpoint}, or it is private: check its name, and that {} holds a token that may \
         read it",
        env::HF_TOKEN
    )]
    NoRepository {
        /// `ORG/REPO`.
        id: String,
        /// Where it was looked for.
        endpoint: String,
    },
    /// The repository has no such revision.
    #[error("{id} has no revision {revision}: give a branch, a tag or a whole commit hash")]
    NoRevision {
        /// `ORG/REPO`.
        id: String,
        /// What was asked for.
        revision: String,
    },
    /// The repository has no such file.
    #[error("{id} has no file {file} at revision {revision}: see {endpoint}/{id}/tree/{revision}")]
    NoFile {
        /// `ORG/REPO`.
        id: String,
        /// What was asked for.
        file: String,
        /// At this revision.
        revision: String,
        /// On this hub.
        endpoint: String,
    },
    /// The author wants to be asked first.
    #[error("{id} is gated: ask for access on {endpoint}/{id}, and give a token of that account in {} ({said})", env::HF_TOKEN)]
    Gated {
        /// `ORG/REPO`.
        id: String,
        /// On this hub.
        endpoint: String,
        /// The hub's own words.
        said: String,
    },
    /// The token is none.
    #[error("{endpoint} does not accept the token in {}: {said}; give a valid one, or none for a public model", env::HF_TOKEN)]
    BadToken {
        /// The hub.
        endpoint: String,
        /// Its own words.
        said: String,
    },
    /// The repository is there and holds no model, or several.
    #[error("{}", no_choice(repository, why))]
    NoChoice {
        /// Where it was looked for.
        repository: Repository,
        /// What is there.
        why: NoChoice,
    },
    /// The hub does not answer, or goes on saying that it cannot.
    #[error("{endpoint} cannot be used: {why}; check the network, the proxy variables and {}", env::HF_ENDPOINT)]
    Unavailable {
        /// The hub.
        endpoint: String,
        /// The last failure.
        why: String,
    },
    /// It must not be asked, and the cache does not have the model.
    #[error(
        "{repository} is not complete in {}, and {} forbids to fetch it: fetch it before with `sojourn-engine download \
         {repository}`",
        cache.display(),
        env::HF_HUB_OFFLINE
    )]
    Offline {
        /// What was asked for.
        repository: Repository,
        /// The cache.
        cache: PathBuf,
    },
    /// No byte came for too long.
    #[error("the download of {repository} has stalled: no byte came for {} s; see --{}", patience.as_secs(), flag::STARTUP_TIMEOUT)]
    Stalled {
        /// What was fetched.
        repository: Repository,
        /// For how long.
        patience: Duration,
    },
    /// What came is not what the hub announced, twice.
    #[error("{file} came damaged twice: its checksum is not {etag}; a proxy or a mirror on the way alters it")]
    Corrupt {
        /// The file in the repository.
        file: String,
        /// What its checksum should be.
        etag: String,
    },
    /// The hub says something that is no answer.
    #[error("{endpoint} gives an answer that is not a hub's: {why}; check {}", env::HF_ENDPOINT)]
    Protocol {
        /// The hub.
        endpoint: String,
        /// What is wrong with it.
        why: String,
    },
    /// The cache cannot be written.
    #[error("cannot write {}: {error}; {}", path.display(), disk_advice(error))]
    Disk {
        /// Which file.
        path: PathBuf,
        /// What the file system says.
        error: io::Error,
    },
}

impl HubError {
    /// What the process says when it ends for this reason.
    pub fn reason(&self) -> Reason {
        match self {
            Self::Configuration(_) | Self::NoChoice { why: NoChoice::Several(_), .. } => Reason::InvalidConfiguration,
            Self::NoRepository { .. }
            | Self::NoRevision { .. }
            | Self::NoFile { .. }
            | Self::Gated { .. }
            | Self::BadToken { .. }
            | Self::NoChoice { .. }
            | Self::Offline { .. } => Reason::ModelNotFound,
            Self::Unavailable { .. }
            | Self::Stalled { .. }
            | Self::Corrupt { .. }
            | Self::Protocol { .. }
            | Self::Disk { .. } => Reason::ModelLoadFailed,
        }
    }

    /// Whether what an earlier start has fetched is better than nothing. A revision or a file that is not there is a mistake
    /// in what was asked for, which an old answer would hide.
    pub(super) fn allows_the_cached(&self) -> bool {
        matches!(
            self,
            Self::Unavailable { .. }
                | Self::Protocol { .. }
                | Self::NoRepository { .. }
                | Self::Gated { .. }
                | Self::BadToken { .. }
        )
    }

    pub(super) fn disk(path: &Path) -> impl FnOnce(io::Error) -> Self + use<> {
        let path = path.to_owned();
        move |error| Self::Disk { path, error }
    }
}

fn disk_advice(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            format!("free space there, or give a larger place with --{}", flag::DOWNLOAD_DIR)
        }
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            format!("give a directory that this user may write with --{}", flag::DOWNLOAD_DIR)
        }
        _ => format!("see --{}", flag::DOWNLOAD_DIR),
    }
}

fn no_choice(repository: &Repository, why: &NoChoice) -> String {
    match why {
        NoChoice::Several(files) => {
            let named = files.iter().take(NAMED_FILES).map(String::as_str).collect::<Vec<_>>().join(", ");
            let more = files.len().saturating_sub(NAMED_FILES);
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            format!("{repository} holds several GGUF models: write {repository}/FILE with one of {named}{more}")
        }
        NoChoice::NoModel => format!(
            "{repository} holds no model that can be loaded: there is no GGUF file, and no config.json with *.safetensors beside it"
        ),
        NoChoice::Missing(file) => format!("{repository} is incomplete: it lacks {file}, a piece of the model"),
    }
}
