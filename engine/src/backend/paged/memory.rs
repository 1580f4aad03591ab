//! A device's paged KV memory, as simple as can be: each slot holds one token. It knows of a step what the tensors say, and
//! branches where mistral.rs's paged attention does; a pass that is put together wrongly reads what is not there.

use std::collections::HashSet;

use super::{Layout, Pass, copies, passes};
use crate::backend::scripted::{VOCAB, scripted_token};
use crate::backend::{Adoption, Backend, Caps, Logits, SequenceId, StepError, Want, Work};

/// One token's KV.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Slot {
    pub(crate) sequence: SequenceId,
    pub(crate) position: usize,
    pub(crate) token: u32,
}

/// What a failing device does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The next copy of blocks fails.
    Copy,
    /// The next step fails when it has written.
    Step,
}

pub(crate) struct PagedMemory {
    layout: Layout,
    max_batch: usize,
    /// Tokens of an answer before it ends.
    length: u32,
    slots: Vec<Option<Slot>>,
    pub(crate) fault: Option<Fault>,
    /// What each sequence of the last step attended to.
    pub(crate) read: Vec<(SequenceId, Vec<u32>)>,
    /// Rows of the last step's passes, with the lengths of their sequences.
    pub(crate) ran: Vec<Vec<usize>>,
}

impl PagedMemory {
    pub(crate) fn new(layout: Layout, max_batch: usize, length: u32) -> Self {
        let slots = (layout.blocks() as usize + 1) * layout.block_tokens() as usize;
        Self { layout, max_batch, length, slots: vec![None; slots], fault: None, read: Vec::new(), ran: Vec::new() }
    }

    /// The slots of the first `tokens` tokens of whoever holds these blocks of the scheduler's.
    pub(crate) fn held(&self, blocks: &[u32], tokens: usize) -> Vec<Option<Slot>> {
        let block = |number: u32| self.block(number as usize + 1);
        blocks.iter().flat_map(|number| block(*number).iter().copied()).take(tokens).collect()
    }

    fn block(&self, number: usize) -> &[Option<Slot>] {
        let size = self.layout.block_tokens() as usize;
        &self.slots[number * size..][..size]
    }

    fn fails(&mut self, fault: Fault) -> Result<(), StepError> {
        match self.fault.take_if(|planned| *planned == fault) {
            Some(_) => Err(StepError::OutOfMemory("of the test's device".to_owned())),
            None => Ok(()),
        }
    }

    fn write(&mut self, pass: &Pass, of_row: &[SequenceId], written: &mut HashSet<i64>) {
        for (at, (slot, token)) in pass.slot_mappings.iter().zip(&pass.input_ids).enumerate() {
            let row = at / pass.tokens;
            let position = pass.seqlen_offsets[row] + at % pass.tokens;
            assert!(*slot >= i64::from(self.layout.block_tokens()), "slot {slot} is in the block that pads tables");
            assert!(written.insert(*slot), "slot {slot} is written twice in one step");
            self.slots[usize::try_from(*slot).unwrap()] = Some(Slot { sequence: of_row[row], position, token: *token });
        }
    }

    /// The tokens that a row attends to, its own included.
    fn attend(&self, pass: &Pass, row: usize, sequence: SequenceId) -> Vec<u32> {
        let own = &pass.input_ids[row * pass.tokens..][..pass.tokens];
        let masked = pass.tokens > 1 && pass.is_first_prompt_chunk;
        let length = match &pass.cached {
            Some(cached) if masked => cached.cu_seqlens_kv[row + 1] - cached.cu_seqlens_kv[row],
            None if masked => {
                assert_eq!(pass.seqlen_offsets[row], 0, "only a first piece attends to nothing but itself");
                return own.to_vec();
            }
            _ => {
                assert_eq!(pass.tokens, 1, "the decode kernel takes one token of a sequence");
                pass.context_lens[row]
            }
        };
        let table = pass.block_tables.row(row);
        let slots: Vec<Option<Slot>> = table.iter().flat_map(|block| self.block(*block as usize).iter().copied()).collect();
        let read = slots[..length as usize].iter().enumerate().map(|(position, slot)| {
            let slot = slot.unwrap_or_else(|| panic!("sequence {sequence} reads nothing at position {position}"));
            assert_eq!((slot.sequence, slot.position), (sequence, position), "sequence {sequence} reads a wrong slot");
            slot.token
        });
        read.collect()
    }

    fn run(&mut self, pass: &Pass, of_row: &[SequenceId]) -> Vec<Logits> {
        let whole = pass.rows.len() * pass.tokens;
        assert_eq!((pass.input_ids.len(), pass.slot_mappings.len()), (whole, whole));
        assert_eq!(pass.block_tables.blocks.len(), pass.rows.len() * pass.block_tables.width);
        self.ran.push(pass.position_ids.clone());
        let answers = pass.rows.iter().enumerate().map(|(number, row)| {
            let read = self.attend(pass, number, of_row[number]);
            assert_eq!(read.len(), pass.position_ids[number]);
            assert!(read.len() <= pass.max_context_len);
            let token = scripted_token(&read, self.length);
            (read, if row.want == Want::Nothing { Logits::Nothing } else { Logits::Best(token) })
        });
        let (read, answers): (Vec<_>, Vec<_>) = answers.unzip();
        self.read.extend(of_row.iter().copied().zip(read));
        answers
    }
}

impl Backend for PagedMemory {
    fn caps(&self) -> Caps {
        Caps {
            max_batch: self.max_batch,
            kv_block_tokens: self.layout.block_tokens(),
            kv_blocks: self.layout.blocks(),
            vocab_size: VOCAB,
            copies_kv: true,
        }
    }

    fn step(&mut self, work: &[Work]) -> Result<Vec<Logits>, StepError> {
        self.read.clear();
        self.ran.clear();
        let mut answers = vec![Logits::Nothing; work.len()];
        let mut written = HashSet::new();
        for pass in passes(self.layout, work)? {
            let of_row: Vec<SequenceId> = pass.rows.iter().map(|row| work[row.work].sequence).collect();
            self.write(&pass, &of_row, &mut written);
            self.fails(Fault::Step)?;
            for (row, logits) in pass.rows.iter().zip(self.run(&pass, &of_row)) {
                answers[row.work] = logits;
            }
        }
        assert_eq!(written.len(), work.iter().map(|work| work.tokens.len()).sum::<usize>());
        Ok(answers)
    }

    fn adopt(&mut self, adoption: &Adoption) -> Result<(), StepError> {
        self.fails(Fault::Copy)?;
        let size = self.layout.block_tokens() as usize;
        for copy in copies(self.layout, adoption)? {
            let block = self.block(copy.from as usize).to_vec();
            let target = &mut self.slots[copy.to as usize * size..][..size];
            for (slot, copied) in target.iter_mut().zip(block) {
                // Past the tokens that are asked for lies anything; whoever reads it there reads another's.
                let owned =
                    copied.filter(|copied| copied.sequence == adoption.from && copied.position < adoption.tokens as usize);
                *slot = owned.map(|copied| Slot { sequence: adoption.to, ..copied });
            }
        }
        Ok(())
    }

    fn recover(&mut self) -> Result<(), StepError> {
        self.slots.fill(None);
        Ok(())
    }

    /// A paged device forgets nothing: the next owner writes over it.
    fn release(&mut self, _: SequenceId) {}
}
