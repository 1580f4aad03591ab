//! mistral.rs on a GPU, stepped by us: one pass decodes all running sequences, whatever their lengths, over KV blocks that the
//! scheduler gives out. What a pass is, is decided in [`paged`](crate::backend::paged), pure; here it runs.
//!
//! Compiled and unit-tested, not yet run on a GPU.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::Path;

use candle_core::{Device, Tensor};
use mistralrs::core::{EitherCache, ForwardInputsResult, MemoryUsage};

use super::load::{Loaded, Pipeline, panic_message};
use super::{arithmetic, blocks, device, logits, tensors};
use crate::backend::architecture::Architecture;
use crate::backend::load_error::LoadError;
use crate::backend::paged::capacity::{DeviceMemory, KvBudget, KvShape, PassShape};
use crate::backend::paged::{Layout, Pass, copies, passes};
use crate::backend::{Adoption, Backend, Caps, Logits, SequenceId, StepError, Work};

/// Sequences in one step at most: more than any GPU's KV holds.
const MAX_BATCH: usize = 1024;
/// Widths of a head that mistral.rs's paged attention has kernels for.
const HEAD_WIDTHS: [u32; 8] = [64, 80, 96, 112, 128, 192, 256, 512];
/// Longest context, in tokens, that the kernel holds in a multiprocessor's shared memory on every GPU.
const SHARED_CONTEXT: usize = 8192;
/// Rows times heads up to which mistral.rs takes the kernel that parts a longer context.
const PARTED_ROWS: usize = 512;

/// What the GPU's memory is to hold beside the weights.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Demand {
    /// How large the KV cache is to be.
    pub budget: KvBudget,
    /// Longest prompt and completion together, in tokens.
    pub max_model_len: u32,
    /// Tokens in one step at most.
    pub step_tokens: u32,
    /// Sequences in one step at most.
    pub max_num_seqs: u32,
}

/// The GPU backend.
pub struct Gpu {
    pipeline: Pipeline,
    device: Device,
    caps: Caps,
    layout: Layout,
    kv: Vec<blocks::Layer>,
    heads: usize,
    architecture: Option<Architecture>,
}

impl Gpu {
    /// Steps a loaded model: takes the memory for its KV blocks. Token ids are below `vocab_size`; `path` is for errors.
    pub fn new(path: &Path, loaded: Loaded, vocab_size: u32, demand: &Demand) -> Result<Self, LoadError> {
        let unsupported = |reason: String| LoadError::Unsupported { path: path.to_owned(), reason };
        let pipeline = loaded.pipeline;
        let (gpu, metadata) = {
            let guard = pipeline.blocking_lock();
            (guard.device(), guard.get_metadata())
        };
        let (Some(engine), Some(model)) = (&metadata.cache_engine, &metadata.model_metadata) else {
            return Err(unsupported("mistral.rs 0.8.1 has no paged attention for it; serve it with --device cpu".to_owned()));
        };
        // mistral.rs made a few blocks, which show their shape and then make room.
        let few = std::mem::take(&mut *engine.get_kv_cache());
        let kind = || unsupported("its layers' KV differs in shape, which this version cannot step on a GPU".to_owned());
        let (shape, dtype) = blocks::shape(&few).zip(few.first().map(|(keys, _)| keys.dtype())).ok_or_else(kind)?;
        drop(few);
        check_support(&shape, metadata.sliding_window, demand.max_model_len).map_err(unsupported)?;
        let heads = model.num_attn_heads();
        let pass = PassShape {
            heads: narrow(heads),
            head_dim: shape.key_head_dim,
            hidden_size: narrow(model.hidden_size()),
            vocab_size,
            dtype_bytes: shape.dtype_bytes,
        };
        let working = pass.working_bytes(demand.step_tokens, demand.max_model_len, demand.max_num_seqs);
        let failed = |error: candle_core::Error| load_error(path, &error);
        let memory = memory(&gpu, working).map_err(failed)?;
        let count = demand.budget.blocks(&shape, memory, demand.max_model_len);
        let count = count.map_err(|error| LoadError::OutOfMemory { path: path.to_owned(), reason: error.to_string() })?;
        let kv = blocks::allocate(&shape, dtype, count.saturating_add(1), &gpu).map_err(failed)?;
        *engine.get_kv_cache() = kv.clone();
        let layout = Layout::new(shape.block_tokens, count.saturating_add(1)).ok_or_else(kind)?;
        let tokens = u64::from(layout.blocks()) * u64::from(shape.block_tokens);
        tracing::info!(kv_blocks = layout.blocks(), tokens, working_mb = working >> 20, "KV cache on the GPU");
        let caps = Caps {
            max_batch: MAX_BATCH,
            kv_block_tokens: layout.block_tokens(),
            kv_blocks: layout.blocks(),
            vocab_size,
            copies_kv: true,
        };
        Ok(Self { pipeline, device: gpu, caps, layout, kv, heads, architecture: None })
    }

