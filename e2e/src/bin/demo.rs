//! `make demo`: the whole product once through, on a real cluster: install the operator, apply a service, ask the model,
//! find the trace, draw the journey.

use std::io::{IsTerminal, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use sojourn_e2e::chat::{Caller, Question};
use sojourn_e2e::lab::Lab;
use sojourn_e2e::namespace::Namespace;
use sojourn_e2e::release;
use sojourn_e2e::sandbox::{Own, Progress, Sandbox, build_own};
use sojourn_journey::draw::{Style, draw};

const NAMESPACE: &str = "chat";
const EXAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/service.yaml");
const PROMPT: &str = "Why is the sky blue? Answer in two sentences.";
/// Loading a model takes seconds; a first start on a busy machine may take longer.
const PATIENCE: Duration = Duration::from_secs(300);
const WIDTH: usize = 118;

#[tokio::main]
async fn main() -> Result<()> {
    let start = Instant::now();
    let progress = Progress::new();
    let sandbox = Sandbox::from_environment()?;
    let cluster = sandbox.up(&progress).await?;
    let images = build_own(&sandbox.settings().cache, &Own::ALL, &progress).await?;
    cluster.load_images(&images, &progress).await?;
    let lab = Lab::on(cluster);

    let step = progress.step("installing the operator with Helm");
    release::install(&lab.cluster).await?;
    step.done();

    let namespace = Namespace::create(&lab.client, NAMESPACE).await?;
    lab.cluster.provide_models(NAMESPACE).await?;
    let manifest = std::fs::read_to_string(EXAMPLE).with_context(|| format!("cannot read {}", Path::new(EXAMPLE).display()))?;
    let service = namespace.apply(&manifest).await?;
    let step = progress.step(format!("waiting until {} is Ready", service.name));
    service.becomes("Ready", PATIENCE, |why| step.at(why)).await?;
    step.done();

    let (chat, _tunnel) = service.chat().await?;
    let caller = Caller::new(true);
    println!("\n$ curl .../v1/chat/completions -H 'traceparent: {}'", caller.traceparent());
    println!("  {PROMPT}\n");
    let question = Question::new(PROMPT).with("max_tokens", 60).streaming().within(&caller);
    let answer = chat
        .ask(question, |text| {
            print!("{text}");
            // A terminal that is gone needs no text.
            std::io::stdout().flush().ok();
        })
        .await?;
    println!("\n");
    if let Some(error) = answer.error {
        anyhow::bail!("the engine answered {}: {error}", answer.status);
    }

    let step = progress.step("waiting for the trace in Jaeger");
    let trace = lab.jaeger.trace(&caller.trace_id, 1).await?;
    step.done();
    let color = std::io::stdout().is_terminal();
    println!("{}", draw(&trace, Style { width: WIDTH, color }));
    print_next_steps(&lab, &service.name, &caller.trace_id);
    println!("\nThe demo took {:.0} s. The cluster stays up; `make down` removes it.", start.elapsed().as_secs_f64());
    Ok(())
}

fn print_next_steps(lab: &Lab, service: &str, trace_id: &str) {
    println!("Go on with:");
    println!("  export KUBECONFIG={}", lab.cluster.kubeconfig().display());
    println!("  {} -n {NAMESPACE} get sjn", lab.cluster.kubectl().display());
    println!("  {} -n {NAMESPACE} port-forward svc/{service} 8000", lab.cluster.kubectl().display());
    println!("  curl -i http://127.0.0.1:8000/v1/chat/completions -H 'content-type: application/json' \\");
    println!("    -d '{{\"model\":\"{service}\",\"messages\":[{{\"role\":\"user\",\"content\":\"Hello!\"}}]}}'");
    println!("  curl -s {} | sojourn-engine draw -", lab.jaeger.address(trace_id));
}
