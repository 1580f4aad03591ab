//! Where and how a model is loaded, and the files of one.

use std::path::Path;

use clap::ValueEnum;

use super::directory::ModelDirectory;
use super::load_error::LoadError;

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
