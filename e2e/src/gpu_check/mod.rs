//! `make gpu-check`: what a machine with a GPU has to show, in one table: that many requests at once say what each says alone,
//! what that gains, what tracing costs there, and that the journeys are legal. `--device cpu --quick` tries the program.
//!
//! The models are random (`sojourn-models random-llama`): each word of an answer is one token, so a text tells its tokens.

pub mod answer;
pub mod identity;
pub mod load;
pub mod models;
pub mod table;

use std::path::PathBuf;

use anyhow::Result;

use table::Row;

/// Where the engine runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Device {
    /// The processor: to try the program.
    Cpu,
    /// An NVIDIA GPU.
    Cuda,
}

impl Device {
    /// As the engine's flag says it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Cuda => "cuda",
        }
    }
}

/// How much is checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// Where the engine runs.
    pub device: Device,
    /// Where the models are written.
    pub directory: PathBuf,
    /// Size of the model whose answers are compared, and of the one whose speed is measured.
    pub sizes: [&'static str; 2],
    /// Prompts that are compared.
    pub prompts: usize,
    /// Tokens of each answer.
    pub tokens: u32,
    /// Clients at once, one measurement for each.
    pub clients: Vec<usize>,
    /// Journeys that are checked.
    pub journeys: usize,
}

impl Plan {
    /// What is asked of a GPU.
    pub fn full(device: Device, directory: PathBuf) -> Self {
        let (sizes, clients) = (["135m", "1b"], vec![1, 8, 32, 64]);
        Self { device, directory, sizes, prompts: 32, tokens: 64, clients, journeys: 1_000 }
    }

    /// A short one, to try the program.
    #[must_use]
    pub fn quick(self) -> Self {
        Self { sizes: ["13m", "13m"], prompts: 6, tokens: 24, clients: vec![1, 8], journeys: 100, ..self }
    }

    /// Flags of every engine.
    fn flags(&self) -> Vec<&str> {
        vec!["--device", self.device.name(), "--max-num-seqs", "64", "--no-enable-prefix-caching"]
    }
}

/// Checks everything; a row that failed is among the rows, an error is what kept a check from being made.
pub async fn run(plan: &Plan) -> Result<Vec<Row>> {
    let mut rows = identity::check(plan).await?;
    rows.extend(load::check(plan).await?);
    Ok(rows)
}

/// Tells a person what is being done.
fn say(words: &str) {
    eprintln!("gpu-check: {words}");
}
