//! A model that is not one: deterministic, of any batch size, slow, failing or hanging on demand. It runs where no weights
//! are (tests, GPU-less clusters) and answers every prompt with the words of a fixed text, byte by byte.

use std::collections::HashMap;
use std::str::FromStr;
use std::time::Duration;

use super::{Adoption, Backend, Caps, Logits, SequenceId, StepError, Want, Work};

/// Token ids below this are bytes.
pub const BYTES: u32 = 256;
/// Ends a sequence.
pub const EOS: u32 = 256;
/// Begins a turn of a chat; the template writes `<|user|>`, `<|assistant|>` and the like as this and the role's bytes.
pub const TURN: u32 = 257;
/// Size of the vocabulary.
pub const VOCAB: u32 = 258;

const TEXT: &[u8] = b"The quick brown fox jumps over the lazy dog and runs away. ";
/// A prompt that contains these words makes the step fail that would generate its first token.
const FAIL: &[u8] = b"[fail]";
/// The same, out of memory.
const OUT_OF_MEMORY: &[u8] = b"[oom]";
/// The same, and the device is gone.
const LOST: &[u8] = b"[lost]";
/// A prompt that contains these words makes that step panic, and every later one fail until [`Backend::recover`].
const PANIC: &[u8] = b"[panic]";
/// A prompt that contains these words makes that step take as long as the script's `hang_ms`.
const HANG: &[u8] = b"[hang]";
/// A prompt that contains `[say:...]` is answered with what stands there, up to the bracket that closes it; the last one counts.
const SAY: &[u8] = b"[say:";

/// How the scripted model behaves, written `scripted:key=value,...` where a model's path would stand.
#[derive(Debug, Clone, PartialEq)]
pub struct Script {
    /// Sequences in one step.
    pub batch: usize,
    /// Tokens in a KV block.
    pub block: u32,
    /// KV blocks.
    pub blocks: u32,
    /// Tokens generated before the end-of-sequence token.
    pub length: u32,
    /// Duration of a step.
    pub step: Duration,
    /// Duration of each token in a step, on top.
    pub token: Duration,
    /// How long a step hangs that is told to.
    pub hang: Duration,
}

impl Default for Script {
    fn default() -> Self {
        let hang = Duration::from_secs(3600);
        Self { batch: 8, block: 16, blocks: 1024, length: 64, step: Duration::ZERO, token: Duration::ZERO, hang }
    }
}

impl FromStr for Script {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut script = Self::default();
        for pair in text.split(',').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').ok_or_else(|| format!("'{pair}' is not of the form key=value"))?;
            let wrong = |error: &dyn std::fmt::Display| format!("'{value}' is no value for {key}: {error}");
            match key {
                "batch" => script.batch = value.parse().map_err(|e| wrong(&e))?,
                "block" => script.block = value.parse().map_err(|e| wrong(&e))?,
                "blocks" => script.blocks = value.parse().map_err(|e| wrong(&e))?,
                "length" => script.length = value.parse().map_err(|e| wrong(&e))?,
                "step_ms" => script.step = milliseconds(value).map_err(|e| wrong(&e))?,
                "token_ms" => script.token = milliseconds(value).map_err(|e| wrong(&e))?,
                "hang_ms" => script.hang = milliseconds(value).map_err(|e| wrong(&e))?,
                _ => return Err(format!("'{key}' is not one of: batch, block, blocks, length, step_ms, token_ms, hang_ms")),
            }
        }
        if script.batch == 0 || script.block == 0 || script.blocks == 0 {
            return Err("batch, block and blocks are at least 1".to_owned());
        }
        Ok(script)
    }
}

fn milliseconds(value: &str) -> Result<Duration, String> {
    let millis: f64 = value.parse().map_err(|error| format!("{error}"))?;
    Duration::try_from_secs_f64(millis / 1000.0).map_err(|error| error.to_string())
}

/// The scripted backend.
pub struct Scripted {
    script: Script,
    /// Tokens that each sequence's KV stands for, so that a scheduler's mistake is a failure and not a wrong text.
    kv: HashMap<SequenceId, Vec<u32>>,
    /// A step panicked, and nobody has recovered from it: real models hold locks across a step, which are then poisoned.
    poisoned: bool,
}

