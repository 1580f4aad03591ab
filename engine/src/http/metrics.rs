//! `/metrics` in OpenMetrics text: counters and histograms of requests, the scheduler's load at the moment of the scrape, and
//! what became of journeys. Always on, with tracing off too. Labels come from closed sets.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::header;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use sojourn_contract::journey::{AbortReason, Outcome};
use sojourn_contract::{attribute, metric, path};

use super::Api;
use super::error::ApiError;
use crate::served::ServedSlot;
use crate::telemetry::export::counts::Counts;

/// What a request asks for, in the GenAI conventions' words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// `/v1/chat/completions`
    Chat,
    /// `/v1/completions`
    TextCompletion,
}

impl Operation {
    /// The operation of a path that makes journeys.
    pub fn of(path: &str) -> Option<Self> {
        [Self::Chat, Self::TextCompletion].into_iter().find(|operation| operation.path() == path)
    }

    /// Its path.
    pub fn path(self) -> &'static str {
        match self {
            Self::Chat => path::CHAT_COMPLETIONS,
            Self::TextCompletion => path::COMPLETIONS,
        }
    }

    /// `gen_ai.operation.name`
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Chat => "chat",
            Self::TextCompletion => "text_completion",
        }
    }
}

/// A request that has ended.
#[derive(Debug, Clone, Copy)]
pub struct Ended {
    /// What it asked for.
    pub operation: Operation,
    /// Why it did not get its answer.
    pub reason: Option<AbortReason>,
    /// From its first byte to its end.
    pub seconds: f64,
    /// From its first byte to the first token.
    pub first_token: Option<f64>,
    /// Tokens of its prompt.
    pub prompt_tokens: u64,
    /// Tokens generated.
    pub output_tokens: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    operation: &'static str,
    outcome: &'static str,
    reason: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct GenAiLabels {
    gen_ai_operation_name: &'static str,
    gen_ai_provider_name: &'static str,
    error_type: &'static str,
}

type Histograms = Family<GenAiLabels, Histogram, fn() -> Histogram>;

/// Everything that is counted.
pub struct Metrics {
    registry: Mutex<Registry>,
    requests: Family<RequestLabels, Counter>,
    prompt_tokens: Counter,
    generation_tokens: Counter,
    duration: Histograms,
    time_to_first_token: Histograms,
    time_per_output_token: Histograms,
}

impl Metrics {
    /// Registers what the API layer counts; `journeys` with tracing on.
    pub fn new(served: ServedSlot, journeys: Option<&Counts>) -> Self {
        let metrics = Self {
            registry: Mutex::new(Registry::default()),
            requests: Family::default(),
            prompt_tokens: Counter::default(),
            generation_tokens: Counter::default(),
            duration: Family::new_with_constructor(|| Histogram::new(DURATIONS)),
            time_to_first_token: Family::new_with_constructor(|| Histogram::new(FIRST_TOKENS)),
            time_per_output_token: Family::new_with_constructor(|| Histogram::new(OUTPUT_TOKENS)),
        };
        metrics.register(|registry| {
            registry.register(metric::REQUESTS, "Requests that have ended", metrics.requests.clone());
            registry.register(metric::PROMPT_TOKENS, "Prompt tokens of admitted requests", metrics.prompt_tokens.clone());
            registry.register(metric::GENERATION_TOKENS, "Generated tokens", metrics.generation_tokens.clone());
            registry.register(metric::REQUEST_DURATION, "First byte to last, in seconds", metrics.duration.clone());
            let help = "First byte to first token, in seconds";
            registry.register(metric::TIME_TO_FIRST_TOKEN, help, metrics.time_to_first_token.clone());
            let help = "Time for each output token after the first, in seconds";
            registry.register(metric::TIME_PER_OUTPUT_TOKEN, help, metrics.time_per_output_token.clone());
            registry.register_collector(Box::new(SchedulerLoad(served)));
            if let Some(counts) = journeys {
                register_journeys(registry, counts);
            }
        });
        metrics
    }

