//! `make bench`: measures, and writes what was measured to docs/benchmarks.md.

use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use clap::{Parser, ValueEnum};
use sojourn_e2e::bench::machine::Machine;
use sojourn_e2e::bench::speed::Server;
use sojourn_e2e::bench::{Part, Plan, measure, report, say};
use sojourn_e2e::local::model;
use sojourn_e2e::sandbox::{Settings, install_tls_provider};

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/benchmarks.md");

/// Measures what tracing costs and how fast the engine is, and writes it down.
#[derive(Debug, Parser)]
struct Arguments {
    /// A short measurement, to try the program; it prints the page instead of writing it.
    #[arg(long)]
    quick: bool,
    /// Measure these parts alone; prints the page instead of writing it.
    #[arg(long, value_delimiter = ',')]
    only: Vec<Part>,
    /// Do not compare with these servers.
    #[arg(long, value_delimiter = ',')]
    without: Vec<Server>,
    /// Another model: a GGUF file, or `scripted:...`.
    #[arg(long)]
    model: Option<String>,
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(Arguments::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: Arguments) -> Result<()> {
    install_tls_provider();
    let cache = Settings::from_environment()?.cache;
    let model = model(arguments.model)?;
    let machine = Machine::look(&model).await?;
    let full = Plan { without: arguments.without, ..Plan::full(model, cache) };
    let plan = if arguments.quick { full.quick() } else { full };
    let parts = if arguments.only.is_empty() { Part::value_variants() } else { &arguments.only[..] };
    let sections = measure(&plan, parts).await;
    let page = report::render(&machine, &command(), &sections);
    if arguments.quick || !arguments.only.is_empty() {
        print!("{page}");
    } else {
        std::fs::write(PAGE, page).with_context(|| format!("cannot write {PAGE}"))?;
        say("docs/benchmarks.md says what was measured");
    }
    let missed = sections.iter().flat_map(|section| &section.verdicts).filter(|verdict| verdict.is_met() == Some(false));
    for verdict in missed {
        say(&format!("missed: {}", verdict.target));
    }
    let failed: Vec<&str> = sections.iter().filter(|section| section.tables.is_empty()).map(|section| section.title).collect();
    ensure!(failed.is_empty(), "not measured because of errors: {}", failed.join("; "));
    Ok(())
}

/// The command that a person gives to measure the same again.
fn command() -> String {
    let flags: Vec<String> = std::env::args().skip(1).collect();
    if flags.is_empty() { "make bench".to_owned() } else { format!("make bench BENCH=\"{}\"", flags.join(" ")) }
}
