//! The KV blocks of a GPU, as mistral.rs's kernels want them: for each layer a tensor of keys, [blocks, heads, width / x,
//! tokens, x], and one of values, [blocks, heads, width, tokens].

use candle_core::{DType, Device, Result, Tensor};

use crate::backend::paged::BlockCopy;
use crate::backend::paged::capacity::KvShape;

/// Bytes of a key that a kernel reads at once.
const KEY_BYTES: usize = 16;

/// Keys and values of one layer.
pub type Layer = (Tensor, Tensor);

/// What a token's KV takes in layers like these; `None` where they differ from each other, or lie in memory in another way.
pub fn shape(layers: &[Layer]) -> Option<KvShape> {
    let (keys, values) = layers.first()?;
    let (_, kv_heads, parts, block_tokens, part) = keys.dims5().ok()?;
    let (_, value_heads, value_head_dim, value_tokens) = values.dims4().ok()?;
    let of_a_block = |layer: &Layer| (layer.0.dims()[1..].to_vec(), layer.1.dims()[1..].to_vec(), layer.0.dtype());
    let alike = layers.iter().all(|layer| layer.0.rank() == 5 && of_a_block(layer) == of_a_block(&layers[0]));
    if !alike || (value_heads, value_tokens) != (kv_heads, block_tokens) {
        return None;
    }
    let number = |size: usize| u32::try_from(size).ok();
    Some(KvShape {
        layers: number(layers.len())?,
        kv_heads: number(kv_heads)?,
        key_head_dim: number(parts * part)?,
        value_head_dim: number(value_head_dim)?,
        dtype_bytes: number(keys.dtype().size_in_bytes())?,
        block_tokens: number(block_tokens)?,
    })
}

/// So many blocks of this shape; zeroed, so that what is read beyond a sequence's end is a number.
pub fn allocate(shape: &KvShape, dtype: DType, blocks: u32, device: &Device) -> Result<Vec<Layer>> {
    let [blocks, heads, tokens] = [blocks, shape.kv_heads, shape.block_tokens].map(|count| count as usize);
    let part = KEY_BYTES / dtype.size_in_bytes();
    let keys = [blocks, heads, shape.key_head_dim as usize / part, tokens, part];
    let values = [blocks, heads, shape.value_head_dim as usize, tokens];
    let layer = |_| -> Result<Layer> { Ok((Tensor::zeros(&keys, dtype, device)?, Tensor::zeros(&values, dtype, device)?)) };
    (0..shape.layers).map(layer).collect()
}

/// Copies blocks within each layer. What is read is read before anything is written.
pub fn copy(layers: &[Layer], copies: &[BlockCopy]) -> Result<()> {
    let Some((first, _)) = layers.first().filter(|_| !copies.is_empty()) else { return Ok(()) };
    let from: Vec<u32> = copies.iter().map(|copy| copy.from).collect();
    let from = Tensor::from_slice(&from, from.len(), first.device())?;
    for tensor in layers.iter().flat_map(|(keys, values)| [keys, values]) {
        let read = tensor.index_select(&from, 0)?;
        let mut begin = 0;
        // Neighbours are written at once.
        for run in copies.chunk_by(|one, next| one.to.checked_add(1) == Some(next.to)) {
            tensor.slice_set(&read.narrow(0, begin, run.len())?, 0, run[0].to as usize)?;
            begin += run.len();
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use candle_core::DType;

    use super::*;

    /// Two layers of blocks for 4 tokens of 2 heads, 8 wide; each number says where it is.
    fn layers(blocks: usize) -> Vec<Layer> {
        let tensor = |dims: &[usize], from: f32| {
            let count: usize = dims.iter().product();
            Tensor::arange(from, from + count as f32, &Device::Cpu).unwrap().reshape(dims).unwrap()
        };
        let layer = |from: f32| (tensor(&[blocks, 2, 2, 4, 4], from), tensor(&[blocks, 2, 8, 4], from + 0.5));
        vec![layer(0.0), layer(10_000.0)]
    }

    fn block(tensor: &Tensor, number: usize) -> Vec<f32> {
        tensor.get(number).unwrap().flatten_all().unwrap().to_vec1().unwrap()
    }

    #[test]
    fn a_layers_shape_says_what_a_block_takes() {
        let shape = shape(&layers(3)).unwrap();
        let expected = KvShape { layers: 2, kv_heads: 2, key_head_dim: 8, value_head_dim: 8, dtype_bytes: 4, block_tokens: 4 };
        assert_eq!(shape, expected);
        let layers = layers(3);
        let bytes: usize = layers.iter().map(|(keys, values)| (keys.elem_count() + values.elem_count()) * 4).sum();
        assert_eq!(shape.bytes_per_block(), Some(bytes as u64 / 3));
    }

    #[test]
    fn layers_that_differ_or_lie_in_another_way_have_no_shape() {
        let mut differing = layers(3);
        differing[1].1 = Tensor::zeros((3, 2, 16, 4), DType::F32, &Device::Cpu).unwrap();
        assert_eq!(shape(&differing), None);
        let latent = Tensor::zeros((3, 4, 8), DType::F32, &Device::Cpu).unwrap();
        assert_eq!(shape(&[(latent.clone(), latent.clone())]), None);
        let mut mixed = layers(3);
        mixed[1].0 = latent;
        assert_eq!(shape(&mixed), None);
        assert_eq!(shape(&[]), None);
    }

    #[test]
    fn blocks_are_allocated_by_number_in_the_shape_that_was_found() {
        let found = shape(&layers(1)).unwrap();
        let allocated = allocate(&found, DType::F32, 7, &Device::Cpu).unwrap();
        assert_eq!(shape(&allocated), Some(found));
        let (keys, values) = &allocated[1];
        assert_eq!((allocated.len(), keys.dims(), values.dims()), (2, &[7, 2, 2, 4, 4][..], &[7, 2, 8, 4][..]));
        assert!(block(keys, 6).iter().all(|number| *number == 0.0));
        // Numbers of two bytes go eight at a time.
        let halves = allocate(&KvShape { dtype_bytes: 2, ..found }, DType::F16, 1, &Device::Cpu).unwrap();
        assert_eq!(halves[0].0.dims(), [1, 2, 1, 4, 8]);
    }

    #[test]
    fn copies_take_what_was_there_before_any_of_them_in_every_layer() {
        let (layers, before) = (layers(8), layers(8));
        // A run of two, one alone, and one that reads what another writes.
        let copies = [(1, 4), (2, 5), (3, 0), (4, 7)].map(|(from, to)| BlockCopy { from, to });
        copy(&layers, &copies).unwrap();
        for (after, before) in layers.iter().zip(&before) {
            for (from, to) in [(1, 4), (2, 5), (3, 0), (4, 7), (6, 6), (1, 1)] {
                assert_eq!(block(&after.0, to), block(&before.0, from), "keys of {from} in {to}");
                assert_eq!(block(&after.1, to), block(&before.1, from), "values of {from} in {to}");
            }
        }
        copy(&layers, &[]).unwrap();
    }
}
