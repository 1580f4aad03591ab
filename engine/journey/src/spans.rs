//! Which spans a journey becomes: their names, scopes, kinds, bounds, attributes, events and status. The engine only converts
//! what stands here into its exporter's types. Pure.

use sojourn_contract::journey::{Detail, LLM_CORE, LLM_REQUEST, Outcome, SCOPE_API, SCOPE_SCHEDULER, ScheduleKind};
use sojourn_contract::{attribute, event};

use crate::facts::Facts;
use crate::record::{ApiEvent, ApiRecord, CoreEvent, CoreRecord, Journey, Stamp};
use crate::timeline::{self, Segment};
use crate::trace::{Attributes, Event, Span, SpanKind, Status, Value};

/// What the spans of a journey carry beside the journey.
#[derive(Debug, Clone, PartialEq)]
pub struct Frame {
    /// The caller's trace, or a new one.
    pub trace_id: u128,
    /// Id of `llm_request`, which the answer's headers name.
    pub span_id: u64,
    /// The caller's span.
    pub parent_span_id: Option<u64>,
    /// The caller's W3C `tracestate`, empty without one.
    pub trace_state: String,
    /// Which spans.
    pub detail: Detail,
    /// For `llm_request` alone: `gen_ai.*`, `http.*`, `url.*`.
    pub request_attributes: Attributes,
    /// For every span: the caller's baggage members.
    pub shared_attributes: Attributes,
}

/// The spans of `journey`: `llm_request` first, then each `llm_core` with its phases behind it. `next_id` gives the ids of all
/// but the first.
pub fn describe(journey: &Journey, frame: &Frame, mut next_id: impl FnMut() -> u64) -> Vec<Span> {
    let facts = journey.facts();
    let common = common_attributes(&facts, frame);
    let mut spans = vec![request_span(journey, frame, &common)];
    for (index, core) in journey.cores.iter().enumerate() {
        let mut attributes = common.clone();
        attributes.push(attribute::SEQUENCE_INDEX, Value::Int(index as i64));
        let dropped_events = omitted_events(core);
        if dropped_events > 0 {
            attributes.push(attribute::DROPPED_EVENTS, Value::Int(dropped_events.into()));
        }
        let span = Span {
            span_id: next_id(),
            parent_span_id: Some(frame.span_id),
            status: status(journey),
            dropped_events,
            ..core_span(core, frame, attributes)
        };
        let phases = phases(core, frame.detail);
        let phases: Vec<Span> = phases.iter().map(|phase| Span { span_id: next_id(), ..phase_span(phase, &span) }).collect();
        spans.push(span);
        spans.extend(phases);
    }
    spans
}

/// How many spans [`describe`] makes.
pub fn count(journey: &Journey, detail: Detail) -> usize {
    1 + journey.cores.iter().map(|core| 1 + phases(core, detail).len()).sum::<usize>()
}

/// The parts of a sequence's time that become spans.
fn phases(core: &[CoreRecord], detail: Detail) -> Vec<Segment> {
    match detail {
        Detail::Phases => timeline::of_sequence_where_known(core),
        Detail::Journey => Vec::new(),
    }
}

fn common_attributes(facts: &Facts, frame: &Frame) -> Attributes {
    let mut attributes: Attributes = facts.attributes().into_iter().collect();
    if let Some(error_type) = facts.error_type(frame.request_attributes.int(attribute::HTTP_RESPONSE_STATUS_CODE)) {
        attributes.push(attribute::ERROR_TYPE, error_type);
    }
    attributes.extend(frame.shared_attributes.0.iter().cloned());
    attributes
}

fn request_span(journey: &Journey, frame: &Frame, common: &Attributes) -> Span {
    let mut attributes = common.clone();
    attributes.extend(frame.request_attributes.0.iter().cloned());
    Span {
        trace_id: frame.trace_id,
        span_id: frame.span_id,
        parent_span_id: frame.parent_span_id,
        trace_state: frame.trace_state.clone(),
        name: LLM_REQUEST.into(),
        kind: SpanKind::Server,
        scope: SCOPE_API.into(),
        schema_url: Some(attribute::SCHEMA_URL.into()),
        start_unix_nanos: nanos(journey.arrived()),
        end_unix_nanos: nanos(journey.last()),
        attributes,
        events: journey.api.iter().map(api_event).collect(),
        status: status(journey),
        ..Span::default()
    }
}

fn core_span(core: &[CoreRecord], frame: &Frame, attributes: Attributes) -> Span {
    Span {
        trace_id: frame.trace_id,
        trace_state: frame.trace_state.clone(),
        name: LLM_CORE.into(),
        kind: SpanKind::Internal,
        scope: SCOPE_SCHEDULER.into(),
        start_unix_nanos: nanos(core.first().map(|record| record.at)),
        end_unix_nanos: nanos(core.last().map(|record| record.at)),
        attributes,
        events: core.iter().filter_map(core_event).collect(),
        ..Span::default()
    }
}