    /// Says how much arithmetic the model needs.
    pub fn with_architecture(self, architecture: Option<Architecture>) -> Self {
        Self { architecture, ..self }
    }

    /// Runs the passes of some of a step's work.
    fn run(&self, work: &[Work]) -> Result<Vec<Logits>, StepError> {
        let mut answers = vec![Logits::Nothing; work.len()];
        for pass in passes(self.layout, work)? {
            let logits = self.forward(&pass).map_err(|error| device::step_error(&error))?;
            let wants: Vec<_> = pass.rows.iter().map(|row| row.want).collect();
            let rows = logits::answers(&logits, &wants).map_err(|error| device::step_error(&error))?;
            for (row, answer) in pass.rows.iter().zip(rows) {
                answers[row.work] = answer;
            }
        }
        Ok(answers)
    }

    fn forward(&self, pass: &Pass) -> Result<Tensor, candle_core::Error> {
        let inputs = tensors::inputs(pass, &self.device)?;
        match self.pipeline.blocking_lock().forward_inputs(Box::new(inputs), false)? {
            ForwardInputsResult::CausalGeneration { logits } => Ok(logits),
            _ => candle_core::bail!("the model does not generate text"),
        }
    }

    /// Memory that ran out is an error, also where mistral.rs panics for it; a GPU that answers nothing any more is lost.
    fn guarded<T>(&self, run: impl FnOnce() -> Result<T, StepError>) -> Result<T, StepError> {
        let result = catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|panic| {
            let said = panic_message(panic.as_ref());
            if !device::is_out_of_memory(said) {
                resume_unwind(panic)
            }
            self.clear_poison();
            Err(StepError::OutOfMemory(said.to_owned()))
        });
        result.map_err(|error| match (error, self.device.synchronize()) {
            (StepError::Failed(said), Err(lost)) => StepError::DeviceLost(format!("{said}; then {}", device::plain(&lost))),
            (error, _) => error,
        })
    }

    /// Models hold this lock across their forward pass, also where they use nothing of what it guards.
    fn clear_poison(&self) {
        if let EitherCache::Normal(cache) = self.pipeline.blocking_lock().cache() {
            cache.clear_poison();
        }
    }
}

impl Backend for Gpu {
    fn caps(&self) -> Caps {
        self.caps
    }

    fn step(&mut self, work: &[Work]) -> Result<Vec<Logits>, StepError> {
        let longest = work.iter().map(|work| work.start as usize + work.tokens.len()).max().unwrap_or(0);
        let mut answers = Vec::with_capacity(work.len());
        for portion in work.chunks(rows_of_a_pass(longest, self.heads)) {
            answers.extend(self.guarded(|| self.run(portion))?);
        }
        Ok(answers)
    }

    fn adopt(&mut self, adoption: &Adoption) -> Result<(), StepError> {
        let copies = copies(self.layout, adoption)?;
        self.guarded(|| blocks::copy(&self.kv, &copies).map_err(|error| device::step_error(&error)))
    }

