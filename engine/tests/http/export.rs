//! Journeys out of the engine's door: what an OTLP receiver gets.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rcgen::CertifiedKey;
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use serde_json::json;
use sojourn_contract::attribute;
use sojourn_contract::env::{OTEL_RESOURCE_ATTRIBUTES, OTEL_SERVICE_NAME};
use sojourn_contract::journey::{Detail, ENGINE_STARTUP, SCOPE_API, SCOPE_SCHEDULER, StartupStage};
use sojourn_engine::telemetry::TelemetryError;
use sojourn_engine::telemetry::destination::Protocol;
use sojourn_engine::telemetry::environment::Environment;
use sojourn_engine::telemetry::export::Exporter;
use sojourn_engine::telemetry::export::counts::Tally;
use sojourn_engine::telemetry::resource::{attributes, resource};
use sojourn_engine::telemetry::settings::Settings;
use sojourn_journey::record::Stamp;
use sojourn_journey::startup::{Stage, Startup};
use sojourn_journey::trace::Attributes;
use tokio_rustls::TlsAcceptor;

use super::client::{chat, chat_body};
use super::engine::{Engine, SOON, Setup};
use super::receiver::{Receiver, text};

pub const BOTH: [Protocol; 2] = [Protocol::Grpc, Protocol::Http];

/// An exporter as the environment asks for it, except that it waits for nothing long.
fn try_exporter(pairs: &[(&str, &str)]) -> Result<Arc<Exporter>, TelemetryError> {
    choose_crypto();
    let lookup = |name: &str| pairs.iter().rev().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
    let environment = Environment::new(&lookup);
    let mut settings = Settings::read(None, &environment)?;
    settings.batching.retry_pause = Duration::from_millis(1);
    let exporter = Exporter::start(&settings, resource(attributes(&environment)), Detail::Phases);
    assert_eq!(environment.into_warnings(), Vec::<String>::new());
    exporter
}

/// One that sends to `address`; `pairs` win.
pub fn exporter_with(address: SocketAddr, protocol: Protocol, pairs: &[(&str, &str)]) -> Arc<Exporter> {
    let endpoint = format!("http://{address}");
    let own = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str()),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", name(protocol)),
        ("OTEL_BSP_SCHEDULE_DELAY", "1"),
        (OTEL_SERVICE_NAME, "smollm"),
        (OTEL_RESOURCE_ATTRIBUTES, "team=search%20infra"),
    ];
    try_exporter(&[&own, pairs].concat()).unwrap()
}

pub fn exporter(address: SocketAddr, protocol: Protocol) -> Arc<Exporter> {
    exporter_with(address, protocol, &[])
}

pub fn name(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Grpc => "grpc",
        Protocol::Http => "http/protobuf",
    }
}

pub async fn engine(exporter: &Arc<Exporter>) -> Engine {
    Setup { exporter: Some(exporter.clone()), ..Setup::default() }.start().await
}

/// So many requests to an engine that ends afterwards, so that their journeys are complete.
pub async fn serve(exporter: &Arc<Exporter>, requests: usize) {
    let mut engine = engine(exporter).await;
    ask(&engine, requests).await;
    engine.stop();
    engine.ended().await;
}

/// So many requests, one after another, all of which are answered.
pub async fn ask(engine: &Engine, count: usize) {
    for _ in 0..count {
        assert_eq!(chat(engine.address, chat_body("hi", json!({"max_tokens": 3}))).await.status, 200);
    }
}

/// The certificate store and its crypto are the process's choice, made by `main` there and here.
fn choose_crypto() {
    // A second call says that somebody else has chosen.
    drop(rustls::crypto::ring::default_provider().install_default());
}

pub fn tally(journeys: u64, spans: u64) -> Tally {
    Tally { journeys, spans }
}

