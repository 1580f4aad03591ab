//! How many KV blocks a device's memory takes: arithmetic alone.

/// Part of a device's memory that the engine may use where neither `--gpu-memory-utilization` nor `--kv-cache-tokens` is given.
pub const DEFAULT_UTILIZATION: f64 = 0.9;
/// Rows of a prompt that mistral.rs computes attention scores for at once.
const SCORE_ROWS: u32 = 1024;
const MEBIBYTE: u64 = 1 << 20;

/// What a token's KV takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KvShape {
    /// Layers of the model.
    pub layers: u32,
    /// Heads of keys and values in each layer.
    pub kv_heads: u32,
    /// Width of a key's head.
    pub key_head_dim: u32,
    /// Width of a value's head.
    pub value_head_dim: u32,
    /// Bytes of one number: 2 for BF16 and F16, 4 for F32, 1 for F8.
    pub dtype_bytes: u32,
    /// Tokens that one block holds.
    pub block_tokens: u32,
}

impl KvShape {
    /// Bytes of one block, in all layers together; `None` where that is 0 or no number of 64 bits.
    pub fn bytes_per_block(&self) -> Option<u64> {
        let width = u64::from(self.key_head_dim) + u64::from(self.value_head_dim);
        let factors = [self.layers, self.kv_heads, self.dtype_bytes, self.block_tokens];
        factors.iter().try_fold(width, |bytes, factor| bytes.checked_mul(u64::from(*factor))).filter(|bytes| *bytes > 0)
    }
}

/// What decides how much memory a pass takes for itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PassShape {
    /// Heads of queries.
    pub heads: u32,
    /// Width of a head.
    pub head_dim: u32,
    /// Width between the layers.
    pub hidden_size: u32,
    /// Tokens of the vocabulary.
    pub vocab_size: u32,
    /// Bytes of one number.
    pub dtype_bytes: u32,
}

impl PassShape {
    /// Bytes that the largest pass takes beside weights and KV, estimated on the high side: a piece of `step_tokens` at the end
    /// of a sequence of `longest` tokens, or `sequences` that decode. Most of it are attention scores, which mistral.rs keeps.
    pub fn working_bytes(&self, step_tokens: u32, longest: u32, sequences: u32) -> u64 {
        let piece = step_tokens.min(longest);
        let bytes = [
            // Scores, scores with the mask, and what becomes of them.
            product(&[3, self.heads, piece.min(SCORE_ROWS), longest, self.dtype_bytes]),
            // Keys and values, gathered and then repeated for each head.
            product(&[4, self.heads, self.head_dim, longest, self.dtype_bytes]),
            // The mask, once as bytes.
            product(&[piece, longest, self.dtype_bytes + 1]),
            // A layer's activations, the wide ones of its feed-forward part included.
            product(&[24, piece.max(sequences), self.hidden_size, self.dtype_bytes]),
            // Logits, once in 32 bits.
            product(&[2, sequences, self.vocab_size, 4]),
        ];
        bytes.into_iter().fold(0, u64::saturating_add)
    }
}

fn product(factors: &[u32]) -> u64 {
    factors.iter().fold(1, |product, factor| product.saturating_mul(u64::from(*factor)))
}

/// A device's memory, in bytes, with the model's weights in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeviceMemory {
    /// All of it.
    pub total: u64,
    /// What nobody uses, other processes included.
    pub free: u64,
    /// What the passes themselves need beside weights and KV.
    pub working: u64,
}

/// How large the KV cache is to be.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum KvBudget {
    /// So many tokens, rounded up to blocks.
    Tokens(u32),
    /// What is left when weights, passes and KV together use this part of the memory.
    Utilization(f64),
}

impl KvBudget {
    /// What the flags ask for: a number of tokens counts before a part of the memory.
    pub fn of_flags(kv_cache_tokens: Option<u32>, gpu_memory_utilization: Option<f64>) -> Self {
        let utilization = Self::Utilization(gpu_memory_utilization.unwrap_or(DEFAULT_UTILIZATION));
        kv_cache_tokens.map_or(utilization, Self::Tokens)
    }

