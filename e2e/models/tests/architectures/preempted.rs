//! The real scheduler over the real backend, with too few KV blocks: what was computed again is what the journeys say, and
//! nothing that was said before a loss of KV is changed by it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};

use sojourn_contract::journey::{Kind, Parent};
use sojourn_engine::backend::mistralrs::MistralRs;
use sojourn_engine::backend::{Adoption, Backend, Caps, Logits, SequenceId, StepError, Work};
use sojourn_engine::clock::Clock;
use sojourn_engine::recorder::{Recorder, RequestContext, Sink};
use sojourn_engine::scheduler::request::{Request, Update};
use sojourn_journey::record::{ApiEvent, CoreEvent, CoreRecord, Journey};
use sojourn_models::tiny::Architecture;

use crate::models::{COUNT, model, prompt};
use crate::scheduled::{SOON, request, start};
use crate::stepped::{PLENTY, Sequence, open};

const REQUESTS: usize = 24;
/// Each prompt fits one block of 512 tokens, and its completion goes on in a second one.
const PROMPT: usize = 496;
const BLOCKS: u32 = 4;

/// Counts the tokens that are really fed.
struct Counting {
    backend: MistralRs,
    fed: Arc<AtomicUsize>,
}

impl Backend for Counting {
    fn caps(&self) -> Caps {
        self.backend.caps()
    }

    fn step(&mut self, work: &[Work]) -> Result<Vec<Logits>, StepError> {
        self.fed.fetch_add(work.iter().map(|work| work.tokens.len()).sum(), Ordering::Relaxed);
        self.backend.step(work)
    }

    fn adopt(&mut self, adoption: &Adoption) -> Result<(), StepError> {
        self.backend.adopt(adoption)
    }

    fn recover(&mut self) -> Result<(), StepError> {
        self.backend.recover()
    }

    fn release(&mut self, sequence: SequenceId) {
        self.backend.release(sequence);
    }
}

/// Keeps complete journeys, by request id.
struct Journeys(Mutex<mpsc::Sender<Journey>>);

impl Sink<RequestContext> for Journeys {
    fn complete(&self, journey: Journey, _: RequestContext) {
        drop(self.0.lock().unwrap().send(journey));
    }
}

fn recorded(index: usize, clock: Clock, sink: &Arc<Journeys>) -> (Request, Arc<Recorder>) {
    let journey = Journey {
        kind: Kind::Request,
        parent: Parent::None,
        request_id: index.to_string(),
        queue_depth_at_arrival: 0,
        running_at_arrival: 0,
        api: Vec::new(),
        cores: Vec::new(),
    };
    let recorder = Recorder::begin(journey, RequestContext::new(None), sink.clone());
    recorder.api(clock.now(), ApiEvent::Arrived);
    let prompt = prompt(index, PROMPT);
    let request = Request { request_id: index.to_string().into(), recorder: Some(recorder.clone()), ..request(&prompt) };
    (request, recorder)
}

/// Tokens that were generated before any KV was lost.
fn safe(records: &[CoreRecord]) -> usize {
    let lost = records.iter().position(|record| matches!(record.event, CoreEvent::Scheduled { recomputed_tokens: 1.., .. }));
    lost.map_or(COUNT, |at| records[at].progress.decode_done as usize)
}

#[test]
fn what_is_taken_is_computed_again_and_told() {
    let path = model("preempted", Architecture::Llama);
    let fed = Arc::<AtomicUsize>::default();
    let backend = Box::new(Counting { backend: open(&path, BLOCKS), fed: fed.clone() });
    let clock = Clock::start();
    let scheduler = start(backend, clock, 128, REQUESTS, false);
    let (sender, journeys) = mpsc::channel();
    let sink = Arc::new(Journeys(Mutex::new(sender)));
    let mut outputs: Vec<_> = (0..REQUESTS)
        .map(|index| {
            let (request, recorder) = recorded(index, clock, &sink);
            let output = scheduler.submit(request).unwrap();
            recorder.api(clock.now(), ApiEvent::Departed);
            output
        })
        .collect();
    let journeys: HashMap<String, Vec<CoreRecord>> = (0..REQUESTS)
        .map(|_| journeys.recv_timeout(SOON).expect("every request ends"))
        .map(|mut journey| (journey.request_id, journey.cores.remove(0)))
        .collect();

    let records = || journeys.values().flatten();
    let preempted = records().filter(|record| matches!(record.event, CoreEvent::Preempted(_))).count();
    assert!(preempted >= 10, "only {preempted} preemptions");
    let recomputed: u32 = records()
        .map(|record| match record.event {
            CoreEvent::Scheduled { recomputed_tokens, .. } => recomputed_tokens,
            _ => 0,
        })
        .sum();
    assert!(recomputed > 0, "no KV was ever taken");
    let needed = REQUESTS * (PROMPT + COUNT - 1);
    assert_eq!(fed.load(Ordering::Relaxed), needed + recomputed as usize);

    let mut alone = open(&path, PLENTY);
    let mut lossless = 0;
    for (index, output) in outputs.iter_mut().enumerate() {
        let mut serial = Sequence::new(index as SequenceId, &prompt(index, PROMPT));
        serial.run(&mut alone, COUNT);
        alone.release(serial.id);
        let ids: Vec<u32> = std::iter::from_fn(|| output.try_next())
            .filter_map(|update| if let Update::Token(token) = update { Some(token.id) } else { None })
            .collect();
        assert_eq!(ids.len(), COUNT);
        let safe = safe(&journeys[&index.to_string()]);
        lossless += usize::from(safe == COUNT);
        assert_eq!(ids[..safe], serial.generated()[..safe], "request {index}, up to token {safe}");
    }
    assert!(lossless > 0, "some kept their KV throughout");
    scheduler.stop();
}
