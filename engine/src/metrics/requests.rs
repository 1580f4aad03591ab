//! Requests that have ended: how, and where their time went.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use sojourn_contract::journey::{AbortPhase, AbortReason, Bottleneck, Outcome};
use sojourn_contract::{attribute, metric};

use super::parts::Parts;
use super::{buckets, register};
use crate::operation::Operation;

/// A request that has ended, and left the core.
pub struct Ended<'a> {
    /// What it asked for.
    pub operation: Operation,
    /// The served model's name; empty while it loads.
    pub model: &'a str,
    /// Why it did not get its answer.
    pub reason: Option<AbortReason>,
    /// Where its time went.
    pub parts: &'a Parts,
    /// All of its sequences reached a stop or the token limit.
    pub finished: bool,
    /// Tokens of its prompt.
    pub prompt_tokens: u64,
    /// Tokens of all of its sequences.
    pub output_tokens: u64,
    /// Mean seconds for each token after the first of its sequence, where there was one.
    pub time_per_output_token: Option<f64>,
}

/// Counts of requests; a clone counts into the same.
#[derive(Clone)]
pub struct Requests {
    ended: Family<EndedLabels, Counter>,
    aborts: Family<AbortLabels, Counter>,
    in_flight: Family<OperationLabels, Gauge>,
    parts: Family<PartLabels, Histogram, fn() -> Histogram>,
    duration: Family<DurationLabels, Histogram, fn() -> Histogram>,
    time_to_first_token: Family<GenAiLabels, Histogram, fn() -> Histogram>,
    time_per_output_token: Family<GenAiLabels, Histogram, fn() -> Histogram>,
    /// Under vLLM's names, which carry the model's name.
    pub(super) vllm: Vllm,
}

