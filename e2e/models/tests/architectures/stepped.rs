//! Our backend, stepped by hand.

use std::path::Path;

use sojourn_engine::backend::load::Dtype;
use sojourn_engine::backend::mistralrs::MistralRs;
use sojourn_engine::backend::mistralrs::load::load;
use sojourn_engine::backend::{Backend, Logits, SequenceId, Want, Work};
use sojourn_models::tiny::VOCABULARY;

/// KV blocks of a backend that never lacks any.
pub const PLENTY: u32 = 64;

/// Loads a model.
pub fn open(model: &Path, kv_blocks: u32) -> MistralRs {
    let (loaded, _) = load(model, Dtype::Auto).unwrap();
    MistralRs::new(loaded, kv_blocks, VOCABULARY as u32)
}

/// Sizes of pieces, in turns; none leaves a single token over, for which attention has another kernel.
const PIECES: [usize; 5] = [5, 2, 9, 64, 3];

/// A sequence on its way.
pub struct Sequence {
    pub id: SequenceId,
    pub tokens: Vec<u32>,
    pub prompt: usize,
    /// Tokens whose KV the backend has.
    pub computed: usize,
    pieces: usize,
}

impl Sequence {
    pub fn new(id: SequenceId, prompt: &[u32]) -> Self {
        Self { id, tokens: prompt.to_vec(), prompt: prompt.len(), computed: 0, pieces: id as usize }
    }

    pub fn generated(&self) -> &[u32] {
        &self.tokens[self.prompt..]
    }

    /// The next piece of the prompt, or the next token.
    pub fn step(&mut self, backend: &mut dyn Backend) {
        let pending = self.tokens.len() - self.computed;
        let piece = PIECES[self.pieces % PIECES.len()].min(pending);
        let piece = if pending - piece == 1 { pending } else { piece };
        self.pieces += 1;
        let last = piece == pending;
        let work = Work {
            sequence: self.id,
            start: self.computed as u32,
            tokens: self.tokens[self.computed..self.computed + piece].to_vec(),
            blocks: vec![0; (self.computed + piece).div_ceil(512)],
            want: if last { Want::Best } else { Want::Nothing },
        };
        let answer = backend.step(&[work]).unwrap();
        self.computed += piece;
        match answer[..] {
            [Logits::Best(id)] if last => self.tokens.push(id),
            [Logits::Nothing] if !last => {}
            ref other => panic!("{other:?}"),
        }
    }

    /// Steps until there are so many generated tokens.
    pub fn run(&mut self, backend: &mut dyn Backend, count: usize) {
        while self.generated().len() < count {
            self.step(backend);
        }
    }

    /// Goes back to its first `len` tokens.
    pub fn cut(&mut self, len: usize) {
        self.tokens.truncate(len + 1);
        self.computed = len;
    }
}

/// The greedy continuation of each prompt, all at once: one step for each in turn.
pub fn interleaved(backend: &mut dyn Backend, prompts: &[Vec<u32>], count: usize) -> Vec<Vec<u32>> {
    let mut sequences: Vec<Sequence> =
        prompts.iter().enumerate().map(|(id, prompt)| Sequence::new(id as SequenceId, prompt)).collect();
    while sequences.iter().any(|sequence| sequence.generated().len() < count) {
        for sequence in sequences.iter_mut().filter(|sequence| sequence.generated().len() < count) {
            sequence.step(backend);
        }
    }
    for sequence in &sequences {
        backend.release(sequence.id);
    }
    sequences.iter().map(|sequence| sequence.generated().to_vec()).collect()
}
