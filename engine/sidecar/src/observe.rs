//! One look at the running collector from outside: its metrics, its port, its memory.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::Full;
use hyper::Request;
use hyper::header::HOST;
use nix::unistd::Pid;
use sojourn_contract::path;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::exchange::exchange;
use crate::supervise::event::Observation;
use crate::{memory, metrics};

/// Where the collector listens.
#[derive(Debug, Clone, Copy)]
pub struct Endpoints {
    /// Its own metrics.
    pub metrics: SocketAddr,
    /// OTLP over HTTP.
    pub otlp: SocketAddr,
}

/// Looks once, at the collector of this process group.
pub async fn observe(endpoints: Endpoints, group: Pid) -> Observation {
    let taken = Instant::now();
    let (text, accepts) = tokio::join!(scrape(endpoints.metrics), accepts(endpoints.otlp));
    Observation { taken, metrics: text.as_deref().map(metrics::parse), accepts, memory: memory::resident(group) }
}

async fn scrape(address: SocketAddr) -> Option<String> {
    let request = Request::get(path::METRICS).header(HOST, address.to_string()).body(Full::<Bytes>::default()).ok()?;
    let body = exchange(address, request).await.ok()?;
    Some(String::from_utf8_lossy(&body).into_owned())
}

async fn accepts(address: SocketAddr) -> bool {
    matches!(timeout(Duration::from_secs(5), TcpStream::connect(address)).await, Ok(Ok(_)))
}
