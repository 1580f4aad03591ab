//! Random Llamas of the size of real ones, for measurements where no weights can be had: as much arithmetic, as much memory, and a
//! vocabulary as large. What they say is words of numbers, each word one token, so that a text tells its tokens.

use std::path::Path;

use candle_core::Tensor;
use candle_core::quantized::gguf_file::Value;
use candle_core::quantized::{GgmlDType, QTensor};
use clap::ValueEnum;

use crate::requantise::{Dtype, write_file};
use crate::tiny::random::{ATTENTION, FEEDING, LOGITS, Weights};
use crate::tiny::{END_OF_TURN, byte_level};

/// Tokens: those that are never said, words, and one that ends a text.
const VOCABULARY: usize = 49_152;
const BYTES: usize = 256;
/// Bytes, and what the only merge makes: a tokenizer has one at least.
const SILENT: usize = BYTES + 1;
const WORDS: usize = VOCABULARY - SILENT - 1;
const CONTEXT_LENGTH: u32 = 8192;
const NORM_EPSILON: f32 = 1e-5;
const ROPE_BASE: f32 = 10_000.0;
/// Width of a head; GPUs have kernels for this one.
const HEAD: usize = 64;

/// How large.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Size {
    /// 13 million parameters, most of them the vocabulary's: to try a program on a CPU.
    #[value(name = "13m")]
    M13,
    /// 163 million: SmolLM2-135M, with an output layer of its own.
    #[value(name = "135m")]
    M135,
    /// 1.2 billion.
    #[value(name = "1b")]
    B1,
}

/// Layers, heads of queries, heads of keys and values, width of the feed-forward part.
struct Shape {
    layers: usize,
    heads: usize,
    kv_heads: usize,
    feed_forward: usize,
}

impl Size {
    fn shape(self) -> Shape {
        let (layers, heads, kv_heads, feed_forward) = match self {
            Self::M13 => (2, 2, 1, 384),
            Self::M135 => (30, 9, 3, 1536),
            Self::B1 => (22, 32, 4, 5632),
        };
        Shape { layers, heads, kv_heads, feed_forward }
    }
}

impl Shape {
    fn hidden(&self) -> usize {
        self.heads * HEAD
    }
}

/// Writes the model; its norms stay in 32 bits.
pub fn write(size: Size, dtype: Dtype, seed: u64, out: &Path) -> anyhow::Result<()> {
    let shape = size.shape();
    let metadata = metadata(&shape);
    let mut file = File { weights: Weights::new(seed), dtype: dtype.into(), tensors: Vec::new() };
    file.tensors(&shape)?;
    let metadata: Vec<_> = metadata.iter().map(|(key, value)| (key.as_str(), value)).collect();
    let tensors: Vec<_> = file.tensors.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
    write_file(out, &metadata, &tensors)
}

/// The text of the token with this id.
fn token(id: usize) -> String {
    match id {
        0..BYTES => byte_level(id as u8).to_string(),
        // Ġ is a space.
        BYTES => "Ġ0".to_owned(),
        id if id < SILENT + WORDS => format!("Ġ{id:05}"),
        _ => END_OF_TURN.to_owned(),
    }
}

fn metadata(shape: &Shape) -> Vec<(String, Value)> {
    let size = |value: usize| Value::U32(u32::try_from(value).unwrap_or(u32::MAX));
    let text = |text: &str| Value::String(text.to_owned());
    // 1 is a normal token, 3 a control token.
    let types = (0..VOCABULARY).map(|id| Value::I32(if id < SILENT + WORDS { 1 } else { 3 }));
    let named: [(&str, Value); 18] = [
        ("general.architecture", text("llama")),
        ("general.name", text("random llama")),
        ("llama.context_length", Value::U32(CONTEXT_LENGTH)),
        ("llama.block_count", size(shape.layers)),
        ("llama.embedding_length", size(shape.hidden())),
        ("llama.feed_forward_length", size(shape.feed_forward)),
        ("llama.attention.head_count", size(shape.heads)),
        ("llama.attention.head_count_kv", size(shape.kv_heads)),
        ("llama.attention.layer_norm_rms_epsilon", Value::F32(NORM_EPSILON)),
        ("llama.rope.dimension_count", size(HEAD)),
        ("llama.rope.freq_base", Value::F32(ROPE_BASE)),
        ("tokenizer.ggml.model", text("gpt2")),
        ("tokenizer.ggml.pre", text("smollm")),
        ("tokenizer.ggml.tokens", Value::Array((0..VOCABULARY).map(|id| Value::String(token(id))).collect())),
        ("tokenizer.ggml.token_type", Value::Array(types.collect())),
        // Prompts are given as ids.
        ("tokenizer.ggml.merges", Value::Array(vec![text("Ġ 0")])),
        ("tokenizer.ggml.bos_token_id", size(VOCABULARY - 1)),
        ("tokenizer.ggml.eos_token_id", size(VOCABULARY - 1)),
    ];
    named.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}

