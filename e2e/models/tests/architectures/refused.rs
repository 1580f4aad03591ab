//! What cannot be stepped is refused when it is loaded, with the reason.

use std::path::Path;

use sojourn_contract::exit::Reason;
use sojourn_engine::model::{Source, Wishes, load};
use sojourn_models::tiny::Architecture;

use crate::models::model;

fn refusal(path: &Path) -> (Reason, String) {
    let error = load(&Source::File(path.to_owned()), &Wishes::default()).err().expect("it is refused");
    (error.termination().reason, error.to_string())
}

#[test]
fn a_hybrid_of_attention_and_recurrent_layers() {
    let (reason, message) = refusal(&model("hybrid", Architecture::GraniteHybridSafetensors));
    assert_eq!(reason, Reason::ModelLoadFailed);
    assert!(message.contains("recurrent layers"), "{message}");
}

#[test]
fn experts_that_run_on_a_gpu_alone() {
    let (reason, message) = refusal(&model("experts", Architecture::Qwen3Moe));
    assert_eq!(reason, Reason::ModelLoadFailed);
    assert!(message.contains("--device cuda"), "{message}");
}

#[test]
fn a_file_that_is_cut_off() {
    let path = model("cut-off", Architecture::Llama);
    let whole = std::fs::read(&path).unwrap();
    std::fs::write(&path, &whole[..whole.len() / 2]).unwrap();
    assert_eq!(refusal(&path).0, Reason::ModelLoadFailed);
}

#[test]
fn a_class_of_models_that_mistral_rs_does_not_know() {
    let path = model("unknown", Architecture::LlamaSafetensors);
    let config = path.join("config.json");
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, text.replace("LlamaForCausalLM", "MambaForCausalLM")).unwrap();
    let (reason, message) = refusal(&path);
    assert_eq!(reason, Reason::ModelLoadFailed);
    assert!(message.contains("MambaForCausalLM"), "{message}");
}
