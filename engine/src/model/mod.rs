//! From what the command line calls MODEL to something that can be served: its backend, its text side, and its length.

pub mod generation_config;
mod source;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;

use sojourn_contract::exit::{Reason, Termination};
use sojourn_contract::flag;

use crate::backend::load::{self, Device, Dtype};
use crate::backend::load_error::LoadError;
use crate::backend::scripted::{EOS, Script, Scripted};
use crate::backend::{Backend, StepError, Want, Work};
use crate::hub::HubError;
use crate::text::{ChatTemplate, Text, TextError, bytes};

use generation_config::{GenerationConfig, GenerationConfigError};
pub use source::{Location, Source};

/// KV tokens when `--kv-cache-tokens` is not given, unless one request of full length needs more.
#[cfg(feature = "mistralrs")]
const DEFAULT_KV_CACHE_TOKENS: u32 = 16_384;
/// What the command line says of the model's use.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Wishes {
    /// Longest prompt and completion together; the model's own where it is not given.
    pub max_model_len: Option<u32>,
    /// Where it runs.
    pub device: Device,
    /// Tokens that the KV cache holds.
    pub kv_cache_tokens: Option<u32>,
    /// Part of the GPU's memory that may be used.
    pub gpu_memory_utilization: Option<f64>,
    /// Sequences in one step at most; of interest on a GPU, which keeps room for them.
    pub max_num_seqs: u32,
    /// Tokens in one step at most; of interest on a GPU, which keeps room for them.
    pub step_tokens: u32,
    /// A template instead of the model's own.
    pub chat_template: Option<String>,
    /// Where defaults of requests come from.
    pub generation_config: generation_config::Origin,
    /// Defaults of requests that replace those.
    pub generation_overrides: generation_config::Overrides,
    /// Type of activations and KV.
    pub dtype: Dtype,
}

/// A loaded model.
pub struct Model {
    /// Runs it.
    pub backend: Box<dyn Backend>,
    /// Its text side.
    pub text: Arc<Text>,
    /// Longest prompt and completion together, in tokens.
    pub max_model_len: u32,
    /// Defaults of requests that come with it.
    pub generation: GenerationConfig,
}

