//! `sojourn-operator`: the controller, and what can be done without a cluster.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::{Parser, Subcommand};
use sojourn_operator::cli;
use sojourn_operator::run::{self, Options};
use sojourn_operator::settings::Settings;
use tracing_subscriber::EnvFilter;

/// Runs open models on Kubernetes so that every request can explain itself.
#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs the controller.
    Run(Box<Options>),
    /// Prints the CustomResourceDefinition.
    Crd,
    /// Prints the objects that the controller would apply for the InferenceServices in a file.
    Render {
        /// YAML file; `-` reads standard input.
        #[arg(short, long)]
        file: PathBuf,
        #[command(flatten)]
        settings: Box<Settings>,
    },
    /// Checks the InferenceServices in a file without a cluster.
    Validate {
        /// YAML file; `-` reads standard input.
        #[arg(short, long)]
        file: PathBuf,
        #[command(flatten)]
        settings: Box<Settings>,
    },
}

fn main() -> ExitCode {
    match execute(Cli::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn execute(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Run(options) => run_controller(*options)?,
        Command::Crd => print!("{}", cli::crd()?),
        Command::Render { file, settings } => print!("{}", cli::rendered(&cli::read(&file)?, &settings)?),
        Command::Validate { file, settings } => {
            let services = cli::read(&file)?;
            cli::rendered(&services, &settings)?;
            for service in services {
                println!("InferenceService {}: valid", service.metadata.name.unwrap_or_default());
            }
        }
    }
    Ok(())
}

fn run_controller(options: Options) -> anyhow::Result<()> {
    // Two providers may be in the tree, and rustls chooses none by itself then.
    let provider = rustls::crypto::ring::default_provider();
    provider.install_default().map_err(|_| anyhow::anyhow!("a TLS provider is installed already"))?;
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info,kube_lease_manager=warn"));
    tracing_subscriber::fmt().json().with_env_filter(filter).with_writer(std::io::stderr).init();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("cannot start the runtime")?;
    runtime.block_on(run::run(options))
}