struct File {
    weights: Weights,
    dtype: GgmlDType,
    tensors: Vec<(String, QTensor)>,
}

impl File {
    fn tensors(&mut self, shape: &Shape) -> candle_core::Result<()> {
        let (hidden, kv) = (shape.hidden(), shape.kv_heads * HEAD);
        self.matrix("token_embd.weight", &[VOCABULARY, hidden], (hidden as f64).sqrt())?;
        self.norm("output_norm.weight", hidden)?;
        self.output(hidden)?;
        for layer in 0..shape.layers {
            let block = |name: &str| format!("blk.{layer}.{name}.weight");
            for (name, output) in [("attn_q", hidden), ("attn_k", kv), ("attn_v", kv), ("attn_output", hidden)] {
                self.matrix(&block(name), &[output, hidden], ATTENTION)?;
            }
            self.matrix(&block("ffn_gate"), &[shape.feed_forward, hidden], FEEDING)?;
            self.matrix(&block("ffn_up"), &[shape.feed_forward, hidden], FEEDING)?;
            self.matrix(&block("ffn_down"), &[hidden, shape.feed_forward], FEEDING)?;
            self.norm(&block("attn_norm"), hidden)?;
            self.norm(&block("ffn_norm"), hidden)?;
        }
        Ok(())
    }

    /// Rows of words alone: nothing else is ever the best.
    fn output(&mut self, hidden: usize) -> candle_core::Result<()> {
        let words = self.weights.even_matrix("output.weight", &[WORDS, hidden], LOGITS)?;
        let none = |rows: usize| Tensor::zeros((rows, hidden), words.dtype(), words.device());
        let output = Tensor::cat(&[none(SILENT)?, words.clone(), none(1)?], 0)?;
        self.push("output.weight", &output, self.dtype)
    }

    fn matrix(&mut self, name: &str, shape: &[usize], gain: f64) -> candle_core::Result<()> {
        let matrix = self.weights.even_matrix(name, shape, gain)?;
        self.push(name, &matrix, self.dtype)
    }

    fn norm(&mut self, name: &str, size: usize) -> candle_core::Result<()> {
        let scales = self.weights.scales(name, size, 1.0)?;
        self.push(name, &scales, GgmlDType::F32)
    }

    fn push(&mut self, name: &str, tensor: &Tensor, dtype: GgmlDType) -> candle_core::Result<()> {
        self.tensors.push((name.to_owned(), QTensor::quantize(tensor, dtype)?));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use candle_core::Device;
    use candle_core::quantized::gguf_file::Content;

    use super::*;

    #[test]
    fn every_token_has_a_text_of_its_own() {
        let texts: HashSet<String> = (0..VOCABULARY).map(token).collect();
        assert_eq!(texts.len(), VOCABULARY);
        assert_eq!((token(SILENT), token(VOCABULARY - 1)), ("Ġ00257".to_owned(), END_OF_TURN.to_owned()));
    }

    #[test]
    fn sizes_are_what_their_names_say() {
        let parameters = |size: Size| {
            let shape = size.shape();
            let (hidden, kv) = (shape.hidden(), shape.kv_heads * HEAD);
            let layer = 2 * hidden * hidden + 2 * kv * hidden + 3 * hidden * shape.feed_forward;
            (shape.layers * layer + 2 * VOCABULARY * hidden) / 1_000_000
        };
        assert_eq!([Size::M13, Size::M135, Size::B1].map(parameters), [12, 162, 1170]);
    }

    #[test]
    fn weights_are_evenly_spread_with_the_variance_that_was_asked_for() {
        let values: Vec<f32> =
            Weights::new(1).even_matrix("m", &[300, 101], 2.0).unwrap().flatten_all().unwrap().to_vec1().unwrap();
        let variance = values.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>() / values.len() as f64;
        assert!((variance * 101.0 / 4.0 - 1.0).abs() < 0.02, "{variance}");
        assert!(values.iter().sum::<f32>().abs() / (values.len() as f32) < 0.01);
    }

    #[test]
    fn a_small_one_is_written_whole() {
        let directory = std::env::temp_dir().join(format!("random-llama-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let path = directory.join("m.gguf");
        write(Size::M13, Dtype::Q8_0, 1, &path).unwrap();
        let mut file = std::fs::File::open(&path).unwrap();
        let content = Content::read(&mut file).unwrap();
        let output = content.tensor(&mut file, "output.weight", &Device::Cpu).unwrap();
        assert_eq!(output.shape().dims(), [VOCABULARY, 128]);
        assert_eq!(content.tensor_infos.len(), 3 + 2 * 9);
        std::fs::remove_dir_all(&directory).unwrap();
    }
}