async fn assert_a_whole_journey_arrives(protocol: Protocol, path: &str) {
    let mut receiver = Receiver::start(protocol).await;
    let exporter = exporter(receiver.address, protocol);
    let engine = engine(&exporter).await;
    let answer = chat(engine.address, chat_body("hi", json!({"max_tokens": 3}))).await;
    let received = receiver.next().await;
    assert_eq!((received.path.as_str(), received.gzip), (path, false));
    assert!(received.header("user-agent").unwrap().starts_with("sojourn-engine/"), "{:?}", received.headers);
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
    exporter.shutdown(SOON).await;
    assert_eq!((exporter.counts().exported_in_all(), exporter.counts().dropped_in_all()), (tally(1, 5), tally(0, 0)));
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
    exporter.shutdown(SOON).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_are_compressed_and_have_headers_where_that_is_asked_for() {
    let pairs = [("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip"), ("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer%20t,x-a=b")];
    for protocol in BOTH {
        let mut receiver = Receiver::start(protocol).await;
        let exporter = exporter_with(receiver.address, protocol, &pairs);
        serve(&exporter, 1).await;
        let received = receiver.next().await;
        assert!(received.gzip);
        assert_eq!(received.spans().len(), 5);
        assert_eq!((received.header("authorization"), received.header("x-a")), (Some("Bearer t"), Some("b")));
        exporter.shutdown(SOON).await;
    }
}

/// A receiver's TLS that wants a certificate of its clients, and the files with which an engine is let in.
fn mutual_tls(protocol: Protocol, folder: &Path) -> (TlsAcceptor, [String; 3]) {
    choose_crypto();
    let [server, client] = [(); 2].map(|()| rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap());
    let mut trusted = RootCertStore::empty();
    trusted.add(client.cert.der().clone()).unwrap();
    let clients = WebPkiClientVerifier::builder(trusted.into()).build().unwrap();
    let key = server.signing_key.serialize_der().try_into().unwrap();
    let config = ServerConfig::builder().with_client_cert_verifier(clients);
    let mut config = config.with_single_cert(vec![server.cert.der().clone()], key).unwrap();
    if protocol == Protocol::Grpc {
        config.alpn_protocols = vec![b"h2".to_vec()];
    }
    let file = |name: &str, text: String| {
        let path = folder.join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let CertifiedKey { cert, signing_key } = client;
    let files =
        [file("ca.pem", server.cert.pem()), file("client.pem", cert.pem()), file("client.key", signing_key.serialize_pem())];
    (TlsAcceptor::from(Arc::new(config)), files)
}

#[tokio::test(flavor = "multi_thread")]
async fn both_sides_know_each_other_by_their_certificates() {
    for protocol in BOTH {
        let folder = tempfile::tempdir().unwrap();
        let (tls, [authority, certificate, key]) = mutual_tls(protocol, folder.path());
        let mut receiver = Receiver::with_tls(protocol, tls).await;
        let endpoint = format!("https://{}", receiver.address);
        let trusting = [("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str()), ("OTEL_EXPORTER_OTLP_CERTIFICATE", &authority)];
        let known = [("OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE", certificate.as_str()), ("OTEL_EXPORTER_OTLP_CLIENT_KEY", &key)];

        let stranger = exporter_with(receiver.address, protocol, &trusting);
        serve(&stranger, 1).await;
        stranger.shutdown(Duration::from_millis(100)).await;
        assert_eq!(stranger.counts().exported_in_all(), tally(0, 0));

        let friend = exporter_with(receiver.address, protocol, &[trusting, known].concat());
        serve(&friend, 1).await;
        assert_eq!(receiver.next().await.spans().len(), 5);
        friend.shutdown(SOON).await;
        assert_eq!(friend.counts().exported_in_all(), tally(1, 5));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_cannot_be_read_is_named() {
    for protocol in BOTH {
        let pairs = [
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "https://collector:4317"),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", name(protocol)),
            ("OTEL_EXPORTER_OTLP_CERTIFICATE", "/nowhere/ca.pem"),
        ];
        let error = try_exporter(&pairs).err().unwrap().to_string();
        assert!(error.starts_with("cannot read the certificate file /nowhere/ca.pem"), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_that_exports_nothing_serves_all_the_same() {
    for off in [("OTEL_SDK_DISABLED", "true"), ("OTEL_TRACES_EXPORTER", "none")] {
        let mut receiver = Receiver::start(Protocol::Grpc).await;
        let exporter = exporter_with(receiver.address, Protocol::Grpc, &[off]);
        serve(&exporter, 1).await;
        exporter.shutdown(SOON).await;
        assert_eq!((exporter.counts().exported_in_all(), exporter.counts().dropped_in_all()), (tally(0, 0), tally(0, 0)));
        receiver.assert_nothing();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sampler_decides_which_journeys_are_exported() {
    let mut receiver = Receiver::start(Protocol::Grpc).await;
    let exporter = exporter_with(receiver.address, Protocol::Grpc, &[("OTEL_TRACES_SAMPLER", "always_off")]);
    serve(&exporter, 1).await;
    exporter.shutdown(SOON).await;
    assert_eq!((exporter.counts().exported_in_all(), exporter.counts().dropped_in_all()), (tally(0, 0), tally(0, 0)));
    receiver.assert_nothing();
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_shorten_what_a_span_holds() {
    let mut receiver = Receiver::start(Protocol::Grpc).await;
    let limits = [("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", "2"), ("OTEL_SPAN_EVENT_COUNT_LIMIT", "1")];
    let exporter = exporter_with(receiver.address, Protocol::Grpc, &limits);
    serve(&exporter, 1).await;
    let received = receiver.next().await;
    for (_, span) in received.spans() {
        assert!(span.attributes.len() == 2 && span.dropped_attributes_count > 0, "{span:?}");
    }
    let ends: Vec<&str> = received.spans().iter().flat_map(|(_, span)| &span.events).map(|event| event.name.as_str()).collect();
    assert_eq!(ends, ["api.DEPARTED", "journey.FINISHED"]);
    exporter.shutdown(SOON).await;
}
