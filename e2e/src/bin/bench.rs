//! `make bench` and `make bench-cluster`: measure, and write what was measured to a page of docs/.

use std::process::ExitCode;

use anyhow::{Result, ensure};
use clap::Parser;
use sojourn_e2e::bench::machine::Machine;
use sojourn_e2e::bench::page::Page;
use sojourn_e2e::bench::speed::Server;
use sojourn_e2e::bench::{Part, Plan, measure, report, say};
use sojourn_e2e::local::model;
use sojourn_e2e::sandbox::{Settings, install_tls_provider};

/// Measures what tracing costs and how fast the engine is, or what operator and pods need on a cluster, and writes it down.
#[derive(Debug, Parser)]
struct Arguments {
    /// Measure on the sandbox cluster, which must be up, instead of on loopback.
    #[arg(long)]
    cluster: bool,
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
    let page = if arguments.cluster { Page::CLUSTER } else { Page::ENGINE };
    let is_for_the_page = !arguments.quick && arguments.only.is_empty();
    if is_for_the_page {
        page.can_be_written()?;
    }
    let parts = if arguments.only.is_empty() { page.parts } else { &arguments.only[..] };
    let sections = measure(&plan, parts).await;
    let text = report::render(&page, &machine, &command(&page), &sections);
    if is_for_the_page {
        page.write(&text)?;
        say(&format!("{} says what was measured", page.file));
    } else {
        print!("{text}");
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
fn command(page: &Page) -> String {
    let flags: Vec<String> = std::env::args().skip(1).filter(|flag| flag != "--cluster").collect();
    let make = format!("make {}", page.target);
    if flags.is_empty() { make } else { format!("{make} BENCH=\"{}\"", flags.join(" ")) }
}
