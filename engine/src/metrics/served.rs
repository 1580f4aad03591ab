//! What carries the served model's name: vLLM's metrics. Read when somebody looks, so that gauges are never late.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::info::Info;
use sojourn_contract::journey::FinishStatus;
use sojourn_contract::metric::{self, Metric, label};

use super::requests::Requests;
use super::scheduler::{SchedulerMetrics, StatusLabels};
use super::write;
use crate::served::{Served, ServedSlot};

/// Everything under vLLM's names; nothing while the model loads.
pub struct ServedModel {
    /// The model, once it is loaded.
    pub served: ServedSlot,
    /// Requests that have ended.
    pub requests: Requests,
    /// What the scheduler did.
    pub scheduler: SchedulerMetrics,
}

impl fmt::Debug for ServedModel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ServedModel")
    }
}

impl Collector for ServedModel {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let Some(served) = self.served.get() else { return Ok(()) };
        write_gauges(&mut encoder, served)?;
        let labels = [(label::MODEL_NAME, served.name.as_str())];
        for (metric, value) in self.values() {
            write(&mut encoder, metric, [(labels, Borrowed(value))])?;
        }
        let finished = FinishStatus::ALL.iter().map(|status| {
            let count = self.scheduler.0.finished.get_or_create(&StatusLabels { status: status.as_str() }).clone();
            let reason = (label::FINISHED_REASON, finished_reason(*status));
            ([(label::MODEL_NAME, served.name.as_str()), reason], count)
        });
        write(&mut encoder, &metric::REQUEST_SUCCESS, finished)
    }
}

impl ServedModel {
    /// All that is labelled with nothing but the model's name.
    fn values(&self) -> [(&'static Metric, &dyn EncodeMetric); 15] {
        let (counts, requests) = (&self.scheduler.0, &self.requests.vllm);
        [
            (&metric::PROMPT_TOKENS, &counts.prompt_tokens),
            (&metric::GENERATION_TOKENS, &counts.generation_tokens),
            (&metric::PREFIX_CACHE_QUERIES, &counts.prefix_queries),
            (&metric::PREFIX_CACHE_HITS, &counts.prefix_hits),
            (&metric::NUM_PREEMPTIONS, &counts.preempted),
            (&metric::VLLM_TIME_TO_FIRST_TOKEN, &counts.first_token),
            (&metric::INTER_TOKEN_LATENCY, &counts.inter_token),
            (&metric::REQUEST_TIME_PER_OUTPUT_TOKEN, &requests.time_per_output_token),
            (&metric::E2E_REQUEST_LATENCY, &requests.e2e),
            (&metric::REQUEST_QUEUE_TIME, &requests.queue),
            (&metric::REQUEST_PREFILL_TIME, &requests.prefill),
            (&metric::REQUEST_DECODE_TIME, &requests.decode),
            (&metric::REQUEST_INFERENCE_TIME, &requests.inference),
            (&metric::REQUEST_PROMPT_TOKENS, &requests.prompt_tokens),
            (&metric::REQUEST_GENERATION_TOKENS, &requests.generation_tokens),
        ]
    }
}

fn write_gauges(encoder: &mut DescriptorEncoder<'_>, served: &Served) -> fmt::Result {
    let load = served.scheduler.load();
    let (capacity, held) = served.scheduler.kv_usage();
    let usage = if capacity == 0 { 0.0 } else { held as f64 / capacity as f64 };
    let labels = [(label::MODEL_NAME, served.name.as_str())];
    let mut gauge = |metric: &Metric, value: f64| write(encoder, metric, [(labels, ConstGauge::new(value))]);
    gauge(&metric::NUM_REQUESTS_RUNNING, load.running as f64)?;
    gauge(&metric::NUM_REQUESTS_WAITING, load.waiting as f64)?;
    gauge(&metric::KV_CACHE_USAGE, usage)?;
    gauge(&metric::STEP_STALLED, served.scheduler.stall().map_or(0.0, |stall| stall.seconds))?;
    let blocks = served.scheduler.kv_blocks();
    let size = [(label::BLOCK_SIZE, blocks.tokens), (label::NUM_GPU_BLOCKS, blocks.count)];
    write(encoder, &metric::CACHE_CONFIG, [(labels, Info::new(size))])
}

/// A metric that somebody else owns.
struct Borrowed<'a>(&'a dyn EncodeMetric);

impl EncodeMetric for Borrowed<'_> {
    fn encode(&self, encoder: prometheus_client::encoding::MetricEncoder<'_>) -> fmt::Result {
        self.0.encode(encoder)
    }

    fn metric_type(&self) -> prometheus_client::metrics::MetricType {
        self.0.metric_type()
    }
}

/// vLLM's word for how a sequence ended.
fn finished_reason(status: FinishStatus) -> &'static str {
    match status {
        FinishStatus::Stopped => "stop",
        FinishStatus::Length => "length",
        FinishStatus::Aborted => "abort",
        FinishStatus::Error => "error",
    }
}
