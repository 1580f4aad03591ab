//! Tiny models as GGUF files: the metadata and the tensors that each architecture has there.

use std::path::Path;

use candle_core::Tensor;
use candle_core::quantized::gguf_file::Value;
use candle_core::quantized::{GgmlDType, QTensor};

use super::random::{ATTENTION, FEEDING, Weights};
use super::{
    Architecture, CONTEXT_LENGTH, FEED_FORWARD, HEAD_SIZE, HEADS, HIDDEN, KV, KV_HEADS, LAYERS, NORM_EPSILON, ROPE_BASE,
    vocabulary,
};
use crate::requantise::write_file;

const EXPERTS: usize = 4;
const EXPERTS_USED: usize = 2;
/// Phi 2 turns a part of each head alone.
const PHI2_ROPE: usize = HEAD_SIZE / 2;

/// Writes the model of an architecture that GGUF files have.
pub fn write(architecture: Architecture, weights: &Weights, out: &Path) -> anyhow::Result<()> {
    let metadata = metadata(architecture);
    let mut file = File { weights, tensors: Vec::new() };
    file.tensors(architecture)?;
    let metadata: Vec<_> = metadata.iter().map(|(key, value)| (key.as_str(), value)).collect();
    let tensors: Vec<_> = file.tensors.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
    write_file(out, &metadata, &tensors)
}

// === metadata ===

fn metadata(architecture: Architecture) -> Vec<(String, Value)> {
    let name = architecture.name();
    let size = |value: usize| Value::U32(u32::try_from(value).unwrap_or(u32::MAX));
    let of_model = |key: &str, value| (format!("{name}.{key}"), value);
    let kv_heads = if architecture == Architecture::Phi2 { HEADS } else { KV_HEADS };
    let rope = if architecture == Architecture::Phi2 { PHI2_ROPE } else { HEAD_SIZE };
    let norm = if architecture == Architecture::Starcoder2 { "layer_norm_epsilon" } else { "layer_norm_rms_epsilon" };
    let mut metadata = vec![
        ("general.architecture".to_owned(), Value::String(name.clone())),
        ("general.name".to_owned(), Value::String(format!("tiny {name}"))),
        of_model("context_length", Value::U32(CONTEXT_LENGTH)),
        of_model("block_count", size(LAYERS)),
        of_model("embedding_length", size(HIDDEN)),
        of_model("feed_forward_length", size(FEED_FORWARD)),
        of_model("attention.head_count", size(HEADS)),
        of_model("attention.head_count_kv", size(kv_heads)),
        of_model(&format!("attention.{norm}"), Value::F32(NORM_EPSILON)),
        of_model("rope.dimension_count", size(rope)),
        of_model("rope.freq_base", Value::F32(ROPE_BASE)),
    ];
    if architecture == Architecture::Qwen3Moe {
        metadata.push(of_model("expert_count", size(EXPERTS)));
        metadata.push(of_model("expert_used_count", size(EXPERTS_USED)));
        metadata.push(of_model("expert_feed_forward_length", size(FEED_FORWARD)));
    }
    metadata.extend(tokenizer().into_iter().map(|(key, value)| (format!("tokenizer.{key}"), value)));
    metadata
}

fn tokenizer() -> Vec<(&'static str, Value)> {
    // As llama.cpp writes them: 1 is a normal token, 3 a control token.
    let types = (0..vocabulary::VOCABULARY).map(|id| Value::I32(if vocabulary::is_special(id) { 3 } else { 1 }));
    let strings = |strings: Vec<String>| Value::Array(strings.into_iter().map(Value::String).collect());
    vec![
        ("ggml.model", Value::String("gpt2".to_owned())),
        ("ggml.pre", Value::String("smollm".to_owned())),
        ("ggml.tokens", strings(vocabulary::tokens())),
        ("ggml.token_type", Value::Array(types.collect())),
        ("ggml.merges", strings(vocabulary::merges())),
        ("ggml.bos_token_id", Value::U32(vocabulary::special_id(vocabulary::END_OF_TEXT))),
        ("ggml.eos_token_id", Value::U32(vocabulary::special_id(vocabulary::END_OF_TURN))),
        ("chat_template", Value::String(vocabulary::CHAT_TEMPLATE.to_owned())),
    ]
}

// === tensors ===

struct File<'a> {
    weights: &'a Weights,
    tensors: Vec<(String, QTensor)>,
}

