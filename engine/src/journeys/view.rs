//! Collects what somebody wants to look at, and bothers the scheduler for it no more than a few times a second.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use sojourn_contract::journey::Detail;
use sojourn_journey::record::Stamp;
use sojourn_journey::spans::describe;
use sojourn_journey::trace::{Attributes, Span, Trace};

use super::registry::{Entry, Registry};
use crate::clock::Clock;
use crate::scheduler::sequence::SoFar;
use crate::scheduler::stall::Stall;
use crate::served::ServedSlot;

/// How old what the scheduler said may be: its mutex is held while the events of live sequences are copied.
const FRESH: Duration = Duration::from_millis(250);

/// Looks at journeys.
pub struct View {
    registry: Arc<Registry>,
    served: ServedSlot,
    clock: Clock,
    /// Attributes of what emits the spans.
    resource: Attributes,
    core: Mutex<Option<(Instant, Arc<[SoFar]>)>>,
}

/// What there is at one moment.
#[derive(Debug, Clone)]
pub struct Collected {
    /// The moment.
    pub now: Stamp,
    /// Those in flight, then those that ended, each the newest first.
    pub entries: Vec<Arc<Entry>>,
}

impl View {
    /// Looks at a registry and at the scheduler of what is served.
    pub fn new(registry: Arc<Registry>, served: ServedSlot, clock: Clock, resource: Attributes) -> Self {
        Self { registry, served, clock, resource, core: Mutex::new(None) }
    }

    /// How many journeys are kept after their end.
    pub fn history(&self) -> usize {
        self.registry.history()
    }

    /// Everything that is known now.
    pub fn collect(&self) -> Collected {
        // The core first: a sequence that ends meanwhile is then found with the recorder.
        let core = self.core();
        let now = self.clock.now();
        let mut entries = self.registry.in_flight(now, &core);
        entries.extend(self.registry.ended());
        Collected { now, entries }
    }

    /// The step that does not come back, if there is one.
    pub fn stall(&self) -> Option<Stall> {
        self.served.get().and_then(|served| served.scheduler.stall())
    }

    /// The journey of a request id, a trace id or the span id of `llm_request`; the newest of several.
    pub fn find(&self, id: &str) -> Option<Arc<Entry>> {
        let is_it = |entry: &Arc<Entry>| {
            let context = &entry.context;
            entry.journey.request_id == id || context.trace_id_text() == id || format!("{:016x}", context.span_id) == id
        };
        self.collect().entries.into_iter().find(is_it)
    }

    /// The spans of a journey, as they are or would be exported; of one in flight as far as it is.
    pub fn trace(&self, entry: &Entry) -> Trace {
        let mut id = entry.context.span_id;
        let next_id = || {
            id = id.wrapping_add(1);
            id
        };
        let frame = entry.context.clone().into_frame(Detail::Phases);
        let with_resource = |span: Span| Span { resource: self.resource.clone(), ..span };
        Trace { spans: describe(&entry.journey, &frame, next_id).into_iter().map(with_resource).collect() }
    }

    fn core(&self) -> Arc<[SoFar]> {
        let mut known = self.core.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, core)) = known.as_ref().filter(|(at, _)| at.elapsed() < FRESH) {
            return core.clone();
        }
        let core = self.served.get().map(|served| served.scheduler.journeys_so_far()).unwrap_or_default();
        let core: Arc<[SoFar]> = core.into();
        *known = Some((Instant::now(), core.clone()));
        core
    }
}
