//! Tiny models are made the same way each time, and each kind of them can be made.

// All of this is test code.
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};

use clap::ValueEnum;
use sojourn_models::tiny::{Architecture, DEFAULT_SEED, write};

fn directory(name: &str) -> PathBuf {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::create_dir_all(&directory).unwrap();
    directory
}

#[test]
fn the_same_seed_gives_the_same_file_and_another_one_another() {
    let directory = directory("tiny-seeds");
    let make = |seed, name: &str| {
        let path = directory.join(name);
        write(Architecture::Llama, seed, &path).unwrap();
        std::fs::read(path).unwrap()
    };
    let first = make(1, "first.gguf");
    assert_eq!(first, make(1, "again.gguf"));
    assert_ne!(first, make(2, "other.gguf"));
}

#[test]
fn every_architecture_can_be_written() {
    let directory = directory("tiny-all");
    for architecture in Architecture::value_variants() {
        write(*architecture, DEFAULT_SEED, &directory.join(architecture.name())).unwrap();
    }
}
