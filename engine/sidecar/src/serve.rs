//! The supervisor's own HTTP: `/telemetry`, `/metrics` and `/health`.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use axum::routing::get;
use axum::{Json, Router};
use sojourn_contract::{path, sidecar};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tracing::warn;

use crate::exposition;

/// Pause before a port that cannot be opened is tried again.
const PAUSE: Duration = Duration::from_secs(5);

/// Serves the newest state for ever; a port that cannot be opened is tried again, because ending would unready the engine.
pub async fn serve(address: SocketAddr, state: watch::Receiver<sidecar::State>) {
    loop {
        let served = match bind(address).await {
            Ok(listener) => axum::serve(listener, router(state.clone())).await,
            Err(error) => Err(error),
        };
        if let Err(error) = served {
            warn!(%error, %address, "cannot serve the telemetry state, will try again");
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Opens the port; on a node without IPv6 "all addresses" means all of IPv4.
async fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    match TcpListener::bind(address).await {
        Err(_) if address.is_ipv6() && address.ip().is_unspecified() => {
            TcpListener::bind((Ipv4Addr::UNSPECIFIED, address.port())).await
        }
        bound => bound,
    }
}

fn router(state: watch::Receiver<sidecar::State>) -> Router {
    Router::new()
        .route(path::TELEMETRY, get(telemetry))
        .route(path::METRICS, get(metrics))
        .route(path::HEALTH, get(|| async { "ok" }))
        .with_state(state)
}

async fn metrics(State(state): State<watch::Receiver<sidecar::State>>) -> impl IntoResponse {
    ([(CONTENT_TYPE, exposition::CONTENT_TYPE)], exposition::text(&state.borrow()))
}

async fn telemetry(State(state): State<watch::Receiver<sidecar::State>>) -> Json<sidecar::State> {
    Json(state.borrow().clone())
}
