//! `make soak`: random clients for minutes; the exit code says whether all was well at the end.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use clap::Parser;
use sojourn_e2e::local::model;
use sojourn_e2e::sandbox::install_tls_provider;
use sojourn_e2e::soak::{Plan, run};

/// Lets random clients at an engine for minutes, and checks that nothing is stuck, lost, illegal or growing.
#[derive(Debug, Parser)]
struct Arguments {
    /// How long.
    #[arg(long, default_value_t = 10.0)]
    minutes: f64,
    /// Clients at once.
    #[arg(long, default_value_t = 8)]
    clients: usize,
    /// What the dice begin with; a run with the same seed has the same clients.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Another model: a GGUF file, or `scripted:...`.
    #[arg(long)]
    model: Option<String>,
}

#[tokio::main]
async fn main() -> ExitCode {
    match soak(Arguments::parse()).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("soak: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn soak(arguments: Arguments) -> Result<bool> {
    install_tls_provider();
    let model = model(arguments.model)?;
    let duration = Duration::try_from_secs_f64(60.0 * arguments.minutes)?;
    let plan = Plan { model, clients: arguments.clients, duration, seed: arguments.seed };
    let findings = run(&plan, |line| eprintln!("soak: {line}")).await?;
    let answers = findings.answers();
    for answer in &answers {
        println!("{}  {}", if answer.well { "ok    " } else { "FAILED" }, answer.words);
    }
    Ok(answers.iter().all(|answer| answer.well))
}
