//! Golden passes, worked out by hand: blocks of 4 tokens, and block `n` of the scheduler is block `n + 1` of the device.

use super::*;
use crate::backend::{Adoption, Want, Work};

fn layout() -> Layout {
    Layout::new(4, 10).unwrap()
}

fn work(start: u32, tokens: &[u32], blocks: &[u32]) -> Work {
    Work { sequence: 7, start, tokens: tokens.to_vec(), blocks: blocks.to_vec(), want: Want::Row }
}

/// Slots, block table, context lengths and the cached prefix of a step that is one piece of a prompt.
fn piece(start: u32, tokens: &[u32], blocks: &[u32]) -> Pass {
    let mut passes = passes(layout(), &[work(start, tokens, blocks)]).unwrap();
    assert_eq!(passes.len(), 1);
    passes.remove(0)
}

#[test]
fn one_block_of_the_device_is_nobodys() {
    assert_eq!(Layout::new(32, 101).map(|layout| layout.blocks()), Some(100));
    assert_eq!((Layout::new(32, 1), Layout::new(0, 100), Layout::new(u32::MAX, 0)), (None, None, None));
}

#[test]
fn a_prompt_shorter_than_a_block() {
    let expected = Pass {
        rows: vec![Row { work: 0, want: Want::Row }],
        tokens: 3,
        input_ids: vec![11, 12, 13],
        seqlen_offsets: vec![0],
        position_ids: vec![3],
        // Block 5 of the scheduler is block 6 of the device: slots 24 to 27.
        slot_mappings: vec![24, 25, 26],
        block_tables: BlockTables { blocks: vec![6], width: 1 },
        context_lens: vec![0, 1, 2],
        max_context_len: 3,
        is_first_prompt_chunk: true,
        cached: None,
    };
    assert_eq!(piece(0, &[11, 12, 13], &[5]), expected);
}

#[test]
fn a_prompt_of_one_block_less_one_exactly_one_and_one_more() {
    let slots = |tokens: &[u32]| {
        let pass = piece(0, tokens, &[2, 0]);
        (pass.slot_mappings, pass.block_tables.blocks, pass.max_context_len)
    };
    assert_eq!(slots(&[1, 2, 3]), (vec![12, 13, 14], vec![3], 3));
    // The second block is held and not needed yet: it is not in the table.
    assert_eq!(slots(&[1, 2, 3, 4]), (vec![12, 13, 14, 15], vec![3], 4));
    assert_eq!(slots(&[1, 2, 3, 4, 5]), (vec![12, 13, 14, 15, 4], vec![3, 1], 5));
}

#[test]
fn a_later_piece_that_begins_in_the_middle_of_a_block_and_ends_in_the_next() {
    let pass = piece(3, &[14, 15, 16], &[8, 1]);
    // Position 3 is the last slot of block 9, positions 4 and 5 the first two of block 2.
    assert_eq!(pass.slot_mappings, [39, 8, 9]);
    assert_eq!((pass.seqlen_offsets, pass.position_ids), (vec![3], vec![6]));
    assert_eq!(pass.context_lens, [3, 4, 5]);
    let cached =
        CachedPrefix { num_cached_tokens: vec![3], query_lens: vec![3], cu_seqlens_q: vec![0, 3], cu_seqlens_kv: vec![0, 6] };
    assert_eq!(pass.cached, Some(cached));
    assert!(pass.is_first_prompt_chunk, "the mask is dropped otherwise");
}

#[test]
fn a_later_piece_that_begins_at_a_blocks_border() {
    let pass = piece(4, &[15, 16], &[8, 1]);
    assert_eq!((pass.slot_mappings, pass.block_tables.blocks), (vec![8, 9], vec![9, 2]));
    assert_eq!(pass.cached.unwrap().cu_seqlens_kv, [0, 6]);
}

