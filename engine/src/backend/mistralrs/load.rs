//! Loads a GGUF file with mistral.rs's own loader, without its hub: everything comes from the file.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;

use candle_core::Device;
use mistralrs::core::{
    DeviceMapSetting, GGUFLoaderBuilder, GGUFSpecificConfig, ModelDType, Pipeline as PipelineTrait, TokenSource,
};
use tokenizers::Tokenizer;

use crate::backend::load::{LoadError, find};

/// A loaded model that can be stepped.
pub type Pipeline = Arc<tokio::sync::Mutex<dyn PipelineTrait + Send + Sync>>;

/// What a model file gives.
pub struct Loaded {
    /// Steps the model.
    pub pipeline: Pipeline,
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

/// Loads a GGUF file onto the CPU. Blocks for as long as that takes.
pub fn load(path: &Path) -> Result<Loaded, LoadError> {
    find(path)?;
    let failed = |reason: String| LoadError::Failed { path: path.to_owned(), reason };
    let loaded = catch_unwind(AssertUnwindSafe(|| load_pipeline(path)));
    let pipeline = match loaded {
        Ok(result) => result.map_err(|error| failed(format!("{error:#}")))?,
        Err(_) => {
            return Err(failed("the loader panicked; the file is damaged, or of a kind that mistral.rs cannot load".into()));
        }
    };
    describe(pipeline).map_err(failed)
}

fn load_pipeline(path: &Path) -> anyhow::Result<Pipeline> {
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
    // F32: mistral.rs would pick F16 on the CPU, which is slower.
    let pipeline = loader.load_model_from_hf(
        None,
        TokenSource::None,
        &ModelDType::F32,
        &Device::Cpu,
        silent,
        DeviceMapSetting::dummy(),
        None,
        None,
    )?;
    Ok(pipeline)
}

fn describe(pipeline: Pipeline) -> Result<Loaded, String> {
    let guard = pipeline.blocking_lock();
    let tokenizer = guard.tokenizer().ok_or("the file has no tokenizer")?;
    let template = guard.get_chat_template();
    let metadata = guard.get_metadata();
    let source = template.as_ref().and_then(|template| template.chat_template.as_ref());
    let chat_template = source.and_then(|source| source.0.as_ref().left().cloned());
    let bos_token = template.as_ref().and_then(|template| template.bos_token.as_ref()?.0.as_ref().left().cloned());
    let eos_token = template.as_ref().and_then(|template| template.eos_token.as_ref()?.0.as_ref().left().cloned());
    let max_model_len = u32::try_from(metadata.max_seq_len).unwrap_or(u32::MAX);
    let eos_token_ids = metadata.eos_tok.clone();
    drop(guard);
    Ok(Loaded {
        pipeline,
        tokenizer,
        chat_template,
        bos_token: bos_token.unwrap_or_default(),
        eos_token: eos_token.unwrap_or_default(),
        eos_token_ids,
        max_model_len,
    })
}
