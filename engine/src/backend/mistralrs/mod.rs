//! mistral.rs stepped by us: its loader and its forward pass, without its engine, scheduler, prefix cache or sampler. Here on the
//! CPU, where each sequence owns its KV, which is swapped into the pipeline's cache around a step, one sequence a pass; on a GPU
//! in [`gpu`].
//!
//! Only this folder names mistral.rs.

pub mod arithmetic;
mod blocks;
pub mod device;
pub mod gpu;
mod kv;
pub mod load;
mod logits;
mod pool;
mod tensors;

use std::collections::HashMap;

use candle_core::{Device, Tensor};
use mistralrs::core::{EitherCache, FlashParams, ForwardInputsResult, KvCache, ModelInputs};

use super::architecture::Architecture;
use super::{Adoption, Backend, Caps, Logits, SequenceId, StepError, Work};
pub use kv::KV_BLOCK_TOKENS;
use load::{Loaded, Pipeline};

/// The CPU backend.
pub struct MistralRs {
    pipeline: Pipeline,
    caps: Caps,
    architecture: Option<Architecture>,
    layout: kv::Layout,
    max_model_len: u32,
    kv: HashMap<SequenceId, Vec<KvCache>>,
}

impl MistralRs {
    /// Steps a loaded model within a budget of KV blocks; token ids are below `vocab_size`.
    pub fn new(loaded: Loaded, kv_blocks: u32, vocab_size: u32) -> Self {
        // Every layer keeps its whole history, so any part of it can be copied.
        let caps = Caps { max_batch: 1, kv_block_tokens: KV_BLOCK_TOKENS, kv_blocks, vocab_size, copies_kv: true };
        let Loaded { pipeline, layout, max_model_len } = loaded;
        Self { pipeline, caps, architecture: None, layout, max_model_len, kv: HashMap::new() }
    }

    /// Says how much arithmetic the model needs.
    pub fn with_architecture(self, architecture: Option<Architecture>) -> Self {
        Self { architecture, ..self }
    }

    fn forward(&mut self, work: &Work) -> Result<Logits, candle_core::Error> {
        if work.tokens.is_empty() {
            candle_core::bail!("there is nothing to compute");
        }
        let kept = self.kv.remove(&work.sequence);
        let mut caches = kept.unwrap_or_else(|| self.layout.empty(self.max_model_len));
        kv::truncate(&mut caches, work.start as usize)?;
        let result = self.run(&mut caches, work)?;
        // A failed pass may have appended to some layers and not to others: its KV is dropped, and what comes next has to
        // start at 0.
        self.kv.insert(work.sequence, caches);
        let ForwardInputsResult::CausalGeneration { logits } = result else {
            candle_core::bail!("the model does not generate text");
        };
        logits::answer(&logits, work.want)
    }

    fn run(&self, caches: &mut Vec<KvCache>, work: &Work) -> Result<ForwardInputsResult, candle_core::Error> {
        let (start, count) = (work.start as usize, work.tokens.len());
        let inputs = ModelInputs {
            input_ids: Tensor::from_slice(&work.tokens, (1, count), &Device::Cpu)?,
            input_ids_full: None,
            seqlen_offsets: vec![start],
            seqlen_offsets_full: None,
            context_lens: vec![(count - 1, 1)],
            position_ids: vec![start + count],
            paged_attn_meta: None,
            flash_meta: FlashParams::empty(true),
            flash_meta_full: None,
        };
        // A piece of a prompt has a mask instead.
        let whole = if count == 1 { self.layout.narrow(caches, start)? } else { Vec::new() };
        let mut pipeline = self.pipeline.blocking_lock();
        std::mem::swap(&mut pipeline.cache().normal().0, caches);
        let result = pipeline.forward_inputs(Box::new(inputs), false);
        std::mem::swap(&mut pipeline.cache().normal().0, caches);
        let result = result?;
        kv::restore(caches, whole)?;
        Ok(result)
    }
}

impl Backend for MistralRs {
    fn caps(&self) -> Caps {
        self.caps
    }

    fn step(&mut self, work: &[Work]) -> Result<Vec<Logits>, StepError> {
        pool::join();
        work.iter().map(|work| self.forward(work).map_err(|error| StepError::Failed(error.to_string()))).collect()
    }

    fn adopt(&mut self, adoption: &Adoption) -> Result<(), StepError> {
        let Adoption { from, to, tokens, .. } = adoption;
        let Some(source) = self.kv.get(from) else {
            return Err(StepError::Failed(format!("sequence {from} has no KV to copy")));
        };
        let copy = kv::copy(source, *tokens as usize).map_err(|error| StepError::Failed(error.to_string()))?;
        self.kv.insert(*to, copy);
        Ok(())
    }

    fn release(&mut self, sequence: SequenceId) {
        self.kv.remove(&sequence);
    }

    fn recover(&mut self) -> Result<(), StepError> {
        self.kv.clear();
        let pipeline = self.pipeline.blocking_lock();
        let EitherCache::Normal(cache) = pipeline.cache() else {
            return Err(StepError::Failed("the model has another kind of cache than when it was loaded".to_owned()));
        };
        // Models hold this lock across their forward pass, so a panic there poisons it. What it guards is thrown away.
        cache.clear_poison();
        let mut layers = cache.lock().map_err(|_| StepError::Failed("the model's cache is still poisoned".to_owned()))?;
        layers.0 = self.layout.empty(self.max_model_len);
        Ok(())
    }

    fn architecture(&self) -> Option<Architecture> {
        self.architecture
    }

    fn measure_flops(&self) -> Option<f64> {
        arithmetic::measure_flops(&Device::Cpu)
    }
}