    /// Lets another part of the engine add its own metrics.
    pub fn register(&self, add: impl FnOnce(&mut Registry)) {
        add(&mut self.registry.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Counts a request that has ended.
    pub fn request_ended(&self, ended: &Ended) {
        let outcome = ended.reason.map_or(Outcome::Ok, AbortReason::outcome);
        let reason = ended.reason.map_or("", AbortReason::as_str);
        let labels = RequestLabels { operation: ended.operation.as_str(), outcome: outcome.as_str(), reason };
        self.requests.get_or_create(&labels).inc();
        self.prompt_tokens.inc_by(ended.prompt_tokens);
        self.generation_tokens.inc_by(ended.output_tokens);
        let labels = GenAiLabels {
            gen_ai_operation_name: ended.operation.as_str(),
            gen_ai_provider_name: attribute::PROVIDER,
            error_type: reason,
        };
        self.duration.get_or_create(&labels).observe(ended.seconds);
        let Some(first_token) = ended.first_token else { return };
        self.time_to_first_token.get_or_create(&labels).observe(first_token);
        if ended.output_tokens > 1 {
            let each = (ended.seconds - first_token) / (ended.output_tokens - 1) as f64;
            self.time_per_output_token.get_or_create(&labels).observe(each);
        }
    }

    /// All metrics as OpenMetrics text.
    pub fn encode(&self) -> Result<String, fmt::Error> {
        let mut page = String::new();
        text::encode(&mut page, &self.registry.lock().unwrap_or_else(PoisonError::into_inner))?;
        Ok(page)
    }
}

/// Buckets of the GenAI conventions, in seconds.
const DURATIONS: [f64; 14] = [0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92];
const FIRST_TOKENS: [f64; 16] = [0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0];
const OUTPUT_TOKENS: [f64; 13] = [0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5];

fn register_journeys(registry: &mut Registry, counts: &Counts) {
    let exported = counts.exported_journeys.clone();
    registry.register(metric::JOURNEYS_EXPORTED, "Journeys that the collector took", exported);
    registry.register(metric::SPANS_EXPORTED, "Spans that the collector took", counts.exported_spans.clone());
    let help = "Journeys that the collector did not get, or perhaps not whole";
    registry.register(metric::JOURNEYS_DROPPED, help, counts.dropped_journeys.clone());
    registry.register(metric::SPANS_DROPPED, "Spans that the collector did not get", counts.dropped_spans.clone());
}

/// Reads the scheduler when somebody looks, so that the numbers are never late.
struct SchedulerLoad(ServedSlot);

impl fmt::Debug for SchedulerLoad {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SchedulerLoad")
    }
}

impl Collector for SchedulerLoad {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let Some(served) = self.0.get() else { return Ok(()) };
        let load = served.scheduler.load();
        let (capacity, held) = served.scheduler.kv_usage();
        let labels = [("model_name", served.name.as_str())];
        let mut gauge = |name: &str, help: &str, value: f64| {
            let gauge = ConstGauge::new(value);
            let mut family = encoder.encode_descriptor(name, help, None, gauge.metric_type())?;
            gauge.encode(family.encode_family(&labels)?)
        };
        gauge(metric::NUM_REQUESTS_RUNNING, "Sequences in the running set", load.running as f64)?;
        gauge(metric::NUM_REQUESTS_WAITING, "Sequences in the waiting queue", load.waiting as f64)?;
        let usage = if capacity == 0 { 0.0 } else { held as f64 / capacity as f64 };
        gauge(metric::KV_CACHE_USAGE, "Part of the KV cache that is held, 0 to 1", usage)
    }
}

/// `GET /metrics`
pub async fn scrape(State(api): State<Arc<Api>>) -> Response {
    const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    match api.metrics.encode() {
        Ok(page) => ([(header::CONTENT_TYPE, OPENMETRICS)], page).into_response(),
        Err(error) => ApiError::generation(format!("the metrics cannot be written: {error}")).into_response(),
    }
}
