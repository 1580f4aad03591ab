//! What `/metrics` shows, always on, with tracing off too. The layers record into it and it knows none of them.
//!
//! ```text
//! http ───── arrived, ended ──▶ RequestTimer ── when both are done ──▶ requests: histograms, outcomes
//! scheduler ─ events, tokens ─▶      └──────── at once ──────────────▶ scheduler: tokens, preemptions, ends
//!      └───── step ───────────▶ Steps ───────────────────────────────▶ scheduler: steps; mfu: model FLOPs
//! ```
//! Every name, help text and label is in [`sojourn_contract::metric`]. Labels come from closed sets.

pub mod mfu;
mod parts;
pub mod requests;
pub mod scheduler;
pub mod served;
pub mod steps;
pub mod timer;

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric, prometheus_text, text};
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Metric as Encodable, Registry};
use sojourn_contract::metric::{self, Metric, label};

use crate::operation::Operation;
use crate::served::ServedSlot;
use crate::telemetry::export::counts::Counts;
use requests::Requests;
use scheduler::SchedulerMetrics;
use served::ServedModel;
use timer::RequestTimer;

/// Form of the page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exposition {
    /// Prometheus' text format 0.0.4, which everything reads.
    Prometheus,
    /// OpenMetrics 1.0.
    OpenMetrics,
}

impl Exposition {
    /// Its `Content-Type`.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Prometheus => prometheus_text::CONTENT_TYPE,
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// Everything that is counted.
pub struct Metrics {
    registry: Mutex<Registry>,
    served: ServedSlot,
    requests: Requests,
    scheduler: SchedulerMetrics,
}

impl Metrics {
    /// Metrics of an engine that will serve the slot's model; `journeys` with tracing on.
    pub fn new(served: ServedSlot, journeys: Option<&Counts>) -> Self {
        let metrics = Self {
            registry: Mutex::new(Registry::default()),
            served: served.clone(),
            requests: Requests::default(),
            scheduler: SchedulerMetrics::default(),
        };
        metrics.register(|registry| {
            metrics.requests.register(registry);
            metrics.scheduler.register(registry);
            register(registry, &metric::BUILD, Info::new([(label::VERSION, env!("CARGO_PKG_VERSION"))]));
            if let Some(counts) = journeys {
                register(registry, &metric::JOURNEYS_EXPORTED, counts.exported_journeys.clone());
                register(registry, &metric::JOURNEYS_DROPPED, counts.dropped_journeys.clone());
                register(registry, &metric::JOURNEYS_QUEUED, counts.queued.clone());
                register(registry, &metric::SPANS_EXPORTED, counts.exported_spans.clone());
                register(registry, &metric::SPANS_DROPPED, counts.dropped_spans.clone());
            }
            let (requests, scheduler) = (metrics.requests.clone(), metrics.scheduler.clone());
            registry.register_collector(Box::new(ServedModel { served, requests, scheduler }));
        });
        metrics
    }

    /// Lets another part of the engine add its own metrics.
    pub fn register(&self, add: impl FnOnce(&mut Registry)) {
        add(&mut self.registry.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// The model of this name was loaded and is warm, so many seconds after the engine's start.
    pub fn model_loaded(&self, name: &str, seconds: f64) {
        self.requests.serve(name);
        self.register(|registry| register(registry, &metric::MODEL_LOAD, ConstGauge::new(seconds)));
    }

    /// Begins to measure a request whose first byte came at `arrived`, on the engine's monotonic clock.
    pub fn request(&self, operation: Operation, arrived: f64) -> Arc<RequestTimer> {
        let model = self.served.get().map(|served| served.name.clone()).unwrap_or_default();
        Arc::new(RequestTimer::new(self.requests.clone(), self.scheduler.clone(), operation, model, arrived))
    }

    /// What the scheduler counts.
    pub fn scheduler(&self) -> &SchedulerMetrics {
        &self.scheduler
    }

    /// Says that a request has arrived (1) or ended (-1).
    pub fn in_flight(&self, operation: Operation, change: i64) {
        self.requests.in_flight(operation, change);
    }

    /// All metrics as text.
    ///
    /// # Errors
    /// A metric cannot be written in this form.
    pub fn encode(&self, exposition: Exposition) -> Result<String, fmt::Error> {
        let mut page = String::new();
        let registry = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
        match exposition {
            Exposition::Prometheus => prometheus_text::encode(&mut page, &registry)?,
            Exposition::OpenMetrics => text::encode(&mut page, &registry)?,
        }
        Ok(page)
    }
}

/// Registers a metric under the contract's name and help.
fn register(registry: &mut Registry, metric: &Metric, value: impl Encodable) {
    registry.register(metric.name, metric.help, value);
}

/// Writes series of one metric, as a collector does.
fn write<L: EncodeLabelSet, M: EncodeMetric>(
    encoder: &mut DescriptorEncoder<'_>,
    metric: &Metric,
    series: impl IntoIterator<Item = (L, M)>,
) -> fmt::Result {
    let mut series = series.into_iter().peekable();
    let Some((_, first)) = series.peek() else { return Ok(()) };
    // As the registry ends the help of what is registered.
    let help = format!("{}.", metric.help);
    let mut family = encoder.encode_descriptor(metric.name, &help, None, first.metric_type())?;
    series.try_for_each(|(labels, value)| value.encode(family.encode_family(&labels)?))
}

/// The GenAI conventions' buckets and vLLM's, which are longer, in seconds.
mod buckets {
    /// Of `gen_ai.server.request.duration`.
    pub const DURATION: [f64; 14] = [0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92];
    /// Of `gen_ai.server.time_to_first_token`.
    pub const FIRST_TOKEN: [f64; 16] =
        [0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0];
    /// Of `gen_ai.server.time_per_output_token`.
    pub const OUTPUT_TOKEN: [f64; 13] = [0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5];
    /// Of vLLM's time to the first token.
    pub const VLLM_FIRST_TOKEN: [f64; 22] = [
        0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0, 160.0,
        640.0, 2560.0,
    ];
    /// Of vLLM's inter-token latency and time per output token.
    pub const VLLM_OUTPUT_TOKEN: [f64; 19] =
        [0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0];
    /// Of vLLM's request latencies.
    pub const VLLM_REQUEST: [f64; 21] = [
        0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 50.0, 60.0, 120.0, 240.0, 480.0, 960.0, 1920.0,
        7680.0,
    ];
    /// Of a part of a request's time: the queue of an idle engine takes microseconds.
    pub const PART: [f64; 18] =
        [0.0001, 0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 40.0, 80.0, 160.0, 640.0];
    /// Of a step.
    pub const STEP: [f64; 14] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];
    /// Of numbers of tokens: 1, 2, 5 and so on.
    pub const TOKENS: [f64; 17] = [
        1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0, 2000.0, 5000.0, 10_000.0, 20_000.0, 50_000.0, 100_000.0,
        200_000.0,
    ];
}
