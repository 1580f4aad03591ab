//! The state machine against the scripted backend, step by step, with time as a number.

mod constraint;
mod failure;
mod paged;
mod prefix;
mod properties;

use std::sync::{Arc, Mutex};

use sojourn_contract::journey::{FinishStatus, Kind, Parent, PreemptReason, ScheduleKind};
use sojourn_journey::record::{ApiEvent, CoreEvent, CoreRecord, Journey, Stamp};

use super::request::{Refusal, Request, SamplingParams, Update};
use super::sequence::RequestId;
use super::state::{Limits, Policy, State};
use super::step::Step;
use crate::backend::scripted::{EOS, Script, Scripted};
use crate::backend::{Backend, Work};
use crate::recorder::{Recorder, RequestContext, Sink};

/// Keeps complete journeys.
#[derive(Default)]
struct Journeys(Mutex<Vec<Journey>>);

impl Sink<RequestContext> for Journeys {
    fn complete(&self, journey: Journey, _: RequestContext) {
        self.0.lock().unwrap().push(journey);
    }
}

struct Simulation {
    state: State,
    backend: Scripted,
    step: u64,
    submitted: u64,
    updates: Vec<(RequestId, Update)>,
    journeys: Arc<Journeys>,
    work: Vec<Work>,
}

fn limits() -> Limits {
    Limits {
        max_num_seqs: 4,
        max_num_batched_tokens: 16,
        max_queue_size: 8,
        policy: Policy::Fcfs,
        queue_timeout: None,
        prefix_caching: false,
    }
}

impl Simulation {
    fn new(limits: Limits, script: Script) -> Self {
        let backend = Scripted::new(script);
        let state = State::new(limits, backend.caps());
        Self { state, backend, step: 0, submitted: 0, updates: Vec::new(), journeys: Arc::default(), work: Vec::new() }
    }

    fn now(&self) -> Stamp {
        Stamp { unix_nanos: self.step * 1_000_000, monotonic: self.step as f64 / 1000.0 }
    }

    fn submit(&mut self, request: Request) -> Result<RequestId, Refusal> {
        let (now, sink) = (self.now(), self.journeys.clone());
        self.submitted += 1;
        let journey = Journey {
            kind: Kind::Request,
            parent: Parent::None,
            request_id: self.submitted.to_string(),
            queue_depth_at_arrival: 0,
            running_at_arrival: 0,
            api: Vec::new(),
            cores: Vec::new(),
        };
        let recorder = Recorder::begin(journey, RequestContext::new(None), sink);
        recorder.api(now, ApiEvent::Arrived);
        let id = self.state.admit(now, Request { recorder: Some(recorder.clone()), ..request })?;
        // The API side is done at once, so that the journey is complete when its last sequence is.
        recorder.api(now, ApiEvent::Departed);
        Ok(id)
    }

    /// One step; false when there was nothing to do.
    fn step(&mut self) -> bool {
        for sequence in self.state.take_released() {
            self.backend.release(sequence);
        }
        let Some(mut step) = self.state.plan(self.now()) else { return false };
        self.work.extend(step.work.clone());
        let answer = step.run(&mut self.backend);
        self.step += 1;
        self.state.complete(self.now(), &mut step, answer);
        self.updates.extend(self.state.take_updates());
        self.check_kv(&step);
        true
    }

    /// The backend has the KV of the very tokens that the scheduler thinks it has.
    fn check_kv(&self, step: &Step) {
        for sequence in step.work.iter().filter_map(|work| self.state.sequences.get_key_value(&work.sequence)) {
            let (id, sequence) = sequence;
            let held = self.backend.kv(*id).get(..sequence.computed);
            assert_eq!(held, Some(&sequence.tokens[..sequence.computed]), "KV of sequence {id}");
        }
    }

    /// At most so many steps.
    fn steps(&mut self, count: usize) {
        for _ in 0..count {
            if !self.step() {
                return;
            }
        }
    }

    fn run(&mut self) {
        for _ in 0..100_000 {
            if !self.step() {
                return;
            }
        }
        panic!("the simulation does not come to an end");
    }

