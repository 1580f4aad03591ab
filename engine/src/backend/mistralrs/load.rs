//! Loads a model with mistral.rs's own loaders, without its hub: everything comes from the files.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use candle_core::Device;
use candle_core::quantized::gguf_file;
use mistralrs::core::{
    AdapterPaths, ChatTemplate, DeviceMapSetting, EitherCache, GGUFLoaderBuilder, GGUFSpecificConfig, Loader, LocalModelPaths,
    MemoryGpuConfig, ModelDType, ModelPaths, NormalLoaderBuilder, NormalSpecificConfig, PagedAttentionConfig, PagedCacheType,
    Pipeline as PipelineTrait, TokenSource,
};
use tokenizers::Tokenizer;

use super::device::is_out_of_memory;
use super::kv::Layout;
use crate::backend::directory::ModelDirectory;
use crate::backend::load::{Dtype, Files, find};
use crate::backend::load_error::LoadError;

/// Tokens in a KV block on a GPU; mistral.rs's kernels know 8, 16 and 32.
const BLOCK_TOKENS: usize = 32;
/// KV that mistral.rs allocates on a GPU, in MiB: at least one block of any model.
const FIRST_KV_MIB: usize = 256;

/// A loaded model that can be stepped.
pub type Pipeline = Arc<tokio::sync::Mutex<dyn PipelineTrait + Send + Sync>>;

/// What steps a model.
pub struct Loaded {
    /// The model itself, whose cache is empty between two steps.
    pub pipeline: Pipeline,
    pub(super) layout: Layout,
    pub(super) max_model_len: u32,
}

/// What a model's files say of its text side.
pub struct Described {
    /// Its tokenizer.
    pub tokenizer: Arc<Tokenizer>,
    /// Its chat template, if it has one.
    pub chat_template: Option<String>,
    /// Token that begins a text, as text; empty if there is none.
    pub bos_token: String,
    /// Token that ends a sequence, as text; empty if there is none.
    pub eos_token: String,
    /// Tokens that end a sequence.
    pub eos_token_ids: Vec<u32>,
    /// Longest context that the model was made for, in tokens.
    pub max_model_len: u32,
}

/// Loads a GGUF file, or a directory of safetensors, onto the CPU. Blocks for as long as that takes.
pub fn load(path: &Path, dtype: Dtype) -> Result<(Loaded, Described), LoadError> {
    load_onto(path, dtype, &Device::Cpu)
}

/// The same onto a device. On a GPU the model has a few KV blocks, to show their shape: [`Gpu`](super::gpu::Gpu) makes the rest.
pub fn load_onto(path: &Path, dtype: Dtype, device: &Device) -> Result<(Loaded, Described), LoadError> {
    let files = find(path)?;
    let target = Target::new(dtype, device);
    let loaded = catch_unwind(AssertUnwindSafe(|| match &files {
        Files::Gguf { .. } => load_gguf(path, &target),
        Files::Directory(directory) => load_directory(path, directory, &target),
    }));
    let pipeline = match loaded {
        Ok(result) => result.map_err(|error| why_not(path, format!("{error:#}")))?,
        Err(panic) => {
            let message = panic_message(panic.as_ref());
            return Err(why_not(path, format!("it is damaged, or of a kind that mistral.rs 0.8.1 cannot load: {message}")));
        }
    };
    describe(pipeline).map_err(|reason| LoadError::Unsupported { path: path.to_owned(), reason })
}

fn why_not(path: &Path, said: String) -> LoadError {
    let path = path.to_owned();
    if is_out_of_memory(&said) {
        let reason = format!("{said}; take a smaller or more quantised model, a larger GPU, or one that nobody else uses");
        return LoadError::OutOfMemory { path, reason };
    }
    LoadError::Failed { path, reason: said }
}

/// Where a model goes.
struct Target<'a> {
    device: &'a Device,
    dtype: ModelDType,
    paged: Option<PagedAttentionConfig>,
}

impl<'a> Target<'a> {
    fn new(dtype: Dtype, device: &'a Device) -> Self {
        let dtype = match dtype {
            // mistral.rs would pick F16 on the CPU, which is slower, and ask nvidia-smi for a GPU's, which may not be there.
            Dtype::Auto if device.is_cpu() => ModelDType::F32,
            Dtype::Auto | Dtype::Bfloat16 => ModelDType::BF16,
            Dtype::Float32 => ModelDType::F32,
            Dtype::Float16 => ModelDType::F16,
        };
        let paged = device.is_cuda().then(|| {
            let size = MemoryGpuConfig::MbAmount(FIRST_KV_MIB);
            PagedAttentionConfig::new(Some(BLOCK_TOKENS), size, PagedCacheType::Auto).ok()
        });
        Self { device, dtype, paged: paged.flatten() }
    }
}

