//! mistral.rs on the CPU, stepped by us: its loader and its forward pass, without its engine, scheduler, prefix cache or
//! sampler. Each sequence owns its KV, which is swapped into the pipeline's cache around a step, one sequence a pass.
//!
//! Only this folder names mistral.rs.

pub mod load;

use std::collections::HashMap;

use candle_core::{Device, Tensor};
use mistralrs::core::{FlashParams, ForwardInputsResult, KvCache, ModelInputs};

use super::{Adoption, Backend, Caps, Logits, SequenceId, StepError, Want, Work};
use load::Pipeline;

/// Tokens by which mistral.rs grows a sequence's KV on the CPU (`NormalCache::CACHE_GROW_SIZE`).
pub const KV_BLOCK_TOKENS: u32 = 512;

/// The CPU backend.
pub struct MistralRs {
    pipeline: Pipeline,
    caps: Caps,
    /// An empty cache, cloned for each new sequence.
    empty: Vec<KvCache>,
    kv: HashMap<SequenceId, Vec<KvCache>>,
}

impl MistralRs {
    /// Steps a loaded pipeline within a budget of KV blocks.
    pub fn new(pipeline: Pipeline, kv_blocks: u32, vocab_size: u32) -> Self {
        let empty = {
            let pipeline = pipeline.blocking_lock();
            let cache = pipeline.cache().normal();
            cache.0.iter().cloned().map(emptied).collect()
        };
        let copies_kv = empty.iter().all(|layer| matches!(layer, KvCache::Normal { .. }));
        let caps = Caps { max_batch: 1, kv_block_tokens: KV_BLOCK_TOKENS, kv_blocks, vocab_size, copies_kv };
        Self { pipeline, caps, empty, kv: HashMap::new() }
    }

    fn forward(&mut self, work: &Work) -> Result<Logits, candle_core::Error> {
        let mut kv = self.kv.remove(&work.sequence).unwrap_or_else(|| self.empty.clone());
        let result = truncate(&mut kv, work.start as usize).and_then(|()| self.run(&mut kv, work));
        // A failed pass may have appended to some layers and not to others: its KV is dropped, the scheduler computes anew.
        if result.is_ok() {
            self.kv.insert(work.sequence, kv);
        }
        answer(result?, work.want)
    }

    fn run(&mut self, kv: &mut Vec<KvCache>, work: &Work) -> Result<ForwardInputsResult, candle_core::Error> {
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
        let mut pipeline = self.pipeline.blocking_lock();
        std::mem::swap(&mut pipeline.cache().normal().0, kv);
        let result = pipeline.forward_inputs(Box::new(inputs), false);
        std::mem::swap(&mut pipeline.cache().normal().0, kv);
        result
    }
}

fn emptied(mut cache: KvCache) -> KvCache {
    cache.reset();
    cache
}

/// The first `tokens` tokens of a layer's KV in memory of their own: appending writes into a cache's memory, which clones
/// share.
fn copied(layer: &KvCache, mut copy: KvCache, tokens: usize) -> Result<KvCache, candle_core::Error> {
    let KvCache::Normal { k, .. } = layer else { candle_core::bail!("this KV cache cannot be copied") };
    let front = |tensor: Option<Tensor>| match tensor {
        Some(tensor) => tensor.narrow(k.dim(), 0, tokens)?.contiguous(),
        None => candle_core::bail!("there is no KV to copy"),
    };
    copy.append(&front(layer.k()?)?, &front(layer.v()?)?)?;
    Ok(copy)
}

fn truncate(kv: &mut [KvCache], len: usize) -> Result<(), candle_core::Error> {
    for layer in kv.iter_mut().filter(|layer| !layer.is_shared() && layer.current_seq_len() != len) {
        if len == 0 {
            layer.reset();
        } else {
            layer.set_len(len)?;
        }
    }
    Ok(())
}

fn answer(result: ForwardInputsResult, want: Want) -> Result<Logits, candle_core::Error> {
    let ForwardInputsResult::CausalGeneration { logits } = result else {
        candle_core::bail!("the model does not generate text");
    };
    if want == Want::Nothing {
        return Ok(Logits::Nothing);
    }
    let logits = logits.flatten_all()?.to_dtype(candle_core::DType::F32)?;
    Ok(Logits::Row(logits.to_vec1::<f32>()?))
}

impl Backend for MistralRs {
    fn caps(&self) -> Caps {
        self.caps
    }

    fn step(&mut self, work: &[Work]) -> Result<Vec<Logits>, StepError> {
        work.iter().map(|work| self.forward(work).map_err(|error| StepError::Failed(error.to_string()))).collect()
    }

    fn adopt(&mut self, adoption: &Adoption) -> Result<(), StepError> {
        let Adoption { from, to, tokens, .. } = adoption;
        let Some(source) = self.kv.get(from) else {
            return Err(StepError::Failed(format!("sequence {from} has no KV to copy")));
        };
        let copies = source.iter().zip(&self.empty).map(|(layer, empty)| copied(layer, empty.clone(), *tokens as usize));
        let copies = copies.collect::<Result<Vec<_>, _>>().map_err(|error| StepError::Failed(error.to_string()))?;
        self.kv.insert(*to, copies);
        Ok(())
    }

    fn recover(&mut self) -> Result<(), StepError> {
        // The panicked pass poisoned the cache's lock, which the pipeline takes for granted.
        Err(StepError::Failed("the model has to be loaded anew".to_owned()))
    }

    fn release(&mut self, sequence: SequenceId) {
        self.kv.remove(&sequence);
    }
}
