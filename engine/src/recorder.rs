//! Where the layers write a request's journey down. The API layer adds its events as they happen; the scheduler keeps a
//! sequence's events in a vector of its own and hands them over once, when the sequence ends, so that a step never takes
//! this lock. When both sides are done, the whole journey goes to the sink.

use std::sync::{Arc, Mutex, PoisonError};

use sojourn_journey::record::{ApiEvent, ApiRecord, CoreRecord, Journey, Stamp};

/// Takes complete journeys. It never blocks and never fails: what it cannot take it counts.
pub trait Sink<C>: Send + Sync {
    /// Takes a journey with what the API layer knows of its trace.
    fn complete(&self, journey: Journey, context: C);

    /// Hears of a journey that begins.
    fn began(&self, recorder: &Arc<Recorder>) {
        // Most wait for the end.
        let _ = recorder;
    }
}

/// Everything besides events that the export needs to know of a request.
pub use crate::telemetry::context::RequestContext;

/// One request's journey in the making.
pub struct Recorder {
    span_id: u64,
    state: Mutex<Option<State>>,
    sink: Arc<dyn Sink<RequestContext>>,
}

struct State {
    journey: Journey,
    context: RequestContext,
    /// Sequences that the core still has.
    pending: usize,
    api_done: bool,
}

impl Recorder {
    /// Begins a journey that has no events yet.
    pub fn begin(journey: Journey, context: RequestContext, sink: Arc<dyn Sink<RequestContext>>) -> Arc<Self> {
        let span_id = context.span_id;
        let state = Mutex::new(Some(State { journey, context, pending: 0, api_done: false }));
        let recorder = Arc::new(Self { span_id, state, sink });
        recorder.sink.began(&recorder);
        recorder
    }

    /// The id of `llm_request`, which no other request has.
    pub fn span_id(&self) -> u64 {
        self.span_id
    }

    /// What there is so far, without the sequences that the core still has; `None` when it has been handed over.
    pub fn so_far(&self) -> Option<(Journey, RequestContext)> {
        let guard = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        guard.as_ref().map(|state| (state.journey.clone(), state.context.clone()))
    }

    /// Adds an event of the API layer. `Departed` and `Aborted` end that side; what comes after them is ignored.
    pub fn api(&self, at: Stamp, event: ApiEvent) {
        let terminal = matches!(event, ApiEvent::Departed | ApiEvent::Aborted { .. });
        self.with(|state| {
            if !state.api_done {
                state.journey.api.push(ApiRecord { at, event });
                state.api_done = terminal;
            }
        });
    }

    /// Says that the core will hand over this many sequences.
    pub fn handed_off(&self, sequences: usize) {
        self.with(|state| {
            state.pending = sequences;
            state.journey.cores = vec![Vec::new(); sequences];
        });
    }

    /// Takes the events of a sequence that left the scheduler.
    pub fn core(&self, sequence: usize, records: Vec<CoreRecord>) {
        self.with(|state| {
            if let Some(slot) = state.journey.cores.get_mut(sequence) {
                *slot = records;
                state.pending = state.pending.saturating_sub(1);
            }
        });
    }

    /// Adds to what the export needs to know.
    pub fn context(&self, change: impl FnOnce(&mut RequestContext)) {
        self.with(|state| change(&mut state.context));
    }

    fn with(&self, change: impl FnOnce(&mut State)) {
        let mut guard = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(state) = guard.as_mut() else { return };
        change(state);
        let complete = if state.api_done && state.pending == 0 { guard.take() } else { None };
        drop(guard);
        if let Some(State { journey, context, .. }) = complete {
            self.sink.complete(journey, context);
        }
    }
}
