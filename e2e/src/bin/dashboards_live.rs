//! `make dashboards-live`: the dashboards on a Grafana and a Tempo that somebody has; the exit code says whether all was well.

use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use sojourn_e2e::chat::{Chat, Question};
use sojourn_e2e::dashboards;
use sojourn_e2e::dashboards::live::Live;
use sojourn_e2e::local::Local;
use sojourn_journey::check::check;

const SERVICE: &str = "dashboards-live";

#[tokio::main]
async fn main() -> ExitCode {
    match run().await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("dashboards-live: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<bool> {
    let live = Live::new(|name| std::env::var(name).ok().filter(|value| !value.is_empty()))?;
    let trace_id = send_a_journey(&live.otlp).await?;
    let trace = live.trace(&trace_id).await?;
    let violations = check(&trace).violations;
    ensure!(violations.is_empty(), "Tempo's trace {trace_id} is no legal journey: {violations:#?}");
    println!("trace {trace_id}: {} spans, a legal journey", trace.spans.len());

    let now = SystemTime::now().duration_since(UNIX_EPOCH).context("the clock is before 1970")?.as_secs_f64();
    let mut well = true;
    for dashboard in dashboards::all()? {
        println!("\n{}", live.import(&dashboard).await?);
        for answer in live.ask(&dashboard, now).await? {
            match answer.found {
                Ok(count) => println!("  {:>5}  {}", count, answer.place),
                Err(error) => {
                    println!("  FAILED {}: {error}", answer.place);
                    well = false;
                }
            }
        }
    }
    Ok(well)
}

/// One request to an engine with the scripted model, whose journey goes straight to Tempo; its trace id.
async fn send_a_journey(otlp: &str) -> Result<String> {
    let arguments = ["scripted:", "--enable-journey-tracing", "--admin-port=0", "--otlp-traces-endpoint", otlp];
    let engine = Local::engine(&arguments, &[("OTEL_SERVICE_NAME", SERVICE), ("RUST_LOG", "warn")]).await?;
    let answer = Chat::new(&engine.url, "scripted").ask(Question::new("Is this journey seen?"), |_| {}).await?;
    ensure!(answer.status == 200, "the engine answered {}: {:?}", answer.status, answer.error);
    // What it still holds is sent before it ends.
    engine.terminate().await?;
    Ok(answer.trace_id)
}