/// Why there is no model.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// Its download.
    #[error(transparent)]
    Hub(#[from] HubError),
    /// Its files.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// Its template.
    #[error(transparent)]
    Text(#[from] TextError),
    /// Its defaults of requests.
    #[error(transparent)]
    Generation(#[from] GenerationConfigError),
    /// A wish that it cannot fulfil.
    #[error("{0}")]
    Wish(String),
    /// Its first step.
    #[error("the model was loaded and its first step failed: {0}")]
    WarmUp(#[from] StepError),
}

impl ModelError {
    /// What the process says when it ends for this reason.
    pub fn termination(&self) -> Termination {
        let reason = match self {
            Self::Hub(error) => error.reason(),
            Self::Load(LoadError::NotFound { .. }) => Reason::ModelNotFound,
            Self::Load(LoadError::OutOfMemory { .. }) => Reason::OutOfMemory,
            Self::Load(LoadError::DeviceUnavailable(_)) | Self::WarmUp(StepError::DeviceLost(_)) => Reason::DeviceUnavailable,
            Self::Load(LoadError::UnsupportedDevice(_)) => Reason::UnsupportedDevice,
            Self::Load(_) | Self::Text(_) | Self::WarmUp(StepError::Failed(_)) => Reason::ModelLoadFailed,
            Self::WarmUp(StepError::OutOfMemory(_)) => Reason::OutOfMemory,
            Self::Generation(_) | Self::Wish(_) => Reason::InvalidConfiguration,
        };
        Termination { reason, message: self.to_string() }
    }
}

/// Bytes that loading has to read.
pub fn size(source: &Source) -> Result<u64, ModelError> {
    match source {
        Source::File(path) => Ok(load::find(path)?.bytes()),
        Source::Scripted(_) => Ok(0),
    }
}

/// Loads a model. Blocks for as long as that takes.
pub fn load(source: &Source, wishes: &Wishes) -> Result<Model, ModelError> {
    let generation = generation_config::read(&wishes.generation_config, source.directory(), &wishes.generation_overrides)?;
    if generation != GenerationConfig::default() {
        tracing::info!(?generation, "requests have other defaults than the API's; see --{}", flag::GENERATION_CONFIG);
    }
    let model = match source {
        Source::File(path) => load_file(path, wishes)?,
        Source::Scripted(script) => load_script(script, wishes)?,
    };
    Ok(Model { generation, ..model })
}

#[cfg(feature = "mistralrs")]
fn load_file(path: &Path, wishes: &Wishes) -> Result<Model, ModelError> {
    use crate::backend::mistralrs::gpu::{Demand, Gpu};
    use crate::backend::mistralrs::{KV_BLOCK_TOKENS, MistralRs, arithmetic::architecture, device, load::load_onto};
    use crate::backend::paged::capacity::KvBudget;
    if wishes.device == Device::Cpu && wishes.dtype == Dtype::Bfloat16 {
        let message = "--dtype bfloat16 has no kernels on the CPU; write float32, or float16 for half the KV memory";
        return Err(ModelError::Wish(message.to_owned()));
    }
    let (loaded, described) = load_onto(path, wishes.dtype, &device::open(wishes.device)?)?;
    let max_model_len = wished_length(wishes, described.max_model_len)?;
    let template = wishes.chat_template.clone().or(described.chat_template);
    let template =
        template.map(|source| ChatTemplate::compile(source, described.bos_token, described.eos_token)).transpose()?;
    let text = Text::new(described.tokenizer, template, described.eos_token_ids);
    let backend: Box<dyn Backend> = match wishes.device {
        Device::Cpu => {
            let tokens = wishes.kv_cache_tokens.unwrap_or(DEFAULT_KV_CACHE_TOKENS.max(max_model_len));
            let backend = MistralRs::new(loaded, tokens.div_ceil(KV_BLOCK_TOKENS), text.vocab_size());
            Box::new(backend.with_architecture(architecture(path)))
        }
        Device::Cuda => {
            let budget = KvBudget::of_flags(wishes.kv_cache_tokens, wishes.gpu_memory_utilization);
            let Wishes { step_tokens, max_num_seqs, .. } = *wishes;
            let demand = Demand { budget, max_model_len, step_tokens, max_num_seqs };
            Box::new(Gpu::new(path, loaded, text.vocab_size(), &demand)?.with_architecture(architecture(path)))
        }
    };
    Ok(Model { backend, text: Arc::new(text), max_model_len, generation: GenerationConfig::default() })
}

#[cfg(not(feature = "mistralrs"))]
fn load_file(path: &Path, _: &Wishes) -> Result<Model, ModelError> {
    load::find(path)?;
    let reason = "this build is without mistral.rs and serves scripted models alone; build it with the feature mistralrs";
    Err(LoadError::Unsupported { path: path.to_owned(), reason: reason.to_owned() }.into())
}

fn load_script(script: &Script, wishes: &Wishes) -> Result<Model, ModelError> {
    let mut script = script.clone();
    if let Some(tokens) = wishes.kv_cache_tokens {
        script.blocks = tokens.div_ceil(script.block);
    }
    let capacity = script.blocks.saturating_mul(script.block);
    let max_model_len = wished_length(wishes, capacity)?;
    let source = wishes.chat_template.clone().unwrap_or_else(|| bytes::TEMPLATE.to_owned());
    let template = ChatTemplate::compile(source, String::new(), String::new())?;
    let text = Text::new(Arc::new(bytes::tokenizer()), Some(template), vec![EOS]);
    Ok(Model {
        backend: Box::new(Scripted::new(script)),
        text: Arc::new(text),
        max_model_len,
        generation: GenerationConfig::default(),
    })
}

fn wished_length(wishes: &Wishes, longest: u32) -> Result<u32, ModelError> {
    match wishes.max_model_len {
        Some(0) => Err(ModelError::Wish("--max-model-len is at least 1".to_owned())),
        Some(wished) if wished > longest => Err(ModelError::Wish(format!(
            "--max-model-len {wished} is more than the model's {longest} tokens; give at most that"
        ))),
        Some(wished) => Ok(wished),
        None => Ok(longest),
    }
}

/// Runs a first step, so that the first request does not pay for what every first step pays. A model that panics there is
/// one that cannot be served.
pub fn warm_up(backend: &mut dyn Backend) -> Result<(), StepError> {
    const SEQUENCE: u64 = u64::MAX;
    let caps = backend.caps();
    let blocks: Vec<u32> = (0..caps.kv_blocks.min(3)).collect();
    let room = blocks.len() * caps.kv_block_tokens as usize;
    let work = |start, tokens| Work { sequence: SEQUENCE, start, tokens, blocks: blocks.clone(), want: Want::Best };
    // A prompt, and the token after it, which takes another way.
    let works = [work(0, vec![1, 1]), work(2, vec![1])];
    let works = if room > 2 { &works[..] } else { &works[..1] };
    let mut steps = || works.iter().try_for_each(|work| backend.step(std::slice::from_ref(work)).map(drop));
    let answer = catch_unwind(AssertUnwindSafe(&mut steps)).map_err(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
        StepError::Failed(format!("it panicked: {}", text.unwrap_or("no message")))
    })?;
    backend.release(SEQUENCE);
    answer
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::{Adoption, Caps, Logits, SequenceId};

    #[test]
    fn a_model_that_is_not_there_says_so_in_its_reason() {
        let error = load(&Source::File("/nowhere/model.gguf".into()), &Wishes::default()).err().unwrap();
        assert_eq!(error.termination().reason, Reason::ModelNotFound);
        assert!(error.to_string().contains("/nowhere/model.gguf"), "{error}");
    }

    #[test]
    fn a_length_beyond_the_model_is_refused() {
        let wishes = Wishes { max_model_len: Some(1 << 30), ..Wishes::default() };
        let error = load(&Source::Scripted(Script::default()), &wishes).err().unwrap();
        assert_eq!(error.termination().reason, Reason::InvalidConfiguration);
    }

    #[test]
    fn a_scripted_model_warms_up() {
        let mut model = load(&Source::Scripted(Script::default()), &Wishes::default()).unwrap();
        warm_up(model.backend.as_mut()).unwrap();
    }

    #[test]
    fn a_model_whose_first_step_panics_cannot_be_loaded() {
        struct Panics;
        impl Backend for Panics {
            fn caps(&self) -> Caps {
                Caps { max_batch: 1, kv_block_tokens: 1, kv_blocks: 1, vocab_size: 2, copies_kv: false }
            }
            fn step(&mut self, _: &[Work]) -> Result<Vec<Logits>, StepError> {
                panic!("no kernel for that")
            }
            fn adopt(&mut self, _: &Adoption) -> Result<(), StepError> {
                Ok(())
            }
            fn recover(&mut self) -> Result<(), StepError> {
                Ok(())
            }
            fn release(&mut self, _: SequenceId) {}
        }
        let error = ModelError::from(warm_up(&mut Panics).unwrap_err());
        assert_eq!(error.termination().reason, Reason::ModelLoadFailed);
        assert!(error.to_string().contains("no kernel for that"), "{error}");
    }
}