impl Scripted {
    /// Makes a backend that behaves as the script says.
    pub fn new(script: Script) -> Self {
        Self { script, kv: HashMap::new(), poisoned: false }
    }

    /// The tokens that a sequence's KV stands for.
    #[cfg(test)]
    pub(crate) fn kv(&self, sequence: SequenceId) -> &[u32] {
        self.kv.get(&sequence).map_or(&[], Vec::as_slice)
    }

    fn feed(&mut self, work: &Work) -> Result<Logits, StepError> {
        let kv = self.kv.entry(work.sequence).or_default();
        let start = work.start as usize;
        if work.tokens.is_empty() || start > kv.len() {
            return Err(StepError::Failed(format!("sequence {} has no KV before position {start}", work.sequence)));
        }
        kv.truncate(start);
        kv.extend_from_slice(&work.tokens);
        if work.blocks.len() * (self.script.block as usize) < kv.len() {
            return Err(StepError::Failed(format!("sequence {} has too few KV blocks", work.sequence)));
        }
        if work.want == Want::Nothing {
            return Ok(Logits::Nothing);
        }
        let bytes: Vec<u8> = kv.iter().filter_map(|id| u8::try_from(*id).ok()).collect();
        match () {
            () if contains(&bytes, FAIL) => return Err(StepError::Failed("scripted failure".to_owned())),
            () if contains(&bytes, OUT_OF_MEMORY) => return Err(StepError::OutOfMemory("scripted".to_owned())),
            () if contains(&bytes, LOST) => return Err(StepError::DeviceLost("scripted".to_owned())),
            () if contains(&bytes, PANIC) => {
                self.poisoned = true;
                panic!("scripted panic")
            }
            () if contains(&bytes, HANG) => std::thread::sleep(self.script.hang),
            () => {}
        }
        let id = match reply(&bytes) {
            Some(reply) => next_token(kv, reply.len(), |position| u32::from(reply[position])),
            None => next_token(kv, self.script.length as usize, text_token),
        };
        Ok(match work.want {
            Want::Row => Logits::Row(row(id)),
            _ => Logits::Best(id),
        })
    }
}

fn contains(text: &[u8], words: &[u8]) -> bool {
    text.windows(words.len()).any(|window| window == words)
}

/// What a script of this length says next.
#[cfg(test)]
pub(crate) fn scripted_token(tokens: &[u32], length: u32) -> u32 {
    next_token(tokens, length as usize, text_token)
}

/// The answer begins after the last turn mark, or at the end of a plain prompt: its length is then counted from the tokens
/// of the text that the sequence ends with.
fn next_token(tokens: &[u32], length: usize, text: impl Fn(usize) -> u32) -> u32 {
    let written = (0..=tokens.len().min(length))
        .rev()
        .find(|n| tokens[tokens.len() - n..].iter().enumerate().all(|(i, id)| *id == text(i)))
        .unwrap_or(0);
    if written >= length { EOS } else { text(written) }
}

/// What a prompt tells the model to say.
fn reply(prompt: &[u8]) -> Option<&[u8]> {
    let start = prompt.windows(SAY.len()).rposition(|window| window == SAY)? + SAY.len();
    let mut depth = 1;
    let end = prompt[start..].iter().position(|byte| {
        match byte {
            b'[' => depth += 1,
            b']' => depth -= 1,
            _ => {}
        }
        depth == 0
    })?;
    Some(&prompt[start..start + end])
}

fn text_token(position: usize) -> u32 {
    u32::from(TEXT[position % TEXT.len()])
}

fn row(id: u32) -> Vec<f32> {
    (0..VOCAB).map(|other| if other == id { 20.0 } else { -((other % 7) as f32) }).collect()
}

impl Backend for Scripted {
    fn caps(&self) -> Caps {
        let Script { batch, block, blocks, .. } = self.script;
        Caps { max_batch: batch, kv_block_tokens: block, kv_blocks: blocks, vocab_size: VOCAB, copies_kv: true }
    }

