//! What one forward pass over paged KV memory takes, as the contents of its tensors.

use super::{Layout, PADDING_BLOCK};
use crate::backend::{StepError, Want, Work};

/// One forward pass: `rows.len()` sequences with `tokens` tokens each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pass {
    /// Whose logits the pass gives, in order: those of the row's last token.
    pub rows: Vec<Row>,
    /// Tokens of each row.
    pub tokens: usize,
    /// Token ids, row after row.
    pub input_ids: Vec<u32>,
    /// Position of each row's first token.
    pub seqlen_offsets: Vec<usize>,
    /// Length of each row's sequence with this pass's tokens, as mistral.rs wants it.
    pub position_ids: Vec<usize>,
    /// Where the KV of each token goes, row after row.
    pub slot_mappings: Vec<i64>,
    /// Where each row's KV lies, this pass's tokens included.
    pub block_tables: BlockTables,
    /// For a row of one token the length of its sequence with it. For a piece of a prompt the position of each of its tokens.
    pub context_lens: Vec<u32>,
    /// Length of the longest sequence, with this pass's tokens.
    pub max_context_len: usize,
    /// It is a piece of a prompt, which needs a causal mask. mistral.rs calls that its first chunk, and drops the mask of
    /// others.
    pub is_first_prompt_chunk: bool,
    /// What a later piece of a prompt finds in the memory.
    pub cached: Option<CachedPrefix>,
}

/// One sequence in a pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row {
    /// Its index in the step's work.
    pub work: usize,
    /// What the sampler needs of it.
    pub want: Want,
}

/// Blocks of the device, one row for each sequence, in the order of its tokens; shorter rows are padded on the right with 0.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockTables {
    /// Blocks, row after row.
    pub blocks: Vec<u32>,
    /// Blocks of each row, padding included.
    pub width: usize,
}

/// The tokens before a later piece of a prompt, whose KV the pass gathers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CachedPrefix {
    /// How many they are, for each row.
    pub num_cached_tokens: Vec<usize>,
    /// Tokens of the piece, for each row.
    pub query_lens: Vec<usize>,
    /// Where each row's tokens begin among all of the pass's, and where the last ones end.
    pub cu_seqlens_q: Vec<u32>,
    /// The same for the KV that they attend to.
    pub cu_seqlens_kv: Vec<u32>,
}

/// The passes of one step: all sequences with a single token in one, then a pass for each piece of a prompt, both in the order
/// of the work.
///
/// A piece of a single token goes with those that decode, at the beginning of a prompt too: mistral.rs has no mask for one
/// token, and without one it runs the decode kernel, whose context length counts the token itself.
pub fn passes(layout: Layout, work: &[Work]) -> Result<Vec<Pass>, StepError> {
    let placed = work.iter().enumerate().map(|(index, work)| Placed::new(layout, index, work));
    let (single, pieces): (Vec<Placed>, Vec<Placed>) =
        placed.collect::<Result<Vec<_>, _>>()?.into_iter().partition(|placed| placed.work.tokens.len() == 1);
    let decode = (!single.is_empty()).then(|| decode(&single));
    Ok(decode.into_iter().chain(pieces.iter().map(prompt_piece)).collect())
}

/// A sequence's work with its place in the device's memory.
struct Placed<'a> {
    row: Row,
    work: &'a Work,
    start: usize,
    /// Length of the sequence with this work's tokens; a `u32` too.
    end: u32,
    table: Vec<u32>,
    slots: Vec<i64>,
}

impl<'a> Placed<'a> {
    fn new(layout: Layout, index: usize, work: &'a Work) -> Result<Self, StepError> {
        let of_sequence = |error: &str| StepError::Failed(format!("sequence {}: {error}", work.sequence));
        if work.tokens.is_empty() {
            return Err(of_sequence("there is no token to compute"));
        }
        let end = u32::try_from(work.tokens.len()).ok().and_then(|count| work.start.checked_add(count));
        let end = end.ok_or_else(|| of_sequence("its positions are no 32-bit numbers"))?;
        let (start, last) = (work.start as usize, end as usize);
        let table = layout.table(&work.blocks, last).map_err(|error| of_sequence(&error.to_string()))?;
        let slots: Option<Vec<i64>> = (start..last).map(|position| layout.slot(&table, position)).collect();
        let slots = slots.ok_or_else(|| of_sequence("its KV blocks end before its tokens"))?;
        Ok(Self { row: Row { work: index, want: work.want }, work, start, end, table, slots })
    }
}

/// One pass over all sequences with a single token, whatever their lengths.
fn decode(rows: &[Placed]) -> Pass {
    Pass {
        rows: rows.iter().map(|placed| placed.row).collect(),
        tokens: 1,
        input_ids: rows.iter().flat_map(|placed| placed.work.tokens.iter().copied()).collect(),
        seqlen_offsets: rows.iter().map(|placed| placed.start).collect(),
        position_ids: rows.iter().map(|placed| placed.end as usize).collect(),
        slot_mappings: rows.iter().flat_map(|placed| placed.slots.iter().copied()).collect(),
        block_tables: BlockTables::padded(rows),
        context_lens: rows.iter().map(|placed| placed.end).collect(),
        max_context_len: rows.iter().map(|placed| placed.end as usize).max().unwrap_or(0),
        is_first_prompt_chunk: false,
        cached: None,
    }
}

/// A pass over one piece of one prompt.
fn prompt_piece(placed: &Placed) -> Pass {
    let (start, end, tokens) = (placed.start, placed.end, placed.work.tokens.len());
    let cached = (start > 0).then(|| CachedPrefix {
        num_cached_tokens: vec![start],
        query_lens: vec![tokens],
        cu_seqlens_q: vec![0, end - placed.work.start],
        cu_seqlens_kv: vec![0, end],
    });
    Pass {
        rows: vec![placed.row],
        tokens,
        input_ids: placed.work.tokens.clone(),
        seqlen_offsets: vec![start],
        position_ids: vec![end as usize],
        slot_mappings: placed.slots.clone(),
        block_tables: BlockTables::padded(std::slice::from_ref(placed)),
        context_lens: (placed.work.start..end).collect(),
        max_context_len: end as usize,
        is_first_prompt_chunk: true,
        cached,
    }
}

impl BlockTables {
    fn padded(rows: &[Placed]) -> Self {
        let width = rows.iter().map(|placed| placed.table.len()).max().unwrap_or(0);
        let padded = |table: &Vec<u32>| {
            let padding = std::iter::repeat_n(PADDING_BLOCK, width - table.len());
            table.iter().copied().chain(padding).collect::<Vec<_>>()
        };
        Self { blocks: rows.iter().flat_map(|placed| padded(&placed.table)).collect(), width }
    }

    /// The blocks of one row, padding included.
    pub fn row(&self, row: usize) -> &[u32] {
        let begin = row.saturating_mul(self.width);
        self.blocks.get(begin..begin.saturating_add(self.width)).unwrap_or_default()
    }
}

impl Pass {
    /// Rows whose logits are wanted, with their number in the pass.
    pub fn wanted(&self) -> impl Iterator<Item = (usize, Row)> + '_ {
        self.rows.iter().copied().enumerate().filter(|(_, row)| row.want != Want::Nothing)
    }
}