    fn tokens(&self, request: RequestId) -> Vec<u32> {
        let of_request = self.updates.iter().filter(|(id, _)| *id == request);
        of_request.filter_map(|(_, update)| if let Update::Token(token) = update { Some(token.id) } else { None }).collect()
    }

    fn ends(&self, request: RequestId) -> Vec<FinishStatus> {
        let of_request = self.updates.iter().filter(|(id, _)| *id == request);
        of_request.filter_map(|(_, update)| if let Update::Finished(end) = update { Some(end.status) } else { None }).collect()
    }

    fn cores(&self) -> Vec<Vec<CoreRecord>> {
        self.journeys.0.lock().unwrap().iter().flat_map(|journey| journey.cores.clone()).collect()
    }

    /// Steps in which sequences first entered the running set, in order of their arrival.
    fn first_scheduled(&self) -> Vec<u64> {
        let first = |record: &CoreRecord| matches!(record.event, CoreEvent::Scheduled { kind: ScheduleKind::First, .. });
        let mut journeys = self.journeys.0.lock().unwrap().clone();
        journeys.sort_by_key(|journey| journey.request_id.parse::<u64>().unwrap());
        let sequences = journeys.iter().flat_map(|journey| &journey.cores);
        sequences.filter_map(|records| Some(records.iter().find(|record| first(record))?.progress.step)).collect()
    }

    fn preemptions(&self, reason: PreemptReason) -> usize {
        self.cores().iter().flatten().filter(|record| record.event == CoreEvent::Preempted(reason)).count()
    }
}

fn request(prompt: usize, max_tokens: u32) -> Request {
    Request {
        request_id: "r".into(),
        prompts: vec![vec![65; prompt].into()],
        n: 1,
        max_tokens,
        min_tokens: 0,
        sampling: SamplingParams { temperature: 0.0, ..SamplingParams::default() },
        stop_token_ids: vec![EOS],
        stop_matchers: Vec::new(),
        constraint: None,
        priority: 0,
        whole: false,
        recorder: None,
        timer: None,
    }
}

fn script(batch: usize, blocks: u32) -> Script {
    Script { batch, blocks, block: 16, length: 20, ..Script::default() }
}

const TEXT: &str = "The quick brown fox ";

#[test]
fn a_request_is_answered_and_ends_once() {
    let mut simulation = Simulation::new(limits(), script(4, 64));
    let id = simulation.submit(request(40, 100)).unwrap();
    simulation.run();
    let mut expected: Vec<u32> = TEXT.bytes().map(u32::from).collect();
    expected.push(EOS);
    assert_eq!(simulation.tokens(id), expected);
    assert_eq!(simulation.ends(id), [FinishStatus::Stopped]);
    let events: Vec<_> = simulation.cores()[0].iter().map(|record| record.event).collect();
    let scheduled = CoreEvent::Scheduled { kind: ScheduleKind::First, cached_tokens: 0, recomputed_tokens: 0 };
    let finished = CoreEvent::Finished(FinishStatus::Stopped);
    assert_eq!(events, [CoreEvent::Queued, scheduled, CoreEvent::FirstToken, finished]);
}

#[test]
fn a_prompt_is_processed_in_pieces_within_the_budget() {
    let mut simulation = Simulation::new(limits(), script(1, 64));
    simulation.submit(request(40, 1)).unwrap();
    simulation.run();
    let pieces: Vec<usize> = simulation.work.iter().map(|work| work.tokens.len()).collect();
    assert_eq!(pieces, [16, 16, 8]);
}

#[test]
fn max_tokens_is_exact_and_zero_ends_after_the_prompt() {
    let mut simulation = Simulation::new(limits(), script(4, 64));
    let (none, three) = (simulation.submit(request(5, 0)).unwrap(), simulation.submit(request(5, 3)).unwrap());
    simulation.run();
    assert_eq!((simulation.tokens(none).len(), simulation.ends(none)), (0, vec![FinishStatus::Length]));
    assert_eq!((simulation.tokens(three).len(), simulation.ends(three)), (3, vec![FinishStatus::Length]));
    let events: Vec<_> =
        simulation.cores().iter().map(|records| records.iter().any(|r| r.event == CoreEvent::FirstToken)).collect();
    assert_eq!(events, [false, true]);
}

