//! Why a model could not be loaded.

use std::path::PathBuf;

use sojourn_contract::{flag, image};

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
    /// It does not fit the device's memory.
    #[error("{} cannot be loaded: out of memory: {reason}", path.display())]
    OutOfMemory {
        /// Where it is.
        path: PathBuf,
        /// What does not fit, and what to do.
        reason: String,
    },
    /// The device that was asked for is not there, or cannot be used.
    #[error("{0}")]
    DeviceUnavailable(String),
    /// The device that was asked for is older than what this build is for.
    #[error("{0}")]
    UnsupportedDevice(String),
    /// It is there, and loading it failed.
    #[error("{} cannot be loaded: {reason}", path.display())]
    Failed {
        /// Where it is.
        path: PathBuf,
        /// What the loader says.
        reason: String,
    },
}

impl LoadError {
    /// A GPU was asked of a build that has no code for it.
    pub fn cpu_build() -> Self {
        Self::DeviceUnavailable(format!(
            "this is the CPU build of sojourn-engine, and --{} cuda needs the CUDA build: image {}/{}, or `make cuda`",
            flag::DEVICE,
            image::REGISTRY,
            image::ENGINE_CUDA
        ))
    }
}
