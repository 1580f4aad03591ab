//! `make gpu-check`: runs on a machine with an NVIDIA GPU and prints one table.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result};
use clap::Parser;
use sojourn_e2e::gpu_check::{Device, Plan, run, table};
use sojourn_e2e::sandbox::install_tls_provider;

/// Proves on a machine with a GPU that many requests at once say what each says alone, and measures what that gains. The engine is
/// the one that SOJOURN_ENGINE names, or the one beside this program.
#[derive(Debug, Parser)]
struct Arguments {
    /// Where the engine runs.
    #[arg(long, value_enum, default_value = "cuda")]
    device: Device,
    /// A small model and few requests, to try the program.
    #[arg(long)]
    quick: bool,
    /// Where models are written: 3 GB, or 100 MB with --quick [default: a directory for temporary files]
    #[arg(long)]
    directory: Option<PathBuf>,
}

#[tokio::main]
async fn main() -> ExitCode {
    match check(Arguments::parse()).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => {
            eprintln!("gpu-check: FAILED; the table says what");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("gpu-check: FAILED: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn check(arguments: Arguments) -> Result<bool> {
    install_tls_provider();
    let began = Instant::now();
    let temporary = tempfile::tempdir().context("cannot make a directory for models")?;
    let directory = arguments.directory.unwrap_or_else(|| temporary.path().to_owned());
    let full = Plan::full(arguments.device, directory);
    let rows = run(&if arguments.quick { full.quick() } else { full }).await?;
    println!("{}", table::render(&rows));
    eprintln!("gpu-check: took {:.0} s", began.elapsed().as_secs_f64());
    Ok(table::passed(&rows))
}
