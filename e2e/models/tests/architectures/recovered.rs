//! What a backend does after a step that went wrong.

use std::panic::{AssertUnwindSafe, catch_unwind};

use sojourn_engine::backend::load::Dtype;
use sojourn_engine::backend::mistralrs::MistralRs;
use sojourn_engine::backend::mistralrs::load::load;
use sojourn_engine::backend::{Backend, Want, Work};
use sojourn_models::tiny::{Architecture, VOCABULARY};

use crate::models::{COUNT, model, prompt};
use crate::stepped::{PLENTY, Sequence, open};

#[test]
fn a_poisoned_cache_runs_again_after_recovery() {
    let model = model("poisoned", Architecture::Llama);
    let (loaded, _) = load(&model, Dtype::Auto).unwrap();
    let pipeline = loaded.pipeline.clone();
    let mut backend = MistralRs::new(loaded, PLENTY, VOCABULARY as u32);
    let mut sequence = Sequence::new(1, &prompt(1, 20));
    sequence.run(&mut backend, COUNT);
    let expected = sequence.generated().to_vec();

    // As a panic in the forward pass does, which holds the cache's lock.
    let poisoning = std::thread::spawn(move || {
        let pipeline = pipeline.blocking_lock();
        let _layers = pipeline.cache().normal();
        panic!("on purpose");
    });
    assert!(poisoning.join().is_err());
    let work = || Work { sequence: 2, start: 0, tokens: vec![1, 2], blocks: vec![0], want: Want::Best };
    assert!(catch_unwind(AssertUnwindSafe(|| backend.step(&[work()]))).is_err(), "the lock is poisoned");

    backend.recover().unwrap();
    let kept = Work { sequence: 1, start: 20, ..work() };
    assert!(backend.step(&[kept]).is_err(), "all KV is void");
    let mut again = Sequence::new(1, &prompt(1, 20));
    again.run(&mut backend, COUNT);
    assert_eq!(again.generated(), expected);
}

#[test]
fn a_step_that_fails_voids_its_own_sequence_alone() {
    let mut backend = open(&model("failed", Architecture::Llama), PLENTY);
    let mut sequence = Sequence::new(1, &prompt(1, 20));
    sequence.run(&mut backend, COUNT);
    let expected = sequence.generated().to_vec();
    sequence.cut(20);
    let work = |start, token| Work { sequence: 2, start, tokens: vec![1, token], blocks: vec![0], want: Want::Best };
    backend.step(&[work(0, 2)]).unwrap();
    assert!(backend.step(&[work(2, VOCABULARY as u32)]).is_err(), "there is no such token");
    assert!(backend.step(&[work(2, 2)]).is_err(), "its KV is void");
    backend.step(&[work(0, 2)]).unwrap();
    sequence.run(&mut backend, COUNT);
    assert_eq!(sequence.generated(), expected);
}