    /// Blocks for the scheduler. A part of the memory has to hold one sequence of `max_model_len` tokens; a number of tokens
    /// may be smaller, and longer requests are then refused one by one.
    pub fn blocks(self, shape: &KvShape, memory: DeviceMemory, max_model_len: u32) -> Result<u32, NoRoom> {
        let block = shape.bytes_per_block().ok_or(NoRoom::NoShape)?;
        let (part, wanted) = match self {
            Self::Tokens(tokens) => (1.0, tokens.max(1)),
            Self::Utilization(part) => (part, max_model_len),
        };
        let room = memory.within(part);
        // One block of the device pads tables.
        let fitting = u32::try_from((room / block).saturating_sub(1)).unwrap_or(u32::MAX - 1);
        let needed = wanted.div_ceil(shape.block_tokens);
        if needed > fitting {
            let fitting = u64::from(fitting) * u64::from(shape.block_tokens);
            return Err(NoRoom::TooLittle { wanted, fitting, room, working: memory.working, budget: self });
        }
        Ok(if matches!(self, Self::Tokens(_)) { needed } else { fitting })
    }

    fn advice(self) -> &'static str {
        match self {
            Self::Tokens(_) => {
                "lower --kv-cache-tokens, --max-model-len or --max-num-batched-tokens, or take a smaller model or a larger GPU"
            }
            Self::Utilization(_) => {
                "raise --gpu-memory-utilization, lower --max-model-len or --max-num-batched-tokens, or take a smaller model or a \
                 larger GPU"
            }
        }
    }
}

impl DeviceMemory {
    /// Bytes for KV when no more than `part` of the memory is used, and no more than is free.
    fn within(self, part: f64) -> u64 {
        let used = self.total.saturating_sub(self.free);
        // Bytes of a device are far below what a double counts exactly.
        let allowed = (self.total as f64 * part.clamp(0.0, 1.0)) as u64;
        allowed.saturating_sub(used).saturating_sub(self.working)
    }
}

