//! Journeys out of the engine's door: what an OTLP receiver gets, and what happens when there is none.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::json;
use sojourn_contract::attribute;
use sojourn_contract::env::{OTEL_RESOURCE_ATTRIBUTES, OTEL_SERVICE_NAME};
use sojourn_contract::journey::{Detail, ENGINE_STARTUP, SCOPE_API, SCOPE_SCHEDULER, StartupStage};
use sojourn_engine::telemetry::export::Exporter;
use sojourn_engine::telemetry::resource::resource;
use sojourn_engine::telemetry::sampler::Sampler;
use sojourn_engine::telemetry::settings::{Destination, Protocol, Settings, TlsFiles};
use sojourn_journey::record::Stamp;
use sojourn_journey::startup::{Stage, Startup};
use sojourn_journey::trace::Attributes;
use tokio::net::TcpListener;

use super::client::{chat, chat_body};
use super::engine::{Engine, Setup};
use super::receiver::{Receiver, text};

fn exporter(address: SocketAddr, protocol: Protocol) -> Arc<Exporter> {
    let path = if protocol == Protocol::Http { "/v1/traces" } else { "" };
    let destination = Destination { endpoint: format!("http://{address}{path}"), protocol, tls: TlsFiles::default() };
    let schedule_delay = Duration::from_millis(20);
    let settings = Settings { destination: Some(destination), sampler: Sampler::ALL, schedule_delay, queue: 64, batch: 16 };
    let env = |name: &str| match name {
        OTEL_SERVICE_NAME => Some("smollm".to_owned()),
        OTEL_RESOURCE_ATTRIBUTES => Some("team=search%20infra".to_owned()),
        _ => None,
    };
    Exporter::start(settings, resource(env), Detail::Phases).unwrap()
}

async fn engine(exporter: &Arc<Exporter>) -> Engine {
    Setup { exporter: Some(exporter.clone()), ..Setup::default() }.start().await
}

/// The certificate store and its crypto are the process's choice, made by `main` there and here.
fn choose_crypto() {
    // A second call says that somebody else has chosen.
    drop(rustls::crypto::ring::default_provider().install_default());
}

async fn assert_a_whole_journey_arrives(protocol: Protocol, path: &str) {
    choose_crypto();
    let mut receiver = Receiver::start(protocol).await;
    let exporter = exporter(receiver.address, protocol);
    let engine = engine(&exporter).await;
    let answer = chat(engine.address, chat_body("hi", json!({"max_tokens": 3}))).await;
    let received = receiver.next().await;
    assert_eq!(received.path, path);
    assert_eq!(received.resource(attribute::SERVICE_NAME).as_deref(), Some("smollm"));
    assert_eq!(received.resource("team").as_deref(), Some("search infra"));
    let spans = received.spans();
    let mut names: Vec<_> = spans.iter().map(|(scope, span)| (*scope, span.name.as_str())).collect();
    names.sort_unstable();
    let phases = ["decode", "llm_core", "prefill", "queue"].map(|name| (SCOPE_SCHEDULER, name));
    assert_eq!(names, [&[(SCOPE_API, "llm_request")], phases.as_slice()].concat());
    let find = |name: &str| spans.iter().find(|(_, span)| span.name == name).unwrap().1;
    let (request, core) = (find("llm_request"), find("llm_core"));
    assert_eq!(core.parent_span_id, request.span_id);
    let trace_id: String = request.trace_id.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(answer.header("traceresponse").unwrap().split('-').nth(1), Some(trace_id.as_str()));
    assert!(spans.iter().all(|(_, span)| text(&span.attributes, attribute::OUTCOME).as_deref() == Some("ok")));
    let schemas = received.request.resource_spans[0]
        .scope_spans
        .iter()
        .map(|scope| (scope.scope.as_ref().unwrap().name.as_str(), scope.schema_url.as_str()));
    assert!(schemas.into_iter().any(|schema| schema == (SCOPE_API, attribute::SCHEMA_URL)));
    exporter.shutdown(Duration::from_secs(10)).await;
    assert_eq!((exporter.counts().exported_journeys.get(), exporter.counts().exported_spans.get()), (1, 5));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_journey_arrives_whole_over_grpc() {
    assert_a_whole_journey_arrives(Protocol::Grpc, "/opentelemetry.proto.collector.trace.v1.TraceService/Export").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_journey_arrives_whole_over_http() {
    assert_a_whole_journey_arrives(Protocol::Http, "/v1/traces").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_up_trace_proves_the_path_without_traffic() {
    let mut receiver = Receiver::start(Protocol::Grpc).await;
    let exporter = exporter(receiver.address, Protocol::Grpc);
    let at = |seconds: u32| Stamp { unix_nanos: u64::from(seconds) * 1_000_000_000, monotonic: f64::from(seconds) };
    let stage = Stage { stage: StartupStage::Download, from: at(1), to: at(3), attributes: Attributes::default() };
    let attributes = Attributes::default();
    exporter.startup(Startup { began: at(1), ended: at(4), stages: vec![stage], error: None, attributes });
    let received = receiver.next().await;
    let names: Vec<_> = received.spans().iter().map(|(_, span)| span.name.clone()).collect();
    assert_eq!(names, [ENGINE_STARTUP, "download"]);
    exporter.shutdown(Duration::from_secs(10)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_that_is_not_there_costs_requests_nothing() {
    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let exporter = exporter(nobody, Protocol::Grpc);
    let engine = engine(&exporter).await;
    for _ in 0..100 {
        assert_eq!(chat(engine.address, chat_body("hi", json!({"max_tokens": 1}))).await.status, 200);
    }
    let begun = Instant::now();
    exporter.shutdown(Duration::from_millis(200)).await;
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    assert_eq!((exporter.counts().exported_journeys.get(), exporter.counts().dropped_journeys.get()), (0, 100));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_comes_late_gets_what_waited_for_it() {
    let address = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let exporter = exporter(address, Protocol::Grpc);
    let engine = engine(&exporter).await;
    chat(engine.address, chat_body("hi", json!({"max_tokens": 3}))).await;
    let mut receiver = Receiver::on(TcpListener::bind(address).await.unwrap(), Protocol::Grpc);
    assert_eq!(receiver.next().await.spans().len(), 5);
    exporter.shutdown(Duration::from_secs(10)).await;
    assert_eq!(exporter.counts().dropped_journeys.get(), 0);
}
