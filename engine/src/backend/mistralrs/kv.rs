//! One sequence's KV, in the caches to which mistral.rs's layers append.
//!
//! mistral.rs gives layers with a sliding window a cache that forgets what the window has passed. It cannot be cut back after
//! that, and it does not fit the mask of a further piece of a prompt, which is as wide as the whole history. So every layer
//! keeps its whole history here, as the scheduler's KV blocks count it anyway, and a window is only what a single new token
//! sees of it. That is what mistral.rs's own engine computes too: in a prompt the mask is the window, in decoding the cache is.

use candle_core::{Result, Tensor};
use mistralrs::core::KvCache;

/// Tokens by which mistral.rs grows a sequence's KV on the CPU (`NormalCache::CACHE_GROW_SIZE`).
pub const KV_BLOCK_TOKENS: u32 = 512;

/// The dimension of keys and values that counts tokens.
const TOKENS: usize = 2;

/// The layers of one model's KV.
pub struct Layout(Vec<Layer>);

#[derive(Clone, Copy)]
enum Layer {
    /// Has keys and values; `window` is how many tokens it looks back on, the new one included, where that is limited.
    Own { window: Option<usize> },
    /// Reads those of another layer.
    Shared { owner: usize },
}

impl Layout {
    /// The layout of a loaded model's caches.
    pub fn of(caches: &[KvCache]) -> Self {
        Self(caches.iter().map(Layer::of).collect())
    }

    /// Caches without a token, for a model whose longest context is `max_model_len`.
    pub fn empty(&self, max_model_len: u32) -> Vec<KvCache> {
        // A cache refuses to grow by a whole block beyond its limit, even where the tokens would fit.
        let limit = max_model_len.checked_next_multiple_of(KV_BLOCK_TOKENS).unwrap_or(u32::MAX) as usize;
        let cache = |layer: &Layer| match layer {
            Layer::Own { .. } => KvCache::new_normal(TOKENS, limit, KV_BLOCK_TOKENS as usize),
            Layer::Shared { owner } => KvCache::new_shared(*owner),
        };
        self.0.iter().map(cache).collect()
    }

    /// Puts what a single token at position `start` sees into the place of the layers whose window hides something from it.
    /// Gives those layers' whole histories, for [`restore`].
    pub fn narrow(&self, caches: &mut [KvCache], start: usize) -> Result<Vec<(usize, KvCache)>> {
        let mut whole = Vec::new();
        for (index, (layer, cache)) in self.0.iter().zip(caches).enumerate() {
            if let Layer::Own { window: Some(window) } = layer
                && start >= *window
            {
                let view = last(cache, *window)?;
                whole.push((index, std::mem::replace(cache, view)));
            }
        }
        Ok(whole)
    }
}

impl Layer {
    fn of(cache: &KvCache) -> Self {
        match cache {
            KvCache::Normal { .. } => Self::Own { window: None },
            KvCache::Rotating { k, .. } => Self::Own { window: Some(k.max_seq_len) },
            KvCache::Shared { owner } => Self::Shared { owner: *owner },
        }
    }
}

/// A cache of the last tokens of another one, with room for one more: `window` in all.
fn last(cache: &KvCache, window: usize) -> Result<KvCache> {
    let mut view = KvCache::new_normal(TOKENS, window, window);
    if let (Some(keys), Some(values), true) = (cache.k()?, cache.v()?, window > 1) {
        view.append(&tail(&keys, window - 1)?, &tail(&values, window - 1)?)?;
    }
    Ok(view)
}

/// Puts whole histories back after a step, each with the token that its view got.
pub fn restore(caches: &mut [KvCache], whole: Vec<(usize, KvCache)>) -> Result<()> {
    for (index, mut cache) in whole {
        if let (Some(keys), Some(values)) = (caches[index].k()?, caches[index].v()?) {
            cache.append(&tail(&keys, 1)?, &tail(&values, 1)?)?;
        }
        caches[index] = cache;
    }
    Ok(())
}

fn tail(tensor: &Tensor, count: usize) -> Result<Tensor> {
    tensor.narrow(TOKENS, tensor.dim(TOKENS)?.saturating_sub(count), count)
}

/// A copy of the first `len` tokens that shares nothing: a plain clone would share the storage, to which both would append.
pub fn copy(caches: &[KvCache], len: usize) -> Result<Vec<KvCache>> {
    let mut copies = caches.to_vec();
    for cache in &mut copies {
        if let KvCache::Normal { k, v } = cache {
            k.all_data = k.all_data.as_ref().map(Tensor::copy).transpose()?;
            v.all_data = v.all_data.as_ref().map(Tensor::copy).transpose()?;
        }
    }
    truncate(&mut copies, len)?;
    Ok(copies)
}

/// Forgets all but the first `len` tokens. An error means that fewer are there.
pub fn truncate(caches: &mut [KvCache], len: usize) -> Result<()> {
    for cache in caches.iter_mut().filter(|cache| !cache.is_shared() && cache.current_seq_len() != len) {
        if cache.current_seq_len() < len {
            candle_core::bail!("there is no KV before position {len}, only before {}", cache.current_seq_len());
        }
        // A sequence that starts anew gives its memory back.
        if len == 0 { cache.reset() } else { cache.set_len(len)? }
    }
    Ok(())
}
