//! The engine under measurement: with tracing off or on, in a process of its own, and what that process used.

use std::time::Duration;

use anyhow::{Context, Result};
use sojourn_contract::env;
use sojourn_contract::journey::LLM_REQUEST;
use sojourn_journey::trace::{Span, Trace};

use crate::local::Local;
use crate::process::{cpu_seconds, resident_kib};
use crate::receiver::{Receiver, traces};
use crate::wait::{self, Look};

/// Longest wait for the journeys of answers that were read.
const FLUSH: Duration = Duration::from_secs(20);
/// The loader of mistral.rs warns of what nobody asked for.
const QUIET: &str = "warn,mistralrs_core=error,mistralrs_quant=error";

/// What is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tracing {
    /// Not at all.
    Off,
    /// Two spans a request.
    Journey,
    /// Phases are spans of their own; the default.
    Phases,
}

impl Tracing {
    /// In the order of the turns.
    pub const ALL: [Self; 3] = [Self::Off, Self::Journey, Self::Phases];

    /// As the tables say it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Journey => "`Journey`",
            Self::Phases => "`Phases`",
        }
    }
}

/// An engine that runs.
pub struct Subject {
    /// Its process.
    pub engine: Local,
    receiver: Receiver,
    tracing: Tracing,
    taken: Vec<Trace>,
}

impl Subject {
    /// Starts an engine, and a receiver for its journeys.
    pub async fn start(model: &str, tracing: Tracing, flags: &[&str]) -> Result<Self> {
        let receiver = Receiver::start().await?;
        let detail = if tracing == Tracing::Journey { "Journey" } else { "Phases" };
        let mut arguments = vec![model, "--served-model-name", "bench"];
        if tracing != Tracing::Off {
            arguments.extend(["--enable-journey-tracing", "--otlp-traces-endpoint", &receiver.url, "--journey-detail", detail]);
        }
        arguments.extend(flags);
        let engine = Local::engine(&arguments, &environment()).await.context("the engine does not start")?;
        Ok(Self { engine, receiver, tracing, taken: Vec::new() })
    }

    /// User and system time so far, in seconds.
    pub fn cpu_seconds(&self) -> Result<f64> {
        cpu_seconds(self.engine.pid()?)
    }

    /// Memory in RAM, in KiB.
    pub fn resident_kib(&self) -> Result<f64> {
        resident_kib(self.engine.pid()?)
    }

    /// Waits until the journeys of this many requests came since the last call, and gives their `llm_request` spans; none
    /// with tracing off.
    pub async fn journeys(&mut self, requests: usize) -> Result<Vec<Span>> {
        if self.tracing == Tracing::Off {
            return Ok(Vec::new());
        }
        let (receiver, taken) = (&self.receiver, &mut self.taken);
        wait::quietly(&format!("{requests} journeys have come"), FLUSH, async || {
            for request in receiver.take()? {
                taken.extend(traces(&request));
            }
            let found = request_spans(taken).count();
            Ok(if found >= requests { Look::Holds(()) } else { Look::NotYet(format!("{found} have come")) })
        })
        .await?;
        let spans = request_spans(&self.taken).cloned().collect();
        self.taken.clear();
        Ok(spans)
    }

    /// The receiver, for who wants what came as it came.
    pub fn receiver(&self) -> &Receiver {
        &self.receiver
    }
}

/// Our own log lines would stand between the lines about progress. The resource is as the operator gives it to a pod.
fn environment() -> [(&'static str, &'static str); 3] {
    let resource = "service.namespace=chat,service.instance.id=chat.smollm-6d5f8c9b7d-x2x8k.engine,service.version=0.1.0,\
                    sojourn.revision=7f9c2ba4e8,k8s.namespace.name=chat,k8s.pod.name=smollm-6d5f8c9b7d-x2x8k,\
                    k8s.pod.uid=5f0c7a52-6b0e-4d0e-9a57-0c1f2f6f1a11,k8s.node.name=node-1,k8s.container.name=engine,\
                    k8s.deployment.name=smollm";
    [("RUST_LOG", QUIET), (env::OTEL_SERVICE_NAME, "smollm"), (env::OTEL_RESOURCE_ATTRIBUTES, resource)]
}

fn request_spans(traces: &[Trace]) -> impl Iterator<Item = &Span> {
    traces.iter().flat_map(|trace| &trace.spans).filter(|span| span.name == LLM_REQUEST)
}
