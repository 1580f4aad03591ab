//! Which blocks are copied when a sequence begins with another's KV.

use super::Layout;
use crate::backend::{Adoption, StepError};

/// All slots of one block of the device go to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockCopy {
    /// The block that is read.
    pub from: u32,
    /// The block that is written.
    pub to: u32,
}

/// The copies of one adoption, in any order or at once. Adoptions themselves go one after the other: one may begin with what
/// the one before wrote. A last block that is only partly the sequence's is copied whole; the rest of it is void.
pub fn copies(layout: Layout, adoption: &Adoption) -> Result<Vec<BlockCopy>, StepError> {
    let tokens = adoption.tokens as usize;
    let from = layout.table(&adoption.from_blocks, tokens)?;
    let to = layout.table(&adoption.to_blocks, tokens)?;
    if let Some(both) = to.iter().find(|block| from.contains(block)) {
        let (source, target) = (adoption.from, adoption.to);
        return Err(StepError::Failed(format!(
            "sequence {target} cannot begin with a copy of sequence {source}: block {both} of the device would be read and written"
        )));
    }
    Ok(from.into_iter().zip(to).map(|(from, to)| BlockCopy { from, to }).collect())
}
