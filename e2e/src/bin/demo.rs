//! `make demo`: the whole product once through, on a real cluster: install the operator, apply a service, ask the model,
//! find the trace, draw the journey.

use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use sojourn_e2e::chat::{Caller, Question};
use sojourn_e2e::checkout;
use sojourn_e2e::jaeger::Jaeger;
use sojourn_e2e::local::beside_this_program;
use sojourn_e2e::namespace::Namespace;
use sojourn_e2e::own_cluster::OwnCluster;
use sojourn_e2e::release::Helm;
use sojourn_e2e::sandbox::{JAEGER_QUERY_PORT, Own, Progress, Sandbox, build_own, install_tls_provider};
use sojourn_e2e::service::Service;
use sojourn_e2e::tunnel::Tunnel;
use sojourn_journey::draw::{Style, draw};

const NAMESPACE: &str = "chat";
const EXAMPLE: &str = "examples/service.yaml";
const PROMPT: &str = "Why is the sky blue? Answer in two sentences.";
/// Loading a model takes seconds; a first start on a busy machine may take longer.
const PATIENCE: Duration = Duration::from_secs(300);
const WIDTH: usize = 118;

/// Where the demo runs.
struct Place {
    namespace: Namespace,
    helm: Helm,
    kubectl: PathBuf,
    jaeger_url: String,
    /// On a cluster of the user's own: the way to Jaeger, which ends with the demo.
    tunnel: Option<Tunnel>,
}

#[tokio::main]
async fn main() -> ExitCode {
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("demo: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<()> {
    install_tls_provider();
    let start = Instant::now();
    let progress = Progress::new();
    let place = match OwnCluster::from_environment().await? {
        Some(own) => own_cluster(own).await?,
        None => sandbox(&progress).await?,
    };
    let step = progress.step("installing the operator with Helm");
    place.helm.install().await?;
    step.done();
    let service = apply(&place.namespace, &progress).await?;
    let trace_id = ask(&service).await?;
    show(&place, &trace_id, &progress).await?;
    print_next_steps(&place, &service.name, &trace_id);
    println!("\nThe demo took {:.0} s.", start.elapsed().as_secs_f64());
    Ok(())
}

async fn sandbox(progress: &Progress) -> Result<Place> {
    let sandbox = Sandbox::from_environment()?;
    let cluster = sandbox.up(progress).await?;
    let images = build_own(&sandbox.settings().cache, &Own::ALL, progress).await?;
    cluster.load_images(&images, progress).await?;
    let namespace = Namespace::create(&cluster.client(), NAMESPACE).await?;
    cluster.provide_models(NAMESPACE).await?;
    Ok(Place {
        namespace,
        helm: Helm::of_sandbox(&cluster).await?,
        kubectl: cluster.kubectl(),
        jaeger_url: cluster.jaeger_url(),
        tunnel: None,
    })
}

async fn own_cluster(own: OwnCluster) -> Result<Place> {
    own.check(NAMESPACE).await?;
    let namespace = Namespace::create(&own.client, NAMESPACE).await?;
    let tunnel = Tunnel::to_service(&own.client, "observability", "jaeger", JAEGER_QUERY_PORT).await?;
    Ok(Place {
        namespace,
        helm: Helm { program: "helm".into(), kubeconfig: own.kubeconfig, values: own.values, operator_digest: None },
        kubectl: "kubectl".into(),
        jaeger_url: tunnel.url.clone(),
        tunnel: Some(tunnel),
    })
}

async fn apply(namespace: &Namespace, progress: &Progress) -> Result<Service> {
    let manifest = std::fs::read_to_string(checkout::path(EXAMPLE)).with_context(|| format!("cannot read {EXAMPLE}"))?;
    let service = namespace.apply(&manifest).await?;
    let step = progress.step(format!("waiting until {} is Ready", service.name));
    service.becomes("Ready", PATIENCE, |why| step.at(why)).await?;
    step.done();
    Ok(service)
}

/// Asks one question within a trace of our own; gives the trace's id.
async fn ask(service: &Service) -> Result<String> {
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
        bail!("the engine answered {}: {error}", answer.status);
    }
    Ok(caller.trace_id)
}

async fn show(place: &Place, trace_id: &str, progress: &Progress) -> Result<()> {
    let step = progress.step("waiting for the trace in Jaeger");
    let trace = Jaeger::new(&place.jaeger_url).trace(trace_id, 1).await?;
    step.done();
    let color = std::io::stdout().is_terminal();
    println!("{}", draw(&trace, Style { width: WIDTH, color }));
    Ok(())
}

fn print_next_steps(place: &Place, service: &str, trace_id: &str) {
    let kubectl = format!("{} -n {NAMESPACE}", place.kubectl.display());
    println!("Go on with:");
    println!("  export KUBECONFIG={}", place.helm.kubeconfig.display());
    println!("  {kubectl} get sjn");
    println!("  {kubectl} port-forward svc/{service} 8000");
    println!("  curl -i http://127.0.0.1:8000/v1/chat/completions -H 'content-type: application/json' \\");
    println!("    -d '{{\"model\":\"{service}\",\"messages\":[{{\"role\":\"user\",\"content\":\"Hello!\"}}]}}'");
    let jaeger = match &place.tunnel {
        None => place.jaeger_url.clone(),
        Some(_) => {
            println!("  {} -n observability port-forward svc/jaeger {JAEGER_QUERY_PORT}", place.kubectl.display());
            format!("http://127.0.0.1:{JAEGER_QUERY_PORT}")
        }
    };
    let engine = beside_this_program("sojourn-engine").unwrap_or_else(|_| "sojourn-engine".into());
    println!("  curl -s {} | {} draw -", Jaeger::new(&jaeger).address(trace_id), engine.display());
    if place.tunnel.is_none() {
        println!("  make down      # the cluster stays up until then");
    }
}
