//! The models and the prompts of these tests.

use std::path::{Path, PathBuf};

use sojourn_models::tiny::{self, Architecture, VOCABULARY};

/// Tokens that are generated for each prompt.
pub const COUNT: usize = 32;

/// Makes a model below the target directory; tests run side by side, so each has its own.
pub fn model(test: &str, architecture: Architecture) -> PathBuf {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("architectures").join(test);
    std::fs::create_dir_all(&directory).unwrap();
    let name = architecture.name();
    let path = directory.join(if name.ends_with("safetensors") { name } else { format!("{name}.gguf") });
    tiny::write(architecture, tiny::DEFAULT_SEED, &path).unwrap();
    path
}

/// Eight prompts of different lengths, the last of which reaches across the border of a 512-token block of KV while the
/// completion is generated.
pub fn prompts() -> Vec<Vec<u32>> {
    [7, 19, 30, 11, 41, 26, 3, 500].into_iter().enumerate().map(|(index, length)| prompt(index, length)).collect()
}

/// A prompt of ordinary tokens.
pub fn prompt(index: usize, length: usize) -> Vec<u32> {
    let words = VOCABULARY - 3;
    (0..length).map(|position| ((position * position * 31 + position * 7 + index * 101 + 17) % words) as u32).collect()
}
