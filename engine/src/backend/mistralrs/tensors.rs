//! A [`Pass`] as mistral.rs takes it: its numbers as tensors, and nothing else.

use std::collections::HashMap;

use candle_core::{Device, DeviceLocation, Result, Tensor, WithDType};
use mistralrs::core::{FlashParams, ModelInputs, PagedAttentionInputMetadata};

use crate::backend::paged::Pass;

/// A tensor by the device that it is on; there is one device here.
type OnDevice = HashMap<DeviceLocation, Tensor>;

/// The inputs of one forward pass.
pub fn inputs(pass: &Pass, device: &Device) -> Result<ModelInputs> {
    let rows = pass.rows.len();
    Ok(ModelInputs {
        input_ids: Tensor::from_slice(&pass.input_ids, (rows, pass.tokens), device)?,
        input_ids_full: None,
        seqlen_offsets: pass.seqlen_offsets.clone(),
        seqlen_offsets_full: None,
        context_lens: vec![(pass.tokens - 1, 1); rows],
        position_ids: pass.position_ids.clone(),
        paged_attn_meta: Some(metadata(pass, device)?),
        flash_meta: FlashParams::empty(true),
        flash_meta_full: None,
    })
}

fn metadata(pass: &Pass, device: &Device) -> Result<PagedAttentionInputMetadata> {
    let vector = |numbers: &[u32]| on(device, numbers, &[numbers.len()]);
    let block_tables = on(device, &pass.block_tables.blocks, &[pass.rows.len(), pass.block_tables.width])?;
    let context_lens = vector(&pass.context_lens)?;
    let cached = pass.cached.as_ref();
    // For layers without a window, which decode by these alone where they are given. A window is refused at load.
    let decodes = !pass.is_first_prompt_chunk;
    Ok(PagedAttentionInputMetadata {
        full_block_tables: decodes.then(|| block_tables.clone()),
        full_context_lens: decodes.then(|| context_lens.clone()),
        full_max_context_len: decodes.then_some(pass.max_context_len),
        block_tables: Some(block_tables),
        context_lens: Some(context_lens),
        // In one dimension: mistral.rs flattens two by a number of dimensions that candle 0.10 refuses.
        slot_mappings: on(device, &pass.slot_mappings, &[pass.slot_mappings.len()])?,
        max_context_len: Some(pass.max_context_len),
        is_first_prompt_chunk: pass.is_first_prompt_chunk,
        num_cached_tokens: cached.map(|cached| cached.num_cached_tokens.clone()),
        query_lens: cached.map(|cached| cached.query_lens.clone()),
        cu_seqlens_q: cached.map(|cached| vector(&cached.cu_seqlens_q)).transpose()?,
        cu_seqlens_kv: cached.map(|cached| vector(&cached.cu_seqlens_kv)).transpose()?,
        // Only models with multi-head latent attention read these.
        paged_kv_indptr: None,
        paged_kv_indices: None,
        paged_kv_last_page_len: None,
        paged_kv_request_indices: None,
        paged_kv_tile_indices: None,
        paged_kv_o_indptr: None,
        paged_kv_chunk_size: None,
    })
}

fn on<T: WithDType>(device: &Device, numbers: &[T], dims: &[usize]) -> Result<OnDevice> {
    Ok(HashMap::from([(device.location(), Tensor::from_slice(numbers, dims, device)?)]))
}

#[cfg(test)]
mod tests {
    use candle_core::DType;

    use super::*;
    use crate::backend::paged::{Layout, passes};
    use crate::backend::{Want, Work};

    fn only(tensors: &Option<OnDevice>) -> &Tensor {
        tensors.as_ref().and_then(|tensors| tensors.get(&Device::Cpu.location())).unwrap()
    }

    fn work(sequence: u64, start: u32, tokens: &[u32], blocks: &[u32]) -> Work {
        Work { sequence, start, tokens: tokens.to_vec(), blocks: blocks.to_vec(), want: Want::Best }
    }

    /// Two sequences that decode and a later piece of a prompt; blocks of 4 tokens.
    fn of_a_step() -> (ModelInputs, ModelInputs) {
        let step = [work(1, 3, &[21], &[0]), work(2, 3, &[14, 15, 16], &[8, 1]), work(3, 4, &[22], &[5, 6])];
        let passes = passes(Layout::new(4, 10).unwrap(), &step).unwrap();
        (inputs(&passes[0], &Device::Cpu).unwrap(), inputs(&passes[1], &Device::Cpu).unwrap())
    }

    #[test]
    fn a_decoding_pass_has_a_row_for_each_sequence() {
        let (decode, _) = of_a_step();
        assert_eq!(decode.input_ids.to_vec2::<u32>().unwrap(), [[21], [22]]);
        assert_eq!((decode.seqlen_offsets, decode.context_lens), (vec![3, 4], vec![(0, 1), (0, 1)]));
        let metadata = decode.paged_attn_meta.unwrap();
        assert_eq!(only(&metadata.block_tables).to_vec2::<u32>().unwrap(), [[1, 0], [6, 7]]);
        assert_eq!(only(&metadata.full_block_tables).to_vec2::<u32>().unwrap(), [[1, 0], [6, 7]]);
        assert_eq!(only(&metadata.context_lens).to_vec1::<u32>().unwrap(), [4, 5]);
        assert_eq!(only(&metadata.full_context_lens).to_vec1::<u32>().unwrap(), [4, 5]);
        assert_eq!((metadata.max_context_len, metadata.full_max_context_len), (Some(5), Some(5)));
        assert!(!metadata.is_first_prompt_chunk && metadata.num_cached_tokens.is_none() && metadata.cu_seqlens_kv.is_none());
        let slots = &metadata.slot_mappings[&Device::Cpu.location()];
        assert_eq!((slots.dtype(), slots.to_vec1::<i64>().unwrap()), (DType::I64, vec![7, 28]));
    }

    #[test]
    fn a_later_piece_of_a_prompt_says_what_is_in_memory_before_it() {
        let (_, piece) = of_a_step();
        assert_eq!(piece.input_ids.to_vec2::<u32>().unwrap(), [[14, 15, 16]]);
        assert_eq!((piece.seqlen_offsets, piece.context_lens, piece.position_ids), (vec![3], vec![(2, 1)], vec![6]));
        let metadata = piece.paged_attn_meta.unwrap();
        assert!(metadata.is_first_prompt_chunk, "the mask is dropped otherwise");
        assert_eq!(only(&metadata.block_tables).to_vec2::<u32>().unwrap(), [[9, 2]]);
        assert!(metadata.full_block_tables.is_none() && metadata.full_max_context_len.is_none());
        assert_eq!((metadata.num_cached_tokens, metadata.query_lens), (Some(vec![3]), Some(vec![3])));
        assert_eq!(only(&metadata.cu_seqlens_q).to_vec1::<u32>().unwrap(), [0, 3]);
        assert_eq!(only(&metadata.cu_seqlens_kv).to_vec1::<u32>().unwrap(), [0, 6]);
        assert_eq!(metadata.slot_mappings[&Device::Cpu.location()].to_vec1::<i64>().unwrap(), [39, 8, 9]);
    }
}
