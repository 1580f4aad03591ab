//! The HTTP side of the engine: OpenAI's API, probes and metrics.
//!
//! ```text
//! listen ─ ClockedIo ─ hyper ─ entry (ids, key, journey) ─ routes ─ answer ─ Generation ─ scheduler
//!             │ first byte: ARRIVED      │ ClockedBody                            │ tokens as text
//!             └ flush: DEPARTED ─────────┘ last byte, or dropped: ABORTED         └ dropped: cancelled
//! ```
//! Handlers await inline: when a client goes away, hyper drops the future, and with it the request.

mod answer;
pub mod body;
mod call;
pub mod clocked_io;
pub mod connection;
mod deadline;
pub mod entry;
pub mod error;
mod generation;
pub mod listen;
mod metrics;
mod openai;
mod piece;
mod probes;
mod routes;
mod stream;
mod tokenize;
mod upload;
pub mod visit;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::{Semaphore, watch};

use crate::clock::Clock;
use crate::metrics::Metrics;
use crate::served::ServedSlot;
use crate::telemetry::Tracing;

pub use listen::{Accept, serve};
pub use routes::router;

/// How requests are treated.
#[derive(Debug, Clone)]
pub struct Settings {
    /// From a request's first byte to its answer's last token; `None` is no limit.
    pub request_timeout: Option<Duration>,
    /// How long a client may take nothing of what waits for it.
    pub client_stall_timeout: Duration,
    /// Largest body of a request.
    pub max_body_bytes: usize,
    /// The key that clients of `/v1/` must send; `None` lets everybody in.
    pub api_key: Option<String>,
    /// How long running requests may take after the shutdown has begun.
    pub drain_timeout: Duration,
}

/// What the engine waits for before it can serve.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Startup {
    /// For people: "loading the model's weights".
    pub waiting_for: String,
    /// Bytes that are done, of the stage that runs.
    pub done_bytes: u64,
    /// Bytes of that stage, where they are known.
    pub total_bytes: Option<u64>,
    /// Nothing has moved for longer than the start-up timeout: `/health` says so.
    pub stalled: bool,
}

/// What all handlers share.
pub struct Api {
    /// The model, once it is loaded.
    pub served: ServedSlot,
    /// The engine's clock.
    pub clock: Clock,
    /// Where journeys go; `None` with tracing off.
    pub tracing: Option<Tracing>,
    /// How requests are treated.
    pub settings: Settings,
    /// Counters and histograms of `/metrics`.
    pub metrics: Arc<Metrics>,
    startup: watch::Receiver<Startup>,
    in_flight: watch::Sender<usize>,
    draining: AtomicBool,
    closing: AtomicBool,
    /// Bounds how many prompts are templated and tokenized at once.
    blocking: Arc<Semaphore>,
}

impl Api {
    /// Puts the parts together.
    pub fn new(
        served: ServedSlot,
        clock: Clock,
        tracing: Option<Tracing>,
        settings: Settings,
        startup: watch::Receiver<Startup>,
    ) -> Arc<Self> {
        let metrics = Arc::new(Metrics::new(served.clone(), tracing.as_ref().map(|tracing| &tracing.counts)));
        let at_once = std::thread::available_parallelism().map_or(2, |cores| cores.get());
        Arc::new(Self {
            served,
            clock,
            tracing,
            settings,
            metrics,
            startup,
            in_flight: watch::Sender::new(0),
            draining: AtomicBool::new(false),
            closing: AtomicBool::new(false),
            blocking: Arc::new(Semaphore::new(at_once)),
        })
    }

    /// The engine shuts down: no new requests.
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }

    /// The time for running requests is over as well.
    pub(crate) fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Acquire)
    }

    /// Stops admission; running requests go on.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::Release);
        if let Some(served) = self.served.get() {
            served.scheduler.drain();
        }
    }

    /// Ends what still runs.
    pub fn close(&self) {
        self.closing.store(true, Ordering::Release);
        if let Some(served) = self.served.get() {
            served.scheduler.abort_all();
        }
    }

    /// Requests whose answers have not left yet.
    pub fn requests_in_flight(&self) -> usize {
        *self.in_flight.borrow()
    }

    /// Waits until every answer has left.
    pub async fn idle(&self) {
        let mut in_flight = self.in_flight.subscribe();
        // The sender lives as long as this borrow, so there is an answer.
        drop(in_flight.wait_for(|count| *count == 0).await);
    }
}