#[test]
fn min_tokens_holds_back_the_end() {
    let mut simulation = Simulation::new(limits(), script(4, 64));
    let id = simulation.submit(Request { min_tokens: 30, ..request(5, 100) }).unwrap();
    simulation.run();
    assert!(simulation.tokens(id).len() > 30, "{:?}", simulation.tokens(id));
}

#[test]
fn a_request_that_can_never_fit_is_refused_before_it_queues() {
    let mut simulation = Simulation::new(limits(), script(4, 4));
    assert_eq!(simulation.submit(request(60, 5)), Err(Refusal::NeverFits { needed: 65, available: 64 }));
    simulation.submit(request(60, 4)).unwrap();
    simulation.run();
}

#[test]
fn a_full_queue_refuses_and_seats_do_not_count_as_queue() {
    let mut simulation = Simulation::new(Limits { max_num_seqs: 1, max_queue_size: 2, ..limits() }, script(4, 64));
    for _ in 0..3 {
        simulation.submit(request(5, 5)).unwrap();
    }
    assert_eq!(simulation.submit(request(5, 5)), Err(Refusal::QueueFull { waiting: 3 }));
    simulation.run();
    simulation.submit(request(5, 5)).unwrap();
}

#[test]
fn a_closed_scheduler_refuses_and_finishes_what_it_has() {
    let mut simulation = Simulation::new(limits(), script(4, 64));
    let id = simulation.submit(request(5, 5)).unwrap();
    simulation.state.close();
    assert_eq!(simulation.submit(request(5, 5)), Err(Refusal::ShuttingDown));
    simulation.run();
    assert_eq!(simulation.ends(id), [FinishStatus::Length]);
}

#[test]
fn a_prompt_does_not_starve_those_that_decode() {
    let mut simulation = Simulation::new(limits(), script(1, 64));
    let decoding = simulation.submit(request(4, 20)).unwrap();
    simulation.step();
    simulation.submit(request(400, 1)).unwrap();
    let before = simulation.work.len();
    while simulation.ends(decoding).is_empty() {
        assert!(simulation.step());
    }
    let longest_wait = simulation.work[before..].split(|work| work.sequence == 0).map(<[Work]>::len).max().unwrap();
    assert_eq!(longest_wait, 1, "one piece of the other's prompt between two turns");
}

#[test]
fn several_sequences_of_a_request_end_each_on_its_own() {
    let mut simulation = Simulation::new(limits(), script(4, 64));
    let id = simulation.submit(Request { n: 3, ..request(5, 4) }).unwrap();
    simulation.run();
    assert_eq!(simulation.ends(id), [FinishStatus::Length; 3]);
    assert_eq!(simulation.cores().len(), 3);
}

#[test]
fn several_prompts_have_neighbouring_sequences_each() {
    let mut simulation = Simulation::new(limits(), script(8, 64));
    let prompts = [3, 5].map(|length| vec![65; length].into()).to_vec();
    let id = simulation.submit(Request { prompts, n: 2, ..request(1, 4) }).unwrap();
    simulation.run();
    assert_eq!(simulation.ends(id), [FinishStatus::Length; 4]);
    let lengths: Vec<u32> = simulation.cores().iter().map(|records| records[0].progress.prefill_total).collect();
    assert_eq!(lengths, [3, 3, 5, 5]);
}

#[test]
fn more_sequences_than_there_are_seats_and_places_are_refused_for_good() {
    let mut simulation = Simulation::new(Limits { max_num_seqs: 1, max_queue_size: 2, ..limits() }, script(4, 64));
    let refused = simulation.submit(Request { n: 4, ..request(5, 5) });
    assert_eq!(refused, Err(Refusal::TooManySequences { sequences: 4, most: 3 }));
    simulation.submit(Request { n: 3, ..request(5, 5) }).unwrap();
}

