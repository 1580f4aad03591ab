//! What every loader says of a model's files, and why it cannot load them.

use std::path::{Path, PathBuf};

use clap::ValueEnum;
use sojourn_contract::{flag, image};

use super::directory::ModelDirectory;

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

/// Where a model runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Device {
    /// The processor.
    Cpu,
    /// An NVIDIA GPU; needs the CUDA build.
    Cuda,
}

impl Default for Device {
    /// What the build is for.
    fn default() -> Self {
        if cfg!(feature = "cuda") { Self::Cuda } else { Self::Cpu }
    }
}

/// Type of a model's activations and KV, and of its weights where the files do not quantise them; vLLM's names.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Dtype {
    /// What is fastest where the model runs: float32 on the CPU, bfloat16 on a GPU.
    #[default]
    #[value(name = "auto")]
    Auto,
    /// 16 bits, IEEE 754.
    #[value(name = "float16", alias = "half")]
    Float16,
    /// 16 bits with the exponent of 32.
    #[value(name = "bfloat16")]
    Bfloat16,
    /// 32 bits.
    #[value(name = "float32", alias = "float")]
    Float32,
}

/// What is at a model's path.
#[derive(Debug)]
pub enum Files {
    /// One GGUF file.
    Gguf {
        /// Its size.
        bytes: u64,
    },
    /// A directory of safetensors.
    Directory(ModelDirectory),
}

impl Files {
    /// Bytes of weights that loading has to read.
    pub fn bytes(&self) -> u64 {
        match self {
            Self::Gguf { bytes } => *bytes,
            Self::Directory(directory) => directory.bytes,
        }
    }
}

/// Checks that a model is where the path says, whole and in a form that this version loads.
pub fn find(path: &Path) -> Result<Files, LoadError> {
    let not_found = |error: std::io::Error| LoadError::NotFound { path: path.to_owned(), reason: error.to_string() };
    let metadata = std::fs::metadata(path).map_err(not_found)?;
    if metadata.is_dir() {
        return ModelDirectory::read(path).map(Files::Directory);
    }
    if path.extension().is_none_or(|extension| extension != "gguf") {
        let reason = "this version loads GGUF files, whose names end in .gguf, and directories of safetensors";
        return Err(LoadError::Unsupported { path: path.to_owned(), reason: reason.to_owned() });
    }
    std::fs::File::open(path).map_err(not_found)?;
    Ok(Files::Gguf { bytes: metadata.len() })
}
