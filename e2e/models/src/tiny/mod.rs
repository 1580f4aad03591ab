//! Random models of a few thousand weights: one GGUF file or safetensors directory for each architecture, in the form in which
//! real ones come, with a tokenizer and a chat template. They say nothing sensible and are the same for the same seed, so a
//! test can hold what one program makes of them against what another makes.

mod gguf;
pub(crate) mod random;
mod safetensors;
mod vocabulary;

use std::path::Path;

use clap::ValueEnum;

pub use vocabulary::{END_OF_TEXT, END_OF_TURN, START_OF_TURN, VOCABULARY, byte_level};

/// What weights are drawn from unless another seed is given: one whose models do not fall into repeating a token.
pub const DEFAULT_SEED: u64 = 2;
/// Longest context, in tokens: four of the 512-token blocks by which mistral.rs grows a KV cache.
pub const CONTEXT_LENGTH: u32 = 2048;
/// Tokens that a layer with a sliding window looks back on.
pub const SLIDING_WINDOW: u32 = 24;

const LAYERS: usize = 3;
/// A multiple of 32, the block of Q8_0.
const HIDDEN: usize = 64;
const FEED_FORWARD: usize = 128;
const HEADS: usize = 4;
const KV_HEADS: usize = 2;
const HEAD_SIZE: usize = HIDDEN / HEADS;
const KV: usize = KV_HEADS * HEAD_SIZE;
const NORM_EPSILON: f32 = 1e-5;
const ROPE_BASE: f32 = 10_000.0;

/// What can be made. The first eight are GGUF files, the architectures that mistral.rs 0.8.1 loads from them; the others are
/// directories as Hugging Face has them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Architecture {
    /// Llama.
    #[value(name = "llama")]
    Llama,
    /// Mistral 3, which is Llama under another name.
    #[value(name = "mistral3")]
    Mistral3,
    /// Phi 2: attention and feed-forward side by side.
    #[value(name = "phi2")]
    Phi2,
    /// Phi 3: one matrix for queries, keys and values.
    #[value(name = "phi3")]
    Phi3,
    /// StarCoder 2.
    #[value(name = "starcoder2")]
    Starcoder2,
    /// Qwen 2: biases on queries, keys and values.
    #[value(name = "qwen2")]
    Qwen2,
    /// Qwen 3: norms on queries and keys.
    #[value(name = "qwen3")]
    Qwen3,
    /// Qwen 3 with a mixture of experts.
    #[value(name = "qwen3moe")]
    Qwen3Moe,
    /// Llama, as a directory.
    #[value(name = "llama-safetensors")]
    LlamaSafetensors,
    /// Mistral with a sliding window of [`SLIDING_WINDOW`] tokens, as a directory.
    #[value(name = "mistral-safetensors")]
    MistralSafetensors,
    /// Qwen 3 whose first layer looks back on everything and whose others do through that window, as a directory.
    #[value(name = "qwen3-safetensors")]
    Qwen3Safetensors,
    /// Granite's hybrid of attention and state-space layers (here attention alone), whose cache is of another kind.
    #[value(name = "granite-hybrid-safetensors")]
    GraniteHybridSafetensors,
}

impl Architecture {
    /// Its name on the command line; for a GGUF file also in the file.
    pub fn name(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
    }
}

/// Writes a model: a GGUF file at `out`, or a directory there.
pub fn write(architecture: Architecture, seed: u64, out: &Path) -> anyhow::Result<()> {
    let weights = random::Weights::new(seed);
    match architecture {
        Architecture::LlamaSafetensors
        | Architecture::MistralSafetensors
        | Architecture::Qwen3Safetensors
        | Architecture::GraniteHybridSafetensors => safetensors::write(architecture, &weights, out),
        _ => gguf::write(architecture, &weights, out),
    }
}
