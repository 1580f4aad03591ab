//! The way back: finds the journeys among the spans of a trace, and reads each as the [`Journey`] that it was made from.
//! Pure. It trusts no span, and judges only whether things can be read; whether they are legal is [`crate::check`]'s part.

mod events;
mod facts;
mod reader;

use sojourn_contract::attribute;
use sojourn_contract::journey::{LLM_CORE, LLM_REQUEST, PHASE_SPANS};

use self::reader::Reader;
use crate::facts::Facts;
use crate::record::Journey;
use crate::trace::{Event, Span, Trace};

pub use self::reader::Flaw;

/// The spans of one journey.
#[derive(Debug, Clone)]
pub struct Found<'a> {
    /// Its `llm_request`.
    pub request: &'a Span,
    /// Its `llm_core`s, by sequence index.
    pub cores: Vec<FoundCore<'a>>,
}

/// The spans of one sequence.
#[derive(Debug, Clone)]
pub struct FoundCore<'a> {
    /// Its `llm_core`.
    pub span: &'a Span,
    /// Its phases, by their start.
    pub phases: Vec<&'a Span>,
}

impl FoundCore<'_> {
    /// Events were left out because there were too many. Not every backend keeps the span's own count.
    pub fn lacks_events(&self) -> bool {
        self.span.dropped_events > 0 || self.span.attributes.int(attribute::DROPPED_EVENTS) > Some(0)
    }
}

/// The journeys of a trace, by their arrival.
pub fn journeys(trace: &Trace) -> Vec<Found<'_>> {
    let requests = trace.spans.iter().filter(|span| span.name == LLM_REQUEST);
    let mut found: Vec<Found<'_>> = requests.map(|request| Found { request, cores: cores(trace, request) }).collect();
    found.sort_by_key(|found| found.request.start_unix_nanos);
    found
}

fn cores<'a>(trace: &'a Trace, request: &Span) -> Vec<FoundCore<'a>> {
    let children = |parent: u64| trace.spans.iter().filter(move |span| span.parent_span_id == Some(parent));
    let mut cores: Vec<FoundCore<'_>> = Vec::new();
    for span in children(request.span_id).filter(|span| span.name == LLM_CORE) {
        let is_phase = |span: &&Span| PHASE_SPANS.contains(&span.name.as_ref());
        let mut phases: Vec<&Span> = children(span.span_id).filter(is_phase).collect();
        phases.sort_by_key(|phase| phase.start_unix_nanos);
        cores.push(FoundCore { span, phases });
    }
    cores.sort_by_key(|core| core.span.attributes.int(attribute::SEQUENCE_INDEX));
    cores
}

impl<'a> Found<'a> {
    /// Every span: the request, each sequence with its phases behind it.
    pub fn spans(&self) -> impl Iterator<Item = &'a Span> {
        let cores = self.cores.iter().flat_map(|core| std::iter::once(core.span).chain(core.phases.iter().copied()));
        std::iter::once(self.request).chain(cores)
    }

    /// The journey as it was recorded, or each flaw with the span that has it.
    pub fn journey(&self) -> Result<Journey, Vec<(&'a Span, Flaw)>> {
        let (api, mut flaws) = read_events(self.request, events::api_event);
        let mut cores = Vec::new();
        for core in &self.cores {
            let (records, found) = read_events(core.span, events::core_event);
            flaws.extend(found);
            cores.push(records);
        }
        let facts = read_facts(self.request).map_err(|found| flaws.extend(found.into_iter().map(|flaw| (self.request, flaw))));
        match facts {
            Ok(facts) if flaws.is_empty() => Ok(Journey {
                kind: facts.kind,
                parent: facts.parent,
                request_id: facts.request_id,
                queue_depth_at_arrival: facts.queue_depth_at_arrival,
                running_at_arrival: facts.running_at_arrival,
                api,
                cores,
            }),
            _ => Err(flaws),
        }
    }
}

/// The facts as they are written on a span, or why they cannot be read.
pub fn read_facts(span: &Span) -> Result<Facts, Vec<Flaw>> {
    let mut reader = Reader::of_span(span);
    match facts::facts(&mut reader) {
        Some(facts) if reader.flaws.is_empty() => Ok(facts),
        _ => Err(reader.flaws),
    }
}

/// The events of a span in time order, as far as they can be read, and what keeps the others from it.
fn read_events<T>(span: &Span, read: fn(&mut Reader<'_>, &Event) -> Option<T>) -> (Vec<T>, Vec<(&Span, Flaw)>) {
    let mut records = Vec::new();
    let mut flaws = Vec::new();
    for event in span.events_in_order() {
        let mut reader = Reader::of_event(event);
        records.extend(read(&mut reader, event));
        flaws.extend(reader.flaws.into_iter().map(|flaw| (span, flaw)));
    }
    (records, flaws)
}