    fn recover(&mut self) -> Result<(), StepError> {
        self.clear_poison();
        self.device.synchronize().map_err(|error| StepError::DeviceLost(device::plain(&error)))
    }

    /// The next owner of its blocks writes over them.
    fn release(&mut self, _: SequenceId) {}

    fn architecture(&self) -> Option<Architecture> {
        self.architecture
    }

    fn measure_flops(&self) -> Option<f64> {
        arithmetic::measure_flops(&self.device)
    }
}

/// Refuses what the kernels, or this version, cannot do.
fn check_support(shape: &KvShape, window: Option<usize>, max_model_len: u32) -> Result<(), String> {
    if let Some(window) = window.filter(|window| *window < max_model_len as usize) {
        return Err(format!(
            "its layers look back on {window} tokens alone, which this version does not do on a GPU; give --max-model-len \
             {window} or less, or --device cpu"
        ));
    }
    let width = shape.key_head_dim;
    if !HEAD_WIDTHS.contains(&width) {
        return Err(format!("its heads are {width} wide, and there are GPU kernels for {HEAD_WIDTHS:?} alone"));
    }
    Ok(())
}

fn load_error(path: &Path, error: &candle_core::Error) -> LoadError {
    let path = path.to_owned();
    match device::step_error(error) {
        StepError::OutOfMemory(reason) => LoadError::OutOfMemory { path, reason },
        error => LoadError::Failed { path, reason: error.to_string() },
    }
}

/// Sequences that one pass decodes at most. With many rows mistral.rs takes the kernel that holds the whole context in shared
/// memory, however long it is.
fn rows_of_a_pass(longest: usize, heads: usize) -> usize {
    if longest <= SHARED_CONTEXT { MAX_BATCH } else { (PARTED_ROWS / heads.max(1)).max(1) }
}

/// The device's memory, with nothing in it but what is kept.
fn memory(gpu: &Device, working: u64) -> Result<DeviceMemory, candle_core::Error> {
    gpu.synchronize()?;
    let bytes = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
    let (total, free) = (MemoryUsage.get_total_memory(gpu)?, MemoryUsage.get_memory_available(gpu)?);
    Ok(DeviceMemory { total: bytes(total), free: bytes(free), working })
}

fn narrow(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_shorter_than_the_context_and_heads_without_a_kernel_are_refused() {
        let shape = KvShape { layers: 1, kv_heads: 1, key_head_dim: 64, value_head_dim: 64, dtype_bytes: 2, block_tokens: 32 };
        assert_eq!(check_support(&shape, None, 4096), Ok(()));
        assert_eq!(check_support(&shape, Some(4096), 4096), Ok(()));
        assert!(check_support(&shape, Some(4096), 4097).unwrap_err().contains("--max-model-len 4096 or less"));
        let narrow = KvShape { key_head_dim: 16, ..shape };
        assert!(check_support(&narrow, None, 4096).unwrap_err().contains("16 wide"));
    }

    #[test]
    fn memory_that_is_missing_at_load_is_told_from_other_failures() {
        let error = |said: &str| load_error(Path::new("m.gguf"), &candle_core::Error::Msg(said.to_owned()));
        assert!(matches!(error("DriverError(CUDA_ERROR_OUT_OF_MEMORY, ...)"), LoadError::OutOfMemory { .. }));
        assert!(matches!(error("no such kernel"), LoadError::Failed { .. }));
    }

    #[test]
    fn long_contexts_are_decoded_by_as_many_rows_as_the_parting_kernel_takes() {
        assert_eq!(rows_of_a_pass(8192, 32), MAX_BATCH);
        assert_eq!(rows_of_a_pass(8193, 32), 16);
        // 9 heads: 56 rows are 504 rows of heads.
        assert_eq!(rows_of_a_pass(8193, 9), 56);
        assert_eq!((rows_of_a_pass(10_000, 1024), rows_of_a_pass(10_000, 0)), (1, 512));
    }
}