/// Why there are no KV blocks.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
pub enum NoRoom {
    /// The model's file does not say what a token's KV takes.
    #[error("the model does not say how large its KV is; a file without layers, KV heads or their width cannot be served")]
    NoShape,
    /// The memory that is left is too little.
    #[error(
        "the KV cache needs room for {wanted} tokens, and beside the model and {} MiB for its passes {} MiB of GPU memory are left \
         for it, which is {fitting} tokens; {}",
        working / MEBIBYTE,
        room / MEBIBYTE,
        budget.advice()
    )]
    TooLittle {
        /// Tokens that are asked for.
        wanted: u32,
        /// Tokens that fit.
        fitting: u64,
        /// Bytes that are left.
        room: u64,
        /// Bytes that are kept for the passes.
        working: u64,
        /// What was asked for.
        budget: KvBudget,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    /// SmolLM2-135M in BF16: 30 layers, 3 KV heads of 64.
    const SMOLLM2: KvShape =
        KvShape { layers: 30, kv_heads: 3, key_head_dim: 64, value_head_dim: 64, dtype_bytes: 2, block_tokens: 32 };
    /// Llama-3.1-8B in BF16: 32 layers, 8 KV heads of 128.
    const LLAMA_8B: KvShape =
        KvShape { layers: 32, kv_heads: 8, key_head_dim: 128, value_head_dim: 128, dtype_bytes: 2, block_tokens: 32 };

    /// A GPU of 24 GiB with 6 GiB in use.
    const MEMORY: DeviceMemory = DeviceMemory { total: 24 * GIB, free: 18 * GIB, working: 0 };

    #[test]
    fn a_blocks_bytes_are_those_of_keys_and_values_in_every_layer() {
        // 30 layers x 3 heads x (64 + 64) x 2 bytes = 23,040 bytes a token.
        assert_eq!(SMOLLM2.bytes_per_block(), Some(23_040 * 32));
        // 32 x 8 x (128 + 128) x 2 = 131,072 bytes a token, 4 MiB a block.
        assert_eq!(LLAMA_8B.bytes_per_block(), Some(4 << 20));
        // Keys of 4 and values of 2: 6 numbers of 4 bytes, 8 tokens.
        let narrow = KvShape { layers: 1, kv_heads: 1, key_head_dim: 4, value_head_dim: 2, dtype_bytes: 4, block_tokens: 8 };
        assert_eq!(narrow.bytes_per_block(), Some(6 * 4 * 8));
    }

    #[test]
    fn a_model_that_does_not_say_how_large_its_kv_is_gets_no_blocks() {
        for shape in [KvShape { layers: 0, ..LLAMA_8B }, KvShape { block_tokens: 0, ..LLAMA_8B }] {
            assert_eq!(KvBudget::Utilization(0.9).blocks(&shape, MEMORY, 1), Err(NoRoom::NoShape));
        }
        let vast = KvShape { layers: u32::MAX, kv_heads: u32::MAX, ..LLAMA_8B };
        assert_eq!(vast.bytes_per_block(), None);
    }

    #[test]
    fn a_part_of_the_memory_holds_what_the_weights_leave_of_it() {
        let blocks = |part: f64, memory: DeviceMemory| KvBudget::Utilization(part).blocks(&LLAMA_8B, memory, 1024);
        // 24 - 6 = 18 GiB are 4608 blocks of 4 MiB, one of which is padding.
        assert_eq!(blocks(1.0, MEMORY), Ok(4607));
        // Half of 24 GiB less 6 in use: 6 GiB, 1536 blocks.
        assert_eq!(blocks(0.5, MEMORY), Ok(1535));
        // 2 GiB for the passes leave 4 GiB, 1024 blocks.
        assert_eq!(blocks(0.5, DeviceMemory { working: 2 * GIB, ..MEMORY }), Ok(1023));
    }

    #[test]
    fn too_little_for_one_request_says_how_much_there_is_and_what_to_do() {
        // A quarter of 24 GiB is in use already.
        let error = KvBudget::Utilization(0.25).blocks(&LLAMA_8B, MEMORY, 1024).unwrap_err();
        assert!(error.to_string().contains("passes 0 MiB of GPU memory are left for it, which is 0 tokens"), "{error}");
        assert!(error.to_string().contains("raise --gpu-memory-utilization"), "{error}");
        // 6 GiB hold 1535 blocks: 49,120 tokens and not one more.
        let half = KvBudget::Utilization(0.5);
        assert_eq!(half.blocks(&LLAMA_8B, MEMORY, 49_120), Ok(1535));
        let error = half.blocks(&LLAMA_8B, MEMORY, 49_121).unwrap_err().to_string();
        assert!(
            error.contains("49121 tokens") && error.contains("6144 MiB of GPU memory") && error.contains("49120 tokens"),
            "{error}"
        );
    }

    #[test]
    fn a_number_of_tokens_is_rounded_up_to_blocks_and_has_to_fit_what_is_free() {
        let blocks = |tokens: u32| KvBudget::Tokens(tokens).blocks(&LLAMA_8B, MEMORY, 1 << 20);
        assert_eq!((blocks(1), blocks(32), blocks(33)), (Ok(1), Ok(1), Ok(2)));
        assert_eq!(blocks(4607 * 32), Ok(4607));
        let error = blocks(4607 * 32 + 1).unwrap_err().to_string();
        assert!(error.contains("lower --kv-cache-tokens"), "{error}");
    }

    #[test]
    fn a_number_of_tokens_counts_before_a_part_of_the_memory() {
        assert_eq!(KvBudget::of_flags(None, None), KvBudget::Utilization(DEFAULT_UTILIZATION));
        assert_eq!(KvBudget::of_flags(None, Some(0.5)), KvBudget::Utilization(0.5));
        assert_eq!(KvBudget::of_flags(Some(4096), Some(0.5)), KvBudget::Tokens(4096));
    }

    #[test]
    fn a_pass_takes_room_for_its_scores_gathered_keys_mask_activations_and_logits() {
        let llama_8b = PassShape { heads: 32, head_dim: 128, hidden_size: 4096, vocab_size: 128_256, dtype_bytes: 2 };
        // 32 heads x 1024 rows x 8192 tokens x 2 bytes, three times; 32 x 128 x 8192 x 2 bytes, four times.
        let (scores, gathered) = (3 * 32 * 1024 * 8192 * 2, 4 * 32 * 128 * 8192 * 2);
        let (mask, activations, logits) = (2048 * 8192 * 3, 24 * 2048 * 4096 * 2, 2 * 64 * 128_256 * 4);
        assert_eq!(llama_8b.working_bytes(2048, 8192, 64), scores + gathered + mask + activations + logits);
        // A piece is no longer than the sequence, and no more rows are computed at once than it has.
        let short = llama_8b.working_bytes(2048, 100, 1);
        assert_eq!(short, llama_8b.working_bytes(100, 100, 1));
        let vast = PassShape { heads: u32::MAX, ..llama_8b };
        assert_eq!(vast.working_bytes(u32::MAX, u32::MAX, u32::MAX), u64::MAX);
    }
}