fn phase_span(phase: &Segment, core: &Span) -> Span {
    Span {
        trace_id: core.trace_id,
        parent_span_id: Some(core.span_id),
        trace_state: core.trace_state.clone(),
        name: phase.part.as_str().into(),
        kind: SpanKind::Internal,
        scope: SCOPE_SCHEDULER.into(),
        start_unix_nanos: phase.from.unix_nanos,
        end_unix_nanos: phase.to.unix_nanos,
        attributes: core.attributes.clone(),
        ..Span::default()
    }
}

/// How many events of a sequence were too many to keep; they are counted on its span, and in its [`Span::dropped_events`].
fn omitted_events(core: &[CoreRecord]) -> u32 {
    let omitted = |record: &CoreRecord| match record.event {
        CoreEvent::Omitted(omitted) => omitted.events,
        _ => 0,
    };
    core.iter().map(omitted).fold(0, u32::saturating_add)
}

/// Error when the fault is ours, with what ABORTED says; a rejection or an abort is not one (semantic conventions for servers).
fn status(journey: &Journey) -> Status {
    let aborted = journey.api.iter().find_map(|record| match &record.event {
        ApiEvent::Aborted { reason, error } => Some((reason.outcome(), error)),
        _ => None,
    });
    match aborted {
        Some((Outcome::Error, error)) => Status::Error(error.clone()),
        _ => Status::Unset,
    }
}

fn api_event(record: &ApiRecord) -> Event {
    let mut attributes = Attributes::default();
    attributes.push(attribute::TS_MONOTONIC, Value::Float(record.at.monotonic));
    let name = match &record.event {
        ApiEvent::Arrived => event::ARRIVED,
        ApiEvent::HandoffToCore => event::HANDOFF_TO_CORE,
        ApiEvent::FirstResponseFromCore => event::FIRST_RESPONSE_FROM_CORE,
        ApiEvent::Departed => event::DEPARTED,
        ApiEvent::Aborted { reason, error } => {
            attributes.push(attribute::REASON, reason.as_str());
            attributes.push(attribute::ERROR, error.clone());
            event::ABORTED
        }
    };
    Event { name: name.into(), unix_nanos: record.at.unix_nanos, attributes }
}

fn core_event(record: &CoreRecord) -> Option<Event> {
    let progress = &record.progress;
    let mut attributes: Attributes = [
        (attribute::TS_MONOTONIC, Value::Float(record.at.monotonic)),
        (attribute::PHASE, Value::from(progress.phase.as_str())),
        (attribute::PREFILL_DONE_TOKENS, Value::Int(progress.prefill_done.into())),
        (attribute::PREFILL_TOTAL_TOKENS, Value::Int(progress.prefill_total.into())),
        (attribute::DECODE_DONE_TOKENS, Value::Int(progress.decode_done.into())),
        (attribute::DECODE_MAX_TOKENS, Value::Int(progress.decode_max.into())),
        (attribute::SCHEDULER_STEP, Value::Int(i64::try_from(progress.step).unwrap_or(i64::MAX))),
        (attribute::NUM_PREEMPTIONS, Value::Int(progress.num_preemptions.into())),
    ]
    .into_iter()
    .collect();
    let name = match record.event {
        CoreEvent::Queued => event::QUEUED,
        CoreEvent::Scheduled { kind, cached_tokens, recomputed_tokens } => {
            attributes.push(attribute::SCHEDULE_KIND, kind.as_str());
            if kind == ScheduleKind::Resume {
                attributes.push(attribute::CACHED_TOKENS, Value::Int(cached_tokens.into()));
                attributes.push(attribute::RECOMPUTED_TOKENS, Value::Int(recomputed_tokens.into()));
            }
            event::SCHEDULED
        }
        CoreEvent::FirstToken => event::FIRST_TOKEN,
        CoreEvent::Preempted(reason) => {
            attributes.push(attribute::PREEMPT_REASON, reason.as_str());
            event::PREEMPTED
        }
        CoreEvent::Finished(status) => {
            attributes.push(attribute::FINISH_STATUS, status.as_str());
            event::FINISHED
        }
        CoreEvent::Omitted(_) => return None,
    };
    Some(Event { name: name.into(), unix_nanos: record.at.unix_nanos, attributes })
}

fn nanos(stamp: Option<Stamp>) -> u64 {
    stamp.map_or(0, |stamp| stamp.unix_nanos)
}
