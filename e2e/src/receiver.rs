//! An OTLP receiver in this process: keeps every request as it came and acknowledges it, and does nothing else meanwhile, so
//! that it takes as little of the machine as it can from what is measured. It can also be as bad as real ones are.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use bytes::Bytes;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use prost::Message;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::task::{JoinHandle, JoinSet};
use tokio_rustls::TlsAcceptor;

mod answer;
mod harvest;
mod spans;
mod tls;

pub use harvest::Harvest;
pub use spans::traces;

const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// How OTLP travels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wire {
    /// gRPC.
    Grpc,
    /// HTTP, protobuf.
    Http,
}

/// What it does with a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Manner {
    /// Takes it.
    Take,
    /// Takes it and says so later.
    TakeAfter(Duration),
    /// Answers with a success that leaves this many spans out, and keeps nothing of the request.
    TakeAllBut(i64),
    /// Has no room and does not say when to try again: 429, or RESOURCE_EXHAUSTED without RetryInfo.
    Exhausted,
    /// Cannot take it now: 503, or UNAVAILABLE.
    Unavailable,
    /// Refuses it for good, with 400 or INVALID_ARGUMENT, and keeps it, so that a test knows what was refused.
    Refuse,
    /// Reads it and never answers.
    Hang,
}

/// Whose connections it breaks off before a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shunned {
    Nobody,
    /// Whoever connects first from now on.
    Next,
    Peer(IpAddr),
}

/// Takes OTLP on a port of its own until it is dropped.
pub struct Receiver {
    /// `http://127.0.0.1:PORT` for instance, or `https://`.
    pub url: String,
    address: SocketAddr,
    wire: Wire,
    tls: Option<TlsAcceptor>,
    shared: Arc<Shared>,
    task: Mutex<Option<JoinHandle<()>>>,
}

/// What its connections share.
#[derive(Debug)]
struct Shared {
    wire: Wire,
    manner: Mutex<Manner>,
    shunned: Mutex<Shunned>,
    required: Mutex<BTreeMap<String, String>>,
    received: Mutex<Vec<Bytes>>,
    requests: Mutex<u64>,
}

impl Drop for Receiver {
    fn drop(&mut self) {
        if let Some(task) = lock(&self.task).take() {
            task.abort();
        }
    }
}

impl Receiver {
    /// Starts one for gRPC on loopback.
    pub async fn start() -> Result<Self> {
        Self::start_for(Wire::Grpc).await
    }

    /// Starts one on loopback.
    pub async fn start_for(wire: Wire) -> Result<Self> {
        Self::start_with(LOOPBACK, wire, None).await
    }

    /// Starts one for gRPC on another address of this machine, where pods of the sandbox reach it.
    pub async fn start_on(address: IpAddr) -> Result<Self> {
        Self::start_with(address, Wire::Grpc, None).await
    }

    /// Starts one whose certificate, for 127.0.0.1, this authority signs; answers it with the authority's certificate, PEM.
    pub async fn start_with_tls(wire: Wire) -> Result<(Self, String)> {
        let (acceptor, authority) = tls::acceptor(wire)?;
        Ok((Self::start_with(LOOPBACK, wire, Some(acceptor)).await?, authority))
    }

    async fn start_with(address: IpAddr, wire: Wire, tls: Option<TlsAcceptor>) -> Result<Self> {
        let listener = TcpListener::bind((address, 0)).await.context("cannot open a port for OTLP")?;
        let address = listener.local_addr()?;
        let scheme = if tls.is_some() { "https" } else { "http" };
        let shared = Arc::new(Shared {
            wire,
            manner: Mutex::new(Manner::Take),
            shunned: Mutex::new(Shunned::Nobody),
            required: Mutex::default(),
            received: Mutex::default(),
            requests: Mutex::default(),
        });
        let receiver = Self { url: format!("{scheme}://{address}"), address, wire, tls, shared, task: Mutex::default() };
        receiver.serve(listener);
        Ok(receiver)
    }

    /// How it answers from now on.
    pub fn answer(&self, manner: Manner) {
        *lock(&self.shared.manner) = manner;
    }

    /// Breaks off every connection from the address that connects first from now on, as a network does that has lost it.
    pub fn shun_next(&self) {
        *lock(&self.shared.shunned) = Shunned::Next;
    }

    /// The address whose connections are broken off, once it has tried.
    pub fn shunned(&self) -> Option<IpAddr> {
        match *lock(&self.shared.shunned) {
            Shunned::Peer(address) => Some(address),
            Shunned::Nobody | Shunned::Next => None,
        }
    }

    /// Takes nothing any more from requests without this header.
    pub fn require(&self, header: &str, value: &str) {
        lock(&self.shared.required).insert(header.to_owned(), value.to_owned());
    }

    /// Breaks every connection off and listens no more: connections are refused.
    pub async fn close(&self) {
        let task = lock(&self.task).take();
        if let Some(task) = task {
            task.abort();
            // An error says that it was aborted; its listener and its connections are gone then.
            task.await.unwrap_or_default();
        }
    }

    /// Listens again on the same port.
    pub async fn open(&self) -> Result<()> {
        self.serve(TcpListener::bind(self.address).await.with_context(|| format!("cannot listen on {} again", self.address))?);
        Ok(())
    }

    /// How many requests have come, whatever was answered.
    pub fn requests(&self) -> u64 {
        *lock(&self.shared.requests)
    }

    /// The requests that were taken since the last call, decoded.
    pub fn take(&self) -> Result<Vec<ExportTraceServiceRequest>> {
        let received = std::mem::take(&mut *lock(&self.shared.received));
        received.into_iter().map(|body| ExportTraceServiceRequest::decode(body).context("what came is no OTLP")).collect()
    }

    fn serve(&self, listener: TcpListener) {
        let (wire, tls, shared) = (self.wire, self.tls.clone(), self.shared.clone());
        let task = tokio::spawn(async move {
            // Ends with this task, and all connections with it.
            let mut connections = JoinSet::new();
            while let Ok((stream, peer)) = listener.accept().await {
                if shared.shuns(peer.ip()) {
                    continue;
                }
                let (tls, shared) = (tls.clone(), shared.clone());
                connections.spawn(async move {
                    match tls {
                        None => connection(wire, stream, shared).await,
                        // A client that refuses our certificate ends the handshake.
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(stream).await {
                                connection(wire, stream, shared).await;
                            }
                        }
                    }
                });
                while connections.try_join_next().is_some() {}
            }
        });
        *lock(&self.task) = Some(task);
    }
}

impl Shared {
    fn shuns(&self, peer: IpAddr) -> bool {
        let mut shunned = lock(&self.shunned);
        if *shunned == Shunned::Next {
            *shunned = Shunned::Peer(peer);
        }
        *shunned == Shunned::Peer(peer)
    }
}

/// A connection that breaks is its client's business.
async fn connection(wire: Wire, stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, shared: Arc<Shared>) {
    let service = service_fn(move |request: Request<Incoming>| answer::answer(request, shared.clone()));
    let stream = TokioIo::new(stream);
    match wire {
        Wire::Grpc => http2::Builder::new(TokioExecutor::new()).serve_connection(stream, service).await.unwrap_or_default(),
        Wire::Http => http1::Builder::new().serve_connection(stream, service).await.unwrap_or_default(),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