#[test]
fn too_few_blocks_preempt_the_last_that_came_and_change_no_text() {
    let mut simulation = Simulation::new(limits(), script(4, 6));
    let ids: Vec<_> = (0..3).map(|_| simulation.submit(request(30, 40)).unwrap()).collect();
    simulation.run();
    for id in ids {
        assert_eq!(simulation.tokens(id).len(), 21);
        assert_eq!(simulation.ends(id), [FinishStatus::Stopped]);
    }
    assert!(simulation.preemptions(PreemptReason::KvExhausted) > 0);
}

#[test]
fn what_was_computed_again_is_what_the_resumed_events_say() {
    let mut simulation = Simulation::new(limits(), script(4, 6));
    for _ in 0..3 {
        simulation.submit(request(30, 40)).unwrap();
    }
    simulation.run();
    let fed: usize = simulation.work.iter().map(|work| work.tokens.len()).sum();
    let recomputed: u32 = simulation
        .cores()
        .iter()
        .flatten()
        .map(|record| match record.event {
            CoreEvent::Scheduled { recomputed_tokens, .. } => recomputed_tokens,
            _ => 0,
        })
        .sum();
    let needed = 3 * (30 + 20);
    assert_eq!(fed, needed + recomputed as usize);
}

#[test]
fn an_urgent_request_takes_the_seat_of_a_less_urgent_one() {
    let limits = Limits { max_num_seqs: 1, policy: Policy::Priority, ..limits() };
    let mut simulation = Simulation::new(limits, script(1, 64));
    let low = simulation.submit(Request { priority: 5, ..request(5, 20) }).unwrap();
    simulation.steps(5);
    let high = simulation.submit(Request { priority: -1, ..request(5, 5) }).unwrap();
    simulation.run();
    let order: Vec<_> =
        simulation.updates.iter().filter(|(_, u)| matches!(u, Update::Finished(_))).map(|(id, _)| *id).collect();
    assert_eq!(order, [high, low]);
    assert_eq!(simulation.preemptions(PreemptReason::Priority), 1);
    let resumed = simulation.cores().iter().flatten().find_map(|record| match record.event {
        CoreEvent::Scheduled { kind: ScheduleKind::Resume, recomputed_tokens, .. } => Some(recomputed_tokens),
        _ => None,
    });
    assert_eq!(resumed, Some(0), "nobody needed its blocks meanwhile");
}

#[test]
fn a_failed_step_ends_its_own_sequences_alone() {
    let mut simulation = Simulation::new(limits(), script(1, 64));
    let prompt: Vec<u32> = b"please [fail]".iter().map(|byte| u32::from(*byte)).collect();
    let failing = simulation.submit(Request { prompts: vec![prompt.into()], ..request(1, 5) }).unwrap();
    let fine = simulation.submit(request(5, 5)).unwrap();
    simulation.run();
    assert_eq!(simulation.ends(failing), [FinishStatus::Error]);
    assert_eq!(simulation.ends(fine), [FinishStatus::Length]);
}

#[test]
fn cancelling_frees_what_was_held_whatever_the_stage() {
    for steps in 0..8 {
        let mut simulation = Simulation::new(Limits { max_num_seqs: 2, ..limits() }, script(1, 8));
        let ids: Vec<_> = (0..4).map(|_| simulation.submit(request(20, 20)).unwrap()).collect();
        simulation.steps(steps);
        let in_flight = simulation.state.plan(simulation.now());
        ids.iter().for_each(|id| simulation.state.cancel(simulation.now(), *id));
        if let Some(mut step) = in_flight {
            let answer = step.run(&mut simulation.backend);
            simulation.state.complete(simulation.now(), &mut step, answer);
        }
        assert!(simulation.state.is_idle());
        assert_eq!(simulation.state.kv_usage().1, 0);
        assert_eq!(simulation.cores().len(), 4, "each journey is complete");
    }
}
