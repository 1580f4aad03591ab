//! What journeys say of their requests: the facts on their spans and the progress on their events.

use std::collections::BTreeMap;

use sojourn_contract::journey::{Bottleneck, LLM_CORE, LLM_REQUEST, ScheduleKind};
use sojourn_contract::{attribute, event};
use sojourn_journey::trace::{Attributes, Span, Trace, Value};

/// A request.
#[derive(Debug, Clone)]
pub struct Request {
    /// Its `llm_request`'s attributes.
    pub facts: Attributes,
    /// The sequences' events, each with its name.
    pub events: Vec<(String, Attributes)>,
}

/// Every request of these traces.
pub fn requests(traces: &[Trace]) -> Vec<Request> {
    let spans = || traces.iter().flat_map(|trace| &trace.spans);
    let of = |request: &Span| Request {
        facts: request.attributes.clone(),
        events: spans()
            .filter(|span| span.name == LLM_CORE && span.parent_span_id == Some(request.span_id))
            .flat_map(|core| &core.events)
            .map(|event| (event.name.to_string(), event.attributes.clone()))
            .collect(),
    };
    spans().filter(|span| span.name == LLM_REQUEST).map(of).collect()
}

impl Request {
    /// A fact that is a word; empty where it is absent.
    pub fn word(&self, fact: &str) -> &str {
        self.facts.text(fact).unwrap_or_default()
    }

    /// A fact in seconds.
    pub fn seconds(&self, fact: &str) -> Option<f64> {
        self.facts.float(fact)
    }

    /// A number of tokens, 0 where it is absent.
    pub fn tokens(&self, fact: &str) -> f64 {
        self.facts.int(fact).unwrap_or(0) as f64
    }

    /// A number on each event of this name, added up.
    pub fn sum(&self, event: &str, number: &str) -> f64 {
        let of_event = self.events.iter().filter(|(name, _)| name == event);
        of_event.map(|(_, attributes)| attributes.int(number).unwrap_or(0) as f64).sum()
    }

    /// Prompt tokens of sequences that began to run.
    pub fn prompt_begun(&self) -> f64 {
        let first = Some(ScheduleKind::First.as_str());
        let begun = self.events.iter().filter(|(_, attributes)| attributes.text(attribute::SCHEDULE_KIND) == first);
        begun.map(|(_, attributes)| attributes.int(attribute::PREFILL_TOTAL_TOKENS).unwrap_or(0) as f64).sum()
    }

    /// A part of its time, where it had one.
    pub fn part(&self, part: Bottleneck) -> Option<f64> {
        self.seconds(match part {
            Bottleneck::Api => attribute::API_SECONDS,
            Bottleneck::Queue => attribute::TIME_IN_QUEUE,
            Bottleneck::Prefill => attribute::TIME_IN_MODEL_PREFILL,
            Bottleneck::Decode => attribute::TIME_IN_MODEL_DECODE,
            Bottleneck::Preempted => attribute::PREEMPTED_SECONDS,
            Bottleneck::Client => attribute::CLIENT_SECONDS,
        })
    }
}

/// Preemptions of all sequences by reason.
pub fn preemptions(requests: &[Request]) -> BTreeMap<String, usize> {
    let mut reasons = BTreeMap::new();
    for (_, attributes) in requests.iter().flat_map(|request| &request.events).filter(|(name, _)| name == event::PREEMPTED) {
        let reason = attributes.get(attribute::PREEMPT_REASON).map(Value::to_string).unwrap_or_default();
        *reasons.entry(reason).or_default() += 1;
    }
    reasons
}
