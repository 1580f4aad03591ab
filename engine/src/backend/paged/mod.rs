//! From a step's work to the contents of the tensors with which a model reads and writes paged KV memory. Pure: numbers in
//! vectors, no tensor, no device; what a GPU gets can be told from here without one.
//!
//! A token's KV lies in slot `block * block_tokens + offset`. Sequences with one token to compute share one [`Pass`], whatever
//! their lengths; each longer piece of a prompt is a pass of its own.

pub mod capacity;
pub mod copy;
#[cfg(test)]
pub(crate) mod memory;
pub mod pass;
#[cfg(test)]
mod tests;

pub use copy::{BlockCopy, copies};
pub use pass::{BlockTables, CachedPrefix, Pass, Row, passes};

use super::StepError;

/// Block of the device's memory that nobody gets: block tables are padded with it.
const PADDING_BLOCK: u32 = 0;

/// The device's KV memory, as blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    block_tokens: u32,
    blocks: u32,
}

impl Layout {
    /// `device_blocks` blocks of `block_tokens` tokens each, of which the first one pads tables; `None` if that leaves nothing.
    pub fn new(block_tokens: u32, device_blocks: u32) -> Option<Self> {
        let blocks = device_blocks.saturating_sub(1);
        // The highest slot has to be a number that a tensor holds.
        i64::from(device_blocks).checked_mul(i64::from(block_tokens))?;
        (block_tokens > 0 && blocks > 0).then_some(Self { block_tokens, blocks })
    }

    /// Tokens that one block holds.
    pub fn block_tokens(&self) -> u32 {
        self.block_tokens
    }

    /// Blocks that the scheduler may give out, numbered from 0.
    pub fn blocks(&self) -> u32 {
        self.blocks
    }

    /// Blocks of the device for the first `tokens` tokens of a sequence that holds `held`.
    fn table(&self, held: &[u32], tokens: usize) -> Result<Vec<u32>, StepError> {
        let needed = tokens.div_ceil(self.block_tokens as usize);
        let used = held.get(..needed).ok_or_else(|| {
            StepError::Failed(format!("{tokens} tokens need {needed} KV blocks and the sequence has {}", held.len()))
        })?;
        used.iter().map(|block| self.on_device(*block)).collect()
    }

    fn on_device(&self, block: u32) -> Result<u32, StepError> {
        if block < self.blocks {
            return Ok(block + PADDING_BLOCK + 1);
        }
        Err(StepError::Failed(format!("there is no KV block {block}: they are numbered up to {}", self.blocks - 1)))
    }

    /// Slot of the token at `position` of a sequence with this table.
    fn slot(&self, table: &[u32], position: usize) -> Option<i64> {
        let size = self.block_tokens as usize;
        let block = i64::from(*table.get(position / size)?);
        Some(block * i64::from(self.block_tokens) + i64::try_from(position % size).ok()?)
    }
}
