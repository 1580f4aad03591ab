//! Reuse of KV between requests that begin with the same tokens: the next turn of a conversation, a common system prompt, the
//! sequences of one request. Finished sequences are kept while nobody needs their blocks.
//!
//! Only KV that a fresh computation would reproduce bit by bit is reused, so that a hit changes no text: tokens computed in
//! pieces of at least two. Attention over a single row, as in decoding, rounds differently.

use std::collections::VecDeque;

use super::state::State;
use crate::backend::{Adoption, SequenceId};

/// Fewer tokens are computed sooner than found and copied.
const LEAST: usize = 16;
/// Finished sequences that are kept at most: finding the longest match looks at each.
const MOST_KEPT: usize = 256;

/// A finished sequence whose KV is still there.
#[derive(Debug)]
struct Kept {
    id: SequenceId,
    /// Tokens whose KV it holds.
    tokens: Vec<u32>,
    blocks: Vec<u32>,
}

/// Finished sequences, least recently used first.
#[derive(Debug, Default)]
pub struct Prefixes {
    kept: VecDeque<Kept>,
    /// Copies for the next step; what they go to is written in when it is planned.
    pending: Vec<Adoption>,
}

impl Prefixes {
    /// Blocks that they hold.
    pub fn blocks(&self) -> usize {
        self.kept.iter().map(|kept| kept.blocks.len()).sum()
    }

    /// Each with its tokens and its blocks.
    #[cfg(test)]
    pub(super) fn kept(&self) -> impl Iterator<Item = (SequenceId, &[u32], &[u32])> {
        self.kept.iter().map(|kept| (kept.id, kept.tokens.as_slice(), kept.blocks.as_slice()))
    }

    fn position(&self, id: SequenceId) -> Option<usize> {
        self.kept.iter().position(|kept| kept.id == id)
    }

    fn touch(&mut self, id: SequenceId) {
        if let Some(kept) = self.position(id).and_then(|at| self.kept.remove(at)) {
            self.kept.push_back(kept);
        }
    }
}

impl State {
    /// Lets a sequence that has no KV yet begin with a copy of the longest match, if there is one worth it and room for it.
    pub(super) fn adopt_prefix(&mut self, id: SequenceId) {
        if !self.limits.prefix_caching || !self.caps.copies_kv {
            return;
        }
        let Some(sequence) = self.sequences.get_mut(&id).filter(|s| s.computed == 0 && !s.looked_for_prefix) else { return };
        sequence.looked_for_prefix = true;
        let Some((from, tokens)) = self.longest_match(id).filter(|(_, tokens)| *tokens >= LEAST) else { return };
        self.prefixes.touch(from);
        if !self.provide_spare_blocks(id, from, tokens) {
            return;
        }
        let from_blocks = self.blocks_of(from).into_iter().take(self.pool.needed(tokens)).collect();
        if let Some(sequence) = self.sequences.get_mut(&id) {
            sequence.adopted(tokens);
            self.prefixes.pending.push(Adoption { from, from_blocks, to: id, to_blocks: Vec::new(), tokens: 0 });
        }
    }

    fn blocks_of(&self, id: SequenceId) -> Vec<u32> {
        let kept = self.prefixes.position(id).and_then(|at| self.prefixes.kept.get(at)).map(|kept| &kept.blocks);
        kept.or_else(|| self.sequences.get(&id).map(|sequence| &sequence.blocks)).cloned().unwrap_or_default()
    }

    /// Who shares the most tokens with the prompt, among kept and running sequences, and how many. At least two tokens are
    /// left to compute: the last one's logits are needed, and no piece is a single token.
    fn longest_match(&self, id: SequenceId) -> Option<(SequenceId, usize)> {
        let prompt = self.sequences.get(&id)?.prompt();
        let prompt = &prompt[..prompt.len().saturating_sub(2)];
        let kept = self.prefixes.kept.iter().map(|kept| (kept.id, common(&kept.tokens, prompt)));
        let running =
            self.running.values().filter(|other| **other != id).filter_map(|other| self.sequences.get_key_value(other));
        let running = running.map(|(other, sequence)| (*other, common(&sequence.tokens[..sequence.exact], prompt)));
        kept.chain(running).max_by_key(|(_, tokens)| *tokens)
    }