    fn step(&mut self, work: &[Work]) -> Result<Vec<Logits>, StepError> {
        if self.poisoned {
            return Err(StepError::Failed("an earlier step panicked".to_owned()));
        }
        let tokens: usize = work.iter().map(|work| work.tokens.len()).sum();
        let pause = self.script.step + self.script.token * u32::try_from(tokens).unwrap_or(u32::MAX);
        if !pause.is_zero() {
            std::thread::sleep(pause);
        }
        work.iter().map(|work| self.feed(work)).collect()
    }

    fn adopt(&mut self, adoption: &Adoption) -> Result<(), StepError> {
        let tokens = adoption.tokens as usize;
        let kv = self.kv.get(&adoption.from).and_then(|kv| kv.get(..tokens)).map(<[u32]>::to_vec);
        let fits = |blocks: &[u32]| blocks.len() * self.script.block as usize >= tokens;
        let Some(kv) = kv.filter(|_| fits(&adoption.from_blocks) && fits(&adoption.to_blocks)) else {
            return Err(StepError::Failed(format!("sequence {} has no {tokens} tokens to copy", adoption.from)));
        };
        self.kv.insert(adoption.to, kv);
        Ok(())
    }

    fn release(&mut self, sequence: SequenceId) {
        self.kv.remove(&sequence);
    }

    fn recover(&mut self) -> Result<(), StepError> {
        self.kv.clear();
        self.poisoned = false;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::*;

    fn work(start: u32, tokens: &[u32], want: Want) -> Work {
        Work { sequence: 1, start, tokens: tokens.to_vec(), blocks: vec![0], want }
    }

    #[test]
    fn a_script_is_read_and_a_wrong_one_says_what_is_known() {
        let script: Script = "batch=2,length=3,token_ms=0.5".parse().unwrap();
        assert_eq!(script, Script { batch: 2, length: 3, token: Duration::from_micros(500), ..Script::default() });
        assert!("speed=1".parse::<Script>().unwrap_err().contains("token_ms"));
        assert!("batch=0".parse::<Script>().is_err());
    }

    #[test]
    fn the_text_is_written_to_its_length_and_then_ends() {
        let mut backend = Scripted::new(Script { length: 2, ..Script::default() });
        let first = backend.step(&[work(0, &[65, 66], Want::Best)]).unwrap();
        assert_eq!(first, [Logits::Best(u32::from(b'T'))]);
        let second = backend.step(&[work(2, &[u32::from(b'T')], Want::Best)]).unwrap();
        assert_eq!(second, [Logits::Best(u32::from(b'h'))]);
        let end = backend.step(&[work(3, &[u32::from(b'h')], Want::Best)]).unwrap();
        assert_eq!(end, [Logits::Best(EOS)]);
    }

    #[test]
    fn a_prompt_may_say_what_to_say() {
        assert_eq!(reply(b"[say:a] [say:[1, [2]]] ok"), Some(&b"[1, [2]]"[..]));
        assert_eq!(reply(b"[say:open"), None);
        let mut backend = Scripted::new(Script::default());
        let tokens: Vec<u32> = b"[say:ok]: o".iter().map(|byte| u32::from(*byte)).collect();
        assert_eq!(backend.step(&[work(0, &tokens, Want::Best)]).unwrap(), [Logits::Best(u32::from(b'k'))]);
    }

    #[test]
    fn after_a_panic_nothing_runs_until_it_has_recovered_without_any_kv() {
        let mut backend = Scripted::new(Script::default());
        let fine = Work { sequence: 2, ..work(0, &[65, 66], Want::Best) };
        backend.step(std::slice::from_ref(&fine)).unwrap();
        let words: Vec<u32> = PANIC.iter().map(|byte| u32::from(*byte)).collect();
        let panicking = work(0, &words, Want::Best);
        assert!(catch_unwind(AssertUnwindSafe(|| backend.step(&[panicking]))).is_err());
        assert!(backend.step(std::slice::from_ref(&fine)).is_err());
        backend.recover().unwrap();
        assert!(backend.step(&[Work { start: 2, tokens: vec![67], ..fine.clone() }]).is_err(), "its KV is void");
        assert!(backend.step(&[fine]).is_ok());
    }

    #[test]
    fn a_step_without_the_kv_before_it_fails() {
        let mut backend = Scripted::new(Script::default());
        assert!(backend.step(&[work(3, &[1], Want::Best)]).is_err());
    }
}
