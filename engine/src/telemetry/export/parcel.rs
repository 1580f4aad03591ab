//! What travels as a whole: a journey, or the trace of the engine's start.

use sojourn_contract::journey::{Detail, Kind};
use sojourn_journey::record::{ApiEvent, ApiRecord, CoreRecord, Journey};
use sojourn_journey::spans::{count, describe};
use sojourn_journey::startup::{self, Startup};
use sojourn_journey::trace::{Attributes, Span, Text, Value};

use super::counts::Tally;
use crate::telemetry::context::{RequestContext, new_span_id, new_trace_id};

/// What travels as a whole.
pub enum Parcel {
    /// A request's journey.
    Journey(Box<(Journey, RequestContext)>),
    /// The engine's start.
    Startup(Box<Startup>),
}

impl Parcel {
    /// Whether it proves the path: it goes before journeys of requests, which make room for it.
    pub fn goes_first(&self) -> bool {
        match self {
            Self::Journey(parcel) => parcel.0.kind != Kind::Request,
            Self::Startup(_) => true,
        }
    }

    /// What it counts for.
    pub fn tally(&self, detail: Detail) -> Tally {
        match self {
            Self::Journey(parcel) => Tally { journeys: 1, spans: count(&parcel.0, detail) as u64 },
            Self::Startup(startup) => Tally { journeys: 0, spans: 1 + startup.stages.len() as u64 },
        }
    }

    /// About how many bytes of memory it holds.
    pub fn bytes(&self) -> usize {
        match self {
            Self::Journey(parcel) => {
                let (journey, context) = parcel.as_ref();
                let api = journey.api.iter().map(|record| size_of::<ApiRecord>() + text_of(&record.event)).sum::<usize>();
                let cores = journey.cores.iter().map(|core| size_of_val(core) + core.capacity() * size_of::<CoreRecord>());
                let texts = journey.request_id.len() + context.trace_state.len();
                let own = size_of::<(Journey, RequestContext)>();
                own + api + cores.sum::<usize>() + texts + held(&context.attributes) + held(&context.shared)
            }
            Self::Startup(startup) => {
                let stages = startup.stages.iter().map(|stage| size_of_val(stage) + held(&stage.attributes));
                size_of::<Startup>() + stages.sum::<usize>() + held(&startup.attributes)
            }
        }
    }

    /// Its spans, with new ids for those that have none yet.
    pub fn describe(self, detail: Detail) -> Vec<Span> {
        match self {
            Self::Journey(parcel) => {
                let (journey, context) = *parcel;
                describe(&journey, &context.into_frame(detail), new_span_id)
            }
            Self::Startup(start) => startup::describe(&start, new_trace_id(), new_span_id),
        }
    }
}

fn text_of(event: &ApiEvent) -> usize {
    if let ApiEvent::Aborted { error, .. } = event { error.len() } else { 0 }
}

fn held(attributes: &Attributes) -> usize {
    attributes.0.iter().map(|(name, value)| size_of::<(Text, Value)>() + owned(name) + value_bytes(value)).sum()
}

fn owned(text: &Text) -> usize {
    if let Text::Owned(text) = text { text.len() } else { 0 }
}

fn value_bytes(value: &Value) -> usize {
    match value {
        Value::Bool(_) | Value::Int(_) | Value::Float(_) => 0,
        Value::String(text) => owned(text),
        Value::Strings(texts) => texts.iter().map(|text| size_of::<String>() + text.len()).sum(),
        Value::Other(json) => json.len(),
    }
}
