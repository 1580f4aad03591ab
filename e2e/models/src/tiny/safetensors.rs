//! Tiny models as directories of safetensors, as Hugging Face has them.

use std::collections::HashMap;
use std::path::Path;

use anyhow::Context;
use candle_core::Tensor;
use serde_json::{Value, json};

use super::random::{ATTENTION, FEEDING, Weights};
use super::{
    Architecture, CONTEXT_LENGTH, FEED_FORWARD, HEAD_SIZE, HEADS, HIDDEN, KV, KV_HEADS, LAYERS, NORM_EPSILON, ROPE_BASE,
    SLIDING_WINDOW, vocabulary,
};

/// Writes the model of an architecture that comes as a directory.
pub fn write(architecture: Architecture, weights: &Weights, out: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(out).with_context(|| format!("cannot create {}", out.display()))?;
    let documents = [
        ("config.json", config(architecture)),
        ("tokenizer.json", vocabulary::tokenizer_json()),
        ("tokenizer_config.json", tokenizer_config()),
        ("generation_config.json", generation_config()),
    ];
    for (name, document) in documents {
        let path = out.join(name);
        std::fs::write(&path, format!("{document:#}\n")).with_context(|| format!("cannot write {}", path.display()))?;
    }
    let path = out.join("model.safetensors");
    candle_core::safetensors::save(&tensors(architecture, weights)?, &path)
        .with_context(|| format!("cannot write {}", path.display()))
}

// === documents ===

fn config(architecture: Architecture) -> Value {
    let mut config = json!({
        "hidden_act": "silu",
        "hidden_size": HIDDEN,
        "intermediate_size": FEED_FORWARD,
        "max_position_embeddings": CONTEXT_LENGTH,
        "num_attention_heads": HEADS,
        "num_hidden_layers": LAYERS,
        "num_key_value_heads": KV_HEADS,
        "rms_norm_eps": NORM_EPSILON,
        "rope_theta": ROPE_BASE,
        "tie_word_embeddings": false,
        "torch_dtype": "float32",
        "vocab_size": vocabulary::VOCABULARY,
    });
    let (class, model_type) = match architecture {
        Architecture::MistralSafetensors => ("MistralForCausalLM", "mistral"),
        Architecture::Qwen3Safetensors => ("Qwen3ForCausalLM", "qwen3"),
        Architecture::GraniteHybridSafetensors => ("GraniteMoeHybridForCausalLM", "granitemoehybrid"),
        _ => ("LlamaForCausalLM", "llama"),
    };
    config["architectures"] = json!([class]);
    config["model_type"] = json!(model_type);
    match architecture {
        Architecture::MistralSafetensors => config["sliding_window"] = json!(SLIDING_WINDOW),
        Architecture::Qwen3Safetensors => {
            config["sliding_window"] = json!(SLIDING_WINDOW);
            config["use_sliding_window"] = json!(true);
            // The first layer that has the window.
            config["max_window_layers"] = json!(1);
        }
        Architecture::GraniteHybridSafetensors => config["layer_types"] = json!(vec!["attention"; LAYERS]),
        _ => {}
    }
    config
}

fn tokenizer_config() -> Value {
    json!({
        "bos_token": vocabulary::END_OF_TEXT,
        "eos_token": vocabulary::END_OF_TURN,
        "chat_template": vocabulary::CHAT_TEMPLATE,
        "model_max_length": CONTEXT_LENGTH,
        "tokenizer_class": "PreTrainedTokenizerFast",
    })
}

fn generation_config() -> Value {
    let [text, turn] = [vocabulary::END_OF_TEXT, vocabulary::END_OF_TURN].map(vocabulary::special_id);
    json!({"bos_token_id": text, "eos_token_id": [turn, text]})
}

// === tensors ===

fn tensors(architecture: Architecture, weights: &Weights) -> candle_core::Result<HashMap<String, Tensor>> {
    let mut tensors = HashMap::new();
    let mut add = |name: String, tensor: Tensor| tensors.insert(name, tensor);
    let embeddings = "model.embed_tokens.weight";
    // Embeddings have unit variance.
    add(embeddings.to_owned(), weights.matrix(embeddings, &[vocabulary::VOCABULARY, HIDDEN], (HIDDEN as f64).sqrt())?);
    add("model.norm.weight".to_owned(), weights.scales("model.norm.weight", HIDDEN, 1.0)?);
    let output = weights.output("lm_head.weight", vocabulary::WORDS, vocabulary::VOCABULARY, HIDDEN)?;
    add("lm_head.weight".to_owned(), output);
    for layer in 0..LAYERS {
        let name = |part: &str| format!("model.layers.{layer}.{part}.weight");
        for norm in ["input_layernorm", "post_attention_layernorm"] {
            add(name(norm), weights.scales(&name(norm), HIDDEN, 1.0)?);
        }
        let attention = [("q_proj", HIDDEN), ("k_proj", KV), ("v_proj", KV), ("o_proj", HIDDEN)];
        for (part, size) in attention.map(|(part, size)| (name(&format!("self_attn.{part}")), size)) {
            add(part.clone(), weights.matrix(&part, &[size, HIDDEN], ATTENTION)?);
        }
        if architecture == Architecture::Qwen3Safetensors {
            for norm in ["self_attn.q_norm", "self_attn.k_norm"] {
                add(name(norm), weights.scales(&name(norm), HEAD_SIZE, ATTENTION)?);
            }
        }
        for (part, output, input) in feed_forward(architecture) {
            add(name(part), weights.matrix(&name(part), &[*output, *input], FEEDING)?);
        }
    }
    Ok(tensors)
}

/// Matrices of the feed-forward part: name, output, input.
fn feed_forward(architecture: Architecture) -> &'static [(&'static str, usize, usize)] {
    match architecture {
        Architecture::GraniteHybridSafetensors => {
            &[("shared_mlp.input_linear", 2 * FEED_FORWARD, HIDDEN), ("shared_mlp.output_linear", HIDDEN, FEED_FORWARD)]
        }
        _ => &[
            ("mlp.gate_proj", FEED_FORWARD, HIDDEN),
            ("mlp.up_proj", FEED_FORWARD, HIDDEN),
            ("mlp.down_proj", HIDDEN, FEED_FORWARD),
        ],
    }
}
