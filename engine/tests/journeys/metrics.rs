//! What `/metrics` must show after these journeys.

use std::collections::BTreeMap;

use sojourn_contract::attribute;
use sojourn_contract::journey::{Bottleneck, FinishStatus};
use sojourn_contract::metric::{self, Metric};
use sojourn_engine::metrics::{Exposition, Metrics};
use sojourn_journey::facts::Facts;
use sojourn_journey::record::{CoreEvent, Journey};
use sojourn_journey::trace::Span;

use super::engine::MODEL;

/// Seconds by which a sum of the journeys' times may differ from that of the metrics, for each of them.
const TOLERANCE: f64 = 1e-6;

/// Values by series.
#[derive(Default)]
pub struct Expected {
    values: BTreeMap<String, f64>,
    /// A sequence was preempted so often that its journey sums some of it up, whatever the reasons.
    summed_up: bool,
}

impl Expected {
    /// Adds what a journey tells.
    pub fn add(&mut self, journey: &Journey, facts: &Facts, request: &Span) {
        let operation = request.attributes.text(attribute::OPERATION_NAME).unwrap();
        let outcome = facts.outcome.unwrap();
        let reason = facts.abort_reason.map_or("", |reason| reason.as_str());
        self.one(&metric::REQUESTS, &format!("operation=\"{operation}\",outcome=\"{outcome}\",reason=\"{reason}\""));
        if let Some(phase) = facts.abort_phase {
            self.one(&metric::ABORTS, &format!("reason=\"{reason}\",phase=\"{phase}\""));
        }
        self.more(metric::RECOMPUTED_TOKENS.series(), facts.recomputed_tokens.unwrap_or_default().into());
        self.more(of_model(&metric::NUM_PREEMPTIONS), facts.num_preemptions.into());
        for record in journey.cores.iter().flatten() {
            match record.event {
                CoreEvent::Finished(status) => {
                    self.one(&metric::SEQUENCES_FINISHED, &format!("status=\"{status}\""));
                    self.more(of_model(&metric::GENERATION_TOKENS), record.progress.decode_done.into());
                }
                CoreEvent::Preempted(reason) => self.one(&metric::PREEMPTIONS, &format!("reason=\"{reason}\"")),
                CoreEvent::Omitted(_) => self.summed_up = true,
                _ => {}
            }
        }
        self.parts(facts);
        if !journey.cores.is_empty() && journey.cores.iter().all(|core| went_well(core.last().map(|record| record.event))) {
            self.more(of_model(&metric::E2E_REQUEST_LATENCY).replace('{', "_count{"), 1.0);
            self.more(of_model(&metric::E2E_REQUEST_LATENCY).replace('{', "_sum{"), facts.e2e);
        }
    }

    fn parts(&mut self, facts: &Facts) {
        for part in Bottleneck::ALL {
            let seconds = match part {
                Bottleneck::Api => Some(facts.api),
                Bottleneck::Queue => facts.queue,
                Bottleneck::Prefill => facts.prefill,
                Bottleneck::Decode => facts.decode,
                Bottleneck::Preempted => facts.preempted,
                Bottleneck::Client => facts.client,
            };
            let series = |kind| format!("{}_{kind}{{part=\"{part}\"}}", metric::REQUEST_PART.series());
            if let Some(seconds) = seconds {
                self.more(series("count"), 1.0);
                self.more(series("sum"), seconds);
            }
        }
    }

    fn one(&mut self, metric: &Metric, labels: &str) {
        self.more(format!("{}{{{labels}}}", metric.series()), 1.0);
    }

    fn more(&mut self, series: String, value: f64) {
        *self.values.entry(series).or_default() += value;
    }

    /// What differs, as text; `journeys` of them were added.
    pub fn differences(&self, metrics: &Metrics, journeys: usize) -> Vec<String> {
        let text = metrics.encode(Exposition::Prometheus).unwrap();
        let series = text.lines().filter(|line| !line.starts_with('#')).map(|line| line.rsplit_once(' ').unwrap());
        let page: BTreeMap<&str, f64> = series.map(|(name, value)| (name, value.parse().unwrap())).collect();
        let counted: Vec<String> = self.values.keys().map(|series| name(series).to_owned()).collect();
        let shown = page.keys().copied().filter(|series| counted.iter().any(|known| known == name(series)));
        let gauges = [&metric::NUM_REQUESTS_RUNNING, &metric::NUM_REQUESTS_WAITING, &metric::KV_CACHE_USAGE].map(of_model);
        let in_flight = page.keys().copied().filter(|series| name(series) == metric::REQUESTS_IN_FLIGHT.series());
        let all = self.values.keys().map(String::as_str).chain(shown).chain(gauges.iter().map(String::as_str)).chain(in_flight);
        let mut all: Vec<&str> = all.collect();
        if self.summed_up {
            all.retain(|series| name(series) != metric::PREEMPTIONS.series());
        }
        all.sort_unstable();
        all.dedup();
        let differs = |series: &str| {
            let (told, shown) =
                (self.values.get(series).copied().unwrap_or_default(), page.get(series).copied().unwrap_or_default());
            let tolerance = if name(series).ends_with("_sum") { TOLERANCE * journeys as f64 } else { 0.0 };
            ((told - shown).abs() > tolerance).then(|| format!("{series}: the journeys say {told}, the page says {shown}"))
        };
        all.into_iter().filter_map(differs).collect()
    }
}

fn name(series: &str) -> &str {
    series.split('{').next().unwrap_or_default()
}

fn of_model(metric: &Metric) -> String {
    format!("{}{{{}=\"{MODEL}\"}}", metric.series(), metric::label::MODEL_NAME)
}

fn went_well(last: Option<CoreEvent>) -> bool {
    matches!(last, Some(CoreEvent::Finished(FinishStatus::Stopped | FinishStatus::Length)))
}
