//! The pool of KV blocks. Blocks are numbers; who holds which is written at the sequences.

/// Blocks that nobody holds.
#[derive(Debug)]
pub struct BlockPool {
    free: Vec<u32>,
    total: u32,
    block_tokens: u32,
}

impl BlockPool {
    /// A pool of `total` blocks of `block_tokens` tokens each.
    pub fn new(total: u32, block_tokens: u32) -> Self {
        Self { free: (0..total).rev().collect(), total, block_tokens }
    }

    /// Blocks that `tokens` tokens need.
    pub fn needed(&self, tokens: usize) -> usize {
        tokens.div_ceil(self.block_tokens as usize)
    }

    /// Tokens that `blocks` blocks hold.
    pub fn tokens(&self, blocks: usize) -> usize {
        blocks * self.block_tokens as usize
    }

    /// Blocks that nobody holds.
    pub fn free(&self) -> usize {
        self.free.len()
    }

    /// All blocks.
    pub fn total(&self) -> usize {
        self.total as usize
    }

    /// Moves free blocks to a holder until it has `count`; false, and nothing moved, if there are too few.
    pub fn extend(&mut self, held: &mut Vec<u32>, count: usize) -> bool {
        let missing = count.saturating_sub(held.len());
        if missing > self.free.len() {
            return false;
        }
        let rest = self.free.len() - missing;
        held.extend(self.free.drain(rest..).rev());
        true
    }

    /// Takes a holder's last block back, if it has one.
    pub fn take_back(&mut self, held: &mut Vec<u32>) {
        self.free.extend(held.pop());
    }

    /// Takes all of a holder's blocks back.
    pub fn take_all_back(&mut self, held: &mut Vec<u32>) {
        self.free.extend(held.drain(..).rev());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_go_out_once_and_come_back() {
        let mut pool = BlockPool::new(3, 16);
        assert_eq!((pool.needed(0), pool.needed(16), pool.needed(17)), (0, 1, 2));
        let (mut a, mut b) = (Vec::new(), Vec::new());
        assert!(pool.extend(&mut a, 2));
        assert!(!pool.extend(&mut b, 2));
        assert_eq!((a.as_slice(), b.len(), pool.free()), ([0, 1].as_slice(), 0, 1));
        pool.take_back(&mut a);
        assert!(pool.extend(&mut b, 2));
        pool.take_all_back(&mut a);
        pool.take_all_back(&mut b);
        assert_eq!(pool.free(), pool.total());
    }
}
