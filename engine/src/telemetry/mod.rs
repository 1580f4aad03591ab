//! Traces on their way out: who a request belongs to ([`propagation`], [`context`]), what its journey becomes ([`spans`]), who
//! we are ([`resource`]), and the queue and thread that send it ([`export`], [`otlp`]), as the `OTEL_*` variables ask for
//! ([`settings`], [`destination`]). No provider and no processor of an SDK: opentelemetry's exporter is the wire here, nothing
//! more.

mod b3;
mod baggage;
pub mod context;
pub mod destination;
pub mod environment;
pub mod export;
mod jaeger;
pub mod limits;
pub mod otlp;
pub mod propagation;
pub mod resource;
pub mod sampler;
pub mod settings;
pub mod spans;
pub mod w3c;

use std::io;
use std::sync::Arc;

use crate::recorder::Sink;
use context::RequestContext;
use propagation::Propagators;

/// Why traces cannot be sent as configured.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// A variable of the environment, or a flag, is wrong, and going on would send journeys to the wrong place.
    #[error("{name} is '{value}': {advice}")]
    Variable {
        /// Its name.
        name: String,
        /// What it is.
        value: String,
        /// What to write instead.
        advice: &'static str,
    },
    /// A PEM file cannot be read.
    #[error("cannot read the certificate file {path} that an OTEL_EXPORTER_OTLP variable names: {source}")]
    CertificateFile {
        /// Its path.
        path: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The endpoint cannot be used.
    #[error("cannot export traces to {endpoint}: {reason}")]
    Exporter {
        /// Its URL.
        endpoint: String,
        /// Why.
        reason: String,
    },
    /// The thread cannot be started.
    #[error("cannot start the telemetry thread: {0}")]
    Thread(#[source] io::Error),
}

impl TelemetryError {
    fn variable(name: &str, value: &str, advice: &'static str) -> Self {
        Self::Variable { name: name.to_owned(), value: value.to_owned(), advice }
    }
}

/// Tracing, switched on: where the API layer hands complete journeys to.
#[derive(Clone)]
pub struct Tracing {
    /// Takes complete journeys: the exporter, and whoever else wants them.
    pub sink: Arc<dyn Sink<RequestContext>>,
    /// Counts for `/metrics`.
    pub counts: export::counts::Counts,
    /// Reads who called.
    pub propagators: Propagators,
    /// Baggage members that are copied to journeys.
    pub baggage: Arc<[String]>,
}
