//! A collector as the supervisor sees one: `--config=FILE`, metrics, OTLP over HTTP, a log on stderr, SIGTERM. What it does
//! is said in its file under `fake` and, while it runs, by a POST to its metrics port.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::extract::{Path, State};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

/// What the file says.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Fake {
    metrics: SocketAddr,
    otlp: SocketAddr,
    /// Exporters that it cannot be started with.
    #[serde(default)]
    refuses: Vec<String>,
    /// Do not end at SIGTERM.
    #[serde(default)]
    stubborn: bool,
}

/// What the tests set while it runs, and what it has received.
#[derive(Default)]
struct Shared {
    exporters: Vec<String>,
    queue_size: u64,
    sent: u64,
    hangs: bool,
    looks: u64,
    spans: Vec<Value>,
}

type Shelf = Arc<Mutex<Shared>>;

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let argument = std::env::args().next_back().expect("a command line");
    let file = argument.strip_prefix("--config=").expect("--config=FILE comes last");
    let file: Value = serde_json::from_str(&std::fs::read_to_string(file).expect("a file")).expect("a file in JSON");
    let fake: Fake = serde_json::from_value(file["fake"].clone()).expect("what to do, under 'fake'");
    if let Some(refused) = fake.refuses.iter().find(|exporter| file["exporters"].get(exporter.as_str()).is_some()) {
        eprintln!("Error: failed to start \"{refused}\" exporter: bad certificate");
        std::process::exit(1);
    }
    let mut terminate = signal(SignalKind::terminate()).expect("a signal handler");
    let exporters = file["exporters"].as_object().map(|all| all.keys().cloned().collect()).unwrap_or_default();
    let shelf = Shelf::new(Mutex::new(Shared { exporters, ..Shared::default() }));
    let metrics = TcpListener::bind(fake.metrics).await.expect("the metrics port");
    let otlp = TcpListener::bind(fake.otlp).await.expect("the OTLP port");
    tokio::spawn(axum::serve(metrics, control(shelf.clone())).into_future());
    tokio::spawn(axum::serve(otlp, Router::new().route("/v1/traces", post(take)).with_state(shelf)).into_future());
    loop {
        terminate.recv().await;
        if !fake.stubborn {
            std::process::exit(0);
        }
    }
}

fn control(shelf: Shelf) -> Router {
    Router::new()
        .route("/metrics", get(numbers))
        .route("/spans", get(|State(shelf): State<Shelf>| async move { Json(lock(&shelf).spans.clone()) }))
        .route("/looks", get(|State(shelf): State<Shelf>| async move { lock(&shelf).looks.to_string() }))
        .route("/pid", get(|| async { std::process::id().to_string() }))
        .route("/queue/{size}", post(|State(shelf): State<Shelf>, Path(size)| async move { lock(&shelf).queue_size = size }))
        .route("/sent/{spans}", post(|State(shelf): State<Shelf>, Path(spans)| async move { lock(&shelf).sent = spans }))
        .route("/hang", post(|State(shelf): State<Shelf>| async move { lock(&shelf).hangs = true }))
        .route("/log", post(|line: String| async move { eprintln!("{line}") }))
        .route("/orphan", post(orphan))
        .with_state(shelf)
}

async fn numbers(State(shelf): State<Shelf>) -> String {
    let hangs = lock(&shelf).hangs;
    if hangs {
        std::future::pending::<()>().await;
    }
    let mut shared = lock(&shelf);
    shared.looks += 1;
    let of = |exporter: &String| {
        format!(
            "otelcol_exporter_queue_size{{exporter=\"{exporter}\"}} {}\n\
             otelcol_exporter_queue_capacity{{exporter=\"{exporter}\"}} 1000\n\
             otelcol_exporter_sent_spans{{exporter=\"{exporter}\"}} {}\n",
            shared.queue_size, shared.sent
        )
    };
    shared.exporters.iter().map(of).collect()
}

async fn take(State(shelf): State<Shelf>, Json(spans): Json<Value>) -> &'static str {
    lock(&shelf).spans.push(spans);
    "{}"
}

/// Leaves a child behind that nobody here waits for; answers its process id.
async fn orphan() -> String {
    let output = std::process::Command::new("sh").args(["-c", "true & echo $!"]).output();
    String::from_utf8_lossy(&output.expect("a shell").stdout).trim().to_owned()
}

fn lock(shelf: &Shelf) -> std::sync::MutexGuard<'_, Shared> {
    shelf.lock().expect("nobody panics with the lock")
}
