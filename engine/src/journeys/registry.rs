//! Keeps the journeys that are in flight and the last ones that ended, and passes them on to the exporter.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use sojourn_journey::record::{Journey, Progress, Stamp};

use crate::recorder::{Recorder, RequestContext, Sink};
use crate::scheduler::sequence::SoFar;

/// A journey to look at.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// Its events.
    pub journey: Journey,
    /// Its trace, and what else is known of the request.
    pub context: RequestContext,
    /// When it was looked at, while it is in flight; `None` when it has ended.
    pub in_flight: Option<Stamp>,
    /// How far the sequences are that the core has right now, in their order.
    pub progress: Vec<Progress>,
}

/// The journeys; a [`Sink`] in front of the exporter.
pub struct Registry {
    next: Arc<dyn Sink<RequestContext>>,
    history: usize,
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    /// By the id of `llm_request`.
    in_flight: HashMap<u64, Weak<Recorder>>,
    /// The newest last.
    ended: VecDeque<Arc<Entry>>,
}

impl Registry {
    /// Keeps this many journeys after their end.
    pub fn new(history: usize, next: Arc<dyn Sink<RequestContext>>) -> Self {
        Self { next, history, kept: Mutex::default() }
    }

    /// How many journeys are kept after their end.
    pub fn history(&self) -> usize {
        self.history
    }

    /// Those that ended, the newest first.
    pub fn ended(&self) -> Vec<Arc<Entry>> {
        self.kept().ended.iter().rev().cloned().collect()
    }

    /// Those in flight, the newest first, with what the core says of its sequences.
    pub fn in_flight(&self, now: Stamp, core: &[SoFar]) -> Vec<Arc<Entry>> {
        let recorders: Vec<Arc<Recorder>> = self.kept().in_flight.values().filter_map(Weak::upgrade).collect();
        let mut entries: Vec<Arc<Entry>> = recorders.iter().filter_map(|recorder| so_far(recorder, now, core)).collect();
        let arrived = |entry: &Arc<Entry>| entry.journey.arrived().map_or(0, |at| at.unix_nanos);
        entries.sort_by_key(|entry| std::cmp::Reverse(arrived(entry)));
        entries
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn so_far(recorder: &Recorder, now: Stamp, core: &[SoFar]) -> Option<Arc<Entry>> {
    let (mut journey, context) = recorder.so_far()?;
    let mut progress = Vec::new();
    let mut sequences: Vec<&SoFar> = core.iter().filter(|sequence| sequence.span_id == recorder.span_id()).collect();
    sequences.sort_by_key(|sequence| sequence.index);
    for sequence in sequences {
        // A sequence that has handed its events over since then has more of them.
        if let Some(records) = journey.cores.get_mut(sequence.index).filter(|records| records.is_empty()) {
            records.clone_from(&sequence.records);
            progress.push(sequence.progress);
        }
    }
    Some(Arc::new(Entry { journey, context, in_flight: Some(now), progress }))
}

impl Sink<RequestContext> for Registry {
    fn complete(&self, journey: Journey, context: RequestContext) {
        let entry = Entry { journey: journey.clone(), context: context.clone(), in_flight: None, progress: Vec::new() };
        let mut kept = self.kept();
        kept.in_flight.remove(&context.span_id);
        let oldest = if kept.ended.len() >= self.history { kept.ended.pop_front() } else { None };
        if self.history > 0 {
            kept.ended.push_back(Arc::new(entry));
        }
        drop(kept);
        drop(oldest);
        self.next.complete(journey, context);
    }

    fn began(&self, recorder: &Arc<Recorder>) {
        self.kept().in_flight.insert(recorder.span_id(), Arc::downgrade(recorder));
        self.next.began(recorder);
    }
}

#[cfg(test)]
mod tests {
    use sojourn_contract::journey::{Kind, Parent, Phase};
    use sojourn_journey::record::{ApiEvent, CoreEvent, CoreRecord};

    use super::*;

    struct Forget;

    impl Sink<RequestContext> for Forget {
        fn complete(&self, _: Journey, _: RequestContext) {}
    }

    fn at(seconds: u32) -> Stamp {
        Stamp { unix_nanos: u64::from(seconds) * 1_000_000_000, monotonic: seconds.into() }
    }

    fn begin(registry: &Arc<Registry>, id: &str, seconds: u32) -> Arc<Recorder> {
        let journey = Journey {
            kind: Kind::Request,
            parent: Parent::None,
            request_id: id.to_owned(),
            queue_depth_at_arrival: 0,
            running_at_arrival: 0,
            api: Vec::new(),
            cores: Vec::new(),
        };
        let recorder = Recorder::begin(journey, RequestContext::new(None), registry.clone());
        recorder.api(at(seconds), ApiEvent::Arrived);
        recorder
    }

    fn ids(entries: &[Arc<Entry>]) -> Vec<&str> {
        entries.iter().map(|entry| entry.journey.request_id.as_str()).collect()
    }

    #[test]
    fn a_journey_is_in_flight_until_it_ends_and_then_kept_until_newer_ones_push_it_out() {
        let registry = Arc::new(Registry::new(2, Arc::new(Forget)));
        let all: Vec<_> = ["a", "b", "c"].iter().zip(1..).map(|(id, second)| begin(&registry, id, second)).collect();
        assert_eq!(ids(&registry.in_flight(at(4), &[])), ["c", "b", "a"]);
        assert!(registry.ended().is_empty());
        all.iter().for_each(|recorder| recorder.api(at(5), ApiEvent::Departed));
        assert!(registry.in_flight(at(6), &[]).is_empty());
        assert_eq!(ids(&registry.ended()), ["c", "b"]);
    }

    #[test]
    fn nothing_is_kept_of_a_history_of_zero() {
        let registry = Arc::new(Registry::new(0, Arc::new(Forget)));
        begin(&registry, "a", 1).api(at(2), ApiEvent::Departed);
        assert!(registry.ended().is_empty());
    }

    #[test]
    fn a_recorder_that_is_gone_is_not_in_flight() {
        let registry = Arc::new(Registry::new(2, Arc::new(Forget)));
        drop(begin(&registry, "a", 1));
        assert!(registry.in_flight(at(2), &[]).is_empty());
    }

    #[test]
    fn what_the_core_says_fills_the_sequences_that_have_not_handed_their_events_over() {
        let registry = Arc::new(Registry::new(2, Arc::new(Forget)));
        let recorder = begin(&registry, "a", 1);
        recorder.handed_off(2);
        let progress = Progress {
            phase: Phase::Waiting,
            prefill_done: 0,
            prefill_total: 7,
            decode_done: 0,
            decode_max: 9,
            step: 0,
            num_preemptions: 0,
        };
        let queued = |second| CoreRecord { at: at(second), event: CoreEvent::Queued, progress };
        recorder.core(0, vec![queued(2)]);
        let so_far = |index, second| SoFar { span_id: recorder.span_id(), index, records: vec![queued(second)], progress };
        let others = SoFar { span_id: recorder.span_id().wrapping_add(1), ..so_far(1, 9) };
        let entries = registry.in_flight(at(4), &[others, so_far(0, 3), so_far(1, 3)]);
        assert_eq!(entries[0].journey.cores, [vec![queued(2)], vec![queued(3)]]);
        assert_eq!(entries[0].progress, [progress]);
    }
}
