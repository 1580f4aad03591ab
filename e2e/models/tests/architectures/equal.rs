//! Eight sequences that take turns, their prompts in pieces, say what mistral.rs's own engine says one request at a time.

use std::collections::HashSet;

use sojourn_models::tiny::{Architecture, SLIDING_WINDOW};

use crate::models::{COUNT, model, prompts};
use crate::reference;
use crate::stepped::{PLENTY, interleaved, open};

fn says_what_mistral_rs_says(test: &str, architecture: Architecture) {
    let (model, prompts) = (model(test, architecture), prompts());
    let expected = reference::generate(&model, &prompts, COUNT);
    for ids in &expected {
        let distinct: HashSet<_> = ids.iter().collect();
        assert!(distinct.len() > COUNT / 4, "a model that repeats itself proves little: {ids:?}");
    }
    let ours = interleaved(&mut open(&model, PLENTY), &prompts, COUNT);
    assert_eq!(ours, expected);
}

#[test]
fn llama() {
    says_what_mistral_rs_says("llama", Architecture::Llama);
}

#[test]
fn mistral3() {
    says_what_mistral_rs_says("mistral3", Architecture::Mistral3);
}

#[test]
fn phi2() {
    says_what_mistral_rs_says("phi2", Architecture::Phi2);
}

#[test]
fn phi3() {
    says_what_mistral_rs_says("phi3", Architecture::Phi3);
}

#[test]
fn starcoder2() {
    says_what_mistral_rs_says("starcoder2", Architecture::Starcoder2);
}

#[test]
fn qwen2() {
    says_what_mistral_rs_says("qwen2", Architecture::Qwen2);
}

#[test]
fn qwen3() {
    says_what_mistral_rs_says("qwen3", Architecture::Qwen3);
}

#[test]
fn a_directory_of_safetensors() {
    says_what_mistral_rs_says("safetensors", Architecture::LlamaSafetensors);
}

#[test]
fn layers_with_and_without_a_sliding_window() {
    says_what_mistral_rs_says("mixed", Architecture::Qwen3Safetensors);
}

#[test]
fn a_sliding_window_that_prompts_and_completions_pass() {
    assert!(prompts().iter().any(|prompt| prompt.len() > SLIDING_WINDOW as usize) && COUNT > SLIDING_WINDOW as usize);
    says_what_mistral_rs_says("window", Architecture::MistralSafetensors);
}
