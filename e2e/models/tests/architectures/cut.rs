//! KV that is cut back and KV that is copied, below and past a sliding window.

use sojourn_engine::backend::{Adoption, Backend, Want, Work};
use sojourn_models::tiny::Architecture;

use crate::models::{COUNT, model, prompt};
use crate::stepped::{PLENTY, Sequence, open};

const LENGTH: usize = 40;

fn cut_back(test: &str, architecture: Architecture) {
    let mut backend = open(&model(test, architecture), PLENTY);
    let mut sequence = Sequence::new(1, &prompt(1, LENGTH));
    sequence.run(&mut backend, COUNT);
    let first = sequence.generated().to_vec();
    // Back into the completion, and back to the prompt.
    for kept in [LENGTH + COUNT / 2, LENGTH] {
        sequence.cut(kept);
        sequence.run(&mut backend, COUNT);
        assert_eq!(sequence.generated(), first, "after going back to {kept} tokens");
    }
    // What comes after the cut is gone: another continuation says something else.
    sequence.cut(LENGTH);
    sequence.tokens[LENGTH] = (first[0] + 1) % 256;
    sequence.run(&mut backend, COUNT);
    assert_ne!(sequence.generated()[1..], first[1..]);
}

#[test]
fn kv_that_was_cut_goes_on_as_before() {
    cut_back("cut", Architecture::Llama);
}

#[test]
fn kv_can_be_cut_after_a_sliding_window_has_passed() {
    cut_back("cut-window", Architecture::MistralSafetensors);
    cut_back("cut-mixed", Architecture::Qwen3Safetensors);
}

fn copies(test: &str, architecture: Architecture) {
    let mut backend = open(&model(test, architecture), PLENTY);
    let mut first = Sequence::new(1, &prompt(1, LENGTH));
    first.run(&mut backend, COUNT);
    let said = first.generated().to_vec();
    // The same prompt goes on in another way after another first token.
    let other = (said[0] + 1) % 256;
    first.cut(LENGTH);
    first.tokens[LENGTH] = other;
    first.run(&mut backend, COUNT);
    let said_otherwise = first.generated().to_vec();
    assert_ne!(said[1..], said_otherwise[1..]);

    // A second sequence begins with the first one's KV; back at the prompt, each goes its way, in turns.
    let blocks = vec![0];
    let adoption =
        Adoption { from: 1, from_blocks: blocks.clone(), to: 2, to_blocks: blocks, tokens: u32::try_from(LENGTH).unwrap() };
    backend.adopt(&adoption).unwrap();
    let mut second = Sequence::new(2, &prompt(1, LENGTH));
    second.tokens.push(said[0]);
    second.computed = LENGTH;
    first.cut(LENGTH);
    while second.generated().len() < COUNT {
        first.step(&mut backend);
        second.step(&mut backend);
    }
    assert_eq!(second.generated(), said);
    assert_eq!(first.generated(), said_otherwise);
}

#[test]
fn a_copy_and_its_original_do_not_disturb_each_other() {
    copies("copy", Architecture::Llama);
}

#[test]
fn a_copy_works_after_a_sliding_window_has_passed() {
    copies("copy-window", Architecture::MistralSafetensors);
}

#[test]
fn a_step_without_the_kv_before_it_fails() {
    let mut backend = open(&model("without", Architecture::Llama), PLENTY);
    let work = |start, tokens: &[u32]| Work { sequence: 1, start, tokens: tokens.to_vec(), blocks: vec![0], want: Want::Best };
    assert!(backend.step(&[work(5, &[1, 2])]).unwrap_err().to_string().contains("no KV before position 5"));
    backend.step(&[work(0, &[1, 2, 3])]).unwrap();
    backend.release(1);
    assert!(backend.step(&[work(3, &[1, 2])]).is_err());
    assert!(backend.step(&[work(0, &[])]).is_err(), "there is nothing to compute");
}
