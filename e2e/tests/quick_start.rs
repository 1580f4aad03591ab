//! The engine alone, as the README's quick start has it: flags, or the environment alone; a request, and its trace in Jaeger.

use anyhow::Result;
use sojourn_contract::attribute;
use sojourn_e2e::chat::{Chat, Question};
use sojourn_e2e::local::{Local, LocalJaeger};
use sojourn_e2e::sandbox::{Progress, Sandbox};
use sojourn_journey::check::check;
use sojourn_journey::trace::Trace;

async fn trace_of_a_request(jaeger: &LocalJaeger, arguments: &[&str], environment: &[(&str, &str)]) -> Result<Trace> {
    let model = Sandbox::from_environment()?.settings().cache.join("models/SmolLM2-135M-Instruct-Q8_0.gguf");
    let model = model.to_string_lossy().into_owned();
    let arguments: Vec<&str> = [model.as_str()].into_iter().chain(arguments.iter().copied()).collect();
    let engine = Local::engine(&arguments, environment).await?;
    let answer = Chat::new(&engine.url, "SmolLM2-135M-Instruct-Q8_0").ask(Question::new("Hello!"), |_| {}).await?;
    assert_eq!((answer.status, answer.text.is_empty()), (200, false), "{answer:?}");
    let trace = jaeger.jaeger.trace(&answer.trace_id, 1).await?;
    engine.terminate().await?;
    let report = check(&trace);
    assert!(report.is_legal() && report.journeys == 1, "{report}");
    Ok(trace)
}

async fn start_jaeger(directory: &tempfile::TempDir) -> Result<LocalJaeger> {
    let binaries = Sandbox::from_environment()?.binaries(&Progress::new()).await?;
    LocalJaeger::start(&binaries.jaeger.join("jaeger"), directory.path()).await
}

#[tokio::test]
async fn flags_alone_are_enough() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let jaeger = start_jaeger(&directory).await?;
    let flags = ["--enable-journey-tracing", "--otlp-traces-endpoint", &jaeger.otlp_grpc];
    trace_of_a_request(&jaeger, &flags, &[]).await?;
    Ok(())
}

#[tokio::test]
async fn the_environment_alone_says_where_and_who() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let jaeger = start_jaeger(&directory).await?;
    let environment = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", jaeger.otlp_http.as_str()),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf"),
        ("OTEL_SERVICE_NAME", "vllm-production"),
    ];
    let trace = trace_of_a_request(&jaeger, &["--enable-journey-tracing"], &environment).await?;
    assert_eq!(trace.spans[0].resource.text(attribute::SERVICE_NAME), Some("vllm-production"));
    Ok(())
}