#[test]
fn sequences_of_unequal_lengths_decode_in_one_pass() {
    let step = [
        // The fourth token fills block 1 of the device, the fifth is alone in block 7, the ninth needs a third block.
        work(3, &[21], &[0]),
        work(4, &[22], &[5, 6]),
        Work { want: Want::Best, ..work(8, &[23], &[1, 8, 3]) },
    ];
    let expected = Pass {
        rows: vec![Row { work: 0, want: Want::Row }, Row { work: 1, want: Want::Row }, Row { work: 2, want: Want::Best }],
        tokens: 1,
        input_ids: vec![21, 22, 23],
        seqlen_offsets: vec![3, 4, 8],
        position_ids: vec![4, 5, 9],
        slot_mappings: vec![7, 28, 16],
        block_tables: BlockTables { blocks: vec![1, 0, 0, 6, 7, 0, 2, 9, 4], width: 3 },
        context_lens: vec![4, 5, 9],
        max_context_len: 9,
        is_first_prompt_chunk: false,
        cached: None,
    };
    assert_eq!(passes(layout(), &step), Ok(vec![expected]));
}

#[test]
fn pieces_of_prompts_are_passes_of_their_own_after_the_decoding_ones() {
    let step = [
        Work { want: Want::Nothing, ..work(0, &[1, 2, 3, 4], &[0]) },
        work(5, &[9], &[1, 2]),
        work(2, &[3, 4], &[3]),
        work(0, &[8], &[4]),
    ];
    let passes = passes(layout(), &step).unwrap();
    let rows: Vec<Vec<usize>> = passes.iter().map(|pass| pass.rows.iter().map(|row| row.work).collect()).collect();
    assert_eq!(rows, [vec![1, 3], vec![0], vec![2]], "a prompt of one token is with those that decode");
    assert_eq!(passes[0].context_lens, [6, 1]);
    assert_eq!(passes[0].block_tables.row(1), [5, 0]);
    let wanted: Vec<Vec<usize>> = passes.iter().map(|pass| pass.wanted().map(|(row, _)| row).collect()).collect();
    assert_eq!(wanted, [vec![0, 1], vec![], vec![0]], "the middle of a prompt has no logits to fetch");
}

#[test]
fn nothing_to_do_is_no_pass() {
    assert_eq!(passes(layout(), &[]), Ok(vec![]));
}

#[test]
fn a_copy_takes_the_blocks_that_the_tokens_are_in() {
    let adoption = |tokens: u32| Adoption { from: 1, from_blocks: vec![0, 4, 2], to: 2, to_blocks: vec![7, 3, 8], tokens };
    let pairs = |tokens: u32| copies(layout(), &adoption(tokens)).unwrap().iter().map(|c| (c.from, c.to)).collect::<Vec<_>>();
    assert_eq!(pairs(0), []);
    assert_eq!((pairs(1), pairs(4)), (vec![(1, 8)], vec![(1, 8)]));
    assert_eq!((pairs(5), pairs(9)), (vec![(1, 8), (5, 4)], vec![(1, 8), (5, 4), (3, 9)]));
}

#[test]
fn what_does_not_fit_the_memory_is_an_error_and_no_panic() {
    let said = |work: Work| passes(layout(), &[work]).unwrap_err().to_string();
    assert!(said(work(0, &[], &[0])).contains("sequence 7: there is no token"));
    assert!(said(work(4, &[1], &[0])).contains("5 tokens need 2 KV blocks and the sequence has 1"));
    assert!(said(work(0, &[1], &[9])).contains("there is no KV block 9: they are numbered up to 8"));
    assert!(said(work(u32::MAX, &[1], &[0])).contains("no 32-bit numbers"));
    let onto_itself = Adoption { from: 1, from_blocks: vec![0, 1], to: 2, to_blocks: vec![2, 0], tokens: 5 };
    assert!(copies(layout(), &onto_itself).unwrap_err().to_string().contains("read and written"));
    let too_short = Adoption { from: 1, from_blocks: vec![0], to: 2, to_blocks: vec![2, 3], tokens: 5 };
    assert!(copies(layout(), &too_short).is_err());
}
