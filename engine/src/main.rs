//! `sojourn-engine`: serve a model, check a trace, draw a trace, look at the journeys of a running engine, fetch a model.

use std::io::{IsTerminal, Read};
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;
use sojourn_contract::exit::{Reason, Termination};
use sojourn_engine::cli::{Cli, Command, Download, Draw, Form, Journeys, Serve, When};
use sojourn_engine::clock::Clock;
use sojourn_engine::journeys::terminal::{self, Wanted};
use sojourn_engine::{app, cpu, exit, logging};
use sojourn_journey::check::check;
use sojourn_journey::draw::{Style, draw};
use sojourn_journey::trace::Trace;

fn main() -> ExitCode {
    let clock = Clock::start();
    match Cli::parse().command {
        Command::Serve(arguments) => serve(*arguments, clock),
        Command::Download(arguments) => download(arguments),
        Command::Check(trace) => report(check_file(&trace.file)),
        Command::Draw(arguments) => report(draw_file(&arguments)),
        Command::Journeys(arguments) => report(show_journeys(arguments)),
    }
}

fn serve(arguments: Serve, clock: Clock) -> ExitCode {
    logging::start(arguments.log_format);
    let missing = cpu::missing_features();
    if !missing.is_empty() {
        let message = format!(
            "this CPU lacks {}, for which this binary was built; run it on a newer one, or build it without",
            missing.join(", ")
        );
        return exit::report(&Termination { reason: Reason::UnsupportedCpu, message });
    }
    match run(app::serve(arguments, clock)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(termination) => exit::report(&termination),
    }
}

/// Prints where the model is, and nothing else, on standard output.
fn download(arguments: Download) -> ExitCode {
    logging::start(arguments.log_format);
    match run(app::download(arguments)) {
        Ok(path) => {
            println!("{}", path.display());
            ExitCode::SUCCESS
        }
        Err(termination) => exit::report(&termination),
    }
}

fn run<T>(work: impl Future<Output = Result<T, Termination>>) -> Result<T, Termination> {
    // Both ring and aws-lc-rs are in the tree, so rustls does not choose by itself; an error says that one is installed.
    rustls::crypto::ring::default_provider().install_default().ok();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Termination { reason: Reason::Internal, message: format!("cannot start the runtime: {error}") })?;
    let result = runtime.block_on(work);
    // A loader that still blocks is not waited for.
    runtime.shutdown_background();
    result
}

fn report(result: anyhow::Result<bool>) -> ExitCode {
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("sojourn-engine: {error:#}");
            ExitCode::from(2)
        }
    }
}

/// Prints every violation; false if there is one, or no journey at all.
fn check_file(path: &Path) -> anyhow::Result<bool> {
    let (mut journeys, mut violations) = (0, 0);
    for trace in read(path)? {
        let report = check(&trace);
        journeys += report.journeys;
        violations += report.violations.len();
        for violation in &report.violations {
            println!("{violation}");
        }
    }
    match violations {
        _ if journeys == 0 => println!("no journey: no span is named llm_request"),
        0 => println!("{journeys} journeys, all legal"),
        count => println!("{journeys} journeys, {count} violations"),
    }
    Ok(journeys > 0 && violations == 0)
}

fn draw_file(arguments: &Draw) -> anyhow::Result<bool> {
    let style = style(&arguments.form);
    for trace in read(&arguments.trace.file)? {
        print!("{}", draw(&trace, style));
    }
    Ok(true)
}

fn style(form: &Form) -> Style {
    let color = match form.color {
        When::Auto => std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none(),
        When::Always => true,
        When::Never => false,
    };
    Style { width: form.width, color }
}

fn show_journeys(arguments: Journeys) -> anyhow::Result<bool> {
    let style = style(&arguments.form);
    let Journeys { id, url, filter, limit, follow, .. } = arguments;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start the runtime")?;
    runtime.block_on(terminal::show(&Wanted { url, filter, limit, follow, id }, style))?;
    Ok(true)
}

fn read(path: &Path) -> anyhow::Result<Vec<Trace>> {
    let text = if path == Path::new("-") {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).context("cannot read standard input")?;
        text
    } else {
        std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?
    };
    Trace::read(&text).with_context(|| format!("{} holds no trace", path.display()))
}