impl File<'_> {
    fn tensors(&mut self, architecture: Architecture) -> candle_core::Result<()> {
        let biased_norms = matches!(architecture, Architecture::Phi2 | Architecture::Starcoder2);
        // Embeddings have unit variance.
        self.matrix("token_embd.weight", &[vocabulary::VOCABULARY, HIDDEN], (HIDDEN as f64).sqrt())?;
        self.norm("output_norm", HIDDEN, biased_norms)?;
        let output = self.weights.output("output.weight", vocabulary::WORDS, vocabulary::VOCABULARY, HIDDEN)?;
        self.push("output.weight", &output, GgmlDType::Q8_0)?;
        if architecture == Architecture::Phi2 {
            self.bias("output.bias", vocabulary::VOCABULARY)?;
        }
        for layer in 0..LAYERS {
            let block = format!("blk.{layer}");
            self.attention(architecture, &block)?;
            self.feed_forward(architecture, &block)?;
            self.norm(&format!("{block}.attn_norm"), HIDDEN, biased_norms)?;
            if architecture != Architecture::Phi2 {
                self.norm(&format!("{block}.ffn_norm"), HIDDEN, biased_norms)?;
            }
        }
        Ok(())
    }

    fn attention(&mut self, architecture: Architecture, block: &str) -> candle_core::Result<()> {
        let all_biased = matches!(architecture, Architecture::Phi2 | Architecture::Starcoder2);
        match architecture {
            Architecture::Phi2 => self.linear(&format!("{block}.attn_qkv"), 3 * HIDDEN, HIDDEN, true)?,
            Architecture::Phi3 => self.linear(&format!("{block}.attn_qkv"), HIDDEN + 2 * KV, HIDDEN, false)?,
            _ => {
                let biased = all_biased || architecture == Architecture::Qwen2;
                for (part, size) in [("q", HIDDEN), ("k", KV), ("v", KV)] {
                    self.linear(&format!("{block}.attn_{part}"), size, HIDDEN, biased)?;
                }
            }
        }
        if matches!(architecture, Architecture::Qwen3 | Architecture::Qwen3Moe) {
            for name in ["attn_q_norm.weight", "attn_k_norm.weight"].map(|name| format!("{block}.{name}")) {
                let scales = self.weights.scales(&name, HEAD_SIZE, ATTENTION)?;
                self.push(&name, &scales, GgmlDType::F32)?;
            }
        }
        self.linear(&format!("{block}.attn_output"), HIDDEN, HIDDEN, all_biased)
    }

    fn feed_forward(&mut self, architecture: Architecture, block: &str) -> candle_core::Result<()> {
        match architecture {
            Architecture::Phi2 | Architecture::Starcoder2 => {
                self.linear(&format!("{block}.ffn_up"), FEED_FORWARD, HIDDEN, true)?;
                self.linear(&format!("{block}.ffn_down"), HIDDEN, FEED_FORWARD, true)
            }
            // Gate and up in one matrix.
            Architecture::Phi3 => {
                self.linear(&format!("{block}.ffn_up"), 2 * FEED_FORWARD, HIDDEN, false)?;
                self.linear(&format!("{block}.ffn_down"), HIDDEN, FEED_FORWARD, false)
            }
            Architecture::Qwen3Moe => {
                let router = self.weights.matrix(&format!("{block}.ffn_gate_inp.weight"), &[EXPERTS, HIDDEN], FEEDING)?;
                self.push(&format!("{block}.ffn_gate_inp.weight"), &router, GgmlDType::F32)?;
                self.matrix(&format!("{block}.ffn_gate_exps.weight"), &[EXPERTS, FEED_FORWARD, HIDDEN], FEEDING)?;
                self.matrix(&format!("{block}.ffn_up_exps.weight"), &[EXPERTS, FEED_FORWARD, HIDDEN], FEEDING)?;
                self.matrix(&format!("{block}.ffn_down_exps.weight"), &[EXPERTS, HIDDEN, FEED_FORWARD], FEEDING)
            }
            _ => {
                self.linear(&format!("{block}.ffn_gate"), FEED_FORWARD, HIDDEN, false)?;
                self.linear(&format!("{block}.ffn_up"), FEED_FORWARD, HIDDEN, false)?;
                self.linear(&format!("{block}.ffn_down"), HIDDEN, FEED_FORWARD, false)
            }
        }
    }

    fn linear(&mut self, name: &str, output: usize, input: usize, biased: bool) -> candle_core::Result<()> {
        let gain = if name.contains(".attn_") { ATTENTION } else { FEEDING };
        self.matrix(&format!("{name}.weight"), &[output, input], gain)?;
        if biased { self.bias(&format!("{name}.bias"), output) } else { Ok(()) }
    }

    fn matrix(&mut self, name: &str, shape: &[usize], gain: f64) -> candle_core::Result<()> {
        let matrix = self.weights.matrix(name, shape, gain)?;
        self.push(name, &matrix, GgmlDType::Q8_0)
    }

    fn norm(&mut self, name: &str, size: usize, biased: bool) -> candle_core::Result<()> {
        let scales = self.weights.scales(&format!("{name}.weight"), size, 1.0)?;
        self.push(&format!("{name}.weight"), &scales, GgmlDType::F32)?;
        if biased { self.bias(&format!("{name}.bias"), size) } else { Ok(()) }
    }

    fn bias(&mut self, name: &str, size: usize) -> candle_core::Result<()> {
        let bias = self.weights.bias(name, size)?;
        self.push(name, &bias, GgmlDType::F32)
    }

    fn push(&mut self, name: &str, tensor: &Tensor, dtype: GgmlDType) -> candle_core::Result<()> {
        self.tensors.push((name.to_owned(), QTensor::quantize(tensor, dtype)?));
        Ok(())
    }
}