/// Of requests whose sequences all finished.
#[derive(Clone)]
pub(super) struct Vllm {
    pub e2e: Histogram,
    pub queue: Histogram,
    pub prefill: Histogram,
    pub decode: Histogram,
    pub inference: Histogram,
    pub time_per_output_token: Histogram,
    pub prompt_tokens: Histogram,
    pub generation_tokens: Histogram,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct EndedLabels {
    operation: &'static str,
    outcome: &'static str,
    reason: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct AbortLabels {
    reason: &'static str,
    phase: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OperationLabels {
    operation: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PartLabels {
    part: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct GenAiLabels {
    gen_ai_operation_name: &'static str,
    gen_ai_provider_name: &'static str,
    gen_ai_request_model: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DurationLabels {
    gen_ai_operation_name: &'static str,
    gen_ai_provider_name: &'static str,
    gen_ai_request_model: String,
    error_type: &'static str,
}

impl Default for Requests {
    fn default() -> Self {
        let requests = Self {
            ended: Family::default(),
            aborts: Family::default(),
            in_flight: Family::default(),
            parts: Family::new_with_constructor(|| Histogram::new(buckets::PART)),
            duration: Family::new_with_constructor(|| Histogram::new(buckets::DURATION)),
            time_to_first_token: Family::new_with_constructor(|| Histogram::new(buckets::FIRST_TOKEN)),
            time_per_output_token: Family::new_with_constructor(|| Histogram::new(buckets::OUTPUT_TOKEN)),
            vllm: Vllm {
                e2e: Histogram::new(buckets::VLLM_REQUEST),
                queue: Histogram::new(buckets::VLLM_REQUEST),
                prefill: Histogram::new(buckets::VLLM_REQUEST),
                decode: Histogram::new(buckets::VLLM_REQUEST),
                inference: Histogram::new(buckets::VLLM_REQUEST),
                time_per_output_token: Histogram::new(buckets::VLLM_OUTPUT_TOKEN),
                prompt_tokens: Histogram::new(buckets::TOKENS),
                generation_tokens: Histogram::new(buckets::TOKENS),
            },
        };
        requests.begin_at_zero();
        requests
    }
}

impl Requests {
    /// Series of small closed sets are there from the start: a rate needs a zero to rise from.
    fn begin_at_zero(&self) {
        for operation in Operation::ALL {
            self.in_flight(operation, 0);
            let reasons = AbortReason::ALL.iter().copied().map(Some);
            for reason in std::iter::once(None).chain(reasons) {
                drop(self.ended.get_or_create(&ended_labels(operation, reason)));
            }
        }
        for reason in AbortReason::ALL {
            for phase in AbortPhase::ALL {
                drop(self.aborts.get_or_create(&AbortLabels { reason: reason.as_str(), phase: phase.as_str() }));
            }
        }
        for part in Bottleneck::ALL {
            drop(self.parts.get_or_create(&PartLabels { part: part.as_str() }));
        }
    }

    /// The same for what answered requests are counted in, once the model's name is known.
    pub(super) fn serve(&self, model: &str) {
        for operation in Operation::ALL {
            drop(self.duration.get_or_create(&duration_labels(operation, model, None)));
            drop(self.time_to_first_token.get_or_create(&gen_ai_labels(operation, model)));
            drop(self.time_per_output_token.get_or_create(&gen_ai_labels(operation, model)));
        }
    }

    /// Adds them to the page.
    pub(super) fn register(&self, registry: &mut Registry) {
        register(registry, &metric::REQUESTS, self.ended.clone());
        register(registry, &metric::ABORTS, self.aborts.clone());
        register(registry, &metric::REQUESTS_IN_FLIGHT, self.in_flight.clone());
        register(registry, &metric::REQUEST_PART, self.parts.clone());
        register(registry, &metric::REQUEST_DURATION, self.duration.clone());
        register(registry, &metric::TIME_TO_FIRST_TOKEN, self.time_to_first_token.clone());
        register(registry, &metric::TIME_PER_OUTPUT_TOKEN, self.time_per_output_token.clone());
    }

    pub(super) fn in_flight(&self, operation: Operation, change: i64) {
        self.in_flight.get_or_create(&OperationLabels { operation: operation.as_str() }).inc_by(change);
    }

    /// Counts a request that has ended.
    pub(super) fn count(&self, ended: &Ended<'_>) {
        self.ended.get_or_create(&ended_labels(ended.operation, ended.reason)).inc();
        if let Some(reason) = ended.reason {
            let phase = ended.parts.abort_phase().as_str();
            self.aborts.get_or_create(&AbortLabels { reason: reason.as_str(), phase }).inc();
        }
        for part in Bottleneck::ALL {
            if let Some(seconds) = ended.parts.seconds_in(*part) {
                self.parts.get_or_create(&PartLabels { part: part.as_str() }).observe(seconds);
            }
        }
        self.count_gen_ai(ended);
        if ended.finished {
            self.vllm.count(ended);
        }
    }

    fn count_gen_ai(&self, ended: &Ended<'_>) {
        let labels = duration_labels(ended.operation, ended.model, ended.reason);
        self.duration.get_or_create(&labels).observe(ended.parts.duration());
        // The conventions' other two are of successful responses.
        if ended.reason.is_some() {
            return;
        }
        let labels = gen_ai_labels(ended.operation, ended.model);
        if let Some(seconds) = ended.parts.time_to_first_token() {
            self.time_to_first_token.get_or_create(&labels).observe(seconds);
        }
        if let Some(seconds) = ended.time_per_output_token {
            self.time_per_output_token.get_or_create(&labels).observe(seconds);
        }
    }
}

impl Vllm {
    fn count(&self, ended: &Ended<'_>) {
        let seconds_in = |part| ended.parts.seconds_in(part).unwrap_or(0.0);
        let (prefill, decode) = (seconds_in(Bottleneck::Prefill), seconds_in(Bottleneck::Decode));
        self.e2e.observe(ended.parts.e2e());
        self.queue.observe(seconds_in(Bottleneck::Queue));
        self.prefill.observe(prefill);
        self.decode.observe(decode);
        self.inference.observe(prefill + decode);
        self.prompt_tokens.observe(ended.prompt_tokens as f64);
        self.generation_tokens.observe(ended.output_tokens as f64);
        if let Some(seconds) = ended.time_per_output_token {
            self.time_per_output_token.observe(seconds);
        }
    }
}

fn ended_labels(operation: Operation, reason: Option<AbortReason>) -> EndedLabels {
    let outcome = reason.map_or(Outcome::Ok, AbortReason::outcome);
    EndedLabels { operation: operation.as_str(), outcome: outcome.as_str(), reason: reason.map_or("", AbortReason::as_str) }
}

fn gen_ai_labels(operation: Operation, model: &str) -> GenAiLabels {
    GenAiLabels {
        gen_ai_operation_name: operation.as_str(),
        gen_ai_provider_name: attribute::PROVIDER,
        gen_ai_request_model: model.to_owned(),
    }
}

fn duration_labels(operation: Operation, model: &str, reason: Option<AbortReason>) -> DurationLabels {
    DurationLabels {
        gen_ai_operation_name: operation.as_str(),
        gen_ai_provider_name: attribute::PROVIDER,
        gen_ai_request_model: model.to_owned(),
        error_type: reason.map_or("", AbortReason::as_str),
    }
}