    /// Gives a sequence blocks that are free or only kept, sparing those of `source`.
    fn provide_spare_blocks(&mut self, id: SequenceId, source: SequenceId, tokens: usize) -> bool {
        let needed = self.pool.needed(tokens);
        loop {
            let Some(sequence) = self.sequences.get_mut(&id) else { return false };
            if self.pool.extend(&mut sequence.blocks, needed) {
                return true;
            }
            // The source was touched last, so it is the last to lose blocks.
            if self.prefixes.kept.front().is_none_or(|kept| kept.id == source) || !self.reclaim_kept_block() {
                return false;
            }
        }
    }

    /// Copies that the backend makes before the next step. Whoever lost blocks since then to others of the same step gets what
    /// is left; blocks that a source lost still hold their KV until the step's work begins.
    pub(super) fn take_adoptions(&mut self) -> Vec<Adoption> {
        let pending = std::mem::take(&mut self.prefixes.pending);
        pending.into_iter().filter_map(|adoption| self.addressed(adoption)).collect()
    }

    fn addressed(&self, adoption: Adoption) -> Option<Adoption> {
        let sequence = self.sequences.get(&adoption.to).filter(|sequence| sequence.computed > 0)?;
        let (tokens, blocks) = (sequence.computed, self.pool.needed(sequence.computed));
        Some(Adoption {
            from_blocks: adoption.from_blocks.into_iter().take(blocks).collect(),
            to_blocks: sequence.blocks.iter().copied().take(blocks).collect(),
            tokens: u32::try_from(tokens).unwrap_or(u32::MAX),
            ..adoption
        })
    }

    /// Keeps what a sequence that leaves has computed, unless another one covers it; false if there is nothing to keep.
    pub(super) fn keep_prefix(&mut self, id: SequenceId, tokens: &[u32], blocks: &mut Vec<u32>) -> bool {
        let covered = |kept: &Kept| common(&kept.tokens, tokens) == tokens.len();
        if !self.limits.prefix_caching || !self.caps.copies_kv || tokens.len() < LEAST || self.prefixes.kept.iter().any(covered)
        {
            return false;
        }
        let needed = self.pool.needed(tokens.len());
        while blocks.len() > needed {
            self.pool.take_back(blocks);
        }
        let (shorter, others) =
            std::mem::take(&mut self.prefixes.kept).into_iter().partition(|kept| tokens.starts_with(&kept.tokens));
        self.prefixes.kept = others;
        let shorter: VecDeque<Kept> = shorter;
        shorter.into_iter().for_each(|kept| self.let_go(kept));
        if self.prefixes.kept.len() >= MOST_KEPT
            && let Some(oldest) = self.prefixes.kept.pop_front()
        {
            self.let_go(oldest);
        }
        self.prefixes.kept.push_back(Kept { id, tokens: tokens.to_vec(), blocks: std::mem::take(blocks) });
        true
    }

    /// Takes one block from the end of the kept sequence that was used longest ago.
    pub(super) fn reclaim_kept_block(&mut self) -> bool {
        let Some(mut oldest) = self.prefixes.kept.pop_front() else { return false };
        self.pool.take_back(&mut oldest.blocks);
        oldest.tokens.truncate(self.pool.tokens(oldest.blocks.len()));
        if oldest.tokens.len() < LEAST {
            self.let_go(oldest);
        } else {
            self.prefixes.kept.push_front(oldest);
        }
        true
    }

    /// Forgets one of them, if it is there: its KV is void.
    pub(super) fn let_go_of(&mut self, id: SequenceId) {
        if let Some(kept) = self.prefixes.position(id).and_then(|at| self.prefixes.kept.remove(at)) {
            self.let_go(kept);
        }
    }

    /// Forgets all of them: their KV is void.
    pub(super) fn let_all_go(&mut self) {
        self.prefixes.pending.clear();
        for kept in std::mem::take(&mut self.prefixes.kept) {
            self.let_go(kept);
        }
    }

    fn let_go(&mut self, mut kept: Kept) {
        self.pool.take_all_back(&mut kept.blocks);
        self.released.push(kept.id);
    }
}

/// Tokens that both begin with.
fn common(a: &[u32], b: &[u32]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}