/// What a panic said.
pub(super) fn panic_message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message")
}

// === GGUF files ===

fn load_gguf(path: &Path, target: &Target) -> anyhow::Result<Pipeline> {
    if target.device.is_cpu() {
        refuse_experts(path)?;
    }
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let name = path.file_name().ok_or_else(|| anyhow::anyhow!("the path names no file"))?;
    let loader = GGUFLoaderBuilder::new(
        None,
        None,
        directory.to_string_lossy().into_owned(),
        vec![name.to_string_lossy().into_owned()],
        GGUFSpecificConfig::default(),
        false,
        None,
    )
    .build();
    let silent = true;
    loader.load_model_from_hf(
        None,
        TokenSource::None,
        &target.dtype,
        target.device,
        silent,
        DeviceMapSetting::dummy(),
        None,
        target.paged,
    )
}

/// candle has the kernel of this architecture's experts for CUDA alone: on the CPU the first step would panic.
fn refuse_experts(path: &Path) -> anyhow::Result<()> {
    let content = gguf_file::Content::read(&mut std::fs::File::open(path)?)?;
    let architecture = content.metadata.get("general.architecture").and_then(|value| value.to_string().ok());
    if architecture.is_some_and(|architecture| architecture == "qwen3moe") {
        anyhow::bail!("mistral.rs 0.8.1 runs the experts of a qwen3moe GGUF file on a GPU alone; serve it with --device cuda");
    }
    Ok(())
}

// === directories of safetensors ===

fn load_directory(path: &Path, directory: &ModelDirectory, target: &Target) -> anyhow::Result<Pipeline> {
    let name = path.to_string_lossy().into_owned();
    let loader: Box<dyn Loader> =
        NormalLoaderBuilder::new(NormalSpecificConfig::default(), None, None, Some(name), false, None).build(None)?;
    let paths: Box<dyn ModelPaths> = Box::new(LocalModelPaths::<PathBuf> {
        tokenizer_filename: directory.tokenizer.clone(),
        config_filename: directory.config.clone(),
        template_filename: directory.template.clone(),
        filenames: directory.weights.clone(),
        adapter_paths: AdapterPaths::None,
        gen_conf: directory.generation_config.clone(),
        preprocessor_config: None,
        processor_config: None,
        chat_template_json_filename: directory.template_json.clone(),
    });
    let silent = true;
    let map = DeviceMapSetting::dummy();
    loader.load_model_from_path(&paths, &target.dtype, target.device, silent, map, None, target.paged)
}

// === what was loaded ===

fn describe(pipeline: Pipeline) -> Result<(Loaded, Described), String> {
    let guard = pipeline.blocking_lock();
    let layout = match guard.cache() {
        EitherCache::Normal(cache) => Layout::of(&cache.lock().map_err(|error| error.to_string())?.0),
        EitherCache::Hybrid(_) => {
            return Err(
                "it mixes attention with recurrent layers, whose state this version cannot step; serve another model".into()
            );
        }
        EitherCache::Full(_) => {
            return Err("its kind of KV cache cannot be stepped by this version; serve another model".into());
        }
    };
    let tokenizer = guard.tokenizer().ok_or("the model has no tokenizer")?;
    let template = guard.get_chat_template();
    let template = template.as_deref();
    let metadata = guard.get_metadata();
    let max_model_len = u32::try_from(metadata.max_seq_len).unwrap_or(u32::MAX);
    let described = Described {
        tokenizer,
        chat_template: template.and_then(template_source),
        bos_token: template.and_then(ChatTemplate::bos_tok).unwrap_or_default(),
        eos_token: template.and_then(ChatTemplate::eos_tok).unwrap_or_default(),
        eos_token_ids: metadata.eos_tok.clone(),
        max_model_len,
    };
    drop(guard);
    Ok((Loaded { pipeline, layout, max_model_len }, described))
}

/// The template, or of several named ones the one for plain chats.
fn template_source(template: &ChatTemplate) -> Option<String> {
    let source = template.chat_template.as_ref()?.0.as_ref();
    let default = || source.right()?.iter().find(|named| named.get("name").is_some_and(|name| name == "default"));
    source.left().or_else(|| default()?.get("template")).cloned()
}
